// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"context"
	"encoding/json"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/sets"
	corev1ac "k8s.io/client-go/applyconfigurations/core/v1"
	"k8s.io/client-go/util/csaupgrade"
	"sigs.k8s.io/controller-runtime/pkg/client"

	clerkv1alpha1 "github.com/clerk-operator/clerk-operator/api/v1alpha1"
	"github.com/clerk-operator/clerk-operator/internal/tenant"
)

// reconcileNamespace makes the organization's namespace what its class wants. It returns nil and an error when there is
// none that is the organization's, and the namespace with an error when it is not as it should be.
func (r *ClerkOrganizationReconciler) reconcileNamespace(
	ctx context.Context, organization *clerkv1alpha1.ClerkOrganization, class *clerkv1alpha1.ClerkTenantClass,
) (*corev1.Namespace, error) {
	namespace, err := r.findNamespace(ctx, organization)
	if err != nil {
		return nil, err
	}
	name := tenant.NamespaceName(class.Spec.Namespace.Prefix, organization)
	switch {
	case namespace != nil:
		name = namespace.Name
	case organization.Status.Namespace.Name != "":
		name = organization.Status.Namespace.Name
	}
	desired := tenant.Namespace(name, organization, class)
	if namespace == nil {
		if namespace, err = r.createNamespace(ctx, organization, desired); err != nil {
			return nil, err
		}
	}
	organization.Status.Namespace = clerkv1alpha1.NamespaceReference{Name: namespace.Name, UID: namespace.UID}
	if !namespace.DeletionTimestamp.IsZero() {
		return namespace, stalled(clerkv1alpha1.ReasonNamespaceTerminating, recheckInterval,
			"namespace %s is being deleted, though not by the operator; it is made again when it is gone", namespace.Name)
	}
	if err := r.applyNamespace(ctx, namespace, desired); err != nil {
		return namespace, err
	}
	return namespace, nil
}

// findNamespace returns the organization's namespace, nil when there is none, and a stalledError when the name is taken
// by one that is not proven to be the organization's. A namespace is its own when status holds its UID, or when the
// call that created it wrote the organization's own UID on it.
func (r *ClerkOrganizationReconciler) findNamespace(
	ctx context.Context, organization *clerkv1alpha1.ClerkOrganization,
) (*corev1.Namespace, error) {
	pinned := organization.Status.Namespace
	if pinned.Name == "" {
		return r.findUnrecorded(ctx, r.client, organization)
	}
	var namespace corev1.Namespace
	err := r.client.Get(ctx, client.ObjectKey{Name: pinned.Name}, &namespace)
	if apierrors.IsNotFound(err) {
		// The cache holds labelled namespaces only: one that lost its label is still there, and still ours.
		err = r.live.Get(ctx, client.ObjectKey{Name: pinned.Name}, &namespace)
	}
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading namespace %s: %w", pinned.Name, err)
	}
	if namespace.UID != pinned.UID && !bornFor(&namespace, organization) {
		return nil, conflict(pinned.Name)
	}
	return &namespace, nil
}

// findUnrecorded finds a namespace that was created and not yet recorded in status, as after a crash in between.
func (r *ClerkOrganizationReconciler) findUnrecorded(
	ctx context.Context, reader client.Reader, organization *clerkv1alpha1.ClerkOrganization,
) (*corev1.Namespace, error) {
	var namespaces corev1.NamespaceList
	err := reader.List(ctx, &namespaces,
		client.MatchingLabels{clerkv1alpha1.LabelOrganizationID: organization.Spec.OrganizationID})
	if err != nil {
		return nil, fmt.Errorf("listing namespaces: %w", err)
	}
	for i := range namespaces.Items {
		if bornFor(&namespaces.Items[i], organization) {
			return &namespaces.Items[i], nil
		}
	}
	return nil, nil
}

// bornFor says whether a namespace was created for an organization: its name is one that only this organization gets,
// and it carries the organization's UID, which the call that creates a namespace writes.
func bornFor(namespace *corev1.Namespace, organization *clerkv1alpha1.ClerkOrganization) bool {
	return tenant.CanBeNamed(namespace.Name, organization) &&
		types.UID(namespace.Annotations[clerkv1alpha1.AnnotationOwnerUID]) == organization.UID
}

