// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"context"
	"fmt"
	"time"

	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	clerkv1alpha1 "github.com/clerk-operator/clerk-operator/api/v1alpha1"
	"github.com/clerk-operator/clerk-operator/internal/access"
	"github.com/clerk-operator/clerk-operator/internal/clerk"
	"github.com/clerk-operator/clerk-operator/internal/mirror"
)

// ClerkOrganizationMembershipReconciler tells what a membership gives its user and whether that is so, by the same
// decision that the organization's bindings are made from. It deletes a membership whose user or organization is known
// to be deleted, and changes nothing else.
type ClerkOrganizationMembershipReconciler struct{ base }

// +kubebuilder:rbac:groups=clerk-operator.dev,resources=clerkorganizationmemberships,verbs=get;list;watch;create;patch;delete;mirror
// +kubebuilder:rbac:groups=clerk-operator.dev,resources=clerkorganizationmemberships/status,verbs=patch

// SetupWithManager watches memberships and everything that decides on them.
func (r *ClerkOrganizationMembershipReconciler) SetupWithManager(mgr ctrl.Manager) error {
	return ctrl.NewControllerManagedBy(mgr).
		Named("clerkorganizationmembership").
		For(&clerkv1alpha1.ClerkOrganizationMembership{}, builder.WithPredicates(specChanged())).
		Watches(&clerkv1alpha1.ClerkOrganizationMembership{}, handler.EnqueueRequestsFromMapFunc(r.siblings),
			builder.WithPredicates(specChanged())).
		Watches(&clerkv1alpha1.ClerkUser{},
			handler.EnqueueRequestsFromMapFunc(throughMemberships(r.client, ofUser, toMembership)),
			builder.WithPredicates(changed(accessOfUser))).
		Watches(&clerkv1alpha1.ClerkOrganization{},
			handler.EnqueueRequestsFromMapFunc(throughMemberships(r.client, ofOrganization, toMembership)),
			builder.WithPredicates(changed(accessOfOrganization))).
		Watches(&clerkv1alpha1.ClerkTenantClass{},
			handler.EnqueueRequestsFromMapFunc(throughMemberships(r.client, ofAnything, toMembership)),
			builder.WithPredicates(specChanged())).
		Watches(&clerkv1alpha1.ClerkTombstone{}, handler.EnqueueRequestsFromMapFunc(tombstoneToMemberships(r.client)),
			builder.WithPredicates(specChanged())).
		Watches(&rbacv1.RoleBinding{}, changedSubjects(r.membershipsIn)).
		WithOptions(controllerOptions()).
		Complete(r)
}

// siblings leads from a membership to the same user's others of the same organization, of which the newest counts.
func (r *ClerkOrganizationMembershipReconciler) siblings(ctx context.Context, o client.Object) []reconcile.Request {
	m := o.(*clerkv1alpha1.ClerkOrganizationMembership)
	return r.requestsOf(ctx, m.Spec.OrganizationID, m.Spec.UserID)
}

// membershipsIn leads from a user in an organization's binding to the user's memberships of the organization.
func (r *ClerkOrganizationMembershipReconciler) membershipsIn(
	ctx context.Context, binding *rbacv1.RoleBinding, userID string,
) []reconcile.Request {
	return r.requestsOf(ctx, binding.Labels[clerkv1alpha1.LabelOrganizationID], userID)
}

func (r *ClerkOrganizationMembershipReconciler) requestsOf(
	ctx context.Context, organizationID, userID string,
) []reconcile.Request {
	items, err := memberships(ctx, r.client, client.MatchingFields{indexUserID: userID}, client.UnsafeDisableDeepCopy)
	if err != nil {
		log.FromContext(ctx).Error(err, "Could not list memberships")
		return nil
	}
	var requests []reconcile.Request
	for i := range items {
		if items[i].Spec.OrganizationID == organizationID {
			requests = append(requests, toMembership(&items[i]))
		}
	}
	return requests
}

// Reconcile takes one membership to where it should be.
func (r *ClerkOrganizationMembershipReconciler) Reconcile(
	ctx context.Context, req ctrl.Request,
) (result ctrl.Result, err error) {
	membership := &clerkv1alpha1.ClerkOrganizationMembership{}
	if err := r.client.Get(ctx, req.NamespacedName, membership); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	if !membership.DeletionTimestamp.IsZero() {
		return ctrl.Result{}, nil // it has no finalizer of ours
	}
	spec := &membership.Spec
	tombstone, err := r.tombstoneOf(ctx, membership, spec.MembershipID, spec.OrganizationID, spec.UserID)
	if err != nil {
		return ctrl.Result{}, err
	}
	if tombstone != nil {
		return ctrl.Result{}, mirror.DeleteObject(ctx, r.client, membership)
	}
	before := membership.DeepCopy()
	defer func() { result, err = r.finish(ctx, before, membership, result, err) }()
	return r.reconcileStatus(ctx, membership)
}

// settleInterval is how long a membership that is new may wait before that is told: what it waits for is usually there at
// once, and a status that is true for a moment is a write for nothing.
const settleInterval = 2 * time.Second

