// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package clerk

import (
	"regexp"
	"strings"

	clerkv1alpha1 "github.com/clerk-operator/clerk-operator/api/v1alpha1"
)

// Kind is the kind of object that an ID names.
type Kind string

// The kinds that are mirrored; each is the prefix of its IDs.
const (
	KindUser         Kind = "user"
	KindOrganization Kind = "org"
	KindMembership   Kind = "orgmem"
)

// maxIDLength is what a Kubernetes label value can hold. Clerk's IDs have at most 34 characters.
const maxIDLength = 63

var idPattern = regexp.MustCompile(`^(user|org|orgmem)_[A-Za-z0-9]+$`)

// KindOf returns the kind that an ID names, and false where it is no ID of a mirrored kind. IDs become object names,
// labels and RBAC subjects, so nothing else than their exact form is let through.
func KindOf(id string) (Kind, bool) {
	if len(id) > maxIDLength || !idPattern.MatchString(id) {
		return "", false
	}
	prefix, _, _ := strings.Cut(id, "_")
	return Kind(prefix), true
}

// ObjectName returns the name of the object that mirrors an ID of a ClerkInstance, and of the ID's tombstone: the ID in
// lower case with _ replaced by -, and before it <instance>. unless the instance is the default one. So no instance can
// have, or bury, what is another's: an ID has no dot. Two IDs of one instance that differ only in case have the same name;
// the object's spec holds the true ID, and the API server refuses the second one.
func ObjectName(instanceName, id string) string {
	name := strings.ReplaceAll(strings.ToLower(id), "_", "-")
	if instanceName == clerkv1alpha1.DefaultInstanceName {
		return name
	}
	return instanceName + "." + name
}
