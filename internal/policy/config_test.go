// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package policy_test

import (
	"errors"
	"io"
	"os"
	"path/filepath"
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
			HaveField("Expression", "!request.dryRun || request.name != '"+reserved[name]+"'"),
			HaveField("Message", policy.Message(name)),
		), name)
	}
}

// TestProbes_areRefusedByOnePolicyEach takes each binding away in turn: exactly the probes of its policy are let through.
func TestProbes_areRefusedByOnePolicyEach(t *testing.T) {
	g := NewWithT(t)
	g.SetDefaultEventuallyTimeout(30 * time.Second)
	cp, err := controlplane.Start(t.Context(), controlplane.Options{})
	g.Expect(err).NotTo(HaveOccurred())
	t.Cleanup(func() { g.Expect(cp.Stop()).To(Succeed()) })
	in, err := installation.Install(t.Context(), cp, "../..")
	g.Expect(err).NotTo(HaveOccurred())
	account, err := cp.ServiceAccountConfig(t.Context(), installation.Namespace, installation.ServiceAccount)
	g.Expect(err).NotTo(HaveOccurred())
	operator, err := client.New(account, client.Options{Scheme: in.Client.Scheme()})
	g.Expect(err).NotTo(HaveOccurred())
	probes := policy.Probes(installation.Namespace)
	// broken are the attempts that are not refused as they have to be.
	broken := func() map[string]string {
		broken := map[string]string{}
		for i := range probes {
			if err := probes[i].Ask(t.Context(), operator); probes[i].Judge(err) != policy.Holds {
				answer := ""
				if err != nil {
					answer = err.Error()
				}
				broken[probes[i].Policy+": "+probes[i].Attempt] = answer
			}
		}
		return broken
	}
	g.Eventually(broken).Should(BeEmpty())

	for name := range configured(t) {
		binding := &admissionv1.ValidatingAdmissionPolicyBinding{}
		g.Expect(in.Client.Get(t.Context(), client.ObjectKey{Name: name}, binding)).To(Succeed())
		g.Expect(in.Client.Delete(t.Context(), binding.DeepCopy())).To(Succeed())
		letThrough := map[string]string{}
		for i := range probes {
			if probes[i].Policy == name {
				letThrough[name+": "+probes[i].Attempt] = ""
			}
		}
		g.Eventually(broken).Should(Equal(letThrough), "without "+name)
		binding.ResourceVersion, binding.UID = "", ""
		g.Expect(in.Client.Create(t.Context(), binding)).To(Succeed())
		g.Eventually(broken).Should(BeEmpty(), "with "+name+" again")
	}
	testProber(t, in, operator)
}

// testProber has a prober see what an administrator does to a policy.
func testProber(t *testing.T, in *installation.Installation, operator client.Client) {
	t.Helper()
	g := NewWithT(t)
	g.SetDefaultEventuallyTimeout(30 * time.Second)
	registry := prometheus.NewRegistry()
	prober, err := policy.NewProber(operator, installation.Namespace, 50*time.Millisecond, clock.RealClock{}, ctrl.Log, registry)
	g.Expect(err).NotTo(HaveOccurred())
	changes := prober.Changes()
	g.Expect(prober.State().Standing).To(Equal(policy.Pending))
	go func() { _ = prober.Start(t.Context()) }()
	g.Eventually(changes).Should(Receive())
	g.Expect(prober.State().Standing).To(Equal(policy.Enforced))

	act := func(action admissionv1.ValidationAction) {
		binding := &admissionv1.ValidatingAdmissionPolicyBinding{}
		binding.Name = policy.RestrictSecrets
		patch := client.RawPatch(types.MergePatchType, []byte(`{"spec":{"validationActions":["`+string(action)+`"]}}`))
		g.Expect(in.Client.Patch(t.Context(), binding, patch)).To(Succeed())
	}
	act(admissionv1.Audit)
	g.Eventually(changes).Should(Receive())
	g.Eventually(prober.State).Should(HaveField("Standing", policy.NotEnforced))
	g.Expect(prober.State().Message).To(ContainSubstring(policy.RestrictSecrets + " does not refuse"))
	enforced := func() map[string]float64 {
		families, err := registry.Gather()
		g.Expect(err).NotTo(HaveOccurred())
		values := map[string]float64{}
		for _, metric := range families[0].GetMetric() {
			values[metric.GetLabel()[0].GetValue()] = metric.GetGauge().GetValue()
		}
		return values
	}
	g.Eventually(enforced).Should(And(HaveLen(7), HaveKeyWithValue(policy.RestrictSecrets, 0.0), HaveKeyWithValue(policy.RestrictWrites, 1.0)))

	act(admissionv1.Deny)
	g.Eventually(prober.State).Should(HaveField("Standing", policy.Enforced))
}
