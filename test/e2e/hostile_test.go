// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"slices"
	"strings"
	"testing"

	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"

	clerkv1alpha1 "github.com/clerk-operator/clerk-operator/api/v1alpha1"
	"github.com/clerk-operator/clerk-operator/internal/tenant"
	"github.com/clerk-operator/clerk-operator/test/payload"
)

// hostile are what people who sign up can make an organization's slug and name, and what the cluster holds of it.
var hostile = []struct {
	about              string
	slug               any
	name               string
	wantInfix          string // of the namespace's name, between the prefix and the digest; empty is the ID
	wantSlug, wantName string
}{
	{about: "a system namespace", slug: "kube-system", name: "kube-system", wantInfix: "kube-system", wantSlug: "kube-system", wantName: "kube-system"},
	{about: "the default namespace", slug: "default", name: "default", wantInfix: "default", wantSlug: "default", wantName: "default"},
	{about: "the empty slug", slug: "", name: "x", wantName: "x"},
	{about: "slugs are off", slug: nil, name: "", wantName: ""},
	{about: "a slug of another type", slug: 7, name: "x", wantName: "x"},
	{
		about: "200 characters", slug: strings.Repeat("a1", 100), name: "x",
		wantInfix: strings.Repeat("a1", 26) + "a", wantSlug: strings.Repeat("a1", 100), wantName: "x",
	},
	{about: "unicode", slug: "Ünïted-組織", name: "組織 🏢", wantInfix: "n-ted", wantSlug: "Ünïted-組織", wantName: "組織 🏢"},
	{about: "nothing but unicode", slug: "組織", name: "x", wantSlug: "組織", wantName: "x"},
	{about: "a path", slug: "../x", name: "../../etc/passwd", wantInfix: "x", wantSlug: "../x", wantName: "../../etc/passwd"},
	{
		about: "newlines", slug: "a\nb", name: "Acme\nCLERK_PUBLISHABLE_KEY=pk_live_evil\r\n\x00\u202e",
		wantInfix: "a-b", wantSlug: "a b", wantName: "Acme CLERK_PUBLISHABLE_KEY=pk_live_evil",
	},
	{
		// The API server reads an apply as YAML, which refuses what Unicode has no characters for.
		about: "no characters", slug: "a\uffffb", name: "x\ufffe\u007f\u0085y\U0001fffe", wantInfix: "a-b", wantSlug: "a b", wantName: "x y",
	},
	{
		about: "YAML", slug: `x", "namespace": "kube-system`, name: "x\"\n  namespace: kube-system\n---\nkind: ClusterRoleBinding # {{.}} $(id)",
		wantInfix: "x-namespace-kube-system", wantSlug: `x", "namespace": "kube-system`,
		wantName: `x" namespace: kube-system --- kind: ClusterRoleBinding # {{.}} $(id)`,
	},
	{
		about: "10 kB", slug: strings.Repeat("-", 10<<10), name: strings.Repeat("n", 10<<10),
		wantSlug: strings.Repeat("-", 256), wantName: strings.Repeat("n", 256),
	},
}

func TestHostileOrganizations_areTenantsLikeAnyOther(t *testing.T) {
	w := newWorld(t)
	names := w.namespaces()
	others := map[string]string{}
	for _, name := range []string{"default", "kube-system", "kube-public", "clerk-operator-system"} {
		others[name] = get(w, namespaceObject(name)).ResourceVersion
	}
	organizations := make([]payload.Organization, 0, len(hostile))
	ids := make([]string, 0, len(hostile))
	for range hostile {
		o := w.newOrganization("")
		organizations, ids = append(organizations, o), append(ids, o.ID)
	}
	w.class(ids)
	for i, tc := range hostile {
		data := organizations[i].Data()
		data["slug"], data["name"] = tc.slug, tc.name
		w.happen("organization.created", data)
	}

	for i, tc := range hostile {
		name := w.provisioned(ids[i])
		names = append(names, name)
		w.Expect(validation.IsDNS1123Label(name)).To(BeEmpty(), tc.about)
		w.Expect(name).To(Equal(tenant.NamespaceName("e2e-", get(w, w.organizationObject(ids[i])))), tc.about)
		infix := tc.wantInfix
		if infix == "" {
			infix = strings.ToLower(strings.TrimPrefix(ids[i], "org_"))
		}
		w.Expect(name).To(MatchRegexp("^e2e-"+infix+"-[a-z2-7]{5}$"), tc.about)
		w.Expect(text(w.secretOf(name))).To(Equal(map[string]string{
			"CLERK_ORGANIZATION_ID":              ids[i],
			"CLERK_ORGANIZATION_SLUG":            tc.wantSlug,
			"CLERK_ORGANIZATION_NAME":            tc.wantName,
			"CLERK_ORGANIZATION_PUBLIC_METADATA": "{}",
			"CLERK_INSTANCE_ID":                  "",
			"CLERK_PUBLISHABLE_KEY":              "",
			"CLERK_FRONTEND_API_URL":             "",
			"CLERK_JWKS_URL":                     "",
		}), tc.about)
	}
	for _, name := range w.namespaces() {
		w.Expect(slices.Contains(names, name)).To(BeTrue(), "namespace %s came from nowhere", name)
	}
	for name, version := range others {
		w.Expect(get(w, namespaceObject(name)).ResourceVersion).To(Equal(version), name)
	}
}

