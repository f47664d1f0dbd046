// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"

	clerkv1alpha1 "github.com/clerk-operator/clerk-operator/api/v1alpha1"
	"github.com/clerk-operator/clerk-operator/internal/delivery"
	"github.com/clerk-operator/clerk-operator/internal/tenant"
	"github.com/clerk-operator/clerk-operator/test/payload"
)

// observed is every state that objects of a kind go through, as the API server tells of them, until the test ends.
func (w *world) observed(list client.ObjectList, options []client.ListOption, each func(watch.EventType, client.Object)) {
	w.t.Helper()
	watcher, err := client.NewWithWatch(suite.cp.Config(), client.Options{Scheme: suite.client.Scheme()})
	w.Expect(err).NotTo(HaveOccurred())
	w.Expect(watcher.List(w.t.Context(), list, options...)).To(Succeed())
	w.Expect(meta.EachListItem(list, func(o runtime.Object) error {
		each(watch.Added, o.(client.Object))
		return nil
	})).To(Succeed())
	from := &client.ListOptions{Raw: &metav1.ListOptions{ResourceVersion: list.GetResourceVersion()}}
	events, err := watcher.Watch(w.t.Context(), list, append(options, from)...)
	w.Expect(err).NotTo(HaveOccurred())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for event := range events.ResultChan() {
			if o, ok := event.Object.(client.Object); ok {
				each(event.Type, o)
			} else {
				each(watch.Error, nil)
			}
		}
	}()
	w.t.Cleanup(func() { events.Stop(); <-done })
}

// accessLog follows the bindings of namespaces, and notes when the member of one is bound to nothing.
type accessLog struct {
	mu sync.Mutex
	// members are the usernames that are to be bound, by namespace.
	members map[string]string
	// roles are what a member is bound to, by namespace and binding.
	roles map[string]map[string]string
	gaps  []string
	// states counts those that the bindings went through.
	states int
}

// watchAccess begins to follow the bindings of members, by namespace.
func (w *world) watchAccess(members map[string]string) *accessLog {
	w.t.Helper()
	log := &accessLog{members: members, roles: map[string]map[string]string{}}
	for namespace := range members {
		log.roles[namespace] = map[string]string{}
	}
	managedOnes := []client.ListOption{client.MatchingLabels{clerkv1alpha1.LabelManagedBy: clerkv1alpha1.ManagedBy}}
	w.observed(&rbacv1.RoleBindingList{}, managedOnes, log.note)
	return log
}

func (l *accessLog) note(eventType watch.EventType, o client.Object) {
	l.mu.Lock()
	defer l.mu.Unlock()
	binding, ok := o.(*rbacv1.RoleBinding)
	if !ok {
		l.gaps = append(l.gaps, "the watch broke")
		return
	}
	roles, followed := l.roles[binding.Namespace]
	if !followed {
		return
	}
	l.states++
	names := slices.ContainsFunc(binding.Subjects, func(s rbacv1.Subject) bool { return s.Name == l.members[binding.Namespace] })
	if names && eventType != watch.Deleted {
		roles[binding.Name] = binding.RoleRef.Name
	} else {
		delete(roles, binding.Name)
	}
	if len(roles) == 0 {
		l.gaps = append(l.gaps, fmt.Sprintf("%s %s/%s", eventType, binding.Namespace, binding.Name))
	}
}

// bound counts the namespaces by what their members are bound to.
func (l *accessLog) bound() map[string]int {
	l.mu.Lock()
	defer l.mu.Unlock()
	counts := map[string]int{}
	for _, roles := range l.roles {
		var names []string
		for _, role := range roles {
			names = append(names, role)
		}
		slices.Sort(names)
		counts[fmt.Sprint(names)]++
	}
	return counts
}

func (l *accessLog) statesSoFar() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.states
}

func (l *accessLog) gapsSoFar() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.gaps)
}

// progress is what a class told of the rollout of its newest generation: each number of tenants that were up to date, and
// the reasons.
type progress struct {
	mu         sync.Mutex
	generation int64
	updated    []int32
	reasons    []string
}

