// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"context"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/client-go/tools/events"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	ctrlcontroller "sigs.k8s.io/controller-runtime/pkg/controller"

	"github.com/clerk-operator/clerk-operator/internal/backfill"
	"github.com/clerk-operator/clerk-operator/internal/clerkapi"
	"github.com/clerk-operator/clerk-operator/internal/instance"
	"github.com/clerk-operator/clerk-operator/internal/mirror"
	"github.com/clerk-operator/clerk-operator/internal/tenant"
)

const (
	// concurrency is how many objects of a kind are reconciled at once.
	concurrency = 8
	// timeout bounds one reconcile.
	timeout = time.Minute
	// recheckInterval is how often something is looked at again that no watch tells about, such as a namespace that
	// belongs to somebody else or the operator's own rights.
	recheckInterval = time.Minute
	// resyncInterval is how often what is right is looked at again, and Secrets, which cannot be read, are written again.
	resyncInterval = 10 * time.Hour
)

// base is what every reconciler works with.
type base struct {
	client client.Client
	// live reads past the cache.
	live      client.Reader
	recorder  events.EventRecorder
	clock     clock.PassiveClock
	instances *instance.Resolver
	selectors *tenant.Selectors
	written   *written
	gate      *gate
}

// Options say how reconcilers work.
type Options struct {
	// Namespace is the operator's own.
	Namespace string
	// Live reads past the cache.
	Live client.Reader
	// Policies are the admission policies that hold the operator and its tenants.
	Policies Policies
	// RequirePolicies says that tenants are given nothing new while the policies are not in force.
	RequirePolicies bool
}

// Setup adds every reconciler to a manager.
func Setup(
	ctx context.Context, mgr ctrl.Manager, instances *instance.Resolver, m *mirror.Mirror, c clock.PassiveClock,
	registry prometheus.Registerer, o Options,
) error {
	if err := addIndexes(ctx, mgr.GetFieldIndexer()); err != nil {
		return err
	}
	selectors, err := tenant.NewSelectors()
	if err != nil {
		return err
	}
	b := base{
		client:    mgr.GetClient(),
		live:      o.Live,
		recorder:  mgr.GetEventRecorder("clerk-operator"),
		clock:     c,
		instances: instances,
		selectors: selectors,
		written:   newWritten(c),
		gate:      newGate(o.Policies, o.RequirePolicies),
	}
	tenants := tenancy{base: b, namespace: o.Namespace, places: newPlaces(), secrets: newSchedule(c, resyncInterval)}
	if err := registry.Register(newPlanCollector(b)); err != nil {
		return fmt.Errorf("registering the metrics of plans: %w", err)
	}
	metrics := backfill.NewMetrics(registry)
	syncer := backfill.NewSyncer(mgr.GetClient(), m, c, metrics)
	clients := clerkapi.NewClients(clerkapi.NewMetrics(registry))
	reconcilers := []interface{ SetupWithManager(ctrl.Manager) error }{
		&ClerkInstanceReconciler{base: b},
		&ClerkTenantClassReconciler{base: b},
		&ClerkUserReconciler{tenants},
		&ClerkOrganizationReconciler{tenants},
		&ClerkOrganizationMembershipReconciler{base: b},
		&ClerkTombstoneReconciler{base: b, mirror: m},
		&SyncReconciler{base: b, syncer: syncer, clients: clients, metrics: metrics, attempts: map[string]*attempt{}},
		&ResyncReconciler{base: b, mirror: m, syncer: syncer, clients: clients, secrets: tenants.secrets},
	}
	for _, reconciler := range reconcilers {
		if err := reconciler.SetupWithManager(mgr); err != nil {
			return fmt.Errorf("setting up %T: %w", reconciler, err)
		}
	}
	return nil
}

// controllerOptions warm the caches up while another replica leads, so that a failover does not begin with a list of
// everything.
func controllerOptions() ctrlcontroller.Options {
	warmup := true
	return ctrlcontroller.Options{
		MaxConcurrentReconciles: concurrency,
		ReconciliationTimeout:   timeout,
		EnableWarmup:            &warmup,
	}
}
