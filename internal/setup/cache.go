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
	// maxUnready is how often an API server may say in a row that it is not ready before it is tried all the same.
	maxUnready = 15
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

// RoundTrip makes a request, which has no body, until the API server responds or the request's context ends. The informer gets
// a response that is no better when the API server was waited for: it logs which kind that is, and backs off.
func (t *patientTransport) RoundTrip(request *http.Request) (*http.Response, error) {
	ctx := request.Context()
	for waited := false; ; waited = true {
		response, err := t.RoundTripper.RoundTrip(request)
		if ctx.Err() != nil {
			return response, err // net/http tells errors apart by their type
		}
		if err == nil {
			if err = away(response); err == nil || waited {
				t.noteBack()
				return response, nil
			}
			_ = response.Body.Close() // nothing of it is used
		}
		t.noteAway(request, err)
		if t.wait(request) != nil {
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

// wait returns when it is worth making a request again: when the API server is ready, or has responded for long enough that it
// may serve without ever being ready, as with a failed check of its own. It returns an error when the request's context ends.
func (t *patientTransport) wait(request *http.Request) error {
	responded := 0
	return wait.PollUntilContextCancel(request.Context(), t.interval, false, func(ctx context.Context) (bool, error) {
		code := t.ask(ctx, request)
		switch {
		case code == 0:
			responded = 0
			return false, nil
		case isReady(code):
			return true, nil
		}
		responded++
		return responded >= maxUnready, nil
	})
}

// ask asks the API server whether it is ready, and returns the code of the response; 0 for none.
func (t *patientTransport) ask(ctx context.Context, request *http.Request) int {
	bounded, cancel := context.WithTimeout(ctx, awayTimeout)
	defer cancel()
	question := request.Clone(bounded)
	question.URL = t.readyz
	response, err := t.RoundTripper.RoundTrip(question)
	if ctx.Err() != nil {
		return 0
	}
	if err != nil {
		t.noteAway(request, err)
		return 0
	}
	_ = response.Body.Close() // the code is all that counts
	if !isReady(response.StatusCode) {
		t.noteAway(request, errors.New(response.Status))
	}
	return response.StatusCode
}

// isReady reports whether an API server that responds with a code serves. It does where it denies the question, as an operator
// without any right should see which of its requests are denied.
func isReady(code int) bool {
	return code < http.StatusInternalServerError && code != http.StatusTooManyRequests
}

func (t *patientTransport) noteAway(request *http.Request, err error) {
	t.away.Store(true)
	t.sayAway.Do(func() { t.log.Info("Waiting for the API server", "path", request.URL.Path, "error", err.Error()) })
}

func (t *patientTransport) noteBack() {
	if t.away.CompareAndSwap(true, false) {
		t.log.Info("The API server is back")
	}
}
