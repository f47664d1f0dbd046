// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package controller_test

import (
	"context"
	"fmt"
	"sync"
	"testing"

	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	clerkv1alpha1 "github.com/clerk-operator/clerk-operator/api/v1alpha1"
	"github.com/clerk-operator/clerk-operator/internal/clerk"
	"github.com/clerk-operator/clerk-operator/internal/controller"
	"github.com/clerk-operator/clerk-operator/internal/tenant"
	"github.com/clerk-operator/clerk-operator/test/payload"
)

func TestOrganization_accessFollowsClerk(t *testing.T) {
	w := newWorld(t)
	w.class()
	namespace := w.tenant().Status.Namespace.Name
	ada, grace := w.user(), w.user()
	w.join(ada, "org:admin")
	membership := w.join(grace, "basic_member")
	w.eventuallyReady(&clerkv1alpha1.ClerkOrganizationMembership{}, membership.ID, metav1.ConditionFalse, clerkv1alpha1.ReasonRoleNotMapped)
	w.eventuallyHold(namespace, map[string][]string{"admin": {ada.ID}})

	membership.Role, membership.UpdatedAt = "member", w.tick() // older instances leave org: out
	w.happen("organizationMembership.updated", membership.Data())
	w.eventuallyHold(namespace, map[string][]string{"admin": {ada.ID}, "edit": {grace.ID}})
	w.eventuallyReady(&clerkv1alpha1.ClerkOrganizationMembership{}, membership.ID, metav1.ConditionTrue, clerkv1alpha1.ReasonBound)

	for _, suspend := range []func(*payload.User, bool){
		func(u *payload.User, on bool) { u.Banned = on },
		func(u *payload.User, on bool) { u.Deprovisioned = on },
	} {
		suspend(&grace, true)
		grace.UpdatedAt = w.tick()
		w.happen("user.updated", grace.Data())
		w.eventuallyHold(namespace, map[string][]string{"admin": {ada.ID}})
		w.eventuallyReady(&clerkv1alpha1.ClerkUser{}, grace.ID, metav1.ConditionTrue, clerkv1alpha1.ReasonSuspended)
		w.eventuallyReady(&clerkv1alpha1.ClerkOrganizationMembership{}, membership.ID, metav1.ConditionFalse, clerkv1alpha1.ReasonUserSuspended)
		suspend(&grace, false)
		grace.UpdatedAt = w.tick()
		w.happen("user.updated", grace.Data())
		w.eventuallyHold(namespace, map[string][]string{"admin": {ada.ID}, "edit": {grace.ID}})
	}

	w.happen("user.deleted", payload.Deleted("user", ada.ID))
	w.eventuallyHold(namespace, map[string][]string{"edit": {grace.ID}})
	w.eventuallyGone(&clerkv1alpha1.ClerkUser{}, client.ObjectKey{Name: clerk.ObjectName(w.instance, ada.ID)})
	w.happen("organizationMembership.deleted", membership.Data())
	w.eventuallyHold(namespace, nil)
	w.eventuallyReady(&clerkv1alpha1.ClerkOrganization{}, w.org.ID, metav1.ConditionTrue, clerkv1alpha1.ReasonProvisioned)
	w.Expect(w.namespace(namespace).DeletionTimestamp).To(BeNil(), "an empty organization keeps its namespace")
}

func TestOrganization_waitsForWhatIsLate(t *testing.T) {
	w := newWorld(t)
	w.class()
	late := payload.User{ID: payload.NewID("user"), CreatedAt: w.tick(), UpdatedAt: w.now}
	membership := w.join(late, "org:member")
	w.eventuallyReady(&clerkv1alpha1.ClerkOrganizationMembership{}, membership.ID, metav1.ConditionFalse, clerkv1alpha1.ReasonWaitingForUser)
	w.happen("user.created", late.Data())
	w.eventuallyReady(&clerkv1alpha1.ClerkOrganizationMembership{}, membership.ID, metav1.ConditionFalse, clerkv1alpha1.ReasonWaitingForOrganization)
	namespace := w.tenant().Status.Namespace.Name
	w.eventuallyHold(namespace, map[string][]string{"edit": {late.ID}})
	w.eventuallyReady(&clerkv1alpha1.ClerkOrganizationMembership{}, membership.ID, metav1.ConditionTrue, clerkv1alpha1.ReasonBound)
}

