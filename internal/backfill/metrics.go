// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package backfill

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/clerk-operator/clerk-operator/internal/clerk"
)

// Direction is what a sync did to an object.
type Direction string

// The directions.
const (
	Created Direction = "created"
	Updated Direction = "updated"
	Deleted Direction = "deleted"
)

// Metrics tell of syncs. No label holds an ID.
type Metrics struct {
	// Repaired counts what webhooks should have delivered.
	repaired *prometheus.CounterVec
	synced   *prometheus.CounterVec

	LastSuccess *prometheus.GaugeVec
	Fresh       *prometheus.GaugeVec
	PruneHeld   *prometheus.GaugeVec
}

// NewMetrics registers the metrics in a registry.
func NewMetrics(registry prometheus.Registerer) *Metrics {
	m := &Metrics{
		repaired: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "clerk_operator_sync_repaired_objects_total",
			Help: "Mirrored objects that a sync wrote after the first full one, since no webhook had, by ClerkInstance, kind and direction.",
		}, []string{"instance", "kind", "direction"}),
		synced: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "clerk_operator_sync_objects_total",
			Help: "Mirrored objects that a sync wrote, by ClerkInstance, kind and direction.",
		}, []string{"instance", "kind", "direction"}),
		LastSuccess: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "clerk_operator_sync_last_success_timestamp_seconds",
			Help: "When the last successful sync began, by ClerkInstance and type.",
		}, []string{"instance", "type"}),
		Fresh: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "clerk_operator_fresh",
			Help: "1 when webhooks deliver what happens in Clerk and syncs succeed, else 0, by ClerkInstance.",
		}, []string{"instance"}),
		PruneHeld: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "clerk_operator_prune_held",
			Help: "1 when deletions wait for somebody to release them, else 0, by ClerkInstance.",
		}, []string{"instance"}),
	}
	registry.MustRegister(m.repaired, m.synced, m.LastSuccess, m.Fresh, m.PruneHeld)
	return m
}

func (m *Metrics) wrote(run *Run, kind clerk.Kind, direction Direction) {
	labels := []string{run.config.Name, kindLabels[kind], string(direction)}
	m.synced.WithLabelValues(labels...).Inc()
	if run.judging() {
		m.repaired.WithLabelValues(labels...).Inc()
	}
}

// Forget drops the gauges of an instance that is gone.
func (m *Metrics) Forget(instanceName string) {
	labels := prometheus.Labels{"instance": instanceName}
	m.LastSuccess.DeletePartialMatch(labels)
	m.Fresh.DeletePartialMatch(labels)
	m.PruneHeld.DeletePartialMatch(labels)
}

var kindLabels = map[clerk.Kind]string{
	clerk.KindUser:         "ClerkUser",
	clerk.KindOrganization: "ClerkOrganization",
	clerk.KindMembership:   "ClerkOrganizationMembership",
}
