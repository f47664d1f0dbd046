// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/discovery"
	"sigs.k8s.io/controller-runtime/pkg/client"

	clerkv1alpha1 "github.com/clerk-operator/clerk-operator/api/v1alpha1"
	"github.com/clerk-operator/clerk-operator/test/controlplane"
	"github.com/clerk-operator/clerk-operator/test/installation"
)

// signingSecret is the benchmarks' own, of no use anywhere else.
const signingSecret = "whsec_YmVuY2htYXJrLXNpZ25pbmctc2VjcmV0LWtleQ=="

// leaseHolder is who holds the lease so that no manager leads.
const leaseHolder = "nobody-leads"

const (
	stateTimeout = time.Minute
	polling      = 50 * time.Millisecond
)

// world is a control plane with the operator installed. Every scenario has one of its own.
type world struct {
	bench *bench
	cp    *controlplane.ControlPlane
	in    *installation.Installation
	// admin is the administrator's client.
	admin client.Client
	// raw is the raw client: it acts as the manager's service account, with the manager's kind of client and content
	// type, and like the manager without a limit of its own.
	raw client.Client
	// server asks the API server about itself.
	server discovery.DiscoveryInterface
	// manager is the running manager, nil between two of them.
	manager *installation.Manager
	// audit is the path of the audit log, if there is one.
	audit string
	// options say how managers are run.
	options installation.ManagerOptions
}

// worldOptions say what a world is like. The zero value is good.
type worldOptions struct {
	// audited makes the API server keep an audit log.
	audited bool
	// manager says how managers are run, beside the election of a leader.
	manager installation.ManagerOptions
}

// withWorld runs something in a new world, with config/samples/clerkinstance.yaml applied and without a manager.
func withWorld(ctx context.Context, b *bench, o worldOptions, do func(w *world) error) (err error) {
	dir, err := os.MkdirTemp("", "bench-")
	if err != nil {
		return fmt.Errorf("making a working folder: %w", err)
	}
	w, options := &world{bench: b, options: o.manager}, controlplane.Options{Dir: dir, ControllerManager: true}
	if o.audited {
		if options.APIServerArgs, w.audit, err = auditing(dir); err != nil {
			return err
		}
	}
	cp, err := controlplane.Start(ctx, options)
	if err != nil {
		return err
	}
	w.cp = cp
	defer func() {
		err = errors.Join(err, w.stopManager(), cp.Stop())
		if err != nil {
			err = fmt.Errorf("%w\nlogs are kept in %s", err, filepath.Join(dir, "logs"))
			return
		}
		err = os.RemoveAll(dir)
	}()
	if err := w.install(ctx, b); err != nil {
		return err
	}
	return do(w)
}

func (w *world) install(ctx context.Context, b *bench) (err error) {
	if w.in, err = installation.Install(ctx, w.cp, b.root); err != nil {
		return err
	}
	w.admin = w.in.Client
	if err := w.in.SetSigningSecret(ctx, signingSecret); err != nil {
		return err
	}
	sample := filepath.Join(b.root, "config", "samples", "clerkinstance.yaml")
	if out, err := w.cp.Kubectl(ctx, "apply", "-f", sample).CombinedOutput(); err != nil {
		return fmt.Errorf("applying the sample: %w\n%s", err, out)
	}
	config, err := w.cp.ServiceAccountConfig(ctx, installation.Namespace, installation.ServiceAccount)
	if err != nil {
		return err
	}
	if w.raw, err = client.New(config, client.Options{Scheme: w.admin.Scheme()}); err != nil {
		return fmt.Errorf("building the raw client: %w", err)
	}
	if w.server, err = discovery.NewDiscoveryClientForConfig(w.cp.Config()); err != nil {
		return fmt.Errorf("building the discovery client: %w", err)
	}
	return w.describe(b)
}

// describe notes what the results depend on.
func (w *world) describe(b *bench) error {
	version, err := w.server.ServerVersion()
	if err != nil {
		return fmt.Errorf("asking for the version: %w", err)
	}
	b.machine = machine{
		date: time.Now().UTC(), cores: runtime.NumCPU(), platform: runtime.GOOS + "/" + runtime.GOARCH,
		goVersion: runtime.Version(), kubernetes: version.GitVersion,
	}
	return nil
}

// startLeader runs a manager that receives and reconciles.
func (w *world) startLeader(ctx context.Context) error {
	err := w.admin.Delete(ctx, lease())
	if client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("freeing the lease: %w", err)
	}
	if err := w.startManager(ctx); err != nil {
		return err
	}
	err = wait.PollUntilContextTimeout(ctx, polling, stateTimeout, true, func(ctx context.Context) (bool, error) {
		l := lease()
		err := w.admin.Get(ctx, client.ObjectKeyFromObject(l), l)
		return err == nil && l.Spec.HolderIdentity != nil && *l.Spec.HolderIdentity != "", client.IgnoreNotFound(err)
	})
	if err != nil {
		return fmt.Errorf("waiting for the manager to lead: %w", err)
	}
	_, err = w.quiet(ctx)
	return err
}

// startStandby runs a manager that receives and does not reconcile, as every replica but one does: somebody else holds
// the lease, for longer than any scenario takes.
func (w *world) startStandby(ctx context.Context) error {
	err := w.admin.Delete(ctx, lease())
	if client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("freeing the lease: %w", err)
	}
	held, now := lease(), metav1.NowMicro()
	held.Spec = coordinationv1.LeaseSpec{
		HolderIdentity: new(leaseHolder), LeaseDurationSeconds: new(int32(24 * 60 * 60)), AcquireTime: &now, RenewTime: &now,
	}
	if err := w.admin.Create(ctx, held); err != nil {
		return fmt.Errorf("taking the lease: %w", err)
	}
	if err := w.startManager(ctx); err != nil {
		return err
	}
	_, err = w.quiet(ctx)
	return err
}

// collectGarbage makes the API server collect its garbage. One collection costs it as much as a hundred writes, and there
// are a few in a round: without this, they would come in the rounds of the one side more often than in those of the other.
func (w *world) collectGarbage(ctx context.Context) error {
	request := w.server.RESTClient().Get().AbsPath("/debug/pprof/heap").Param("gc", "1")
	if err := request.Do(ctx).Error(); err != nil {
		return fmt.Errorf("collecting the API server's garbage: %w", err)
	}
	return nil
}

func lease() *coordinationv1.Lease {
	return &coordinationv1.Lease{
		ObjectMeta: metav1.ObjectMeta{Namespace: installation.Namespace, Name: "leader." + clerkv1alpha1.GroupName},
	}
}

func (w *world) startManager(ctx context.Context) (err error) {
	options := w.options
	options.Args = append([]string{"--leader-elect"}, options.Args...)
	w.manager, err = w.in.StartManager(ctx, options)
	return err
}

// stopManager stops the manager if one runs; it must not have ended by itself.
func (w *world) stopManager() error {
	if w.manager == nil {
		return nil
	}
	process := w.manager.Process
	w.manager = nil
	select {
	case <-process.Exited():
		return fmt.Errorf("the manager ended by itself: %w\n%s", process.Err(), process.LogTail(20))
	default:
		return process.Stop(stateTimeout)
	}
}
