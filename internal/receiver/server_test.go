// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package receiver_test

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr"
	. "github.com/onsi/gomega"
	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/client-go/util/cert"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/clerk-operator/clerk-operator/internal/delivery"
	"github.com/clerk-operator/clerk-operator/internal/httpserver"
	"github.com/clerk-operator/clerk-operator/internal/instance"
	"github.com/clerk-operator/clerk-operator/internal/mirror"
	"github.com/clerk-operator/clerk-operator/internal/receiver"
	"github.com/clerk-operator/clerk-operator/test/installation"
)

// listen returns a server on a free port that is not started. It reads by the client.
func listen(
	ctx context.Context, t *testing.T, c client.Client, limits receiver.Limits, certDir string, registry *prometheus.Registry,
) *receiver.Server {
	t.Helper()
	handler := receiver.NewHandler(instance.NewResolver(c, installation.Namespace, ""), mirror.New(c, c),
		receiver.NewReport(c, logr.Discard()), limits, clock.RealClock{}, logr.Discard(), registry)
	server, err := receiver.Listen(ctx, handler, limits, "127.0.0.1:0", certDir, logr.Discard(), httpserver.NewMetrics(registry))
	NewWithT(t).Expect(err).NotTo(HaveOccurred())
	return server
}

// startServer starts a server on a free port; cancel begins its end and ended receives its error.
func startServer(
	t *testing.T, limits receiver.Limits, certDir string, registry *prometheus.Registry,
) (server *receiver.Server, cancel context.CancelFunc, ended chan error) {
	t.Helper()
	server = listen(t.Context(), t, api(t), limits, certDir, registry)
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	ended = make(chan error, 1)
	go func() { ended <- server.Start(ctx) }()
	NewWithT(t).Eventually(func() error { return server.Check(nil) }).WithTimeout(30 * time.Second).Should(Succeed())
	return server, cancel, ended
}

// Before the caches are synced, the manager has not started the server, and there is nothing that it could read.
func TestServer_waitsForTheCaches(t *testing.T) {
	g := NewWithT(t)
	registry := prometheus.NewRegistry()
	limits := receiver.DefaultLimits()
	limits.Connections = 2
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	server := listen(ctx, t, nil, limits, "", registry)
	g.Expect(server.Check(nil)).To(MatchError(ContainSubstring("waits for the caches")))
	sender := delivery.Sender{URL: "http://" + server.Addr().String() + "/webhooks/clerk", Secret: oldSecret}
	m := message(g, "user.created", "", newUser().Data())
	answer, err := sender.Post(t.Context(), m)
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(answer.Code).To(Equal(http.StatusServiceUnavailable))
	g.Expect(answer.Body).To(Equal("{\"error\":\"try again later\"}\n"))
	g.Expect(answer.Header.Get("Retry-After")).To(MatchRegexp("^[0-9]+$"))

	// The limit of connections holds.
	for range limits.Connections + 1 {
		dial(t, server)
	}
	g.Eventually(func() float64 { return metric(g, registry, "clerk_operator_http_connections_closed_total") }).
		WithTimeout(30 * time.Second).Should(BeNumerically(">=", 1))

	// The end of a manager that has not started it ends it.
	cancel()
	g.Eventually(func() error { return refused(t, server) }).WithTimeout(30 * time.Second).Should(HaveOccurred())
	g.Expect(server.Drain()).To(Succeed())
	g.Expect(server.Start(ctx)).To(Succeed())
	g.Expect(server.Check(nil)).To(MatchError(ContainSubstring("shutting down")))
}

func dial(t *testing.T, server *receiver.Server) net.Conn {
	t.Helper()
	connection, err := new(net.Dialer).DialContext(t.Context(), "tcp", server.Addr().String())
	NewWithT(t).Expect(err).NotTo(HaveOccurred())
	t.Cleanup(func() { _ = connection.Close() })
	return connection
}

// refused returns the error of a new connection.
func refused(t *testing.T, server *receiver.Server) error {
	t.Helper()
	connection, err := new(net.Dialer).DialContext(t.Context(), "tcp", server.Addr().String())
	if err == nil {
		_ = connection.Close()
	}
	return err
}

func TestServer_finishesWhatIsInFlight(t *testing.T) {
	for name, how := range map[string]string{"the manager stops it": "stop", "the manager has ended": "drain"} {
		t.Run(name, func(t *testing.T) { finishesWhatIsInFlight(t, how == "drain") })
	}
}

