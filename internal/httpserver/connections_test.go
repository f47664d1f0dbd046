// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package httpserver_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"os"
	"testing"
	"time"

	"github.com/go-logr/logr"
	. "github.com/onsi/gomega"
	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/client-go/util/cert"

	"github.com/clerk-operator/clerk-operator/internal/httpserver"
)

const (
	timeout = 30 * time.Second
	limit   = 3
	// kept is the state of a connection whose request has been kept.
	kept http.ConnState = 100
)

// site is a server with a limit, whose path /kept keeps its connection until the test lets it go.
type site struct {
	*WithT
	t        *testing.T
	address  string
	registry *prometheus.Registry
	tls      bool
	// changed receives each new state of a connection when the server knows of it.
	changed chan http.ConnState
	// release lets a request to /kept go.
	release chan struct{}
}

func newSite(t *testing.T, o httpserver.Options, encrypted bool) *site {
	t.Helper()
	s := &site{
		WithT: NewWithT(t), t: t, registry: prometheus.NewRegistry(), tls: encrypted,
		changed: make(chan http.ConnState, 1000), release: make(chan struct{}, limit),
	}
	var secure *tls.Config
	if encrypted {
		pem, key, err := cert.GenerateSelfSignedCertKey("localhost", nil, nil)
		s.Expect(err).NotTo(HaveOccurred())
		pair, err := tls.X509KeyPair(pem, key)
		s.Expect(err).NotTo(HaveOccurred())
		secure = &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{pair}}
	}
	o.Name, o.Handler, o.Metrics, o.Log = "test", s, httpserver.NewMetrics(s.registry), logr.Discard()
	server := httpserver.New(o)
	listener, err := server.Listen(t.Context(), "127.0.0.1:0", secure)
	s.Expect(err).NotTo(HaveOccurred())
	s.address = listener.Addr().String()
	changed := server.ConnState
	server.ConnState = func(conn net.Conn, state http.ConnState) {
		changed(conn, state)
		s.changed <- state
	}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(listener) }()
	t.Cleanup(func() {
		close(s.release)
		s.Expect(server.Shutdown(context.WithoutCancel(t.Context()))).To(Succeed())
		s.Expect(<-ended).To(MatchError(http.ErrServerClosed))
	})
	return s
}

func (s *site) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/kept" {
		httpserver.Keep(r.Context())
		s.changed <- kept
		<-s.release
	}
	w.WriteHeader(http.StatusOK)
}

// client is the other end of a connection.
type client struct {
	net.Conn
	*site
	answers *bufio.Reader
}

func (s *site) connect() *client {
	s.t.Helper()
	var dialer interface {
		DialContext(ctx context.Context, network, address string) (net.Conn, error)
	} = new(net.Dialer)
	if s.tls {
		dialer = &tls.Dialer{Config: &tls.Config{InsecureSkipVerify: true}}
	}
	conn, err := dialer.DialContext(s.t.Context(), "tcp", s.address)
	s.Expect(err).NotTo(HaveOccurred())
	s.t.Cleanup(func() { _ = conn.Close() })
	s.wait(http.StateNew)
	return &client{Conn: conn, site: s, answers: bufio.NewReader(conn)}
}

// wait waits until a connection has a new state.
func (s *site) wait(state http.ConnState) {
	s.t.Helper()
	tooLate := time.After(timeout)
	for {
		select {
		case changed := <-s.changed:
			if changed == state {
				return
			}
		case <-tooLate:
			s.t.Fatalf("no connection is %s", state)
		}
	}
}

// ask makes a request, which is answered and leaves the connection idle.
func (c *client) ask() {
	c.t.Helper()
	c.send("/")
	c.wantAnswer()
	c.wait(http.StateIdle)
}

func (c *client) send(path string) {
	_, err := io.WriteString(c, "GET "+path+" HTTP/1.1\r\nHost: a\r\n\r\n")
	c.Expect(err).NotTo(HaveOccurred())
}

func (c *client) wantAnswer() {
	c.Expect(c.SetReadDeadline(time.Now().Add(timeout))).To(Succeed())
	answer, err := http.ReadResponse(c.answers, nil)
	c.Expect(err).NotTo(HaveOccurred())
	c.Expect(answer.Body.Close()).To(Succeed())
	c.Expect(answer.StatusCode).To(Equal(http.StatusOK))
}

func (c *client) wantClosed() {
	c.Expect(c.SetReadDeadline(time.Now().Add(timeout))).To(Succeed())
	_, err := c.answers.ReadByte()
	c.Expect(err).To(And(HaveOccurred(), Not(MatchError(os.ErrDeadlineExceeded))), "it is still open")
}

