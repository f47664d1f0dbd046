// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package receiver_test

import (
	"context"
	"crypto/tls"
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

	"github.com/clerk-operator/clerk-operator/internal/delivery"
	"github.com/clerk-operator/clerk-operator/internal/httpserver"
	"github.com/clerk-operator/clerk-operator/internal/instance"
	"github.com/clerk-operator/clerk-operator/internal/mirror"
	"github.com/clerk-operator/clerk-operator/internal/receiver"
	"github.com/clerk-operator/clerk-operator/test/installation"
)

// startServer starts a server on a free port; cancel begins its end and ended tells of it.
func startServer(
	t *testing.T, limits receiver.Limits, certDir string, registry *prometheus.Registry,
) (server *receiver.Server, cancel context.CancelFunc, ended chan error) {
	t.Helper()
	handler := receiver.NewHandler(instance.NewResolver(api(t), installation.Namespace, ""), mirror.New(api(t), api(t)),
		receiver.NewReport(api(t), logr.Discard()), limits, clock.RealClock{}, logr.Discard(), registry)
	server = receiver.NewServer(handler, limits, "127.0.0.1:0", certDir, logr.Discard(), httpserver.NewMetrics(registry))
	g := NewWithT(t)
	g.Expect(server.Check(nil)).To(MatchError(ContainSubstring("does not listen")))
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	ended = make(chan error, 1)
	go func() { ended <- server.Start(ctx) }()
	g.Eventually(func() error { return server.Check(nil) }).WithTimeout(30 * time.Second).Should(Succeed())
	return server, cancel, ended
}

func TestServer_finishesWhatIsInFlight(t *testing.T) {
	g := NewWithT(t)
	registry := prometheus.NewRegistry()
	limits := receiver.DefaultLimits()
	limits.BodyTimeout = time.Minute
	server, cancel, ended := startServer(t, limits, "", registry)
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
	g.Eventually(func() float64 { return inFlight(g, registry) }).WithTimeout(30 * time.Second).Should(BeEquivalentTo(1))

	cancel()
	g.Eventually(func() error { return server.Check(nil) }).WithTimeout(30 * time.Second).Should(MatchError(ContainSubstring("shutting down")))
	g.Eventually(func() error {
		connection, err := new(net.Dialer).DialContext(t.Context(), "tcp", server.Addr().String())
		if err == nil {
			_ = connection.Close()
		}
		return err
	}).WithTimeout(30 * time.Second).Should(HaveOccurred())
	g.Expect(ended).NotTo(Receive(), "it waits for the delivery")
	_, err = body.Write(m.Body[10:])
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(body.Close()).To(Succeed())
	g.Eventually(answered).WithTimeout(30 * time.Second).Should(Receive(Or(Equal(http.StatusOK), Equal(http.StatusServiceUnavailable))))
	g.Eventually(ended).WithTimeout(30 * time.Second).Should(Receive(Succeed()))
}

// inFlight is what the metric says.
func inFlight(g Gomega, registry *prometheus.Registry) float64 {
	families, err := registry.Gather()
	g.Expect(err).NotTo(HaveOccurred())
	for _, family := range families {
		if family.GetName() == "clerk_operator_webhook_in_flight" {
			return family.GetMetric()[0].GetGauge().GetValue()
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
	second := receiver.NewServer(nil, receiver.DefaultLimits(), server.Addr().String(), "", logr.Discard(),
		httpserver.NewMetrics(prometheus.NewRegistry()))
	g.Expect(second.Start(t.Context())).To(MatchError(ContainSubstring("serving webhooks: listening")))
}