// finishesWhatIsInFlight ends a server by its context, or as is done for a manager that does not wait for it.
func finishesWhatIsInFlight(t *testing.T, drain bool) {
	t.Helper()
	g := NewWithT(t)
	registry := prometheus.NewRegistry()
	limits := receiver.DefaultLimits()
	limits.BodyTimeout = time.Minute
	server, cancel, ended := startServer(t, limits, "", registry)
	if drain {
		stopped := ended
		ended = make(chan error, 1)
		cancel = func() { go func() { ended <- errors.Join(server.Drain(), <-stopped) }() }
	}
	// A delivery whose body is still on its way when the server is told to stop.
	m := message(g, "user.created", "", newUser().Data())
	header, err := delivery.Sign(oldSecret, m, time.Now())
	g.Expect(err).NotTo(HaveOccurred())
	rest, body := io.Pipe()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+server.Addr().String()+"/webhooks/clerk", rest)
	g.Expect(err).NotTo(HaveOccurred())
	request.Header = header
	answered := make(chan int, 1)
	go func() {
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			answered <- 0
			return
		}
		_ = response.Body.Close()
		answered <- response.StatusCode
	}()
	_, err = body.Write(m.Body[:10])
	g.Expect(err).NotTo(HaveOccurred())
	g.Eventually(func() float64 { return metric(g, registry, "clerk_operator_webhook_in_flight") }).WithTimeout(30 * time.Second).Should(BeEquivalentTo(1))

	cancel()
	g.Eventually(func() error { return server.Check(nil) }).WithTimeout(30 * time.Second).Should(MatchError(ContainSubstring("shutting down")))
	g.Eventually(func() error { return refused(t, server) }).WithTimeout(30 * time.Second).Should(HaveOccurred())
	g.Expect(ended).NotTo(Receive(), "it waits for the delivery")
	_, err = body.Write(m.Body[10:])
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(body.Close()).To(Succeed())
	g.Eventually(answered).WithTimeout(30 * time.Second).Should(Receive(Or(Equal(http.StatusOK), Equal(http.StatusServiceUnavailable))))
	g.Eventually(ended).WithTimeout(30 * time.Second).Should(Receive(Succeed()))
}

// metric returns the value of a metric without labels, or of its first series.
func metric(g Gomega, registry *prometheus.Registry, name string) float64 {
	families, err := registry.Gather()
	g.Expect(err).NotTo(HaveOccurred())
	for _, family := range families {
		if m := family.GetMetric()[0]; family.GetName() == name {
			return m.GetGauge().GetValue() + m.GetCounter().GetValue()
		}
	}
	return 0
}

func TestServer_takesUpAChangedCertificate(t *testing.T) {
	g := NewWithT(t)
	dir := t.TempDir()
	writeCertificate(g, dir, "first.example.com")
	server, _, _ := startServer(t, receiver.DefaultLimits(), dir, prometheus.NewRegistry())
	presented := func() string {
		dialer := tls.Dialer{Config: &tls.Config{InsecureSkipVerify: true}}
		connection, err := dialer.DialContext(t.Context(), "tcp", server.Addr().String())
		if err != nil {
			return err.Error()
		}
		defer func() { _ = connection.Close() }()
		return strings.Join(connection.(*tls.Conn).ConnectionState().PeerCertificates[0].DNSNames, " ")
	}
	g.Expect(presented()).To(ContainSubstring("first.example.com"))
	writeCertificate(g, dir, "second.example.com")
	g.Eventually(presented).WithTimeout(30 * time.Second).Should(ContainSubstring("second.example.com"))
}

func writeCertificate(g Gomega, dir, host string) {
	certificate, key, err := cert.GenerateSelfSignedCertKey(host, nil, nil)
	g.Expect(err).NotTo(HaveOccurred())
	// The key first: the watcher reads both when either changes, and an unmatched pair is tried again at the next change.
	g.Expect(os.WriteFile(filepath.Join(dir, "tls.key"), key, 0o600)).To(Succeed())
	g.Expect(os.WriteFile(filepath.Join(dir, "tls.crt"), certificate, 0o600)).To(Succeed())
}

func TestServer_saysWhereItCannotListen(t *testing.T) {
	g := NewWithT(t)
	server, _, _ := startServer(t, receiver.DefaultLimits(), "", prometheus.NewRegistry())
	handler := receiver.NewHandler(nil, nil, nil, receiver.DefaultLimits(), clock.RealClock{}, logr.Discard(),
		prometheus.NewRegistry())
	_, err := receiver.Listen(t.Context(), handler, receiver.DefaultLimits(), server.Addr().String(), "", logr.Discard(),
		httpserver.NewMetrics(prometheus.NewRegistry()))
	g.Expect(err).To(MatchError(ContainSubstring("serving webhooks: listening")))
}
