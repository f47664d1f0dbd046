// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package policy_test

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	. "github.com/onsi/gomega"
	"github.com/prometheus/client_golang/prometheus"
	admissionv1 "k8s.io/api/admissionregistration/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/clerk-operator/clerk-operator/internal/policy"
	"github.com/clerk-operator/clerk-operator/test/controlplane"
	"github.com/clerk-operator/clerk-operator/test/installation"
)

// configured returns the policies of config/policy by name.
func configured(t *testing.T) map[string]*admissionv1.ValidatingAdmissionPolicy {
	t.Helper()
	g := NewWithT(t)
	policies := map[string]*admissionv1.ValidatingAdmissionPolicy{}
	files, err := filepath.Glob("../../config/policy/*.yaml")
	g.Expect(err).NotTo(HaveOccurred())
	for _, file := range files {
		f, err := os.Open(file)
		g.Expect(err).NotTo(HaveOccurred())
		decoder := yaml.NewYAMLOrJSONDecoder(f, 4096)
		for {
			object := &admissionv1.ValidatingAdmissionPolicy{}
			err := decoder.Decode(object)
			if errors.Is(err, io.EOF) {
				break
			}
			g.Expect(err).NotTo(HaveOccurred())
			if object.Kind == "ValidatingAdmissionPolicy" {
				policies[object.Name] = object
			}
		}
		g.Expect(f.Close()).To(Succeed())
	}
	return policies
}

func TestProbes_areOfThePoliciesThatAreInstalled(t *testing.T) {
	g := NewWithT(t)
	reserved := map[string]string{}
	for _, probe := range policy.Probes("somewhere") {
		if probe.Message != "" {
			reserved[probe.Policy] = probe.Object.GetName()
		}
	}
	policies := configured(t)
	g.Expect(policies).To(HaveLen(len(reserved)))
	for name, object := range policies {
		g.Expect(object.Spec.Validations[0]).To(And(
			HaveField("Expression", "!request.dryRun || request.?name.orValue('') != '"+reserved[name]+"'"),
			HaveField("Message", policy.Message(name)),
		), name)
	}
}

// suite is an API server with the operator's policies, and a client with the operator's rights.
type suite struct {
	*WithT
	t        *testing.T
	admin    client.Client
	operator client.Client
	probes   []policy.Probe
}

func newSuite(t *testing.T) *suite {
	t.Helper()
	s := &suite{WithT: NewWithT(t), t: t, probes: policy.Probes(installation.Namespace)}
	s.SetDefaultEventuallyTimeout(30 * time.Second)
	cp, err := controlplane.Start(t.Context(), controlplane.Options{})
	s.Expect(err).NotTo(HaveOccurred())
	t.Cleanup(func() { s.Expect(cp.Stop()).To(Succeed()) })
	in, err := installation.Install(t.Context(), cp, "../..")
	s.Expect(err).NotTo(HaveOccurred())
	account, err := cp.ServiceAccountConfig(t.Context(), installation.Namespace, installation.ServiceAccount)
	s.Expect(err).NotTo(HaveOccurred())
	s.operator, err = client.New(account, client.Options{Scheme: in.Client.Scheme()})
	s.Expect(err).NotTo(HaveOccurred())
	s.admin = in.Client
	s.Eventually(s.broken).Should(BeEmpty())
	return s
}

// broken are the probes that are not refused as they have to be, with the answers.
func (s *suite) broken() map[string]string {
	broken := map[string]string{}
	for i := range s.probes {
		if err := s.probes[i].Ask(s.t.Context(), s.operator); s.probes[i].Judge(err) != policy.Holds {
			broken[s.probes[i].Policy+": "+s.probes[i].Attempt] = fmt.Sprint(err)
		}
	}
	return broken
}

// letThrough are probes that are let through.
func (s *suite) letThrough(which func(policy.Probe) bool) map[string]string {
	through := map[string]string{}
	for _, probe := range s.probes {
		if which(probe) {
			through[probe.Policy+": "+probe.Attempt] = fmt.Sprint(nil)
		}
	}
	s.Expect(through).NotTo(BeEmpty())
	return through
}

// patch changes a policy or a binding.
func (s *suite) patch(o client.Object, name, format string, args ...any) {
	s.t.Helper()
	o.SetName(name)
	kind := types.MergePatchType
	if strings.HasPrefix(format, "[") {
		kind = types.JSONPatchType
	}
	s.Expect(s.admin.Patch(s.t.Context(), o, client.RawPatch(kind, fmt.Appendf(nil, format, args...)))).To(Succeed())
}

