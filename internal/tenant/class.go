// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package tenant

import (
	"cmp"
	"slices"

	"k8s.io/utils/ptr"

	clerkv1alpha1 "github.com/clerk-operator/clerk-operator/api/v1alpha1"
)

// SelectClass returns the class of an organization: of those that select it the one with the highest priority, then
// the first by name; nil when none does. A class that is being deleted selects nothing.
func SelectClass(
	classes []clerkv1alpha1.ClerkTenantClass, organization *clerkv1alpha1.ClerkOrganization,
) *clerkv1alpha1.ClerkTenantClass {
	var selected *clerkv1alpha1.ClerkTenantClass
	for i := range classes {
		class := &classes[i]
		if !class.DeletionTimestamp.IsZero() || !selects(class.Spec.Selector, organization) {
			continue
		}
		if selected == nil || compareClasses(class, selected) < 0 {
			selected = class
		}
	}
	return selected
}

func compareClasses(a, b *clerkv1alpha1.ClerkTenantClass) int {
	return cmp.Or(
		cmp.Compare(ptr.Deref(b.Spec.Priority, 0), ptr.Deref(a.Spec.Priority, 0)),
		cmp.Compare(a.Name, b.Name),
	)
}

func selects(selector *clerkv1alpha1.ClerkTenantClassSelector, organization *clerkv1alpha1.ClerkOrganization) bool {
	if selector == nil {
		return false
	}
	return len(selector.OrganizationIDs) == 0 ||
		slices.Contains(selector.OrganizationIDs, organization.Spec.OrganizationID)
}
