// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"context"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"

	clerkv1alpha1 "github.com/clerk-operator/clerk-operator/api/v1alpha1"
	"github.com/clerk-operator/clerk-operator/internal/clerk"
	"github.com/clerk-operator/clerk-operator/internal/mirror"
)

// tombstoneLifetime is how long Svix keeps a delivery and can replay it.
const tombstoneLifetime = 90 * 24 * time.Hour

// ClerkTombstoneReconciler removes a tombstone when nothing from before the deletion can be replayed any more, and nothing
// is left of what it names.
type ClerkTombstoneReconciler struct {
	base
	mirror *mirror.Mirror
}

// +kubebuilder:rbac:groups=clerk-operator.dev,resources=clerktombstones,verbs=get;list;watch;create;patch;delete;mirror
// +kubebuilder:rbac:groups=clerk-operator.dev,resources=clerktombstones/status,verbs=patch

// SetupWithManager watches tombstones.
func (r *ClerkTombstoneReconciler) SetupWithManager(mgr ctrl.Manager) error {
	return ctrl.NewControllerManagedBy(mgr).
		Named("clerktombstone").
		For(&clerkv1alpha1.ClerkTombstone{}, builder.WithPredicates(specChanged())).
		WithOptions(controllerOptions()).
		Complete(r)
}

// Reconcile removes an expired tombstone and tells of the others when they expire.
func (r *ClerkTombstoneReconciler) Reconcile(ctx context.Context, req ctrl.Request) (result ctrl.Result, err error) {
	tombstone := &clerkv1alpha1.ClerkTombstone{}
	if err := r.client.Get(ctx, req.NamespacedName, tombstone); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	if !tombstone.DeletionTimestamp.IsZero() {
		return ctrl.Result{}, nil
	}
	expires := expiry(tombstone)
	left := expires.Sub(r.clock.Now())
	if left <= 0 {
		if needed, err := r.isNeeded(ctx, tombstone); err != nil || needed {
			return ctrl.Result{RequeueAfter: recheckInterval}, err
		}
		return ctrl.Result{}, mirror.DeleteObject(ctx, r.client, tombstone)
	}
	before := tombstone.DeepCopy()
	defer func() { result, err = r.finish(ctx, before, tombstone, result, err) }()
	tombstone.Status.ObservedGeneration = tombstone.Generation
	tombstone.Status.ExpiresAt = new(metav1.NewTime(expires))
	setReady(tombstone, metav1.ConditionTrue, clerkv1alpha1.ReasonRecorded, "late events of the ID are refused")
	return ctrl.Result{RequeueAfter: left}, nil
}

// isNeeded says whether what a tombstone names is still on its way out. A long grace may outlast the tombstone, without
// which an owner would be taken for one that was deleted by hand and comes back.
func (r *ClerkTombstoneReconciler) isNeeded(ctx context.Context, tombstone *clerkv1alpha1.ClerkTombstone) (bool, error) {
	kind, known := clerk.KindOf(tombstone.Spec.ID)
	if !known {
		return false, nil
	}
	object, err := r.mirror.Get(ctx, kind, tombstone.Spec.InstanceName, tombstone.Spec.ID)
	if err == nil && object == nil {
		object, err = r.mirror.GetLive(ctx, kind, tombstone.Spec.InstanceName, tombstone.Spec.ID)
	}
	if err != nil || object == nil {
		return false, err
	}
	return object.GetClerkID() == tombstone.Spec.ID, nil
}

// expiry counts from the later of the deletion in Clerk and its arrival here, in whole seconds as status holds it.
func expiry(tombstone *clerkv1alpha1.ClerkTombstone) time.Time {
	from := tombstone.Spec.DeletedAt.Time
	if tombstone.CreationTimestamp.After(from) {
		from = tombstone.CreationTimestamp.Time
	}
	return from.Add(tombstoneLifetime).Truncate(time.Second)
}

// tombstoneOf returns the tombstone of any of the IDs, of an object or of what it cannot outlive; nil when none is deleted in
// Clerk. What is deleted for that, or is being deleted, is asked of the API server: the cache may not have heard of a
// tombstone that was written before the object was deleted, or that an administrator has removed.
func (b *base) tombstoneOf(ctx context.Context, o mirror.Object, ids ...string) (*clerkv1alpha1.ClerkTombstone, error) {
	instanceName := o.GetMirrored().InstanceName
	tombstone, err := mirror.TombstoneOf(ctx, b.client, instanceName, ids...)
	if err != nil || tombstone == nil && o.GetDeletionTimestamp().IsZero() {
		return nil, err
	}
	return mirror.TombstoneOf(ctx, b.live, instanceName, ids...)
}
