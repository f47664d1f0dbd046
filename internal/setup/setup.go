// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package setup builds the manager: the same one for the binary and for the tests.
package setup

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	clerkv1alpha1 "github.com/clerk-operator/clerk-operator/api/v1alpha1"
	"github.com/clerk-operator/clerk-operator/internal/controller"
	"github.com/clerk-operator/clerk-operator/internal/httpserver"
	"github.com/clerk-operator/clerk-operator/internal/instance"
	"github.com/clerk-operator/clerk-operator/internal/mirror"
	"github.com/clerk-operator/clerk-operator/internal/options"
	"github.com/clerk-operator/clerk-operator/internal/policy"
	"github.com/clerk-operator/clerk-operator/internal/receiver"
	"github.com/clerk-operator/clerk-operator/internal/rollback"
)

// gracePeriod is how long the manager may take to stop: longer than the receiver drains, shorter than the pod's
// termination grace period.
const gracePeriod = receiver.DrainTimeout + 5*time.Second

// off is the address of a port that is not served.
const off = "0"

// Scheme returns a scheme with every kind that the manager handles.
func Scheme() *runtime.Scheme {
	scheme := runtime.NewScheme()
	utilruntime.Must(clientgoscheme.AddToScheme(scheme))
	utilruntime.Must(clerkv1alpha1.AddToScheme(scheme))
	// +kubebuilder:scaffold:scheme
	return scheme
}

// Manager returns a manager with the receiver, the reconcilers and the health checks, and the receiver's server, which
// listens from now on until ctx ends. It does not need the API server.
func Manager(
	ctx context.Context, config *rest.Config, o *options.Options, registry prometheus.Registerer,
) (ctrl.Manager, *receiver.Server, error) {
	// The API server's own priority and fairness decides what waits; a second, blind limit here would only slow down.
	config = rest.CopyConfig(config)
	config.QPS = -1
	// What a watch saves on the wire within a cluster it costs twice in CPU time, here and in the API server.
	config.DisableCompression = true
	detector, err := rollback.New(Scheme(), rollback.DefaultIntervals(), ctrl.Log.WithName("rollback"), crds...)
	if err != nil {
		return nil, nil, err
	}
	config.Wrap(detector.Wrap)
	mgr, err := ctrl.NewManager(config, managerOptions(ctx, o))
	if err != nil {
		return nil, nil, fmt.Errorf("building the manager: %w", err)
	}
	live, err := addDetector(ctx, mgr, detector)
	if err != nil {
		return nil, nil, err
	}
	instances := instance.NewResolver(mgr.GetClient(), o.Namespace, o.WebhookSecret)
	m := mirror.New(mgr.GetClient(), live)
	connections := httpserver.NewMetrics(registry)
	server, err := addReceiver(ctx, mgr, o, instances, m, registry, connections)
	if err != nil {
		return nil, nil, err
	}
	prober, err := addProber(mgr, o, registry)
	if err != nil {
		return nil, nil, err
	}
	if err := controller.Setup(ctx, mgr, instances, m, clock.RealClock{}, registry, controller.Options{
		Namespace: o.Namespace, Live: live, Policies: prober, RequirePolicies: o.RequirePolicies,
	}); err != nil {
		return nil, nil, err
	}
	// +kubebuilder:scaffold:builder
	if err := addServers(ctx, mgr, o, server, detector, connections); err != nil {
		return nil, nil, err
	}
	return mgr, server, nil
}

// addDetector adds the detector of rollbacks, and returns what reads past the cache.
func addDetector(ctx context.Context, mgr ctrl.Manager, detector *rollback.Detector) (client.Reader, error) {
	live, err := detector.Watch(ctx, mgr.GetCache(), mgr.GetAPIReader())
	if err != nil {
		return nil, err
	}
	if err := mgr.Add(detector); err != nil {
		return nil, fmt.Errorf("adding the detector of rollbacks: %w", err)
	}
	return live, nil
}

// Run runs a manager until ctx ends or something ends the manager, and then waits until the receiver has finished what is in
// flight. A manager that loses its lease does not wait for that itself.
func Run(ctx context.Context, mgr ctrl.Manager, server *receiver.Server) error {
	err := mgr.Start(ctx)
	return errors.Join(err, server.Drain())
}

