// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package controlplane

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

// The binaries; a process has the name of its binary.
const (
	etcd              = "etcd"
	apiServer         = "kube-apiserver"
	controllerManager = "kube-controller-manager"
	kubectl           = "kubectl"
)

// The files in the working folder.
const (
	etcdData                    = "etcd"
	servingCertificate          = "apiserver.crt"
	servingKey                  = "apiserver.key"
	serviceAccountKeys          = "serviceaccounts.key"
	tokensFile                  = "tokens.csv"
	controllerManagerKubeconfig = "kube-controller-manager.kubeconfig"
)

const (
	// Ports come from below the range from which Linux and macOS take the ports of outgoing connections: those come
	// and go all the time, and one of them could take the API server's port while a test has it stopped. They come
	// from below Kubernetes' node ports too, which a node's rules may redirect even on the loopback address.
	firstPort = 20000
	lastPort  = 29999

	// startAttempts is how often a process is started that finds its port taken.
	startAttempts = 3
	// readyInterval is the time between two looks at a process that is starting.
	readyInterval = 50 * time.Millisecond
	// readyTimeout bounds one look.
	readyTimeout = 5 * time.Second
	// tailLines is how many lines of a log an error quotes.
	tailLines = 20
)

// component is a process of the control plane that listens on a port.
type component struct {
	name    string
	command func(port int) *exec.Cmd
	ready   func(ctx context.Context, port int) error
}

// startOnPort starts a component on a port that pick finds, and returns the process and the port when it is ready. When
// the port turns out to be taken it starts the component again, on the port that pick finds then.
func (c *ControlPlane) startOnPort(ctx context.Context, pick func() (int, error), what component) (*Process, int, error) {
	for attempt := 1; ; attempt++ {
		port, err := pick()
		if err != nil {
			return nil, 0, fmt.Errorf("starting %s: %w", what.name, err)
		}
		p, err := c.startCommand(what.name, what.command(port))
		if err != nil {
			return nil, 0, err
		}
		err = waitReady(ctx, p, func(ctx context.Context) error { return what.ready(ctx, port) })
		if err == nil {
			return p, port, nil
		}
		taken := p.hasExited() && strings.Contains(p.LogTail(1000), "address already in use")
		if killErr := p.Kill(); killErr != nil {
			return nil, 0, errors.Join(err, killErr)
		}
		if !taken || attempt == startAttempts {
			return nil, 0, err
		}
	}
}

// startCommand starts cmd with the working folder as its current one, and its log in the folder of logs.
func (c *ControlPlane) startCommand(name string, cmd *exec.Cmd) (*Process, error) {
	cmd.Dir = c.Dir()
	return StartProcess(name, cmd, filepath.Join(c.path("logs"), name+".log"))
}

// waitReady looks again and again whether p, which is starting, is ready. It returns an error that quotes the log when
// p ends, or when ctx does.
func waitReady(ctx context.Context, p *Process, ready func(context.Context) error) error {
	// Where another process has taken the port of p, a look lasts until that one answers.
	lookCtx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		select {
		case <-p.Exited():
			cancel()
		case <-lookCtx.Done():
		}
	}()
	ticker := time.NewTicker(readyInterval)
	defer ticker.Stop()
	for {
		err := look(lookCtx, ready)
		if p.hasExited() {
			return exitError(p)
		}
		if err == nil {
			return nil
		}
		select {
		case <-ticker.C:
		case <-p.Exited():
		case <-ctx.Done():
			return fmt.Errorf("waiting for %s to get ready: %w, last because of: %w; the end of %s:\n%s",
				p.name, ctx.Err(), err, p.LogPath(), p.LogTail(tailLines))
		}
	}
}

func look(ctx context.Context, ready func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	return ready(ctx)
}

// exitError says how p, which nobody stopped, has ended.
func exitError(p *Process) error {
	how := "exit status 0"
	if err := p.Err(); err != nil {
		how = err.Error()
	}
	return fmt.Errorf("%s ended by itself (%s); the end of %s:\n%s", p.name, how, p.LogPath(), p.LogTail(tailLines))
}

// freePort returns a port of the loopback address that nothing listens on at the moment.
func freePort() (int, error) {
	const attempts = 100
	var err error
	for range attempts {
		port := firstPort + rand.IntN(lastPort-firstPort+1)
		var listener net.Listener
		if listener, err = net.Listen("tcp", net.JoinHostPort(loopback, strconv.Itoa(port))); err != nil {
			continue
		}
		if err = listener.Close(); err != nil {
			return 0, fmt.Errorf("finding a free port: %w", err)
		}
		return port, nil
	}
	return 0, fmt.Errorf("finding a free port: %d ports between %d and %d are taken, the last: %w", attempts, firstPort, lastPort, err)
}

