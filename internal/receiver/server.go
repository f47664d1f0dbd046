// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package receiver

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"sync"

	"github.com/go-logr/logr"
	"sigs.k8s.io/controller-runtime/pkg/certwatcher"

	clerkv1alpha1 "github.com/clerk-operator/clerk-operator/api/v1alpha1"
	"github.com/clerk-operator/clerk-operator/internal/httpserver"
)

// Server serves a handler from Listen on. The manager starts it when the caches are synced and stops it before them, since
// it is neither a manager.Server nor in need of being the leader.
type Server struct {
	handler  *Handler
	server   *httpserver.Server
	listener net.Listener
	log      logr.Logger

	// served receives why the server does not accept connections any more.
	served chan error
	drain  func() error
}

// Listen returns a server that takes its address (host:port) at once. Until it is started, it answers every delivery with
// 503, since the handler cannot read anything before the caches are synced. With a certDir, which holds tls.crt and tls.key,
// it speaks HTTPS and reloads a changed certificate without a restart. When ctx ends, the server drains, started or not.
func Listen(
	ctx context.Context, handler *Handler, limits Limits, address, certDir string, log logr.Logger, metrics *httpserver.Metrics,
) (*Server, error) {
	s := &Server{handler: handler, log: log, served: make(chan error, 1), server: httpserver.New(httpserver.Options{
		Name: "webhooks", Handler: handler, MaxConnections: limits.Connections, Metrics: metrics, Log: log,
	})}
	secure, err := s.tls(ctx, certDir)
	if err != nil {
		return nil, err
	}
	if s.listener, err = s.server.Listen(ctx, address, secure); err != nil {
		return nil, fmt.Errorf("serving webhooks: %w", err)
	}
	handler.phase.Store(starting)
	s.drain = sync.OnceValue(func() error { return s.shutDown(context.WithoutCancel(ctx)) })
	go func() { s.served <- s.server.Serve(s.listener) }()
	// A manager that ends before its caches are synced need not have started the server. Start and Drain return the error.
	context.AfterFunc(ctx, func() { _ = s.drain() })
	return s, nil
}

// NeedLeaderElection says that every replica receives.
func (s *Server) NeedLeaderElection() bool { return false }

// Addr returns the address that the server listens on.
func (s *Server) Addr() net.Addr { return s.listener.Addr() }

// Check is a readiness check: nil while deliveries are accepted.
func (s *Server) Check(*http.Request) error {
	switch s.handler.phase.Load() {
	case starting:
		return errors.New("the receiver waits for the caches")
	case draining:
		return errors.New("the receiver is shutting down")
	}
	return nil
}

// Start accepts deliveries until the context ends, and then drains the server.
func (s *Server) Start(ctx context.Context) error {
	if s.handler.phase.CompareAndSwap(starting, serving) {
		s.log.Info("Receiving webhooks", "address", s.Addr().String(), "path", clerkv1alpha1.WebhookPath)
	}
	select {
	case err := <-s.served:
		if !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("serving webhooks: %w", err)
		}
	case <-ctx.Done():
	}
	return s.Drain()
}

// Drain ends the server: it accepts nothing new, lets deliveries in flight finish, for at most DrainTimeout, and returns when
// they have.
func (s *Server) Drain() error { return s.drain() }

func (s *Server) shutDown(ctx context.Context) error {
	s.handler.phase.Store(draining)
	s.log.Info("Draining webhooks")
	bounded, cancel := context.WithTimeout(ctx, DrainTimeout)
	defer cancel()
	err := s.server.Shutdown(bounded)
	s.handler.report.flushLast(ctx)
	if err != nil {
		return fmt.Errorf("draining webhooks: %w", err)
	}
	return nil
}

// tls returns the configuration of HTTPS, nil for HTTP.
func (s *Server) tls(ctx context.Context, certDir string) (*tls.Config, error) {
	if certDir == "" {
		return nil, nil
	}
	watcher, err := certwatcher.New(filepath.Join(certDir, "tls.crt"), filepath.Join(certDir, "tls.key"))
	if err != nil {
		return nil, fmt.Errorf("reading the receiver's certificate: %w", err)
	}
	go func() {
		if err := watcher.Start(ctx); err != nil {
			s.log.Error(err, "Watching the receiver's certificate failed; a new one needs a restart")
		}
	}()
	return &tls.Config{
		MinVersion:     tls.VersionTLS12,
		GetCertificate: watcher.GetCertificate,
		NextProtos:     []string{"http/1.1"},
	}, nil
}
