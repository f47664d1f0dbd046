// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"context"
	"errors"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/predicate"

	clerkv1alpha1 "github.com/clerk-operator/clerk-operator/api/v1alpha1"
	"github.com/clerk-operator/clerk-operator/internal/clerk"
	"github.com/clerk-operator/clerk-operator/internal/instance"
	"github.com/clerk-operator/clerk-operator/internal/mirror"
	"github.com/clerk-operator/clerk-operator/internal/tenant"
)

// ClerkOrganizationReconciler makes a tenant of an organization that a class selects: a namespace, the Secret
// clerk-organization and the RoleBindings of its members. It never touches a namespace that is not proven to be the
// organization's.
type ClerkOrganizationReconciler struct {
	base
	// namespace is the operator's own, which Secrets are copied from.
	namespace string
	// secrets says when a Secret is written again although nothing changed: it cannot be read.
	secrets *schedule
	// places says who has been given a place in a class that has only so many.
	places *places
}

// +kubebuilder:rbac:groups=clerk-operator.dev,resources=clerkorganizations,verbs=get;list;watch;create;patch;delete;mirror;manage
// +kubebuilder:rbac:groups=clerk-operator.dev,resources=clerkorganizations/status,verbs=patch
// +kubebuilder:rbac:groups="",resources=namespaces,verbs=get;list;watch;create;patch;delete
// +kubebuilder:rbac:groups="",resources=secrets,verbs=create;patch;delete
// +kubebuilder:rbac:groups=rbac.authorization.k8s.io,resources=rolebindings,verbs=get;list;watch;create;patch;delete
// +kubebuilder:rbac:groups=rbac.authorization.k8s.io,resources=clusterroles,resourceNames=admin;edit;view,verbs=bind
// +kubebuilder:rbac:groups=events.k8s.io,resources=events,verbs=create;patch

// SetupWithManager watches organizations and everything that a tenant is made of or from.
func (r *ClerkOrganizationReconciler) SetupWithManager(mgr ctrl.Manager) error {
	guardrail := handler.EnqueueRequestsFromMapFunc(labelledOrganization)
	return ctrl.NewControllerManagedBy(mgr).
		Named("clerkorganization").
		For(&clerkv1alpha1.ClerkOrganization{}, builder.WithPredicates(specChanged())).
		Watches(&clerkv1alpha1.ClerkOrganizationMembership{},
			revoking(handler.EnqueueRequestsFromMapFunc(membershipToOrganization), always),
			builder.WithPredicates(specChanged())).
		Watches(&clerkv1alpha1.ClerkUser{},
			revoking(handler.EnqueueRequestsFromMapFunc(throughMemberships(r.client, ofUser, toOrganization)), isSuspendedOrDeleting),
			builder.WithPredicates(changed(accessOfUser))).
		Watches(&clerkv1alpha1.ClerkTenantClass{}, handler.EnqueueRequestsFromMapFunc(allOrganizations(r.client)),
			builder.WithPredicates(specChanged())).
		Watches(&clerkv1alpha1.ClerkInstance{}, handler.EnqueueRequestsFromMapFunc(allOrganizations(r.client)),
			builder.WithPredicates(specChanged())).
		Watches(&clerkv1alpha1.ClerkTombstone{}, handler.EnqueueRequestsFromMapFunc(tombstoned(clerk.KindOrganization)),
			builder.WithPredicates(specChanged())).
		Watches(&corev1.Namespace{}, handler.EnqueueRequestsFromMapFunc(labelledOrganization),
			builder.WithPredicates(changed(contentOfNamespace))).
		Watches(&rbacv1.RoleBinding{}, handler.EnqueueRequestsFromMapFunc(labelledOrganization),
			builder.WithPredicates(changed(contentOfBinding))).
		Watches(&corev1.ResourceQuota{}, guardrail, builder.WithPredicates(changed(contentOfGuardrail))).
		Watches(&corev1.LimitRange{}, guardrail, builder.WithPredicates(changed(contentOfGuardrail))).
		Watches(&networkingv1.NetworkPolicy{}, guardrail, builder.WithPredicates(changed(contentOfGuardrail))).
		Watches(&corev1.Secret{}, handler.EnqueueRequestsFromMapFunc(r.copiedSecret),
			builder.WithPredicates(predicate.ResourceVersionChangedPredicate{})).
		Watches(&clerkv1alpha1.ClerkOrganization{}, handler.EnqueueRequestsFromMapFunc(r.waiting),
			builder.WithPredicates(leftPlace())).
		WithOptions(controllerOptions()).
		Complete(r)
}

