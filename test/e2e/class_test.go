// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"testing"

	. "github.com/onsi/gomega"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	clerkv1alpha1 "github.com/clerk-operator/clerk-operator/api/v1alpha1"
)

func TestTenantClass_comesAndGoes(t *testing.T) {
	w := newWorld(t)
	o := w.newOrganization("classless")
	u := w.user()
	m := w.join(u, o, "org:member")
	w.happen("organization.created", o.Data())
	withoutClass := And(
		beReady(metav1.ConditionFalse, clerkv1alpha1.ReasonNoTenantClass),
		haveCondition(clerkv1alpha1.ConditionNamespaceReady, metav1.ConditionFalse, clerkv1alpha1.ReasonNoTenantClass),
		haveCondition(clerkv1alpha1.ConditionAccessReady, metav1.ConditionFalse, clerkv1alpha1.ReasonNoTenantClass),
		HaveField("Status.TenantClass", BeEmpty()),
	)
	w.Eventually(stored(w, w.organizationObject(o.ID))).Should(withoutClass)
	w.Eventually(stored(w, w.membershipObject(m.ID))).Should(beReady(metav1.ConditionFalse, clerkv1alpha1.ReasonNoTenantClass))
	w.Expect(get(w, w.organizationObject(o.ID)).Status.Namespace.Name).To(BeEmpty())
	w.Expect(w.elsewhere(u.ID, "")).To(BeEmpty())

	class := w.class([]string{o.ID})
	namespace := w.provisioned(o.ID)
	uid := get(w, namespaceObject(namespace)).UID
	w.Eventually(w.level(u.ID, namespace)).Should(Equal(edit))
	w.Eventually(stored(w, class)).Should(beReady(metav1.ConditionTrue, clerkv1alpha1.ReasonAccepted))

	w.Expect(suite.client.Delete(t.Context(), class)).To(Succeed())
	w.Eventually(w.level(u.ID, namespace)).Should(Equal(none))
	w.Eventually(stored(w, w.organizationObject(o.ID))).Should(withoutClass)
	w.Consistently(stored(w, namespaceObject(namespace))).Should(HaveField("DeletionTimestamp", BeNil()))

	w.class([]string{o.ID})
	w.Eventually(w.level(u.ID, namespace)).Should(Equal(edit))
	w.Expect(w.provisioned(o.ID)).To(Equal(namespace))
	w.Expect(get(w, namespaceObject(namespace)).UID).To(Equal(uid))
}

func TestTenantClass_theHighestPriorityWins(t *testing.T) {
	w := newWorld(t)
	o := w.newOrganization("priority")
	u := w.user()
	low := w.class([]string{o.ID}, func(class *clerkv1alpha1.ClerkTenantClass) {
		class.Spec.Namespace.Prefix = "low-"
		class.Spec.Access = []clerkv1alpha1.ClerkTenantClassAccess{{Role: "member", ClusterRoles: []string{"view"}}}
	})
	high := w.class([]string{o.ID}, func(class *clerkv1alpha1.ClerkTenantClass) {
		class.Spec.Namespace.Prefix = "high-"
		class.Spec.Priority = new(int32(10))
	})
	// A membership's event is enough for a tenant, so that the classes have to be there before.
	w.Eventually(stored(w, high)).Should(beReady(metav1.ConditionTrue, clerkv1alpha1.ReasonAccepted))
	w.join(u, o, "org:member")
	w.happen("organization.created", o.Data())

	namespace := w.provisioned(o.ID)
	w.Expect(namespace).To(HavePrefix("high-"))
	w.Expect(get(w, w.organizationObject(o.ID)).Status.TenantClass).To(Equal(high.Name))
	w.Eventually(w.level(u.ID, namespace)).Should(Equal(edit))

	w.Expect(suite.client.Delete(t.Context(), high)).To(Succeed())
	w.Eventually(w.level(u.ID, namespace)).Should(Equal(view))
	w.Eventually(stored(w, w.organizationObject(o.ID))).Should(And(
		HaveField("Status.TenantClass", low.Name), HaveField("Status.Namespace.Name", namespace),
		beReady(metav1.ConditionTrue, clerkv1alpha1.ReasonProvisioned),
	))
}

