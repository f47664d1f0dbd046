// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package clerkapi

import (
	"net/http"
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
)

// Metrics count requests to Clerk. No label holds an ID.
type Metrics struct {
	requests  *prometheus.CounterVec
	throttled *prometheus.CounterVec
}

// NewMetrics registers the metrics in a registry.
func NewMetrics(registry prometheus.Registerer) *Metrics {
	m := &Metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "clerk_operator_api_requests_total",
			Help: "Requests to Clerk's Backend API by ClerkInstance, operation and status code (0 for no answer).",
		}, []string{"instance", "operation", "code"}),
		throttled: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "clerk_operator_api_throttled_seconds_total",
			Help: "Time that requests to Clerk's Backend API waited to stay within the operator's own budget, by ClerkInstance.",
		}, []string{"instance"}),
	}
	registry.MustRegister(m.requests, m.throttled)
	return m
}

func (m *Metrics) observe(instanceName, operation string, response *http.Response) {
	code := 0
	if response != nil {
		code = response.StatusCode
	}
	m.requests.WithLabelValues(instanceName, operation, strconv.Itoa(code)).Inc()
}
