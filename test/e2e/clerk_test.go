// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"fmt"
	"net/http/httptest"
	"strings"
	"time"

	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	apitypes "k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	clerkv1alpha1 "github.com/clerk-operator/clerk-operator/api/v1alpha1"
	"github.com/clerk-operator/clerk-operator/test/clerkfake"
	"github.com/clerk-operator/clerk-operator/test/installation"
	"github.com/clerk-operator/clerk-operator/test/payload"
)

// backed is a world whose instance has a Backend API, which a stand-in for Clerk serves.
type backed struct {
	*world
	clerk    *clerkfake.Clerk
	instance *clerkv1alpha1.ClerkInstance
	// secret is the Secret of the secret key.
	secret *corev1.Secret
}

// backedBy gives a world an instance of its own, with Clerk behind it. The key is a production instance's, whose budget
// is larger. fill is what is in Clerk before the operator learns of it.
func (w *world) backedBy(fill func(*clerkfake.Clerk), change ...func(*clerkv1alpha1.ClerkInstance)) *backed {
	w.t.Helper()
	b, backend := w.clerkFor(fill)
	b.instance = w.ownInstance(append([]func(*clerkv1alpha1.ClerkInstance){backend}, change...)...)
	return b
}

// clerkFor is a Clerk for an instance that does not read it yet, and what makes one read it.
func (w *world) clerkFor(fill func(*clerkfake.Clerk)) (b *backed, backend func(*clerkv1alpha1.ClerkInstance)) {
	w.t.Helper()
	b = &backed{world: w, clerk: clerkfake.New(clerkfake.Config{
		InstanceID: payload.NewID("ins"), SecretKey: "sk_live_" + newName(), EnvironmentType: "production",
	})}
	if fill != nil {
		b.clerk.Quietly(func() { fill(b.clerk) })
	}
	server := httptest.NewServer(b.clerk)
	w.t.Cleanup(server.Close)
	b.secret = &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: installation.Namespace, Name: newName()},
		StringData: map[string]string{"secret-key": b.clerk.SecretKey()},
	}
	w.create(b.secret)
	return b, func(i *clerkv1alpha1.ClerkInstance) {
		i.Spec.BackendAPI.URL = server.URL
		i.Spec.BackendAPI.SecretKeyRef = clerkv1alpha1.SecretKeyReference{Name: b.secret.Name, Key: "secret-key"}
	}
}

// synced waits until the first full sync has succeeded.
func (b *backed) synced() *clerkv1alpha1.ClerkInstance {
	b.t.Helper()
	b.Eventually(stored(b.world, b.instance)).Should(SatisfyAll(
		haveCondition(clerkv1alpha1.ConditionSynced, metav1.ConditionTrue, clerkv1alpha1.ReasonSynced),
		HaveField("Status.Sync.LastFullTime", Not(BeNil())),
	))
	return get(b.world, b.instance)
}

// request asks for a full sync, and returns the request. What is mirrored is certainly older then: the cluster tells ages in
// whole seconds, and a sync takes nothing away that may be younger than it.
func (b *backed) request() string {
	b.t.Helper()
	b.Eventually(time.Now, timeout, polling/10).Should(BeTemporally(">=", time.Now().Truncate(time.Second).Add(time.Second)))
	request := fmt.Sprint(time.Now().UnixNano())
	b.annotate(b.instance, clerkv1alpha1.AnnotationResyncRequestedAt, request)
	return request
}

// resync asks for a full sync, waits until it has succeeded, and returns the instance.
func (b *backed) resync() *clerkv1alpha1.ClerkInstance {
	b.t.Helper()
	request := b.request()
	b.Eventually(stored(b.world, b.instance)).Should(HaveField("Status.Sync.LastRequest", request))
	return get(b.world, b.instance)
}

func (w *world) annotate(o client.Object, key, value string) {
	w.t.Helper()
	patch := fmt.Sprintf(`{"metadata":{"annotations":{%q:%q}}}`, key, value)
	w.Expect(suite.client.Patch(w.t.Context(), o.DeepCopyObject().(client.Object),
		client.RawPatch("application/merge-patch+json", []byte(patch)))).To(Succeed())
}

// maxDeletions says how much one sync may delete: a number, or a percentage.
func maxDeletions(limit string) func(*clerkv1alpha1.ClerkInstance) {
	return func(i *clerkv1alpha1.ClerkInstance) { i.Spec.BackendAPI.Sync.MaxDeletions = new(intstr.Parse(limit)) }
}

// every says how often what is new is read.
func every(interval time.Duration) func(*clerkv1alpha1.ClerkInstance) {
	return func(i *clerkv1alpha1.ClerkInstance) {
		i.Spec.BackendAPI.Sync.Incremental = &metav1.Duration{Duration: interval}
	}
}

// team is an organization in Clerk and its members.
type team struct {
	clerkfake.Organization
	users       []clerkfake.User
	memberships []clerkfake.Membership
	// namespace is the tenant's, as soon as it is one.
	namespace string
}

// team founds an organization in Clerk, with a member for each role.
func (w *world) team(c *clerkfake.Clerk, roles ...string) *team {
	w.t.Helper()
	founded := &team{Organization: c.CreateOrganization(clerkfake.Organization{Name: "Acme Inc."})}
	for _, role := range roles {
		w.hire(c, founded, role)
	}
	return founded
}

