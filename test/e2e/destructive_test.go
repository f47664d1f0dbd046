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
	"github.com/clerk-operator/clerk-operator/test/payload"
)

// crds are the CRDs of the operator, by their plural names.
func crds(plurals ...string) []string {
	names := make([]string, len(plurals))
	for i, plural := range plurals {
		names[i] = "crd/" + plural + "." + clerkv1alpha1.GroupName
	}
	return names
}

// The API server empties a CRD that is deleted past every admission policy. That is not Clerk's word: access may go, and no
// data does, whatever the class's grace is. With the CRD back, the next events find the namespaces.
func TestDestructive_deletingCRDsKeepsTheData(t *testing.T) {
	w := newWorld(t)
	w.ownCluster()
	atOnce := func(class *clerkv1alpha1.ClerkTenantClass) { class.Spec.Deletion.GracePeriod = &metav1.Duration{} }
	o, namespace := w.tenant("kept", atOnce)
	u := w.memberOf(o, namespace)
	w.forUser(u.ID, atOnce)
	own := w.personal(u.ID)
	kept := []*corev1.Namespace{namespaceObject(namespace), namespaceObject(own)}
	precious := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "precious"}}
	w.Expect(suite.client.Create(t.Context(), precious)).To(Succeed())
	wantKept := func() {
		t.Helper()
		w.Consistently(func(g Gomega) {
			for _, object := range kept {
				g.Expect(get(w, object).DeletionTimestamp).To(BeNil(), object.Name)
			}
		}).Should(Succeed())
	}

	w.kubectl(append([]string{"delete", "--timeout=60s"}, crds("clerkorganizations")...)...)
	w.Eventually(w.level(u.ID, namespace)).Should(Equal(none))
	wantKept()
	w.kubectl("apply", "--server-side", "-k", "config/crd")
	again := w.message(w.event("organization.updated", o.Data()))
	w.Eventually(func() (string, error) {
		answer, err := w.sender.Post(t.Context(), again)
		return resultOf(answer), err
	}, 2*timeout).Should(BeElementOf("applied", "unchanged"))
	w.Expect(w.provisioned(o.ID)).To(Equal(namespace))
	w.Eventually(w.level(u.ID, namespace)).Should(Equal(admin))
	w.Expect(get(w, precious).UID).To(Equal(precious.UID))

	// README's uninstallation.
	w.kubectl("delete", "clerkinstances", "--all")
	w.kubectl("delete", "clerktombstones", "--all", "--wait=false")
	w.kubectl("delete", "clerkorganizations,clerkusers,clerkorganizationmemberships", "--all", "--wait=false")
	w.kubectl("wait", "--for=delete", "clerkorganizations,clerkusers", "--all", "--timeout=60s")
	w.kubectl("delete", "clerktenantclasses", "--all")
	w.Expect(w.levelOf(u.ID, own)).To(Equal(none))
	wantKept()
	w.kubectl("delete", "namespace", namespace, own, "--timeout=60s")
}

// graceOfDying is longer than it takes to delete all CRDs.
const graceOfDying = 30 * time.Second

// Where Clerk deleted an organization whose grace period runs, the end of the tombstones' CRD takes Clerk's word away.
func TestDestructive_deletingEveryCRDKeepsTheData(t *testing.T) {
	w := newWorld(t)
	w.ownCluster()
	o, namespace := w.tenant("dying", func(class *clerkv1alpha1.ClerkTenantClass) {
		class.Spec.Deletion.GracePeriod = &metav1.Duration{Duration: graceOfDying}
	})
	u := w.memberOf(o, namespace)
	w.happen("organization.deleted", payload.Deleted("organization", o.ID))
	w.Eventually(stored(w, w.organizationObject(o.ID))).Should(beReady(metav1.ConditionFalse, clerkv1alpha1.ReasonDeleting))
	deleted := get(w, w.organizationObject(o.ID)).DeletionTimestamp

	w.kubectl(append([]string{"delete", "--timeout=60s"}, crds("clerktombstones", "clerkinstances", "clerktenantclasses",
		"clerkorganizationmemberships", "clerkusers", "clerkorganizations")...)...)
	w.Expect(w.levelOf(u.ID, namespace)).To(Equal(none))
	over := time.Until(deleted.Add(graceOfDying))
	w.Expect(over).To(BeNumerically(">", 0), "the CRDs went before the grace period ended")
	w.Consistently(stored(w, namespaceObject(namespace)), over+calm).Should(HaveField("DeletionTimestamp", BeNil()))
}
