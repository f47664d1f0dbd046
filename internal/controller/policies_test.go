// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"errors"
	"testing"

	. "github.com/onsi/gomega"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	rbacv1ac "k8s.io/client-go/applyconfigurations/rbac/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/event"

	clerkv1alpha1 "github.com/clerk-operator/clerk-operator/api/v1alpha1"
	"github.com/clerk-operator/clerk-operator/internal/policy"
	"github.com/clerk-operator/clerk-operator/internal/tenant"
)

// known are policies of which something is known.
type known struct{ state policy.State }

func (k *known) State() policy.State              { return k.state }
func (*known) Changes() <-chan event.GenericEvent { return nil }

func organizationOf(id string) *clerkv1alpha1.ClerkOrganization {
	o := &clerkv1alpha1.ClerkOrganization{}
	o.Spec.OrganizationID, o.Spec.InstanceName = id, clerkv1alpha1.DefaultInstanceName
	return o
}

func TestGate_bringsBackThoseWhoWereGivenNothing(t *testing.T) {
	g := NewWithT(t)
	policies := &known{}
	gate := newGate(policies, true)
	o, other := organizationOf("org_1"), organizationOf("org_2")
	waiting := gate.waiting(clerkv1alpha1.TenantsOrganizations)
	at := func(standing policy.Standing) error {
		policies.state = policy.State{Standing: standing}
		return gate.check(o)
	}

	g.Expect(at(policy.Enforced)).To(Succeed())
	g.Expect(waiting(t.Context(), nil)).To(BeEmpty())

	g.Expect(at(policy.Pending)).To(MatchError(errNotProbed))
	g.Expect(gate.check(other)).To(MatchError(errNotProbed))
	g.Expect(gate.waiting(clerkv1alpha1.TenantsUsers)(t.Context(), nil)).To(BeEmpty())
	g.Expect(waiting(t.Context(), nil)).To(ConsistOf(requestForOwner(o), requestForOwner(other)))
	g.Expect(waiting(t.Context(), nil)).To(BeEmpty())

	for _, standing := range []policy.Standing{policy.NotEnforced, policy.NotProven} {
		g.Expect(hasReason(at(standing), clerkv1alpha1.ReasonPoliciesNotEnforced)).To(BeTrue(), string(standing))
		g.Expect(waiting(t.Context(), nil)).To(ConsistOf(requestForOwner(o)))
		g.Expect(at(standing)).NotTo(Succeed())
		g.Expect(waiting(t.Context(), nil)).To(BeEmpty(), "only the message has changed")
	}
	g.Expect(at(policy.NotEnforced)).NotTo(Succeed())
	policies.state.Standing = policy.Enforced
	g.Expect(waiting(t.Context(), nil)).To(ConsistOf(requestForOwner(o)))

	// Two changes whose first one was not heard of.
	g.Expect(at(policy.NotEnforced)).NotTo(Succeed())
	policies.state.Standing = policy.Enforced
	g.Expect(waiting(t.Context(), nil)).To(ConsistOf(requestForOwner(o)))
	g.Expect(at(policy.Enforced)).To(Succeed())
	g.Expect(waiting(t.Context(), nil)).To(BeEmpty())

	gate.required = false
	g.Expect(at(policy.NotEnforced)).To(Succeed())
}

func TestGate_tellsInACondition(t *testing.T) {
	for name, tc := range map[string]struct {
		standing policy.Standing
		required bool
		status   metav1.ConditionStatus
		reason   string
		says     string
	}{
		"in force":             {policy.Enforced, true, metav1.ConditionTrue, clerkv1alpha1.ReasonEnforced, "found"},
		"not in force":         {policy.NotEnforced, true, metav1.ConditionFalse, clerkv1alpha1.ReasonNotEnforced, "found; until every policy holds"},
		"no answer":            {policy.NotProven, true, metav1.ConditionUnknown, clerkv1alpha1.ReasonNotProven, "found"},
		"not probed yet":       {policy.Pending, true, metav1.ConditionTrue, "Earlier", "said by another"},
		"not in force, no bar": {policy.NotEnforced, false, metav1.ConditionFalse, clerkv1alpha1.ReasonNotEnforced, "--require-policies=false"},
		"in force, no bar":     {policy.Enforced, false, metav1.ConditionTrue, clerkv1alpha1.ReasonEnforced, "--require-policies=false"},
	} {
		t.Run(name, func(t *testing.T) {
			g, class := NewWithT(t), &clerkv1alpha1.ClerkTenantClass{}
			setCondition(class, clerkv1alpha1.ConditionPoliciesEnforced, metav1.ConditionTrue, "Earlier", "said by another")
			newGate(&known{policy.State{Standing: tc.standing, Message: "found"}}, tc.required).tell(class)
			condition := meta.FindStatusCondition(class.Status.Conditions, clerkv1alpha1.ConditionPoliciesEnforced)
			g.Expect([]any{condition.Status, condition.Reason}).To(Equal([]any{tc.status, tc.reason}))
			g.Expect(condition.Message).To(ContainSubstring(tc.says))
		})
	}
}