func TestOrganization_rejoiningSupersedesTheOldMembership(t *testing.T) {
	w := newWorld(t)
	w.class()
	namespace := w.tenant().Status.Namespace.Name
	user := w.user()
	old := w.join(user, "org:admin")
	w.eventuallyHold(namespace, map[string][]string{"admin": {user.ID}})
	again := w.join(user, "org:member")
	w.eventuallyHold(namespace, map[string][]string{"edit": {user.ID}})
	w.eventuallyReady(&clerkv1alpha1.ClerkOrganizationMembership{}, old.ID, metav1.ConditionFalse, clerkv1alpha1.ReasonSuperseded)
	w.happen("organizationMembership.deleted", old.Data())
	w.eventuallyGone(&clerkv1alpha1.ClerkOrganizationMembership{}, client.ObjectKey{Name: clerk.ObjectName(w.instance, old.ID)})
	w.eventuallyReady(&clerkv1alpha1.ClerkOrganizationMembership{}, again.ID, metav1.ConditionTrue, clerkv1alpha1.ReasonBound)
	w.Expect(w.holders(namespace)).To(Equal(map[string][]string{"edit": {user.ID}}))
}

func TestOrganization_foreignNamespaceStaysUntouched(t *testing.T) {
	w := newWorld(t)
	class := w.class()
	probe := &clerkv1alpha1.ClerkOrganization{}
	probe.Spec.InstanceName, probe.Spec.OrganizationID, probe.Spec.Slug = w.instance, w.org.ID, w.org.Slug
	foreign := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{
		Name: tenant.NamespaceName(class.Spec.Namespace.Prefix, probe),
		// What anybody who may create namespaces could write on theirs.
		Labels: map[string]string{
			clerkv1alpha1.LabelManagedBy: clerkv1alpha1.ManagedBy, clerkv1alpha1.LabelOrganizationID: w.org.ID,
			clerkv1alpha1.LabelInstance: w.instance,
		},
	}}
	w.Expect(suite.client.Create(t.Context(), foreign)).To(Succeed())
	before := foreign.ResourceVersion
	user := w.user()
	w.join(user, "org:admin")
	w.happen("organization.created", w.org.Data())
	w.eventuallyReady(&clerkv1alpha1.ClerkOrganization{}, w.org.ID, metav1.ConditionFalse, clerkv1alpha1.ReasonNamespaceConflict)
	w.Expect(w.namespace(foreign.Name).ResourceVersion).To(Equal(before))
	w.Expect(w.holders(foreign.Name)).To(BeEmpty())

	w.happen("organization.deleted", payload.Deleted("organization", w.org.ID))
	w.eventuallyGone(&clerkv1alpha1.ClerkOrganization{}, client.ObjectKey{Name: clerk.ObjectName(w.instance, w.org.ID)})
	w.Expect(w.namespace(foreign.Name).ResourceVersion).To(Equal(before))
}

func TestOrganization_findsItsNamespaceWithoutStatus(t *testing.T) {
	w := newWorld(t)
	w.class()
	organization := w.tenant()
	pinned := organization.Status.Namespace
	// As after a crash between creating the namespace and writing status, with the slug changed in between.
	w.org.Slug, w.org.UpdatedAt = "renamed", w.tick()
	w.happen("organization.updated", w.org.Data())
	lost := client.RawPatch(types.MergePatchType, []byte(`{"status":null}`))
	w.Expect(suite.client.Status().Patch(t.Context(), organization, lost)).To(Succeed())
	w.Expect(w.touch(organization)).To(Succeed())
	w.Eventually(func() clerkv1alpha1.NamespaceReference { return w.organization().Status.Namespace }).Should(Equal(pinned))
}

// touch makes a reconcile happen.
func (w *world) touch(o client.Object) error {
	patch := fmt.Sprintf(`{"metadata":{"annotations":{"example.com/touched":%q}}}`, w.tick().String())
	return suite.client.Patch(w.t.Context(), o, client.RawPatch(types.MergePatchType, []byte(patch)))
}