// Reconcile takes one organization to where it should be.
func (r *ClerkOrganizationReconciler) Reconcile(ctx context.Context, req ctrl.Request) (result ctrl.Result, err error) {
	organization := &clerkv1alpha1.ClerkOrganization{}
	if err := r.client.Get(ctx, req.NamespacedName, organization); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	if organization.DeletionTimestamp.IsZero() {
		dead, err := mirror.Deleted(ctx, r.client, organization.Spec.InstanceName, organization.Spec.OrganizationID)
		if err != nil {
			return ctrl.Result{}, err
		}
		if dead {
			return ctrl.Result{}, mirror.DeleteObject(ctx, r.client, organization)
		}
	}
	before := organization.DeepCopy()
	defer func() { result, err = r.finish(ctx, before, organization, result, err) }()

	if !organization.DeletionTimestamp.IsZero() {
		return r.reconcileDelete(ctx, organization)
	}
	if err := r.ensureFinalizer(ctx, organization, clerkv1alpha1.FinalizerOrganization); err != nil {
		return ctrl.Result{}, err
	}
	return r.reconcileNormal(ctx, organization)
}

// reconcileNormal provisions in order: what limits a tenant comes before what gives access to it.
func (r *ClerkOrganizationReconciler) reconcileNormal(
	ctx context.Context, organization *clerkv1alpha1.ClerkOrganization,
) (ctrl.Result, error) {
	organization.Status.ObservedGeneration = organization.Generation
	config, err := r.instances.Get(ctx, organization.Spec.InstanceName)
	orphaned := errors.Is(err, instance.ErrNotFound) || errors.Is(err, instance.ErrNotConfigured)
	if err != nil && !orphaned {
		return ctrl.Result{}, err
	}
	class, err := r.classOf(ctx, organization)
	if err != nil {
		return ctrl.Result{}, err
	}
	members, err := r.membersOf(ctx, organization)
	if err != nil {
		return ctrl.Result{}, err
	}
	organization.Status.Members = count(len(members))
	admitted, err := r.admit(ctx, organization, class)
	if err != nil {
		return ctrl.Result{}, err
	}
	switch {
	case class == nil:
		err = r.reconcileWithoutClass(ctx, organization)
	case !admitted:
		err = pending(organization, class)
	case orphaned:
		err = r.reconcileOrphan(ctx, organization, class, members)
	default:
		err = r.reconcileTenant(ctx, organization, config, class, members)
	}
	r.summarise(organization, class, err)
	return outcome(err, ctrl.Result{RequeueAfter: resyncInterval})
}

// reconcileTenant makes the tenant. What goes wrong with one part does not keep the others from being put right, and
// never keeps access from being taken away.
func (r *ClerkOrganizationReconciler) reconcileTenant(
	ctx context.Context, organization *clerkv1alpha1.ClerkOrganization, config *clerkv1alpha1.ClerkInstance,
	class *clerkv1alpha1.ClerkTenantClass, members []member,
) error {
	organization.Status.TenantClass = class.Name
	namespace, err := r.reconcileNamespace(ctx, organization, class)
	if namespace == nil || !namespace.DeletionTimestamp.IsZero() {
		setFailed(organization, clerkv1alpha1.ConditionNamespaceReady, err)
		setCondition(organization, clerkv1alpha1.ConditionAccessReady, metav1.ConditionFalse,
			clerkv1alpha1.ReasonBinding, "there is no namespace to give access to")
		if namespace != nil {
			err = errors.Join(err, r.reconcileBindings(ctx, organization, namespace.Name, nil))
		}
		return err
	}
	namespaceErr := errors.Join(err,
		r.reconcileGuardrails(ctx, organization, class, namespace.Name),
		r.reconcileSecrets(ctx, organization, config, class, namespace))
	if namespaceErr != nil {
		setFailed(organization, clerkv1alpha1.ConditionNamespaceReady, namespaceErr)
	} else {
		setCondition(organization, clerkv1alpha1.ConditionNamespaceReady, metav1.ConditionTrue,
			clerkv1alpha1.ReasonProvisioned, "the namespace is as its class wants it")
	}
	bindingsErr := r.reconcileAccess(ctx, organization, config, class, members, namespaceErr)
	if bindingsErr != nil {
		setFailed(organization, clerkv1alpha1.ConditionAccessReady, bindingsErr)
	} else {
		setCondition(organization, clerkv1alpha1.ConditionAccessReady, metav1.ConditionTrue,
			clerkv1alpha1.ReasonProvisioned, "the members' bindings exist")
	}
	return errors.Join(namespaceErr, bindingsErr)
}

