// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package tenant_test

import (
	"fmt"
	"strings"
	"testing"

	. "github.com/onsi/gomega"
	"k8s.io/apimachinery/pkg/util/validation"

	clerkv1alpha1 "github.com/clerk-operator/clerk-operator/api/v1alpha1"
	"github.com/clerk-operator/clerk-operator/internal/tenant"
)

func slugged(slug, id string) *clerkv1alpha1.ClerkOrganization {
	o := organization()
	o.Spec.Slug, o.Spec.OrganizationID = slug, id
	return o
}

func TestNamespaceName_isAlwaysALabelOfItsOwn(t *testing.T) {
	for name, tc := range map[string]struct{ slug, wantInfix string }{
		"plain":              {"acme-raeder", "acme-raeder"},
		"another's":          {"kube-system", "kube-system"},
		"the default one":    {"default", "default"},
		"none":               {"", "2g7npklq8vt0nmeyw5uzxrfabcd"},
		"long":               {strings.Repeat("a", 200), strings.Repeat("a", 200)},
		"cut at a dash":      {strings.Repeat("a-", 90), strings.Repeat("a-", 90)},
		"unicode only":       {"諾特🦉", "2g7npklq8vt0nmeyw5uzxrfabcd"},
		"dashes only":        {"---", "2g7npklq8vt0nmeyw5uzxrfabcd"},
		"mixed unicode":      {"räder諾söhne", "r-der-s-hne"},
		"folds into ASCII":   {"\u212aelvin İ", "kelvin-i"},
		"path":               {"../x", "x"},
		"dashes around":      {"-a-", "a"},
		"upper case":         {"ACME Corp", "acme-corp"},
		"dots and slashes":   {"a.b/c_d", "a-b-c-d"},
		"control characters": {"a\x00\n\u202eb", "a-b"},
		"invalid UTF-8":      {"a\xff\xfeb", "a-b"},
	} {
		for _, prefix := range []string{"t", "org-", "7", "a234567890123456789-", "a1234567890123456789"} {
			t.Run(name+" "+prefix, func(t *testing.T) {
				g := NewWithT(t)
				got := tenant.NamespaceName(prefix, slugged(tc.slug, organizationID))
				g.Expect(validation.IsDNS1123Label(got)).To(BeEmpty(), got)
				g.Expect(got).To(HavePrefix(prefix))
				g.Expect(got).To(MatchRegexp(`[a-z0-9]-[a-z2-7]{5}$`))
				infix := got[len(prefix) : len(got)-len("-abcde")]
				g.Expect(infix).NotTo(BeEmpty())
				g.Expect(tc.wantInfix).To(HavePrefix(infix))
				if len(prefix)+len(tc.wantInfix)+6 <= 63 {
					g.Expect(infix).To(Equal(tc.wantInfix))
				} else {
					g.Expect(len(got)).To(BeNumerically(">=", 62), "is cut more than it needs to be")
				}

				g.Expect(tenant.NamespaceName(prefix, slugged(tc.slug, organizationID))).To(Equal(got))
				g.Expect(tenant.NamespaceName(prefix, slugged(tc.slug, "org_2g7npKLq8vT0NmEYw5uZxRfAbCe"))).NotTo(Equal(got))
				g.Expect(tenant.NamespaceName(prefix, slugged(tc.slug, "org_2g7npKLq8vT0NmEYw5uZxRfAbcd"))).
					NotTo(Equal(got), "two IDs that differ in case alone are two organizations")
			})
		}
	}
}

func TestNamespaceName_isDistinctForTheSameSlug(t *testing.T) {
	g := NewWithT(t)
	names := map[string]bool{}
	for i := range 500 {
		names[tenant.NamespaceName("org-", slugged("acme", fmt.Sprintf("org_%027d", i)))] = true
	}
	g.Expect(names).To(HaveLen(500))
}

// ClerkTenantClass refuses prefixes that begin with kube- or openshift, since policies exempt such namespaces. A slug
// is chosen by whoever creates an organization, so it must not get a tenant there either.
func TestNamespaceName_neverLooksLikeThePlatforms(t *testing.T) {
	for prefix, slug := range map[string]string{
		"k": "ube-system", "kub": "e-acme", "kube": "", "o": "penshift-acme", "openshif": "t",
	} {
		t.Run(prefix+"+"+slug, func(t *testing.T) {
			g := NewWithT(t)
			got := tenant.NamespaceName(prefix, slugged(slug, organizationID))
			g.Expect(got).NotTo(HavePrefix("kube-"))
			g.Expect(got).NotTo(HavePrefix("openshift"))
		})
	}
}

func TestNamespace_theOperatorsOwnComeLast(t *testing.T) {
	g := NewWithT(t)
	c := class()
	c.Spec.Namespace.PodSecurity = clerkv1alpha1.PodSecurityBaseline
	c.Spec.Namespace.Annotations["clerk-operator.dev/owner-uid"] = "stolen"
	for key := range ownLabels {
		c.Spec.Namespace.Labels[key] = "stolen"
	}
	for _, mode := range []string{"enforce", "audit", "warn"} {
		c.Spec.Namespace.Labels["pod-security.kubernetes.io/"+mode] = "privileged"
	}
	before := c.DeepCopy()

	got := tenant.Namespace("org-acme", organization(), c)
	g.Expect(got.Labels).To(Equal(map[string]string{
		"app.kubernetes.io/managed-by":       "clerk-operator",
		"clerk-operator.dev/instance":        "default",
		"clerk-operator.dev/organization-id": organizationID,
		"example.com/cost-centre":            "tenants",
		"pod-security.kubernetes.io/enforce": "baseline",
		"pod-security.kubernetes.io/audit":   "baseline",
		"pod-security.kubernetes.io/warn":    "baseline",
	}))
	g.Expect(got.Annotations).To(Equal(map[string]string{
		"clerk-operator.dev/owner-uid": "0b5f7a0e-organization",
		"example.com/contact":          "platform@example.com",
	}))
	g.Expect(c).To(Equal(before), "the class comes from a cache and must not be changed")
}
