// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package clerkapi

import (
	"context"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/hashicorp/go-retryablehttp"
	"golang.org/x/time/rate"
	"k8s.io/utils/clock"
)

const (
	// Clerk allows an instance 1000 requests in 10 s in production and 100 in development. The operator takes half at
	// most: the other half is the application's.
	productionRate  = 50
	developmentRate = 5

	attempts     = 4
	minRetryWait = 500 * time.Millisecond
	// maxRetryWait is the longest pause between two attempts. Where Clerk asks for more, the caller has to wait.
	maxRetryWait  = 10 * time.Second
	headerTimeout = 20 * time.Second
	dialTimeout   = 5 * time.Second
)

// isProduction says whether a secret key is of a production instance.
func isProduction(key string) bool { return strings.HasPrefix(key, "sk_live_") }

func newLimiter(key string) *rate.Limiter {
	if isProduction(key) {
		return rate.NewLimiter(productionRate, productionRate)
	}
	return rate.NewLimiter(developmentRate, 2*developmentRate)
}

// newTransport returns a client that retries, and that follows no redirect: the secret key is for one host.
func newTransport(limiter *rate.Limiter, m *Metrics, instanceName string) *retryablehttp.Client {
	dialer := &net.Dialer{Timeout: dialTimeout}
	base := http.DefaultTransport.(*http.Transport).Clone()
	base.DialContext = dialer.DialContext
	base.ResponseHeaderTimeout = headerTimeout
	return &retryablehttp.Client{
		HTTPClient: &http.Client{
			Transport: &limited{next: base, limiter: limiter, metrics: m, instanceName: instanceName, clock: clock.RealClock{}},
			CheckRedirect: func(*http.Request, []*http.Request) error {
				return http.ErrUseLastResponse
			},
		},
		RetryMax:     attempts - 1,
		RetryWaitMin: minRetryWait,
		RetryWaitMax: maxRetryWait,
		CheckRetry:   shouldRetry,
		Backoff:      retryablehttp.DefaultBackoff,
		// The last answer is returned as it is, with its status.
		ErrorHandler: retryablehttp.PassthroughErrorHandler,
	}
}

func shouldRetry(ctx context.Context, response *http.Response, err error) (bool, error) {
	if response != nil && retryAfter(response.Header) > maxRetryWait {
		return false, nil
	}
	return retryablehttp.DefaultRetryPolicy(ctx, response, err)
}

// retryAfter reads how long a server asks to wait; zero when it does not.
func retryAfter(header http.Header) time.Duration {
	value := header.Get("Retry-After")
	if seconds, err := time.ParseDuration(value + "s"); err == nil && seconds > 0 {
		return seconds
	}
	if at, err := http.ParseTime(value); err == nil {
		return max(0, time.Until(at))
	}
	return 0
}

// limited lets every attempt, and not only every request, wait for its turn.
type limited struct {
	next         http.RoundTripper
	limiter      *rate.Limiter
	metrics      *Metrics
	instanceName string
	clock        clock.PassiveClock
}

func (l *limited) RoundTrip(request *http.Request) (*http.Response, error) {
	waited := l.clock.Now()
	if err := l.limiter.Wait(request.Context()); err != nil {
		return nil, err
	}
	start := l.clock.Now()
	l.metrics.throttled.WithLabelValues(l.instanceName).Add(start.Sub(waited).Seconds())
	response, err := l.next.RoundTrip(request)
	current := callOf(request.Context())
	l.metrics.observe(l.instanceName, current.operation, response)
	if response != nil {
		current.readAt = time.Time{}
		if date, err := http.ParseTime(response.Header.Get("Date")); err == nil {
			current.readAt = date.Add(-l.clock.Since(start))
		}
	}
	return response, err
}

// call is one call in all its attempts.
type call struct {
	operation string
	// readAt is a time by the server's clock that is not after the answer to the last attempt was read from Clerk's
	// database: Date, which is in whole seconds and about the answer, less what the attempt took.
	readAt time.Time
}

type callKey struct{}

func withCall(ctx context.Context, c *call) context.Context {
	return context.WithValue(ctx, callKey{}, c)
}

func callOf(ctx context.Context) *call {
	if c, ok := ctx.Value(callKey{}).(*call); ok {
		return c
	}
	return &call{}
}
