// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package setup

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/client-go/discovery"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client/apiutil"
	"sigs.k8s.io/controller-runtime/pkg/healthz"

	clerkv1alpha1 "github.com/clerk-operator/clerk-operator/api/v1alpha1"
	"github.com/clerk-operator/clerk-operator/internal/receiver"
)

const (
	// discoveryInterval is how often the API server is asked what it serves, however often readiness is.
	discoveryInterval = 10 * time.Second
	// discoveryRetryInterval is how often while the last response was an error, so that the end of an outage is seen soon.
	discoveryRetryInterval = time.Second
	// discoveryTimeout is how long the API server has for the response.
	discoveryTimeout = 5 * time.Second
)

// readyChecks make the manager ready only when it can do its work: the caches are synced, the CRDs are served and the
// receiver accepts deliveries. They add every cache: one that is added later, while the API server is away, would end the
// manager after the two minutes that a controller waits for it.
func readyChecks(ctx context.Context, mgr ctrl.Manager, server *receiver.Server) (map[string]healthz.Checker, error) {
	var synced []func() bool
	for _, kind := range cached() {
		informer, err := mgr.GetCache().GetInformer(ctx, kind.object)
		if err != nil {
			return nil, fmt.Errorf("adding the cache of %T: %w", kind.object, err)
		}
		synced = append(synced, informer.HasSynced)
	}
	served, err := newServedCheck(mgr)
	if err != nil {
		return nil, err
	}
	return map[string]healthz.Checker{
		"caches": func(*http.Request) error {
			for _, hasSynced := range synced {
				if !hasSynced() {
					return errors.New("the caches are not synced yet")
				}
			}
			return nil
		},
		"crds":     served.check,
		"receiver": server.Check,
	}, nil
}

// servedCheck asks the API server whether it serves every kind.
type servedCheck struct {
	discovery discovery.DiscoveryInterface
	kinds     sets.Set[string]

	// asking is held by the request that asks, and guards asked.
	asking sync.Mutex
	asked  time.Time

	mu   sync.Mutex
	last error
}

func newServedCheck(mgr ctrl.Manager) (*servedCheck, error) {
	client, err := discovery.NewDiscoveryClientForConfigAndClient(mgr.GetConfig(),
		&http.Client{Transport: mgr.GetHTTPClient().Transport, Timeout: discoveryTimeout})
	if err != nil {
		return nil, fmt.Errorf("building the discovery client: %w", err)
	}
	kinds := sets.New[string]()
	for _, object := range crds {
		kind, err := apiutil.GVKForObject(object, mgr.GetScheme())
		if err != nil {
			return nil, fmt.Errorf("looking up the kind of %T: %w", object, err)
		}
		kinds.Insert(kind.Kind)
	}
	return &servedCheck{discovery: client, kinds: kinds, last: errors.New("the API server has not been asked yet")}, nil
}

// check returns what the API server said last. While one request asks it, which can take long, the others do not wait.
func (c *servedCheck) check(*http.Request) error {
	if c.asking.TryLock() {
		defer c.asking.Unlock()
		interval := discoveryInterval
		if c.known() != nil {
			interval = discoveryRetryInterval
		}
		if time.Since(c.asked) >= interval {
			err := c.ask()
			c.asked = time.Now()
			c.set(err)
		}
	}
	return c.known()
}

func (c *servedCheck) known() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.last
}

func (c *servedCheck) set(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.last = err
}

func (c *servedCheck) ask() error {
	list, err := c.discovery.ServerResourcesForGroupVersion(clerkv1alpha1.SchemeGroupVersion.String())
	if err != nil {
		return fmt.Errorf("asking whether the CRDs are served: %w", err)
	}
	missing := c.kinds.Clone()
	for _, resource := range list.APIResources {
		missing.Delete(resource.Kind)
	}
	if missing.Len() > 0 {
		return fmt.Errorf("the API server does not serve %v; apply the CRDs", sets.List(missing))
	}
	return nil
}
