// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package tenant

import (
	"cmp"
	"regexp"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	corev1ac "k8s.io/client-go/applyconfigurations/core/v1"

	clerkv1alpha1 "github.com/clerk-operator/clerk-operator/api/v1alpha1"
)

// podSecurityModes are what a violation of the namespace's Pod Security Standard leads to: all of them, so that
// people are warned before they are refused.
var podSecurityModes = []string{"enforce", "audit", "warn"}

// digestLength is how many characters of the digest of an owner end a namespace's name.
const digestLength = 5

var notNameCharacters = regexp.MustCompile(`[^a-z0-9]+`)

// platforms begin the names of namespaces that are the platform's own, and that policies often exempt.
var platforms = []string{"kube-", "openshift"}

// NamespaceName returns the name of an owner's new namespace: <prefix><slug or ID>-<digest of the owner>, a DNS label of
// at most 63 characters whatever the slug is. The digest tells two organizations of one slug apart; should even the digests
// be the same, the second one finds the name taken. A slug that would make the name look like the platform's is left
// out. Nothing of a user but the ID is part of a name: names are seen by many.
func NamespaceName(prefix string, owner Owner) string {
	id := owner.GetClerkID()
	room := validation.DNS1123LabelMaxLength - len(prefix) - 1 - digestLength
	fromID := nameOf(id[strings.Index(id, "_")+1:], room)
	infix := fromID
	if organization, ok := owner.(*clerkv1alpha1.ClerkOrganization); ok {
		infix = cmp.Or(nameOf(organization.Spec.Slug, room), fromID)
	}
	if IsPlatform(prefix + infix + "-") {
		infix = fromID
	}
	return prefix + infix + "-" + ownerDigest(owner)
}

// CanBeNamed says whether a namespace's name can be one that NamespaceName gave to an owner, whatever the class and the
// slug were.
func CanBeNamed(name string, owner Owner) bool {
	return strings.HasSuffix(name, "-"+ownerDigest(owner))
}

// ownerDigest is the digest of an owner's ID, and of its instance unless that is the default one.
func ownerDigest(owner Owner) string {
	if owner.GetMirrored().InstanceName == clerkv1alpha1.DefaultInstanceName {
		return digest(owner.GetClerkID(), digestLength)
	}
	return digest(Key(owner), digestLength)
}

// IsPlatform says whether a namespace's name is one of the platform's own.
func IsPlatform(name string) bool {
	return name == metav1.NamespaceDefault || slices.ContainsFunc(platforms, func(platform string) bool {
		return strings.HasPrefix(name, platform)
	})
}

// nameOf reduces a string to lower-case letters, digits and single dashes.
func nameOf(s string, room int) string {
	s = strings.Trim(notNameCharacters.ReplaceAllString(strings.ToLower(s), "-"), "-")
	return strings.TrimRight(s[:min(len(s), room)], "-")
}

// Namespace returns an owner's namespace as its class wants it.
func Namespace(name string, owner Owner, class *clerkv1alpha1.ClerkTenantClass) *corev1ac.NamespaceApplyConfiguration {
	level := cmp.Or(class.Spec.Namespace.PodSecurity, clerkv1alpha1.PodSecurityRestricted)
	podSecurity := make(map[string]string, len(podSecurityModes))
	for _, mode := range podSecurityModes {
		podSecurity["pod-security.kubernetes.io/"+mode] = string(level)
	}
	// The operator's own labels and annotations come last: With… overwrites, and a class must not name another owner.
	return corev1ac.Namespace(name).
		WithLabels(plain(class.Spec.Namespace.Labels)).
		WithLabels(podSecurity).
		WithLabels(Labels(owner)).
		WithAnnotations(plain(class.Spec.Namespace.Annotations)).
		WithAnnotations(ownersAnnotations(owner))
}

func ownersAnnotations(owner Owner) map[string]string {
	annotations := map[string]string{clerkv1alpha1.AnnotationOwnerUID: string(owner.GetUID())}
	if owner.GetAnnotations()[clerkv1alpha1.AnnotationProtected] == "true" {
		annotations[clerkv1alpha1.AnnotationProtected] = "true"
	}
	return annotations
}

// plain turns a class's labels or annotations into those of an object.
func plain[V ~string](values map[string]V) map[string]string {
	result := make(map[string]string, len(values))
	for key, value := range values {
		result[key] = string(value)
	}
	return result
}
