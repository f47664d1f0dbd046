// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"errors"
	"fmt"
	"testing"

	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/event"

	clerkv1alpha1 "github.com/clerk-operator/clerk-operator/api/v1alpha1"
	"github.com/clerk-operator/clerk-operator/internal/clerk"
	"github.com/clerk-operator/clerk-operator/internal/mirror"
	"github.com/clerk-operator/clerk-operator/internal/tenant"
)

// holding is a cache, or an API server, that holds these objects: a real cache cannot be made to be behind.
func holding(t *testing.T, objects ...client.Object) client.Client {
	t.Helper()
	scheme := runtime.NewScheme()
	NewWithT(t).Expect(clerkv1alpha1.AddToScheme(scheme)).To(Succeed())
	return fake.NewClientBuilder().WithScheme(scheme).WithObjects(objects...).Build()
}

func TestTombstoneOf_asksTheAPIServerBeforeAnythingIsDeleted(t *testing.T) {
	const id = "user_2behind"
	tombstone := &clerkv1alpha1.ClerkTombstone{ObjectMeta: metav1.ObjectMeta{Name: clerk.ObjectName("default", id)}}
	tombstone.Spec.ID, tombstone.Spec.InstanceName = id, "default"
	for name, tc := range map[string]struct {
		cached, live, deleting, want bool
	}{
		"alive":                     {},
		"deleted in Clerk":          {cached: true, live: true, want: true},
		"its tombstone was removed": {cached: true},
		"being deleted before the cache heard why": {deleting: true, live: true, want: true},
		"being deleted by hand":                    {deleting: true},
		"deleted in Clerk, which the watch brings": {live: true},
		"being deleted, its tombstone removed":     {deleting: true, cached: true},
	} {
		t.Run(name, func(t *testing.T) {
			reader := func(holds bool) client.Client {
				if holds {
					return holding(t, tombstone.DeepCopy())
				}
				return holding(t)
			}
			user := &clerkv1alpha1.ClerkUser{}
			user.Spec.InstanceName = "default"
			if tc.deleting {
				user.DeletionTimestamp = new(metav1.Now())
			}
			found, err := (&base{client: reader(tc.cached), live: reader(tc.live)}).tombstoneOf(t.Context(), user, id)
			NewWithT(t).Expect(found != nil, err).To(Equal(tc.want))
		})
	}
}

// A grace may outlast the tombstone, without which a user would be taken for one who was deleted by hand.
func TestTombstone_isNeededWhileWhatItNamesIsOnItsWayOut(t *testing.T) {
	g := NewWithT(t)
	const id = "user_2needed"
	tombstone := &clerkv1alpha1.ClerkTombstone{ObjectMeta: metav1.ObjectMeta{Name: clerk.ObjectName("default", id)}}
	tombstone.Spec.ID, tombstone.Spec.InstanceName = id, "default"
	user := &clerkv1alpha1.ClerkUser{ObjectMeta: metav1.ObjectMeta{Name: clerk.ObjectName("default", id)}}
	user.Spec.UserID, user.Spec.InstanceName = id, "default"
	foreign := user.DeepCopy()
	foreign.Name, foreign.Spec.InstanceName = clerk.ObjectName("another", id), "another"
	needed := func(cached, live client.Client) (bool, error) {
		r := &ClerkTombstoneReconciler{mirror: mirror.New(cached, live)}
		return r.isNeeded(t.Context(), tombstone)
	}
	nothing, holdsUser, holdsForeign := holding(t), holding(t, user), holding(t, foreign)
	g.Expect(needed(nothing, nothing)).To(BeFalse())
	g.Expect(needed(holdsUser, holdsUser)).To(BeTrue())
	g.Expect(needed(nothing, holdsUser)).To(BeTrue(), "the cache is behind")
	g.Expect(needed(holdsForeign, holdsForeign)).To(BeFalse())
}

// A label that was removed is put back; one that names another owner says that the namespace is that owner's now.
func TestIsAnothers_goesByInstanceAndID(t *testing.T) {
	o := &clerkv1alpha1.ClerkOrganization{}
	o.Spec.InstanceName, o.Spec.OrganizationID = "default", "org_1"
	for name, tc := range map[string]struct {
		labels map[string]string
		want   bool
	}{
		"its own":                          {tenant.Labels(o), false},
		"without labels":                   {nil, false},
		"without its instance":             {map[string]string{clerkv1alpha1.LabelOrganizationID: "org_1"}, false},
		"another instance's":               {map[string]string{clerkv1alpha1.LabelOrganizationID: "org_1", clerkv1alpha1.LabelInstance: "staging"}, true},
		"another organization's":           {map[string]string{clerkv1alpha1.LabelOrganizationID: "org_2", clerkv1alpha1.LabelInstance: "default"}, true},
		"an organization of no instance":   {map[string]string{clerkv1alpha1.LabelOrganizationID: "org_2"}, true},
		"a user's who has its instance":    {map[string]string{clerkv1alpha1.LabelUserID: "user_1", clerkv1alpha1.LabelInstance: "default"}, true},
		"labelled with another's instance": {map[string]string{clerkv1alpha1.LabelInstance: "staging"}, true},
	} {
		namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Labels: tc.labels}}
		NewWithT(t).Expect(isAnothers(namespace, o)).To(Equal(tc.want), name)
	}
}

