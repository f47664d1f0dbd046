// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

// The manager receives Clerk's webhooks and turns what they say into tenants.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"

	// The credential plugins that a kubeconfig may ask for.
	_ "k8s.io/client-go/plugin/pkg/client/auth"

	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/log/zap"
	"sigs.k8s.io/controller-runtime/pkg/metrics"

	"github.com/clerk-operator/clerk-operator/internal/options"
	"github.com/clerk-operator/clerk-operator/internal/setup"
	// +kubebuilder:scaffold:imports
)

func main() {
	o, err := options.Parse(flag.CommandLine, os.Args[1:], os.Getenv)
	switch {
	case errors.Is(err, flag.ErrHelp):
		os.Exit(0)
	case err != nil:
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	if err := run(ctrl.SetupSignalHandler(), o); err != nil {
		ctrl.Log.Error(err, "The manager ended")
		os.Exit(1)
	}
}

func run(ctx context.Context, o *options.Options) error {
	ctrl.SetLogger(zap.New(zap.UseFlagOptions(&o.Zap)))
	config, err := ctrl.GetConfig()
	if err != nil {
		return fmt.Errorf("finding the API server: %w", err)
	}
	mgr, server, err := setup.Manager(ctx, config, o, metrics.Registry)
	if err != nil {
		return err
	}
	return setup.Run(ctx, mgr, server)
}