// reconcileAccess gives members what they are granted. Where what limits the tenant could not be put in place, nobody is
// given anything that he does not have.
func (r *ClerkOrganizationReconciler) reconcileAccess(
	ctx context.Context, organization *clerkv1alpha1.ClerkOrganization, config *clerkv1alpha1.ClerkInstance,
	class *clerkv1alpha1.ClerkTenantClass, members []member, unlimited error,
) error {
	namespace, granted := organization.Status.Namespace.Name, grants(organization, class, members)
	if unlimited != nil && hasReason(unlimited, clerkv1alpha1.ReasonGuardrailRefused) {
		return errors.Join(stalled(clerkv1alpha1.ReasonGuardrailRefused, recheckInterval,
			"nobody is given access before what limits the tenant is in place"),
			r.revoke(ctx, organization, namespace, granted))
	}
	return r.reconcileBindings(ctx, organization, namespace,
		tenant.RoleBindings(namespace, organization, config.UsernamePrefix(), granted))
}

// reconcileOrphan keeps a tenant whose ClerkInstance does not exist as it is, but for access that is to be taken away:
// a user who is deleted by hand must not be held by a binding that nobody changes any more.
func (r *ClerkOrganizationReconciler) reconcileOrphan(
	ctx context.Context, organization *clerkv1alpha1.ClerkOrganization,
	class *clerkv1alpha1.ClerkTenantClass, members []member,
) error {
	orphaned := stalled(clerkv1alpha1.ReasonInstanceNotFound, 0,
		"ClerkInstance %s does not exist; the tenant is kept as it is, and nobody is given access", organization.Spec.InstanceName)
	namespace, err := r.findNamespace(ctx, organization)
	if err != nil || namespace == nil {
		return errors.Join(orphaned, err)
	}
	return errors.Join(orphaned, r.revoke(ctx, organization, namespace.Name, grants(organization, class, members)))
}

// reconcileWithoutClass takes everybody's access away and keeps the data.
func (r *ClerkOrganizationReconciler) reconcileWithoutClass(
	ctx context.Context, organization *clerkv1alpha1.ClerkOrganization,
) error {
	organization.Status.TenantClass = ""
	namespace, err := r.findNamespace(ctx, organization)
	if err == nil && namespace != nil {
		err = r.reconcileBindings(ctx, organization, namespace.Name, nil)
	}
	const message = "no ClerkTenantClass selects the organization"
	for _, conditionType := range []string{clerkv1alpha1.ConditionNamespaceReady, clerkv1alpha1.ConditionAccessReady} {
		setCondition(organization, conditionType, metav1.ConditionFalse, clerkv1alpha1.ReasonNoTenantClass, message)
	}
	return err
}

// summarise sets Ready from what the phases ended with.
func (r *ClerkOrganizationReconciler) summarise(
	organization *clerkv1alpha1.ClerkOrganization, class *clerkv1alpha1.ClerkTenantClass, err error,
) {
	switch {
	case err != nil:
		setFailed(organization, clerkv1alpha1.ConditionReady, err)
	case class == nil:
		setReady(organization, metav1.ConditionFalse, clerkv1alpha1.ReasonNoTenantClass,
			"no ClerkTenantClass selects the organization: nothing is provisioned and nobody has access")
	default:
		setReady(organization, metav1.ConditionTrue, clerkv1alpha1.ReasonProvisioned,
			fmt.Sprintf("namespace %s is provisioned", organization.Status.Namespace.Name))
	}
}

func (b *base) classOf(
	ctx context.Context, organization *clerkv1alpha1.ClerkOrganization,
) (*clerkv1alpha1.ClerkTenantClass, error) {
	var classes clerkv1alpha1.ClerkTenantClassList
	if err := b.client.List(ctx, &classes); err != nil {
		return nil, fmt.Errorf("listing classes: %w", err)
	}
	return b.selectors.Select(classes.Items, organization), nil
}
