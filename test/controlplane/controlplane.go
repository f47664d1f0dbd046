// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package controlplane

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/util/cert"
	"k8s.io/client-go/util/keyutil"
)

const (
	modulePath = "github.com/clerk-operator/clerk-operator"
	loopback   = "127.0.0.1"

	// startTimeout bounds a start whose caller sets no deadline: about ten times what a busy machine needs.
	startTimeout = 2 * time.Minute
	// stopGrace is how long a process may take to end after SIGTERM. kube-apiserver may want to wait a minute for
	// clients that do not let go; what it has acknowledged is in etcd, so killing it loses nothing.
	stopGrace = 5 * time.Second
	// tokenLifetime is the lifetime of a service account's token: longer than any test run.
	tokenLifetime = time.Hour
)

// Options says what Start starts. The zero value is good: etcd and kube-apiserver in a new temporary folder.
type Options struct {
	// Dir is the working folder for data, certificates, logs and the kubeconfig. It is created when it does not exist
	// and must not hold an earlier control plane's data. It is never removed when it is set here. The default is a new
	// temporary folder that Stop removes, except after KeepDir, Keep, a failed start or the crash of a process.
	Dir string
	// BinDir is the folder with etcd, kube-apiserver, kube-controller-manager and kubectl. The default is
	// bin/controlplane in the root of this module, which is looked for from the current folder upwards.
	BinDir string
	// ControllerManager starts kube-controller-manager too, with these controllers: namespace-controller,
	// garbage-collector-controller, resourcequota-controller, serviceaccount-controller,
	// serviceaccount-token-controller and clusterrole-aggregation-controller.
	//
	// Without it a deleted namespace stays in phase Terminating, owned objects outlive their owner, and aggregated
	// ClusterRoles such as admin have no rules.
	ControllerManager bool
	// APIServerArgs are more flags for kube-apiserver, such as "--v=4". They come last, so a flag with one value
	// replaces the one that this package sets. Relative paths start at Dir.
	APIServerArgs []string
	// KeepDir makes Stop leave the temporary folder in place.
	KeepDir bool
}

// ControlPlane is a control plane that Start has started. All methods are safe for concurrent use; those that start and
// stop processes wait for each other.
type ControlPlane struct {
	options  Options             // Dir and BinDir are set and absolute
	pickPort func() (int, error) // finds a port for a new listener; a field so that a test can pick a taken one
	admin    *rest.Config        // set by start, constant from then on
	etcdName string              // set by start, constant from then on
	etcdPort int                 // set by start, constant from then on
	etcdURL  string              // set by start, constant from then on
	port     int                 // of the API server; set by start, constant from then on

	mu                sync.Mutex // guards what follows
	etcd              *Process   // nil while it is stopped on purpose, as the others are
	apiServer         *Process
	controllerManager *Process
	tempDir           bool // Stop removes Dir
	stopped           bool
}

