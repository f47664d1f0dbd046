// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package receiver

import (
	"github.com/prometheus/client_golang/prometheus"
)

// metrics of the receiver. No label holds an ID or anything else whose number is not bounded.
type metrics struct {
	requests      *prometheus.CounterVec
	verifications *prometheus.CounterVec
	failures      *prometheus.CounterVec
	duration      *prometheus.HistogramVec
	inFlight      prometheus.Gauge
	unverified    prometheus.Gauge
	lag           *prometheus.HistogramVec
	lastEvent     *prometheus.GaugeVec
}

func newMetrics(registry prometheus.Registerer) *metrics {
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "clerk_operator_webhook_requests_total",
			Help: "Webhook requests by ClerkInstance, event type, result and status code.",
		}, []string{"instance", "type", "result", "code"}),
		verifications: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "clerk_operator_webhook_verification_failures_total",
			Help: "Webhook requests that were not proven to be Clerk's, by ClerkInstance and reason.",
		}, []string{"instance", "reason"}),
		failures: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "clerk_operator_webhook_failures_total",
			Help: "Authentic deliveries, and parts of them, that could not be used or stored, by ClerkInstance and reason.",
		}, []string{"instance", "reason"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "clerk_operator_webhook_duration_seconds",
			Help:    "Time from a webhook request's header to its answer, by result.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
		}, []string{"result"}),
		inFlight: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "clerk_operator_webhook_in_flight",
			Help: "Webhook requests being served.",
		}),
		unverified: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "clerk_operator_webhook_unverified_bytes",
			Help: "Bytes held of webhook bodies that are not verified yet.",
		}),
		lag: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "clerk_operator_event_lag_seconds",
			Help:    "Time from Clerk making an event to its arrival, by ClerkInstance.",
			Buckets: []float64{.5, 1, 2, 5, 10, 30, 60, 300, 1800, 7200, 28800, 86400, 172800},
		}, []string{"instance"}),
		lastEvent: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "clerk_operator_last_event_timestamp_seconds",
			Help: "When the last verified event arrived at this replica, by ClerkInstance.",
		}, []string{"instance"}),
	}
	registry.MustRegister(m.requests, m.verifications, m.failures, m.duration, m.inFlight, m.unverified, m.lag, m.lastEvent)
	return m
}

// catalogue is every event type that Clerk documents (webhook API of 2025-04-15). Other types share one label value:
// a metric's labels must not be for the sender to choose.
var catalogue = newSet(
	"user.created", "user.updated", "user.deleted",
	"organization.created", "organization.updated", "organization.deleted",
	"organizationMembership.created", "organizationMembership.updated", "organizationMembership.deleted",
	"organizationInvitation.created", "organizationInvitation.accepted", "organizationInvitation.revoked",
	"organizationDomain.created", "organizationDomain.updated", "organizationDomain.deleted",
	"role.created", "role.updated", "role.deleted",
	"permission.created", "permission.updated", "permission.deleted",
	"session.created", "session.pending", "session.ended", "session.removed", "session.revoked",
	"email.created", "sms.created", "waitlistEntry.created", "waitlistEntry.updated",
	"subscription.created", "subscription.updated", "subscription.active", "subscription.pastDue",
	"subscriptionItem.abandoned", "subscriptionItem.active", "subscriptionItem.canceled", "subscriptionItem.ended",
	"subscriptionItem.freeTrialEnding", "subscriptionItem.incomplete", "subscriptionItem.pastDue",
	"subscriptionItem.upcoming", "subscriptionItem.updated",
	"paymentAttempt.created", "paymentAttempt.updated",
)

// sensitive are the types that carry one-time codes and whole messages. They are never needed here.
var sensitive = newSet("email.created", "sms.created")

func newSet(types ...string) map[string]bool {
	set := make(map[string]bool, len(types))
	for _, t := range types {
		set[t] = true
	}
	return set
}

func typeLabel(eventType string) string {
	if eventType == "" || catalogue[eventType] {
		return eventType
	}
	return "other"
}
