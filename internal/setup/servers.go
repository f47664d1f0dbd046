// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package setup

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
	"k8s.io/client-go/util/cert"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/healthz"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	ctrlmetrics "sigs.k8s.io/controller-runtime/pkg/metrics"

	"github.com/clerk-operator/clerk-operator/internal/httpserver"
)

const (
	// maxConnections is how many connections the ports for Prometheus and for the kubelet keep open, each.
	maxConnections = 500
	// maxScrapes is how many clients may read metrics at once.
	maxScrapes = 20
	// shutdownTimeout bounds how long the end of the manager waits for an answer of these ports.
	shutdownTimeout = 5 * time.Second
)

// server is a port of the manager other than the receiver's. controller-runtime has such ports, too, but puts no bound on
// their connections.
type server struct {
	name string
	// address is host:port.
	address string
	handler http.Handler
	// secure makes it speak HTTPS.
	secure *tls.Config
}

// addServer adds a server that runs from the manager's start to its end. Its port is taken at once. The context is that of
// every request.
func addServer(ctx context.Context, mgr ctrl.Manager, s server, metrics *httpserver.Metrics) error {
	http1 := httpserver.New(httpserver.Options{
		Name: s.name, Handler: s.handler, MaxConnections: maxConnections, Metrics: metrics,
		Log: mgr.GetLogger().WithName(s.name),
	})
	http1.BaseContext = func(net.Listener) context.Context { return ctx }
	listener, err := http1.Listen(ctx, s.address, s.secure)
	if err != nil {
		return fmt.Errorf("serving %s: %w", s.name, err)
	}
	if err := mgr.Add(&manager.Server{
		Name: s.name, Listener: listener, Server: http1.Server, ShutdownTimeout: new(shutdownTimeout),
	}); err != nil {
		return fmt.Errorf("adding the server of %s: %w", s.name, err)
	}
	return nil
}

// healthHandler serves the kubelet: whether the process lives, and whether every check passes.
func healthHandler(ready map[string]healthz.Checker) http.Handler {
	mux := http.NewServeMux()
	for path, checks := range map[string]map[string]healthz.Checker{"/healthz": {"ping": healthz.Ping}, "/readyz": ready} {
		handler := http.StripPrefix(path, &healthz.Handler{Checks: checks})
		mux.Handle(path, handler)
		mux.Handle(path+"/", handler)
	}
	return mux
}

// metricsServer serves Prometheus over HTTPS, with a certificate that it signs itself. A token decides which clients it
// answers.
func metricsServer(mgr ctrl.Manager, address string) (server, error) {
	handler := promhttp.HandlerFor(ctrlmetrics.Registry, promhttp.HandlerOpts{
		ErrorHandling: promhttp.HTTPErrorOnError, MaxRequestsInFlight: maxScrapes,
	})
	authorized, err := authorize(mgr, handler)
	if err != nil {
		return server{}, err
	}
	pem, key, err := cert.GenerateSelfSignedCertKeyWithFixtures("localhost", []net.IP{net.IPv4(127, 0, 0, 1)}, nil, "")
	if err != nil {
		return server{}, fmt.Errorf("making the certificate of the metrics: %w", err)
	}
	pair, err := tls.X509KeyPair(pem, key)
	if err != nil {
		return server{}, fmt.Errorf("using the certificate of the metrics: %w", err)
	}
	mux := http.NewServeMux()
	mux.Handle("/metrics", authorized)
	secure := &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{pair}, NextProtos: []string{"http/1.1"}}
	return server{name: "metrics", address: address, handler: mux, secure: secure}, nil
}
