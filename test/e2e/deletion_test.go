// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"testing"
	"time"

	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	clerkv1alpha1 "github.com/clerk-operator/clerk-operator/api/v1alpha1"
	"github.com/clerk-operator/clerk-operator/internal/clerk"
	"github.com/clerk-operator/clerk-operator/test/payload"
)

// memberOf makes somebody an administrator of an organization who has access.
func (w *world) memberOf(o payload.Organization, namespace string) payload.User {
	w.t.Helper()
	u := w.user()
	w.join(u, o, "org:admin")
	w.Eventually(w.level(u.ID, namespace)).Should(Equal(admin))
	return u
}

func TestDeletion_retainsWhatTheClassRetains(t *testing.T) {
	w := newWorld(t)
	o, namespace := w.tenant("retain", func(class *clerkv1alpha1.ClerkTenantClass) {
		class.Spec.Deletion.Policy = clerkv1alpha1.DeletionRetain
	})
	u := w.memberOf(o, namespace)
	before := get(w, namespaceObject(namespace))

	w.happen("organization.deleted", payload.Deleted("organization", o.ID))
	w.Eventually(w.gone(w.organizationObject(o.ID))).Should(BeTrue())
	w.Eventually(w.level(u.ID, namespace)).Should(Equal(none))
	w.Expect(w.bindings(namespace)()).To(BeEmpty())
	w.Consistently(stored(w, namespaceObject(namespace))).Should(And(
		HaveField("UID", before.UID), HaveField("DeletionTimestamp", BeNil()),
	))
	w.Eventually(w.reasonsTold(o.ID)).Should(ContainElement("NamespaceRetained"))
}

func TestDeletion_waitsForTheGraceAndTakesAccessAtOnce(t *testing.T) {
	w := newWorld(t)
	o, namespace := w.tenant("grace", func(class *clerkv1alpha1.ClerkTenantClass) {
		class.Spec.Deletion.GracePeriod = &metav1.Duration{Duration: 72 * time.Hour}
	})
	u := w.memberOf(o, namespace)

	w.happen("organization.deleted", payload.Deleted("organization", o.ID))
	w.Eventually(w.level(u.ID, namespace)).Should(Equal(none))
	w.Eventually(stored(w, w.organizationObject(o.ID))).Should(And(
		HaveField("DeletionTimestamp", Not(BeNil())),
		beReady(metav1.ConditionFalse, clerkv1alpha1.ReasonDeleting),
		haveCondition(clerkv1alpha1.ConditionAccessReady, metav1.ConditionFalse, clerkv1alpha1.ReasonDeleting),
	))
	w.Consistently(stored(w, namespaceObject(namespace))).Should(HaveField("DeletionTimestamp", BeNil()))
	w.Expect(w.kubectl("get", "clerkorganization", clerk.ObjectName(w.instanceName, o.ID), "-o", "jsonpath={.status.conditions[*].message}")).
		To(ContainSubstring("unless the annotation clerk-operator.dev/retain is set to true"))

	w.kubectl("annotate", "clerkorganization", clerk.ObjectName(w.instanceName, o.ID), clerkv1alpha1.AnnotationRetain+"=true")
	w.Eventually(w.gone(w.organizationObject(o.ID))).Should(BeTrue())
	w.Consistently(stored(w, namespaceObject(namespace))).Should(HaveField("DeletionTimestamp", BeNil()))
	w.Eventually(w.level(u.ID, namespace)).Should(Equal(none))
}

func TestDeletion_comesAfterTheGrace(t *testing.T) {
	w := newWorld(t)
	o, namespace := w.tenant("short", func(class *clerkv1alpha1.ClerkTenantClass) {
		class.Spec.Deletion.GracePeriod = &metav1.Duration{Duration: 3 * time.Second}
	})
	w.happen("organization.deleted", payload.Deleted("organization", o.ID))
	w.Eventually(stored(w, w.organizationObject(o.ID))).Should(beReady(metav1.ConditionFalse, clerkv1alpha1.ReasonDeleting))
	deleted := get(w, w.organizationObject(o.ID)).DeletionTimestamp
	w.Eventually(stored(w, namespaceObject(namespace))).Should(HaveField("DeletionTimestamp", Not(BeNil())))
	w.Expect(get(w, namespaceObject(namespace)).DeletionTimestamp.Sub(deleted.Time)).To(BeNumerically(">=", 2*time.Second))
	w.Eventually(w.gone(namespaceObject(namespace))).Should(BeTrue())
	w.Eventually(w.gone(w.organizationObject(o.ID))).Should(BeTrue())
}