func (w *world) watchClass(class *clerkv1alpha1.ClerkTenantClass) *progress {
	w.t.Helper()
	p := &progress{}
	w.observed(&clerkv1alpha1.ClerkTenantClassList{}, []client.ListOption{client.MatchingFields{"metadata.name": class.Name}},
		func(_ watch.EventType, o client.Object) {
			class, ok := o.(*clerkv1alpha1.ClerkTenantClass)
			if !ok || class.Status.ObservedGeneration != class.Generation || class.Status.Updated == nil {
				return
			}
			p.mu.Lock()
			defer p.mu.Unlock()
			if class.Generation != p.generation {
				p.generation, p.updated, p.reasons = class.Generation, nil, nil
			}
			ready := meta.FindStatusCondition(class.Status.Conditions, clerkv1alpha1.ConditionReady)
			p.updated, p.reasons = append(p.updated, *class.Status.Updated), append(p.reasons, string(ready.Status)+" "+ready.Reason)
		})
	return p
}

func (p *progress) told() (updated []int32, reasons []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.updated), slices.Clone(p.reasons)
}

// rolloutSize is how many tenants a class has that is changed.
const rolloutSize = 200

// populateClass makes tenants of a class with a member each, and returns the members' usernames by namespace.
func (w *world) populateClass(change func(*clerkv1alpha1.ClerkTenantClass)) (
	class *clerkv1alpha1.ClerkTenantClass, members map[string]string,
) {
	w.t.Helper()
	organizations, ids := w.organizationsBy(payload.NewID("user"), rolloutSize)
	usernames := map[string]string{}
	people := make([]delivery.Message, 0, 2*len(organizations))
	for _, o := range organizations {
		u := w.newUser()
		usernames[o.ID] = clerkv1alpha1.DefaultUsernamePrefix + u.ID
		people = append(people, w.message(w.event("user.created", u.Data())), w.message(w.event("organizationMembership.created",
			w.newMembership(u, o, "org:member").Data())))
	}
	class = w.class(ids, change)
	w.Eventually(w.flood(people).done, 2*timeout).Should(Receive(BeNil()))
	w.Eventually(w.flood(w.creations(organizations)).done).Should(Receive(BeNil()))
	w.Eventually(w.standing(ids), 2*timeout).Should(HaveField("Tenants", HaveLen(rolloutSize)))
	members = map[string]string{}
	var list corev1.NamespaceList
	w.Expect(suite.client.List(w.t.Context(), &list, client.HasLabels{clerkv1alpha1.LabelOrganizationID})).To(Succeed())
	for i := range list.Items {
		if username, ok := usernames[list.Items[i].Labels[clerkv1alpha1.LabelOrganizationID]]; ok {
			members[list.Items[i].Name] = username
		}
	}
	w.Expect(members).To(HaveLen(rolloutSize))
	return class, members
}

// policies counts the NetworkPolicies of namespaces by their names.
func (w *world) policies(namespaces map[string]string) func() (map[string]int, error) {
	return func() (map[string]int, error) {
		var list networkingv1.NetworkPolicyList
		err := suite.client.List(w.t.Context(), &list)
		counts := map[string]int{}
		for i := range list.Items {
			if _, ok := namespaces[list.Items[i].Namespace]; ok {
				counts[list.Items[i].Name]++
			}
		}
		return counts, err
	}
}

// quotas counts the quotas of namespaces by the pods that they allow.
func (w *world) quotas(namespaces map[string]string) func() (map[string]int, error) {
	return func() (map[string]int, error) {
		var list corev1.ResourceQuotaList
		err := suite.client.List(w.t.Context(), &list)
		counts := map[string]int{}
		for i := range list.Items {
			if _, ok := namespaces[list.Items[i].Namespace]; ok {
				counts[list.Items[i].Spec.Hard.Pods().String()]++
			}
		}
		return counts, err
	}
}

