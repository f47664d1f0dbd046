// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/sets"
	rbacv1ac "k8s.io/client-go/applyconfigurations/rbac/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	clerkv1alpha1 "github.com/clerk-operator/clerk-operator/api/v1alpha1"
	"github.com/clerk-operator/clerk-operator/internal/access"
	"github.com/clerk-operator/clerk-operator/internal/mirror"
	"github.com/clerk-operator/clerk-operator/internal/tenant"
)

// reconcileBindings makes the managed bindings of a proven namespace exactly the desired ones. Those that take access from
// no user come first and deletions last, so that a user whose role changes is never without access in between.
func (t *tenancy) reconcileBindings(
	ctx context.Context, o owner, namespace string,
	desired []*rbacv1ac.RoleBindingApplyConfiguration,
) error {
	existing, err := bindingsOf(ctx, t.client, o, namespace)
	if err != nil {
		return err
	}
	return t.changeBindings(ctx, existing, desired)
}

// changeBindings makes existing bindings the desired ones.
func (t *tenancy) changeBindings(
	ctx context.Context, existing map[string]*rbacv1.RoleBinding, desired []*rbacv1ac.RoleBindingApplyConfiguration,
) error {
	var errs []error
	wanted := sets.New[string]()
	slices.SortStableFunc(desired, func(a, b *rbacv1ac.RoleBindingApplyConfiguration) int {
		return cmp.Compare(len(removed(existing[*a.Name], a)), len(removed(existing[*b.Name], b)))
	})
	for _, binding := range desired {
		wanted.Insert(*binding.Name)
		errs = append(errs, t.applyBinding(ctx, existing[*binding.Name], binding))
	}
	for name, binding := range existing {
		if !wanted.Has(name) {
			errs = append(errs, t.deleteBinding(ctx, binding))
		}
	}
	return errors.Join(errs...)
}

// revoke takes from the managed bindings of a namespace every user who is granted their role no more, and adds nobody.
func (t *tenancy) revoke(
	ctx context.Context, o owner, namespace string, granted tenant.Grants,
) error {
	existing, err := bindingsOf(ctx, t.client, o, namespace)
	if err != nil {
		return err
	}
	var kept []*rbacv1ac.RoleBindingApplyConfiguration
	for _, binding := range existing {
		desired := rbacv1ac.RoleBinding(binding.Name, namespace).
			WithLabels(tenant.Labels(o)).
			WithRoleRef(rbacv1ac.RoleRef().
				WithAPIGroup(rbacv1.GroupName).WithKind(binding.RoleRef.Kind).WithName(binding.RoleRef.Name))
		for _, subject := range binding.Subjects {
			if id, ok := access.UserID(subject.Name); ok && slices.Contains(granted[binding.RoleRef.Name], id) {
				desired.WithSubjects(rbacv1ac.Subject().
					WithAPIGroup(rbacv1.GroupName).WithKind(rbacv1.UserKind).WithName(subject.Name))
			}
		}
		if len(desired.Subjects) > 0 {
			kept = append(kept, desired)
		}
	}
	return t.reconcileBindings(ctx, o, namespace, kept)
}

// withhold takes from the managed bindings of a namespace what is not granted, where the gate gave a reason to add nothing.
// Before the policies are probed, which is over in a moment, a user whose role changes keeps the old one for that long.
func (t *tenancy) withhold(ctx context.Context, o owner, namespace string, granted tenant.Grants, reason error) error {
	if !errors.Is(reason, errNotProbed) {
		return t.revoke(ctx, o, namespace, granted)
	}
	existing, err := bindingsOf(ctx, t.client, o, namespace)
	if err != nil {
		return err
	}
	some := slices.Concat(slices.Collect(maps.Values(granted))...)
	kept := tenant.Grants{}
	for _, binding := range existing {
		kept[binding.RoleRef.Name] = some
	}
	return t.revoke(ctx, o, namespace, kept)
}

// bindingsOf returns the managed bindings of a tenant's namespace by name.
func bindingsOf(
	ctx context.Context, reader client.Reader, o tenant.Owner, namespace string,
) (map[string]*rbacv1.RoleBinding, error) {
	var bindings rbacv1.RoleBindingList
	if err := reader.List(ctx, &bindings, managedIn(namespace, o)...); err != nil {
		return nil, fmt.Errorf("listing bindings: %w", err)
	}
	byName := make(map[string]*rbacv1.RoleBinding, len(bindings.Items))
	for i := range bindings.Items {
		byName[bindings.Items[i].Name] = &bindings.Items[i]
	}
	return byName, nil
}

// deleteBinding deletes a binding at once. A binding that a finalizer holds still binds, and whoever may edit bindings in
// the tenant can put one there; nothing that the operator makes has any.
func (t *tenancy) deleteBinding(ctx context.Context, binding *rbacv1.RoleBinding) error {
	if len(binding.Finalizers) > 0 {
		patch := client.RawPatch(types.MergePatchType, []byte(`{"metadata":{"finalizers":null}}`))
		if err := t.client.Patch(ctx, binding.DeepCopy(), patch); client.IgnoreNotFound(err) != nil {
			return fmt.Errorf("removing the finalizers of binding %s: %w", binding.Name, err)
		}
	}
	return mirror.DeleteObject(ctx, t.client, binding)
}