func TestOrganization_classChangeReachesTheNamespace(t *testing.T) {
	w := newWorld(t)
	class := w.class(func(c *clerkv1alpha1.ClerkTenantClass) {
		c.Spec.Namespace.Labels = map[string]clerkv1alpha1.LabelValue{"team": "a", "plan": "pro"}
	})
	name := w.tenant().Status.Namespace.Name
	w.Expect(w.namespace(name).Labels).To(And(HaveKeyWithValue("team", "a"), HaveKeyWithValue("plan", "pro"),
		HaveKeyWithValue("pod-security.kubernetes.io/enforce", "restricted")))

	before := class.DeepCopy()
	class.Spec.Namespace.Labels = map[string]clerkv1alpha1.LabelValue{"team": "b"}
	class.Spec.Namespace.PodSecurity = clerkv1alpha1.PodSecurityBaseline
	w.Expect(suite.client.Patch(t.Context(), class, client.MergeFrom(before))).To(Succeed())
	w.Eventually(func() map[string]string { return w.namespace(name).Labels }).Should(And(
		HaveKeyWithValue("team", "b"), Not(HaveKey("plan")), HaveKeyWithValue("pod-security.kubernetes.io/enforce", "baseline"),
		HaveKeyWithValue(clerkv1alpha1.LabelOrganizationID, w.org.ID)))
}

func TestOrganization_repairsDrift(t *testing.T) {
	w := newWorld(t)
	w.class()
	user := w.user()
	w.join(user, "org:member")
	name := w.tenant().Status.Namespace.Name
	w.eventuallyHold(name, map[string][]string{"edit": {user.ID}})
	binding := &rbacv1.RoleBinding{}
	key := client.ObjectKey{Namespace: name, Name: "clerk-edit"}

	w.Expect(suite.client.Get(t.Context(), key, binding)).To(Succeed())
	binding.Subjects = append(binding.Subjects, rbacv1.Subject{APIGroup: rbacv1.GroupName, Kind: "User", Name: "clerk:user_intruder"})
	w.Expect(suite.client.Update(t.Context(), binding)).To(Succeed())
	w.eventuallyHold(name, map[string][]string{"edit": {user.ID}})

	w.Expect(suite.client.Delete(t.Context(), binding)).To(Succeed())
	w.eventuallyHold(name, map[string][]string{"edit": {user.ID}})

	namespace := w.namespace(name)
	namespace.Labels = nil // it leaves the operator's cache, and is its own all the same
	w.Expect(suite.client.Update(t.Context(), namespace)).To(Succeed())
	w.Eventually(func() map[string]string { return w.namespace(name).Labels }).Should(
		And(HaveKeyWithValue(clerkv1alpha1.LabelOrganizationID, w.org.ID), HaveKey("pod-security.kubernetes.io/enforce")))
}

func TestOrganization_replacesABindingOfAnotherRole(t *testing.T) {
	w := newWorld(t)
	w.class()
	name := w.tenant().Status.Namespace.Name
	// A tenant's administrator may make bindings in the namespace, of any name.
	squatter := &rbacv1.RoleBinding{
		ObjectMeta: metav1.ObjectMeta{Namespace: name, Name: "clerk-edit"},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "view"},
	}
	w.Expect(suite.client.Create(t.Context(), squatter)).To(Succeed())
	user := w.user()
	w.join(user, "org:member")
	w.eventuallyHold(name, map[string][]string{"edit": {user.ID}})
}

func TestOrganization_aFinalizerDoesNotKeepAccess(t *testing.T) {
	w := newWorld(t)
	w.class()
	name := w.tenant().Status.Namespace.Name
	user := w.user()
	w.join(user, "org:admin")
	w.eventuallyHold(name, map[string][]string{"admin": {user.ID}})
	// Whoever may edit bindings in the tenant can do this; a binding that is only marked for deletion still binds.
	binding := &rbacv1.RoleBinding{ObjectMeta: metav1.ObjectMeta{Namespace: name, Name: "clerk-admin"}}
	patch := []byte(`{"metadata":{"finalizers":["example.com/hold"]}}`)
	w.Expect(suite.client.Patch(t.Context(), binding, client.RawPatch(types.MergePatchType, patch))).To(Succeed())
	user.Banned, user.UpdatedAt = true, w.tick()
	w.happen("user.updated", user.Data())
	w.eventuallyGone(&rbacv1.RoleBinding{}, client.ObjectKeyFromObject(binding))
}

