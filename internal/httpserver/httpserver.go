// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package httpserver builds HTTP servers that hold little for clients that nothing has authenticated: a bounded number of
// connections, small headers, short times. Every port of the manager is served by one.
package httpserver

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
)

const (
	// maxHeader is the largest header that is read, in bytes; net/http reads 4 KiB more.
	maxHeader = 4 << 10
	// maxHeaders is how many headers are read at once. In memory a header of many short fields takes more than twenty times
	// as much as it has bytes.
	maxHeaders = 256

	readHeaderTimeout = 3 * time.Second
	// readTimeout is for the header and the body together.
	readTimeout = 5 * time.Second
	// writeTimeout is for the handler and the answer: Svix gives a delivery up after 15 s.
	writeTimeout = 15 * time.Second
	// idleTimeout is longer than 60 s, which is for how long an ingress keeps a connection by default: it must not send a
	// request on one that is just being closed here.
	idleTimeout = 90 * time.Second
)

// Options say what a server serves.
type Options struct {
	// Name is the server's in metrics and logs.
	Name    string
	Handler http.Handler
	// MaxConnections is how many connections are open at once. At the limit, a new one takes the place of the one that has
	// been idle or silent longest.
	MaxConnections int
	// MaxHeaders is how many headers, and TLS handshakes, are read at once; 0 is 256. At the limit, the one that began first
	// is given up.
	MaxHeaders int
	Metrics    *Metrics
	Log        logr.Logger
}

// Server is an HTTP server that serves only what it accepts by a listener of its own.
type Server struct {
	*http.Server

	connections *connections
}

// New returns a server that is not started yet.
func New(o Options) *Server {
	c := newConnections(o)
	return &Server{connections: c, Server: &http.Server{
		Handler:           o.Handler,
		MaxHeaderBytes:    maxHeader,
		ReadHeaderTimeout: readHeaderTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       idleTimeout,
		// The handler answers OPTIONS * as every other request that it does not know.
		DisableGeneralOptionsHandler: true,
		// What strangers send wrong is nothing that the log is for.
		ErrorLog:    slog.NewLogLogger(logr.ToSlogHandler(o.Log.V(1)), slog.LevelInfo),
		ConnState:   c.changed,
		ConnContext: withConnection,
	}}
}

// Listen returns a listener on an address (host:port) for the server's Serve, with TLS if there is a configuration for it.
func (s *Server) Listen(ctx context.Context, address string, secure *tls.Config) (net.Listener, error) {
	var config net.ListenConfig
	tcp, err := config.Listen(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("listening: %w", err)
	}
	var accepting net.Listener = listener{TCPListener: tcp.(*net.TCPListener), of: s.connections}
	if secure != nil {
		accepting = tls.NewListener(accepting, secure)
	}
	return accepting, nil
}

// Metrics are those of all servers.
type Metrics struct {
	open, headers *prometheus.GaugeVec
	closed        *prometheus.CounterVec
}

// NewMetrics returns metrics that are registered in registry.
func NewMetrics(registry prometheus.Registerer) *Metrics {
	m := &Metrics{
		open: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "clerk_operator_http_connections",
			Help: "Open connections, by server.",
		}, []string{"server"}),
		headers: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "clerk_operator_http_incomplete_headers",
			Help: "Headers that have begun to arrive and are not complete, by server.",
		}, []string{"server"}),
		closed: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "clerk_operator_http_connections_closed_total",
			Help: "Connections that were closed because too many were open, or too many headers arriving, by server.",
		}, []string{"server"}),
	}
	registry.MustRegister(m.open, m.headers, m.closed)
	return m
}
