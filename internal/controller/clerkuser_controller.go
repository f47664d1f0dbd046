// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"context"
	"fmt"
	"slices"

	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	clerkv1alpha1 "github.com/clerk-operator/clerk-operator/api/v1alpha1"
	"github.com/clerk-operator/clerk-operator/internal/access"
	"github.com/clerk-operator/clerk-operator/internal/clerk"
	"github.com/clerk-operator/clerk-operator/internal/mirror"
	"github.com/clerk-operator/clerk-operator/internal/tenant"
)

// ClerkUserReconciler tells a user's state, makes a namespace of the user's own where a class asks for it, and holds a
// deleted user until no binding names the user and the user's memberships are gone. The bindings in the namespaces of
// organizations are those organizations' to change.
type ClerkUserReconciler struct{ tenancy }

// +kubebuilder:rbac:groups=clerk-operator.dev,resources=clerkusers,verbs=get;list;watch;create;patch;delete;mirror
// +kubebuilder:rbac:groups=clerk-operator.dev,resources=clerkusers/status,verbs=patch

// SetupWithManager watches users, what they are members of and where they are named.
func (r *ClerkUserReconciler) SetupWithManager(mgr ctrl.Manager) error {
	named := changedSubjects(func(ctx context.Context, binding *rbacv1.RoleBinding, userID string) []reconcile.Request {
		return []reconcile.Request{requestFor(r.labelsOfTenant(ctx, binding)[clerkv1alpha1.LabelInstance], userID)}
	})
	b := ctrl.NewControllerManagedBy(mgr).
		Named("clerkuser").
		For(&clerkv1alpha1.ClerkUser{}, builder.WithPredicates(specChanged())).
		Watches(&clerkv1alpha1.ClerkUser{}, revoking(&handler.EnqueueRequestForObject{}, isSuspendedOrDeleting),
			builder.WithPredicates(changed(accessOfUser))).
		Watches(&clerkv1alpha1.ClerkOrganizationMembership{}, handler.EnqueueRequestsFromMapFunc(membershipToUser),
			builder.WithPredicates(specChanged())).
		Watches(&clerkv1alpha1.ClerkTombstone{}, handler.EnqueueRequestsFromMapFunc(tombstoned(clerk.KindUser)),
			builder.WithPredicates(specChanged())).
		Watches(&clerkv1alpha1.ClerkInstance{}, handler.EnqueueRequestsFromMapFunc(r.allWithTenants),
			builder.WithPredicates(predicate.Or(specChanged(), changed(learnedOfInstance)))).
		Watches(&clerkv1alpha1.ClerkUser{}, handler.EnqueueRequestsFromMapFunc(r.waiting),
			builder.WithPredicates(leftPlace())).
		Watches(&clerkv1alpha1.ClerkUser{}, unhurried(&handler.EnqueueRequestForObject{}), builder.WithPredicates(arrived())).
		Watches(&rbacv1.RoleBinding{}, named)
	return r.watchTenants(b, clerkv1alpha1.TenantsUsers).WithOptions(controllerOptions()).Complete(r)
}

// allWithTenants leads to every user where users can have namespaces of their own, and else to those who still have one.
func (r *ClerkUserReconciler) allWithTenants(ctx context.Context, o client.Object) []reconcile.Request {
	classes, err := r.classesFor(ctx, clerkv1alpha1.TenantsUsers)
	if err == nil && len(classes) > 0 {
		return r.allOf(clerkv1alpha1.TenantsUsers)(ctx, o)
	}
	users, err := r.owners(ctx, clerkv1alpha1.TenantsUsers)
	if err != nil {
		log.FromContext(ctx).Error(err, "Could not list users")
		return nil
	}
	var requests []reconcile.Request
	for _, user := range users {
		if user.GetTenantStatus().Namespace.Name != "" {
			requests = append(requests, requestForOwner(user))
		}
	}
	return requests
}