func (s *site) counted(metric string) float64 {
	families, err := s.registry.Gather()
	s.Expect(err).NotTo(HaveOccurred())
	for _, family := range families {
		if m := family.GetMetric()[0]; family.GetName() == metric {
			return m.GetGauge().GetValue() + m.GetCounter().GetValue()
		}
	}
	return 0
}

func TestConnections_theOneThatIsSilentLongestIsClosed(t *testing.T) {
	for name, encrypted := range map[string]bool{"HTTP": false, "HTTPS": true} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, httpserver.Options{MaxConnections: limit}, encrypted)
			first, second, third := s.connect(), s.connect(), s.connect()
			// The first is the one that said something last.
			first.ask()
			fourth := s.connect()
			second.wantClosed()
			third.ask()
			fifth := s.connect()
			first.wantClosed()
			for _, open := range []*client{third, fourth, fifth} {
				open.ask()
			}
			s.Expect(s.counted("clerk_operator_http_connections")).To(BeEquivalentTo(limit))
			s.Expect(s.counted("clerk_operator_http_connections_closed_total")).To(BeEquivalentTo(2))
		})
	}
}

func TestConnections_whatIsKeptStaysUntilItIsAnswered(t *testing.T) {
	s := newSite(t, httpserver.Options{MaxConnections: limit}, false)
	c := s.connect()
	c.send("/kept")
	s.wait(kept)
	for range 3 * limit {
		s.connect()
	}
	s.release <- struct{}{}
	c.wantAnswer()
	s.wait(http.StateIdle)
	// Now it is one of those that the next ones take the place of.
	for range limit {
		s.connect()
	}
	c.wantClosed()
}

func TestConnections_theNewOneIsClosedWhereAllAreKept(t *testing.T) {
	s := newSite(t, httpserver.Options{MaxConnections: limit}, false)
	clients := make([]*client, limit)
	for i := range clients {
		clients[i] = s.connect()
		clients[i].send("/kept")
		s.wait(kept)
	}
	s.connect().wantClosed()
	s.wait(http.StateClosed)
	for range clients {
		s.release <- struct{}{}
	}
	for _, c := range clients {
		c.wantAnswer()
	}
	s.Expect(clients[0].Close()).To(Succeed())
	s.wait(http.StateClosed)
	s.connect().ask()
	s.Expect(s.counted("clerk_operator_http_connections")).To(BeEquivalentTo(limit))
}

func TestConnections_headersThatDoNotEndAreBounded(t *testing.T) {
	s := newSite(t, httpserver.Options{MaxConnections: 100, MaxHeaders: 2}, false)
	metric := func(name string) func() float64 {
		return func() float64 { return s.counted("clerk_operator_http_" + name) }
	}
	begin := func(c *client, wantBegun, wantClosed int) {
		_, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: a\r\nx: ")
		s.Expect(err).NotTo(HaveOccurred())
		s.Eventually(metric("incomplete_headers")).WithTimeout(timeout).Should(BeEquivalentTo(wantBegun))
		s.Eventually(metric("connections_closed_total")).WithTimeout(timeout).Should(BeEquivalentTo(wantClosed))
	}
	end := func(c *client) {
		_, err := io.WriteString(c, "y\r\n\r\n")
		s.Expect(err).NotTo(HaveOccurred())
		c.wantAnswer()
		c.wait(http.StateIdle)
	}
	idle := s.connect()
	idle.ask()
	first, second := s.connect(), s.connect()
	begin(first, 1, 0)
	begin(second, 2, 0)
	begin(idle, 2, 1)
	first.wantClosed()
	third := s.connect()
	begin(third, 2, 2)
	second.wantClosed()
	end(idle)
	end(third)
	// What is complete counts no more, on a connection that is new or not.
	for range 3 {
		last := s.connect()
		for range 3 {
			begin(last, 1, 2)
			end(last)
		}
	}
}

// TestConnections_manyHandshakesAtOnce shows that none waits for good, whatever is given up meanwhile.
func TestConnections_manyHandshakesAtOnce(t *testing.T) {
	s := newSite(t, httpserver.Options{MaxConnections: 100, MaxHeaders: 2}, true)
	for range 20 {
		s.connect()
	}
	for range 3 {
		s.connect().ask()
	}
	s.Eventually(func() float64 { return s.counted("clerk_operator_http_incomplete_headers") }).WithTimeout(timeout).Should(
		BeNumerically("<=", 2))
}
