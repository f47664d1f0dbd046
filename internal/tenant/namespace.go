// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package tenant

import (
	"cmp"
	"regexp"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"
	corev1ac "k8s.io/client-go/applyconfigurations/core/v1"

	clerkv1alpha1 "github.com/clerk-operator/clerk-operator/api/v1alpha1"
)

// podSecurityModes are what a violation of the namespace's Pod Security Standard leads to: all of them, so that
// people are warned before they are refused.
var podSecurityModes = []string{"enforce", "audit", "warn"}

// digestLength is how many characters of the digest of the organization's ID end a namespace's name.
const digestLength = 5

var notNameCharacters = regexp.MustCompile(`[^a-z0-9]+`)

// platforms begin the names of namespaces that are the platform's own, and that policies often exempt.
var platforms = []string{"kube-", "openshift"}

// NamespaceName returns the name of an organization's new namespace: <prefix><slug or ID>-<digest of the ID>, a DNS
// label of at most 63 characters whatever the slug is. The digest tells two organizations of one slug apart; should even
// the digests be the same, the second one finds the name taken. A slug that would make the name look like the
// platform's is left out.
func NamespaceName(prefix string, organization *clerkv1alpha1.ClerkOrganization) string {
	id := organization.Spec.OrganizationID
	room := validation.DNS1123LabelMaxLength - len(prefix) - 1 - digestLength
	fromID := nameOf(strings.TrimPrefix(id, "org_"), room)
	infix := cmp.Or(nameOf(organization.Spec.Slug, room), fromID)
	for _, platform := range platforms {
		if strings.HasPrefix(prefix+infix+"-", platform) {
			infix = fromID
		}
	}
	return prefix + infix + "-" + digest(id, digestLength)
}

// CanBeNamed says whether a namespace's name can be one that NamespaceName gave to an organization, whatever the class
// and the slug were.
func CanBeNamed(name string, organization *clerkv1alpha1.ClerkOrganization) bool {
	return strings.HasSuffix(name, "-"+digest(organization.Spec.OrganizationID, digestLength))
}

// nameOf reduces a string to lower-case letters, digits and single dashes.
func nameOf(s string, room int) string {
	s = strings.Trim(notNameCharacters.ReplaceAllString(strings.ToLower(s), "-"), "-")
	return strings.TrimRight(s[:min(len(s), room)], "-")
}

// Namespace returns an organization's namespace as its class wants it.
func Namespace(
	name string, organization *clerkv1alpha1.ClerkOrganization, class *clerkv1alpha1.ClerkTenantClass,
) *corev1ac.NamespaceApplyConfiguration {
	level := cmp.Or(class.Spec.Namespace.PodSecurity, clerkv1alpha1.PodSecurityRestricted)
	podSecurity := make(map[string]string, len(podSecurityModes))
	for _, mode := range podSecurityModes {
		podSecurity["pod-security.kubernetes.io/"+mode] = string(level)
	}
	// The operator's own labels and annotations come last: With… overwrites, and a class must not name another owner.
	return corev1ac.Namespace(name).
		WithLabels(plain(class.Spec.Namespace.Labels)).
		WithLabels(podSecurity).
		WithLabels(Labels(organization)).
		WithAnnotations(plain(class.Spec.Namespace.Annotations)).
		WithAnnotations(map[string]string{clerkv1alpha1.AnnotationOwnerUID: string(organization.UID)})
}

// plain turns a class's labels or annotations into those of an object.
func plain[V ~string](values map[string]V) map[string]string {
	result := make(map[string]string, len(values))
	for key, value := range values {
		result[key] = string(value)
	}
	return result
}
