// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/sets"
	corev1ac "k8s.io/client-go/applyconfigurations/core/v1"
	"k8s.io/client-go/util/csaupgrade"
	"sigs.k8s.io/controller-runtime/pkg/client"

	clerkv1alpha1 "github.com/clerk-operator/clerk-operator/api/v1alpha1"
	"github.com/clerk-operator/clerk-operator/internal/tenant"
)

// reconcileNamespace makes an owner's namespace what its class wants. It returns nil and an error when there is none
// that is the owner's, and the namespace with an error when it is not as it should be.
func (t *tenancy) reconcileNamespace(ctx context.Context, c *claim, granted tenant.Grants) (*corev1.Namespace, error) {
	pinned := &c.owner.GetTenantStatus().Namespace
	namespace, err := t.findNamespace(ctx, c.owner)
	switch {
	case err != nil:
	case namespace == nil:
		namespace, err = t.makeNamespace(ctx, c)
	case namespace.UID != pinned.UID:
		err = t.recognise(ctx, c.owner, namespace, granted)
	}
	if err != nil {
		return nil, err
	}
	pinned.Name, pinned.UID = namespace.Name, namespace.UID
	if isAdopted(namespace, c.owner) {
		pinned.Adopted = new(true)
	}
	if !namespace.DeletionTimestamp.IsZero() {
		return namespace, stalled(clerkv1alpha1.ReasonNamespaceTerminating, recheckInterval,
			"namespace %s is being deleted, though not by the operator; it is made again when it is gone", namespace.Name)
	}
	return namespace, t.applyNamespace(ctx, namespace, tenant.Namespace(namespace.Name, c.owner, c.class))
}

// recognise returns an error while a namespace that an owner's status does not record cannot be taken for its own: the
// policies alone keep others from making one like it. Access to it that is not granted goes.
func (t *tenancy) recognise(ctx context.Context, o owner, namespace *corev1.Namespace, granted tenant.Grants) error {
	if err := t.gate.check(o); err != nil {
		return errors.Join(err, t.withhold(ctx, o, namespace.Name, granted, err))
	}
	return nil
}

// makeNamespace gives an owner that has none a namespace: the one to adopt, or else a new one.
func (t *tenancy) makeNamespace(ctx context.Context, c *claim) (*corev1.Namespace, error) {
	if err := t.gate.check(c.owner); err != nil {
		return nil, err
	}
	if err := t.ensureCurrent(ctx, c.owner, c.config); err != nil {
		return nil, err
	}
	pinned := &c.owner.GetTenantStatus().Namespace
	pinned.Adopted = nil // of the one that is gone
	// The cache may be behind, and the name may have changed with the slug: there must not be a second one.
	if namespace, err := t.findLive(ctx, c.owner); err != nil || namespace != nil {
		return namespace, err
	}
	name := pinned.Name
	if name == "" {
		name = tenant.NamespaceName(c.class.Spec.Namespace.Prefix, c.owner)
		adopted, err := t.adoptable(ctx, c.owner)
		if err != nil {
			return nil, err
		}
		if adopted != nil { // nothing is done in it before it is the owner's
			return adopted, t.applyNamespace(ctx, adopted, tenant.Namespace(adopted.Name, c.owner, c.class))
		}
	}
	return t.createNamespace(ctx, tenant.Namespace(name, c.owner, c.class))
}

// ensureCurrent returns errBehind unless an owner and its instance are as the cache has them. To make a namespace and to
// delete one are not taken back by what is heard later, and the watches are not in step: the cache may have heard of a class
// or of a deletion, and not yet of what was set before it to adopt, to observe, to suspend or to keep.
func (t *tenancy) ensureCurrent(ctx context.Context, o owner, config *clerkv1alpha1.ClerkInstance) error {
	instance := &clerkv1alpha1.ClerkInstance{}
	err := t.live.Get(ctx, client.ObjectKey{Name: o.GetMirrored().InstanceName}, instance)
	if client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("reading ClerkInstance %s: %w", o.GetMirrored().InstanceName, err)
	}
	if instance.UID != config.UID || instance.Generation != config.Generation {
		return errBehind
	}
	current := o.DeepCopyObject().(owner)
	err = t.live.Get(ctx, client.ObjectKeyFromObject(o), current)
	if client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("reading the owner again: %w", err)
	}
	if err != nil || current.GetUID() != o.GetUID() || !maps.Equal(current.GetAnnotations(), o.GetAnnotations()) {
		return errBehind
	}
	return nil
}

