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
	"k8s.io/apimachinery/pkg/util/sets"
	corev1ac "k8s.io/client-go/applyconfigurations/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	clerkv1alpha1 "github.com/clerk-operator/clerk-operator/api/v1alpha1"
	"github.com/clerk-operator/clerk-operator/internal/tenant"
)

// reconcileSecrets writes the Secret clerk-organization and the copies that the class lists when what they should hold has
// changed, and now and then to repair them: Secrets of tenants cannot be read. Copies that are not listed any more are
// deleted. A Secret that may not be copied keeps none of the others back.
func (t *tenancy) reconcileSecrets(ctx context.Context, c *claim, namespace *corev1.Namespace) error {
	sources, unshared := t.shared(ctx, c)
	if _, stalls := stalledOnly(unshared); unshared != nil && !stalls {
		return unshared // what could not be read is not taken away
	}
	status := c.owner.GetTenantStatus()
	own := tenant.Secret(namespace.Name, c.owner, c.config)
	hash, err := tenant.Hash(own, sources, string(namespace.UID))
	if err != nil {
		return fmt.Errorf("hashing the Secrets: %w", err)
	}
	if status.SecretHash == hash && !t.secrets.isDue(c.owner.GetUID()) {
		return unshared
	}
	errs := []error{t.applySecret(ctx, own, status.SecretHash != "")}
	var names []string
	for i := range sources {
		name := sources[i].Name
		errs = append(errs, t.applySecret(ctx, tenant.SecretCopy(namespace.Name, c.owner, &sources[i]), slices.Contains(status.Secrets, name)))
		names = append(names, name)
	}
	for _, name := range status.Secrets {
		if slices.Contains(names, name) {
			continue
		}
		if err := t.deleteSecret(ctx, namespace.Name, name); err != nil {
			errs, names = append(errs, err), append(names, name) // it is still there, and must not be forgotten
		}
	}
	status.Secrets = names
	if err := errors.Join(errs...); err != nil {
		return errors.Join(err, unshared)
	}
	status.SecretHash = hash
	t.secrets.done(c.owner.GetUID())
	return unshared
}

// shared returns the Secrets that the class lists and that are shared, and what is wrong with the others.
func (t *tenancy) shared(ctx context.Context, c *claim) (sources []corev1.Secret, unshared error) {
	var errs []error
	for _, listed := range c.class.Spec.Secrets {
		var source corev1.Secret
		err := t.client.Get(ctx, client.ObjectKey{Namespace: t.namespace, Name: listed.Name}, &source)
		switch {
		case client.IgnoreNotFound(err) != nil:
			errs = append(errs, fmt.Errorf("reading Secret %s: %w", listed.Name, err))
		case err != nil || source.Labels[clerkv1alpha1.LabelShare] != "true":
			errs = append(errs, stalled(clerkv1alpha1.ReasonSecretNotShared, recheckInterval,
				"ClerkTenantClass %s copies Secret %s, which must exist in namespace %s and have the label %s=true",
				c.class.Name, listed.Name, t.namespace, clerkv1alpha1.LabelShare))
		default:
			sources = append(sources, source)
		}
	}
	return sources, errors.Join(errs...)
}

// applySecret writes a Secret. One of the operator's own whose type has changed, which cannot be, is made anew.
func (t *tenancy) applySecret(ctx context.Context, secret *corev1ac.SecretApplyConfiguration, ours bool) error {
	err := t.client.Apply(ctx, secret, client.FieldOwner(tenant.FieldOwner), client.ForceOwnership)
	if ours && apierrors.IsInvalid(err) {
		if err := t.deleteSecret(ctx, *secret.Namespace, *secret.Name); err != nil {
			return err
		}
		err = t.client.Apply(ctx, secret, client.FieldOwner(tenant.FieldOwner), client.ForceOwnership)
	}
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
func (t *tenancy) deleteSecret(ctx context.Context, namespace, name string) error {
	err := t.client.Delete(ctx, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}})
	if client.IgnoreNotFound(err) != nil && !apierrors.IsForbidden(err) {
		return fmt.Errorf("deleting Secret %s/%s: %w", namespace, name, err)
	}
	return nil
}

// copiedSecret leads from a Secret in the operator's namespace to the owners of a kind whose class copies it.
func (t *tenancy) copiedSecret(kind clerkv1alpha1.TenantKind) handler.MapFunc {
	return func(ctx context.Context, o client.Object) []reconcile.Request {
		classes, err := t.classesFor(ctx, kind)
		if err != nil {
			log.FromContext(ctx).Error(err, "Could not list classes")
			return nil
		}
		copying := sets.New[string]()
		for i := range classes {
			for _, secret := range classes[i].Spec.Secrets {
				if secret.Name == o.GetName() {
					copying.Insert(classes[i].Name)
				}
			}
		}
		return t.tenantsOf(ctx, kind, copying)
	}
}

// tenantsOf returns requests for the tenants of classes. Who is just becoming one is looked at once more when that is known.
func (t *tenancy) tenantsOf(
	ctx context.Context, kind clerkv1alpha1.TenantKind, classes sets.Set[string],
) []reconcile.Request {
	if classes.Len() == 0 {
		return nil
	}
	all, err := t.owners(ctx, kind)
	if err != nil {
		log.FromContext(ctx).Error(err, "Could not list tenants")
		return nil
	}
	var requests []reconcile.Request
	for _, o := range all {
		if classes.Has(o.GetTenantStatus().TenantClass) {
			requests = append(requests, requestForOwner(o))
		}
	}
	return requests
}
