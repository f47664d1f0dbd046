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
	"sync/atomic"

	"github.com/go-logr/logr"
	"sigs.k8s.io/controller-runtime/pkg/certwatcher"

	clerkv1alpha1 "github.com/clerk-operator/clerk-operator/api/v1alpha1"
	"github.com/clerk-operator/clerk-operator/internal/httpserver"
)

// Server serves a handler for as long as the manager runs. The manager starts it when the caches are synced and stops
// it before them, since it is neither a manager.Server nor in need of being the leader.
type Server struct {
	handler *Handler
	server  *httpserver.Server
	address string
	certDir string
	log     logr.Logger

	listener atomic.Pointer[net.Listener]
}

// NewServer returns a server on an address (host:port). With a certDir, which holds tls.crt and tls.key, it speaks
// HTTPS and takes up a changed certificate without a restart.
func NewServer(
	handler *Handler, limits Limits, address, certDir string, log logr.Logger, metrics *httpserver.Metrics,
) *Server {
	server := httpserver.New(httpserver.Options{
		Name: "webhooks", Handler: handler, MaxConnections: limits.Connections, Metrics: metrics, Log: log,
	})
	return &Server{handler: handler, server: server, address: address, certDir: certDir, log: log}
}

// NeedLeaderElection says that every replica receives.
func (s *Server) NeedLeaderElection() bool { return false }

// Addr returns the address that the server listens on, nil while it does not.
func (s *Server) Addr() net.Addr {
	if listener := s.listener.Load(); listener != nil {
		return (*listener).Addr()
	}
	return nil
}

// Check is a readiness check: nil while deliveries are accepted.
func (s *Server) Check(*http.Request) error {
	switch {
	case s.Addr() == nil:
		return errors.New("the receiver does not listen yet")
	case s.handler.draining.Load():
		return errors.New("the receiver is shutting down")
	}
	return nil
}

// Start listens until the context ends. It then lets deliveries in flight finish, for at most DrainTimeout, and returns
// when they have.
func (s *Server) Start(ctx context.Context) error {
	secure, err := s.tls(ctx)
	if err != nil {
		return err
	}
	listener, err := s.server.Listen(ctx, s.address, secure)
	if err != nil {
		return fmt.Errorf("serving webhooks: %w", err)
	}
	served := make(chan error, 1)
	go func() { served <- s.server.Serve(listener) }()
	s.listener.Store(&listener)
	s.log.Info("Receiving webhooks", "address", listener.Addr().String(), "path", clerkv1alpha1.WebhookPath)
	select {
	case err := <-served:
		return fmt.Errorf("serving webhooks: %w", err)
	case <-ctx.Done():
	}
	s.handler.draining.Store(true)
	s.log.Info("Draining webhooks")
	draining, cancel := context.WithTimeout(context.WithoutCancel(ctx), DrainTimeout)
	defer cancel()
	err = s.server.Shutdown(draining)
	s.handler.report.flushLast(ctx)
	if err != nil {
		return fmt.Errorf("draining webhooks: %w", err)
	}
	return nil
}

// tls returns the configuration of HTTPS, nil for HTTP.
func (s *Server) tls(ctx context.Context) (*tls.Config, error) {
	if s.certDir == "" {
		return nil, nil
	}
	watcher, err := certwatcher.New(filepath.Join(s.certDir, "tls.crt"), filepath.Join(s.certDir, "tls.key"))
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
