// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"fmt"
	"testing"
	"time"

	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	clerkv1alpha1 "github.com/clerk-operator/clerk-operator/api/v1alpha1"
	"github.com/clerk-operator/clerk-operator/internal/clerk"
	"github.com/clerk-operator/clerk-operator/test/payload"
)

// key is what a namespace that an organization may adopt says in the annotation adopt-by.
func (w *world) key(o payload.Organization) string { return w.instanceName + "/" + o.ID }

// adopting creates an organization that is to adopt a namespace.
func (w *world) adopting(namespace string) payload.Organization {
	w.t.Helper()
	o := w.newOrganization("adopting")
	w.happen("organization.created", o.Data())
	w.Eventually(stored(w, w.organizationObject(o.ID))).Should(beReady(metav1.ConditionFalse, clerkv1alpha1.ReasonNoTenantClass))
	w.annotate(w.organizationObject(o.ID), clerkv1alpha1.AnnotationAdoptNamespace, namespace)
	return o
}

func TestAdoption_takesTwoKeysAndRetains(t *testing.T) {
	w := newWorld(t)
	existing := namespaceObject(newName())
	w.create(existing)
	data := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: existing.Name, Name: "data"}}
	w.create(data)
	o := w.adopting(existing.Name)
	w.class([]string{o.ID})
	w.Eventually(stored(w, w.organizationObject(o.ID))).Should(beReady(metav1.ConditionFalse, clerkv1alpha1.ReasonAdoptionRefused))
	w.Consistently(stored(w, existing)).Should(HaveField("ResourceVersion", existing.ResourceVersion))

	w.annotate(existing, clerkv1alpha1.AnnotationAdoptBy, o.ID)
	w.annotate(w.organizationObject(o.ID), "example.com/look", "once") // sooner than it would by itself
	w.Eventually(stored(w, w.organizationObject(o.ID))).Should(HaveField("Status.Conditions", ContainElement(
		HaveField("Message", ContainSubstring("clerk-operator.dev/adopt-by=default/"+o.ID)))), "an ID alone does not identify an owner")
	w.Expect(get(w, existing).Labels).NotTo(HaveKey(clerkv1alpha1.LabelOrganizationID))

	w.annotate(existing, clerkv1alpha1.AnnotationAdoptBy, w.key(o))
	w.annotate(w.organizationObject(o.ID), "example.com/look", "again")
	w.Expect(w.provisioned(o.ID)).To(Equal(existing.Name))
	u := w.memberOf(o, existing.Name)
	w.Expect(get(w, existing)).To(And(
		HaveField("Labels", HaveKeyWithValue("pod-security.kubernetes.io/enforce", "restricted")),
		HaveField("Labels", HaveKeyWithValue(clerkv1alpha1.LabelOrganizationID, o.ID))))
	w.Expect(get(w, w.organizationObject(o.ID)).Status.Namespace.Adopted).To(HaveValue(BeTrue()))

	w.happen("organization.deleted", payload.Deleted("organization", o.ID))
	w.Eventually(w.gone(w.organizationObject(o.ID))).Should(BeTrue())
	w.Eventually(w.level(u.ID, existing.Name)).Should(Equal(none))
	w.Consistently(stored(w, existing)).Should(And(HaveField("UID", existing.UID), HaveField("DeletionTimestamp", BeNil())))
	w.Expect(get(w, data).UID).To(Equal(data.UID))
}

func TestAdoption_neverOfThePlatformsOrAnotherTenants(t *testing.T) {
	w := newWorld(t)
	_, taken := w.tenant("taken")
	before := get(w, namespaceObject(taken)).Labels
	removed := client.RawPatch("application/merge-patch+json",
		fmt.Appendf(nil, `{"metadata":{"annotations":{%q:null}}}`, clerkv1alpha1.AnnotationAdoptBy))
	for _, namespace := range []string{"kube-system", "default", "clerk-operator-system", taken, "not-there", "No Name", "../secrets"} {
		o := w.adopting(namespace)
		if namespace == taken || namespace == "kube-system" || namespace == "default" {
			w.annotate(namespaceObject(namespace), clerkv1alpha1.AnnotationAdoptBy, w.key(o))
			t.Cleanup(func() { // the platform's outlive the test
				w.Expect(suite.client.Patch(contextAfter(t), namespaceObject(namespace), removed)).To(Succeed())
			})
		}
		w.class([]string{o.ID})
		w.Eventually(stored(w, w.organizationObject(o.ID))).Should(
			beReady(metav1.ConditionFalse, clerkv1alpha1.ReasonAdoptionRefused), namespace)
		w.Expect(get(w, w.organizationObject(o.ID)).Status.Namespace.Name).To(BeEmpty())
	}
	w.Expect(get(w, namespaceObject(taken)).Labels).To(Equal(before))
	w.Expect(get(w, namespaceObject("default")).Labels).NotTo(HaveKey(clerkv1alpha1.LabelOrganizationID))
}

func TestAdoption_ofATenantWithANamespaceIsToldToBeInVain(t *testing.T) {
	w := newWorld(t)
	o, namespace := w.tenant("settled")
	other := namespaceObject(newName())
	w.create(other)
	w.annotate(other, clerkv1alpha1.AnnotationAdoptBy, w.key(o))
	w.annotate(w.organizationObject(o.ID), clerkv1alpha1.AnnotationAdoptNamespace, other.Name)
	w.Eventually(stored(w, w.organizationObject(o.ID))).Should(HaveField("Status.Conditions", ContainElement(And(
		HaveField("Type", clerkv1alpha1.ConditionNamespaceReady),
		HaveField("Message", ContainSubstring(other.Name+" is not adopted"))))))
	w.Expect(w.provisioned(o.ID)).To(Equal(namespace))
	w.Expect(get(w, other).Labels).NotTo(HaveKey(clerkv1alpha1.LabelOrganizationID))
}

func TestProtection_keepsTheNamespaceUntilItIsRemoved(t *testing.T) {
	w := newWorld(t)
	o, namespace := w.tenant("protected")
	u := w.memberOf(o, namespace)
	w.annotate(w.organizationObject(o.ID), clerkv1alpha1.AnnotationProtected, "true")
	w.Eventually(stored(w, namespaceObject(namespace))).Should(
		HaveField("Annotations", HaveKeyWithValue(clerkv1alpha1.AnnotationProtected, "true")))
	_, err := w.tryKubectl("", "delete", "namespace", namespace, "--timeout=5s")
	w.Expect(err).To(HaveOccurred(), "nobody deletes it, not even a cluster administrator")

	w.happen("organization.deleted", payload.Deleted("organization", o.ID))
	w.Eventually(stored(w, w.organizationObject(o.ID))).Should(beReady(metav1.ConditionFalse, clerkv1alpha1.ReasonProtected))
	w.Eventually(w.level(u.ID, namespace)).Should(Equal(none), "access goes all the same")
	w.Consistently(stored(w, namespaceObject(namespace))).Should(HaveField("DeletionTimestamp", BeNil()))

	w.kubectl("annotate", "clerkorganization", clerk.ObjectName(w.instanceName, o.ID), clerkv1alpha1.AnnotationProtected+"-")
	w.Eventually(w.gone(namespaceObject(namespace))).WithTimeout(time.Minute).Should(BeTrue())
	w.Eventually(w.gone(w.organizationObject(o.ID))).Should(BeTrue())
}
