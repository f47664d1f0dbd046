// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package setup

import (
	"context"
	"crypto/sha256"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"golang.org/x/time/rate"
	"k8s.io/utils/lru"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/metrics/filters"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"github.com/clerk-operator/clerk-operator/internal/httpserver"
)

// The API server is asked about every unknown token: a TokenReview, a SubjectAccessReview, both caused by an outsider.
const (
	// perSourcePerSecond and perSourceAtOnce bound what one address can ask.
	perSourcePerSecond = 5
	perSourceAtOnce    = 10
	// unknownPerSecond and unknownAtOnce bound what all together can.
	unknownPerSecond = 20
	unknownAtOnce    = 40
	// maxSources and maxKnown are how many addresses, and how many tokens that may read metrics, are remembered.
	maxSources = 1024
	maxKnown   = 64
	// refusalInterval is how often the log tells of requests that are refused.
	refusalInterval = 10 * time.Second
)

// authorizer lets clients through to a handler whom the API server authorizes, and asks it about few unknown ones.
type authorizer struct {
	filtered http.Handler
	log      logr.Logger
	say      rate.Sometimes

	// known holds digests of tokens that were let through. One that is not valid any more is refused all the same.
	known *lru.Cache

	// unknown is the rate of all others, and sources that of each address.
	unknown *rate.Limiter
	mu      sync.Mutex
	sources *lru.Cache
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
	a := &authorizer{
		log: log, say: rate.Sometimes{First: 1, Interval: refusalInterval}, known: lru.New(maxKnown),
		unknown: rate.NewLimiter(unknownPerSecond, unknownAtOnce), sources: lru.New(maxSources),
	}
	var err error
	// The filter logs every request that it refuses, as an error.
	a.filtered, err = filter(logr.Discard(), http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		httpserver.Keep(r.Context())
		w.Header().Del("Connection")
		if asked, ok := r.Context().Value(askedKey{}).(*asked); ok {
			asked.authorized = true
			a.known.Add(asked.token, true)
		}
		handler.ServeHTTP(w, r)
	}))
	if err != nil {
		return nil, fmt.Errorf("filtering requests for metrics: %w", err)
	}
	return a, nil
}

// asked is what a request's context holds about it, since the filter takes the token away from the request.
type asked struct {
	// token is a digest of the request's.
	token      lru.Key
	authorized bool
}

type askedKey struct{}

func (a *authorizer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	// The filter would take a token from here, too.
	r.Header.Del("Sec-WebSocket-Protocol")
	token := r.Header.Get("Authorization")
	asked := &asked{token: digest(token)}
	_, known := a.known.Get(asked.token)
	// Until it is authorized, the answer is the connection's last.
	w.Header().Set("Connection", "close")
	// Without a token there is nothing to ask the API server about.
	if token != "" && !known && !a.mayAsk(r.RemoteAddr) {
		w.Header().Set("Retry-After", "1")
		http.Error(w, "Too many requests with unknown tokens", http.StatusTooManyRequests)
		return
	}
	a.filtered.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), askedKey{}, asked)))
	if asked.authorized {
		return
	}
	if r.Context().Err() == nil { // a client that has gone away says nothing about its token
		a.known.Remove(asked.token)
	}
	a.say.Do(func() {
		a.log.Info("Refused a request for metrics: its token is not valid, may not get the path, or could not be checked")
	})
}

// mayAsk reports whether the API server may be asked about another unknown token from an address (host:port).
func (a *authorizer) mayAsk(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		host = address
	}
	return a.source(host).Allow() && a.unknown.Allow()
}

func (a *authorizer) source(host string) *rate.Limiter {
	a.mu.Lock()
	defer a.mu.Unlock()
	if limiter, ok := a.sources.Get(host); ok {
		return limiter.(*rate.Limiter)
	}
	limiter := rate.NewLimiter(perSourcePerSecond, perSourceAtOnce)
	a.sources.Add(host, limiter)
	return limiter
}

// digest keeps tokens themselves out of memory that lasts.
func digest(token string) lru.Key { return sha256.Sum256([]byte(token)) }
