// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package tenant builds what an organization gets in the cluster: its namespace, its Secret and its RoleBindings, as
// typed apply configurations. It is pure: observed objects in, desired objects out, no client and no clock.
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

	clerkv1alpha1 "github.com/clerk-operator/clerk-operator/api/v1alpha1"
)

// FieldOwner owns every field of the tenants' objects.
const FieldOwner = "clerk-operator/tenant"

// Labels returns the labels of every object that belongs to an organization.
func Labels(organization *clerkv1alpha1.ClerkOrganization) map[string]string {
	return map[string]string{
		clerkv1alpha1.LabelManagedBy:      clerkv1alpha1.ManagedBy,
		clerkv1alpha1.LabelInstance:       organization.Spec.InstanceName,
		clerkv1alpha1.LabelOrganizationID: organization.Spec.OrganizationID,
	}
}

// sortedKeys returns the keys of a map in their order.
func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// digest returns the first letters and digits of a string's SHA-256, fit for names.
func digest(s string, length int) string {
	sum := sha256.Sum256([]byte(s))
	return strings.ToLower(base32.StdEncoding.EncodeToString(sum[:]))[:length]
}
