// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"cmp"
	"context"
	"errors"
	"fmt"
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
	"github.com/clerk-operator/clerk-operator/internal/clerk"
	"github.com/clerk-operator/clerk-operator/internal/mirror"
	"github.com/clerk-operator/clerk-operator/internal/tenant"
)

// member is a membership with its user, nil when there is none.
type member struct {
	membership *clerkv1alpha1.ClerkOrganizationMembership
	user       *clerkv1alpha1.ClerkUser
}

// membersOf returns an organization's memberships with their users. A membership or a user with a tombstone does not
// count, however long the object still lives.
func (b *base) membersOf(ctx context.Context, organization *clerkv1alpha1.ClerkOrganization) ([]member, error) {
	items, err := memberships(ctx, b.client,
		client.MatchingFields{indexOrganizationID: organization.Spec.OrganizationID})
	if err != nil {
		return nil, fmt.Errorf("listing memberships: %w", err)
	}
	members := make([]member, 0, len(items))
	for i := range items {
		m := &items[i]
		if m.Spec.InstanceName != organization.Spec.InstanceName {
			continue
		}
		dead, err := mirror.Deleted(ctx, b.client, m.Spec.InstanceName, m.Spec.MembershipID, m.Spec.UserID)
		if err != nil {
			return nil, err
		}
		if dead {
			continue
		}
		user, err := b.userOf(ctx, m)
		if err != nil {
			return nil, err
		}
		members = append(members, member{membership: m, user: user})
	}
	return members, nil
}

// userOf returns a membership's user, nil when there is none.
func (b *base) userOf(
	ctx context.Context, m *clerkv1alpha1.ClerkOrganizationMembership,
) (*clerkv1alpha1.ClerkUser, error) {
	var user clerkv1alpha1.ClerkUser
	err := b.client.Get(ctx, client.ObjectKey{Name: clerk.ObjectName(m.Spec.UserID)}, &user)
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading user %s: %w", m.Spec.UserID, err)
	}
	return &user, nil
}

// grants asks for the decision on each member.
func grants(
	organization *clerkv1alpha1.ClerkOrganization, class *clerkv1alpha1.ClerkTenantClass, members []member,
) tenant.Grants {
	all := make([]*clerkv1alpha1.ClerkOrganizationMembership, 0, len(members))
	for _, m := range members {
		all = append(all, m.membership)
	}
	current := access.Current(all)
	grants := tenant.Grants{}
	for _, m := range members {
		decision := access.Decide(access.Request{
			Membership:   m.membership,
			User:         m.user,
			Organization: organization,
			Class:        class,
			Superseded:   current[m.membership.Spec.UserID] != m.membership,
		})
		for _, role := range decision.ClusterRoles {
			grants[role] = append(grants[role], m.membership.Spec.UserID)
		}
	}
	return grants
}

// reconcileBindings makes the managed bindings of a proven namespace exactly the desired ones. Those that nobody is
// taken from come first and deletions last, so that nobody whose role changes is without access in between.
func (r *ClerkOrganizationReconciler) reconcileBindings(
	ctx context.Context, organization *clerkv1alpha1.ClerkOrganization, namespace string,
	desired []*rbacv1ac.RoleBindingApplyConfiguration,
) error {
	existing, err := bindingsOf(ctx, r.client, organization, namespace)
	if err != nil {
		return err
	}
	var errs []error
	wanted := sets.New[string]()
	slices.SortStableFunc(desired, func(a, b *rbacv1ac.RoleBindingApplyConfiguration) int {
		return cmp.Compare(len(removed(existing[*a.Name], a)), len(removed(existing[*b.Name], b)))
	})
	for _, binding := range desired {
		wanted.Insert(*binding.Name)
		errs = append(errs, r.applyBinding(ctx, existing[*binding.Name], binding))
	}
	for name, binding := range existing {
		if !wanted.Has(name) {
			errs = append(errs, r.deleteBinding(ctx, binding))
		}
	}
	return errors.Join(errs...)
}