func TestOrganization_tenantsSecretOfTheSameNameIsTold(t *testing.T) {
	w := newWorld(t)
	w.class()
	name := w.tenant().Status.Namespace.Name
	immutable := true
	squatter := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: name, Name: tenant.SecretName}, Immutable: &immutable}
	// A reconcile whose cache has not heard of the status yet writes the Secret once more.
	w.Eventually(func() error {
		if err := suite.client.Delete(t.Context(), squatter.DeepCopy()); client.IgnoreNotFound(err) != nil {
			return err
		}
		return suite.client.Create(t.Context(), squatter.DeepCopy())
	}).Should(Succeed())
	w.org.Name, w.org.UpdatedAt = "Renamed", w.tick()
	w.happen("organization.updated", w.org.Data())
	w.eventuallyReady(&clerkv1alpha1.ClerkOrganization{}, w.org.ID, metav1.ConditionFalse, clerkv1alpha1.ReasonSecretRefused)
}

func TestOrganization_unbindableRoleIsToldAndNeverKeepsAccess(t *testing.T) {
	w := newWorld(t)
	class := w.class(func(c *clerkv1alpha1.ClerkTenantClass) {
		c.Spec.Access = []clerkv1alpha1.ClerkTenantClassAccess{
			{Role: "org:admin", ClusterRoles: []string{"cluster-admin", "view"}},
		}
	})
	ready := &clerkv1alpha1.ClerkTenantClass{}
	w.Eventually(func(g Gomega) {
		g.Expect(suite.client.Get(t.Context(), client.ObjectKeyFromObject(class), ready)).To(Succeed())
		g.Expect(ready.Status.Conditions).To(ContainElement(And(
			HaveField("Reason", clerkv1alpha1.ReasonRoleNotBindable), HaveField("Message", ContainSubstring("cluster-admin")))))
	}).Should(Succeed())
	ada, grace := w.user(), w.user()
	w.join(ada, "org:admin")
	w.join(grace, "org:admin")
	w.happen("organization.created", w.org.Data())
	w.eventuallyReady(&clerkv1alpha1.ClerkOrganization{}, w.org.ID, metav1.ConditionFalse, clerkv1alpha1.ReasonRoleNotBindable)
	name := w.organization().Status.Namespace.Name
	w.eventuallyHold(name, map[string][]string{"view": {ada.ID, grace.ID}})

	// Without the right to bind view the binding cannot be changed any more; it goes rather than keep a banned user.
	w.setBindable(t.Context(), "admin", "edit")
	t.Cleanup(func() { w.setBindable(context.WithoutCancel(t.Context()), "admin", "edit", "view") })
	grace.Banned, grace.UpdatedAt = true, w.tick()
	w.happen("user.updated", grace.Data())
	w.eventuallyHold(name, nil)
}

// setBindable sets which ClusterRoles the operator may bind.
func (w *world) setBindable(ctx context.Context, names ...string) {
	w.t.Helper()
	role := &rbacv1.ClusterRole{}
	w.Expect(suite.client.Get(ctx, client.ObjectKey{Name: "clerk-operator-manager-role"}, role)).To(Succeed())
	for i := range role.Rules {
		if len(role.Rules[i].Verbs) == 1 && role.Rules[i].Verbs[0] == "bind" {
			role.Rules[i].ResourceNames = names
		}
	}
	w.Expect(suite.client.Update(ctx, role)).To(Succeed())
}