func conflict(name string) error {
	return stalled(clerkv1alpha1.ReasonNamespaceConflict, recheckInterval,
		"namespace %s exists and was not made for this organization; it is left untouched: remove or rename it", name)
}

// createNamespace creates and never adopts: a server-side apply would take over whatever has the name.
func (r *ClerkOrganizationReconciler) createNamespace(
	ctx context.Context, organization *clerkv1alpha1.ClerkOrganization, desired *corev1ac.NamespaceApplyConfiguration,
) (*corev1.Namespace, error) {
	// The cache may be behind, and the name may have changed with the slug: a second namespace must not come of that.
	if namespace, err := r.findUnrecorded(ctx, r.live, organization); err != nil || namespace != nil {
		return namespace, err
	}
	namespace := &corev1.Namespace{}
	if err := convert(desired, namespace); err != nil {
		return nil, err
	}
	err := r.client.Create(ctx, namespace, client.FieldOwner(tenant.FieldOwner))
	switch {
	case apierrors.IsAlreadyExists(err):
		return nil, conflict(*desired.Name)
	case apierrors.IsInvalid(err), apierrors.IsForbidden(err):
		return nil, refused(*desired.Name, err)
	case err != nil:
		return nil, fmt.Errorf("creating namespace %s: %w", *desired.Name, err)
	}
	return namespace, nil
}

// applyNamespace brings a namespace's labels and annotations in line, and writes nothing when they are.
func (r *ClerkOrganizationReconciler) applyNamespace(
	ctx context.Context, namespace *corev1.Namespace, desired *corev1ac.NamespaceApplyConfiguration,
) error {
	// What creating the namespace set is owned by an update; an apply can only remove what an apply owns.
	creator := sets.New(tenant.FieldOwner)
	upgraded := namespace.DeepCopy()
	if err := csaupgrade.UpgradeManagedFields(upgraded, creator, tenant.FieldOwner); err != nil {
		return fmt.Errorf("reading the owners of namespace %s: %w", namespace.Name, err)
	}
	owned, err := corev1ac.ExtractNamespace(upgraded, tenant.FieldOwner)
	if err != nil {
		return fmt.Errorf("reading what is owned of namespace %s: %w", namespace.Name, err)
	}
	delete(owned.Labels, corev1.LabelMetadataName) // the API server sets it, in the creator's name
	if equality.Semantic.DeepEqual(owned.Labels, desired.Labels) &&
		equality.Semantic.DeepEqual(owned.Annotations, desired.Annotations) {
		return nil
	}
	patch, err := csaupgrade.UpgradeManagedFieldsPatch(namespace, creator, tenant.FieldOwner)
	if err != nil {
		return fmt.Errorf("reading the owners of namespace %s: %w", namespace.Name, err)
	}
	if len(patch) > 0 {
		if err := r.client.Patch(ctx, namespace.DeepCopy(), client.RawPatch(types.JSONPatchType, patch)); err != nil {
			if apierrors.IsForbidden(err) {
				return refused(namespace.Name, err)
			}
			return fmt.Errorf("taking over namespace %s from its creation: %w", namespace.Name, err)
		}
	}
	err = r.client.Apply(ctx, desired, client.FieldOwner(tenant.FieldOwner), client.ForceOwnership)
	if apierrors.IsInvalid(err) || apierrors.IsForbidden(err) {
		return refused(namespace.Name, err)
	}
	if err != nil {
		return fmt.Errorf("applying namespace %s: %w", namespace.Name, err)
	}
	return nil
}

// refused says that the API server does not accept the class's labels or annotations, or that an admission policy does
// not let the operator write them: its own one does not where a namespace has lost the annotation of its owner.
func refused(name string, err error) error {
	return stalled(clerkv1alpha1.ReasonNamespaceRefused, recheckInterval,
		"the API server refuses namespace %s as its class wants it; mend the class's labels and annotations, or the namespace: %v", name, err)
}

// convert turns an apply configuration into an object of its kind.
func convert(from, to any) error {
	encoded, err := json.Marshal(from)
	if err != nil {
		return err
	}
	return json.Unmarshal(encoded, to)
}
