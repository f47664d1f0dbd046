// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"testing"

	. "github.com/onsi/gomega"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	clerkv1alpha1 "github.com/clerk-operator/clerk-operator/api/v1alpha1"
)

func TestSuspension_ofOneTenantTakesAccessAndKeepsData(t *testing.T) {
	w := newWorld(t)
	o, namespace := w.tenant("suspended")
	u := w.memberOf(o, namespace)
	m := w.join(w.user(), o, "org:member")
	other, otherNamespace := w.tenant("unsuspended")
	stays := w.memberOf(other, otherNamespace)
	uid := get(w, namespaceObject(namespace)).UID

	w.annotate(w.organizationObject(o.ID), clerkv1alpha1.AnnotationSuspend, "true")
	w.Eventually(w.level(u.ID, namespace)).Should(Equal(none))
	w.Eventually(w.bindings(namespace)).Should(BeEmpty())
	w.Eventually(stored(w, w.organizationObject(o.ID))).Should(And(
		beReady(metav1.ConditionFalse, clerkv1alpha1.ReasonTenantSuspended),
		haveCondition(clerkv1alpha1.ConditionAccessReady, metav1.ConditionFalse, clerkv1alpha1.ReasonTenantSuspended)))
	w.Eventually(stored(w, w.membershipObject(m.ID))).Should(beReady(metav1.ConditionFalse, clerkv1alpha1.ReasonTenantSuspended))
	late := w.user()
	w.join(late, o, "org:admin")
	w.Consistently(w.level(late.ID, namespace)).Should(Equal(none), "nor does anybody get access who joins meanwhile")
	w.Expect(get(w, namespaceObject(namespace)).UID).To(Equal(uid))
	w.Expect(w.levelOf(stays.ID, otherNamespace)).To(Equal(admin))

	w.annotate(w.organizationObject(o.ID), clerkv1alpha1.AnnotationSuspend, "false")
	w.Eventually(w.level(u.ID, namespace)).Should(Equal(admin))
	w.Eventually(w.level(late.ID, namespace)).Should(Equal(admin))
	w.Eventually(stored(w, w.membershipObject(m.ID))).Should(beReady(metav1.ConditionTrue, clerkv1alpha1.ReasonBound))
}

func TestSuspension_ofAnInstanceIsOfAllItsTenants(t *testing.T) {
	w := newWorld(t)
	elsewhere, elsewhereNamespace := w.tenant("elsewhere")
	stays := w.memberOf(elsewhere, elsewhereNamespace)
	instance := w.ownInstance()
	o, namespace := w.tenant("one-of-all")
	u := w.memberOf(o, namespace)

	changeByHand(w, instance, func(i *clerkv1alpha1.ClerkInstance) { i.Spec.Suspend = new(true) })
	w.Eventually(w.level(u.ID, namespace)).Should(Equal(none))
	fresh := w.newOrganization("born-suspended")
	w.class([]string{fresh.ID})
	w.happen("organization.created", fresh.Data())
	for _, id := range []string{o.ID, fresh.ID} {
		w.Eventually(stored(w, w.organizationObject(id))).Should(beReady(metav1.ConditionFalse, clerkv1alpha1.ReasonTenantSuspended))
	}
	w.Consistently(stored(w, w.organizationObject(fresh.ID))).Should(HaveField("Status.Namespace.Name", BeEmpty()))
	w.Expect(w.levelOf(stays.ID, elsewhereNamespace)).To(Equal(admin))

	changeByHand(w, instance, func(i *clerkv1alpha1.ClerkInstance) { i.Spec.Suspend = nil })
	w.Eventually(w.level(u.ID, namespace)).Should(Equal(admin))
	w.provisioned(fresh.ID)
}
