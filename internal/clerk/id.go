// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package clerk

import (
	"regexp"
	"strings"
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

// ObjectName returns the name of the object that mirrors an ID: lower case, with _ replaced by -. Two IDs that differ
// only in case have the same name; the object's spec holds the true ID, and the API server refuses the second one.
func ObjectName(id string) string {
	return strings.ReplaceAll(strings.ToLower(id), "_", "-")
}
