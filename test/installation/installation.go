// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package installation installs the operator on a control plane as its users do, with the project's own kustomize
// output, and runs the built manager as a process under its own service account, and so with exactly the rights that
// config/rbac gives. The demo, the end-to-end tests and the benchmarks share it.
package installation

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	"k8s.io/apimachinery/pkg/util/wait"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/client"

	clerkv1alpha1 "github.com/clerk-operator/clerk-operator/api/v1alpha1"
	"github.com/clerk-operator/clerk-operator/test/controlplane"
)

const (
	// Namespace is the operator's own in config/default.
	Namespace = "clerk-operator-system"
	// ServiceAccount is who the manager is in config/default.
	ServiceAccount = "clerk-operator-controller-manager"

	readyTimeout = time.Minute
	// stopGrace is longer than the manager's own.
	stopGrace = 40 * time.Second
)

// Installation is the operator's objects on a control plane.
type Installation struct {
	ControlPlane *controlplane.ControlPlane
	// Client is the administrator's, without a cache.
	Client client.Client
	// Namespace is the operator's own, and ServiceAccount, in it, is who the manager is.
	Namespace, ServiceAccount string

	root string
}

// Options say what is installed. The zero value is config/default, built by kubectl.
type Options struct {
	// Manifests are applied in place of config/default.
	Manifests string
	// Namespace and ServiceAccount are those that Manifests have; the default is those of config/default.
	Namespace, ServiceAccount string
}

// Install applies config/default of the module in the root folder. It does not run anything: no kubelet does.
func Install(ctx context.Context, cp *controlplane.ControlPlane, root string) (*Installation, error) {
	return InstallWith(ctx, cp, root, Options{})
}

// InstallWith is Install with options.
func InstallWith(ctx context.Context, cp *controlplane.ControlPlane, root string, o Options) (*Installation, error) {
	apply := cp.Kubectl(ctx, "apply", "--server-side", "-k", filepath.Join(root, "config", "default"))
	if o.Manifests != "" {
		apply = cp.Kubectl(ctx, "apply", "--server-side", "-f", "-")
		apply.Stdin = strings.NewReader(o.Manifests)
	}
	out, err := apply.CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("applying the operator's manifests: %w\n%s", err, out)
	}
	out, err = cp.Kubectl(ctx, "wait", "--for=condition=Established", "--timeout=60s", "crd", "--all").CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("waiting for the CRDs: %w\n%s", err, out)
	}
	scheme := runtime.NewScheme()
	utilruntime.Must(clientgoscheme.AddToScheme(scheme))
	utilruntime.Must(clerkv1alpha1.AddToScheme(scheme))
	c, err := client.New(cp.Config(), client.Options{Scheme: scheme})
	if err != nil {
		return nil, fmt.Errorf("building the client: %w", err)
	}
	return &Installation{
		ControlPlane: cp, Client: c, root: root,
		Namespace: cmp.Or(o.Namespace, Namespace), ServiceAccount: cmp.Or(o.ServiceAccount, ServiceAccount),
	}, nil
}

// SetSigningSecret writes the signing secret where config/samples/clerkinstance.yaml looks for it.
func (i *Installation) SetSigningSecret(ctx context.Context, secret string) error {
	object := &corev1.Secret{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Secret"},
		ObjectMeta: metav1.ObjectMeta{Namespace: i.Namespace, Name: "clerk-webhook"},
		StringData: map[string]string{"signing-secret": secret},
	}
	out, err := i.apply(ctx, object)
	if err != nil {
		return fmt.Errorf("writing the signing secret: %w\n%s", err, out)
	}
	return nil
}

func (i *Installation) apply(ctx context.Context, object client.Object) (string, error) {
	existing := object.DeepCopyObject().(client.Object)
	err := i.Client.Create(ctx, existing)
	if client.IgnoreAlreadyExists(err) != nil {
		return "", err
	}
	if err == nil {
		return "created", nil
	}
	return "updated", i.Client.Update(ctx, object)
}

// Manager is a running manager.
type Manager struct {
	// URL is where webhooks are received, without a path.
	URL string
	// Health is where /healthz and /readyz are, without a path.
	Health string
	// Metrics is where /metrics is served over HTTPS, without a path; empty when it is not.
	Metrics string
	// Process is the manager's; the first one where a Supervisor starts more.
	Process *controlplane.Process

	start func() (*controlplane.Process, error)
}

// ManagerOptions say how a manager is run. The zero value is good.
type ManagerOptions struct {
	// Name tells several managers apart; it names the log.
	Name string
	// ReceiverAddress is where webhooks are received (host:port); the default is a free port of the loopback address.
	ReceiverAddress string
	// Metrics makes the manager serve metrics.
	Metrics bool
	// Args are more flags.
	Args []string
	// Env are more variables, as NAME=value.
	Env []string
}