// Start starts a control plane and returns when it is ready: the API server's /readyz answers ok and the namespace
// "default" exists; with Options.ControllerManager the service account "default" exists there too.
//
// ctx bounds the start only (2 minutes at most); the control plane runs until Stop. When Start fails it has stopped all
// that it had started. The error quotes the end of the log of the process that failed, and the working folder is kept.
func Start(ctx context.Context, o Options) (*ControlPlane, error) {
	c, err := newControlPlane(o)
	if err != nil {
		return nil, fmt.Errorf("starting the control plane: %w", err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	if err := c.start(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("starting the control plane in %s: %w", c.Dir(), err), c.stopProcesses())
	}
	return c, nil
}

// newControlPlane fills in the defaults of o, checks that the binaries are there and creates the working folder.
func newControlPlane(o Options) (*ControlPlane, error) {
	c := &ControlPlane{options: o, pickPort: freePort}
	binDir, err := findBinaries(o)
	if err != nil {
		return nil, err
	}
	c.options.BinDir = binDir
	if o.Dir == "" {
		c.tempDir = !o.KeepDir
		c.options.Dir, err = os.MkdirTemp("", "controlplane-")
	} else {
		c.options.Dir, err = filepath.Abs(o.Dir)
	}
	if err != nil {
		return nil, fmt.Errorf("finding a working folder: %w", err)
	}
	if _, err := os.Stat(c.path(etcdData)); err == nil {
		return nil, fmt.Errorf("%s holds the data of an earlier control plane: remove it or choose another Dir", c.Dir())
	}
	// The folder holds credentials: it is for its owner only.
	if err := os.MkdirAll(c.path("logs"), 0o700); err != nil {
		return nil, fmt.Errorf("creating the working folder: %w", err)
	}
	return c, nil
}

// findBinaries returns the absolute path of the folder that holds the binaries o asks for.
func findBinaries(o Options) (string, error) {
	binDir := o.BinDir
	if binDir == "" {
		root, err := moduleRoot()
		if err != nil {
			return "", fmt.Errorf("finding the binaries: %w", err)
		}
		binDir = filepath.Join(root, "bin", "controlplane")
	}
	binDir, err := filepath.Abs(binDir)
	if err != nil {
		return "", fmt.Errorf("finding the binaries: %w", err)
	}
	needed := []string{etcd, apiServer, kubectl}
	if o.ControllerManager {
		needed = append(needed, controllerManager)
	}
	for _, name := range needed {
		if _, err := exec.LookPath(filepath.Join(binDir, name)); err != nil {
			return "", fmt.Errorf("finding the binaries: %w: run \"make controlplane\" in the root of the repository", err)
		}
	}
	return binDir, nil
}

// moduleRoot returns the root folder of this module: the current folder or the nearest one above it with its go.mod.
func moduleRoot() (string, error) {
	current, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("finding the current folder: %w", err)
	}
	for dir := current; ; dir = filepath.Dir(dir) {
		goMod, err := os.ReadFile(filepath.Join(dir, "go.mod"))
		// Other modules, such as those that pin tools, may lie between here and the root.
		if err == nil && strings.HasPrefix(string(goMod), "module "+modulePath+"\n") {
			return dir, nil
		}
		if dir == filepath.Dir(dir) {
			return "", fmt.Errorf("no go.mod of %s in %s or above: run from inside the repository, or set Options.BinDir", modulePath, current)
		}
	}
}

// start starts the processes in the order in which they need each other. The caller holds mu.
func (c *ControlPlane) start(ctx context.Context) error {
	certificate, users, err := c.writeCredentials()
	if err != nil {
		return fmt.Errorf("creating credentials: %w", err)
	}
	if err := c.startEtcd(ctx); err != nil {
		return err
	}
	config := func(port int, token string) *rest.Config {
		return &rest.Config{
			Host:            "https://" + net.JoinHostPort(loopback, strconv.Itoa(port)),
			BearerToken:     token,
			TLSClientConfig: rest.TLSClientConfig{CAData: certificate},
			// A test waits for the API server, not for a throttle in its own client.
			QPS: -1,
		}
	}
	c.apiServer, c.port, err = c.startOnPort(ctx, c.pickPort, component{
		name:    apiServer,
		command: c.apiServerCommand,
		ready:   func(ctx context.Context, port int) error { return apiServerReady(ctx, config(port, users.admin)) },
	})
	if err != nil {
		return err
	}
	c.admin = config(c.port, users.admin)
	if err := WriteKubeconfig(c.Kubeconfig(), c.admin); err != nil {
		return err
	}
	if !c.options.ControllerManager {
		return nil
	}
	if err := WriteKubeconfig(c.path(controllerManagerKubeconfig), config(c.port, users.controllerManager)); err != nil {
		return err
	}
	return c.startControllerManager(ctx)
}

// tokens are the bearer tokens of the users that the API server knows from the start.
type tokens struct {
	admin             string
	controllerManager string
}

