// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package tenant_test

import (
	"math/rand/v2"
	"testing"
	"time"

	. "github.com/onsi/gomega"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	clerkv1alpha1 "github.com/clerk-operator/clerk-operator/api/v1alpha1"
	"github.com/clerk-operator/clerk-operator/internal/tenant"
)

func TestSelectors_select(t *testing.T) {
	selectors, err := tenant.NewSelectors()
	NewWithT(t).Expect(err).NotTo(HaveOccurred())
	type option func(*clerkv1alpha1.ClerkTenantClass)
	priority := func(p int32) option {
		return func(c *clerkv1alpha1.ClerkTenantClass) { c.Spec.Priority = new(p) }
	}
	ids := func(ids ...string) option {
		return func(c *clerkv1alpha1.ClerkTenantClass) { c.Spec.Selector.OrganizationIDs = ids }
	}
	instances := func(names ...string) option {
		return func(c *clerkv1alpha1.ClerkTenantClass) { c.Spec.Selector.InstanceNames = names }
	}
	noSelector := func(c *clerkv1alpha1.ClerkTenantClass) { c.Spec.Selector = nil }
	deleting := func(c *clerkv1alpha1.ClerkTenantClass) { c.DeletionTimestamp = &metav1.Time{Time: time.Unix(1, 0)} }
	named := func(name string, options ...option) clerkv1alpha1.ClerkTenantClass {
		c := class()
		c.Name = name
		for _, o := range options {
			o(c)
		}
		return *c
	}
	for name, tc := range map[string]struct {
		classes []clerkv1alpha1.ClerkTenantClass
		want    string
	}{
		"there is none":                     {nil, ""},
		"empty selector selects all":        {[]clerkv1alpha1.ClerkTenantClass{named("a")}, "a"},
		"no selector selects nothing":       {[]clerkv1alpha1.ClerkTenantClass{named("a", noSelector)}, ""},
		"its ID":                            {[]clerkv1alpha1.ClerkTenantClass{named("a", ids("org_x", organizationID))}, "a"},
		"other IDs":                         {[]clerkv1alpha1.ClerkTenantClass{named("a", ids("org_x", "org_y"))}, ""},
		"its ID in another case":            {[]clerkv1alpha1.ClerkTenantClass{named("a", ids("org_2g7npklq8vt0nmeyw5uzxrfabcd"))}, ""},
		"its instance":                      {[]clerkv1alpha1.ClerkTenantClass{named("a", instances("x", "default"))}, "a"},
		"other instances":                   {[]clerkv1alpha1.ClerkTenantClass{named("a", instances("x", "y"))}, ""},
		"its ID, of another instance":       {[]clerkv1alpha1.ClerkTenantClass{named("a", ids(organizationID), instances("x"))}, ""},
		"highest priority":                  {[]clerkv1alpha1.ClerkTenantClass{named("a", priority(1)), named("c", priority(10)), named("b", priority(9))}, "c"},
		"no priority is zero":               {[]clerkv1alpha1.ClerkTenantClass{named("a", priority(-1)), named("b"), named("c", priority(0))}, "b"},
		"tie, first by name":                {[]clerkv1alpha1.ClerkTenantClass{named("b", priority(3)), named("a10", priority(3)), named("a2", priority(3))}, "a10"},
		"extremes":                          {[]clerkv1alpha1.ClerkTenantClass{named("a", priority(-1<<31)), named("b", priority(1<<31-1))}, "b"},
		"priority before being named by ID": {[]clerkv1alpha1.ClerkTenantClass{named("a", ids(organizationID)), named("b", priority(1))}, "b"},
		"highest does not select":           {[]clerkv1alpha1.ClerkTenantClass{named("a"), named("b", priority(9), ids("org_x")), named("c", priority(9), noSelector)}, "a"},
		"highest is being deleted":          {[]clerkv1alpha1.ClerkTenantClass{named("a"), named("b", priority(9), deleting)}, "a"},
		"only one is being deleted":         {[]clerkv1alpha1.ClerkTenantClass{named("a", deleting)}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			for range 10 {
				g := NewWithT(t)
				rand.Shuffle(len(tc.classes), func(i, j int) { tc.classes[i], tc.classes[j] = tc.classes[j], tc.classes[i] })
				got := selectors.Select(tc.classes, organization())
				if tc.want == "" {
					g.Expect(got).To(BeNil())
					continue
				}
				g.Expect(got.Name).To(Equal(tc.want))
			}
		})
	}
}