func TestTellOfInstances(t *testing.T) {
	instance := func(name string) clerkv1alpha1.ClerkInstance {
		return clerkv1alpha1.ClerkInstance{ObjectMeta: metav1.ObjectMeta{Name: name}}
	}
	two := []clerkv1alpha1.ClerkInstance{instance("staging"), instance("default")}
	for name, tc := range map[string]struct {
		selector  *clerkv1alpha1.ClerkTenantClassSelector
		instances []clerkv1alpha1.ClerkInstance
		want      metav1.ConditionStatus
	}{
		"no instance":              {&clerkv1alpha1.ClerkTenantClassSelector{}, nil, metav1.ConditionTrue},
		"one instance":             {&clerkv1alpha1.ClerkTenantClassSelector{}, two[:1], metav1.ConditionTrue},
		"several":                  {&clerkv1alpha1.ClerkTenantClassSelector{}, two, metav1.ConditionFalse},
		"several, listed IDs":      {&clerkv1alpha1.ClerkTenantClassSelector{OrganizationIDs: []string{"org_1"}}, two, metav1.ConditionFalse},
		"several, one is named":    {&clerkv1alpha1.ClerkTenantClassSelector{InstanceNames: []string{"default"}}, two, metav1.ConditionTrue},
		"several, selects nothing": {nil, two, metav1.ConditionTrue},
	} {
		g, class := NewWithT(t), &clerkv1alpha1.ClerkTenantClass{}
		class.Spec.Selector = tc.selector
		tellOfInstances(class, tc.instances)
		condition := meta.FindStatusCondition(class.Status.Conditions, clerkv1alpha1.ConditionInstancesSpecified)
		g.Expect(condition.Status).To(Equal(tc.want), name)
		if tc.want == metav1.ConditionFalse {
			g.Expect(condition.Message).To(ContainSubstring("2 ClerkInstances (default, staging)"))
		}
	}
}

func TestFinish_tellsNothingThatWasDecidedOnACacheThatIsBehind(t *testing.T) {
	g, b := NewWithT(t), &base{} // without a client: it would have to write
	before := &clerkv1alpha1.ClerkOrganization{}
	after := before.DeepCopy()
	setReady(after, metav1.ConditionFalse, clerkv1alpha1.ReasonReconcileError, "")
	g.Expect(b.finish(t.Context(), before, after, ctrl.Result{}, fmt.Errorf("x: %w", errors.Join(errBehind)))).
		To(Equal(ctrl.Result{RequeueAfter: behindInterval, Priority: new(rolloutPriority)}))
}

func TestPlaces_whoWaitsIsLookedAtAgain(t *testing.T) {
	organization := func(change func(*clerkv1alpha1.ClerkOrganization)) *clerkv1alpha1.ClerkOrganization {
		o := &clerkv1alpha1.ClerkOrganization{}
		change(o)
		return o
	}
	unchanged := organization(func(*clerkv1alpha1.ClerkOrganization) {})
	tenantOf := organization(func(o *clerkv1alpha1.ClerkOrganization) { o.Status.TenantClass = "standard" })
	waiting := organization(func(o *clerkv1alpha1.ClerkOrganization) { o.Status.PendingTenantClass = "standard" })
	moved := organization(func(o *clerkv1alpha1.ClerkOrganization) { o.Status.TenantClass = "large" })
	suspended := organization(func(o *clerkv1alpha1.ClerkOrganization) {
		o.Annotations = map[string]string{clerkv1alpha1.AnnotationSuspend: "true"}
	})
	user := &clerkv1alpha1.ClerkUser{}
	user.Spec.Banned = new(false)
	banned := user.DeepCopy()
	banned.Spec.Banned = new(true)
	for name, tc := range map[string]struct {
		before, after client.Object
		left, arrived bool
	}{
		"nothing":                   {before: unchanged, after: unchanged},
		"it got a place":            {before: waiting, after: tenantOf, arrived: true},
		"it left its place":         {before: tenantOf, after: unchanged, left: true},
		"it left the queue":         {before: waiting, after: unchanged, left: true},
		"it came to wait":           {before: unchanged, after: waiting, arrived: true},
		"it moved to another class": {before: tenantOf, after: moved, left: true, arrived: true},
		"it waits on":               {before: waiting, after: waiting},
		"it can take none any more": {before: unchanged, after: suspended, left: true},
		"a user who can take none":  {before: user, after: banned, left: true},
	} {
		t.Run(name, func(t *testing.T) {
			g, e := NewWithT(t), event.UpdateEvent{ObjectOld: tc.before, ObjectNew: tc.after}
			g.Expect(leftPlace().Update(e)).To(Equal(tc.left))
			g.Expect(arrived().Update(e)).To(Equal(tc.arrived))
		})
	}
}

// A binding that a finalizer holds goes on giving access, and only its controller can let it go.
func TestContentOfBinding_changesWithWhatHoldsIt(t *testing.T) {
	g, binding := NewWithT(t), &rbacv1.RoleBinding{}
	held, deleted := binding.DeepCopy(), binding.DeepCopy()
	held.Finalizers = []string{"example.com/hold"}
	deleted.DeletionTimestamp = new(metav1.Now())
	g.Expect(contentOfBinding(held)).NotTo(Equal(contentOfBinding(binding)))
	g.Expect(contentOfBinding(deleted)).NotTo(Equal(contentOfBinding(binding)))
}
