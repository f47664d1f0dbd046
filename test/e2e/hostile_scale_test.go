// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	"sigs.k8s.io/controller-runtime/pkg/client"

	clerkv1alpha1 "github.com/clerk-operator/clerk-operator/api/v1alpha1"
	"github.com/clerk-operator/clerk-operator/internal/delivery"
	"github.com/clerk-operator/clerk-operator/internal/tenant"
	"github.com/clerk-operator/clerk-operator/test/installation"
	"github.com/clerk-operator/clerk-operator/test/payload"
)

const (
	// crowdSize is how many organizations one hostile user creates.
	crowdSize = 100
	// senders deliver a flood, each over a connection of its own.
	senders = 32
)

// flood is many deliveries at once. Each is repeated until it is acknowledged, as Svix repeats it.
type flood struct {
	acknowledged atomic.Int64
	// done receives the end of the last delivery: nil when all are acknowledged.
	done chan error
}

func (w *world) flood(messages []delivery.Message) *flood {
	f := &flood{done: make(chan error, 1)}
	queue := make(chan delivery.Message, len(messages))
	for _, m := range messages {
		queue <- m
	}
	close(queue)
	sender := w.sender
	transport := &http.Transport{MaxIdleConnsPerHost: senders}
	sender.Client = &http.Client{Transport: transport, Timeout: 15 * time.Second}
	ctx, cancel := context.WithTimeout(w.t.Context(), 5*timeout)
	w.t.Cleanup(func() { cancel(); transport.CloseIdleConnections() })
	errs := make([]error, senders)
	var workers sync.WaitGroup
	for i := range errs {
		workers.Go(func() {
			for m := range queue {
				if _, errs[i] = sender.Deliver(ctx, m, 50*time.Millisecond); errs[i] != nil {
					return
				}
				f.acknowledged.Add(1)
			}
		})
	}
	go func() {
		workers.Wait()
		f.done <- errors.Join(errs...)
	}()
	return f
}

// isUnderWay says whether a part of a flood is acknowledged.
func (f *flood) isUnderWay(part int) func() bool {
	return func() bool { return f.acknowledged.Load() >= int64(part) }
}

// organizationsBy are organizations that a user creates one after the other, without anybody being told.
func (w *world) organizationsBy(creator string, number int) (organizations []payload.Organization, ids []string) {
	for i := range number {
		o := w.newOrganization(fmt.Sprint("crowd-", i))
		o.CreatedBy = creator
		organizations, ids = append(organizations, o), append(ids, o.ID)
	}
	return organizations, ids
}

// creations are the deliveries that tell of organizations.
func (w *world) creations(organizations []payload.Organization) (messages []delivery.Message) {
	w.t.Helper()
	for _, o := range organizations {
		messages = append(messages, w.message(w.event("organization.created", o.Data())))
	}
	return messages
}

// standing is which of some organizations, in their order, are tenants, and what those are told that wait for a place.
type standing struct {
	Tenants, Waiting []string
	Told             sets.Set[string]
}

func (w *world) standing(ids []string) func() (standing, error) {
	return func() (standing, error) {
		s := standing{Told: sets.New[string]()}
		var list clerkv1alpha1.ClerkOrganizationList
		if err := suite.client.List(w.t.Context(), &list); err != nil {
			return s, err
		}
		byID := make(map[string]*clerkv1alpha1.ClerkOrganization, len(list.Items))
		for i := range list.Items {
			byID[list.Items[i].Spec.OrganizationID] = &list.Items[i]
		}
		for _, id := range ids {
			o := byID[id]
			if o == nil || !o.DeletionTimestamp.IsZero() {
				continue
			}
			ready := meta.FindStatusCondition(o.Status.Conditions, clerkv1alpha1.ConditionReady)
			switch {
			case ready == nil:
			case ready.Status == metav1.ConditionTrue && ready.Reason == clerkv1alpha1.ReasonProvisioned:
				s.Tenants = append(s.Tenants, id)
			case ready.Reason == clerkv1alpha1.ReasonPending && o.Status.Namespace.Name == "":
				s.Waiting = append(s.Waiting, id)
				s.Told.Insert(ready.Message)
			}
		}
		return s, nil
	}
}

