// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package tenant_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	. "github.com/onsi/gomega"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"

	clerkv1alpha1 "github.com/clerk-operator/clerk-operator/api/v1alpha1"
	"github.com/clerk-operator/clerk-operator/internal/tenant"
)

func selectors(t *testing.T) *tenant.Selectors {
	t.Helper()
	s, err := tenant.NewSelectors()
	NewWithT(t).Expect(err).NotTo(HaveOccurred())
	return s
}

func selecting(expression string) clerkv1alpha1.ClerkTenantClass {
	c := class()
	c.Spec.Selector.Expression = expression
	return *c
}

func TestSelectors_expressions(t *testing.T) {
	s := selectors(t)
	for name, tc := range map[string]struct {
		expression string
		want       bool
	}{
		"true":                          {"true", true},
		"false":                         {"false", false},
		"metadata":                      {"organization.publicMetadata.plan == 'pro'", true},
		"other metadata":                {"organization.publicMetadata.plan == 'free'", false},
		"a missing key":                 {"organization.publicMetadata.tier == 'gold'", false},
		"a missing key, negated":        {"!(organization.publicMetadata.tier == 'gold')", false},
		"a missing key that is guarded": {"!has(organization.publicMetadata.tier)", true},
		"optional syntax":               {"organization.publicMetadata.?plan.orValue('') == 'pro'", true},
		"optional syntax, missing":      {"organization.publicMetadata.?tier.orValue('none') == 'none'", true},
		"optional index":                {"organization.publicMetadata[?'plan'].hasValue()", true},
		"another type":                  {"organization.publicMetadata.plan > 5", false},
		"a number":                      {"organization.publicMetadata.seats > 5", true},
		"ID":                            {"organization.organizationID == '" + organizationID + "'", true},
		"instance":                      {"organization.instanceName == 'default'", true},
		"nobody created it":             {"organization.createdBy == ''", true},
		"plan":                          {"organization.plan == 'gold'", true},
		"another plan":                  {"organization.plan == 'pro'", false},
		"no maximum":                    {"organization.maxAllowedMemberships == 0", true},
		"a dynamic value that is true":  {"organization.publicMetadata.active", false},
		"a dynamic value that is none":  {"organization.publicMetadata.plan", false},
		// An organization's own administrators can change name and slug.
		"name":                  {"organization.name != ''", false},
		"slug":                  {"organization.slug == 'acme-raeder'", false},
		"there is no name":      {"!has(organization.name) && !has(organization.slug)", true},
		"not a bool":            {"'true'", false},
		"no expression":         {"organization.publicMetadata.plan = 'pro'", false},
		"another variable":      {"object.spec.slug == 'acme'", false},
		"a function of no kind": {"organization.organizationID.fetch()", false},
	} {
		t.Run(name, func(t *testing.T) {
			got := s.Select([]clerkv1alpha1.ClerkTenantClass{selecting(tc.expression)}, organization())
			NewWithT(t).Expect(got != nil).To(Equal(tc.want))
		})
	}
}

func TestSelectors_checkTellsWhatIsNoExpression(t *testing.T) {
	g, s := NewWithT(t), selectors(t)
	for expression, want := range map[string]string{
		"organization.publicMetadata.plan == 'pro'":      "",
		"organization.publicMetadata.active":             "", // what it is shows when it is evaluated
		"organization.publicMetadata.?a.orValue(1) == 1": "",
		"organization.publicMetadata.plan = 'pro'":       "Syntax error",
		"'true'":                             "must be a bool",
		"1 + 1":                              "must be a bool",
		"organization":                       "must be a bool",
		"object.spec == ''":                  "undeclared reference",
		"organization.organizationID.read()": "undeclared reference",
		"":                                   "", // there is none
	} {
		for range 2 { // the second time from memory
			class := selecting(expression)
			if want == "" {
				g.Expect(s.Check(&class)).To(Succeed(), expression)
				continue
			}
			g.Expect(s.Check(&class)).To(MatchError(ContainSubstring(want)), expression)
		}
	}
}

func TestSelectors_anExpressionNarrowsAListAndKeepsPriority(t *testing.T) {
	g, s := NewWithT(t), selectors(t)
	pro, free, broken, listed := selecting("organization.publicMetadata.plan == 'pro'"), selecting("organization.publicMetadata.plan == 'free'"),
		selecting("organization.publicMetadata.plan == "), selecting("true")
	pro.Name, free.Name, broken.Name, listed.Name = "pro", "free", "broken", "listed"
	free.Spec.Priority, broken.Spec.Priority, listed.Spec.Priority = new(int32(9)), new(int32(10)), new(int32(11))
	listed.Spec.Selector.OrganizationIDs = []string{"org_other"}
	every := *class()
	every.Name, every.Spec.Priority = "every", new(int32(-1))
	all := []clerkv1alpha1.ClerkTenantClass{every, pro, free, broken, listed}
	g.Expect(s.Select(all, organization()).Name).To(Equal("pro"))
	o := organization()
	o.Spec.PublicMetadata = &apiextensionsv1.JSON{Raw: []byte(`{"plan":"free"}`)}
	g.Expect(s.Select(all, o).Name).To(Equal("free"))
	o.Spec.PublicMetadata = nil
	g.Expect(s.Select(all, o).Name).To(Equal("every"))
	o.Spec.OrganizationID = "org_other"
	g.Expect(s.Select(all, o).Name).To(Equal("listed"))
}

// Whoever can change public metadata in Clerk, or may write classes, must not be able to stop the operator.
func TestSelectors_costIsBounded(t *testing.T) {
	items := make([]int, 3000)
	metadata, err := json.Marshal(map[string]any{"items": items, "text": strings.Repeat("a", 8000)})
	NewWithT(t).Expect(err).NotTo(HaveOccurred())
	large := organization()
	large.Spec.PublicMetadata = &apiextensionsv1.JSON{Raw: metadata}
	const list = "organization.publicMetadata.items"
	s := selectors(t)
	const tooCostly = "costs too much"
	for name, tc := range map[string]struct {
		expression string
		want       string
	}{
		"all":            {list + ".all(a, a == 0)", "true"},
		"nested":         {list + ".all(a, " + list + ".all(b, " + list + ".all(c, a + b + c == 0)))", tooCostly},
		"nested exists":  {list + ".exists(a, " + list + ".exists(b, " + list + ".exists(c, a + b + c == 1)))", tooCostly},
		"nested map":     {list + ".map(a, " + list + ".map(b, " + list + ")).size() > 0", tooCostly},
		"doubling lists": {"[1,2].map(a, [1,2].map(b, [" + list + " + " + list + "])).size() > 0 && " + list + ".all(a, (" + list + "+" + list + ").size() < 0)", "false"},
		"regexp": {"organization.publicMetadata.text.matches('(a+)+(a+)+(a+)+b') || " + list +
			".all(i, !organization.publicMetadata.text.matches('(a|aa)+(a|aa)+(a|aa)+b'))", tooCostly},
		"text that grows": {list + ".all(a, (organization.publicMetadata.text + organization.publicMetadata.text).contains('ab'))", "false"},
	} {
		t.Run(name, func(t *testing.T) {
			g, costly := NewWithT(t), selecting(tc.expression)
			g.Expect(s.Check(&costly)).To(Succeed())
			selects, err := s.Selects(&costly, large)
			if tc.want == tooCostly {
				g.Expect(err).To(MatchError(ContainSubstring(tooCostly)))
				return
			}
			g.Expect(err).NotTo(HaveOccurred())
			g.Expect(fmt.Sprint(selects)).To(Equal(tc.want))
		})
	}
}
