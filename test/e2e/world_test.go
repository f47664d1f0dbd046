// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	clerkv1alpha1 "github.com/clerk-operator/clerk-operator/api/v1alpha1"
	"github.com/clerk-operator/clerk-operator/internal/clerk"
	"github.com/clerk-operator/clerk-operator/internal/delivery"
	"github.com/clerk-operator/clerk-operator/test/installation"
	"github.com/clerk-operator/clerk-operator/test/payload"
)

const (
	// timeout bounds every wait for a state; nothing but a namespace's end and a failover takes more than a moment.
	timeout = time.Minute
	polling = 100 * time.Millisecond
	// calm is how long a state that must not change is watched.
	calm = 2 * time.Second

	// leaderElection makes a further manager one that receives, and reconciles only if the shared one does not.
	leaderElection = "--leader-elect"
)

// world is one Clerk application as one test plays it: what happens there, at a time that moves on with every event.
type world struct {
	*WithT
	t      *testing.T
	now    time.Time
	sender delivery.Sender
	// instanceName is the name of the ClerkInstance.
	instanceName string
	// instanceID is what events say of where they are from.
	instanceID string
}

// newWorld returns the application of the ClerkInstance default.
func newWorld(t *testing.T) *world {
	t.Helper()
	g := NewWithT(t)
	g.SetDefaultEventuallyTimeout(timeout)
	g.SetDefaultEventuallyPollingInterval(polling)
	g.SetDefaultConsistentlyDuration(calm)
	g.SetDefaultConsistentlyPollingInterval(polling)
	return &world{
		WithT:  g,
		t:      t,
		now:    time.Now().Add(-time.Hour).Truncate(time.Millisecond),
		sender: delivery.Sender{URL: suite.manager.URL + clerkv1alpha1.WebhookPath, Secret: signingSecret},

		instanceName: clerkv1alpha1.DefaultInstanceName,
	}
}

// tick lets a second pass in Clerk.
func (w *world) tick() time.Time {
	w.now = w.now.Add(time.Second)
	return w.now
}

// event is one that Clerk makes a second after the last one.
func (w *world) event(eventType string, data map[string]any) delivery.Event {
	return delivery.Event{Type: eventType, InstanceID: w.instanceID, Time: w.tick(), Data: data}
}

// message is a delivery of an event; its ID is the same at every attempt.
func (w *world) message(event delivery.Event) delivery.Message {
	w.t.Helper()
	body, err := event.Body()
	w.Expect(err).NotTo(HaveOccurred())
	return delivery.NewMessage(body)
}

// deliver delivers an event, which must be acknowledged at once, and returns the result in the answer.
func (w *world) deliver(event delivery.Event) string {
	w.t.Helper()
	return w.attempt(w.message(event))
}

func (w *world) attempt(m delivery.Message) string {
	w.t.Helper()
	answer, err := w.sender.Post(w.t.Context(), m)
	w.Expect(err).NotTo(HaveOccurred())
	w.Expect(answer.Code).To(Equal(http.StatusOK), answer.Body)
	return resultOf(answer)
}

func resultOf(answer delivery.Answer) string {
	var body struct{ Result string }
	if err := json.Unmarshal([]byte(answer.Body), &body); err != nil {
		return answer.Body
	}
	return body.Result
}

// happen delivers a new event that must be applied.
func (w *world) happen(eventType string, data map[string]any) {
	w.t.Helper()
	w.Expect(w.deliver(w.event(eventType, data))).To(Equal("applied"), eventType)
}

// newUser is somebody who signs up, without anybody being told.
func (w *world) newUser() payload.User {
	return payload.User{
		ID: payload.NewID("user"), Email: "someone@example.com", FirstName: "Some", LastName: "One",
		CreatedAt: w.tick(), UpdatedAt: w.now,
	}
}

// user signs somebody up.
func (w *world) user() payload.User {
	w.t.Helper()
	u := w.newUser()
	w.happen("user.created", u.Data())
	return u
}

// newOrganization is one that somebody creates, without anybody being told.
func (w *world) newOrganization(slug string) payload.Organization {
	return payload.Organization{
		ID: payload.NewID("org"), Name: "Acme Inc.", Slug: slug, CreatedAt: w.tick(), UpdatedAt: w.now,
	}
}

// newMembership is somebody becoming a member, without anybody being told.
func (w *world) newMembership(u payload.User, o payload.Organization, role string) payload.Membership {
	return payload.Membership{
		ID: payload.NewID("orgmem"), Role: role, UserID: u.ID, Organization: o, CreatedAt: w.tick(), UpdatedAt: w.now,
	}
}

// join makes a user a member.
func (w *world) join(u payload.User, o payload.Organization, role string) payload.Membership {
	w.t.Helper()
	m := w.newMembership(u, o, role)
	w.happen("organizationMembership.created", m.Data())
	return m
}

// tenant creates an organization that a class of its own selects, and waits for it to be ready.
func (w *world) tenant(slug string, change ...func(*clerkv1alpha1.ClerkTenantClass)) (payload.Organization, string) {
	w.t.Helper()
	o := w.newOrganization(slug)
	w.class([]string{o.ID}, change...)
	w.happen("organization.created", o.Data())
	return o, w.provisioned(o.ID)
}