// revoke takes from the managed bindings of a namespace every user who is granted their role no more, and adds nobody.
func (r *ClerkOrganizationReconciler) revoke(
	ctx context.Context, organization *clerkv1alpha1.ClerkOrganization, namespace string, granted tenant.Grants,
) error {
	existing, err := bindingsOf(ctx, r.client, organization, namespace)
	if err != nil {
		return err
	}
	var kept []*rbacv1ac.RoleBindingApplyConfiguration
	for _, binding := range existing {
		desired := rbacv1ac.RoleBinding(binding.Name, namespace).
			WithLabels(tenant.Labels(organization)).
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
	return r.reconcileBindings(ctx, organization, namespace, kept)
}

// bindingsOf returns the managed bindings of an organization's namespace by name.
func bindingsOf(
	ctx context.Context, reader client.Reader, organization *clerkv1alpha1.ClerkOrganization, namespace string,
) (map[string]*rbacv1.RoleBinding, error) {
	var bindings rbacv1.RoleBindingList
	if err := reader.List(ctx, &bindings, client.InNamespace(namespace), client.MatchingLabels{
		clerkv1alpha1.LabelManagedBy:      clerkv1alpha1.ManagedBy,
		clerkv1alpha1.LabelOrganizationID: organization.Spec.OrganizationID,
	}); err != nil {
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
func (r *ClerkOrganizationReconciler) deleteBinding(ctx context.Context, binding *rbacv1.RoleBinding) error {
	if len(binding.Finalizers) > 0 {
		patch := client.RawPatch(types.MergePatchType, []byte(`{"metadata":{"finalizers":null}}`))
		if err := r.client.Patch(ctx, binding.DeepCopy(), patch); client.IgnoreNotFound(err) != nil {
			return fmt.Errorf("removing the finalizers of binding %s: %w", binding.Name, err)
		}
	}
	return mirror.DeleteObject(ctx, r.client, binding)
}

// applyBinding writes a binding if it is not as it should be.
func (r *ClerkOrganizationReconciler) applyBinding(
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
	err := r.client.Apply(ctx, desired, client.FieldOwner(tenant.FieldOwner), client.ForceOwnership)
	switch {
	case apierrors.IsInvalid(err):
		return r.replaceBinding(ctx, desired, err)
	case apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause):
		return nil // the namespace's deletion brings the organization back here
	case apierrors.IsForbidden(err), isMissingRole(err, role):
		return errors.Join(r.retract(ctx, existing, desired), stalled(clerkv1alpha1.ReasonRoleNotBindable, recheckInterval,
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
func (r *ClerkOrganizationReconciler) replaceBinding(
	ctx context.Context, desired *rbacv1ac.RoleBindingApplyConfiguration, refusal error,
) error {
	binding := &rbacv1.RoleBinding{}
	key := client.ObjectKey{Namespace: *desired.Namespace, Name: *desired.Name}
	if err := r.live.Get(ctx, key, binding); err != nil {
		return fmt.Errorf("reading binding %s: %w", key, err)
	}
	if binding.RoleRef.Kind == *desired.RoleRef.Kind && binding.RoleRef.Name == *desired.RoleRef.Name {
		return fmt.Errorf("applying binding %s: %w", key, refusal)
	}
	if err := r.deleteBinding(ctx, binding); err != nil {
		return err
	}
	if err := r.client.Apply(ctx, desired, client.FieldOwner(tenant.FieldOwner), client.ForceOwnership); err != nil {
		return fmt.Errorf("applying binding %s: %w", key, err)
	}
	return nil
}

// retract deletes a binding that names somebody who should not be named and cannot be changed, since changing a binding
// needs the right to bind its role and deleting it does not. Taking access away wins over keeping it.
func (r *ClerkOrganizationReconciler) retract(
	ctx context.Context, existing *rbacv1.RoleBinding, desired *rbacv1ac.RoleBindingApplyConfiguration,
) error {
	if len(removed(existing, desired)) == 0 {
		return nil
	}
	return r.deleteBinding(ctx, existing)
}

// removed returns who an existing binding, if there is one, names and a desired one does not.
func removed(existing *rbacv1.RoleBinding, desired *rbacv1ac.RoleBindingApplyConfiguration) sets.Set[string] {
	names := sets.New[string]()
	if existing == nil {
		return names
	}
	for _, subject := range existing.Subjects {
		names.Insert(subject.Name)
	}
	for _, subject := range desired.Subjects {
		names.Delete(*subject.Name)
	}
	return names
}