func TestOrganization_shardsItsBindings(t *testing.T) {
	w := newWorld(t)
	w.class()
	name := w.tenant().Status.Namespace.Name
	const members = tenant.MaxSubjects + 20
	users := make([]payload.User, members)
	ids := make([]string, members)
	for i := range users {
		users[i] = payload.User{ID: payload.NewID("user"), CreatedAt: w.now, UpdatedAt: w.now}
		ids[i] = users[i].ID
	}
	w.inParallel(members, func(i int) {
		m := payload.Membership{
			ID: payload.NewID("orgmem"), Role: "org:member", UserID: ids[i], Organization: w.org, CreatedAt: w.now, UpdatedAt: w.now,
		}
		w.write("user.created", users[i].Data())
		w.write("organizationMembership.created", m.Data())
	})
	w.eventuallyHold(name, map[string][]string{"edit": ids})
	before := w.versions(name)
	w.Expect(len(before)).To(BeNumerically(">", 1))

	users[0].Banned, users[0].UpdatedAt = true, w.tick()
	w.happen("user.updated", users[0].Data())
	w.eventuallyHold(name, map[string][]string{"edit": ids[1:]})
	changed := 0
	for binding, version := range w.versions(name) {
		if before[binding] != version {
			changed++
		}
	}
	w.Expect(changed).To(Equal(1), "one member is one shard's change")
}

func (w *world) inParallel(n int, do func(i int)) {
	w.t.Helper()
	var group sync.WaitGroup
	work := make(chan int)
	for range 8 {
		group.Go(func() {
			for i := range work {
				do(i)
			}
		})
	}
	for i := range n {
		work <- i
	}
	close(work)
	group.Wait()
}

// write is happen for several at once: it leaves the world's time as it is.
func (w *world) write(eventType string, data map[string]any) {
	other := &world{WithT: w.WithT, t: w.t, now: w.now, instance: w.instance}
	other.happen(eventType, data)
}

// versions are the resource versions of the bindings in a namespace.
func (w *world) versions(namespace string) map[string]string {
	w.t.Helper()
	var bindings rbacv1.RoleBindingList
	w.Expect(suite.client.List(w.t.Context(), &bindings, client.InNamespace(namespace))).To(Succeed())
	versions := map[string]string{}
	for _, binding := range bindings.Items {
		versions[binding.Name] = binding.ResourceVersion
	}
	return versions
}

func TestOrganization_secondReconcileWritesNothing(t *testing.T) {
	w := newWorld(t)
	w.class()
	user := w.user()
	membership := w.join(user, "org:member")
	organization := w.tenant()
	w.eventuallyReady(&clerkv1alpha1.ClerkOrganizationMembership{}, membership.ID, metav1.ConditionTrue, clerkv1alpha1.ReasonBound)
	w.Eventually(func(g Gomega) {
		mirrored := &clerkv1alpha1.ClerkUser{}
		w.get(mirrored, user.ID)
		g.Expect(mirrored.Status.Organizations).To(HaveValue(BeEquivalentTo(1)))
	}).Should(Succeed())
	name := organization.Status.Namespace.Name
	before := w.everything(name, user.ID, membership.ID)

	w.Expect(w.touch(w.organization())).To(Succeed())
	touched := w.organization().ResourceVersion
	// That the reconcile is over is seen by another organization that was made after it.
	other := newWorld(t)
	other.class()
	other.tenant()
	w.Expect(w.everything(name, user.ID, membership.ID)).To(Equal(before))
	w.Expect(w.organization().ResourceVersion).To(Equal(touched), "status was not written again")
}

// everything is the resource version of each object of a tenant with one member.
func (w *world) everything(namespace, userID, membershipID string) map[string]string {
	w.t.Helper()
	versions := w.versions(namespace)
	secret, user, membership := &corev1.Secret{}, &clerkv1alpha1.ClerkUser{}, &clerkv1alpha1.ClerkOrganizationMembership{}
	w.Expect(suite.client.Get(w.t.Context(), client.ObjectKey{Namespace: namespace, Name: tenant.SecretName}, secret)).To(Succeed())
	w.get(user, userID)
	w.get(membership, membershipID)
	versions["namespace"] = w.namespace(namespace).ResourceVersion
	versions["secret"] = secret.ResourceVersion
	versions["user"] = user.ResourceVersion
	versions["membership"] = membership.ResourceVersion
	return versions
}

