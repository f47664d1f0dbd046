// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"fmt"
	"testing"

	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	clerkv1alpha1 "github.com/clerk-operator/clerk-operator/api/v1alpha1"
	"github.com/clerk-operator/clerk-operator/internal/tenant"
	"github.com/clerk-operator/clerk-operator/test/payload"
)

// ofPlan makes a class for the organizations of one plan, whose members hold one ClusterRole.
func ofPlan(plan, clusterRole string, change ...func(*clerkv1alpha1.ClerkTenantClass)) func(*clerkv1alpha1.ClerkTenantClass) {
	return func(class *clerkv1alpha1.ClerkTenantClass) {
		class.Spec.Selector.Expression = fmt.Sprintf("organization.publicMetadata.?plan.orValue('') == '%s'", plan)
		class.Spec.Access = []clerkv1alpha1.ClerkTenantClassAccess{{Role: "org:member", ClusterRoles: []string{clusterRole}}}
		class.Spec.Namespace.Labels = map[string]clerkv1alpha1.LabelValue{"plan": clerkv1alpha1.LabelValue(plan)}
		for _, f := range change {
			f(class)
		}
	}
}

// onPlan changes an organization's plan in Clerk.
func (w *world) onPlan(o *payload.Organization, plan string) {
	w.t.Helper()
	o.PublicMetadata, o.UpdatedAt = map[string]any{"plan": plan}, w.tick()
	w.happen("organization.updated", o.Data())
}

// tenantOf waits until an organization is as a class wants it.
func (w *world) tenantOf(o payload.Organization, class *clerkv1alpha1.ClerkTenantClass) {
	w.t.Helper()
	w.Eventually(stored(w, w.organizationObject(o.ID))).Should(And(
		beReady(metav1.ConditionTrue, clerkv1alpha1.ReasonProvisioned), HaveField("Status.TenantClass", class.Name),
	))
}

func TestTenantClass_canBeChangedWithoutAGap(t *testing.T) {
	w := newWorld(t)
	o := w.newOrganization("moving")
	ids := []string{o.ID}
	free := w.class(ids, ofPlan("free", "view", limited("")))
	pro := w.class(ids, ofPlan("pro", "edit", func(class *clerkv1alpha1.ClerkTenantClass) {
		class.Spec.Namespace.Prefix, class.Spec.MaxTenants = "pro-", new(int32(0)) // who has a namespace needs no place
		class.Spec.NetworkIsolation = clerkv1alpha1.NetworkOpen
	}))
	o.PublicMetadata = map[string]any{"plan": "free"}
	u := w.user()
	w.join(u, o, "org:member")
	w.happen("organization.created", o.Data())
	w.tenantOf(o, free)
	name := w.provisioned(o.ID)
	w.Eventually(w.level(u.ID, name)).Should(Equal(view))
	data := &corev1.ConfigMap{ObjectMeta: metaOf(name, "data", nil), Data: map[string]string{"key": "value"}}
	w.Expect(suite.client.Create(t.Context(), data)).To(Succeed())
	before := get(w, namespaceObject(name))
	access := w.watchAccess(map[string]string{name: clerkv1alpha1.DefaultUsernamePrefix + u.ID})
	kept := func() {
		t.Helper()
		w.Expect(get(w, namespaceObject(name)).UID).To(Equal(before.UID))
		w.Expect(get(w, data).ResourceVersion).To(Equal(data.ResourceVersion))
		w.Expect(w.namespacesOf(ids)()).To(HaveLen(1))
	}

	for _, move := range []struct {
		plan, level, binding string
		class                *clerkv1alpha1.ClerkTenantClass
		policies             map[string]int
	}{
		{"pro", edit, "[edit]", pro, map[string]int{}},
		{"free", view, "[view]", free, map[string]int{tenant.IsolationName: 1, "clerk-web": 1}},
		{"pro", edit, "[edit]", pro, map[string]int{}},
	} {
		w.onPlan(&o, move.plan)
		w.tenantOf(o, move.class)
		w.Eventually(w.level(u.ID, name)).Should(Equal(move.level))
		w.Eventually(access.bound).Should(Equal(map[string]int{move.binding: 1}))
		w.Expect(access.gapsSoFar()).To(BeEmpty())
		w.Eventually(w.policies(map[string]string{name: ""})).Should(Equal(move.policies))
		w.Expect(get(w, namespaceObject(name)).Labels).To(HaveKeyWithValue("plan", move.plan))
		kept()
	}

	w.onPlan(&o, "none")
	w.Eventually(stored(w, w.organizationObject(o.ID))).Should(beReady(metav1.ConditionFalse, clerkv1alpha1.ReasonNoTenantClass))
	w.Eventually(w.level(u.ID, name)).Should(Equal(none))
	w.Eventually(access.gapsSoFar).ShouldNot(BeEmpty(), "a gap is noticed")
	w.Consistently(w.level(u.ID, name)).Should(Equal(none))
	kept()

	// Who comes back is a tenant still, whatever places there are.
	w.onPlan(&o, "pro")
	w.tenantOf(o, pro)
	w.Eventually(w.level(u.ID, name)).Should(Equal(edit))
	kept()
}

// Nobody has access by a class whose limits cannot be put in place, nor by the one that the organization has left.
func TestTenantClass_thatCannotLimitItsTenantGivesNoAccess(t *testing.T) {
	w := newWorld(t)
	o := w.newOrganization("refused")
	ids := []string{o.ID}
	free := w.class(ids, ofPlan("free", "view", limited("")))
	broken := w.class(ids, ofPlan("pro", "edit", limited(""), func(class *clerkv1alpha1.ClerkTenantClass) {
		class.Spec.NetworkPolicies[0].Spec = &networkingv1.NetworkPolicySpec{
			Ingress: []networkingv1.NetworkPolicyIngressRule{{
				From: []networkingv1.NetworkPolicyPeer{{IPBlock: &networkingv1.IPBlock{CIDR: "everywhere"}}},
			}},
		}
	}))
	o.PublicMetadata = map[string]any{"plan": "free"}
	u := w.user()
	w.join(u, o, "org:member")
	w.happen("organization.created", o.Data())
	w.tenantOf(o, free)
	name := w.provisioned(o.ID)
	w.Eventually(w.level(u.ID, name)).Should(Equal(view))

	w.onPlan(&o, "pro")
	w.Eventually(stored(w, w.organizationObject(o.ID))).Should(And(
		beReady(metav1.ConditionFalse, clerkv1alpha1.ReasonGuardrailRefused), HaveField("Status.TenantClass", broken.Name),
	))
	w.Eventually(w.level(u.ID, name)).Should(Equal(none))
	w.Consistently(w.level(u.ID, name)).Should(Equal(none))
	w.Expect(w.policies(map[string]string{name: ""})()).To(Equal(map[string]int{tenant.IsolationName: 1, "clerk-web": 1}))

	changeByHand(w, broken, func(class *clerkv1alpha1.ClerkTenantClass) {
		class.Spec.NetworkPolicies[0].Spec.Ingress[0].From[0].IPBlock.CIDR = "10.0.0.0/8"
	})
	w.tenantOf(o, broken)
	w.Eventually(w.level(u.ID, name)).Should(Equal(edit))
}
