// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	clerkv1alpha1 "github.com/clerk-operator/clerk-operator/api/v1alpha1"
	"github.com/clerk-operator/clerk-operator/internal/clerk"
	"github.com/clerk-operator/clerk-operator/internal/tenant"
)

// rawTenant writes one organization's objects with the raw client: each once, as it should be in the end, in the order in
// which they need each other, with what the operator's own builders say and with the operator's kinds of requests.
type rawTenant struct {
	raw         client.Client
	class       *clerkv1alpha1.ClerkTenantClass
	objects     []*clerk.Object
	users       []*clerkv1alpha1.ClerkUser
	memberships []*clerkv1alpha1.ClerkOrganizationMembership
}

// newRawTenant prepares everything that does not depend on what the API server answers.
func newRawTenant(ctx context.Context, p *provisioning, f founding) (*rawTenant, error) {
	t := &rawTenant{raw: p.world.raw, class: p.class}
	for _, m := range f.messages {
		o, err := desired(m)
		if err != nil {
			return nil, err
		}
		t.objects = append(t.objects, o)
	}
	for _, u := range f.users {
		user := &clerkv1alpha1.ClerkUser{}
		if err := p.admin.Get(ctx, client.ObjectKey{Name: clerk.ObjectName("default", u.ID)}, user); err != nil {
			return nil, fmt.Errorf("reading a user: %w", err)
		}
		t.users = append(t.users, user)
	}
	return t, nil
}

func (t *rawTenant) write(ctx context.Context) error {
	for _, o := range t.objects {
		if err := applyRaw(ctx, t.raw, o); err != nil {
			return err
		}
	}
	organization := &clerkv1alpha1.ClerkOrganization{}
	if err := convert(t.objects[0].Apply, organization); err != nil {
		return err
	}
	grants := tenant.Grants{}
	t.memberships = nil
	for i, o := range t.objects[1:] {
		m := &clerkv1alpha1.ClerkOrganizationMembership{}
		if err := convert(o.Apply, m); err != nil {
			return err
		}
		t.memberships = append(t.memberships, m)
		role := t.class.Spec.Access[i].ClusterRoles[0]
		grants[role] = append(grants[role], m.Spec.UserID)
	}
	namespace, hash, err := t.writeChildren(ctx, organization, grants)
	if err != nil {
		return err
	}
	return t.writeStatus(ctx, organization, namespace, hash)
}

// writeChildren makes the namespace and what is in it.
func (t *rawTenant) writeChildren(
	ctx context.Context, organization *clerkv1alpha1.ClerkOrganization, grants tenant.Grants,
) (*corev1.Namespace, string, error) {
	name := tenant.NamespaceName(t.class.Spec.Namespace.Prefix, organization)
	namespace := &corev1.Namespace{}
	if err := convert(tenant.Namespace(name, organization, t.class), namespace); err != nil {
		return nil, "", err
	}
	if err := t.raw.Create(ctx, namespace, client.FieldOwner(tenant.FieldOwner)); err != nil {
		return nil, "", fmt.Errorf("creating a namespace: %w", err)
	}
	guardrails, err := tenant.BuildGuardrails(name, organization, t.class)
	if err != nil {
		return nil, "", err
	}
	for _, policy := range guardrails.Policies { // the class has neither a quota nor limits
		if err := t.raw.Apply(ctx, policy, client.FieldOwner(tenant.FieldOwner), client.ForceOwnership); err != nil {
			return nil, "", fmt.Errorf("applying a network policy: %w", err)
		}
	}
	secret := tenant.Secret(name, organization, &clerkv1alpha1.ClerkInstance{})
	hash, err := tenant.Hash(secret, nil, string(namespace.UID))
	if err != nil {
		return nil, "", err
	}
	if err := t.raw.Apply(ctx, secret, client.FieldOwner(tenant.FieldOwner), client.ForceOwnership); err != nil {
		return nil, "", fmt.Errorf("applying a Secret: %w", err)
	}
	for _, binding := range tenant.RoleBindings(name, organization, clerkv1alpha1.DefaultUsernamePrefix, grants) {
		if err := t.raw.Apply(ctx, binding, client.FieldOwner(tenant.FieldOwner), client.ForceOwnership); err != nil {
			return nil, "", fmt.Errorf("applying a binding: %w", err)
		}
	}
	return namespace, hash, nil
}

// writeStatus says of every object what the operator would say.
func (t *rawTenant) writeStatus(
	ctx context.Context, organization *clerkv1alpha1.ClerkOrganization, namespace *corev1.Namespace, hash string,
) error {
	err := patchStatus(ctx, t.raw, organization, func() {
		organization.Status = clerkv1alpha1.ClerkOrganizationStatus{
			ObservedGeneration: organization.Generation,
			TenantStatus: clerkv1alpha1.TenantStatus{
				TenantClass: t.class.Name, TenantClassGeneration: t.class.Generation, SecretHash: hash,
				Namespace: clerkv1alpha1.NamespaceReference{Name: namespace.Name, UID: namespace.UID},
			},
			Members: new(int32(len(t.memberships))),
			Conditions: []metav1.Condition{
				readyNow(clerkv1alpha1.ConditionNamespaceReady, clerkv1alpha1.ReasonProvisioned,
					"the namespace is as its class wants it", organization.Generation),
				readyNow(clerkv1alpha1.ConditionAccessReady, clerkv1alpha1.ReasonProvisioned,
					"the bindings exist of everybody who has access", organization.Generation),
				readyNow(clerkv1alpha1.ConditionReady, clerkv1alpha1.ReasonProvisioned,
					"namespace "+namespace.Name+" is provisioned", organization.Generation),
			},
		}
	})
	if err != nil {
		return err
	}
	for i, m := range t.memberships {
		err := patchStatus(ctx, t.raw, m, func() {
			m.Status = clerkv1alpha1.ClerkOrganizationMembershipStatus{
				ObservedGeneration: m.Generation, ClusterRoles: t.class.Spec.Access[i].ClusterRoles,
				Conditions: []metav1.Condition{readyNow(clerkv1alpha1.ConditionReady, clerkv1alpha1.ReasonBound,
					"bound in namespace "+namespace.Name, m.Generation)},
			}
		})
		if err != nil {
			return err
		}
	}
	for _, u := range t.users {
		if err := patchStatus(ctx, t.raw, u, func() { u.Status.Organizations = new(int32(1)) }); err != nil {
			return err
		}
	}
	return nil
}

// patchStatus writes a status as the operator does: as a merge patch of what was read.
func patchStatus(ctx context.Context, c client.Client, o client.Object, change func()) error {
	before := o.DeepCopyObject().(client.Object)
	change()
	err := c.Status().Patch(ctx, o, client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{}))
	if err != nil {
		return fmt.Errorf("patching the status of %s: %w", o.GetName(), err)
	}
	return nil
}

// convert turns an apply configuration into an object of its kind.
func convert(from, to any) error {
	encoded, err := json.Marshal(from)
	if err != nil {
		return fmt.Errorf("encoding: %w", err)
	}
	if err := json.Unmarshal(encoded, to); err != nil {
		return fmt.Errorf("decoding: %w", err)
	}
	return nil
}