func TestOrganization_deletionPolicies(t *testing.T) {
	for name, tc := range map[string]struct {
		class    func(*clerkv1alpha1.ClerkTenantClass)
		retain   bool
		wantGone bool
		wantKept bool
	}{
		"deleted at once without grace": {wantGone: true},
		"kept through the grace": {
			class: func(c *clerkv1alpha1.ClerkTenantClass) { c.Spec.Deletion.GracePeriod = nil },
		},
		"kept by the class": {
			class:    func(c *clerkv1alpha1.ClerkTenantClass) { c.Spec.Deletion.Policy = clerkv1alpha1.DeletionRetain },
			wantKept: true,
		},
		"kept by the annotation": {retain: true, wantKept: true},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			if tc.class == nil {
				tc.class = func(*clerkv1alpha1.ClerkTenantClass) {}
			}
			w.class(tc.class)
			user := w.user()
			membership := w.join(user, "org:admin")
			organization := w.tenant()
			namespace := organization.Status.Namespace.Name
			w.eventuallyHold(namespace, map[string][]string{"admin": {user.ID}})
			if tc.retain {
				patch := []byte(`{"metadata":{"annotations":{"clerk-operator.dev/retain":"true"}}}`)
				w.Expect(suite.client.Patch(t.Context(), organization, client.RawPatch(types.MergePatchType, patch))).To(Succeed())
			}

			w.happen("organization.deleted", payload.Deleted("organization", w.org.ID))
			w.eventuallyGone(&clerkv1alpha1.ClerkOrganizationMembership{}, client.ObjectKey{Name: clerk.ObjectName(w.instance, membership.ID)})
			key := client.ObjectKey{Name: clerk.ObjectName(w.instance, w.org.ID)}
			switch {
			case tc.wantGone:
				w.eventuallyGone(&corev1.Namespace{}, client.ObjectKey{Name: namespace})
				w.eventuallyGone(&clerkv1alpha1.ClerkOrganization{}, key)
			case tc.wantKept:
				w.eventuallyGone(&clerkv1alpha1.ClerkOrganization{}, key)
				w.Expect(w.namespace(namespace).DeletionTimestamp).To(BeNil())
				w.Expect(w.holders(namespace)).To(BeEmpty())
			default:
				w.eventuallyReady(&clerkv1alpha1.ClerkOrganization{}, w.org.ID, metav1.ConditionFalse, clerkv1alpha1.ReasonDeleting)
				w.eventuallyHold(namespace, nil)
				w.Expect(w.namespace(namespace).DeletionTimestamp).To(BeNil())
			}
		})
	}
}

func TestOrganization_withoutClassHasNothingAndLosesAccessWhenItsClassGoes(t *testing.T) {
	w := newWorld(t)
	user := w.user()
	w.join(user, "org:admin")
	w.happen("organization.created", w.org.Data())
	w.eventuallyReady(&clerkv1alpha1.ClerkOrganization{}, w.org.ID, metav1.ConditionFalse, clerkv1alpha1.ReasonNoTenantClass)
	w.Expect(w.organization().Status.Namespace.Name).To(BeEmpty())
	class := w.class()
	w.eventuallyReady(&clerkv1alpha1.ClerkOrganization{}, w.org.ID, metav1.ConditionTrue, clerkv1alpha1.ReasonProvisioned)
	namespace := w.organization().Status.Namespace.Name
	w.eventuallyHold(namespace, map[string][]string{"admin": {user.ID}})
	w.Expect(suite.client.Delete(t.Context(), class)).To(Succeed())
	w.eventuallyReady(&clerkv1alpha1.ClerkOrganization{}, w.org.ID, metav1.ConditionFalse, clerkv1alpha1.ReasonNoTenantClass)
	w.eventuallyHold(namespace, nil)
	w.Expect(w.namespace(namespace).DeletionTimestamp).To(BeNil())
}

