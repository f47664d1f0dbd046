// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"context"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	ctrlcontroller "sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/predicate"

	clerkv1alpha1 "github.com/clerk-operator/clerk-operator/api/v1alpha1"
	"github.com/clerk-operator/clerk-operator/internal/backfill"
	"github.com/clerk-operator/clerk-operator/internal/clerk"
	"github.com/clerk-operator/clerk-operator/internal/clerkapi"
	"github.com/clerk-operator/clerk-operator/internal/instance"
	"github.com/clerk-operator/clerk-operator/internal/mirror"
)

// webhookTime is how long a new member's own event may take before the user is read from Clerk. Where only members are
// mirrored that event may have passed already, so the user is read at once.
const webhookTime = 30 * time.Second

// ResyncReconciler reads single objects from Clerk: those that somebody asks for by annotation, and users that are members
// and are not mirrored. What somebody asks for has its Secrets written again, too.
type ResyncReconciler struct {
	base
	mirror  *mirror.Mirror
	syncer  *backfill.Syncer
	clients *clerkapi.Clients
	// secrets says when the Secrets of a tenant are written again.
	secrets *schedule
}

// resyncRequest is one Clerk ID to be read.
type resyncRequest struct {
	instanceName string
	kind         clerk.Kind
	id           string
}

// String is what logs show of a request.
func (r resyncRequest) String() string { return r.instanceName + "/" + r.id }

// SetupWithManager watches what is asked for, and memberships without a user.
func (r *ResyncReconciler) SetupWithManager(mgr ctrl.Manager) error {
	asked := handler.TypedEnqueueRequestsFromMapFunc(askedFor)
	requested := builder.WithPredicates(predicate.NewPredicateFuncs(isResyncRequested))
	defaults := controllerOptions()
	return builder.TypedControllerManagedBy[resyncRequest](mgr).
		Named("resync").
		Watches(&clerkv1alpha1.ClerkUser{}, asked, requested).
		Watches(&clerkv1alpha1.ClerkOrganization{}, asked, requested).
		Watches(&clerkv1alpha1.ClerkOrganizationMembership{}, asked, requested).
		Watches(&clerkv1alpha1.ClerkOrganizationMembership{}, handler.TypedEnqueueRequestsFromMapFunc(memberOf),
			builder.WithPredicates(specChanged())).
		Watches(&clerkv1alpha1.ClerkUser{}, asked,
			builder.WithPredicates(onDelete())).
		WithOptions(ctrlcontroller.TypedOptions[resyncRequest]{
			MaxConcurrentReconciles: defaults.MaxConcurrentReconciles,
			ReconciliationTimeout:   syncTimeout,
			EnableWarmup:            defaults.EnableWarmup,
		}).
		Complete(r)
}

func isResyncRequested(o client.Object) bool {
	return o.GetAnnotations()[clerkv1alpha1.AnnotationResyncRequestedAt] != "" && o.GetDeletionTimestamp().IsZero()
}

// askedFor leads from a mirrored object to itself.
func askedFor(_ context.Context, o client.Object) []resyncRequest {
	object, ok := o.(mirror.Object)
	if !ok {
		return nil
	}
	kind, ok := clerk.KindOf(object.GetClerkID())
	if !ok {
		return nil
	}
	return []resyncRequest{{object.GetMirrored().InstanceName, kind, object.GetClerkID()}}
}

// memberOf leads from a membership to its user.
func memberOf(_ context.Context, o client.Object) []resyncRequest {
	spec := o.(*clerkv1alpha1.ClerkOrganizationMembership).Spec
	return []resyncRequest{{spec.InstanceName, clerk.KindUser, spec.UserID}}
}

// Reconcile reads one object if somebody asked for it, or one user who is missing.
func (r *ResyncReconciler) Reconcile(ctx context.Context, req resyncRequest) (ctrl.Result, error) {
	object, err := r.mirror.Get(ctx, req.kind, req.instanceName, req.id)
	if err != nil {
		return ctrl.Result{}, err
	}
	if object == nil && req.kind != clerk.KindUser || object != nil && !isResyncRequested(object) {
		return ctrl.Result{}, nil
	}
	config, err := r.instances.Get(ctx, req.instanceName)
	if errors.Is(err, instance.ErrNotFound) || errors.Is(err, instance.ErrNotConfigured) {
		return ctrl.Result{}, nil
	}
	if err != nil {
		return ctrl.Result{}, err
	}
	if object == nil {
		if wait, err := r.isMissing(ctx, config, req); err != nil || wait != 0 {
			return ctrl.Result{RequeueAfter: max(0, wait)}, err
		}
	}
	return r.read(ctx, config, req, object)
}