func TestRollout_reachesEveryTenantWithoutAGap(t *testing.T) {
	w := newWorld(t)
	class, members := w.populateClass(limited(""))
	var some string
	for some = range members {
		break
	}
	foreign := &networkingv1.NetworkPolicy{ObjectMeta: metaOf(some, "clerk-like-but-foreign", nil)}
	w.Expect(suite.client.Create(t.Context(), foreign)).To(Succeed())
	access := w.watchAccess(members)
	w.Eventually(access.bound).Should(Equal(map[string]int{"[edit]": rolloutSize}))
	w.Eventually(stored(w, class)).Should(And(beReady(metav1.ConditionTrue, clerkv1alpha1.ReasonAccepted),
		HaveField("Status.Tenants", HaveValue(BeEquivalentTo(rolloutSize)))))
	before := w.calm()
	states := access.statesSoFar()
	told := w.watchClass(class)

	start := time.Now()
	changeByHand(w, class, func(class *clerkv1alpha1.ClerkTenantClass) {
		class.Spec.Quota.Hard[corev1.ResourcePods] = resource.MustParse("20")
		class.Spec.NetworkPolicies = []clerkv1alpha1.ClerkTenantClassNetworkPolicy{
			{Name: "api", Spec: &networkingv1.NetworkPolicySpec{Ingress: []networkingv1.NetworkPolicyIngressRule{{}}}},
		}
		class.Spec.Access[1].ClusterRoles = []string{"edit", "view"}
	})
	w.Eventually(stored(w, class)).Should(And(beReady(metav1.ConditionTrue, clerkv1alpha1.ReasonAccepted),
		HaveField("Status.Updated", HaveValue(BeEquivalentTo(rolloutSize))),
		HaveField("Status.Tenants", HaveValue(BeEquivalentTo(rolloutSize)))))
	t.Logf("%d tenants were as the class says after %s", rolloutSize, time.Since(start))
	w.wantRolledOut(members, access, told)
	w.Expect(get(w, foreign).ResourceVersion).To(Equal(foreign.ResourceVersion))
	w.Expect(w.kubectl("get", "clerktenantclasses", class.Name)).To(MatchRegexp(
		`(?s)^NAME +TENANTS +READY +AGE\n%s +%d +True +\S+\n$`, class.Name, rolloutSize))

	after := w.calm()
	written := growth(before, after)
	w.Expect(written["networkpolicies.networking.k8s.io"]).To(BeNumerically(">=", 2*rolloutSize))
	w.Expect(access.statesSoFar()-states).To(Equal(rolloutSize), "nothing but the new bindings is written")
	// Some are applied twice, where the cache is behind the first time, which changes nothing.
	w.Expect(written["rolebindings.rbac.authorization.k8s.io"]).To(BeNumerically("<", 2*rolloutSize), "the old ones are not applied")
	w.Expect(written["namespaces"]+written["secrets"]+written["limitranges"]).To(BeZero(), "what is not changed is not written")
	w.annotate(class, "example.com/touched", "yes") // every tenant is looked at again
	w.calm()
	w.Expect(w.writesSince(after)).To(Equal(map[string]int{"clerktenantclasses.clerk-operator.dev": 1}))
}

// wantRolledOut checks how a rollout came to its end, and what is there then.
func (w *world) wantRolledOut(members map[string]string, access *accessLog, told *progress) {
	w.t.Helper()
	w.Eventually(w.quotas(members)).Should(Equal(map[string]int{"20": rolloutSize}))
	w.Eventually(w.policies(members)).Should(Equal(map[string]int{
		tenant.IsolationName: rolloutSize, "clerk-api": rolloutSize, "clerk-like-but-foreign": 1,
	}))
	w.Eventually(access.bound).Should(Equal(map[string]int{"[edit view]": rolloutSize}))
	w.Expect(access.gapsSoFar()).To(BeEmpty(), "nobody was without access for a moment")
	w.Eventually(func() []int32 { updated, _ := told.told(); return updated }).Should(ContainElement(BeEquivalentTo(rolloutSize)))
	updated, reasons := told.told()
	w.t.Logf("the class told of %v", updated)
	w.Expect(slices.IsSorted(updated)).To(BeTrue(), "%v", updated)
	w.Expect(updated[0]).To(BeNumerically("<", rolloutSize))
	rollingOut := "Unknown " + clerkv1alpha1.ReasonRollingOut
	w.Expect(reasons[0]).To(Equal(rollingOut))
	w.Expect(reasons).To(HaveEach(BeElementOf(rollingOut, "True "+clerkv1alpha1.ReasonAccepted)))
}