// addProber adds the prober of the admission policies.
func addProber(mgr ctrl.Manager, o *options.Options, registry prometheus.Registerer) (*policy.Prober, error) {
	prober, err := policy.NewProber(
		mgr.GetClient(), o.Namespace, o.ProbeInterval, clock.RealClock{}, mgr.GetLogger().WithName("policies"), registry)
	if err != nil {
		return nil, err
	}
	if err := mgr.Add(prober); err != nil {
		return nil, fmt.Errorf("adding the prober of policies: %w", err)
	}
	return prober, nil
}

func managerOptions(ctx context.Context, o *options.Options) ctrl.Options {
	return ctrl.Options{
		Scheme:         Scheme(),
		MapperProvider: newMapper,
		Cache:          cacheOptions(o.Namespace),
		NewCache:       newCache(ctx, ctrl.Log.WithName("cache")),
		// The manager's own ports are served by addServers.
		Metrics:                 metricsserver.Options{BindAddress: off},
		HealthProbeBindAddress:  off,
		LeaderElection:          o.LeaderElect,
		LeaderElectionID:        "leader." + clerkv1alpha1.GroupName,
		LeaderElectionNamespace: o.Namespace,
		// The process ends when the manager does, so a lease that is given up is not used any more.
		LeaderElectionReleaseOnCancel: true,
		GracefulShutdownTimeout:       new(gracePeriod),
	}
}

// cacheOptions keep out of memory what is not the operator's: Secrets of other namespaces, which it may not read
// anyway, and namespaces and bindings that it did not make.
func cacheOptions(namespace string) cache.Options {
	managed := labels.SelectorFromSet(labels.Set{clerkv1alpha1.LabelManagedBy: clerkv1alpha1.ManagedBy})
	// What the mirror's objects are owned by is never asked for; what tenants' objects are owned by is.
	unowned := cache.ByObject{Transform: cache.TransformStripManagedFields()}
	return cache.Options{
		ByObject: map[client.Object]cache.ByObject{
			&corev1.Secret{}: {
				Namespaces: map[string]cache.Config{namespace: {}},
				Transform:  cache.TransformStripManagedFields(),
			},
			&corev1.Namespace{}:                          {Label: managed},
			&rbacv1.RoleBinding{}:                        {Label: managed},
			&corev1.ResourceQuota{}:                      {Label: managed},
			&corev1.LimitRange{}:                         {Label: managed},
			&networkingv1.NetworkPolicy{}:                {Label: managed},
			&clerkv1alpha1.ClerkUser{}:                   unowned,
			&clerkv1alpha1.ClerkOrganization{}:           unowned,
			&clerkv1alpha1.ClerkOrganizationMembership{}: unowned,
			&clerkv1alpha1.ClerkTombstone{}:              unowned,
		},
	}
}

// addServers adds the ports for the kubelet and for Prometheus.
func addServers(
	ctx context.Context, mgr ctrl.Manager, o *options.Options, receives *receiver.Server, detector *rollback.Detector,
	connections *httpserver.Metrics,
) error {
	ready, err := readyChecks(ctx, mgr, receives)
	if err != nil {
		return err
	}
	ready["rollback"] = detector.Check
	var servers []server
	if o.HealthProbeBindAddress != off {
		servers = append(servers, server{name: "health", address: o.HealthProbeBindAddress, handler: healthHandler(ready)})
	}
	if o.MetricsBindAddress != off {
		metrics, err := metricsServer(mgr, o.MetricsBindAddress)
		if err != nil {
			return err
		}
		servers = append(servers, metrics)
	}
	for _, s := range servers {
		if err := addServer(ctx, mgr, s, connections); err != nil {
			return err
		}
	}
	return nil
}

// addReceiver adds the receiver, and the caches that it reads: a replica that is not the leader needs them, too.
func addReceiver(
	ctx context.Context, mgr ctrl.Manager, o *options.Options, instances *instance.Resolver, m *mirror.Mirror, registry prometheus.Registerer,
	connections *httpserver.Metrics,
) (*receiver.Server, error) {
	log := mgr.GetLogger().WithName("receiver")
	report := receiver.NewReport(mgr.GetClient(), log)
	handler := receiver.NewHandler(instances, m, report, o.ReceiverLimits, clock.RealClock{}, log, registry)
	server, err := receiver.Listen(ctx, handler, o.ReceiverLimits, o.ReceiverBindAddress, o.ReceiverCertDir, log, connections)
	if err != nil {
		return nil, err
	}
	if err := mgr.Add(report); err != nil {
		return nil, fmt.Errorf("adding the report: %w", err)
	}
	if err := mgr.Add(server); err != nil {
		return nil, fmt.Errorf("adding the receiver: %w", err)
	}
	return server, nil
}
