// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package tenant builds what an organization, or a user alone, gets in the cluster: a namespace, what limits it, its
// Secrets and its RoleBindings, as typed apply configurations. It also decides which class selects whom, and whose turn
// it is where a class has only so many places. It is pure: observed objects in, desired objects out, no client and no clock.
//
// Strings that people in Clerk choose reach no name, label or field but those that say so; the one part of a name that
// comes from a slug is reduced to letters, digits and dashes and followed by a digest of the organization's ID.
package tenant

import (
	"crypto/sha256"
	"encoding/base32"
	"maps"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	clerkv1alpha1 "github.com/clerk-operator/clerk-operator/api/v1alpha1"
)

// FieldOwner owns every field of the tenants' objects.
const FieldOwner = "clerk-operator/tenant"

// Owner is whom a tenant belongs to: a ClerkOrganization, or a ClerkUser alone.
type Owner interface {
	metav1.Object
	GetClerkID() string
	GetMirrored() *clerkv1alpha1.Mirrored
}

// KindOf returns the kind of tenant that an owner has.
func KindOf(owner Owner) clerkv1alpha1.TenantKind {
	if _, ok := owner.(*clerkv1alpha1.ClerkUser); ok {
		return clerkv1alpha1.TenantsUsers
	}
	return clerkv1alpha1.TenantsOrganizations
}

// OwnerLabel returns the label that holds the owner's ID on everything that belongs to it.
func OwnerLabel(owner Owner) string {
	if KindOf(owner) == clerkv1alpha1.TenantsUsers {
		return clerkv1alpha1.LabelUserID
	}
	return clerkv1alpha1.LabelOrganizationID
}

// Key tells an owner from every other one: <instance>/<ID>. It is what a namespace that may be adopted names in the
// annotation adopt-by.
func Key(owner Owner) string { return owner.GetMirrored().InstanceName + "/" + owner.GetClerkID() }

// Labels returns the labels of every object that belongs to a tenant.
func Labels(owner Owner) map[string]string {
	return map[string]string{
		clerkv1alpha1.LabelManagedBy: clerkv1alpha1.ManagedBy,
		clerkv1alpha1.LabelInstance:  owner.GetMirrored().InstanceName,
		OwnerLabel(owner):            owner.GetClerkID(),
	}
}

// sortedKeys returns the keys of a map in their order.
func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// digest returns the first letters and digits of a string's SHA-256, fit for names.
func digest(s string, length int) string {
	sum := sha256.Sum256([]byte(s))
	return strings.ToLower(base32.StdEncoding.EncodeToString(sum[:]))[:length]
}
