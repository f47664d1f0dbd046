// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	. "github.com/onsi/gomega"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	clerkv1alpha1 "github.com/clerk-operator/clerk-operator/api/v1alpha1"
	"github.com/clerk-operator/clerk-operator/internal/policy"
	"github.com/clerk-operator/clerk-operator/test/controlplane"
	"github.com/clerk-operator/clerk-operator/test/installation"
)

// policies are the names of all policies, without what they have in common.
var policies = []string{byWrites, byBindings, byNamespaces, bySecrets, byMirror, byTenants, byProtectedNS}

// builders build a kustomization: the kubectl of the control plane, and the oldest kustomize that config is for.
var builders = map[string]func(w *world, dir string) string{
	"kubectl":          func(w *world, dir string) string { return w.kubectl("kustomize", dir) },
	"oldest kustomize": (*world).oldestKustomize,
}

func (w *world) oldestKustomize(dir string) string {
	w.t.Helper()
	cmd := exec.CommandContext(w.t.Context(), "go", "-C", filepath.Join(suite.root, "hack", "kustomize"),
		"tool", "kustomize", "build", dir)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	w.Expect(err).NotTo(HaveOccurred(), stderr.String())
	return string(out)
}

// configFolder is config as kustomizations in another folder refer to it, which is by a relative path.
func (w *world) configFolder(from string) string {
	w.t.Helper()
	config, err := filepath.Rel(from, filepath.Join(suite.root, "config"))
	w.Expect(err).NotTo(HaveOccurred())
	return config
}

// Where the overlay puts the operator.
const (
	otherNamespace      = "platform-clerk"
	otherServiceAccount = "team-" + installation.ServiceAccount
)

// otherOverlay writes the overlay of docs/operations.md that puts the operator under another prefix into another namespace.
func (w *world) otherOverlay() string {
	w.t.Helper()
	overlay := w.t.TempDir()
	inner := filepath.Join(overlay, "operator")
	w.write(filepath.Join(inner, "kustomization.yaml"), `
namespace: `+otherNamespace+`
namePrefix: team-
resources: [`+w.configFolder(inner)+`/operator]
`)
	config := w.configFolder(overlay)
	w.write(filepath.Join(overlay, "kustomization.yaml"), `
resources: [operator, `+config+`/policy]
components: [`+config+`/components/service-account-name]
`)
	return overlay
}

// policyOf reads a policy of a built kustomization.
func (w *world) policyOf(built map[string]map[string]any, name string) *admissionregistrationv1.ValidatingAdmissionPolicy {
	w.t.Helper()
	object := policyObject(name)
	w.Expect(built).To(HaveKey("ValidatingAdmissionPolicy " + object.Name))
	w.Expect(runtime.DefaultUnstructuredConverter.FromUnstructured(
		built["ValidatingAdmissionPolicy "+object.Name], object)).To(Succeed())
	return object
}

func TestInstall_everyBuilderKeepsThePolicies(t *testing.T) {
	account := map[string]string{
		"config/default":    managerUser,
		"another namespace": "system:serviceaccount:" + otherNamespace + ":" + otherServiceAccount,
	}
	for builder, build := range builders {
		for install, user := range account {
			t.Run(builder+" of "+install, func(t *testing.T) {
				w := newWorld(t)
				dir := filepath.Join(suite.root, "config", "default")
				if install != "config/default" {
					dir = w.otherOverlay()
				}
				built := w.objects(build(w, dir))
				w.Expect(built).To(HaveKey("ServiceAccount " + user[strings.LastIndex(user, ":")+1:]))
				var found int
				for key := range built {
					if strings.HasPrefix(key, "ValidatingAdmissionPolic") {
						found++
					}
				}
				w.Expect(found).To(Equal(2 * len(policies)))
				for _, name := range policies {
					w.expectPolicy(built, name, user)
				}
			})
		}
	}
}

// expectPolicy expects a policy with the rule for probes, and a binding of it that denies; a policy that restricts the
// operator must be for its account.
func (w *world) expectPolicy(built map[string]map[string]any, name, operator string) {
	w.t.Helper()
	object := w.policyOf(built, name)
	w.Expect(object.Namespace).To(BeEmpty())
	first := object.Spec.Validations[0]
	w.Expect(first.Message).To(Equal(policy.Message(object.Name)))
	if strings.HasPrefix(name, "restrict-") {
		w.Expect(object.Spec.MatchConditions).To(ConsistOf(admissionregistrationv1.MatchCondition{
			Name: "is-the-operator", Expression: "request.userInfo.username + ':' == '" + operator + ":'",
		}))
	}
	var binding admissionregistrationv1.ValidatingAdmissionPolicyBinding
	w.Expect(built).To(HaveKey("ValidatingAdmissionPolicyBinding " + object.Name))
	w.Expect(runtime.DefaultUnstructuredConverter.FromUnstructured(
		built["ValidatingAdmissionPolicyBinding "+object.Name], &binding)).To(Succeed())
	w.Expect(binding.Namespace).To(BeEmpty())
	w.Expect(binding.Spec).To(Equal(admissionregistrationv1.ValidatingAdmissionPolicyBindingSpec{
		PolicyName:        object.Name,
		ValidationActions: []admissionregistrationv1.ValidationAction{admissionregistrationv1.Deny},
	}))
}

