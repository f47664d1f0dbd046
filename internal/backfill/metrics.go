// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package backfill

import (
	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/apimachinery/pkg/api/meta"

	clerkv1alpha1 "github.com/clerk-operator/clerk-operator/api/v1alpha1"
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

	lastSuccess *prometheus.GaugeVec
	fresh       *prometheus.GaugeVec
	pruneHeld   *prometheus.GaugeVec
	skipped     *prometheus.GaugeVec
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
		lastSuccess: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "clerk_operator_sync_last_success_timestamp_seconds",
			Help: "When the last successful sync began, by ClerkInstance and type.",
		}, []string{"instance", "type"}),
		fresh: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "clerk_operator_fresh",
			Help: "1 when webhooks deliver what happens in Clerk and syncs succeed, else 0, by ClerkInstance.",
		}, []string{"instance"}),
		pruneHeld: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "clerk_operator_prune_held",
			Help: "1 when deletions wait for somebody to release them, else 0, by ClerkInstance.",
		}, []string{"instance"}),
		skipped: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "clerk_operator_sync_skipped_entries",
			Help: "Entries of Clerk's listings that syncs skip or store without a field, by ClerkInstance.",
		}, []string{"instance"}),
	}
	registry.MustRegister(m.repaired, m.synced, m.lastSuccess, m.fresh, m.pruneHeld, m.skipped)
	return m
}

func (m *Metrics) wrote(run *Run, kind clerk.Kind, direction Direction) {
	labels := []string{run.config.Name, kindLabels[kind], string(direction)}
	m.synced.WithLabelValues(labels...).Inc()
	if run.judging() {
		m.repaired.WithLabelValues(labels...).Inc()
	}
}

// wrotePlan counts a plan that was written, of which no webhook has to tell: the endpoint may not be subscribed to any.
func (m *Metrics) wrotePlan(run *Run, kind clerk.Kind) {
	m.synced.WithLabelValues(run.config.Name, kindLabels[kind], string(Updated)).Inc()
}

// Observe shows what an instance's status says.
func (m *Metrics) Observe(config *clerkv1alpha1.ClerkInstance) {
	last := config.Status.Sync
	if last.LastFullTime != nil {
		m.lastSuccess.WithLabelValues(config.Name, string(clerkv1alpha1.SyncFull)).Set(float64(last.LastFullTime.Unix()))
	}
	if last.LastTime != nil {
		m.lastSuccess.WithLabelValues(config.Name, "Any").Set(float64(last.LastTime.Unix()))
	}
	m.fresh.WithLabelValues(config.Name).Set(isTrue(config, clerkv1alpha1.ConditionFresh))
	m.pruneHeld.WithLabelValues(config.Name).Set(isTrue(config, clerkv1alpha1.ConditionPruneHeld))
	m.skipped.WithLabelValues(config.Name).Set(float64(last.SkippedCount))
}

func isTrue(config *clerkv1alpha1.ClerkInstance, condition string) float64 {
	if meta.IsStatusConditionTrue(config.Status.Conditions, condition) {
		return 1
	}
	return 0
}

// Forget drops the gauges of an instance that is gone.
func (m *Metrics) Forget(instanceName string) {
	labels := prometheus.Labels{"instance": instanceName}
	m.lastSuccess.DeletePartialMatch(labels)
	m.fresh.DeletePartialMatch(labels)
	m.pruneHeld.DeletePartialMatch(labels)
	m.skipped.DeletePartialMatch(labels)
}

var kindLabels = map[clerk.Kind]string{
	clerk.KindUser:         "ClerkUser",
	clerk.KindOrganization: "ClerkOrganization",
	clerk.KindMembership:   "ClerkOrganizationMembership",
}
