// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package tenant_test

import (
	"slices"
	"testing"

	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"

	clerkv1alpha1 "github.com/clerk-operator/clerk-operator/api/v1alpha1"
	"github.com/clerk-operator/clerk-operator/internal/tenant"
)

func TestSecret_everyKeyIsAlwaysThere(t *testing.T) {
	g := NewWithT(t)
	full := tenant.Secret("org-acme", organization(), instance())
	bare := tenant.Secret("org-acme", slugged("", organizationID), &clerkv1alpha1.ClerkInstance{})
	g.Expect(full.Data).To(HaveLen(8))
	for key := range full.Data {
		g.Expect(bare.Data).To(HaveKey(key))
		g.Expect(validation.IsEnvVarName(key)).To(BeEmpty())
	}
	g.Expect(full.Data).To(HaveKeyWithValue("CLERK_JWKS_URL", []byte("https://clerk.example.com/.well-known/jwks.json")))
	g.Expect(bare.Data).To(HaveKeyWithValue("CLERK_JWKS_URL", BeEmpty()))
	g.Expect(full.Labels).To(Equal(ownLabels))
}

func TestHash_changesWithTheContentAndTheNamespace(t *testing.T) {
	g := NewWithT(t)
	hash := func(o *clerkv1alpha1.ClerkOrganization, i *clerkv1alpha1.ClerkInstance, uid string) string {
		got, err := tenant.Hash(tenant.Secret("org-acme", o, i), nil, uid)
		g.Expect(err).NotTo(HaveOccurred())
		return got
	}
	base := hash(organization(), instance(), "uid-1")
	g.Expect(base).To(MatchRegexp(`^[a-z2-7]{32}$`))
	// The data is a map: its order must not show.
	for range 50 {
		g.Expect(hash(organization(), instance(), "uid-1")).To(Equal(base))
	}

	seen := map[string]string{base: "nothing", hash(organization(), instance(), "uid-2"): "the namespace"}
	g.Expect(seen).To(HaveLen(2))
	for name, change := range map[string]func(*clerkv1alpha1.ClerkOrganization, *clerkv1alpha1.ClerkInstance){
		"slug":        func(o *clerkv1alpha1.ClerkOrganization, _ *clerkv1alpha1.ClerkInstance) { o.Spec.Slug += "x" },
		"name":        func(o *clerkv1alpha1.ClerkOrganization, _ *clerkv1alpha1.ClerkInstance) { o.Spec.Name = "" },
		"ID":          func(o *clerkv1alpha1.ClerkOrganization, _ *clerkv1alpha1.ClerkInstance) { o.Spec.OrganizationID += "x" },
		"label":       func(o *clerkv1alpha1.ClerkOrganization, _ *clerkv1alpha1.ClerkInstance) { o.Spec.InstanceName += "x" },
		"no metadata": func(o *clerkv1alpha1.ClerkOrganization, _ *clerkv1alpha1.ClerkInstance) { o.Spec.PublicMetadata = nil },
		"metadata": func(o *clerkv1alpha1.ClerkOrganization, _ *clerkv1alpha1.ClerkInstance) {
			o.Spec.PublicMetadata = &apiextensionsv1.JSON{Raw: []byte(`{"plan":"free"}`)}
		},
		"instance ID": func(_ *clerkv1alpha1.ClerkOrganization, i *clerkv1alpha1.ClerkInstance) { i.Spec.InstanceID = "" },
		"key": func(_ *clerkv1alpha1.ClerkOrganization, i *clerkv1alpha1.ClerkInstance) {
			i.Spec.TenantEnvironment.PublishableKey = ""
		},
		"URL": func(_ *clerkv1alpha1.ClerkOrganization, i *clerkv1alpha1.ClerkInstance) {
			i.Spec.TenantEnvironment.FrontendAPIURL = ""
		},
	} {
		o, i := organization(), instance()
		change(o, i)
		got := hash(o, i, "uid-1")
		g.Expect(seen).NotTo(HaveKey(got), name)
		seen[got] = name
	}
}

func TestHash_changesWithWhatIsCopied(t *testing.T) {
	g := NewWithT(t)
	hash := func(sources ...corev1.Secret) string {
		got, err := tenant.Hash(tenant.Secret("org-acme", organization(), instance()), sources, "uid-1")
		g.Expect(err).NotTo(HaveOccurred())
		return got
	}
	source := corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: "registry", UID: "uid-2", ResourceVersion: "7"},
		Data:       map[string][]byte{"password": []byte("hunter2")},
	}
	anew, retyped, renamed, changed, touched := source, source, source, source, source
	anew.UID, retyped.Type, renamed.Name = "uid-3", corev1.SecretTypeBasicAuth, "other"
	changed.Data = map[string][]byte{"password": []byte("hunter3")}
	touched.ResourceVersion, touched.Annotations = "8", map[string]string{"a": "b"}
	hashes := []string{
		hash(), hash(source), hash(anew), hash(retyped), hash(renamed), hash(changed), hash(source, changed), hash(changed, source),
	}
	slices.Sort(hashes)
	g.Expect(slices.Compact(slices.Clone(hashes))).To(Equal(hashes))
	g.Expect(hash(touched)).To(Equal(hash(source)), "nothing of it is copied")
}