func (o ManagerOptions) name() string { return cmp.Or(o.Name, "manager") }

// StartManager runs bin/manager under its service account and waits until it is ready.
func (i *Installation) StartManager(ctx context.Context, o ManagerOptions) (*Manager, error) {
	if err := i.WriteCredentials(ctx, o); err != nil {
		return nil, err
	}
	m, err := i.RunManager(ctx, o)
	if err != nil {
		return nil, err
	}
	if err := m.WaitReady(ctx); err != nil {
		_ = m.Process.Kill()
		return nil, err
	}
	return m, nil
}

// WriteCredentials writes the service account's credentials for a manager, which takes an API server that runs.
func (i *Installation) WriteCredentials(ctx context.Context, o ManagerOptions) error {
	config, err := i.ControlPlane.ServiceAccountConfig(ctx, i.Namespace, i.ServiceAccount)
	if err != nil {
		return err
	}
	return controlplane.WriteKubeconfig(i.kubeconfig(o), config)
}

func (i *Installation) kubeconfig(o ManagerOptions) string {
	return filepath.Join(i.ControlPlane.Dir(), o.name()+".kubeconfig")
}

// RunManager runs bin/manager with the credentials that were written for it, and does not wait until it is ready.
func (i *Installation) RunManager(ctx context.Context, o ManagerOptions) (*Manager, error) {
	var err error
	if o.ReceiverAddress == "" {
		if o.ReceiverAddress, err = freeAddress(ctx); err != nil {
			return nil, err
		}
	}
	health, err := freeAddress(ctx)
	if err != nil {
		return nil, err
	}
	metrics := "0"
	if o.Metrics {
		if metrics, err = freeAddress(ctx); err != nil {
			return nil, err
		}
	}
	args := append([]string{
		"--kubeconfig=" + i.kubeconfig(o), "--namespace=" + i.Namespace, "--metrics-bind-address=" + metrics,
		"--receiver-bind-address=" + o.ReceiverAddress, "--health-probe-bind-address=" + health,
	}, o.Args...)
	m := &Manager{URL: "http://" + o.ReceiverAddress, Health: "http://" + health}
	m.start = func() (*controlplane.Process, error) {
		// The process must outlive the call, whose context may be one step's.
		cmd := exec.CommandContext(context.WithoutCancel(ctx), filepath.Join(i.root, "bin", "manager"), args...)
		cmd.Env = append(os.Environ(), o.Env...)
		return controlplane.StartProcess(o.name(), cmd, filepath.Join(i.ControlPlane.Dir(), "logs", o.name()+".log"))
	}
	if m.Process, err = m.start(); err != nil {
		return nil, err
	}
	if o.Metrics {
		m.Metrics = "https://" + metrics
	}
	return m, nil
}

// Stop ends the manager as a pod's end does.
func (m *Manager) Stop() error { return m.Process.Stop(stopGrace) }

// WaitReady waits until the manager is ready, for a minute at most. Its error shows the end of the log.
func (m *Manager) WaitReady(ctx context.Context) error {
	err := wait.PollUntilContextTimeout(ctx, 100*time.Millisecond, readyTimeout, true, func(ctx context.Context) (bool, error) {
		select {
		case <-m.Process.Exited():
			return false, fmt.Errorf("the manager ended: %w", m.Process.Err())
		default:
		}
		return m.Ready(ctx), nil
	})
	if err != nil {
		return fmt.Errorf("waiting for the manager to be ready: %w\n%s", err, m.Process.LogTail(20))
	}
	return nil
}

// Ready reports whether the manager's readiness check passes.
func (m *Manager) Ready(ctx context.Context) bool { return m.ok(ctx, "/readyz") }

// Alive reports whether the manager's liveness check passes.
func (m *Manager) Alive(ctx context.Context) bool { return m.ok(ctx, "/healthz") }

func (m *Manager) ok(ctx context.Context, path string) bool {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, m.Health+path, http.NoBody)
	if err != nil {
		return false
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return false
	}
	_ = response.Body.Close()
	return response.StatusCode == http.StatusOK
}

// Ports come from below the range of outgoing connections, which come and go all the time: one of those could take a
// manager's port while a test has the manager stopped. The control plane's are above.
const (
	firstPort = 10000
	lastPort  = 19999
)

// freeAddress returns an address of the loopback interface that nothing listens on.
func freeAddress(ctx context.Context) (string, error) {
	const attempts = 100
	var config net.ListenConfig
	var err error
	for range attempts {
		address := net.JoinHostPort("127.0.0.1", strconv.Itoa(firstPort+rand.IntN(lastPort-firstPort+1)))
		var listener net.Listener
		if listener, err = config.Listen(ctx, "tcp", address); err == nil {
			return address, listener.Close()
		}
	}
	return "", fmt.Errorf("finding a free port: %w", err)
}