// namespacesOf are the organizations of which there is a namespace.
func (w *world) namespacesOf(ids []string) func() ([]string, error) {
	return func() (owners []string, err error) {
		var list corev1.NamespaceList
		err = suite.client.List(w.t.Context(), &list, client.HasLabels{clerkv1alpha1.LabelOrganizationID})
		for i := range list.Items {
			id := list.Items[i].Labels[clerkv1alpha1.LabelOrganizationID]
			if slices.Contains(ids, id) && list.Items[i].DeletionTimestamp.IsZero() {
				owners = append(owners, id)
			}
		}
		return owners, err
	}
}

func TestHostileCreator_cannotFillAClass(t *testing.T) {
	w := newWorld(t)
	mallory, ada := w.user(), w.user()
	crowd, ids := w.organizationsBy(mallory.ID, crowdSize)
	late, lateIDs := w.organizationsBy(ada.ID, 1)
	all := slices.Concat(ids, lateIDs)
	class := w.class(all, func(class *clerkv1alpha1.ClerkTenantClass) {
		class.Spec.MaxTenants, class.Spec.MaxTenantsPerCreator = new(int32(10)), 3
	})

	f := w.flood(w.creations(crowd))
	w.Eventually(f.isUnderWay(crowdSize / 4)).Should(BeTrue())
	w.happen("organization.created", late[0].Data())
	w.join(ada, late[0], "org:admin")
	joined := time.Now()
	w.Eventually(func() (string, error) {
		o, err := stored(w, w.organizationObject(late[0].ID))()
		if err != nil || o.Status.Namespace.Name == "" {
			return none, err // an empty namespace would ask for all of them
		}
		return w.levelOf(ada.ID, o.Status.Namespace.Name)
	}).Should(Equal(admin), "whoever comes last does not wait for the crowd")
	t.Logf("whoever came last had access in %s", time.Since(joined))
	w.Eventually(f.done).Should(Receive(BeNil()))

	told := fmt.Sprintf("ClerkTenantClass %s has no place for it: it may have 10 tenants, and 3 that %s created; it waits",
		class.Name, mallory.ID)
	settled := And(HaveField("Tenants", HaveLen(3)), HaveField("Waiting", HaveLen(crowdSize-3)),
		HaveField("Told", Equal(sets.New(told))))
	w.Eventually(w.standing(ids)).Should(settled)
	w.Consistently(w.namespacesOf(all)).Should(HaveLen(4), "the number of namespaces is bounded")
	w.Eventually(stored(w, class)).Should(And(HaveField("Status.Tenants", HaveValue(BeEquivalentTo(4))),
		HaveField("Status.Pending", HaveValue(BeEquivalentTo(crowdSize-3)))))

	before, err := w.standing(ids)()
	w.Expect(err).NotTo(HaveOccurred())
	w.happen("organization.deleted", payload.Deleted("organization", before.Tenants[0]))
	after := append(slices.Clone(before.Tenants[1:]), before.Waiting[0])
	w.Eventually(w.standing(ids)).Should(HaveField("Tenants", ConsistOf(after)), "the oldest of those who wait is next")
	w.Consistently(w.namespacesOf(all)).Should(ConsistOf(append(after, late[0].ID)))
}

func TestHostileCreator_waitsBehindThoseWithFewerTenants(t *testing.T) {
	w := newWorld(t)
	mallory, ada, grace := w.user(), w.user(), w.user()
	crowd, ids := w.organizationsBy(mallory.ID, crowdSize)
	adas, adasIDs := w.organizationsBy(ada.ID, 1)
	graces, gracesIDs := w.organizationsBy(grace.ID, 1)
	all := slices.Concat(ids, adasIDs, gracesIDs)
	class := w.class(all, func(class *clerkv1alpha1.ClerkTenantClass) { class.Spec.MaxTenants = new(int32(4)) })
	w.Eventually(w.flood(w.creations(crowd)).done).Should(Receive(BeNil()))
	w.Eventually(w.standing(ids)).Should(And(HaveField("Tenants", HaveLen(4)), HaveField("Waiting", HaveLen(crowdSize-4))))
	w.Eventually(w.flood(w.creations(append(adas, graces...))).done).Should(Receive(BeNil()))
	w.Eventually(w.standing(all)).Should(And(HaveField("Waiting", HaveLen(crowdSize-2)), HaveField("Told",
		Equal(sets.New(fmt.Sprintf("ClerkTenantClass %s has no place for it: it may have 4 tenants; it waits", class.Name))))))

	first, err := w.standing(ids)()
	w.Expect(err).NotTo(HaveOccurred())
	tenants := first.Tenants
	for _, turn := range []struct{ about, next string }{
		{"who has none and waits longest", adasIDs[0]},
		{"who has none", gracesIDs[0]},
		{"the first of whoever alone still waits", first.Waiting[0]},
	} {
		leaves := tenants[0]
		tenants = append(slices.Clone(tenants[1:]), turn.next)
		w.happen("organization.deleted", payload.Deleted("organization", leaves))
		w.Eventually(w.standing(all)).Should(HaveField("Tenants", ConsistOf(tenants)), turn.about)
	}
	w.Consistently(w.namespacesOf(all)).Should(ConsistOf(tenants))
}

