// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

// The demo shows the operator's main job on a real API server, with neither a cluster nor a Clerk account: it starts a
// control plane, installs the operator with the project's own kustomize output, runs the manager under its own service
// account, delivers signed events, and after each shows what a person would look at. It fails when a step does not
// reach its state.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net/http/httptest"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/clerk-operator/clerk-operator/internal/delivery"
	"github.com/clerk-operator/clerk-operator/test/clerkfake"
	"github.com/clerk-operator/clerk-operator/test/controlplane"
	"github.com/clerk-operator/clerk-operator/test/installation"
)

// signingSecret is the demo's own, of no use anywhere else.
const signingSecret = "whsec_ZGVtby1zZWNyZXQtb2YtY2xlcmstb3BlcmF0b3I="

// receiverAddress is fixed, so that the commands that the demo prints can be copied.
const receiverAddress = "127.0.0.1:18080"

func main() {
	keep := flag.Bool("keep", false, "Leave everything running at the end, until interrupted.")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *keep); err != nil {
		fmt.Fprintln(os.Stderr, "\nThe demo failed:", err)
		stop()
		os.Exit(1)
	}
}

func run(ctx context.Context, keep bool) (err error) {
	root, err := os.Getwd()
	if err != nil {
		return fmt.Errorf("finding the module's root: %w", err)
	}
	s := &stage{root: root}
	s.say("A control plane: etcd, kube-apiserver, kube-controller-manager")
	cp, err := controlplane.Start(ctx, controlplane.Options{ControllerManager: true})
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			cp.Keep()
			fmt.Fprintln(os.Stderr, "\nLogs are kept in", filepath.Join(cp.Dir(), "logs"))
		}
		err = errors.Join(err, cp.Stop())
	}()
	s.cp = cp
	s.say("The operator, installed with: kubectl apply -k config/default")
	in, err := installation.Install(ctx, cp, root)
	if err != nil {
		return err
	}
	if err := in.SetSigningSecret(ctx, signingSecret); err != nil {
		return err
	}
	if err := s.show(ctx, "apply", "-f", "config/samples/clerkinstance.yaml", "-f", "hack/demo/clerktenantclass.yaml"); err != nil {
		return err
	}
	manager, err := in.StartManager(ctx, installation.ManagerOptions{ReceiverAddress: receiverAddress})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, manager.Stop()) }()
	s.sender = delivery.Sender{URL: manager.URL + "/webhooks/clerk", Secret: signingSecret}
	application := clerkfake.New(clerkfake.Config{})
	api := httptest.NewServer(application)
	defer api.Close()
	for _, step := range steps(application, api.URL) {
		if err := s.play(ctx, step); err != nil {
			return fmt.Errorf("%s: %w", step.title, err)
		}
	}
	s.say("Done: every step reached its state.")
	if keep {
		s.explain(manager, application.InstanceID())
		select {
		case <-ctx.Done():
		case <-manager.Process.Exited():
			return errors.New("the manager ended by itself")
		}
	}
	return nil
}