func TestDeletion_byHandTakesAccess(t *testing.T) {
	w := newWorld(t)
	o, namespace := w.tenant("by-hand")
	u, other := w.memberOf(o, namespace), w.memberOf(o, namespace)

	w.kubectl("delete", "clerkuser", clerk.ObjectName(w.instanceName, u.ID), "--timeout=60s")
	w.Eventually(w.level(u.ID, namespace)).Should(Equal(none), "an object that is gone holds nothing")
	w.Expect(w.levelOf(other.ID, namespace)).To(Equal(admin))
	w.happen("user.updated", u.Data())
	w.Eventually(stored(w, w.userObject(u.ID))).Should(beReady(metav1.ConditionTrue, clerkv1alpha1.ReasonActive))

}

// Only Clerk's word deletes the data of an organization, however long the grace period would be: the object goes at once, and
// its next event finds the namespace.
func TestDeletion_byHandKeepsTheData(t *testing.T) {
	for _, grace := range []time.Duration{0, 720 * time.Hour} {
		w := newWorld(t)
		o, namespace := w.tenant("by-hand", func(class *clerkv1alpha1.ClerkTenantClass) {
			class.Spec.Deletion.GracePeriod = &metav1.Duration{Duration: grace}
		})
		u := w.memberOf(o, namespace)
		before := get(w, namespaceObject(namespace))
		precious := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "precious"}}
		w.create(precious)

		w.kubectl("delete", "clerkorganization", clerk.ObjectName(w.instanceName, o.ID), "--timeout=60s")
		w.Eventually(w.level(u.ID, namespace)).Should(Equal(none))
		w.Eventually(w.reasonsTold(o.ID)).Should(ContainElement("NamespaceRetained"))
		w.Consistently(stored(w, namespaceObject(namespace))).Should(And(
			HaveField("DeletionTimestamp", BeNil()), HaveField("Labels", before.Labels)))

		o.Name, o.UpdatedAt = "Acme again", w.tick()
		w.happen("organization.updated", o.Data())
		w.Expect(w.provisioned(o.ID)).To(Equal(namespace))
		w.Eventually(w.level(u.ID, namespace)).Should(Equal(admin))
		w.Expect(get(w, precious).UID).To(Equal(precious.UID))
	}
}

// The grace period counts from Clerk's word, not from a deletion that began long before.
func TestDeletion_theGraceBeginsWithClerksWord(t *testing.T) {
	w := newWorld(t)
	o, namespace := w.tenant("word", func(class *clerkv1alpha1.ClerkTenantClass) {
		class.Spec.Deletion.GracePeriod = &metav1.Duration{Duration: 4 * time.Second}
	})
	restart := w.withoutManager()
	w.kubectl("delete", "clerkorganization", clerk.ObjectName(w.instanceName, o.ID), "--wait=false")
	deleted := get(w, w.organizationObject(o.ID)).DeletionTimestamp
	w.Eventually(func() time.Duration { return time.Since(deleted.Time) }).Should(BeNumerically(">", 4*time.Second))
	tombstone := &clerkv1alpha1.ClerkTombstone{ObjectMeta: metav1.ObjectMeta{Name: clerk.ObjectName(w.instanceName, o.ID)}}
	tombstone.Spec = clerkv1alpha1.ClerkTombstoneSpec{
		InstanceName: w.instanceName, ID: o.ID, DeletedAt: clerkv1alpha1.NewTimestamp(w.now),
	}
	w.Expect(suite.client.Create(t.Context(), tombstone)).To(Succeed())
	restart()

	w.Eventually(stored(w, namespaceObject(namespace))).Should(HaveField("DeletionTimestamp", Not(BeNil())))
	w.Expect(get(w, namespaceObject(namespace)).DeletionTimestamp.Sub(tombstone.CreationTimestamp.Time)).
		To(BeNumerically(">=", 4*time.Second))
	w.Eventually(w.gone(w.organizationObject(o.ID))).Should(BeTrue())
}

func TestDeletion_waitsForWhatOthersHold(t *testing.T) {
	w := newWorld(t)
	o, namespace := w.tenant("held")
	u := w.memberOf(o, namespace)
	holding := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{
		Namespace: namespace, Name: "holding", Finalizers: []string{"example.com/backup"},
	}}
	w.Expect(suite.client.Create(t.Context(), holding)).To(Succeed())

	w.happen("organization.deleted", payload.Deleted("organization", o.ID))
	w.Eventually(func() string {
		return w.kubectl("get", "clerkorganization", clerk.ObjectName(w.instanceName, o.ID), "-o", `jsonpath={.status.conditions[?(@.type=="Ready")].message}`)
	}).Should(ContainSubstring("example.com/backup in 1 resource instances"))
	w.Eventually(w.level(u.ID, namespace)).Should(Equal(none))

	changeByHand(w, holding, func(c *corev1.ConfigMap) { c.Finalizers = nil })
	w.Eventually(w.gone(namespaceObject(namespace))).Should(BeTrue())
	w.Eventually(w.gone(w.organizationObject(o.ID))).Should(BeTrue())
}