// Whoever has a place keeps it even where nothing can be made of it yet.
func TestHostileNamespace_doesNotCostItsOwnerThePlace(t *testing.T) {
	w := newWorld(t)
	organizations, ids := w.organizationsBy(payload.NewID("user"), 2)
	mirrored := &clerkv1alpha1.ClerkOrganization{}
	mirrored.Spec.InstanceName, mirrored.Spec.OrganizationID, mirrored.Spec.Slug = w.instanceName, ids[0], organizations[0].Slug
	w.create(namespaceObject(tenant.NamespaceName("e2e-", mirrored)))
	w.class(ids, func(class *clerkv1alpha1.ClerkTenantClass) { class.Spec.MaxTenants = new(int32(1)) })
	w.happen("organization.created", organizations[0].Data())
	conflicts := beReady(metav1.ConditionFalse, clerkv1alpha1.ReasonNamespaceConflict)
	w.Eventually(stored(w, w.organizationObject(ids[0]))).Should(conflicts)
	w.happen("organization.created", organizations[1].Data())
	w.Eventually(stored(w, w.organizationObject(ids[1]))).Should(beReady(metav1.ConditionFalse, clerkv1alpha1.ReasonPending))

	before := get(w, w.organizationObject(ids[0])).Status.Conditions
	w.annotate(w.organizationObject(ids[0]), "example.com/touched", "yes")
	w.Consistently(stored(w, w.organizationObject(ids[0]))).Should(And(conflicts, HaveField("Status.Conditions", before)))
	w.Expect(w.namespacesOf(ids)()).To(BeEmpty())
}

// Whoever is first in the queue and may have nothing now does not keep the place from the next.
func TestHostileQueue_isNotHeldUpByWhoeverIsSuspended(t *testing.T) {
	w := newWorld(t)
	organizations, ids := w.organizationsBy(payload.NewID("user"), 3)
	for _, o := range organizations {
		w.happen("organization.created", o.Data())
		w.Eventually(stored(w, w.organizationObject(o.ID))).Should(beReady(metav1.ConditionFalse, clerkv1alpha1.ReasonNoTenantClass))
	}
	w.annotate(w.organizationObject(ids[0]), clerkv1alpha1.AnnotationSuspend, "true")
	w.class(ids, func(class *clerkv1alpha1.ClerkTenantClass) { class.Spec.MaxTenants = new(int32(1)) })
	w.Eventually(w.standing(ids)).Should(And(HaveField("Tenants", Equal(ids[1:2])), HaveField("Waiting", Equal(ids[2:]))))
	w.Expect(get(w, w.organizationObject(ids[0]))).To(beReady(metav1.ConditionFalse, clerkv1alpha1.ReasonTenantSuspended))

	w.annotate(w.organizationObject(ids[0]), clerkv1alpha1.AnnotationSuspend, "false")
	w.Eventually(w.standing(ids)).Should(HaveField("Waiting", Equal([]string{ids[0], ids[2]})))
	w.happen("organization.deleted", payload.Deleted("organization", ids[1]))
	w.Eventually(w.standing(ids)).Should(And(HaveField("Tenants", Equal(ids[:1])), HaveField("Waiting", Equal(ids[2:]))))
}