// hire makes somebody new a member of a team.
func (w *world) hire(c *clerkfake.Clerk, t *team, role string) (clerkfake.User, clerkfake.Membership) {
	w.t.Helper()
	user := c.CreateUser(clerkfake.User{Email: "someone@example.com", FirstName: "Some", LastName: "One"})
	membership, err := c.AddMember(t.ID, user.ID, role)
	w.Expect(err).NotTo(HaveOccurred())
	t.users, t.memberships = append(t.users, user), append(t.memberships, membership)
	return user, membership
}

// staffed is backedBy with a team in Clerk whose members have their access.
func (w *world) staffed(roles []string, change ...func(*clerkv1alpha1.ClerkInstance)) (*backed, *team) {
	w.t.Helper()
	var founded *team
	b := w.backedBy(func(c *clerkfake.Clerk) { founded = w.team(c, roles...) }, change...)
	b.synced()
	b.provide(founded)
	return b, founded
}

// provide makes teams tenants, and waits until their members have their access.
func (w *world) provide(teams ...*team) {
	w.t.Helper()
	ids := make([]string, 0, len(teams))
	for _, t := range teams {
		ids = append(ids, t.ID)
	}
	w.class(ids)
	for _, t := range teams {
		t.namespace = w.provisioned(t.ID)
		w.Eventually(w.access(t)).Should(Equal(t.due()))
	}
}

// due is what a team's members may do in its namespace by their roles, by user.
func (t *team) due() map[string]string {
	levels := map[string]string{}
	for _, m := range t.memberships {
		levels[m.UserID] = map[string]string{"org:admin": admin, "org:member": edit, "org:guest": view}[m.Role]
	}
	return levels
}

// access is what a team's members may do in its namespace, by user.
func (w *world) access(t *team) func() (map[string]string, error) {
	return func() (levels map[string]string, err error) {
		levels = map[string]string{}
		for _, u := range t.users {
			if levels[u.ID], err = w.levelOf(u.ID, t.namespace); err != nil {
				return nil, err
			}
		}
		return levels, nil
	}
}

// mirrored are the UIDs of an instance's mirrored objects by name, without those that are on their way out.
func (b *backed) mirrored() map[string]apitypes.UID {
	b.t.Helper()
	found := map[string]apitypes.UID{}
	for _, kind := range []string{"ClerkUser", "ClerkOrganization", "ClerkOrganizationMembership"} {
		list := &metav1.PartialObjectMetadataList{}
		list.SetGroupVersionKind(clerkv1alpha1.SchemeGroupVersion.WithKind(kind + "List"))
		b.Expect(suite.client.List(b.t.Context(), list,
			client.MatchingLabels{clerkv1alpha1.LabelInstance: b.instance.Name})).To(Succeed())
		for i := range list.Items {
			if list.Items[i].DeletionTimestamp.IsZero() {
				found[list.Items[i].Name] = list.Items[i].UID
			}
		}
	}
	return found
}

// quietly changes Clerk, and no webhook tells of it.
func (b *backed) quietly(change func(*clerkfake.Clerk)) {
	b.clerk.Quietly(func() { change(b.clerk) })
}

// tell delivers the webhooks of what happened in Clerk.
func (b *backed) tell() {
	b.t.Helper()
	_, err := b.clerk.Deliver(b.t.Context(), b.sender, clerkfake.Trouble{})
	b.Expect(err).NotTo(HaveOccurred())
}

// through takes deliveries to another manager than the shared one.
func (b *backed) through(m *installation.Manager) {
	b.sender.URL = m.URL + clerkv1alpha1.WebhookPath + "/" + b.instance.Name
}

// listings are the requests for the pages of the three listings that a sync reads, as path and position.
func (b *backed) listings() []string {
	var found []string
	for _, r := range b.clerk.Requests() {
		switch path := strings.TrimPrefix(r.Path, "/v1/"); path {
		case "organizations", "organization_memberships", "users":
			found = append(found, path+" "+r.Query.Get("offset")+r.Query.Get("starting_after"))
		}
	}
	return found
}

// swapKey puts another secret key into the instance's Secret.
func (b *backed) swapKey(key string) {
	b.t.Helper()
	b.setSecret(b.secret.Name, map[string]string{"secret-key": key})
}

// message is what a condition of the instance tells people.
func (b *backed) message(condition string) string {
	b.t.Helper()
	found := meta.FindStatusCondition(get(b.world, b.instance).Status.Conditions, condition)
	b.Expect(found).NotTo(BeNil(), condition)
	return found.Message
}

// becomes waits until a condition of the instance has a status and a reason.
func (b *backed) becomes(condition string, status metav1.ConditionStatus, reason string) {
	b.t.Helper()
	b.Eventually(stored(b.world, b.instance)).Should(haveCondition(condition, status, reason))
}

// told are the Events of a cluster-scoped object, as type, reason and note.
func (w *world) told(o client.Object) func() ([]string, error) {
	return func() ([]string, error) {
		var list eventsv1.EventList
		err := suite.client.List(w.t.Context(), &list, client.InNamespace(metav1.NamespaceDefault))
		var found []string
		for i := range list.Items {
			if e := &list.Items[i]; e.Regarding.Name == o.GetName() {
				found = append(found, e.Type+" "+e.Reason+": "+e.Note)
			}
		}
		return found, err
	}
}
