// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package tenant_test

import (
	"flag"
	"os"
	"path/filepath"
	"testing"

	. "github.com/onsi/gomega"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	clerkv1alpha1 "github.com/clerk-operator/clerk-operator/api/v1alpha1"
	"github.com/clerk-operator/clerk-operator/internal/tenant"
)

var update = flag.Bool("update", false, "write the golden files instead of comparing with them")

const organizationID = "org_2g7npKLq8vT0NmEYw5uZxRfAbCd"

func organization() *clerkv1alpha1.ClerkOrganization {
	return &clerkv1alpha1.ClerkOrganization{
		ObjectMeta: metav1.ObjectMeta{Name: "org-2g7npklq8vt0nmeyw5uzxrfabcd", UID: "0b5f7a0e-organization"},
		Spec: clerkv1alpha1.ClerkOrganizationSpec{
			Mirrored:       clerkv1alpha1.Mirrored{InstanceName: "default"},
			OrganizationID: organizationID,
			Name:           `Acme "Räder": & Söhne`,
			Slug:           "acme-raeder",
			PublicMetadata: &apiextensionsv1.JSON{Raw: []byte(`{"plan":"pro","seats":9007199254740993}`)},
			Billing:        clerkv1alpha1.Billing{Plan: "gold"},
		},
	}
}

func user() *clerkv1alpha1.ClerkUser {
	return &clerkv1alpha1.ClerkUser{
		ObjectMeta: metav1.ObjectMeta{
			Name: "user-2g7np7hrk0sn6kj5edmldaknl0s", UID: "0b5f7a0e-user",
			Annotations: map[string]string{clerkv1alpha1.AnnotationProtected: "true"},
		},
		Spec: clerkv1alpha1.ClerkUserSpec{
			Mirrored: clerkv1alpha1.Mirrored{InstanceName: "default"},
			UserID:   "user_2g7np7Hrk0SN6kj5EDMLDaKNL0S", Email: "amalia@example.com", Username: "amalia", FirstName: "Amalia",
			ExternalID:     "employee-7",
			PublicMetadata: &apiextensionsv1.JSON{Raw: []byte(`{"plan":"pro"}`)},
		},
	}
}

func instance() *clerkv1alpha1.ClerkInstance {
	return &clerkv1alpha1.ClerkInstance{
		ObjectMeta: metav1.ObjectMeta{Name: "default"},
		Spec: clerkv1alpha1.ClerkInstanceSpec{
			InstanceID: "ins_2g7np7Hrk0SN6kj5EDMLDaKNL0S",
			TenantEnvironment: clerkv1alpha1.ClerkInstanceTenantEnvironment{
				PublishableKey: "pk_live_Y2xlcmsuZXhhbXBsZS5jb20k", FrontendAPIURL: "https://clerk.example.com",
			},
		},
	}
}

func class() *clerkv1alpha1.ClerkTenantClass {
	return &clerkv1alpha1.ClerkTenantClass{
		ObjectMeta: metav1.ObjectMeta{Name: "standard"},
		Spec: clerkv1alpha1.ClerkTenantClassSpec{
			Selector: &clerkv1alpha1.ClerkTenantClassSelector{},
			Namespace: clerkv1alpha1.ClerkTenantClassNamespace{
				Prefix:      "org-",
				Labels:      map[string]clerkv1alpha1.LabelValue{"example.com/cost-centre": "tenants"},
				Annotations: map[string]clerkv1alpha1.AnnotationValue{"example.com/contact": "platform@example.com"},
			},
		},
	}
}

// ownLabels are the labels that every object of the organization carries.
var ownLabels = map[string]string{
	"app.kubernetes.io/managed-by":       "clerk-operator",
	"clerk-operator.dev/instance":        "default",
	"clerk-operator.dev/organization-id": organizationID,
}

func expectGolden(g Gomega, name string, object any) {
	rendered, err := yaml.Marshal(object)
	g.Expect(err).NotTo(HaveOccurred())
	path := filepath.Join("testdata", name+".golden.yaml")
	if *update {
		g.Expect(os.WriteFile(path, rendered, 0o600)).To(Succeed())
	}
	want, err := os.ReadFile(path)
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(string(rendered)).To(Equal(string(want)))
}

func TestGolden(t *testing.T) {
	baseline, bare := class(), organization()
	baseline.Spec.Namespace = clerkv1alpha1.ClerkTenantClassNamespace{
		Prefix: "org-", PodSecurity: clerkv1alpha1.PodSecurityBaseline,
	}
	bare.Spec.Slug, bare.Spec.Name, bare.Spec.PublicMetadata = "", "", nil
	for name, object := range map[string]any{
		"namespace":           tenant.Namespace("org-acme-raeder-abcde", organization(), class()),
		"namespace-baseline":  tenant.Namespace("org-acme-raeder-abcde", organization(), baseline),
		"secret":              tenant.Secret("org-acme-raeder-abcde", organization(), instance()),
		"secret-bare":         tenant.Secret("org-acme-raeder-abcde", bare, &clerkv1alpha1.ClerkInstance{}),
		"namespace-of-a-user": tenant.Namespace("own-abc-abcde", user(), class()),
		"secret-of-a-user":    tenant.Secret("own-abc-abcde", user(), instance()),
		"rolebindings": tenant.RoleBindings("org-acme-raeder-abcde", organization(), "clerk:", tenant.Grants{
			"view":  {"user_C"},
			"admin": {"user_B", "user_A", "user_B"},
			"edit":  nil,
		}),
	} {
		t.Run(name, func(t *testing.T) { expectGolden(NewWithT(t), name, object) })
	}
}
