// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package options_test

import (
	"flag"
	"io"
	"testing"
	"time"

	. "github.com/onsi/gomega"

	"github.com/clerk-operator/clerk-operator/internal/options"
	"github.com/clerk-operator/clerk-operator/internal/receiver"
)

func parse(arguments []string, environment map[string]string) (*options.Options, error) {
	flags := flag.NewFlagSet("manager", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	return options.Parse(flags, arguments, func(name string) string { return environment[name] })
}

func TestParse_defaults(t *testing.T) {
	g := NewWithT(t)
	o, err := parse(nil, nil)
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(o.ReceiverBindAddress).To(Equal(":8080"))
	g.Expect(o.MetricsBindAddress).To(Equal(":8443"))
	g.Expect(o.HealthProbeBindAddress).To(Equal(":8081"))
	g.Expect(o.Namespace).To(Equal("clerk-operator-system"))
	g.Expect(o.LeaderElect).To(BeFalse())
	g.Expect(o.WebhookSecret).To(BeEmpty())
	g.Expect(o.ProbeInterval).To(Equal(2 * time.Minute))
	g.Expect(o.ReceiverLimits).To(Equal(receiver.Limits{Connections: 2000, UnverifiedBytes: 32 << 20, BodyTimeout: 2 * time.Second}))
	g.Expect(o.RequirePolicies).To(BeTrue())
}

func TestParse_flagsBeforeEnvironmentBeforeDefaults(t *testing.T) {
	g := NewWithT(t)
	environment := map[string]string{"POD_NAMESPACE": "from-pod", "CLERK_WEBHOOK_SECRET": "whsec_a whsec_b"}
	o, err := parse(nil, environment)
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(o.Namespace).To(Equal("from-pod"))
	g.Expect(o.WebhookSecret).To(Equal("whsec_a whsec_b"))
	o, err = parse([]string{"--namespace=from-flag", "--metrics-bind-address=0"}, environment)
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(o.Namespace).To(Equal("from-flag"))
	g.Expect(o.MetricsBindAddress).To(Equal("0"))
}

func TestParse_saysWhatIsWrong(t *testing.T) {
	for name, tc := range map[string]struct {
		argument string
		want     string
	}{
		"unknown flag":          {argument: "--nonsense", want: "nonsense"},
		"receiver without port": {argument: "--receiver-bind-address=localhost", want: "--receiver-bind-address"},
		"receiver off":          {argument: "--receiver-bind-address=0", want: "--receiver-bind-address"},
		"health without port":   {argument: "--health-probe-bind-address=x", want: "--health-probe-bind-address"},
		"namespace":             {argument: "--namespace=Not_One", want: "--namespace"},
		"probes too often":      {argument: "--probe-interval=1ms", want: "--probe-interval"},
		"probes too seldom":     {argument: "--probe-interval=10m", want: "--probe-interval"},
		"too few connections":   {argument: "--receiver-max-connections=0", want: "--receiver-max-connections"},
		"too many connections":  {argument: "--receiver-max-connections=100000", want: "--receiver-max-connections"},
		"less than a body":      {argument: "--receiver-max-unverified-bytes=1000", want: "--receiver-max-unverified-bytes"},
		"no such directory":     {argument: "--receiver-cert-dir=/nonexistent", want: "--receiver-cert-dir"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := parse([]string{tc.argument}, nil)
			NewWithT(t).Expect(err).To(MatchError(ContainSubstring(tc.want)))
		})
	}
}