// applyBinding writes a binding if it is not as it should be.
func (t *tenancy) applyBinding(
	ctx context.Context, existing *rbacv1.RoleBinding, desired *rbacv1ac.RoleBindingApplyConfiguration,
) error {
	if existing != nil {
		owned, err := rbacv1ac.ExtractRoleBinding(existing, tenant.FieldOwner)
		if err != nil {
			return fmt.Errorf("reading what is owned of binding %s: %w", existing.Name, err)
		}
		if equality.Semantic.DeepEqual(owned, desired) {
			return nil
		}
	}
	role := *desired.RoleRef.Name
	err := t.client.Apply(ctx, desired, client.FieldOwner(tenant.FieldOwner), client.ForceOwnership)
	switch {
	case apierrors.IsInvalid(err):
		return t.replaceBinding(ctx, desired, err)
	case apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause):
		return nil // the namespace's deletion brings the owner back here
	case apierrors.IsForbidden(err), isMissingRole(err, role):
		return errors.Join(t.retract(ctx, existing, desired), stalled(clerkv1alpha1.ReasonRoleNotBindable, recheckInterval,
			"the operator may not bind ClusterRole %q, or there is none; add it to the operator's bindable ClusterRoles or "+
				"take it out of the class", role))
	case err != nil:
		return fmt.Errorf("applying the binding of ClusterRole %s: %w", role, err)
	}
	return nil
}

// isMissingRole says whether the API server looked for a binding's role, to see whether it may be bound, and found none:
// it answers with the role's name.
func isMissingRole(err error, role string) bool {
	status, ok := errors.AsType[*apierrors.StatusError](err)
	return ok && apierrors.IsNotFound(err) && status.ErrStatus.Details != nil && status.ErrStatus.Details.Name == role
}

// replaceBinding deletes a binding of the desired one's name that somebody in the tenant made for another role, which
// cannot be changed, and makes the desired one. Any other refusal is none of the binding's.
func (t *tenancy) replaceBinding(
	ctx context.Context, desired *rbacv1ac.RoleBindingApplyConfiguration, refusal error,
) error {
	binding := &rbacv1.RoleBinding{}
	key := client.ObjectKey{Namespace: *desired.Namespace, Name: *desired.Name}
	if err := t.live.Get(ctx, key, binding); err != nil {
		return fmt.Errorf("reading binding %s: %w", key, err)
	}
	if binding.RoleRef.Kind == *desired.RoleRef.Kind && binding.RoleRef.Name == *desired.RoleRef.Name {
		return fmt.Errorf("applying binding %s: %w", key, refusal)
	}
	if err := t.deleteBinding(ctx, binding); err != nil {
		return err
	}
	if err := t.client.Apply(ctx, desired, client.FieldOwner(tenant.FieldOwner), client.ForceOwnership); err != nil {
		return fmt.Errorf("applying binding %s: %w", key, err)
	}
	return nil
}

// retract deletes a binding that names somebody who should not be named and cannot be changed, since changing a binding
// needs the right to bind its role and deleting it does not. Taking access away wins over keeping it.
func (t *tenancy) retract(
	ctx context.Context, existing *rbacv1.RoleBinding, desired *rbacv1ac.RoleBindingApplyConfiguration,
) error {
	if len(removed(existing, desired)) == 0 {
		return nil
	}
	return t.deleteBinding(ctx, existing)
}

// removed returns who an existing binding, if there is one, names and a desired one does not.
func removed(existing *rbacv1.RoleBinding, desired *rbacv1ac.RoleBindingApplyConfiguration) sets.Set[string] {
	names := subjectNames(existing)
	for _, subject := range desired.Subjects {
		names.Delete(*subject.Name)
	}
	return names
}

// subjectNames returns who a binding names; nothing when there is none.
func subjectNames(binding *rbacv1.RoleBinding) sets.Set[string] {
	names := sets.New[string]()
	if binding != nil {
		for _, subject := range binding.Subjects {
			names.Insert(subject.Name)
		}
	}
	return names
}

// gives reports whether desired bindings give a user what existing ones do not.
func gives(existing map[string]*rbacv1.RoleBinding, desired []*rbacv1ac.RoleBindingApplyConfiguration) bool {
	return slices.ContainsFunc(desired, func(d *rbacv1ac.RoleBindingApplyConfiguration) bool {
		is := existing[*d.Name]
		if is != nil && (is.RoleRef.Kind != *d.RoleRef.Kind || is.RoleRef.Name != *d.RoleRef.Name) {
			is = nil // it is replaced
		}
		given := subjectNames(is)
		return slices.ContainsFunc(d.Subjects, func(subject rbacv1ac.SubjectApplyConfiguration) bool {
			return !given.Has(*subject.Name)
		})
	})
}