// Reconcile takes one user to where it should be.
func (r *ClerkUserReconciler) Reconcile(ctx context.Context, req ctrl.Request) (result ctrl.Result, err error) {
	user := &clerkv1alpha1.ClerkUser{}
	if err := r.client.Get(ctx, req.NamespacedName, user); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	tombstone, err := r.tombstoneOf(ctx, user, user.Spec.UserID)
	if err != nil {
		return ctrl.Result{}, err
	}
	if tombstone != nil && user.DeletionTimestamp.IsZero() {
		return ctrl.Result{}, mirror.DeleteObject(ctx, r.client, user)
	}
	memberships, err := memberships(ctx, r.client, client.MatchingFields{indexUserID: user.Spec.UserID})
	if err != nil {
		return ctrl.Result{}, fmt.Errorf("listing memberships: %w", err)
	}
	bindings, err := r.bindingsThatName(ctx, user)
	if err != nil {
		return ctrl.Result{}, err
	}
	before := user.DeepCopy()
	defer func() { result, err = r.finish(ctx, before, user, result, err) }()

	if !user.DeletionTimestamp.IsZero() {
		if tombstone == nil {
			memberships = nil // the user is deleted here and not in Clerk, where the memberships go on
		}
		return r.reconcileDelete(ctx, user, tombstone, memberships, bindings)
	}
	if err := r.ensureFinalizer(ctx, user, clerkv1alpha1.FinalizerUser); err != nil {
		return ctrl.Result{}, err
	}
	result, err = r.reconcileTenant(ctx, user)
	reconcileUserStatus(user, memberships, bindings, err)
	return outcome(err, result)
}

// waits are why a user may have no namespace with nothing being wrong with the user: NamespaceReady and AccessReady tell.
var waits = []string{
	clerkv1alpha1.ReasonPending, clerkv1alpha1.ReasonObserving, clerkv1alpha1.ReasonTenantSuspended,
	clerkv1alpha1.ReasonInstanceNotFound, clerkv1alpha1.ReasonPoliciesNotEnforced,
}

// reconcileTenant makes the user's own namespace, where a class asks for it. A user who is suspended is made none.
func (r *ClerkUserReconciler) reconcileTenant(ctx context.Context, user *clerkv1alpha1.ClerkUser) (ctrl.Result, error) {
	c, err := r.claimOf(ctx, user)
	if err != nil {
		return ctrl.Result{}, err
	}
	if user.Status.Namespace.Name == "" && (c.class == nil || user.Suspended()) {
		if namespace, err := r.findNamespace(ctx, user); err != nil || namespace == nil {
			tellOfNoTenant(user, c)
			r.places.leave(user.UID)
			return ctrl.Result{}, err
		}
	}
	granted := tenant.Grants{}
	decision := access.DecideOwner(user, c.class, suspended(user, c.config))
	for _, role := range decision.ClusterRoles {
		granted[role] = []string{user.Spec.UserID}
	}
	return ctrl.Result{RequeueAfter: resyncInterval}, r.provision(ctx, c, granted)
}

// tellOfNoTenant leaves nothing of a tenant in a user's status, unless a class could not tell whether it selects the user.
func tellOfNoTenant(user *clerkv1alpha1.ClerkUser, c *claim) {
	user.Status.TenantStatus = clerkv1alpha1.TenantStatus{}
	meta.RemoveStatusCondition(&user.Status.Conditions, clerkv1alpha1.ConditionAccessReady)
	if c.passedOver == "" {
		meta.RemoveStatusCondition(&user.Status.Conditions, clerkv1alpha1.ConditionNamespaceReady)
		return
	}
	setCondition(user, clerkv1alpha1.ConditionNamespaceReady, metav1.ConditionFalse, clerkv1alpha1.ReasonNoTenantClass, noClass(c))
}

