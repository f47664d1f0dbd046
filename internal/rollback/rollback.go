// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package rollback

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"golang.org/x/time/rate"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/resourceversion"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/apiutil"
)

// ErrRolledBack says that the API server has older data than it had.
var ErrRolledBack = errors.New("the API server's data is older than before, as after a restore of etcd")

// Intervals say how long the detector waits.
type Intervals struct {
	// Check is how often the API server is asked when there is no reason to suspect anything.
	Check time.Duration
	// Confirm is how long after an answer that is too old it is asked once more.
	Confirm time.Duration
}

// DefaultIntervals returns the intervals of a manager. Where the API server's store is an SQL database, one of several
// API servers may learn up to a second later than the others that there is something newer.
func DefaultIntervals() Intervals {
	return Intervals{Check: 15 * time.Second, Confirm: 3 * time.Second}
}

const (
	// retryInterval is how soon it is asked again after it did not answer, and the least time between two questions.
	retryInterval = time.Second
	// checkTimeout bounds one question.
	checkTimeout = 10 * time.Second
)

// Detector notices a rollback. It compares resource versions of one kind only, of the kinds that it was made for. It may see
// a higher one at any time, and a lower one never: not of a list that shows the latest state, and not of an object that has
// the same UID.
type Detector struct {
	scheme    *runtime.Scheme
	kinds     map[schema.GroupVersionKind]client.Object
	intervals Intervals
	log       logr.Logger

	// live reads the API server.
	live client.Reader
	// suspected has a capacity of one, so that nothing waits to say that a question is due.
	suspected chan struct{}
	// noticed is closed when a rollback is.
	noticed chan struct{}
	once    sync.Once

	mu sync.Mutex
	// newest are the highest resource versions that were seen.
	newest map[schema.GroupVersionKind]string
}

// New returns a detector for the kinds of some objects, which are CRDs' and are cached.
func New(scheme *runtime.Scheme, intervals Intervals, log logr.Logger, objects ...client.Object) (*Detector, error) {
	d := &Detector{
		scheme: scheme, kinds: map[schema.GroupVersionKind]client.Object{}, intervals: intervals, log: log,
		suspected: make(chan struct{}, 1), noticed: make(chan struct{}), newest: map[schema.GroupVersionKind]string{},
	}
	for _, object := range objects {
		kind, err := apiutil.GVKForObject(object, scheme)
		if err != nil {
			return nil, fmt.Errorf("telling the kind of %T: %w", object, err)
		}
		d.kinds[kind] = object
	}
	return d, nil
}

// Watch follows what a cache hears, and returns a reader of the API server that compares what it reads with that.
func (d *Detector) Watch(ctx context.Context, cached cache.Cache, live client.Reader) (client.Reader, error) {
	for kind, object := range d.kinds {
		informer, err := cached.GetInformer(ctx, object)
		if err != nil {
			return nil, fmt.Errorf("adding the cache of %s: %w", kind.Kind, err)
		}
		if _, err := informer.AddEventHandler(d.handler(kind)); err != nil {
			return nil, fmt.Errorf("following the cache of %s: %w", kind.Kind, err)
		}
	}
	d.live = live
	return &reader{Reader: live, cached: cached, detector: d}, nil
}

// handler notes the versions of a kind's objects. An object that becomes an older one was restored: the informer has listed
// the kind again.
func (d *Detector) handler(kind schema.GroupVersionKind) toolscache.ResourceEventHandler {
	return toolscache.ResourceEventHandlerFuncs{
		AddFunc: func(o any) { d.see(kind, o) },
		UpdateFunc: func(before, after any) {
			// The end of Start tells of it.
			_ = d.compare(kind, before.(client.Object), after.(client.Object))
			d.see(kind, after)
		},
		DeleteFunc: func(o any) { d.see(kind, o) },
	}
}

// NeedLeaderElection reports that every replica looks for itself: each has a cache of its own.
func (d *Detector) NeedLeaderElection() bool { return false }

// Start asks the API server until the context ends, and returns ErrRolledBack when a rollback is noticed.
func (d *Detector) Start(ctx context.Context) error {
	timer := time.NewTimer(d.intervals.Check)
	defer timer.Stop()
	pace := rate.NewLimiter(rate.Every(retryInterval), 1)
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-d.noticed:
			return ErrRolledBack
		case <-d.suspected:
		case <-timer.C:
		}
		if d.Check(nil) != nil {
			return ErrRolledBack
		}
		if pace.Wait(ctx) != nil {
			return nil
		}
		pause := d.intervals.Check
		if err := d.check(ctx); err != nil && !errors.Is(err, ErrRolledBack) {
			d.log.V(1).Info("Could not ask the API server how new its data is", "reason", err.Error())
			pause = min(pause, retryInterval)
		}
		timer.Reset(pause)
	}
}