func (s *suite) act(name string, action admissionv1.ValidationAction) {
	s.t.Helper()
	s.patch(&admissionv1.ValidatingAdmissionPolicyBinding{}, name, `{"spec":{"validationActions":[%q]}}`, action)
}

func TestProbes_onTheAPIServer(t *testing.T) {
	s := newSuite(t)
	for name := range configured(t) {
		s.isRefusedByThePolicyAlone(name)
	}
	for _, rule := range []struct {
		policy   string
		index    int
		attempts []string
	}{
		{policy.RestrictWrites, 1, []string{"a RoleBinding in another namespace", "a Secret in another namespace"}},
		{policy.RestrictBindings, 1, []string{"a RoleBinding in the operator's own namespace"}},
		{policy.RestrictBindings, 3, []string{"a RoleBinding of a ClusterRole that the operator does not have the verb bind on"}},
		{policy.RestrictNamespaces, 1, []string{"a tenant's label on another namespace"}},
		{policy.RestrictSecrets, 1, []string{"a Secret without the operator's label"}},
	} {
		s.isRefusedByTheRuleAlone(rule.policy, rule.index, rule.attempts)
	}
	testProber(s)
}

// isRefusedByThePolicyAlone has a policy only audit: exactly the probes of it are let through.
func (s *suite) isRefusedByThePolicyAlone(name string) {
	s.t.Helper()
	s.act(name, admissionv1.Audit)
	s.Eventually(s.broken).Should(Equal(s.letThrough(func(p policy.Probe) bool { return p.Policy == name })), name)
	s.act(name, admissionv1.Deny)
	s.Eventually(s.broken).Should(BeEmpty(), name)
}

// isRefusedByTheRuleAlone makes a rule let everything through: exactly the attempts that it is there for are let through.
func (s *suite) isRefusedByTheRuleAlone(name string, index int, attempts []string) {
	s.t.Helper()
	expression := configured(s.t)[name].Spec.Validations[index].Expression
	change := func(to string) {
		s.patch(&admissionv1.ValidatingAdmissionPolicy{}, name,
			`[{"op":"replace","path":"/spec/validations/%d/expression","value":%q}]`, index, to)
	}
	change("true")
	s.Eventually(s.broken).Should(Equal(s.letThrough(func(p policy.Probe) bool {
		return slices.Contains(attempts, p.Attempt)
	})), "%s %d", name, index)
	change(expression)
	s.Eventually(s.broken).Should(BeEmpty(), "%s %d", name, index)
}

// testProber has a prober see what an administrator does to a policy.
func testProber(s *suite) {
	s.t.Helper()
	registry := prometheus.NewRegistry()
	prober, err := policy.NewProber(s.operator, installation.Namespace, policy.MinInterval, clock.RealClock{}, ctrl.Log, registry)
	s.Expect(err).NotTo(HaveOccurred())
	changes := prober.Changes()
	s.Expect(prober.State().Standing).To(Equal(policy.Pending))
	go func() { _ = prober.Start(s.t.Context()) }()
	s.Eventually(changes).Should(Receive())
	s.Expect(prober.State().Standing).To(Equal(policy.Enforced))

	s.act(policy.RestrictSecrets, admissionv1.Audit)
	s.Eventually(changes).Should(Receive())
	s.Eventually(prober.State).Should(HaveField("Standing", policy.NotEnforced))
	s.Expect(prober.State().Message).To(ContainSubstring(policy.RestrictSecrets + " does not refuse"))
	enforced := func() map[string]float64 {
		families, err := registry.Gather()
		s.Expect(err).NotTo(HaveOccurred())
		values := map[string]float64{}
		for _, metric := range families[0].GetMetric() {
			values[metric.GetLabel()[0].GetValue()] = metric.GetGauge().GetValue()
		}
		return values
	}
	s.Eventually(enforced).Should(And(
		HaveLen(7), HaveKeyWithValue(policy.RestrictSecrets, 0.0), HaveKeyWithValue(policy.RestrictWrites, 1.0)))

	s.act(policy.RestrictSecrets, admissionv1.Deny)
	s.Eventually(prober.State).Should(HaveField("Standing", policy.Enforced))
}
