// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package setup

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"path"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-logr/logr"
	. "github.com/onsi/gomega"
	"github.com/prometheus/client_golang/prometheus"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/rest"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/apiutil"

	clerkv1alpha1 "github.com/clerk-operator/clerk-operator/api/v1alpha1"
	"github.com/clerk-operator/clerk-operator/internal/options"
	"github.com/clerk-operator/clerk-operator/internal/policy"
	"github.com/clerk-operator/clerk-operator/internal/receiver"
	"github.com/clerk-operator/clerk-operator/test/controlplane"
	"github.com/clerk-operator/clerk-operator/test/installation"
)

const timeout = time.Minute

// get returns the code that answers a request, 0 for none.
func get(t *testing.T, url string) int {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, http.NoBody)
	NewWithT(t).Expect(err).NotTo(HaveOccurred())
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0
	}
	_ = response.Body.Close()
	return response.StatusCode
}

// watches notes which resources are watched.
type watches struct {
	mu   sync.Mutex
	seen sets.Set[string]
}

// roundTripper is a function that makes a request.
type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// wrap returns a transport that notes what is watched through it.
func (w *watches) wrap(transport http.RoundTripper) http.RoundTripper {
	return roundTripper(func(r *http.Request) (*http.Response, error) {
		if r.URL.Query().Get("watch") == "true" {
			w.note(path.Base(r.URL.Path))
		}
		return transport.RoundTrip(r)
	})
}

func (w *watches) note(resource string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.seen.Insert(resource)
}

func (w *watches) all() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return sets.List(w.seen)
}

// suite is one control plane, whose API server a test may have stopped. A process can build only one manager, as the names of
// controllers are its metrics' labels.
type suite struct {
	*WithT
	t  *testing.T
	cp *controlplane.ControlPlane
}

func newSuite(t *testing.T) *suite {
	t.Helper()
	s := &suite{WithT: NewWithT(t), t: t}
	s.SetDefaultEventuallyTimeout(timeout)
	s.SetDefaultEventuallyPollingInterval(50 * time.Millisecond)
	ctrl.SetLogger(logr.Discard())
	var err error
	s.cp, err = controlplane.Start(t.Context(), controlplane.Options{})
	s.Expect(err).NotTo(HaveOccurred())
	t.Cleanup(func() { s.Expect(s.cp.Stop()).To(Succeed()) })
	return s
}

// wantKnown checks that what is known without the API server is what it says, and returns the resources.
func (s *suite) wantKnown() []string {
	s.t.Helper()
	known, err := knownKinds()
	s.Expect(err).NotTo(HaveOccurred())
	httpClient, err := rest.HTTPClientFor(s.cp.Config())
	s.Expect(err).NotTo(HaveOccurred())
	discovered, err := apiutil.NewDynamicRESTMapper(s.cp.Config(), httpClient)
	s.Expect(err).NotTo(HaveOccurred())
	resources := make([]string, 0, len(cached()))
	for _, kind := range cached() {
		gvk, err := apiutil.GVKForObject(kind.object, Scheme())
		s.Expect(err).NotTo(HaveOccurred())
		want, err := discovered.RESTMapping(gvk.GroupKind(), gvk.Version)
		s.Expect(err).NotTo(HaveOccurred())
		mapping, err := known.RESTMapping(gvk.GroupKind(), gvk.Version)
		s.Expect(err).NotTo(HaveOccurred())
		s.Expect(mapping).To(Equal(want))
		resources = append(resources, mapping.Resource.Resource)
	}
	return resources
}

// run runs a manager until the test ends it, or ends.
func (s *suite) run(config *rest.Config, health string) (server *receiver.Server, end context.CancelFunc, ended chan error) {
	s.t.Helper()
	ctx, cancel := context.WithCancel(s.t.Context())
	mgr, server, err := Manager(ctx, config, &options.Options{
		ReceiverBindAddress: "127.0.0.1:0", ReceiverLimits: receiver.DefaultLimits(), MetricsBindAddress: off,
		HealthProbeBindAddress: health, Namespace: installation.Namespace, ProbeInterval: policy.DefaultInterval,
	}, prometheus.NewRegistry())
	s.Expect(err).NotTo(HaveOccurred())
	ended = make(chan error, 1)
	done := make(chan struct{})
	go func() {
		defer close(done)
		ended <- Run(ctx, mgr, server)
	}()
	s.t.Cleanup(func() {
		cancel()
		<-done
	})
	return server, cancel, ended
}

