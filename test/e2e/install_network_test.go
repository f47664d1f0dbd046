// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	. "github.com/onsi/gomega"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/clerk-operator/clerk-operator/test/installation"
)

// ingressInTraefik is how docs/operations.md says in which namespace the ingress controller is.
const ingressInTraefik = `patches:
- target: {kind: NetworkPolicy, name: clerk-operator-controller-manager}
  patch: "- {op: replace, path: /spec/ingress/0/from/0/namespaceSelector/matchLabels/kubernetes.io~1metadata.name, value: traefik}"
`

// networkPolicyFor is what the component lets in where the ingress controller is in a namespace.
func networkPolicyFor(namespace string) networkingv1.NetworkPolicySpec {
	from := func(key, value, port string) networkingv1.NetworkPolicyIngressRule {
		return networkingv1.NetworkPolicyIngressRule{
			From: []networkingv1.NetworkPolicyPeer{{
				NamespaceSelector: &metav1.LabelSelector{MatchLabels: map[string]string{key: value}},
			}},
			Ports: []networkingv1.NetworkPolicyPort{{Port: new(intstr.FromString(port))}},
		}
	}
	return networkingv1.NetworkPolicySpec{
		PodSelector: metav1.LabelSelector{MatchLabels: map[string]string{
			"app.kubernetes.io/name": "clerk-operator", "control-plane": "controller-manager",
		}},
		PolicyTypes: []networkingv1.PolicyType{networkingv1.PolicyTypeIngress},
		Ingress: []networkingv1.NetworkPolicyIngressRule{
			from(corev1.LabelMetadataName, namespace, "webhooks"), from("metrics", "enabled", "metrics"),
		},
	}
}

// networkPolicies are those of a built kustomization.
func (w *world) networkPolicies(built map[string]map[string]any) (policies []*networkingv1.NetworkPolicy) {
	w.t.Helper()
	for _, object := range built {
		if object["kind"] == "NetworkPolicy" {
			policy := &networkingv1.NetworkPolicy{}
			w.Expect(runtime.DefaultUnstructuredConverter.FromUnstructured(object, policy)).To(Succeed())
			policies = append(policies, policy)
		}
	}
	return policies
}

func TestInstall_networkPolicyIsNotForEveryCluster(t *testing.T) {
	for builder, build := range builders {
		t.Run(builder, func(t *testing.T) {
			w := newWorld(t)
			w.Expect(w.networkPolicies(w.objects(build(w, filepath.Join(suite.root, "config", "default"))))).To(BeEmpty())
		})
	}
}

func TestInstall_networkPolicyLetsTheIngressControllerIn(t *testing.T) {
	docs, err := os.ReadFile(filepath.Join("..", "..", "docs", "operations.md"))
	NewWithT(t).Expect(err).NotTo(HaveOccurred())
	NewWithT(t).Expect(string(docs)).To(ContainSubstring(ingressInTraefik))
	for about, tc := range map[string]struct {
		overlay                  string
		ingress, name, namespace string
	}{
		"config/default": {
			"resources: [CONFIG/default]\n",
			"ingress-nginx", "clerk-operator-controller-manager", installation.Namespace,
		},
		"another ingress controller": {
			"resources: [CONFIG/default]\n" + ingressInTraefik,
			"traefik", "clerk-operator-controller-manager", installation.Namespace,
		},
		"another namespace and prefix": {
			"resources: [CONFIG/operator]\nnamespace: " + otherNamespace + "\nnamePrefix: team-\n" + ingressInTraefik,
			"traefik", "team-clerk-operator-controller-manager", otherNamespace,
		},
	} {
		for builder, build := range builders {
			t.Run(builder+" with "+about, func(t *testing.T) {
				w := newWorld(t)
				built := w.objects(build(w, w.withNetworkPolicy(tc.overlay)))
				policies := w.networkPolicies(built)
				w.Expect(policies).To(HaveLen(1))
				policy := policies[0]
				w.Expect(policy.Name).To(Equal(tc.name))
				w.Expect(policy.Namespace).To(Equal(tc.namespace))
				w.Expect(policy.Spec).To(Equal(networkPolicyFor(tc.ingress)))
				w.expectSelected(built["Deployment "+tc.name], policy)
				policy.Namespace = installation.Namespace // the other one does not exist
				w.Expect(suite.client.Create(t.Context(), policy, client.DryRunAll)).To(Succeed())
			})
		}
	}
}

// withNetworkPolicy writes an overlay that names the component, in which CONFIG is config.
func (w *world) withNetworkPolicy(overlay string) (dir string) {
	w.t.Helper()
	dir = w.t.TempDir()
	overlay += "components: [CONFIG/components/network-policy]\n"
	w.write(filepath.Join(dir, "kustomization.yaml"), strings.ReplaceAll(overlay, "CONFIG", w.configFolder(dir)))
	return dir
}

// expectSelected expects a policy to select the pods of a Deployment, and its ports to be theirs.
func (w *world) expectSelected(object map[string]any, policy *networkingv1.NetworkPolicy) {
	w.t.Helper()
	var deployment appsv1.Deployment
	w.Expect(runtime.DefaultUnstructuredConverter.FromUnstructured(object, &deployment)).To(Succeed())
	w.Expect(deployment.Namespace).To(Equal(policy.Namespace))
	pod := deployment.Spec.Template
	for key, value := range policy.Spec.PodSelector.MatchLabels {
		w.Expect(pod.Labels).To(HaveKeyWithValue(key, value))
	}
	for _, rule := range policy.Spec.Ingress {
		for _, port := range rule.Ports {
			w.Expect(pod.Spec.Containers[0].Ports).To(ContainElement(HaveField("Name", port.Port.String())))
		}
	}
}
