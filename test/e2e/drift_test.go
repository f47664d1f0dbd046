// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"maps"
	"testing"

	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	clerkv1alpha1 "github.com/clerk-operator/clerk-operator/api/v1alpha1"
	"github.com/clerk-operator/clerk-operator/internal/clerk"
)

func bindingObject(namespace, name string) *rbacv1.RoleBinding {
	return &rbacv1.RoleBinding{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}}
}

// changeByHand merges a change into an object as an administrator would.
func changeByHand[T client.Object](w *world, o T, change func(T)) {
	w.t.Helper()
	o = get(w, o)
	before := o.DeepCopyObject().(T)
	change(o)
	w.Expect(suite.client.Patch(w.t.Context(), o, client.MergeFrom(before))).To(Succeed())
}

func TestDrift_ofBindingsIsRepaired(t *testing.T) {
	w := newWorld(t)
	o, namespace := w.tenant("bindings")
	u := w.memberOf(o, namespace)
	want := map[string][]string{"admin": {"clerk:" + u.ID}}
	binding := bindingObject(namespace, "clerk-admin")

	w.Expect(suite.client.Delete(t.Context(), binding)).To(Succeed())
	w.Eventually(w.bindings(namespace)).Should(Equal(want), "a binding was deleted")

	changeByHand(w, binding, func(b *rbacv1.RoleBinding) {
		b.Subjects = append(b.Subjects, rbacv1.Subject{Kind: rbacv1.UserKind, APIGroup: rbacv1.GroupName, Name: "mallory"})
	})
	w.Eventually(w.bindings(namespace)).Should(Equal(want), "a subject was added")

	changeByHand(w, binding, func(b *rbacv1.RoleBinding) { b.Subjects = nil })
	w.Eventually(w.bindings(namespace)).Should(Equal(want), "the subjects were removed")

	labels := get(w, binding).Labels
	changeByHand(w, binding, func(b *rbacv1.RoleBinding) { b.Labels = nil })
	w.Eventually(stored(w, binding)).Should(HaveField("Labels", labels), "the labels were removed")
}

func TestDrift_ofBindingsByTheTenantIsRepaired(t *testing.T) {
	w := newWorld(t)
	o, namespace := w.tenant("usurper")
	usurper := bindingObject(namespace, "clerk-view")
	usurper.RoleRef = rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "edit"}
	usurper.Subjects = []rbacv1.Subject{{Kind: rbacv1.UserKind, APIGroup: rbacv1.GroupName, Name: "mallory"}}
	w.Expect(suite.client.Create(t.Context(), usurper)).To(Succeed())
	own := bindingObject(namespace, "team")
	own.RoleRef = usurper.RoleRef
	own.Subjects = []rbacv1.Subject{{Kind: rbacv1.UserKind, APIGroup: rbacv1.GroupName, Name: "contractor"}}
	w.Expect(suite.client.Create(t.Context(), own)).To(Succeed())

	u := w.user()
	w.join(u, o, "org:guest")
	w.Eventually(w.bindings(namespace)).Should(Equal(map[string][]string{"view": {"clerk:" + u.ID}, "edit": {"contractor"}}))
}

func TestDrift_ofTheNamespaceIsRepaired(t *testing.T) {
	w := newWorld(t)
	o, name := w.tenant("labels")
	u := w.memberOf(o, name)
	namespace := get(w, namespaceObject(name))

	changeByHand(w, namespace, func(n *corev1.Namespace) { n.Labels = map[string]string{"mine": "stays"} })
	want := map[string]string{"mine": "stays"}
	maps.Copy(want, namespace.Labels)
	w.Eventually(stored(w, namespace)).Should(HaveField("Labels", want))

	changeByHand(w, namespace, func(n *corev1.Namespace) { n.Labels["pod-security.kubernetes.io/enforce"] = "privileged" })
	w.Eventually(stored(w, namespace)).Should(And(HaveField("Labels", want), HaveField("Annotations", namespace.Annotations)))

	// Without its owner's annotation it is outside of the operator's fence, until a cluster administrator puts it back.
	changeByHand(w, namespace, func(n *corev1.Namespace) { delete(n.Annotations, clerkv1alpha1.AnnotationOwnerUID) })
	w.Eventually(stored(w, w.organizationObject(o.ID))).Should(beReady(metav1.ConditionFalse, clerkv1alpha1.ReasonNamespaceRefused))
	changeByHand(w, namespace, func(n *corev1.Namespace) {
		metav1.SetMetaDataAnnotation(&n.ObjectMeta, clerkv1alpha1.AnnotationOwnerUID, string(get(w, w.organizationObject(o.ID)).UID))
	})
	w.provisioned(o.ID)

	w.kubectl("delete", "namespace", name, "--timeout=60s")
	w.Eventually(stored(w, namespace)).Should(And(HaveField("Labels", namespace.Labels), HaveField("UID", Not(Equal(namespace.UID)))))
	w.Expect(w.provisioned(o.ID)).To(Equal(name))
	w.Eventually(w.level(u.ID, name)).Should(Equal(admin))
	w.Expect(w.secretOf(name).Data).To(HaveKeyWithValue("CLERK_ORGANIZATION_ID", []byte(o.ID)))
	w.Eventually(stored(w, w.organizationObject(o.ID))).Should(HaveField("Status.Namespace.UID", get(w, namespace).UID))
}

func TestDrift_ofAMirroredObjectLosesItsFinalizerOnlyForAMoment(t *testing.T) {
	w := newWorld(t)
	u := w.user()
	w.kubectl("patch", "clerkuser", clerk.ObjectName(w.instanceName, u.ID), "--type=merge", `-p={"metadata":{"finalizers":null}}`)
	w.Eventually(stored(w, w.userObject(u.ID))).Should(HaveField("Finalizers", ConsistOf(clerkv1alpha1.FinalizerUser)))
}

// The labels of what an administrator makes in a tenant's namespace can be any: it is the namespace that says whose it is.
func TestDrift_ofABindingWithoutItsInstance(t *testing.T) {
	w := newWorld(t)
	w.ownInstance()
	o, namespace := w.tenant("unlabelled")
	u, grace := w.memberOf(o, namespace), w.user()
	for _, labels := range []map[string]string{
		{clerkv1alpha1.LabelManagedBy: clerkv1alpha1.ManagedBy, clerkv1alpha1.LabelOrganizationID: o.ID},
		{clerkv1alpha1.LabelManagedBy: clerkv1alpha1.ManagedBy, clerkv1alpha1.LabelOrganizationID: o.ID, clerkv1alpha1.LabelInstance: "default"},
	} {
		binding := bindingOf(namespace, "clerk-extra", "admin", userSubject("clerk:"+grace.ID))
		binding.Labels = labels
		w.create(binding)
		w.Eventually(w.gone(binding)).Should(BeTrue())
	}
	w.Eventually(w.bindings(namespace)).Should(Equal(map[string][]string{"admin": {"clerk:" + u.ID}}))
}