func TestFinish_writesNothingBeforeThePoliciesAreProbed(t *testing.T) {
	other := errors.New("the API server is away")
	for name, tc := range map[string]struct {
		err, want error
	}{
		"nothing else":           {errors.Join(nil, errNotProbed, errors.Join(errNotProbed)), nil},
		"access was not revoked": {errors.Join(errNotProbed, other), other},
		"deeper":                 {errors.Join(errors.Join(errNotProbed, nil), errors.Join(other)), other},
		"a stalled part":         {errors.Join(errNotProbed, stalled("Reason", 0, "")), nil},
	} {
		t.Run(name, func(t *testing.T) {
			g, b := NewWithT(t), &base{} // without a client: it would have to write
			before := organizationOf("org_1")
			after := before.DeepCopy()
			setReady(after, metav1.ConditionFalse, clerkv1alpha1.ReasonReconcileError, "")
			result, err := b.finish(t.Context(), before, after, ctrl.Result{}, tc.err)
			g.Expect(result).To(Equal(ctrl.Result{}))
			if tc.want == nil {
				g.Expect(err).NotTo(HaveOccurred())
			} else {
				g.Expect(err).To(MatchError(tc.want))
			}
		})
	}
}

func TestGives(t *testing.T) {
	binding := func(role string, users ...string) *rbacv1ac.RoleBindingApplyConfiguration {
		b := rbacv1ac.RoleBinding("clerk-x", "ns").WithRoleRef(rbacv1ac.RoleRef().WithKind("ClusterRole").WithName(role))
		for _, user := range users {
			b.WithSubjects(rbacv1ac.Subject().WithKind(rbacv1.UserKind).WithName(user))
		}
		return b
	}
	for name, tc := range map[string]struct {
		existing, desired *rbacv1ac.RoleBindingApplyConfiguration
		want              bool
	}{
		"a binding that is missing":             {nil, binding("edit", "a"), true},
		"one more user":                         {binding("edit", "a"), binding("edit", "a", "b"), true},
		"another user":                          {binding("edit", "a"), binding("edit", "b"), true},
		"another role under the name":           {binding("view", "a"), binding("edit", "a"), true},
		"the same":                              {binding("edit", "a", "b"), binding("edit", "b", "a"), false},
		"one user less":                         {binding("edit", "a", "b"), binding("edit", "a"), false},
		"a binding that is missing, of no user": {nil, binding("edit"), false},
		"nothing":                               {binding("edit", "a"), nil, false},
	} {
		t.Run(name, func(t *testing.T) {
			g := NewWithT(t)
			existing := map[string]*rbacv1.RoleBinding{}
			if tc.existing != nil {
				b := &rbacv1.RoleBinding{}
				g.Expect(convert(tc.existing, b)).To(Succeed())
				existing[b.Name] = b
			}
			var desired []*rbacv1ac.RoleBindingApplyConfiguration
			if tc.desired != nil {
				desired = append(desired, tc.desired)
			}
			g.Expect(gives(existing, desired)).To(Equal(tc.want))
		})
	}
}

// A leader begins without knowing the policies: what it finds to be changed waits, and what it finds to be taken away does not.
func TestWithhold_takesFromThoseWhoAreGrantedNothing(t *testing.T) {
	g := NewWithT(t)
	o := organizationOf("org_1")
	bound := &rbacv1.RoleBinding{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "clerk-view", Labels: tenant.Labels(o)}}
	bound.RoleRef = rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "view"}
	for _, user := range []string{"user_promoted", "user_banned"} {
		bound.Subjects = append(bound.Subjects, rbacv1.Subject{APIGroup: rbacv1.GroupName, Kind: rbacv1.UserKind, Name: "clerk:" + user})
	}
	granted := tenant.Grants{"edit": {"user_promoted"}}
	for name, tc := range map[string]struct {
		reason error
		want   string
	}{
		"before the policies are probed": {errNotProbed, "change RoleBinding ns/clerk-view (1 subjects)"},
		"while they are not in force":    {stalled("Reason", 0, ""), "delete RoleBinding ns/clerk-view"},
	} {
		scheme := runtime.NewScheme()
		g.Expect(rbacv1.AddToScheme(scheme)).To(Succeed())
		planner := newPlanner(fake.NewClientBuilder().WithScheme(scheme).WithObjects(bound).Build(), nil)
		tenants := &tenancy{base: base{client: planner}}
		g.Expect(tenants.withhold(t.Context(), o, "ns", granted, tc.reason)).To(Succeed(), name)
		g.Expect(planner.plan().Changes).To(Equal([]string{tc.want}), name)
	}
}