// reconcileUserStatus sets a user's status from the memberships and bindings that name the user, and from what is wrong
// with the user's own namespace.
func reconcileUserStatus(
	user *clerkv1alpha1.ClerkUser, memberships []clerkv1alpha1.ClerkOrganizationMembership, bindings int, err error,
) {
	organizations := sets.New[string]()
	for i := range memberships {
		if memberships[i].Spec.InstanceName == user.Spec.InstanceName && memberships[i].DeletionTimestamp.IsZero() {
			organizations.Insert(memberships[i].Spec.OrganizationID)
		}
	}
	user.Status.ObservedGeneration = user.Generation
	user.Status.Organizations = count(organizations.Len())
	user.Status.State = clerkv1alpha1.ClerkUserActive
	if user.Suspended() {
		user.Status.State = clerkv1alpha1.ClerkUserSuspended
	}
	waiting := slices.ContainsFunc(waits, func(reason string) bool { return hasReason(err, reason) })
	switch {
	case err != nil && !waiting && !user.Suspended():
		setFailed(user, clerkv1alpha1.ConditionReady, err)
	case !user.Suspended():
		setReady(user, metav1.ConditionTrue, clerkv1alpha1.ReasonActive, "the user may hold access")
	case bindings > 0:
		setReady(user, metav1.ConditionFalse, clerkv1alpha1.ReasonRevoking, "bindings still name the suspended user")
	default:
		setReady(user, metav1.ConditionTrue, clerkv1alpha1.ReasonSuspended,
			"the user is banned or deprovisioned in Clerk, or spec.banned is absent, and holds no access")
	}
}

// reconcileDelete cascades to the user's memberships, since Clerk does not promise an event for each, takes the user's own
// namespace away, and lets the user go when all bindings that name the user are gone, too. A user who is deleted here and
// not in Clerk comes back: the namespace is kept, and found then.
func (r *ClerkUserReconciler) reconcileDelete(
	ctx context.Context, user *clerkv1alpha1.ClerkUser, tombstone *clerkv1alpha1.ClerkTombstone,
	memberships []clerkv1alpha1.ClerkOrganizationMembership, bindings int,
) (ctrl.Result, error) {
	remaining := 0
	cascade := func() error {
		for i := range memberships {
			if memberships[i].Spec.InstanceName != user.Spec.InstanceName {
				continue
			}
			remaining++
			if memberships[i].DeletionTimestamp.IsZero() {
				if err := mirror.DeleteObject(ctx, r.client, &memberships[i]); err != nil {
					return err
				}
			}
		}
		return nil
	}
	config, _, err := r.configOf(ctx, user)
	if err != nil {
		return ctrl.Result{}, err
	}
	// Where nothing is changed in the namespaces of organizations, a user who is deleted here must not wait for that: an
	// organization takes the user out when it is enforced again, unless the user is back.
	frozen := tombstone == nil && config.Observes()
	release := func() error {
		if remaining == 0 && (bindings == 0 || frozen) {
			return r.releaseFinalizer(ctx, user, clerkv1alpha1.FinalizerUser)
		}
		setReady(user, metav1.ConditionFalse, clerkv1alpha1.ReasonDeleting,
			"waiting for the user's memberships and the bindings that name the user to be gone")
		return nil
	}
	user.Status.ObservedGeneration = user.Generation
	if tombstone == nil {
		return r.leave(ctx, user, release)
	}
	return r.teardown(ctx, user, tombstone, cascade, release)
}

// bindingsThatName counts the bindings that name a user in the namespaces of organizations and in the user's own. A binding
// elsewhere is not the operator's, whatever its labels say, and must not hold the user.
func (r *ClerkUserReconciler) bindingsThatName(ctx context.Context, user *clerkv1alpha1.ClerkUser) (int, error) {
	var bindings rbacv1.RoleBindingList
	err := r.client.List(ctx, &bindings, client.MatchingFields{indexSubject: user.Spec.UserID}, client.UnsafeDisableDeepCopy)
	if err != nil {
		return 0, fmt.Errorf("listing bindings: %w", err)
	}
	named := 0
	for i := range bindings.Items {
		labels := bindings.Items[i].Labels
		if labels[clerkv1alpha1.LabelUserID] == user.Spec.UserID {
			if bindings.Items[i].Namespace == user.Status.Namespace.Name {
				named++
			}
			continue
		}
		organizationID := labels[clerkv1alpha1.LabelOrganizationID]
		organization := &clerkv1alpha1.ClerkOrganization{}
		key := client.ObjectKey{Name: clerk.ObjectName(user.Spec.InstanceName, organizationID)}
		err := r.client.Get(ctx, key, organization)
		if client.IgnoreNotFound(err) != nil {
			return 0, fmt.Errorf("reading organization %s: %w", organizationID, err)
		}
		if err == nil && organization.Status.Namespace.Name == bindings.Items[i].Namespace {
			named++
		}
	}
	return named, nil
}
