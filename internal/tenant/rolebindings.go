// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package tenant

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strings"

	rbacv1 "k8s.io/api/rbac/v1"
	rbacv1ac "k8s.io/client-go/applyconfigurations/rbac/v1"

	"github.com/clerk-operator/clerk-operator/internal/access"
)

// MaxSubjects is how many subjects one RoleBinding holds before it is split.
const MaxSubjects = 500

// Grants are the users that hold each ClusterRole: user IDs by the ClusterRole's name.
type Grants map[string][]string

// RoleBindings returns the bindings of a tenant's namespace: one for each ClusterRole, or where more than
// MaxSubjects hold it one for each prefix of the hexadecimal digest of the user's ID that is short enough to fit. A
// member's binding so depends on the member and the number of members alone. Sorted by name.
func RoleBindings(
	namespace string, owner Owner, usernamePrefix string, grants Grants,
) []*rbacv1ac.RoleBindingApplyConfiguration {
	var bindings []*rbacv1ac.RoleBindingApplyConfiguration
	for clusterRole, userIDs := range grants {
		for shard, members := range shards(userIDs) {
			binding := rbacv1ac.RoleBinding(bindingName(clusterRole, shard), namespace).
				WithLabels(Labels(owner)).
				WithRoleRef(rbacv1ac.RoleRef().
					WithAPIGroup(rbacv1.GroupName).WithKind("ClusterRole").WithName(clusterRole))
			for _, userID := range members {
				binding.WithSubjects(rbacv1ac.Subject().
					WithAPIGroup(rbacv1.GroupName).WithKind(rbacv1.UserKind).
					WithName(access.Username(usernamePrefix, userID)))
			}
			bindings = append(bindings, binding)
		}
	}
	slices.SortFunc(bindings, func(a, b *rbacv1ac.RoleBindingApplyConfiguration) int {
		return cmp.Compare(*a.Name, *b.Name)
	})
	return bindings
}

// roleDigestLength is how many characters of its digest end the name of a role that is too long.
const roleDigestLength = 10

// maxBindingRole is how much of a ClusterRole's name a binding's name has room for beside the longest shard.
const maxBindingRole = 253 - len("clerk..") - sha256.Size*2

// bindingName begins with clerk so that it is told from what tenants make, and holds the role, since a binding's role
// cannot be changed: clerk-<role>, or clerk.<shard>.<role>. A shard has neither dots nor dashes, so that no role's
// name can make two bindings meet. A role whose name is too long is named by a part of it and its digest.
func bindingName(clusterRole, shard string) string {
	if room := maxBindingRole - 1 - roleDigestLength; len(clusterRole) > room {
		clusterRole = strings.ToValidUTF8(clusterRole[:room], "") + "-" + digest(clusterRole, roleDigestLength)
	}
	if shard == "" {
		return "clerk-" + clusterRole
	}
	return "clerk." + shard + "." + clusterRole
}

// shards divides users by the shortest prefixes of their digests that leave at most MaxSubjects together. The users of
// each shard are sorted.
func shards(userIDs []string) map[string][]string {
	members := make(map[string]string, len(userIDs))
	for _, id := range userIDs {
		sum := sha256.Sum256([]byte(id))
		members[id] = hex.EncodeToString(sum[:])
	}
	result := map[string][]string{}
	split("", slices.Compact(slices.Sorted(slices.Values(userIDs))), members, result)
	return result
}

func split(prefix string, userIDs []string, digests map[string]string, into map[string][]string) {
	if len(userIDs) <= MaxSubjects {
		if len(userIDs) > 0 {
			into[prefix] = userIDs
		}
		return
	}
	parts := map[string][]string{}
	for _, id := range userIDs {
		next := digests[id][:len(prefix)+1]
		parts[next] = append(parts[next], id)
	}
	for next, part := range parts {
		split(next, part, digests, into)
	}
}