// findNamespace returns an owner's namespace, nil when there is none, and a stalledError when the name is taken by one
// that is not proven to be the owner's. A namespace is its own when status holds its UID, or when it was made for it, unless
// its labels name another owner.
func (t *tenancy) findNamespace(ctx context.Context, o owner) (*corev1.Namespace, error) {
	pinned := o.GetTenantStatus().Namespace
	if pinned.Name == "" {
		return t.findUnrecorded(ctx, t.client, o, client.MatchingFields{indexOwner: tenant.Key(o)})
	}
	var namespace corev1.Namespace
	err := t.client.Get(ctx, client.ObjectKey{Name: pinned.Name}, &namespace)
	if apierrors.IsNotFound(err) {
		// The cache holds labelled namespaces only: one that lost its label is still there, and still ours.
		err = t.live.Get(ctx, client.ObjectKey{Name: pinned.Name}, &namespace)
	}
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading namespace %s: %w", pinned.Name, err)
	}
	switch {
	case namespace.UID == pinned.UID && isAnothers(&namespace, o):
		return nil, errors.Join(conflict(pinned.Name), t.relinquish(ctx, o, pinned.Name))
	case namespace.UID != pinned.UID && !madeFor(&namespace, o):
		return nil, conflict(pinned.Name)
	}
	return &namespace, nil
}

// relinquish revokes what an owner gives in a namespace that was its own and whose labels name another owner now: that one
// has bindings of its own, which say so, and until it has nothing else would take this access away.
func (t *tenancy) relinquish(ctx context.Context, o owner, namespace string) error {
	var bindings rbacv1.RoleBindingList
	err := t.live.List(ctx, &bindings, client.InNamespace(namespace), client.MatchingLabels(tenant.Labels(o)))
	if err != nil {
		return fmt.Errorf("listing bindings: %w", err)
	}
	var errs []error
	for i := range bindings.Items {
		errs = append(errs, t.deleteBinding(ctx, &bindings.Items[i]))
	}
	return errors.Join(errs...)
}

// findLive finds a namespace that was created and that neither status nor the cache knows yet.
func (t *tenancy) findLive(ctx context.Context, o owner) (*corev1.Namespace, error) {
	return t.findUnrecorded(ctx, t.live, o, client.MatchingLabels(tenant.Labels(o)))
}

// findUnrecorded finds a namespace that was created and is not recorded in status: after a crash in between, or because
// the owner was restored from a backup or read from Clerk again, and has no status.
func (t *tenancy) findUnrecorded(
	ctx context.Context, reader client.Reader, o owner, labelled client.ListOption,
) (*corev1.Namespace, error) {
	var namespaces corev1.NamespaceList
	if err := reader.List(ctx, &namespaces, labelled); err != nil {
		return nil, fmt.Errorf("listing namespaces: %w", err)
	}
	for i := range namespaces.Items {
		if madeFor(&namespaces.Items[i], o) {
			return &namespaces.Items[i], nil
		}
	}
	return nil, nil
}

// madeFor says whether a namespace was made for an owner: its name is one that only this owner gets, or the namespace was
// given to it to adopt; and it carries the labels, the instance's among them, and the annotation that the operator alone
// may write. The UID in the annotation may be another one: that of the owner before it was restored from a backup.
func madeFor(namespace *corev1.Namespace, o owner) bool {
	return (tenant.CanBeNamed(namespace.Name, o) || isAdopted(namespace, o) && !tenant.IsPlatform(namespace.Name)) &&
		labels.SelectorFromSet(tenant.Labels(o)).Matches(labels.Set(namespace.Labels)) &&
		namespace.Annotations[clerkv1alpha1.AnnotationOwnerUID] != ""
}

// isAnothers reports whether a namespace's labels name another owner than this one. A label that is missing names none.
func isAnothers(namespace *corev1.Namespace, o owner) bool {
	wanted := tenant.Labels(o)
	for _, label := range []string{clerkv1alpha1.LabelInstance, clerkv1alpha1.LabelOrganizationID, clerkv1alpha1.LabelUserID} {
		if is := namespace.Labels[label]; is != "" && is != wanted[label] {
			return true
		}
	}
	return false
}

// isAdopted says whether a namespace agrees to be an owner's.
func isAdopted(namespace *corev1.Namespace, o tenant.Owner) bool {
	return namespace.Annotations[clerkv1alpha1.AnnotationAdoptBy] == tenant.Key(o)
}

