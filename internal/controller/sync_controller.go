// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"context"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/predicate"

	clerkv1alpha1 "github.com/clerk-operator/clerk-operator/api/v1alpha1"
	"github.com/clerk-operator/clerk-operator/internal/backfill"
	"github.com/clerk-operator/clerk-operator/internal/clerk"
	"github.com/clerk-operator/clerk-operator/internal/clerkapi"
)

const (
	// checkpointInterval is how often the progress of a sync that finds nothing to write is written.
	checkpointInterval = 5 * time.Second
	// syncTimeout bounds one reconcile of a sync: the slowest request with all its attempts, several times over.
	syncTimeout = 5 * time.Minute
)

// SyncReconciler reads Clerk's Backend API into the mirror: one sync of an instance at a time, some pages in a reconcile.
type SyncReconciler struct {
	base
	syncer  *backfill.Syncer
	clients *clerkapi.Clients
	metrics *backfill.Metrics

	mu       sync.Mutex
	attempts map[string]*attempt
}

// SetupWithManager watches instances, and the Secrets that hold their keys.
func (r *SyncReconciler) SetupWithManager(mgr ctrl.Manager) error {
	failures := changed(func(o client.Object) any { return o.(*clerkv1alpha1.ClerkInstance).Status.Failures })
	options := controllerOptions()
	options.ReconciliationTimeout = syncTimeout
	return ctrl.NewControllerManagedBy(mgr).
		Named("sync").
		For(&clerkv1alpha1.ClerkInstance{}, builder.WithPredicates(predicate.Or(specChanged(), failures))).
		Watches(&corev1.Secret{}, handler.EnqueueRequestsFromMapFunc(r.secretToInstances),
			builder.WithPredicates(predicate.ResourceVersionChangedPredicate{})).
		WithOptions(options).
		Complete(r)
}

// Reconcile takes an instance's sync forward when one is due. What it finds out is kept in the attempt and projected onto
// the status every time, so that a status that could not be written is written by the next reconcile.
func (r *SyncReconciler) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	config := &clerkv1alpha1.ClerkInstance{}
	err := r.client.Get(ctx, req.NamespacedName, config)
	if apierrors.IsNotFound(err) || err == nil && !config.DeletionTimestamp.IsZero() {
		r.forget(req.Name)
		return ctrl.Result{}, nil
	}
	if err != nil {
		return ctrl.Result{}, err
	}
	before := config.DeepCopy()
	if !config.HasBackendAPI() {
		r.forget(req.Name)
		clearSync(config)
		return r.finish(ctx, before, config, ctrl.Result{}, nil)
	}
	a := r.attemptOf(config)
	if a.isAhead(config) {
		return ctrl.Result{RequeueAfter: catchUpInterval}, nil
	}
	wait, err := r.advance(ctx, config, a)
	if err != nil {
		return ctrl.Result{}, err
	}
	a.project(config, r.clock.Now())
	r.metrics.Observe(config)
	err = r.patchStatus(ctx, before, config)
	switch {
	case apierrors.IsConflict(err):
		return ctrl.Result{RequeueAfter: catchUpInterval}, nil
	case err != nil:
		return ctrl.Result{}, err
	}
	a.written(config)
	return ctrl.Result{RequeueAfter: max(wait, time.Millisecond)}, nil
}

// advance does what is due and returns when to go on. The error is of the API server; Clerk's are kept in the attempt.
func (r *SyncReconciler) advance(ctx context.Context, config *clerkv1alpha1.ClerkInstance, a *attempt) (time.Duration, error) {
	now := r.clock.Now()
	if a.over {
		return 0, nil // its outcome is still to be written
	}
	key, problem, err := r.instances.SecretKey(ctx, config)
	if err != nil {
		return 0, err
	}
	if problem != nil {
		a.lock(unusableKey(problem))
		return recheckInterval, nil
	}
	a.use(r.clients.For(config.Name, config.Spec.BackendAPI.URL, key), config)
	if wait := a.notBefore.Sub(now); wait > 0 {
		return min(wait, recheckInterval), nil
	}
	if a.run == nil {
		syncType, at := backfill.Due(config, now)
		if wait := at.Sub(now); wait > 0 && !a.unproven {
			return min(wait, recheckInterval), nil
		}
		err := r.begin(ctx, config, a, syncType)
		switch {
		case isClerks(err):
			r.failed(ctx, a, err)
			return 0, nil
		case err != nil:
			return 0, err
		}
	}
	if config.PinnedInstanceID() == "" {
		return 0, nil // whose events are believed is written down before anything is read
	}
	return r.steps(ctx, a)
}

// failed notes an error of Clerk's. The log has what conditions leave out because it differs from attempt to attempt.
func (r *SyncReconciler) failed(ctx context.Context, a *attempt, err error) {
	log.FromContext(ctx).Info("A sync failed; what is mirrored stays as it is", "reason", err.Error())
	a.fail(err, r.clock.Now())
}

// begin verifies whose key it is and starts a run.
func (r *SyncReconciler) begin(
	ctx context.Context, config *clerkv1alpha1.ClerkInstance, a *attempt, syncType clerkv1alpha1.ClerkInstanceSyncType,
) error {
	id, err := backfill.Verify(ctx, a.api, config.PinnedInstanceID())
	if err != nil {
		return err
	}
	if config.PinnedInstanceID() == "" {
		if err := r.syncer.Recognize(ctx, config, a.api); err != nil {
			return err
		}
	}
	var odd []clerkapi.Entry
	if syncType == clerkv1alpha1.SyncFull {
		if a.roles, odd, err = roleKeys(ctx, a.api); err != nil && !clerkapi.IsOrganizationsOff(err) {
			return err
		}
	}
	var before clerkv1alpha1.ClerkInstanceSyncProgress
	if !a.begun {
		before = config.Status.Sync.Progress // another process's
	}
	a.start(r.syncer.NewRun(config.DeepCopy(), a.api, id, syncType, before), id, config)
	a.run.SkipInvalid(ctx, clerk.KindRole, odd)
	log.FromContext(ctx).V(1).Info("Began a sync", "type", syncType)
	return nil
}

// steps takes a run forward until there is progress that is worth writing down.
func (r *SyncReconciler) steps(ctx context.Context, a *attempt) (time.Duration, error) {
	checkpoint := r.clock.Now().Add(checkpointInterval)
	for {
		next, err := r.syncer.Step(ctx, a.run)
		now := r.clock.Now()
		switch {
		case ctx.Err() != nil:
			return 0, ctx.Err()
		case isClerks(err):
			r.failed(ctx, a, err)
			return 0, nil
		case err != nil:
			return 0, err
		case next.Done:
			if err := a.conclude(now); err != nil {
				r.failed(ctx, a, err)
			}
			return 0, nil
		}
		a.healthy()
		if next.Wrote || next.After > 0 || !now.Before(checkpoint) {
			return next.After, nil
		}
	}
}

// attemptOf returns what is known of exactly this instance: one that was made again under the same name is another.
func (r *SyncReconciler) attemptOf(config *clerkv1alpha1.ClerkInstance) *attempt {
	r.mu.Lock()
	defer r.mu.Unlock()
	if known := r.attempts[config.Name]; known == nil || known.uid != config.UID {
		r.attempts[config.Name] = &attempt{uid: config.UID}
	}
	return r.attempts[config.Name]
}

func (r *SyncReconciler) forget(name string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.attempts, name)
	r.metrics.Forget(name)
	r.clients.Forget(name)
}