// writeCredentials creates what the processes identify themselves with, and returns what clients need: the certificate
// to trust (PEM) and the tokens.
func (c *ControlPlane) writeCredentials() ([]byte, tokens, error) {
	certificate, key, err := cert.GenerateSelfSignedCertKey(loopback, nil, []string{"localhost"})
	if err != nil {
		return nil, tokens{}, fmt.Errorf("creating the serving certificate: %w", err)
	}
	serviceAccountKey, err := keyutil.MakeEllipticPrivateKeyPEM()
	if err != nil {
		return nil, tokens{}, fmt.Errorf("creating the key of service accounts: %w", err)
	}
	t := tokens{admin: rand.Text(), controllerManager: rand.Text()}
	// Being in system:masters spares the controllers the RBAC roles that each of them has in a real cluster; the name
	// tells them from the test in the audit log.
	tokenFile := t.admin + ",admin,admin,system:masters\n" +
		t.controllerManager + ",system:kube-controller-manager,system:kube-controller-manager,system:masters\n"
	for name, content := range map[string][]byte{
		servingCertificate: certificate,
		servingKey:         key,
		serviceAccountKeys: serviceAccountKey,
		tokensFile:         []byte(tokenFile),
	} {
		if err := os.WriteFile(c.path(name), content, 0o600); err != nil {
			return nil, tokens{}, fmt.Errorf("writing credentials: %w", err)
		}
	}
	return certificate, t, nil
}

// Stop stops kube-controller-manager, kube-apiserver and etcd, in this order, each with SIGTERM and, where that has not
// ended it within 5 seconds, with SIGKILL. It removes the working folder if that is a temporary one; see Options.Dir.
//
// An error tells that a process could not be stopped, or that one had ended by itself before: then the working folder
// with its log is kept. Calling Stop again does nothing and returns nil.
func (c *ControlPlane) Stop() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stopped {
		return nil
	}
	c.stopped = true
	err := errors.Join(c.crashed(), c.stopProcesses())
	if err != nil {
		return fmt.Errorf("stopping the control plane in %s: %w", c.Dir(), err)
	}
	if !c.tempDir {
		return nil
	}
	if err := os.RemoveAll(c.Dir()); err != nil {
		return fmt.Errorf("removing the working folder of the control plane: %w", err)
	}
	return nil
}

// crashed tells about processes that have ended although nobody stopped them. The caller holds mu.
func (c *ControlPlane) crashed() error {
	var errs []error
	for _, p := range []*Process{c.controllerManager, c.apiServer, c.etcd} {
		if p != nil && p.hasExited() {
			errs = append(errs, exitError(p))
		}
	}
	return errors.Join(errs...)
}

// stopProcesses stops what runs. The caller holds mu.
func (c *ControlPlane) stopProcesses() error {
	var errs []error
	for _, p := range []*Process{c.controllerManager, c.apiServer, c.etcd} {
		if p != nil {
			errs = append(errs, stopOrKill(context.Background(), p))
		}
	}
	return errors.Join(errs...)
}

// stopOrKill stops p within stopGrace, or at the end of ctx if that comes first; having to kill it is no failure.
func stopOrKill(ctx context.Context, p *Process) error {
	ctx, cancel := context.WithTimeout(ctx, stopGrace)
	defer cancel()
	_, err := p.stop(ctx)
	return err
}

// Keep makes Stop leave the working folder in place, so that a failed test's logs can be read.
func (c *ControlPlane) Keep() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.tempDir = false
}

// Dir returns the absolute path of the working folder. The log of each process is in the folder logs there:
// etcd.log, kube-apiserver.log and kube-controller-manager.log.
func (c *ControlPlane) Dir() string {
	return c.options.Dir
}

// path returns the absolute path of a file in the working folder.
func (c *ControlPlane) path(name string) string {
	return filepath.Join(c.options.Dir, name)
}

