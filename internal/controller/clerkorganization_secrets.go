// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"context"
	"errors"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	corev1ac "k8s.io/client-go/applyconfigurations/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	clerkv1alpha1 "github.com/clerk-operator/clerk-operator/api/v1alpha1"
	"github.com/clerk-operator/clerk-operator/internal/tenant"
)

// reconcileSecrets writes the Secret clerk-organization and the copies that the class lists when what they should hold has
// changed, and now and then to repair them: Secrets of tenants cannot be read. Copies that are not listed any more are
// deleted. A Secret that may not be copied keeps none of the others back.
func (r *ClerkOrganizationReconciler) reconcileSecrets(
	ctx context.Context, organization *clerkv1alpha1.ClerkOrganization, config *clerkv1alpha1.ClerkInstance,
	class *clerkv1alpha1.ClerkTenantClass, namespace *corev1.Namespace,
) error {
	copies, unshared := r.copies(ctx, organization, class, namespace.Name)
	secrets := append([]*corev1ac.SecretApplyConfiguration{tenant.Secret(namespace.Name, organization, config)}, copies...)
	hash, err := tenant.Hash(secrets, string(namespace.UID))
	if err != nil {
		return fmt.Errorf("hashing the Secrets: %w", err)
	}
	if organization.Status.SecretHash == hash && !r.secrets.isDue(organization.UID) {
		return unshared
	}
	var names []string
	var errs []error
	for _, secret := range secrets {
		errs = append(errs, r.applySecret(ctx, secret))
		if *secret.Name != tenant.SecretName {
			names = append(names, *secret.Name)
		}
	}
	for _, name := range organization.Status.Secrets {
		if !slices.Contains(names, name) {
			errs = append(errs, r.deleteSecret(ctx, namespace.Name, name))
		}
	}
	if err := errors.Join(errs...); err != nil {
		// What is there in spite of the error must not be forgotten.
		organization.Status.Secrets = slices.Compact(slices.Sorted(slices.Values(append(names, organization.Status.Secrets...))))
		return errors.Join(err, unshared)
	}
	organization.Status.SecretHash, organization.Status.Secrets = hash, names
	r.secrets.done(organization.UID)
	return unshared
}

// copies returns the copies of the Secrets that the class lists and that are shared, and what is wrong with the others.
func (r *ClerkOrganizationReconciler) copies(
	ctx context.Context, organization *clerkv1alpha1.ClerkOrganization, class *clerkv1alpha1.ClerkTenantClass, namespace string,
) (copies []*corev1ac.SecretApplyConfiguration, unshared error) {
	var errs []error
	for _, listed := range class.Spec.Secrets {
		var source corev1.Secret
		err := r.client.Get(ctx, client.ObjectKey{Namespace: r.namespace, Name: listed.Name}, &source)
		switch {
		case client.IgnoreNotFound(err) != nil:
			errs = append(errs, fmt.Errorf("reading Secret %s: %w", listed.Name, err))
		case err != nil || source.Labels[clerkv1alpha1.LabelShare] != "true":
			errs = append(errs, stalled(clerkv1alpha1.ReasonSecretNotShared, recheckInterval,
				"ClerkTenantClass %s copies Secret %s, which must exist in namespace %s and have the label %s=true",
				class.Name, listed.Name, r.namespace, clerkv1alpha1.LabelShare))
		default:
			copies = append(copies, tenant.SecretCopy(namespace, organization, &source))
		}
	}
	return copies, errors.Join(errs...)
}

func (r *ClerkOrganizationReconciler) applySecret(ctx context.Context, secret *corev1ac.SecretApplyConfiguration) error {
	err := r.client.Apply(ctx, secret, client.FieldOwner(tenant.FieldOwner), client.ForceOwnership)
	switch {
	case apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause):
		return nil // the namespace's deletion brings the organization back here
	case apierrors.IsInvalid(err), apierrors.IsForbidden(err):
		return stalled(clerkv1alpha1.ReasonSecretRefused, recheckInterval,
			"the API server refuses Secret %s in namespace %s; delete the one that is there", *secret.Name, *secret.Namespace)
	case err != nil:
		return fmt.Errorf("applying Secret %s/%s: %w", *secret.Namespace, *secret.Name, err)
	}
	return nil
}

// deleteSecret deletes a copy by its name alone, since it cannot be read. One that is not the operator's the API server
// does not let it delete.
func (r *ClerkOrganizationReconciler) deleteSecret(ctx context.Context, namespace, name string) error {
	err := r.client.Delete(ctx, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}})
	if client.IgnoreNotFound(err) != nil && !apierrors.IsForbidden(err) {
		return fmt.Errorf("deleting Secret %s/%s: %w", namespace, name, err)
	}
	return nil
}

// copiedSecret leads from a Secret in the operator's namespace to the organizations whose class copies it.
func (r *ClerkOrganizationReconciler) copiedSecret(ctx context.Context, o client.Object) []reconcile.Request {
	var classes clerkv1alpha1.ClerkTenantClassList
	var organizations clerkv1alpha1.ClerkOrganizationList
	err := errors.Join(r.client.List(ctx, &classes), r.client.List(ctx, &organizations, client.UnsafeDisableDeepCopy))
	if err != nil {
		log.FromContext(ctx).Error(err, "Could not list classes and organizations")
		return nil
	}
	var requests []reconcile.Request
	for i := range classes.Items {
		class := &classes.Items[i]
		lists := slices.ContainsFunc(class.Spec.Secrets, func(s clerkv1alpha1.ClerkTenantClassSecret) bool {
			return s.Name == o.GetName()
		})
		for j := range organizations.Items {
			if lists && organizations.Items[j].Status.TenantClass == class.Name {
				requests = append(requests, requestFor(organizations.Items[j].Spec.OrganizationID))
			}
		}
	}
	return requests
}
