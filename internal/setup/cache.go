// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package setup

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"path"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"
	"golang.org/x/time/rate"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/cache"
)

const (
	// awayInterval is the time between two questions to an API server that is away.
	awayInterval = time.Second
	// awayTimeout is how long it has for the response.
	awayTimeout = 5 * time.Second
	// awayLogInterval is how often the log repeats that it is away.
	awayLogInterval = 10 * time.Second
)

// newCache returns a constructor of caches that fill, or catch up, as soon as an API server that was away is back. ctx is the
// one that the manager runs with.
func newCache(ctx context.Context, log logr.Logger) cache.NewCacheFunc {
	return func(config *rest.Config, o cache.Options) (cache.Cache, error) {
		readyz, _, err := rest.DefaultServerUrlFor(config)
		if err != nil {
			return nil, fmt.Errorf("reading the address of the API server: %w", err)
		}
		readyz.Path = path.Join("/", readyz.Path, "readyz")
		patient := *o.HTTPClient
		patient.Transport = newPatientTransport(cmp.Or(patient.Transport, http.DefaultTransport), readyz, log)
		o.HTTPClient = &patient
		c, err := cache.New(config, o)
		if err != nil {
			return nil, fmt.Errorf("building the cache: %w", err)
		}
		return &endingCache{Cache: c, ended: ctx.Done()}, nil
	}
}

// endingCache lets go of what waits for it when the manager ends: controller-runtime's manager stops nothing before its
// caches are synced, and while the API server is away they never are.
type endingCache struct {
	cache.Cache
	ended <-chan struct{}
}

// WaitForCacheSync waits until the cache is synced or the manager ends, and reports whether either is the case.
func (c *endingCache) WaitForCacheSync(ctx context.Context) bool {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		select {
		case <-c.ended:
			cancel()
		case <-ctx.Done():
		}
	}()
	if c.Cache.WaitForCacheSync(ctx) {
		return true
	}
	select {
	case <-c.ended:
		return true
	default:
		return false
	}
}

// patientTransport makes the requests of informers. One that the API server is away for is made again when it is back: an
// informer that saw it fail would back off, for up to a minute.
type patientTransport struct {
	http.RoundTripper
	// readyz is where an API server says whether it is ready.
	readyz   *url.URL
	interval time.Duration
	log      logr.Logger
	sayAway  rate.Sometimes
	away     atomic.Bool
}

func newPatientTransport(transport http.RoundTripper, readyz *url.URL, log logr.Logger) *patientTransport {
	return &patientTransport{
		RoundTripper: transport, readyz: readyz, interval: awayInterval, log: log,
		sayAway: rate.Sometimes{First: 1, Interval: awayLogInterval},
	}
}

// RoundTrip makes a request, which has no body, until the API server responds or the request's context ends.
func (t *patientTransport) RoundTrip(request *http.Request) (*http.Response, error) {
	ctx := request.Context()
	for {
		response, err := t.RoundTripper.RoundTrip(request)
		if ctx.Err() != nil {
			return response, err // net/http tells errors apart by their type
		}
		if err == nil {
			if err = away(response); err == nil {
				t.noteBack()
				return response, nil
			}
			_ = response.Body.Close() // nothing of it is used
		}
		t.noteAway(err)
		waiting := wait.PollUntilContextCancel(ctx, t.interval, false, func(ctx context.Context) (bool, error) {
			return t.isReady(ctx, request), nil
		})
		if waiting != nil {
			return nil, err
		}
	}
}

// away returns an error where a response comes from something in front of an API server, or from one that does not serve yet.
// Every other error is for the informer, which backs off from an API server that it is too much for.
func away(response *http.Response) error {
	switch response.StatusCode {
	case http.StatusBadGateway, http.StatusServiceUnavailable:
		return errors.New(response.Status)
	}
	return nil
}

// isReady reports whether the API server serves. It does where it denies the question, as an operator without any right is
// one that should see which of its requests are denied.
func (t *patientTransport) isReady(ctx context.Context, request *http.Request) bool {
	bounded, cancel := context.WithTimeout(ctx, awayTimeout)
	defer cancel()
	question := request.Clone(bounded)
	question.URL = t.readyz
	response, err := t.RoundTripper.RoundTrip(question)
	if ctx.Err() != nil {
		return false
	}
	if err != nil {
		t.noteAway(err)
		return false
	}
	_ = response.Body.Close() // the code is all that counts
	if response.StatusCode >= http.StatusInternalServerError || response.StatusCode == http.StatusTooManyRequests {
		t.noteAway(errors.New(response.Status))
		return false
	}
	return true
}

func (t *patientTransport) noteAway(err error) {
	t.away.Store(true)
	t.sayAway.Do(func() { t.log.Info("Waiting for the API server", "error", err.Error()) })
}

func (t *patientTransport) noteBack() {
	if t.away.CompareAndSwap(true, false) {
		t.log.Info("The API server is back")
	}
}