// hostileMetadata is what public metadata can be where somebody means harm, as JSON.
var hostileMetadata = []struct {
	about, metadata string
	// wantStored is whether the cluster holds it; what it does not hold, the operator's log tells.
	wantStored bool
}{
	{"8 kB", `{"filler":"` + strings.Repeat("x", 8<<10) + `"}`, true},
	{"8 kB of keys", `{` + manyKeys(800) + `}`, true},
	{"more than Clerk allows", `{"filler":"` + strings.Repeat("x", 64<<10) + `"}`, false},
	{"200 levels", strings.Repeat(`{"a":`, 200) + "1" + strings.Repeat("}", 200), false},
	{"200 levels of lists", `{"a":` + strings.Repeat("[", 200) + strings.Repeat("]", 200) + "}", false},
	{"a number beyond all", `{"a":1e999}`, false},
	{"no object", `["a"]`, false},
	{"NUL and other controls", `{"a\u0000b":"\u0000\u0001\u001b[31m\r\n\u007f"}`, true},
	{"half a character", `{"a":"\ud800","\udfff":"b"}`, true},
	{"what fools readers", `{"\u202eadmin":"\u2066\u200b\ufeff\u2028"}`, true},
	{"keys that mean something elsewhere", `{"":1,"__proto__":{"plan":"pro"},"apiVersion":"v1","kind":"Secret",".":{"/":null}}`, true},
	{"what JSON has and YAML has not", "{\"a\u007fb\":\"\u0080\u0085\u009f\ufeff\ufffe\uffff\",\"<<\":{\"a\":\"\U0001fffe\"}}", true},
	{"a key longer than YAML's", `{"` + strings.Repeat("k", 1100) + `":"v"}`, false},
	{"a key twice", `{"plan":"free","plan":"pro"}`, true},
}

// manyKeys are the members of an object of many keys.
func manyKeys(number int) string {
	keys := make([]string, 0, number)
	for i := range number {
		keys = append(keys, fmt.Sprintf(`"k%d":%d`, i, i))
	}
	return strings.Join(keys, ",")
}

func TestHostileMetadata_isStoredOrLeftOutWithATrace(t *testing.T) {
	w := newWorld(t)
	bystander, quiet := w.tenant("bystander")
	w.memberOf(bystander, quiet)
	w.provisioned(bystander.ID)
	organizations, ids := w.organizationsBy(payload.NewID("user"), len(hostileMetadata))
	w.class(ids)
	before := w.versions(quiet, w.organizationObject(bystander.ID))
	for i, tc := range hostileMetadata {
		data := organizations[i].Data()
		data["public_metadata"] = json.RawMessage(tc.metadata)
		w.happen("organization.created", data)
	}
	log, err := os.ReadFile(suite.manager.Process.LogPath())
	w.Expect(err).NotTo(HaveOccurred())
	for i, tc := range hostileMetadata {
		name := w.provisioned(ids[i])
		w.memberOf(organizations[i], name)
		inSecret := text(w.secretOf(name))["CLERK_ORGANIZATION_PUBLIC_METADATA"]
		w.Expect(inSecret).NotTo(MatchRegexp(`[\x00-\x1f]`), tc.about)
		stored := get(w, w.organizationObject(ids[i])).Spec.PublicMetadata
		w.Expect(leftOut(string(log), ids[i])).To(Equal(!tc.wantStored), tc.about)
		if !tc.wantStored {
			w.Expect(stored).To(BeNil(), tc.about)
			w.Expect(inSecret).To(Equal("{}"), tc.about)
			continue
		}
		want := unprintable.ReplaceAllString(fmt.Sprintf("%q", valueOfJSON(w, tc.metadata)), "\ufffd")
		w.Expect(fmt.Sprintf("%q", valueOfJSON(w, string(stored.Raw)))).To(Equal(want), tc.about)
		w.Expect(fmt.Sprintf("%q", valueOfJSON(w, inSecret))).To(Equal(want), tc.about)
	}
	w.kubectl("get", "clerkorganizations", "-o", "yaml") // nobody keeps others from looking
	w.Expect(w.versions(quiet, w.organizationObject(bystander.ID))).To(Equal(before))
}

// unprintable is what YAML has not, as %q prints it.
var unprintable = regexp.MustCompile(`\\x7f|\\u00[89][0-9a-f]|\\ufeff|\\ufff[ef]`)

