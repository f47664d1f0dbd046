// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package tenant

import (
	"cmp"
	"slices"

	"k8s.io/utils/ptr"

	clerkv1alpha1 "github.com/clerk-operator/clerk-operator/api/v1alpha1"
)

// compareClasses orders classes: the highest priority first, then by name.
func compareClasses(a, b *clerkv1alpha1.ClerkTenantClass) int {
	return cmp.Or(
		cmp.Compare(ptr.Deref(b.Spec.Priority, 0), ptr.Deref(a.Spec.Priority, 0)),
		cmp.Compare(a.Name, b.Name),
	)
}

// lists reports whether a selector's lists of instances and of organizations, as far as it has them, hold an owner.
func lists(selector *clerkv1alpha1.ClerkTenantClassSelector, owner Owner) bool {
	if selector == nil {
		return false
	}
	return contains(selector.InstanceNames, owner.GetMirrored().InstanceName) &&
		contains(selector.OrganizationIDs, owner.GetClerkID())
}

// contains reports whether a list that selects everything where it is empty has an item.
func contains(list []string, item string) bool { return len(list) == 0 || slices.Contains(list, item) }