func freeAddress(t *testing.T) string {
	t.Helper()
	g := NewWithT(t)
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	g.Expect(err).NotTo(HaveOccurred())
	defer func() { g.Expect(listener.Close()).To(Succeed()) }()
	return listener.Addr().String()
}

func TestManager_startsBeforeTheAPIServer(t *testing.T) {
	s := newSuite(t)
	w := &watches{seen: sets.New[string]()}
	config := s.cp.Config()
	config.Wrap(w.wrap)
	s.Expect(s.cp.StopAPIServer(t.Context())).To(Succeed())
	health := freeAddress(t)
	server, end, ended := s.run(config, health)
	ready := func() int { return get(t, "http://"+health+"/readyz") }
	s.Eventually(func() int { return get(t, "http://"+health+"/healthz") }).Should(Equal(http.StatusOK))
	s.Consistently(ready).Should(Equal(http.StatusInternalServerError))
	s.Expect(server.Check(nil)).To(MatchError(ContainSubstring("waits for the caches")))

	// It waits for the CRDs, too.
	s.Expect(s.cp.StartAPIServer(t.Context())).To(Succeed())
	s.Consistently(ready, 2*time.Second).Should(Equal(http.StatusInternalServerError))
	s.Expect(ended).NotTo(Receive())
	in, err := installation.Install(t.Context(), s.cp, "../..")
	s.Expect(err).NotTo(HaveOccurred())
	s.Eventually(ready).Should(Equal(http.StatusOK))

	// The reconciler that watches most has begun when it says something of an organization.
	organization := &clerkv1alpha1.ClerkOrganization{ObjectMeta: metav1.ObjectMeta{Name: "org-known"}}
	organization.Spec.InstanceName, organization.Spec.OrganizationID = "default", "org_known"
	organization.Spec.EventTime = clerkv1alpha1.NewTimestamp(time.Now())
	organization.Spec.UpdatedAt = organization.Spec.EventTime
	s.Expect(in.Client.Create(t.Context(), organization)).To(Succeed())
	s.Eventually(func() ([]metav1.Condition, error) {
		err := in.Client.Get(t.Context(), client.ObjectKeyFromObject(organization), organization)
		return *organization.GetConditions(), err
	}).ShouldNot(BeEmpty())
	s.Expect(w.all()).To(ConsistOf(s.wantKnown()), "what is watched is what is known")
	end()
	s.Eventually(ended).Should(Receive(Succeed()))
}

// While the API server is away no cache is ever synced, and controller-runtime's manager does not end before.
func TestCache_endsWithTheManager(t *testing.T) {
	g := NewWithT(t)
	config := &rest.Config{Host: "https://127.0.0.1:1"}
	httpClient, err := rest.HTTPClientFor(config)
	g.Expect(err).NotTo(HaveOccurred())
	known, err := knownKinds()
	g.Expect(err).NotTo(HaveOccurred())
	manager, end := context.WithCancel(t.Context())
	c, err := newCache(manager, logr.Discard())(config, cache.Options{HTTPClient: httpClient, Scheme: Scheme(), Mapper: known})
	g.Expect(err).NotTo(HaveOccurred())
	_, err = c.GetInformer(t.Context(), cached()[0].object)
	g.Expect(err).NotTo(HaveOccurred())
	go func() { _ = c.Start(t.Context()) }() // it ends with the test

	impatient, cancel := context.WithCancel(t.Context())
	cancel()
	g.Expect(c.WaitForCacheSync(impatient)).To(BeFalse())
	synced := make(chan bool, 1)
	go func() { synced <- c.WaitForCacheSync(t.Context()) }()
	g.Consistently(synced).ShouldNot(Receive())
	end()
	g.Eventually(synced).WithTimeout(timeout).Should(Receive(BeTrue()))
}

func TestServedCheck_seesSoonThatAnOutageIsOver(t *testing.T) {
	g := NewWithT(t)
	var back atomic.Bool
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if !back.Load() {
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte(`{"kind":"APIResourceList","apiVersion":"v1","groupVersion":"clerk-operator.dev/v1alpha1","resources":[]}`))
	}))
	t.Cleanup(server.Close)
	c := &servedCheck{discovery: discovery.NewDiscoveryClientForConfigOrDie(&rest.Config{Host: server.URL}), last: errors.New("never asked")}
	g.Expect(c.check(nil)).NotTo(Succeed())
	back.Store(true)
	g.Eventually(func() error { return c.check(nil) }).WithTimeout(discoveryInterval / 2).Should(Succeed())
}