// adoptable returns the namespace that an owner is to adopt, nil when it is to adopt none. It takes two keys: the owner's
// annotation names the namespace, and the namespace's annotation names the owner.
func (t *tenancy) adoptable(ctx context.Context, o owner) (*corev1.Namespace, error) {
	name := o.GetAnnotations()[clerkv1alpha1.AnnotationAdoptNamespace]
	if name == "" {
		return nil, nil
	}
	refuse := func(format string, args ...any) error {
		return stalled(clerkv1alpha1.ReasonAdoptionRefused, recheckInterval,
			"namespace %.63s is not adopted: "+format, append([]any{name}, args...)...)
	}
	if len(apivalidation.ValidateNamespaceName(name, false)) > 0 {
		return nil, refuse("that is no name of a namespace")
	}
	if tenant.IsPlatform(name) || name == t.namespace {
		return nil, refuse("it is the platform's own")
	}
	var namespace corev1.Namespace
	err := t.live.Get(ctx, client.ObjectKey{Name: name}, &namespace)
	switch {
	case apierrors.IsNotFound(err):
		return nil, refuse("it does not exist")
	case err != nil:
		return nil, fmt.Errorf("reading namespace %s: %w", name, err)
	case !namespace.DeletionTimestamp.IsZero():
		return nil, refuse("it is being deleted")
	case isAnothers(&namespace, o):
		return nil, refuse("it is the namespace of another organization or user; see its labels")
	case !isAdopted(&namespace, o):
		return nil, refuse("it has to agree by the annotation %s=%s", clerkv1alpha1.AnnotationAdoptBy, tenant.Key(o))
	}
	return &namespace, nil
}

// notAdopted adds to a condition that an owner names a namespace to adopt in vain.
func notAdopted(o owner, namespace string) string {
	if name := o.GetAnnotations()[clerkv1alpha1.AnnotationAdoptNamespace]; name != "" && name != namespace {
		return fmt.Sprintf("; %.63s is not adopted: the tenant has namespace %s already", name, namespace)
	}
	return ""
}

func conflict(name string) error {
	return stalled(clerkv1alpha1.ReasonNamespaceConflict, recheckInterval,
		"namespace %s exists and was not made for this tenant; it is left untouched: remove it, or let it be adopted", name)
}

// createNamespace creates and never adopts: a server-side apply would take over whatever has the name.
func (t *tenancy) createNamespace(
	ctx context.Context, desired *corev1ac.NamespaceApplyConfiguration,
) (*corev1.Namespace, error) {
	namespace := &corev1.Namespace{}
	if err := convert(desired, namespace); err != nil {
		return nil, err
	}
	err := t.client.Create(ctx, namespace, client.FieldOwner(tenant.FieldOwner))
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
func (t *tenancy) applyNamespace(
	ctx context.Context, namespace *corev1.Namespace, desired *corev1ac.NamespaceApplyConfiguration,
) error {
	owned, err := ownedOf(namespace)
	if err != nil {
		return err
	}
	if equality.Semantic.DeepEqual(owned.Labels, desired.Labels) &&
		equality.Semantic.DeepEqual(owned.Annotations, desired.Annotations) {
		return nil
	}
	patch, err := csaupgrade.UpgradeManagedFieldsPatch(namespace, sets.New(tenant.FieldOwner), tenant.FieldOwner)
	if err != nil {
		return fmt.Errorf("reading the owners of namespace %s: %w", namespace.Name, err)
	}
	if len(patch) > 0 {
		if err := t.client.Patch(ctx, namespace.DeepCopy(), client.RawPatch(types.JSONPatchType, patch)); err != nil {
			if apierrors.IsForbidden(err) {
				return refused(namespace.Name, err)
			}
			return fmt.Errorf("taking over namespace %s from its creation: %w", namespace.Name, err)
		}
	}
	err = t.client.Apply(ctx, desired, client.FieldOwner(tenant.FieldOwner), client.ForceOwnership)
	if apierrors.IsInvalid(err) || apierrors.IsForbidden(err) {
		return refused(namespace.Name, err)
	}
	if err != nil {
		return fmt.Errorf("applying namespace %s: %w", namespace.Name, err)
	}
	return nil
}

// ownedOf returns what of a namespace is the operator's. What creating the namespace set is owned by an update, and belongs
// to it: an apply can only remove what an apply owns.
func ownedOf(namespace *corev1.Namespace) (*corev1ac.NamespaceApplyConfiguration, error) {
	upgraded := namespace.DeepCopy()
	if err := csaupgrade.UpgradeManagedFields(upgraded, sets.New(tenant.FieldOwner), tenant.FieldOwner); err != nil {
		return nil, fmt.Errorf("reading the owners of namespace %s: %w", namespace.Name, err)
	}
	owned, err := corev1ac.ExtractNamespace(upgraded, tenant.FieldOwner)
	if err != nil {
		return nil, fmt.Errorf("reading what is owned of namespace %s: %w", namespace.Name, err)
	}
	delete(owned.Labels, corev1.LabelMetadataName) // the API server sets it, in the creator's name
	return owned, nil
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
