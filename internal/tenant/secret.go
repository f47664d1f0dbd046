// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package tenant

import (
	"encoding/json"

	corev1 "k8s.io/api/core/v1"
	corev1ac "k8s.io/client-go/applyconfigurations/core/v1"

	clerkv1alpha1 "github.com/clerk-operator/clerk-operator/api/v1alpha1"
)

// SecretName is the name of the Secret that tells a tenant's workloads who the tenant is.
const SecretName = "clerk-organization"

// Secret returns the Secret clerk-organization, with keys fit for envFrom. Every key is always there, empty when its
// value is not known, so that a workload may refer to it. Name, slug and metadata come from people in Clerk.
func Secret(
	namespace string, organization *clerkv1alpha1.ClerkOrganization, instance *clerkv1alpha1.ClerkInstance,
) *corev1ac.SecretApplyConfiguration {
	environment := instance.Spec.TenantEnvironment
	var jwksURL string
	if environment.FrontendAPIURL != "" {
		jwksURL = environment.FrontendAPIURL + "/.well-known/jwks.json"
	}
	metadata := []byte("{}")
	if organization.Spec.PublicMetadata != nil {
		metadata = organization.Spec.PublicMetadata.Raw
	}
	values := map[string]string{
		"CLERK_ORGANIZATION_ID":              organization.Spec.OrganizationID,
		"CLERK_ORGANIZATION_SLUG":            organization.Spec.Slug,
		"CLERK_ORGANIZATION_NAME":            organization.Spec.Name,
		"CLERK_ORGANIZATION_PUBLIC_METADATA": string(metadata),
		"CLERK_INSTANCE_ID":                  instance.Spec.InstanceID,
		"CLERK_PUBLISHABLE_KEY":              environment.PublishableKey,
		"CLERK_FRONTEND_API_URL":             environment.FrontendAPIURL,
		"CLERK_JWKS_URL":                     jwksURL,
	}
	data := make(map[string][]byte, len(values))
	for key, value := range values {
		data[key] = []byte(value)
	}
	return corev1ac.Secret(SecretName, namespace).
		WithLabels(Labels(organization)).
		WithType(corev1.SecretTypeOpaque).
		WithData(data)
}

// SecretCopy returns a tenant's copy of a Secret: its type and data, and none of its labels and annotations.
func SecretCopy(
	namespace string, organization *clerkv1alpha1.ClerkOrganization, source *corev1.Secret,
) *corev1ac.SecretApplyConfiguration {
	return corev1ac.Secret(source.Name, namespace).
		WithLabels(Labels(organization)).
		WithType(source.Type).
		WithData(source.Data)
}

// Hash returns a digest of apply configurations in the namespace with the given UID. It tells whether there is anything
// to write where the operator may not read what it wrote.
func Hash(secrets []*corev1ac.SecretApplyConfiguration, namespaceUID string) (string, error) {
	encoded, err := json.Marshal(secrets)
	if err != nil {
		return "", err
	}
	return digest(namespaceUID+string(encoded), 32), nil
}
