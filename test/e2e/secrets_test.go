// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"testing"

	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"

	clerkv1alpha1 "github.com/clerk-operator/clerk-operator/api/v1alpha1"
)

// The operator cannot read what became of its Secrets: somebody has to say that they are wrong.
func TestTenantSecrets_areWrittenAgainOnRequest(t *testing.T) {
	w := newWorld(t)
	source := w.share()
	o, namespace := w.tenant("secret-drift", limited(source.Name))
	copied := &corev1.Secret{}
	copied.Namespace, copied.Name = namespace, source.Name
	before := get(w, copied).Data
	changeByHand(w, w.secretOf(namespace), func(s *corev1.Secret) { s.Data["CLERK_ORGANIZATION_ID"] = []byte("org_other") })
	w.Expect(suite.client.Delete(t.Context(), get(w, copied))).To(Succeed())

	w.annotate(w.organizationObject(o.ID), clerkv1alpha1.AnnotationResyncRequestedAt, "now")
	w.Eventually(func() map[string]string { return text(w.secretOf(namespace)) }).Should(HaveKeyWithValue("CLERK_ORGANIZATION_ID", o.ID))
	w.Eventually(stored(w, copied)).Should(HaveField("Data", before))
	w.Eventually(stored(w, w.organizationObject(o.ID))).Should(
		HaveField("Annotations", Not(HaveKey(clerkv1alpha1.AnnotationResyncRequestedAt))))
}
