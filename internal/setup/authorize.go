// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package setup

import (
	"crypto/sha256"
	"fmt"
	"net/http"

	"github.com/go-logr/logr"
	"golang.org/x/time/rate"
	"k8s.io/utils/lru"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/metrics/filters"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"
)

const (
	// strangersPerSecond and strangersAtOnce bound the requests whose credentials the API server is asked about, as each
	// may be a new token: two writes of the API server, a TokenReview and a SubjectAccessReview, that an outsider causes.
	strangersPerSecond = 20
	strangersAtOnce    = 40
	// maxKnown is how many credentials are remembered that the API server has let through.
	maxKnown = 64
)

// authorizer lets through to a handler whom the API server authorizes. Who has been let through before does not wait for
// strangers.
type authorizer struct {
	filtered  http.Handler
	strangers *rate.Limiter
	// known holds digests of credentials. One that is not valid any more is refused all the same.
	known *lru.Cache
}

// authorize returns a handler for clients whose token may GET the path in the API server.
func authorize(mgr ctrl.Manager, handler http.Handler) (http.Handler, error) {
	filter, err := filters.WithAuthenticationAndAuthorization(mgr.GetConfig(), mgr.GetHTTPClient())
	if err != nil {
		return nil, fmt.Errorf("building the filter of metrics: %w", err)
	}
	return newAuthorizer(filter, mgr.GetLogger().WithName("metrics"), handler)
}

func newAuthorizer(filter metricsserver.Filter, log logr.Logger, handler http.Handler) (*authorizer, error) {
	a := &authorizer{strangers: rate.NewLimiter(strangersPerSecond, strangersAtOnce), known: lru.New(maxKnown)}
	var err error
	a.filtered, err = filter(log, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a.known.Add(credentials(r), true)
		handler.ServeHTTP(w, r)
	}))
	if err != nil {
		return nil, fmt.Errorf("filtering requests for metrics: %w", err)
	}
	return a, nil
}

func (a *authorizer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if _, known := a.known.Get(credentials(r)); !known && !a.strangers.Allow() {
		w.Header().Set("Connection", "close")
		w.Header().Set("Retry-After", "1")
		http.Error(w, "Too many requests with unknown credentials", http.StatusTooManyRequests)
		return
	}
	a.filtered.ServeHTTP(w, r)
}

// credentials is a digest of what a request proves itself with.
func credentials(r *http.Request) lru.Key {
	return sha256.Sum256([]byte(r.Header.Get("Authorization")))
}
