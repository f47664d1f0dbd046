// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package tenant_test

import (
	"testing"

	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	clerkv1alpha1 "github.com/clerk-operator/clerk-operator/api/v1alpha1"
	"github.com/clerk-operator/clerk-operator/internal/tenant"
)

// limitedClass limits everything that a class can limit.
func limitedClass() *clerkv1alpha1.ClerkTenantClass {
	c := class()
	c.Spec.Quota = &corev1.ResourceQuotaSpec{Hard: corev1.ResourceList{
		"requests.cpu": resource.MustParse("1500m"), "pods": resource.MustParse("10"),
	}}
	c.Spec.Limits = &corev1.LimitRangeSpec{Limits: []corev1.LimitRangeItem{
		{
			Type: corev1.LimitTypeContainer,
			Max:  corev1.ResourceList{"cpu": resource.MustParse("1"), "memory": resource.MustParse("1Gi")},
			Min:  corev1.ResourceList{"ephemeral-storage": resource.MustParse("1Mi"), "memory": resource.MustParse("16Mi")},
			// The default of memory is not its max.
			Default: corev1.ResourceList{"memory": resource.MustParse("128Mi")},
		},
		{Type: corev1.LimitTypePod, Max: corev1.ResourceList{"cpu": resource.MustParse("4")}},
	}}
	c.Spec.NetworkPolicies = []clerkv1alpha1.ClerkTenantClassNetworkPolicy{{
		Name: "ingress", Spec: &networkingv1.NetworkPolicySpec{
			Ingress: []networkingv1.NetworkPolicyIngressRule{{
				From:  []networkingv1.NetworkPolicyPeer{{NamespaceSelector: &metav1.LabelSelector{}}},
				Ports: []networkingv1.NetworkPolicyPort{{Port: new(intstr.FromString("http"))}},
			}},
			Egress: []networkingv1.NetworkPolicyEgressRule{{
				Ports: []networkingv1.NetworkPolicyPort{{Port: new(intstr.FromInt32(53)), Protocol: new(corev1.ProtocolUDP)}},
			}},
		},
	}}
	return c
}

func TestGuardrails_golden(t *testing.T) {
	open := limitedClass()
	open.Spec.NetworkIsolation = clerkv1alpha1.NetworkOpen
	for name, class := range map[string]*clerkv1alpha1.ClerkTenantClass{
		"guardrails": limitedClass(), "guardrails-bare": class(), "guardrails-open": open,
	} {
		t.Run(name, func(t *testing.T) {
			g := NewWithT(t)
			before := class.DeepCopy()
			guardrails, err := tenant.BuildGuardrails("org-acme-raeder-abcde", organization(), class)
			g.Expect(err).NotTo(HaveOccurred())
			expectGolden(g, name, guardrails)
			g.Expect(class).To(Equal(before), "the class is shared with the cache")
		})
	}
}

func TestGuardrails_nothingIsLimitedThatTheClassDoesNotLimit(t *testing.T) {
	g, open := NewWithT(t), class()
	open.Spec.NetworkIsolation = clerkv1alpha1.NetworkOpen
	guardrails, err := tenant.BuildGuardrails("org-acme", organization(), open)
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(guardrails).To(Equal(&tenant.Guardrails{}))
}

func TestSecretCopy_hasTypeAndDataAlone(t *testing.T) {
	g := NewWithT(t)
	source := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "clerk-operator-system", Name: "registry-pull",
			Labels:      map[string]string{clerkv1alpha1.LabelShare: "true", "team": "platform"},
			Annotations: map[string]string{"example.com/note": "x"}, Finalizers: []string{"example.com/keep"},
		},
		Type:      corev1.SecretTypeDockerConfigJson,
		Immutable: new(true),
		Data:      map[string][]byte{corev1.DockerConfigJsonKey: []byte(`{"auths":{}}`)},
	}
	expectGolden(g, "secret-copy", tenant.SecretCopy("org-acme-raeder-abcde", organization(), source))
}