// class makes a class for some organizations: it knows three roles, and keeps nothing of what is deleted.
func (w *world) class(ids []string, change ...func(*clerkv1alpha1.ClerkTenantClass)) *clerkv1alpha1.ClerkTenantClass {
	w.t.Helper()
	class := &clerkv1alpha1.ClerkTenantClass{ObjectMeta: metav1.ObjectMeta{Name: newName()}}
	class.Spec.Selector = &clerkv1alpha1.ClerkTenantClassSelector{OrganizationIDs: ids}
	class.Spec.Namespace.Prefix = "e2e-"
	class.Spec.Deletion.GracePeriod = &metav1.Duration{}
	class.Spec.Access = []clerkv1alpha1.ClerkTenantClassAccess{
		{Role: "org:admin", ClusterRoles: []string{"admin"}},
		{Role: "org:member", ClusterRoles: []string{"edit"}},
		{Role: "org:guest", ClusterRoles: []string{"view"}},
	}
	for _, f := range change {
		f(class)
	}
	w.create(class)
	return class
}

// ownInstance gives the world a ClerkInstance of its own, with a signing secret of its own, and waits until the shared
// manager receives for it.
func (w *world) ownInstance(change ...func(*clerkv1alpha1.ClerkInstance)) *clerkv1alpha1.ClerkInstance {
	w.t.Helper()
	name, secret := newName(), newSigningSecret()
	w.create(&corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: installation.Namespace, Name: name},
		StringData: map[string]string{"signing-secret": secret},
	})
	instance := &clerkv1alpha1.ClerkInstance{ObjectMeta: metav1.ObjectMeta{Name: name}}
	instance.Spec.Webhook.SigningSecrets = []clerkv1alpha1.SecretKeyReference{{Name: name, Key: "signing-secret"}}
	for _, f := range change {
		f(instance)
	}
	w.create(instance)
	w.instanceName, w.instanceID = name, instance.Spec.InstanceID
	w.sender = delivery.Sender{URL: suite.manager.URL + clerkv1alpha1.WebhookPath + "/" + name, Secret: secret}
	w.Eventually(stored(w, instance)).Should(beReady(metav1.ConditionTrue, clerkv1alpha1.ReasonReceiving))
	return instance
}

// create creates an object that is deleted again at the end of the test.
func (w *world) create(o client.Object) {
	w.t.Helper()
	w.Expect(suite.client.Create(w.t.Context(), o)).To(Succeed())
	w.t.Cleanup(func() {
		// The test may have deleted it itself.
		_ = suite.client.Delete(contextAfter(w.t), o)
	})
}

// manager runs a further manager until the end of the test, if the test does not end it.
func (w *world) manager(o installation.ManagerOptions) *installation.Manager {
	w.t.Helper()
	m, err := suite.in.StartManager(w.t.Context(), o)
	w.Expect(err).NotTo(HaveOccurred())
	w.t.Cleanup(func() { w.Expect(m.Stop()).To(Succeed()) })
	return m
}

// withoutManager stops the shared manager until the test restarts it, or ends.
func (w *world) withoutManager() (restart func()) {
	w.t.Helper()
	w.Expect(stopManager()).To(Succeed())
	var once sync.Once
	restart = func() {
		once.Do(func() { w.Expect(startManager(contextAfter(w.t))).To(Succeed()) })
	}
	w.t.Cleanup(restart)
	return restart
}

// kubectl runs kubectl, which must succeed, in the root of the repository.
func (w *world) kubectl(args ...string) string {
	w.t.Helper()
	out, err := w.tryKubectl("", args...)
	w.Expect(err).NotTo(HaveOccurred(), "kubectl %s\n%s", strings.Join(args, " "), out)
	return out
}

func (w *world) tryKubectl(stdin string, args ...string) (string, error) {
	cmd := suite.cp.Kubectl(w.t.Context(), args...)
	cmd.Dir, cmd.Stdin = suite.root, strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// contextAfter is a test's context that outlives the test, for its cleanup.
func contextAfter(t *testing.T) context.Context {
	t.Helper()
	return context.WithoutCancel(t.Context())
}

// newName is a name that no other test uses.
func newName() string { return "e2e-" + strings.ToLower(rand.Text()[:10]) }

func newSigningSecret() string {
	return "whsec_" + base64.StdEncoding.EncodeToString([]byte(rand.Text()))
}

func (w *world) userObject(id string) *clerkv1alpha1.ClerkUser {
	return &clerkv1alpha1.ClerkUser{ObjectMeta: metav1.ObjectMeta{Name: clerk.ObjectName(w.instanceName, id)}}
}

func (w *world) organizationObject(id string) *clerkv1alpha1.ClerkOrganization {
	return &clerkv1alpha1.ClerkOrganization{ObjectMeta: metav1.ObjectMeta{Name: clerk.ObjectName(w.instanceName, id)}}
}

func (w *world) membershipObject(id string) *clerkv1alpha1.ClerkOrganizationMembership {
	return &clerkv1alpha1.ClerkOrganizationMembership{ObjectMeta: metav1.ObjectMeta{Name: clerk.ObjectName(w.instanceName, id)}}
}

func namespaceObject(name string) *corev1.Namespace {
	return &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}
}
