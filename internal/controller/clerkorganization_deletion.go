// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	clerkv1alpha1 "github.com/clerk-operator/clerk-operator/api/v1alpha1"
	"github.com/clerk-operator/clerk-operator/internal/mirror"
)

// reconcileDelete takes access away at once, and the namespace after the grace. It never waits for the instance or the
// class to be there.
func (r *ClerkOrganizationReconciler) reconcileDelete(
	ctx context.Context, organization *clerkv1alpha1.ClerkOrganization,
) (ctrl.Result, error) {
	organization.Status.ObservedGeneration = organization.Generation
	namespace, err := r.findNamespace(ctx, organization)
	if stall := new(stalledError); errors.As(err, &stall) {
		// What has the name is not ours: there is nothing to take access to and nothing to delete.
		namespace, err = nil, nil
	}
	if err == nil && namespace == nil {
		// The cache may not have seen yet what was created just before the deletion.
		namespace, err = r.findUnrecorded(ctx, r.live, organization)
	}
	if err != nil {
		return ctrl.Result{}, err
	}
	if namespace != nil {
		if left, err := r.removeBindings(ctx, organization, namespace.Name); err != nil || left {
			return ctrl.Result{RequeueAfter: catchUpInterval}, err
		}
		setCondition(organization, clerkv1alpha1.ConditionAccessReady, metav1.ConditionFalse,
			clerkv1alpha1.ReasonDeleting, "the organization is deleted: nobody has access")
	}
	if err := r.deleteMemberships(ctx, organization); err != nil {
		return ctrl.Result{}, err
	}
	if namespace == nil {
		return ctrl.Result{}, r.release(ctx, organization)
	}
	deleteAt, keep, err := r.fate(ctx, organization)
	switch {
	case err != nil:
		return ctrl.Result{}, err
	case keep != "":
		r.recorder.Eventf(organization, nil, corev1.EventTypeNormal, "NamespaceRetained", "Reconcile",
			"Namespace %s is kept: %s", namespace.Name, keep)
		return ctrl.Result{}, r.release(ctx, organization)
	}
	if wait := deleteAt.Sub(r.clock.Now()); wait > 0 {
		setReady(organization, metav1.ConditionFalse, clerkv1alpha1.ReasonDeleting, fmt.Sprintf(
			"access is gone; namespace %s is deleted at %s unless the annotation %s is set to true",
			namespace.Name, deleteAt.UTC().Format(time.RFC3339), clerkv1alpha1.AnnotationRetain))
		return ctrl.Result{RequeueAfter: wait}, nil
	}
	return r.deleteNamespace(ctx, organization, namespace)
}

// removeBindings deletes the managed bindings of a namespace and says whether there were any. The list is a live one: a
// binding that the cache has not seen yet would stay behind, with nobody left to remove it.
func (r *ClerkOrganizationReconciler) removeBindings(
	ctx context.Context, organization *clerkv1alpha1.ClerkOrganization, namespace string,
) (left bool, err error) {
	bindings, err := bindingsOf(ctx, r.live, organization, namespace)
	if err != nil {
		return false, err
	}
	var errs []error
	for _, binding := range bindings {
		errs = append(errs, r.deleteBinding(ctx, binding))
	}
	return len(bindings) > 0, errors.Join(errs...)
}

// deleteMemberships cascades: Clerk does not promise an event for each membership of a deleted organization. When the
// object alone was deleted, by hand, the memberships are still Clerk's and stay.
func (r *ClerkOrganizationReconciler) deleteMemberships(
	ctx context.Context, organization *clerkv1alpha1.ClerkOrganization,
) error {
	dead, err := mirror.Deleted(ctx, r.client, organization.Spec.InstanceName, organization.Spec.OrganizationID)
	if err != nil || !dead {
		return err
	}
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

// fate says until when the namespace of a deleted organization is kept, or why it is kept for good.
func (r *ClerkOrganizationReconciler) fate(
	ctx context.Context, organization *clerkv1alpha1.ClerkOrganization,
) (deleteAt time.Time, keep string, err error) {
	if organization.Annotations[clerkv1alpha1.AnnotationRetain] == "true" {
		return time.Time{}, "the annotation " + clerkv1alpha1.AnnotationRetain + " is set", nil
	}
	class, err := r.lastClassOf(ctx, organization)
	switch {
	case err != nil:
		return time.Time{}, "", err
	case class == nil && organization.Status.TenantClass != "":
		return time.Time{}, "its ClerkTenantClass " + organization.Status.TenantClass + " is gone", nil
	case class == nil:
		return time.Time{}, "no ClerkTenantClass said that it may be deleted", nil
	case class.DeletionPolicy() == clerkv1alpha1.DeletionRetain:
		return time.Time{}, "ClerkTenantClass " + class.Name + " retains namespaces", nil
	}
	return organization.DeletionTimestamp.Add(class.GracePeriod()), "", nil
}

// lastClassOf returns the class that a deleted organization's namespace is of; nil when there is none any more. A namespace
// that is not recorded was made a moment ago, as the organization was being deleted, by the class that selects it now.
func (r *ClerkOrganizationReconciler) lastClassOf(
	ctx context.Context, organization *clerkv1alpha1.ClerkOrganization,
) (*clerkv1alpha1.ClerkTenantClass, error) {
	status := organization.Status
	switch {
	case status.TenantClass == "" && status.Namespace.Name == "":
		return r.classOf(ctx, organization)
	case status.TenantClass == "":
		return nil, nil
	}
	class := &clerkv1alpha1.ClerkTenantClass{}
	err := r.client.Get(ctx, client.ObjectKey{Name: status.TenantClass}, class)
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading ClerkTenantClass %s: %w", status.TenantClass, err)
	}
	return class, nil
}

// deleteNamespace deletes the namespace and waits for it to be gone. Finalizers of others in it are theirs to remove.
func (r *ClerkOrganizationReconciler) deleteNamespace(
	ctx context.Context, organization *clerkv1alpha1.ClerkOrganization, namespace *corev1.Namespace,
) (ctrl.Result, error) {
	if namespace.DeletionTimestamp.IsZero() {
		if err := mirror.DeleteObject(ctx, r.client, namespace); err != nil {
			return ctrl.Result{}, err
		}
	}
	message := fmt.Sprintf("waiting for namespace %s to be gone", namespace.Name)
	var remaining []string
	for _, condition := range namespace.Status.Conditions {
		if condition.Status == corev1.ConditionTrue {
			remaining = append(remaining, condition.Message)
		}
	}
	if len(remaining) > 0 {
		message += ": " + strings.Join(remaining, "; ")
	}
	setReady(organization, metav1.ConditionFalse, clerkv1alpha1.ReasonDeleting, message[:min(len(message), 4096)])
	setCondition(organization, clerkv1alpha1.ConditionNamespaceReady, metav1.ConditionFalse,
		clerkv1alpha1.ReasonDeleting, "the namespace is being deleted")
	return ctrl.Result{RequeueAfter: recheckInterval}, nil
}

func (r *ClerkOrganizationReconciler) release(
	ctx context.Context, organization *clerkv1alpha1.ClerkOrganization,
) error {
	r.secrets.forget(organization.UID)
	return r.releaseFinalizer(ctx, organization, clerkv1alpha1.FinalizerOrganization)
}