func TestInstall_privilegedTenantsTakesOutOneRule(t *testing.T) {
	for builder, build := range builders {
		t.Run(builder, func(t *testing.T) {
			w := newWorld(t)
			overlay := t.TempDir()
			config := w.configFolder(overlay)
			w.write(filepath.Join(overlay, "kustomization.yaml"), `
resources: [`+config+`/default]
components: [`+config+`/components/privileged-tenants]
`)
			want := w.objects(build(w, filepath.Join(suite.root, "config", "default")))
			object := w.policyOf(want, byNamespaces)
			last := len(object.Spec.Validations) - 1
			w.Expect(object.Spec.Validations[last].Message).To(HavePrefix("clerk-operator may not let a tenant run privileged pods"))
			spec := want["ValidatingAdmissionPolicy "+object.Name]["spec"].(map[string]any)
			spec["validations"] = spec["validations"].([]any)[:last]
			w.Expect(w.objects(build(w, overlay))).To(Equal(want))
		})
	}
}

func TestInstall_clientSideThenServerSide(t *testing.T) {
	w := newWorld(t)
	cp, err := controlplane.Start(t.Context(), controlplane.Options{})
	w.Expect(err).NotTo(HaveOccurred())
	t.Cleanup(func() { w.Expect(cp.Stop()).To(Succeed()) })
	for _, mode := range []string{"--server-side=false", "--server-side=true", "--server-side=false", "--server-side=true"} {
		out, err := cp.Kubectl(t.Context(), "apply", mode, "-k", filepath.Join(suite.root, "config", "default")).CombinedOutput()
		w.Expect(err).NotTo(HaveOccurred(), "%s: %s", mode, out)
	}
}

// expectPoliciesInForce waits for the operator to say that what must be refused is, and asks for it with its credentials.
func (w *world) expectPoliciesInForce() {
	w.t.Helper()
	instance := &clerkv1alpha1.ClerkInstance{ObjectMeta: metav1.ObjectMeta{Name: w.instanceName}}
	w.Eventually(stored(w, instance)).Should(
		haveCondition(clerkv1alpha1.ConditionPoliciesEnforced, metav1.ConditionTrue, clerkv1alpha1.ReasonEnforced))
	c := w.asOperator()
	for _, probe := range policy.Probes(suite.in.Namespace) {
		err := probe.Ask(w.t.Context(), c)
		w.Expect(policyObject(refuser(err)).Name).To(Equal(probe.Policy), "%s: %v", probe.Attempt, err)
	}
}

func TestInstall_theOldestKustomizePutsEveryPolicyInForce(t *testing.T) {
	w := newWorld(t)
	w.ownClusterWith(installation.Options{Manifests: w.oldestKustomize(filepath.Join(suite.root, "config", "default"))})
	w.expectPoliciesInForce()
}

func TestInstall_inAnotherNamespaceEveryPolicyIsInForce(t *testing.T) {
	w := newWorld(t)
	overlay := w.otherOverlay()
	manifests := w.oldestKustomize(overlay)
	w.Expect(w.objects(w.kubectl("kustomize", overlay))).To(Equal(w.objects(manifests)))
	w.ownClusterWith(installation.Options{
		Manifests: manifests, Namespace: otherNamespace, ServiceAccount: otherServiceAccount,
	})
	w.expectPoliciesInForce()

	o, namespace := w.tenant("elsewhere")
	w.memberOf(o, namespace)
}

// Without the component the policies restrict an account that is not the operator's.
func TestInstall_inAnotherNamespaceWithoutTheComponentTheOperatorSaysSo(t *testing.T) {
	w := newWorld(t)
	overlay := w.otherOverlay()
	w.write(filepath.Join(overlay, "kustomization.yaml"), "resources: [operator, "+w.configFolder(overlay)+"/policy]\n")
	w.ownClusterWith(installation.Options{
		Manifests: w.kubectl("kustomize", overlay), Namespace: otherNamespace, ServiceAccount: otherServiceAccount,
	}, probeOften)
	o := w.newOrganization("elsewhere")
	class := w.class([]string{o.ID})
	w.happen("organization.created", o.Data())
	w.wantEnforced(metav1.ConditionFalse, clerkv1alpha1.ReasonNotEnforced, class)
	w.Eventually(stored(w, w.organizationObject(o.ID))).Should(beWithheld)
	w.Consistently(w.namespacesOf([]string{o.ID})).Should(BeEmpty())
}
