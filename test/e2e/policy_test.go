// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	. "github.com/onsi/gomega"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	clerkv1alpha1 "github.com/clerk-operator/clerk-operator/api/v1alpha1"
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
	policy := policyObject(name)
	w.Expect(built).To(HaveKey("ValidatingAdmissionPolicy " + policy.Name))
	w.Expect(runtime.DefaultUnstructuredConverter.FromUnstructured(
		built["ValidatingAdmissionPolicy "+policy.Name], policy)).To(Succeed())
	return policy
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
	policy := w.policyOf(built, name)
	w.Expect(policy.Namespace).To(BeEmpty())
	first := policy.Spec.Validations[0]
	w.Expect(first.Message).To(Equal("probe of " + policy.Name))
	w.Expect(first.Expression).To(HavePrefix("!request.dryRun || request.name != 'probe-of-" + policy.Name))
	if strings.HasPrefix(name, "restrict-") {
		w.Expect(policy.Spec.MatchConditions).To(ConsistOf(admissionregistrationv1.MatchCondition{
			Name: "is-the-operator", Expression: "request.userInfo.username + ':' == '" + operator + ":'",
		}))
	}
	var binding admissionregistrationv1.ValidatingAdmissionPolicyBinding
	w.Expect(built).To(HaveKey("ValidatingAdmissionPolicyBinding " + policy.Name))
	w.Expect(runtime.DefaultUnstructuredConverter.FromUnstructured(
		built["ValidatingAdmissionPolicyBinding "+policy.Name], &binding)).To(Succeed())
	w.Expect(binding.Namespace).To(BeEmpty())
	w.Expect(binding.Spec).To(Equal(admissionregistrationv1.ValidatingAdmissionPolicyBindingSpec{
		PolicyName:        policy.Name,
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
			policy := w.policyOf(want, byNamespaces)
			last := len(policy.Spec.Validations) - 1
			w.Expect(policy.Spec.Validations[last].Message).To(HavePrefix("clerk-operator may not let a tenant run privileged pods"))
			spec := want["ValidatingAdmissionPolicy "+policy.Name]["spec"].(map[string]any)
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

// probes are dry runs of the reserved names, each refused by one policy and accepted without it.
func probes(home string) map[string]client.Object {
	name := func(policy string) string { return "probe-of-" + policyObject(policy).Name }
	tombstone := &clerkv1alpha1.ClerkTombstone{ObjectMeta: metav1.ObjectMeta{Name: name(byMirror) + ".user-probe"}}
	tombstone.Spec.InstanceName, tombstone.Spec.ID = name(byMirror), "user_probe"
	tombstone.Spec.DeletedAt = clerkv1alpha1.NewTimestamp(time.Unix(0, 0))
	restricted, protected := born("org_probe", "restricted"), born("org_probe", "restricted")
	restricted.Name, protected.Name = name(byNamespaces), name(byProtectedNS)
	labels := map[string]string{clerkv1alpha1.LabelManagedBy: clerkv1alpha1.ManagedBy}
	return map[string]client.Object{
		byWrites:      &corev1.ResourceQuota{ObjectMeta: metaOf(home, name(byWrites), nil)},
		byBindings:    bindingOf(home, name(byBindings), "view", userSubject("clerk:user_probe")),
		byNamespaces:  restricted,
		bySecrets:     secretObject(home, name(bySecrets), labels),
		byMirror:      tombstone,
		byTenants:     &corev1.ResourceQuota{ObjectMeta: metaOf(home, name(byTenants), labels)},
		byProtectedNS: protected,
	}
}

// expectPoliciesInForce asks for what must be refused, as the operator of the test's cluster.
func (w *world) expectPoliciesInForce() {
	w.t.Helper()
	home, c := suite.in.Namespace, w.asOperator()
	for policy, probe := range probes(home) {
		err := c.Create(w.t.Context(), probe, client.DryRunAll)
		w.Expect(refuser(err)).To(Equal(policy), "%v", err)
		w.Expect(err).To(MatchError(ContainSubstring("probe of " + policyObject(policy).Name)))
	}
	clerkUser, foreign := userSubject("clerk:user_2mallory"), namespaceObject("default")
	labels := managed("org_2mallory")
	w.expectAnswers(c, []attempt{
		{"a binding in another namespace", create(bindingOf("default", "clerk-admin", "admin", clerkUser)), byWrites},
		{"a Secret in another namespace", create(secretObject("default", newName(), labels)), byWrites},
		{"a binding at home", create(bindingOf(home, "clerk-admin", "admin", clerkUser)), byBindings},
		{"a Secret without the label at home", create(secretObject(home, newName(), nil)), bySecrets},
		{"the label of a tenant on a foreign namespace", merge(foreign,
			`{"metadata":{"labels":{"clerk-operator.dev/organization-id":"org_2mallory"}}}`), byNamespaces},
	})
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
