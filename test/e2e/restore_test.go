// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"testing"

	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	clerkv1alpha1 "github.com/clerk-operator/clerk-operator/api/v1alpha1"
	"github.com/clerk-operator/clerk-operator/test/payload"
)

// lose deletes an object as if it had never been: with its finalizers gone, nothing of what it stands for is torn down.
func (w *world) lose(o client.Object) {
	w.t.Helper()
	w.Expect(suite.client.Patch(w.t.Context(), o.DeepCopyObject().(client.Object),
		client.RawPatch("application/merge-patch+json", []byte(`{"metadata":{"finalizers":null}}`)))).To(Succeed())
	w.Expect(suite.client.Delete(w.t.Context(), o)).To(Succeed())
	w.Eventually(w.gone(o)).Should(BeTrue())
}

// A cluster whose objects were restored has new UIDs and no status; one that is filled from Clerk again, too.
func TestRestore_landsOnTheSameNamespaces(t *testing.T) {
	w := newWorld(t)
	o, namespace := w.tenant("restored")
	u := w.memberOf(o, namespace)
	uid := get(w, namespaceObject(namespace)).UID
	before := get(w, w.organizationObject(o.ID)).UID

	restart := w.withoutManager()
	w.lose(w.organizationObject(o.ID))
	restart()
	o.Slug, o.UpdatedAt = "renamed-meanwhile", w.tick()
	w.happen("organization.updated", o.Data())

	w.Expect(w.provisioned(o.ID)).To(Equal(namespace))
	restored := get(w, w.organizationObject(o.ID))
	w.Expect(restored.UID).NotTo(Equal(before))
	w.Eventually(stored(w, namespaceObject(namespace))).Should(And(
		HaveField("UID", uid),
		HaveField("Annotations", HaveKeyWithValue(clerkv1alpha1.AnnotationOwnerUID, string(restored.UID)))))
	w.Eventually(w.level(u.ID, namespace)).Should(Equal(admin))
	w.happen("organization.deleted", payload.Deleted("organization", o.ID))
	w.Eventually(w.gone(namespaceObject(namespace))).Should(BeTrue())
}

// The namespace itself was restored, too: it has another UID than the status of the organization tells.
func TestRestore_takesARestoredNamespace(t *testing.T) {
	w := newWorld(t)
	o, name := w.tenant("restored-namespace")
	u := w.memberOf(o, name)
	backup := get(w, namespaceObject(name))

	restart := w.withoutManager()
	w.Expect(suite.client.Delete(t.Context(), namespaceObject(name))).To(Succeed())
	w.Eventually(w.gone(namespaceObject(name))).Should(BeTrue())
	w.Expect(suite.client.Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{
		Name: name, Labels: backup.Labels, Annotations: backup.Annotations,
	}})).To(Succeed())
	restored := get(w, namespaceObject(name))
	restart()

	w.Eventually(stored(w, w.organizationObject(o.ID))).Should(And(
		beReady(metav1.ConditionTrue, clerkv1alpha1.ReasonProvisioned),
		HaveField("Status.Namespace.UID", restored.UID)))
	w.Eventually(w.level(u.ID, name)).Should(Equal(admin))
	w.Expect(get(w, namespaceObject(name)).UID).To(Equal(restored.UID))
	w.Expect(w.secretOf(name).Data).To(HaveKeyWithValue("CLERK_ORGANIZATION_ID", []byte(o.ID)))
}
