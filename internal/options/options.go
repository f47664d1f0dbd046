// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package options is the only reader of the manager's flags and environment.
package options

import (
	"cmp"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"time"

	"k8s.io/apimachinery/pkg/util/validation"
	"sigs.k8s.io/controller-runtime/pkg/log/zap"

	"github.com/clerk-operator/clerk-operator/internal/policy"
	"github.com/clerk-operator/clerk-operator/internal/receiver"
)

// DefaultNamespace is where the operator is when nothing says otherwise.
const DefaultNamespace = "clerk-operator-system"

// Options is everything that the manager is told when it starts.
type Options struct {
	// ReceiverBindAddress is where webhooks are received, as host:port.
	ReceiverBindAddress string
	// ReceiverCertDir holds tls.crt and tls.key; with it the receiver speaks HTTPS.
	ReceiverCertDir string
	// ReceiverLimits bound what senders that are not proven to be Clerk can make the receiver hold.
	ReceiverLimits receiver.Limits
	// MetricsBindAddress is where metrics are served over HTTPS to whom the API server authorises, as host:port; 0 is off.
	MetricsBindAddress string
	// HealthProbeBindAddress is where /healthz and /readyz are served, as host:port; 0 is off.
	HealthProbeBindAddress string
	// LeaderElect makes replicas agree on one that reconciles. Every replica receives.
	LeaderElect bool
	// Namespace is the operator's own: where its Secrets and its lease are.
	Namespace string
	// ProbeInterval is the time between two rounds of probes of the admission policies.
	ProbeInterval time.Duration
	// RequirePolicies makes no new namespace and gives no new access while the admission policies are not in force.
	RequirePolicies bool
	// WebhookSecret holds the signing secrets of the default instance while there is no ClerkInstance, separated by
	// white space. It is a credential.
	WebhookSecret string
	// Zap configures the log.
	Zap zap.Options
}

// Parse reads arguments (without the program's name) and the environment. Output is where usage goes. It returns
// flag.ErrHelp when help was asked for, and says what is wrong with the value of which flag otherwise. The flag
// --kubeconfig is controller-runtime's own and must be in flags already.
func Parse(flags *flag.FlagSet, arguments []string, environment func(string) string) (*Options, error) {
	o := &Options{WebhookSecret: environment("CLERK_WEBHOOK_SECRET")}
	flags.StringVar(&o.ReceiverBindAddress, "receiver-bind-address", ":8080", "The address that webhooks are received on.")
	flags.StringVar(&o.ReceiverCertDir, "receiver-cert-dir", "",
		"A directory with tls.crt and tls.key. With it, webhooks are received over HTTPS; a changed certificate is taken up.")
	o.ReceiverLimits = receiver.DefaultLimits()
	flags.IntVar(&o.ReceiverLimits.Connections, "receiver-max-connections", o.ReceiverLimits.Connections,
		"How many connections the receiver keeps open. At the limit, a new one takes the place of the one idle or silent longest.")
	flags.Int64Var(&o.ReceiverLimits.UnverifiedBytes, "receiver-max-unverified-bytes", o.ReceiverLimits.UnverifiedBytes,
		"How many bytes the receiver holds of bodies that are not verified yet. At the limit, the body that takes longest is cut.")
	flags.StringVar(&o.MetricsBindAddress, "metrics-bind-address", ":8443",
		"The address that metrics are served on, over HTTPS and to authorised clients. 0 is off.")
	flags.StringVar(&o.HealthProbeBindAddress, "health-probe-bind-address", ":8081",
		"The address that /healthz and /readyz are served on. 0 is off.")
	flags.BoolVar(&o.LeaderElect, "leader-elect", false, "Let replicas agree on one that reconciles. Every replica receives.")
	flags.StringVar(&o.Namespace, "namespace", cmp.Or(environment("POD_NAMESPACE"), DefaultNamespace),
		"The operator's own namespace, where its Secrets and its lease are.")
	flags.DurationVar(&o.ProbeInterval, "probe-interval", policy.DefaultInterval,
		"The time between two rounds of dry runs by which the leader sees that its admission policies are in force.")
	flags.BoolVar(&o.RequirePolicies, "require-policies", true,
		"Make no new namespace and give no new access while the admission policies of config/policy are not in force.")
	o.Zap.BindFlags(flags)
	if err := flags.Parse(arguments); err != nil {
		return nil, err
	}
	return o, o.validate()
}

func (o *Options) validate() error {
	var errs []error
	check := func(name, address string, mayBeOff bool) {
		if mayBeOff && address == "0" {
			return
		}
		if _, _, err := net.SplitHostPort(address); err != nil {
			errs = append(errs, fmt.Errorf("--%s=%q: want host:port, such as :8080: %w", name, address, err))
		}
	}
	check("receiver-bind-address", o.ReceiverBindAddress, false)
	check("metrics-bind-address", o.MetricsBindAddress, true)
	check("health-probe-bind-address", o.HealthProbeBindAddress, true)
	for _, problem := range validation.IsDNS1123Label(o.Namespace) {
		errs = append(errs, fmt.Errorf("--namespace=%q: %s", o.Namespace, problem))
	}
	if o.ProbeInterval < policy.MinInterval || o.ProbeInterval > policy.MaxInterval {
		errs = append(errs, fmt.Errorf("--probe-interval=%s: want %s to %s", o.ProbeInterval, policy.MinInterval, policy.MaxInterval))
	}
	errs = append(errs, o.validateLimits()...)
	if o.ReceiverCertDir != "" {
		if info, err := os.Stat(o.ReceiverCertDir); err != nil || !info.IsDir() {
			errs = append(errs, fmt.Errorf("--receiver-cert-dir=%q: want a directory with tls.crt and tls.key", o.ReceiverCertDir))
		}
	}
	return errors.Join(errs...)
}

func (o *Options) validateLimits() (errs []error) {
	if n := o.ReceiverLimits.Connections; n < receiver.MinConnections || n > receiver.MaxConnections {
		errs = append(errs, fmt.Errorf("--receiver-max-connections=%d: want %d to %d",
			n, receiver.MinConnections, receiver.MaxConnections))
	}
	if n := o.ReceiverLimits.UnverifiedBytes; n < receiver.MinUnverifiedBytes {
		errs = append(errs, fmt.Errorf("--receiver-max-unverified-bytes=%d: want at least %d, for a few bodies",
			n, receiver.MinUnverifiedBytes))
	}
	return errs
}