// startEtcd starts etcd, with the port and the name that it had before if it ran already, and waits until it is ready. The
// caller holds mu.
func (c *ControlPlane) startEtcd(ctx context.Context) error {
	url := func(port int) string { return "http://" + net.JoinHostPort(loopback, strconv.Itoa(port)) }
	pick := c.pickPort
	if c.etcdPort != 0 {
		pick = func() (int, error) { return c.etcdPort, nil }
	}
	if c.etcdName == "" {
		// The name tells this etcd from that of another control plane, should that one have taken the port.
		c.etcdName = strings.ToLower(filepath.Base(c.Dir())) + "-" + strconv.FormatUint(rand.Uint64(), 36)
	}
	p, port, err := c.startOnPort(ctx, pick, component{
		name: etcd,
		command: func(port int) *exec.Cmd {
			// The only member has no peers: it listens for them where the kernel likes, and nobody needs to know.
			const peers = "http://" + loopback + ":0"
			return exec.Command(filepath.Join(c.options.BinDir, etcd),
				"--name="+c.etcdName,
				"--data-dir="+c.path(etcdData),
				"--listen-client-urls="+url(port),
				"--advertise-client-urls="+url(port),
				"--listen-peer-urls="+peers,
				"--initial-advertise-peer-urls="+peers,
				"--initial-cluster="+c.etcdName+"="+peers,
				"--log-level=warn",
				// Only a crash of the whole machine can lose what has not been synced; the crash of a process cannot,
				// and that is all that tests cause. The disks of test machines are slow.
				"--unsafe-no-fsync",
			)
		},
		ready: func(ctx context.Context, port int) error { return etcdReady(ctx, url(port), c.etcdName) },
	})
	if err != nil {
		return err
	}
	c.etcd, c.etcdPort, c.etcdURL = p, port, url(port)
	return nil
}

// etcdReady returns nil when the etcd at url has a leader and its member is called name.
func etcdReady(ctx context.Context, url, name string) error {
	// A linearizable read takes a leader.
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, url+"/v3/cluster/member/list", strings.NewReader(`{"linearizable":true}`))
	if err != nil {
		return fmt.Errorf("listing the members of etcd: %w", err)
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Do(request)
	if err != nil {
		return fmt.Errorf("listing the members of etcd: %w", err)
	}
	defer func() { _ = response.Body.Close() }()
	var list struct {
		Members []struct {
			Name string `json:"name"`
		} `json:"members"`
	}
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("listing the members of etcd: %s", response.Status)
	}
	if err := json.NewDecoder(response.Body).Decode(&list); err != nil {
		return fmt.Errorf("reading the members of etcd: %w", err)
	}
	if len(list.Members) != 1 || list.Members[0].Name != name {
		return fmt.Errorf("listing the members of etcd: got %v where only %s should be", list.Members, name)
	}
	return nil
}

// apiServerCommand returns the command that runs kube-apiserver on a port.
func (c *ControlPlane) apiServerCommand(port int) *exec.Cmd {
	args := append([]string{
		"--etcd-servers=" + c.etcdURL,
		"--bind-address=" + loopback,
		"--secure-port=" + strconv.Itoa(port),
		"--tls-cert-file=" + c.path(servingCertificate),
		"--tls-private-key-file=" + c.path(servingKey),
		"--token-auth-file=" + c.path(tokensFile),
		"--authorization-mode=RBAC",
		"--service-account-issuer=https://kubernetes.default.svc",
		"--service-account-signing-key-file=" + c.path(serviceAccountKeys),
		"--service-account-key-file=" + c.path(serviceAccountKeys),
		"--service-cluster-ip-range=10.0.0.0/24",
		// The Service "kubernetes" cannot point to a loopback address, and there are no Pods that would use it. Without
		// an address kube-apiserver would look for one of the machine's, which may have none.
		"--advertise-address=" + loopback,
		"--endpoint-reconciler-type=none",
		// Otherwise a client that holds a watch open delays the shutdown by a minute.
		"--shutdown-watch-termination-grace-period=2s",
	}, c.options.APIServerArgs...)
	return exec.Command(filepath.Join(c.options.BinDir, apiServer), args...)
}

// apiServerReady returns nil when the API server of config can be used.
func apiServerReady(ctx context.Context, config *rest.Config) error {
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return fmt.Errorf("creating a client: %w", err)
	}
	if err := client.Discovery().RESTClient().Get().AbsPath("/readyz").Do(ctx).Error(); err != nil {
		return fmt.Errorf("asking /readyz: %w", err)
	}
	// /readyz does not wait for it, but it is the first thing that a test may want to use.
	if _, err := client.CoreV1().Namespaces().Get(ctx, metav1.NamespaceDefault, metav1.GetOptions{}); err != nil {
		return fmt.Errorf("reading the namespace: %w", err)
	}
	return nil
}

// startControllerManager starts kube-controller-manager and waits until it is ready. The caller holds mu.
func (c *ControlPlane) startControllerManager(ctx context.Context) error {
	client, err := kubernetes.NewForConfig(c.admin)
	if err != nil {
		return fmt.Errorf("creating a client: %w", err)
	}
	c.controllerManager, err = c.startCommand(controllerManager, exec.Command(
		filepath.Join(c.options.BinDir, controllerManager),
		"--kubeconfig="+c.path(controllerManagerKubeconfig),
		"--controllers="+strings.Join([]string{
			"namespace-controller",
			"garbage-collector-controller",
			"resourcequota-controller",
			"serviceaccount-controller",
			"serviceaccount-token-controller",
			"clusterrole-aggregation-controller",
		}, ","),
		"--service-account-private-key-file="+c.path(serviceAccountKeys),
		// There is one instance only, and nobody reads its metrics.
		"--leader-elect=false",
		"--secure-port=0",
		// The default of 20 requests a second protects an API server that others share.
		"--kube-api-qps=200",
		"--kube-api-burst=400",
	))
	if err != nil {
		return err
	}
	return waitReady(ctx, c.controllerManager, func(ctx context.Context) error {
		_, err := client.CoreV1().ServiceAccounts(metav1.NamespaceDefault).Get(ctx, "default", metav1.GetOptions{})
		if err != nil {
			return fmt.Errorf("reading the service account that serviceaccount-controller creates: %w", err)
		}
		return nil
	})
}