func TestIsCurrent_noticesWhatTheCacheHasNotHeardOf(t *testing.T) {
	suspended := func(w *world, _ *clerkv1alpha1.ClerkOrganization, config *clerkv1alpha1.ClerkInstance) {
		patched := config.DeepCopy()
		patched.Spec.Suspend = new(true)
		w.Expect(suite.client.Patch(w.t.Context(), patched, client.MergeFrom(config))).To(Succeed())
	}
	for name, tc := range map[string]struct {
		change func(*world, *clerkv1alpha1.ClerkOrganization, *clerkv1alpha1.ClerkInstance)
		// cached is what the cache has of the instance; nil for what there was before the change.
		cached *clerkv1alpha1.ClerkInstance
		want   bool
	}{
		"as it is":               {want: true},
		"an instance suspended":  {change: suspended},
		"an instance made since": {cached: &clerkv1alpha1.ClerkInstance{}},
		"an instance that is gone": {
			change: func(w *world, _ *clerkv1alpha1.ClerkOrganization, config *clerkv1alpha1.ClerkInstance) {
				w.Expect(suite.client.Delete(w.t.Context(), config)).To(Succeed())
				w.Eventually(func() error {
					return suite.client.Get(w.t.Context(), client.ObjectKeyFromObject(config), &clerkv1alpha1.ClerkInstance{})
				}).Should(HaveOccurred())
			},
			cached: &clerkv1alpha1.ClerkInstance{},
			want:   true,
		},
		"an organization annotated": {
			change: func(w *world, organization *clerkv1alpha1.ClerkOrganization, _ *clerkv1alpha1.ClerkInstance) {
				patched := organization.DeepCopy()
				patched.Annotations = map[string]string{clerkv1alpha1.AnnotationRetain: "true"}
				w.Expect(suite.client.Patch(w.t.Context(), patched, client.MergeFrom(organization))).To(Succeed())
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.instance = "current-" + clerk.ObjectName("default", w.org.ID)
			config := &clerkv1alpha1.ClerkInstance{ObjectMeta: metav1.ObjectMeta{Name: w.instance}}
			config.Spec.Webhook.SigningSecrets = []clerkv1alpha1.SecretKeyReference{{Name: "clerk-webhook", Key: "signing-secret"}}
			w.Expect(suite.client.Create(t.Context(), config)).To(Succeed())
			t.Cleanup(func() { _ = suite.client.Delete(context.WithoutCancel(t.Context()), config) })
			w.happen("organization.created", w.org.Data())
			organization := w.organization()
			cached := config.DeepCopy()
			if tc.cached != nil {
				cached = tc.cached
			}
			if tc.change != nil {
				tc.change(w, organization, config)
			}
			w.Expect(controller.IsCurrent(t.Context(), suite.client, organization, cached)).To(Equal(tc.want))
		})
	}
}

func TestOrganization_withoutItsInstanceOnlyLosesAccess(t *testing.T) {
	w := newWorld(t)
	w.class()
	w.instance = "orphan-" + clerk.ObjectName("default", w.org.ID)
	config := &clerkv1alpha1.ClerkInstance{ObjectMeta: metav1.ObjectMeta{Name: w.instance}}
	config.Spec.Access.UsernamePrefix = "acme:"
	config.Spec.Webhook.SigningSecrets = []clerkv1alpha1.SecretKeyReference{{Name: "clerk-webhook", Key: "signing-secret"}}
	w.Expect(suite.client.Create(t.Context(), config)).To(Succeed())
	ada, grace := w.user(), w.user()
	w.join(ada, "org:member")
	w.join(grace, "org:member")
	namespace := w.tenant().Status.Namespace.Name
	prefixed := func(u payload.User) string { return "acme:" + u.ID }
	w.eventuallyHold(namespace, map[string][]string{"edit": {prefixed(ada), prefixed(grace)}})

	w.Expect(suite.client.Delete(t.Context(), config)).To(Succeed())
	w.Eventually(func() error {
		return suite.client.Get(t.Context(), client.ObjectKeyFromObject(config), config)
	}).Should(HaveOccurred())
	w.Expect(suite.client.Delete(t.Context(), &clerkv1alpha1.ClerkUser{
		ObjectMeta: metav1.ObjectMeta{Name: clerk.ObjectName(w.instance, grace.ID)},
	})).To(Succeed())
	w.eventuallyHold(namespace, map[string][]string{"edit": {prefixed(ada)}})
	w.eventuallyGone(&clerkv1alpha1.ClerkUser{}, client.ObjectKey{Name: clerk.ObjectName(w.instance, grace.ID)})
	w.eventuallyReady(&clerkv1alpha1.ClerkOrganization{}, w.org.ID, metav1.ConditionFalse, clerkv1alpha1.ReasonInstanceNotFound)
}