func TestTenantClass_changesReachItsTenants(t *testing.T) {
	w := newWorld(t)
	o, namespace := w.tenant("change")
	u := w.user()
	w.join(u, o, "org:member")
	w.Eventually(w.level(u.ID, namespace)).Should(Equal(edit))

	class := get(w, &clerkv1alpha1.ClerkTenantClass{
		ObjectMeta: metav1.ObjectMeta{Name: get(w, w.organizationObject(o.ID)).Status.TenantClass},
	})
	class.Spec.Access = []clerkv1alpha1.ClerkTenantClassAccess{{Role: "org:member", ClusterRoles: []string{"view"}}}
	class.Spec.Namespace.Labels = map[string]clerkv1alpha1.LabelValue{"team": "a"}
	class.Spec.Namespace.PodSecurity = clerkv1alpha1.PodSecurityBaseline
	w.Expect(suite.client.Update(t.Context(), class)).To(Succeed())
	w.Eventually(w.level(u.ID, namespace)).Should(Equal(view))
	w.Eventually(stored(w, namespaceObject(namespace))).Should(HaveField("Labels", And(
		HaveKeyWithValue("team", "a"), HaveKeyWithValue("pod-security.kubernetes.io/enforce", "baseline"),
	)))
}

func TestTenantClass_cannotBindWhatTheOperatorMayNotBind(t *testing.T) {
	for _, tc := range []struct{ about, clusterRole string }{
		{"a ClusterRole with more rights than the operator", "cluster-admin"},
		{"a ClusterRole that does not exist", "tenant-developer"},
		// RBAC would let the operator bind these two.
		{"a ClusterRole whose rights the operator has", "clerk-operator-viewer"},
		{"the operator's own ClusterRole", "clerk-operator-manager-role"},
	} {
		t.Run(tc.about, func(t *testing.T) {
			w := newWorld(t)
			o := w.newOrganization("unbindable")
			ada, grace := w.user(), w.user()
			w.join(ada, o, "org:admin")
			w.join(grace, o, "org:member")
			class := w.class([]string{o.ID}, func(class *clerkv1alpha1.ClerkTenantClass) {
				class.Spec.Access[0].ClusterRoles = []string{tc.clusterRole, "view"}
			})
			w.happen("organization.created", o.Data())

			w.Eventually(stored(w, class)).Should(beReady(metav1.ConditionFalse, clerkv1alpha1.ReasonRoleNotBindable))
			w.Eventually(stored(w, w.organizationObject(o.ID))).Should(And(
				beReady(metav1.ConditionFalse, clerkv1alpha1.ReasonRoleNotBindable),
				haveCondition(clerkv1alpha1.ConditionAccessReady, metav1.ConditionFalse, clerkv1alpha1.ReasonRoleNotBindable),
				haveCondition(clerkv1alpha1.ConditionNamespaceReady, metav1.ConditionTrue, clerkv1alpha1.ReasonProvisioned),
			))
			namespace := get(w, w.organizationObject(o.ID)).Status.Namespace.Name
			w.Eventually(w.bindings(namespace)).Should(Equal(map[string][]string{
				"edit": {"clerk:" + grace.ID}, "view": {"clerk:" + ada.ID},
			}))
			w.Eventually(w.level(ada.ID, namespace)).Should(Equal(view))
			w.Consistently(w.level(ada.ID, namespace)).Should(Equal(view))

			class = get(w, class)
			before := class.DeepCopy()
			class.Spec.Access[0].ClusterRoles = []string{"admin"}
			w.Expect(suite.client.Patch(t.Context(), class, client.MergeFrom(before))).To(Succeed())
			w.provisioned(o.ID)
			w.Eventually(w.level(ada.ID, namespace)).Should(Equal(admin))
			w.Eventually(stored(w, class)).Should(beReady(metav1.ConditionTrue, clerkv1alpha1.ReasonAccepted))
		})
	}
}
