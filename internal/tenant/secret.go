// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package tenant

import (
	"encoding/json"

	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	corev1ac "k8s.io/client-go/applyconfigurations/core/v1"

	clerkv1alpha1 "github.com/clerk-operator/clerk-operator/api/v1alpha1"
)

// SecretName is the name of the Secret that tells a tenant's workloads who the tenant is.
const SecretName = "clerk-organization"

// Secret returns the Secret clerk-organization, with keys fit for envFrom. Every key is always there, empty when its
// value is not known, so that a workload may refer to it. Name, slug and metadata come from people in Clerk. A tenant that
// is a user alone has the user's ID and metadata in place of an organization's.
func Secret(namespace string, owner Owner, instance *clerkv1alpha1.ClerkInstance) *corev1ac.SecretApplyConfiguration {
	environment := instance.Spec.TenantEnvironment
	var jwksURL string
	if environment.FrontendAPIURL != "" {
		jwksURL = environment.FrontendAPIURL + "/.well-known/jwks.json"
	}
	values := identity(owner)
	values["CLERK_INSTANCE_ID"] = instance.PinnedInstanceID()
	values["CLERK_PUBLISHABLE_KEY"] = environment.PublishableKey
	values["CLERK_FRONTEND_API_URL"] = environment.FrontendAPIURL
	values["CLERK_JWKS_URL"] = jwksURL
	data := make(map[string][]byte, len(values))
	for key, value := range values {
		data[key] = []byte(value)
	}
	return corev1ac.Secret(SecretName, namespace).
		WithLabels(Labels(owner)).
		WithType(corev1.SecretTypeOpaque).
		WithData(data)
}

// identity says who a tenant is.
func identity(owner Owner) map[string]string {
	switch o := owner.(type) {
	case *clerkv1alpha1.ClerkUser:
		return map[string]string{
			"CLERK_USER_ID":              o.Spec.UserID,
			"CLERK_USER_PUBLIC_METADATA": string(metadataOf(o.Spec.PublicMetadata)),
		}
	case *clerkv1alpha1.ClerkOrganization:
		return map[string]string{
			"CLERK_ORGANIZATION_ID":              o.Spec.OrganizationID,
			"CLERK_ORGANIZATION_SLUG":            o.Spec.Slug,
			"CLERK_ORGANIZATION_NAME":            o.Spec.Name,
			"CLERK_ORGANIZATION_PUBLIC_METADATA": string(metadataOf(o.Spec.PublicMetadata)),
		}
	}
	return map[string]string{}
}

// metadataOf returns public metadata as JSON; an empty object where there is none.
func metadataOf(metadata *apiextensionsv1.JSON) []byte {
	if metadata == nil {
		return []byte("{}")
	}
	return metadata.Raw
}

// SecretCopy returns a tenant's copy of a Secret: its type and data, and none of its labels and annotations.
func SecretCopy(namespace string, owner Owner, source *corev1.Secret) *corev1ac.SecretApplyConfiguration {
	return corev1ac.Secret(source.Name, namespace).
		WithLabels(Labels(owner)).
		WithType(source.Type).
		WithData(source.Data)
}

// Hash returns a digest of the Secret of a tenant in the namespace with the given UID, and of those that are copied there. It
// tells whether there is anything to write where the operator may not read what it wrote. Whoever can see the digest must
// not be able to try out guesses of what is copied, so the source's UID is in it, which only those know who can read it.
func Hash(own *corev1ac.SecretApplyConfiguration, copied []corev1.Secret, namespaceUID string) (string, error) {
	content := make([]any, 0, 2+len(copied))
	content = append(content, namespaceUID, own)
	for i := range copied {
		content = append(content, []any{copied[i].Name, copied[i].UID, copied[i].Type, copied[i].Data})
	}
	encoded, err := json.Marshal(content)
	if err != nil {
		return "", err
	}
	return digest(string(encoded), 32), nil
}