// settling are the reasons that tell of such a wait.
var settling = sets.New(
	clerkv1alpha1.ReasonWaitingForUser, clerkv1alpha1.ReasonWaitingForOrganization, clerkv1alpha1.ReasonBinding)

func (r *ClerkOrganizationMembershipReconciler) reconcileStatus(
	ctx context.Context, membership *clerkv1alpha1.ClerkOrganizationMembership,
) (ctrl.Result, error) {
	request, err := r.requestOf(ctx, membership)
	if err != nil {
		return ctrl.Result{}, err
	}
	decision := access.Decide(request)
	status, reason, message := metav1.ConditionFalse, decision.Reason, decision.Message
	if decision.Granted() {
		waiting, err := r.waitingFor(ctx, request.Organization, membership, decision)
		switch {
		case err != nil:
			return ctrl.Result{}, err
		case waiting != "":
			reason, message = clerkv1alpha1.ReasonBinding, waiting
		default:
			status, reason = metav1.ConditionTrue, clerkv1alpha1.ReasonBound
			message = "bound in namespace " + request.Organization.Status.Namespace.Name
		}
	}
	age := r.clock.Since(membership.CreationTimestamp.Time).Abs()
	if len(membership.Status.Conditions) == 0 && age < settleInterval && settling.Has(reason) {
		return ctrl.Result{RequeueAfter: settleInterval - age}, nil
	}
	membership.Status.ObservedGeneration = membership.Generation
	membership.Status.ClusterRoles = decision.ClusterRoles
	setReady(membership, status, reason, message)
	return ctrl.Result{}, nil
}

// requestOf collects what the decision on a membership depends on.
func (r *ClerkOrganizationMembershipReconciler) requestOf(
	ctx context.Context, membership *clerkv1alpha1.ClerkOrganizationMembership,
) (access.Request, error) {
	request := access.Request{Membership: membership}
	organization := &clerkv1alpha1.ClerkOrganization{}
	err := r.client.Get(ctx, client.ObjectKey{
		Name: clerk.ObjectName(membership.Spec.InstanceName, membership.Spec.OrganizationID),
	}, organization)
	switch {
	case apierrors.IsNotFound(err):
	case err != nil:
		return request, fmt.Errorf("reading organization %s: %w", membership.Spec.OrganizationID, err)
	default:
		request.Organization = organization
		if request.Class, err = r.classOf(ctx, organization); err != nil {
			return request, err
		}
		config, _, err := r.configOf(ctx, organization)
		if err != nil {
			return request, err
		}
		request.Suspended = suspended(organization, config)
	}
	if request.User, err = r.userOf(ctx, membership); err != nil {
		return request, err
	}
	items, err := memberships(ctx, r.client, client.MatchingFields{indexUserID: membership.Spec.UserID})
	if err != nil {
		return request, fmt.Errorf("listing memberships: %w", err)
	}
	var siblings []*clerkv1alpha1.ClerkOrganizationMembership
	for i := range items {
		sibling := &items[i].Spec
		if sibling.OrganizationID != membership.Spec.OrganizationID || sibling.InstanceName != membership.Spec.InstanceName {
			continue
		}
		dead, err := mirror.Deleted(ctx, r.client, sibling.InstanceName, sibling.MembershipID)
		if err != nil {
			return request, err
		}
		if !dead {
			siblings = append(siblings, &items[i])
		}
	}
	current := access.Current(siblings)[membership.Spec.UserID]
	request.Superseded = current != nil && current.Name != membership.Name
	return request, nil
}

// waitingFor says what a membership waits for before every ClusterRole of the decision is bound; nothing when all are.
func (r *ClerkOrganizationMembershipReconciler) waitingFor(
	ctx context.Context, organization *clerkv1alpha1.ClerkOrganization,
	membership *clerkv1alpha1.ClerkOrganizationMembership, decision access.Decision,
) (string, error) {
	if organization.Status.Namespace.Name == "" {
		reason := "it has no status yet"
		if ready := meta.FindStatusCondition(organization.Status.Conditions, clerkv1alpha1.ConditionReady); ready != nil {
			reason = ready.Reason
		}
		return fmt.Sprintf("organization %s has no namespace: %s", membership.Spec.OrganizationID, reason), nil
	}
	var bindings rbacv1.RoleBindingList
	if err := r.client.List(ctx, &bindings, client.InNamespace(organization.Status.Namespace.Name),
		client.MatchingFields{indexSubject: membership.Spec.UserID}, client.UnsafeDisableDeepCopy); err != nil {
		return "", fmt.Errorf("listing bindings: %w", err)
	}
	missing := sets.New(decision.ClusterRoles...)
	for i := range bindings.Items {
		missing.Delete(bindings.Items[i].RoleRef.Name)
	}
	if missing.Len() > 0 {
		return fmt.Sprintf("waiting for the bindings of %v in namespace %s",
			sets.List(missing), organization.Status.Namespace.Name), nil
	}
	return "", nil
}