func TestTenant_keepsItsNamespaceWhenTheSlugChanges(t *testing.T) {
	w := newWorld(t)
	o, namespace := w.tenant("before")
	uid := get(w, namespaceObject(namespace)).UID
	names := w.namespaces()
	o.Slug, o.UpdatedAt = "kube-system", w.tick()
	w.happen("organization.updated", o.Data())

	w.Eventually(func() string { return text(w.secretOf(namespace))["CLERK_ORGANIZATION_SLUG"] }).Should(Equal("kube-system"))
	w.Expect(w.provisioned(o.ID)).To(Equal(namespace))
	w.Expect(get(w, namespaceObject(namespace)).UID).To(Equal(uid))
	w.Expect(w.namespaces()).To(HaveEach(BeElementOf(names)))
}

// It runs beside the others: that a name is free again is found out within a minute where no watch tells.
func TestForeignNamespace_isLeftAloneAndWaitedFor(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		about  string
		labels func(organizationID string) map[string]string
	}{
		{"a namespace of somebody else", func(string) map[string]string { return nil }},
		{"one that claims to be the organization's", managed},
	} {
		t.Run(tc.about, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			o := w.newOrganization("foreign")
			mirrored := &clerkv1alpha1.ClerkOrganization{}
			mirrored.Spec.InstanceName, mirrored.Spec.OrganizationID, mirrored.Spec.Slug = w.instanceName, o.ID, o.Slug
			foreign := namespaceObject(tenant.NamespaceName("e2e-", mirrored))
			foreign.Labels = tc.labels(o.ID)
			w.create(foreign)
			w.wantConflict(o, get(w, foreign))
		})
	}
}

// wantConflict checks that an organization does not become a tenant while a foreign namespace has its name.
func (w *world) wantConflict(o payload.Organization, foreign *corev1.Namespace) {
	w.t.Helper()
	w.class([]string{o.ID})
	u := w.user()
	w.join(u, o, "org:admin")
	w.happen("organization.created", o.Data())
	w.Eventually(stored(w, w.organizationObject(o.ID))).Should(And(
		beReady(metav1.ConditionFalse, clerkv1alpha1.ReasonNamespaceConflict),
		haveCondition(clerkv1alpha1.ConditionNamespaceReady, metav1.ConditionFalse, clerkv1alpha1.ReasonNamespaceConflict),
	))
	w.Consistently(stored(w, foreign)).Should(HaveField("ResourceVersion", foreign.ResourceVersion))
	w.Expect(w.levelOf(u.ID, foreign.Name)).To(Equal(none))
	w.Expect(w.bindings(foreign.Name)()).To(BeEmpty())

	w.Expect(suite.client.Delete(w.t.Context(), foreign)).To(Succeed())
	w.Eventually(stored(w, w.organizationObject(o.ID)), 2*timeout).
		Should(beReady(metav1.ConditionTrue, clerkv1alpha1.ReasonProvisioned))
	w.Expect(get(w, foreign).UID).NotTo(Equal(foreign.UID))
	w.Eventually(w.level(u.ID, foreign.Name)).Should(Equal(admin))
}
