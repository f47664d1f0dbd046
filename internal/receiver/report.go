// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package receiver

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	clerkv1alpha1 "github.com/clerk-operator/clerk-operator/api/v1alpha1"
)

const (
	// reportInterval bounds how often the time of the last event is written: a write for each event would double them.
	reportInterval = 30 * time.Second
	// failureDelay is how soon a failure is written, so that a burst of them is one write.
	failureDelay = time.Second
	// lastTimeout bounds the last write of a replica that ends.
	lastTimeout = 2 * time.Second
)

// Report tells people, in ClerkInstance status, when the last event was made and which deliveries could not be used.
// Every replica reports what it received.
type Report struct {
	client client.Client
	log    logr.Logger
	wake   chan struct{}

	mu      sync.Mutex
	pending map[string]*observed
}

type observed struct {
	lastEvent clerkv1alpha1.Timestamp
	failures  []clerkv1alpha1.DeliveryFailure
}

// NewReport returns a report to be added to a manager.
func NewReport(c client.Client, log logr.Logger) *Report {
	return &Report{client: c, log: log, wake: make(chan struct{}, 1), pending: map[string]*observed{}}
}

// NeedLeaderElection says that every replica reports.
func (r *Report) NeedLeaderElection() bool { return false }

// Event notes when Clerk made an event of an instance.
func (r *Report) Event(instanceName string, at time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if o := r.of(instanceName); at.After(o.lastEvent.Time) {
		o.lastEvent = clerkv1alpha1.NewTimestamp(at)
	}
}

// Failure notes a delivery that could not be used.
func (r *Report) Failure(instanceName string, failure clerkv1alpha1.DeliveryFailure) {
	r.mu.Lock()
	defer r.mu.Unlock()
	o := r.of(instanceName)
	o.failures = newest(append(o.failures, failure))
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

func (r *Report) of(instanceName string) *observed {
	if r.pending[instanceName] == nil {
		r.pending[instanceName] = &observed{}
	}
	return r.pending[instanceName]
}

// Start writes what was noted until the context ends, and then once more; what is noted after that, while the last
// deliveries are drained, the server writes.
func (r *Report) Start(ctx context.Context) error {
	ticker := time.NewTicker(reportInterval)
	defer ticker.Stop()
	var soon <-chan time.Time
	for {
		select {
		case <-r.wake:
			if soon == nil {
				soon = time.After(failureDelay)
			}
		case <-soon:
			soon = nil
			r.flush(ctx)
		case <-ticker.C:
			r.flush(ctx)
		case <-ctx.Done():
			r.flushLast(ctx)
			return nil
		}
	}
}

// flushLast writes what was noted when the context has ended already.
func (r *Report) flushLast(ctx context.Context) {
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastTimeout)
	defer cancel()
	r.flush(last)
}

func (r *Report) flush(ctx context.Context) {
	r.mu.Lock()
	pending := r.pending
	r.pending = map[string]*observed{}
	r.mu.Unlock()
	for name, o := range pending {
		if err := r.write(ctx, name, o); client.IgnoreNotFound(err) != nil {
			if !apierrors.IsConflict(err) {
				r.log.Error(err, "Could not report in status", "instance", name)
			}
			r.putBack(name, o)
		}
	}
}

// putBack keeps what could not be written for the next time.
func (r *Report) putBack(name string, o *observed) {
	r.mu.Lock()
	defer r.mu.Unlock()
	current := r.of(name)
	current.failures = newest(append(o.failures, current.failures...))
	if o.lastEvent.After(current.lastEvent.Time) {
		current.lastEvent = o.lastEvent
	}
}

// write is optimistic: replicas add to the same list.
func (r *Report) write(ctx context.Context, name string, o *observed) error {
	var instance clerkv1alpha1.ClerkInstance
	if err := r.client.Get(ctx, client.ObjectKey{Name: name}, &instance); err != nil {
		return err
	}
	before := instance.DeepCopy()
	if instance.Status.LastEventTime == nil || o.lastEvent.After(instance.Status.LastEventTime.Time) {
		if !o.lastEvent.IsZero() {
			instance.Status.LastEventTime = &o.lastEvent
		}
	}
	instance.Status.Failures = newest(append(instance.Status.Failures, o.failures...))
	if equality.Semantic.DeepEqual(before.Status, instance.Status) {
		return nil
	}
	return r.client.Status().Patch(ctx, &instance,
		client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{}))
}

// newest returns the last failures that the status has room for. What fails again for the same reason counts once, by its
// last delivery, so that it does not take the place of all others.
func newest(failures []clerkv1alpha1.DeliveryFailure) []clerkv1alpha1.DeliveryFailure {
	kept := make([]clerkv1alpha1.DeliveryFailure, 0, len(failures))
	for i, failure := range failures {
		if !slices.ContainsFunc(failures[i+1:], func(later clerkv1alpha1.DeliveryFailure) bool { return repeats(later, failure) }) {
			kept = append(kept, failure)
		}
	}
	return kept[max(0, len(kept)-clerkv1alpha1.MaxFailures):]
}

// repeats reports whether a failure is the same as one before, but for the delivery.
func repeats(later, before clerkv1alpha1.DeliveryFailure) bool {
	return before.ID != "" && later.ID == before.ID && later.Kind == before.Kind && later.Reason == before.Reason &&
		later.Type == before.Type
}
