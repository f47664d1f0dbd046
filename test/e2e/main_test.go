// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

// Package e2e runs the operator as its users do: the built manager as a process, under its own service account, on a
// real control plane with the project's kustomize output, with signed deliveries over HTTP, namespaces that really
// terminate, and kubectl. Its tests assert what the cluster says, and who may do what in it.
//
// Tests share one control plane and one manager and use IDs of their own, so that they can run in any order. Those that
// need a manager to die have one of their own, or put the shared one back.
package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-logr/logr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/clerk-operator/clerk-operator/test/controlplane"
	"github.com/clerk-operator/clerk-operator/test/installation"
)

// signingSecret is that of the ClerkInstance default.
const signingSecret = "whsec_ZW5kLXRvLWVuZC1zdWl0ZS1zaWduaW5nLWtleQ=="

// suite is what all tests share.
var suite struct {
	root   string
	cp     *controlplane.ControlPlane
	in     *installation.Installation
	client client.Client
	// manager is the one that leads, except in tests that put another in its place.
	manager *installation.Manager
	// supervisor restarts it whenever it exits, in tests that need that.
	supervisor *installation.Supervisor
	// args are more flags of it.
	args []string
}

func TestMain(m *testing.M) {
	os.Exit(run(m))
}

func run(m *testing.M) (code int) {
	err := startSuite(context.Background(), installation.Options{})
	if err == nil {
		code = m.Run()
		err = stopManager()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "the suite:", err)
		code = 1
	}
	if suite.cp == nil {
		return code
	}
	if code != 0 {
		suite.cp.Keep()
		fmt.Fprintln(os.Stderr, "logs are kept in", filepath.Join(suite.cp.Dir(), "logs"))
	}
	if err := suite.cp.Stop(); err != nil {
		fmt.Fprintln(os.Stderr, "the suite:", err)
		code = 1
	}
	return code
}

// startSuite does what README tells users to do.
func startSuite(ctx context.Context, o installation.Options) (err error) {
	ctrl.SetLogger(logr.Discard())
	if suite.root, err = filepath.Abs("../.."); err != nil {
		return err
	}
	if suite.cp, err = controlplane.Start(ctx, controlplane.Options{ControllerManager: true}); err != nil {
		return err
	}
	if suite.in, err = installation.InstallWith(ctx, suite.cp, suite.root, o); err != nil {
		return err
	}
	suite.client = suite.in.Client
	if err := suite.in.SetSigningSecret(ctx, signingSecret); err != nil {
		return err
	}
	sample := filepath.Join(suite.root, "config", "samples", "clerkinstance.yaml")
	if out, err := suite.cp.Kubectl(ctx, "apply", "-f", sample).CombinedOutput(); err != nil {
		return fmt.Errorf("applying the sample: %w\n%s", err, out)
	}
	return startManager(ctx)
}

// startManager starts the shared manager, at the address where it was before.
func startManager(ctx context.Context) (err error) {
	o := installation.ManagerOptions{Args: append([]string{"--leader-elect"}, suite.args...)}
	if suite.manager != nil {
		o.ReceiverAddress = addressOf(suite.manager)
	}
	suite.manager, err = suite.in.StartManager(ctx, o)
	return err
}

// stopManager stops the shared manager, which must not have ended by itself, unless it is supervised, nor panicked.
func stopManager() error {
	end := endManager
	if suite.supervisor != nil {
		end = suite.supervisor.Stop
	}
	if err := end(); err != nil {
		return err
	}
	log, err := os.ReadFile(suite.manager.Process.LogPath())
	if err != nil {
		return err
	}
	if strings.Contains(string(log), "panic") {
		return errors.New("the manager panicked; see its log")
	}
	return nil
}

func endManager() error {
	process := suite.manager.Process
	select {
	case <-process.Exited():
		return fmt.Errorf("the manager ended by itself: %w\n%s", process.Err(), process.LogTail(20))
	default:
	}
	if err := suite.manager.Stop(); err != nil {
		return err
	}
	if err := process.Err(); err != nil {
		return fmt.Errorf("the manager did not end well: %w\n%s", err, process.LogTail(20))
	}
	return nil
}

// addressOf is where a manager receives, as host:port.
func addressOf(m *installation.Manager) string {
	return strings.TrimPrefix(m.URL, "http://")
}
