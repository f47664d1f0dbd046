// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"context"
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/predicate"

	clerkv1alpha1 "github.com/clerk-operator/clerk-operator/api/v1alpha1"
	"github.com/clerk-operator/clerk-operator/internal/clerk"
	"github.com/clerk-operator/clerk-operator/internal/mirror"
)

// ClerkOrganizationReconciler makes a tenant of an organization that a class selects, for its members.
type ClerkOrganizationReconciler struct{ tenancy }

// +kubebuilder:rbac:groups=clerk-operator.dev,resources=clerkorganizations,verbs=get;list;watch;create;patch;delete;mirror;manage
// +kubebuilder:rbac:groups=clerk-operator.dev,resources=clerkorganizations/status,verbs=patch

// SetupWithManager watches organizations and everything that a tenant is made of or from.
func (r *ClerkOrganizationReconciler) SetupWithManager(mgr ctrl.Manager) error {
	b := ctrl.NewControllerManagedBy(mgr).
		Named("clerkorganization").
		For(&clerkv1alpha1.ClerkOrganization{}, builder.WithPredicates(specChanged())).
		Watches(&clerkv1alpha1.ClerkOrganization{}, revoking(&handler.EnqueueRequestForObject{}, isClosed),
			builder.WithPredicates(changed(func(o client.Object) any { return isClosed(o) }))).
		Watches(&clerkv1alpha1.ClerkOrganizationMembership{},
			revoking(handler.EnqueueRequestsFromMapFunc(membershipToOrganization), always),
			builder.WithPredicates(specChanged())).
		Watches(&clerkv1alpha1.ClerkUser{},
			revoking(handler.EnqueueRequestsFromMapFunc(throughMemberships(r.client, ofUser, toOrganization)), isSuspendedOrDeleting),
			builder.WithPredicates(changed(accessOfUser))).
		Watches(&clerkv1alpha1.ClerkInstance{}, handler.EnqueueRequestsFromMapFunc(r.allOf(clerkv1alpha1.TenantsOrganizations)),
			builder.WithPredicates(predicate.Or(specChanged(), changed(learnedOfInstance)))).
		Watches(&clerkv1alpha1.ClerkTombstone{}, handler.EnqueueRequestsFromMapFunc(tombstoned(clerk.KindOrganization)),
			builder.WithPredicates(specChanged())).
		Watches(&clerkv1alpha1.ClerkOrganization{}, handler.EnqueueRequestsFromMapFunc(r.waiting),
			builder.WithPredicates(leftPlace())).
		Watches(&clerkv1alpha1.ClerkOrganization{}, unhurried(&handler.EnqueueRequestForObject{}), builder.WithPredicates(arrived()))
	return r.watchTenants(b, clerkv1alpha1.TenantsOrganizations).WithOptions(controllerOptions()).Complete(r)
}

// Reconcile takes one organization to where it should be.
func (r *ClerkOrganizationReconciler) Reconcile(ctx context.Context, req ctrl.Request) (result ctrl.Result, err error) {
	organization := &clerkv1alpha1.ClerkOrganization{}
	if err := r.client.Get(ctx, req.NamespacedName, organization); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	tombstone, err := r.tombstoneOf(ctx, organization, organization.Spec.OrganizationID)
	if err != nil {
		return ctrl.Result{}, err
	}
	if tombstone != nil && organization.DeletionTimestamp.IsZero() {
		return ctrl.Result{}, mirror.DeleteObject(ctx, r.client, organization)
	}
	before := organization.DeepCopy()
	defer func() { result, err = r.finish(ctx, before, organization, result, err) }()

	if !organization.DeletionTimestamp.IsZero() {
		return r.reconcileDelete(ctx, organization, tombstone)
	}
	if err := r.ensureFinalizer(ctx, organization, clerkv1alpha1.FinalizerOrganization); err != nil {
		return ctrl.Result{}, err
	}
	return r.reconcileNormal(ctx, organization)
}

func (r *ClerkOrganizationReconciler) reconcileNormal(
	ctx context.Context, organization *clerkv1alpha1.ClerkOrganization,
) (ctrl.Result, error) {
	organization.Status.ObservedGeneration = organization.Generation
	c, err := r.claimOf(ctx, organization)
	if err != nil {
		return ctrl.Result{}, err
	}
	members, err := r.membersOf(ctx, organization)
	if err != nil {
		return ctrl.Result{}, err
	}
	organization.Status.Members = count(len(members))
	err = r.provision(ctx, c, grants(organization, c, members))
	r.summarise(organization, c, err)
	return outcome(err, ctrl.Result{RequeueAfter: resyncInterval})
}

// reconcileDelete takes access away at once, and the namespace after the grace if Clerk deleted the organization. One that
// was deleted here and not in Clerk comes back: its memberships and its namespace are kept, and found then.
func (r *ClerkOrganizationReconciler) reconcileDelete(
	ctx context.Context, organization *clerkv1alpha1.ClerkOrganization, tombstone *clerkv1alpha1.ClerkTombstone,
) (ctrl.Result, error) {
	organization.Status.ObservedGeneration = organization.Generation
	release := func() error { return r.releaseFinalizer(ctx, organization, clerkv1alpha1.FinalizerOrganization) }
	if tombstone == nil {
		return r.leave(ctx, organization, release)
	}
	return r.teardown(ctx, organization, tombstone, func() error { return r.deleteMemberships(ctx, organization) }, release)
}

// deleteMemberships cascades: Clerk does not promise an event for each membership of a deleted organization.
func (r *ClerkOrganizationReconciler) deleteMemberships(
	ctx context.Context, organization *clerkv1alpha1.ClerkOrganization,
) error {
	items, err := memberships(ctx, r.client,
		client.MatchingFields{indexOrganizationID: organization.Spec.OrganizationID})
	if err != nil {
		return fmt.Errorf("listing memberships: %w", err)
	}
	for i := range items {
		if items[i].Spec.InstanceName != organization.Spec.InstanceName || !items[i].DeletionTimestamp.IsZero() {
			continue
		}
		if err := mirror.DeleteObject(ctx, r.client, &items[i]); err != nil {
			return err
		}
	}
	organization.Status.Members = count(0)
	return nil
}

// summarise sets Ready from what the phases ended with.
func (r *ClerkOrganizationReconciler) summarise(organization *clerkv1alpha1.ClerkOrganization, c *claim, err error) {
	switch {
	case err != nil:
		setFailed(organization, clerkv1alpha1.ConditionReady, err)
	case c.class == nil:
		setReady(organization, metav1.ConditionFalse, clerkv1alpha1.ReasonNoTenantClass,
			"no ClerkTenantClass selects the organization: nothing is provisioned and nobody has access"+c.passedOver)
	default:
		setReady(organization, metav1.ConditionTrue, clerkv1alpha1.ReasonProvisioned,
			fmt.Sprintf("namespace %s is provisioned", organization.Status.Namespace.Name))
	}
}