// Config returns a new configuration for clients of the API server as user "admin", who may do everything (group
// system:masters), without client-side throttling. The caller may change it.
func (c *ControlPlane) Config() *rest.Config {
	return rest.CopyConfig(c.admin)
}

// Kubeconfig returns the absolute path of a kubeconfig file, of mode 0600, for the user of Config.
func (c *ControlPlane) Kubeconfig() string {
	return c.path("kubeconfig")
}

// Kubectl returns a command, not started, that runs kubectl with args as the user of Config. The end of ctx kills it.
func (c *ControlPlane) Kubectl(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, filepath.Join(c.options.BinDir, kubectl), args...)
	cmd.Env = append(os.Environ(),
		"KUBECONFIG="+c.Kubeconfig(),
		// kubectl caches an API server's kinds by its address, which an earlier control plane may have had, with other
		// kinds.
		"KUBECACHEDIR="+c.path("kubectl-cache"),
		// The user's own preferences must not change what a test runs.
		"KUBERC=off",
	)
	return cmd
}

// ServiceAccountConfig returns a new configuration for clients that act as a service account, with exactly the rights
// that RBAC gives it, without client-side throttling. The service account must exist. The configuration is valid for
// one hour, or until the service account is deleted.
func (c *ControlPlane) ServiceAccountConfig(ctx context.Context, namespace, name string) (*rest.Config, error) {
	client, err := kubernetes.NewForConfig(c.Config())
	if err != nil {
		return nil, fmt.Errorf("creating a client: %w", err)
	}
	seconds := int64(tokenLifetime.Seconds())
	request := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{ExpirationSeconds: &seconds}}
	answer, err := client.CoreV1().ServiceAccounts(namespace).CreateToken(ctx, name, request, metav1.CreateOptions{})
	if err != nil {
		return nil, fmt.Errorf("requesting a token for service account %s/%s: %w", namespace, name, err)
	}
	config := rest.AnonymousClientConfig(c.admin)
	config.BearerToken = answer.Status.Token
	return config, nil
}

// StopAPIServer stops the API server with SIGTERM, and with SIGKILL where that has not ended it within 5 seconds or by
// the end of ctx. etcd keeps running. It does nothing when the API server is not running.
func (c *ControlPlane) StopAPIServer(ctx context.Context) error {
	return c.endAPIServer(func(p *Process) error { return stopOrKill(ctx, p) })
}

// KillAPIServer ends the API server with SIGKILL, as a crash would. etcd keeps running. It does nothing when the API
// server is not running.
func (c *ControlPlane) KillAPIServer() error {
	return c.endAPIServer((*Process).Kill)
}

func (c *ControlPlane) endAPIServer(end func(*Process) error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.apiServer == nil {
		return nil
	}
	if err := end(c.apiServer); err != nil {
		return err
	}
	c.apiServer = nil
	return nil
}

// StartAPIServer starts the API server again after StopAPIServer, KillAPIServer or a crash, with the same port, data
// and credentials, and returns when it is ready. It does nothing when the API server is running. kube-controller-manager
// reconnects by itself: at once after a short absence, but it can take a minute after one of 20 seconds.
func (c *ControlPlane) StartAPIServer(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stopped {
		return errors.New("starting kube-apiserver: the control plane has been stopped: start a new one")
	}
	if c.apiServer != nil && !c.apiServer.hasExited() {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	return c.startAPIServerAgain(ctx)
}

// startAPIServerAgain starts the API server as it was before. The caller holds mu.
func (c *ControlPlane) startAPIServerAgain(ctx context.Context) error {
	p, _, err := c.startOnPort(ctx, func() (int, error) { return c.port, nil }, component{
		name:    apiServer,
		command: c.apiServerCommand,
		ready:   func(ctx context.Context, _ int) error { return apiServerReady(ctx, c.admin) },
	})
	if err != nil {
		return err
	}
	c.apiServer = p
	return nil
}