func valueOfJSON(w *world, encoded string) (value any) {
	w.t.Helper()
	w.Expect(json.Unmarshal([]byte(encoded), &value)).To(Succeed())
	return value
}

// leftOut says whether a log tells that the metadata of an organization was left out.
func leftOut(log, organizationID string) bool {
	for line := range strings.Lines(log) {
		if strings.Contains(line, organizationID) && strings.Contains(line, "publicMetadata") {
			return true
		}
	}
	return false
}

// explosive is an expression that costs more than anything may, for whoever has a long list in public metadata.
const explosive = `size(organization.publicMetadata.?list.orValue([])) > 0 && organization.publicMetadata.list.all(a, ` +
	`organization.publicMetadata.list.all(b, organization.publicMetadata.list.all(c, a + b + c >= 0)))`

func TestHostileExpression_costsNobodyElse(t *testing.T) {
	w := newWorld(t)
	list := map[string]any{"list": make([]int, 2000)}
	// Each evaluation that reaches the limit takes about a tenth of a second of a core, and each change of any class tries all
	// of them twice: a few are enough to be noticed.
	crowd, ids := w.organizationsBy(payload.NewID("user"), crowdSize/10)
	served, servedIDs := w.organizationsBy(payload.NewID("user"), 1)
	for i := range crowd {
		crowd[i].PublicMetadata = list
	}
	served[0].PublicMetadata = list
	w.Eventually(w.flood(w.creations(append(crowd, served...))).done).Should(Receive(BeNil()))
	for _, id := range append(ids, served[0].ID) {
		w.Eventually(stored(w, w.organizationObject(id))).Should(beReady(metav1.ConditionFalse, clerkv1alpha1.ReasonNoTenantClass))
	}
	// It is the first that everybody is tried with, whatever it can be evaluated for.
	exploding := w.class(nil, func(class *clerkv1alpha1.ClerkTenantClass) {
		class.Spec.Selector.Expression, class.Spec.Priority = explosive, new(int32(1000))
	})
	w.class(servedIDs)

	start := time.Now()
	namespace := w.provisioned(served[0].ID)
	t.Logf("it was served in %s", time.Since(start))
	w.memberOf(served[0], namespace)
	told := ContainSubstring("costs too much to evaluate")
	w.Eventually(stored(w, exploding)).Should(And(beReady(metav1.ConditionTrue, clerkv1alpha1.ReasonAccepted),
		HaveField("Status.Conditions", ContainElement(HaveField("Message", told)))))
	for _, id := range ids {
		w.Eventually(stored(w, w.organizationObject(id))).Should(And(beReady(metav1.ConditionFalse, clerkv1alpha1.ReasonNoTenantClass),
			HaveField("Status.Conditions", ContainElement(HaveField("Message", And(told, ContainSubstring(exploding.Name)))))))
	}
	w.Expect(w.namespacesOf(append(ids, servedIDs...))()).To(ConsistOf(servedIDs))

	_, other := w.tenant("other")
	w.Expect(other).NotTo(BeEmpty())
}

// However many classes cannot tell whether they select an organization, it is told of no more than its condition holds.
func TestHostileExpressions_leaveRoomForTheConditions(t *testing.T) {
	w := newWorld(t)
	o := w.newOrganization("many")
	for range 300 {
		w.class([]string{o.ID}, func(class *clerkv1alpha1.ClerkTenantClass) {
			class.Spec.Selector.Expression = "organization.publicMetadata.missing == 'x'"
		})
	}
	w.happen("organization.created", o.Data())
	w.Eventually(stored(w, w.organizationObject(o.ID))).Should(beReady(metav1.ConditionFalse, clerkv1alpha1.ReasonNoTenantClass))
}

// ownCluster gives the test a control plane and a manager of its own, with more flags, as the other tests would have to live
// with what it leaves.
func (w *world) ownCluster(args ...string) {
	w.t.Helper()
	w.ownClusterWith(installation.Options{}, args...)
}