// read reads an object, or a missing user, from the instance's Backend API.
func (r *ResyncReconciler) read(
	ctx context.Context, config *clerkv1alpha1.ClerkInstance, req resyncRequest, object mirror.Object,
) (ctrl.Result, error) {
	api, err := r.backend(ctx, config)
	switch {
	case err != nil:
		return ctrl.Result{}, err
	case api == nil && !config.HasBackendAPI():
		return ctrl.Result{}, r.decline(ctx, object)
	case api == nil: // the sync tells what is wrong
		return ctrl.Result{RequeueAfter: recheckInterval}, nil
	case object == nil:
		err = r.syncer.FetchUser(ctx, config, api, req.id)
	default:
		err = r.refresh(ctx, config, api, object)
	}
	if isClerks(err) {
		log.FromContext(ctx).Info("Could not read an object of Clerk; it is tried again", "reason", err.Error())
		wait := recheckInterval
		if e, ok := errors.AsType[*clerkapi.Error](err); ok {
			wait = max(wait, min(e.RetryAfter, maxRetryAfter))
		}
		return ctrl.Result{RequeueAfter: wait}, nil
	}
	return ctrl.Result{}, err
}

// isMissing says how long to wait for a user's own event before the user is to be read: 0 for not any more, and less for
// ever, when there is no member of this ID.
func (r *ResyncReconciler) isMissing(
	ctx context.Context, config *clerkv1alpha1.ClerkInstance, req resyncRequest,
) (time.Duration, error) {
	const forever = -1
	switch {
	case !config.HasBackendAPI():
		return forever, nil
	case config.Status.Sync.LastFullTime == nil:
		return recheckInterval, nil // the first sync brings all of them
	}
	dead, err := mirror.Deleted(ctx, r.client, req.instanceName, req.id)
	if err != nil {
		return 0, err
	}
	items, err := memberships(ctx, r.client, client.MatchingFields{indexUserID: req.id}, client.UnsafeDisableDeepCopy)
	if err != nil {
		return 0, fmt.Errorf("listing memberships: %w", err)
	}
	wait := time.Duration(forever)
	for i := range items {
		if items[i].Spec.InstanceName != req.instanceName || !items[i].DeletionTimestamp.IsZero() || dead {
			continue
		}
		if config.UserMirror() == clerkv1alpha1.UserMirrorMembers {
			return 0, nil
		}
		wait = max(wait, 0, items[i].CreationTimestamp.Add(webhookTime).Sub(r.clock.Now()))
	}
	return wait, nil
}

// backend returns the client of an instance's Backend API; nil when it has none or its key cannot be used.
func (r *ResyncReconciler) backend(ctx context.Context, config *clerkv1alpha1.ClerkInstance) (*clerkapi.Client, error) {
	if !config.HasBackendAPI() {
		return nil, nil
	}
	key, problem, err := r.instances.SecretKey(ctx, config)
	if err != nil || problem != nil {
		return nil, err
	}
	return r.clients.For(config.Name, config.Spec.BackendAPI.URL, key), nil
}

// refresh reads an object and then takes the request for it away.
func (r *ResyncReconciler) refresh(
	ctx context.Context, config *clerkv1alpha1.ClerkInstance, api *clerkapi.Client, object mirror.Object,
) error {
	certain, err := r.syncer.Refresh(ctx, config, api, object)
	if err != nil {
		return err
	}
	answered, err := r.answer(ctx, object)
	if answered && !certain {
		r.recorder.Eventf(object, nil, corev1.EventTypeWarning, "ResyncUncertain", "Resync",
			"Clerk's listing lacks the object or cannot be used, and it is not proven to be gone; it stays as it is")
	}
	return err
}

// decline tells that there is nothing to read from.
func (r *ResyncReconciler) decline(ctx context.Context, object mirror.Object) error {
	if object == nil {
		return nil
	}
	answered, err := r.answer(ctx, object)
	if answered {
		r.recorder.Eventf(object, nil, corev1.EventTypeWarning, "NoBackendAPI", "Resync",
			"the ClerkInstance has no backendAPI to read the object from")
	}
	return err
}

// answer takes a request away, unless there is a new one by now. It returns whether it did, which it does once, whatever
// the cache has seen of it.
func (r *ResyncReconciler) answer(ctx context.Context, asked mirror.Object) (bool, error) {
	kind, _ := clerk.KindOf(asked.GetClerkID())
	object := mirror.NewObject(kind)
	if err := r.live.Get(ctx, client.ObjectKeyFromObject(asked), object); err != nil {
		return false, client.IgnoreNotFound(err)
	}
	annotations := object.GetAnnotations()
	if annotations[clerkv1alpha1.AnnotationResyncRequestedAt] != asked.GetAnnotations()[clerkv1alpha1.AnnotationResyncRequestedAt] {
		return false, nil
	}
	// Its Secrets, which nobody can see to be wrong, are written again when the annotation is gone.
	if _, ok := object.(owner); ok {
		r.secrets.expire(object.GetUID())
	}
	before := object.DeepCopyObject().(client.Object)
	delete(annotations, clerkv1alpha1.AnnotationResyncRequestedAt)
	object.SetAnnotations(annotations)
	err := r.client.Patch(ctx, object, lockedMerge(before))
	return err == nil, client.IgnoreNotFound(err)
}