// Check is a readiness check: nil while no rollback is noticed.
func (d *Detector) Check(*http.Request) error {
	select {
	case <-d.noticed:
		return ErrRolledBack
	default:
		return nil
	}
}

// check asks for the latest version of the kind of which the newest one was seen: where all kinds have one history, that is
// the one that tells most. A kind whose CRD is gone tells nothing.
func (d *Detector) check(ctx context.Context) error {
	for _, kind := range d.byVersion() {
		seen := d.seen(kind)
		latest, err := d.latest(ctx, kind)
		if apierrors.IsNotFound(err) || meta.IsNoMatchError(err) {
			continue
		}
		if err != nil || !isOlder(latest, seen) {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-d.noticed:
			return ErrRolledBack
		case <-time.After(d.intervals.Confirm):
		}
		if latest, err = d.latest(ctx, kind); err != nil {
			return err
		}
		return d.compareVersions(kind, seen, latest)
	}
	return nil
}

// latest lists one object of a kind and returns the version of the list.
func (d *Detector) latest(ctx context.Context, kind schema.GroupVersionKind) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	list := &metav1.PartialObjectMetadataList{}
	list.SetGroupVersionKind(kind.GroupVersion().WithKind(kind.Kind + "List"))
	if err := d.live.List(ctx, list, client.Limit(1)); err != nil {
		return "", err
	}
	d.seeVersion(kind, list.GetResourceVersion())
	return list.GetResourceVersion(), nil
}

// byVersion returns the kinds, the one with the newest version first.
func (d *Detector) byVersion() []schema.GroupVersionKind {
	d.mu.Lock()
	defer d.mu.Unlock()
	kinds := make([]schema.GroupVersionKind, 0, len(d.kinds))
	for kind := range d.kinds {
		kinds = append(kinds, kind)
	}
	slices.SortFunc(kinds, func(a, b schema.GroupVersionKind) int {
		older, newer := d.newest[b], d.newest[a]
		// Numbers without leading zeros: the longer one is the higher one.
		return cmp.Or(cmp.Compare(len(older), len(newer)), cmp.Compare(older, newer), cmp.Compare(a.Kind, b.Kind))
	})
	return kinds
}

// suspect says that a question is due, since a connection or a watch has ended or a list is older than what was seen.
func (d *Detector) suspect() {
	select {
	case d.suspected <- struct{}{}:
	default:
	}
}

// see notes the version of an object of the cache. What is no object tells of a deletion that was missed, and has no version
// that was not seen before.
func (d *Detector) see(kind schema.GroupVersionKind, o any) {
	if object, isObject := o.(client.Object); isObject {
		d.seeVersion(kind, object.GetResourceVersion())
	}
}

func (d *Detector) seeVersion(kind schema.GroupVersionKind, version string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.newest[kind] == "" || isOlder(d.newest[kind], version) {
		d.newest[kind] = version
	}
}

// seen returns the highest version that was seen of a kind; empty for none.
func (d *Detector) seen(kind schema.GroupVersionKind) string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.newest[kind]
}

// compare returns ErrRolledBack when an object is an older one than it was before.
func (d *Detector) compare(kind schema.GroupVersionKind, before, after client.Object) error {
	if before.GetUID() != after.GetUID() {
		return nil
	}
	return d.compareVersions(kind, before.GetResourceVersion(), after.GetResourceVersion())
}

func (d *Detector) compareVersions(kind schema.GroupVersionKind, before, after string) error {
	if !isOlder(after, before) {
		return nil
	}
	d.once.Do(func() {
		d.log.Error(ErrRolledBack, "This process ends, since what it knows is no longer so; it begins again with what is stored",
			"kind", kind.Kind, "seenResourceVersion", before, "resourceVersion", after)
		close(d.noticed)
	})
	return ErrRolledBack
}

// isOlder reports whether one resource version comes before another. Where they are no numbers it cannot be told.
func isOlder(a, b string) bool {
	order, err := resourceversion.CompareResourceVersion(a, b)
	return err == nil && order < 0
}