// ownClusterWith is ownCluster with another installation than config/default.
func (w *world) ownClusterWith(o installation.Options, args ...string) {
	w.t.Helper()
	shared := suite
	suite.manager, suite.args = nil, args
	w.t.Cleanup(func() {
		own := suite
		if own.cp != shared.cp {
			if w.t.Failed() {
				own.cp.Keep()
				w.t.Logf("the logs of the test's own control plane are kept in %s", filepath.Join(own.cp.Dir(), "logs"))
			}
			w.Expect(stopManager()).To(Succeed())
			w.Expect(own.cp.Stop()).To(Succeed())
		}
		suite = shared
	})
	w.Expect(startSuite(w.t.Context(), o)).To(Succeed())
	w.sender.URL = suite.manager.URL + clerkv1alpha1.WebhookPath
}

const (
	// churned users join one organization, and one in leaversOf of them leaves it again soon. CHURN_MEMBERS=10000 plays a
	// large one; on two cores that takes more than three minutes, and as many as this about one.
	churned   = 3000
	leaversOf = 5
	// leavesAfter is how many others join in between.
	leavesAfter = 200
)

// churn is the deliveries of people who come and go, and the usernames of those who stay.
func (w *world) churn(o payload.Organization) (messages []delivery.Message, staying []string) {
	w.t.Helper()
	var leaving []payload.Membership
	leave := func() {
		gone := leaving[0]
		leaving = leaving[1:]
		messages = append(messages, w.message(w.event("organizationMembership.deleted", gone.Data())))
	}
	for i := range variable(w.t, "CHURN_MEMBERS", churned) {
		u := w.newUser()
		m := w.newMembership(u, o, "org:member")
		messages = append(messages, w.message(w.event("user.created", u.Data())),
			w.message(w.event("organizationMembership.created", m.Data())))
		if i%leaversOf == 0 {
			leaving = append(leaving, m)
		} else {
			staying = append(staying, clerkv1alpha1.DefaultUsernamePrefix+u.ID)
		}
		if len(leaving) > leavesAfter/leaversOf {
			leave()
		}
	}
	for len(leaving) > 0 {
		leave()
	}
	return messages, staying
}

func TestHostileChurn_isBoundExactlyAndHoldsNobodyElseUp(t *testing.T) {
	w := newWorld(t)
	w.ownCluster()
	o, name := w.tenant("crowded")
	other, quiet := w.tenant("quiet")
	messages, staying := w.churn(o)

	start := time.Now()
	f := w.flood(messages)
	for part := range 4 {
		w.Eventually(f.isUnderWay(len(messages)*(part+1)/5), 2*timeout).Should(BeTrue())
		u := w.user()
		w.join(u, other, "org:guest")
		joined := time.Now()
		w.Eventually(w.level(u.ID, quiet)).Should(Equal(view), "another tenant does not wait for the crowd")
		t.Logf("after %s another tenant's member had access in %s", time.Since(start).Round(time.Second), time.Since(joined))
	}
	w.Eventually(f.done, 3*timeout).Should(Receive(BeNil()))
	t.Logf("%d deliveries took %s", len(messages), time.Since(start).Round(time.Second))
	w.Eventually(w.misbound(name, "edit", staying), 2*timeout).Should(BeEmpty(), "exactly those who stay, each once")
	t.Logf("all are bound after %s", time.Since(start).Round(time.Second))
	w.Consistently(w.misbound(name, "edit", staying)).Should(BeEmpty())
	var bindings rbacv1.RoleBindingList
	w.Expect(suite.client.List(t.Context(), &bindings, client.InNamespace(name))).To(Succeed())
	for i := range bindings.Items {
		w.Expect(len(bindings.Items[i].Subjects)).To(And(BeNumerically(">", 0), BeNumerically("<=", tenant.MaxSubjects)))
	}
	w.Eventually(stored(w, w.organizationObject(o.ID))).Should(HaveField("Status.Members", HaveValue(BeEquivalentTo(len(staying)))))
}

// misbound counts how often each user is bound to a ClusterRole in a namespace beyond the once that is due to those who are
// wanted, where that is not zero.
func (w *world) misbound(namespace, clusterRole string, wanted []string) func() (map[string]int, error) {
	return func() (map[string]int, error) {
		holders, err := w.bindings(namespace)()
		surplus := map[string]int{}
		for _, name := range holders[clusterRole] {
			surplus[name]++
		}
		for _, name := range wanted {
			surplus[name]--
		}
		maps.DeleteFunc(surplus, func(_ string, number int) bool { return number == 0 })
		return surplus, err
	}
}
