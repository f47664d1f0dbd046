// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package access decides who may do what in a tenant: from a membership, its user, its organization and the
// organization's class it derives the ClusterRoles that the member holds, or the reason for none. It is pure, and the
// only place where that decision is made.
package access

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	clerkv1alpha1 "github.com/clerk-operator/clerk-operator/api/v1alpha1"
)

// Request is everything that a decision depends on. An object that does not exist is nil.
type Request struct {
	Membership   *clerkv1alpha1.ClerkOrganizationMembership
	User         *clerkv1alpha1.ClerkUser
	Organization *clerkv1alpha1.ClerkOrganization
	Class        *clerkv1alpha1.ClerkTenantClass
	// Suspended says that the platform team has taken everybody's access to the tenant away.
	Suspended bool
	// Superseded says that the user has a newer membership of the same organization.
	Superseded bool
}

// Decision is what a member holds: ClusterRoles, sorted and without duplicates, or none and the reason why.
type Decision struct {
	ClusterRoles []string
	// Reason is a condition reason: empty when access is granted.
	Reason string
	// Message explains the reason with IDs only.
	Message string
}

// Granted says whether the member holds anything.
func (d Decision) Granted() bool { return len(d.ClusterRoles) > 0 }

// Decide returns what a member holds. Whatever is missing, going away or unclear is a reason for nothing.
func Decide(r Request) Decision {
	m := r.Membership
	switch {
	case !m.DeletionTimestamp.IsZero():
		return none(clerkv1alpha1.ReasonDeleting, "the membership is being deleted")
	case r.Superseded:
		return none(clerkv1alpha1.ReasonSuperseded, "user %s has a newer membership of this organization", m.Spec.UserID)
	case r.User == nil || r.User.Spec.UserID != m.Spec.UserID || r.User.Spec.InstanceName != m.Spec.InstanceName:
		return none(clerkv1alpha1.ReasonWaitingForUser, "no ClerkUser has the ID %s yet", m.Spec.UserID)
	case r.Organization == nil || r.Organization.Spec.OrganizationID != m.Spec.OrganizationID ||
		r.Organization.Spec.InstanceName != m.Spec.InstanceName:
		return none(clerkv1alpha1.ReasonWaitingForOrganization,
			"no ClerkOrganization has the ID %s yet", m.Spec.OrganizationID)
	case !r.User.DeletionTimestamp.IsZero():
		return none(clerkv1alpha1.ReasonUserDeleting, "user %s is being deleted", m.Spec.UserID)
	case !r.Organization.DeletionTimestamp.IsZero():
		return none(clerkv1alpha1.ReasonOrganizationDeleting, "organization %s is being deleted", m.Spec.OrganizationID)
	case r.User.Suspended():
		return none(clerkv1alpha1.ReasonUserSuspended, suspendedMessage, m.Spec.UserID)
	case r.Suspended:
		return none(clerkv1alpha1.ReasonTenantSuspended, "organization %s or its ClerkInstance is suspended", m.Spec.OrganizationID)
	case r.Class == nil:
		return none(clerkv1alpha1.ReasonNoTenantClass, "no ClerkTenantClass selects organization %s", m.Spec.OrganizationID)
	}
	roles := clusterRoles(r.Class, m.Spec.Role)
	if len(roles) == 0 {
		return none(clerkv1alpha1.ReasonRoleNotMapped,
			"ClerkTenantClass %s maps the role %q to no ClusterRole; list it in spec.access to grant it something",
			r.Class.Name, m.Spec.Role)
	}
	return Decision{ClusterRoles: roles}
}

// DecideOwner returns what a user holds in a namespace of the user's own.
func DecideOwner(user *clerkv1alpha1.ClerkUser, class *clerkv1alpha1.ClerkTenantClass, suspended bool) Decision {
	switch {
	case !user.DeletionTimestamp.IsZero():
		return none(clerkv1alpha1.ReasonUserDeleting, "user %s is being deleted", user.Spec.UserID)
	case user.Suspended():
		return none(clerkv1alpha1.ReasonUserSuspended, suspendedMessage, user.Spec.UserID)
	case suspended:
		return none(clerkv1alpha1.ReasonTenantSuspended, "user %s's tenant or its ClerkInstance is suspended", user.Spec.UserID)
	case class == nil:
		return none(clerkv1alpha1.ReasonNoTenantClass, "no ClerkTenantClass selects user %s", user.Spec.UserID)
	}
	roles := clusterRoles(class, clerkv1alpha1.RoleOwner)
	if len(roles) == 0 {
		return none(clerkv1alpha1.ReasonRoleNotMapped,
			"ClerkTenantClass %s maps the role %s to no ClusterRole; list it in spec.access", class.Name, clerkv1alpha1.RoleOwner)
	}
	return Decision{ClusterRoles: roles}
}

// suspendedMessage explains ReasonUserSuspended.
const suspendedMessage = "user %s is banned or deprovisioned in Clerk, or the ClerkUser lacks spec.banned"

func none(reason, format string, args ...any) Decision {
	return Decision{Reason: reason, Message: fmt.Sprintf(format, args...)}
}

// clusterRoles returns what a class maps a role to. Role keys are compared without org:, which older instances of
// Clerk do not write.
func clusterRoles(class *clerkv1alpha1.ClerkTenantClass, role string) []string {
	var roles []string
	for _, entry := range class.Spec.Access {
		if role != "" && strings.TrimPrefix(entry.Role, "org:") == strings.TrimPrefix(role, "org:") {
			roles = append(roles, entry.ClusterRoles...)
		}
	}
	slices.Sort(roles)
	return slices.Compact(roles)
}

// Current returns the memberships that count, the newest of each user, by user ID. Clerk gives a user who leaves and
// joins again a membership with a new ID; until the deletion of the old one is heard of, both exist here.
func Current(memberships []*clerkv1alpha1.ClerkOrganizationMembership) map[string]*clerkv1alpha1.ClerkOrganizationMembership {
	current := make(map[string]*clerkv1alpha1.ClerkOrganizationMembership, len(memberships))
	for _, m := range memberships {
		if other, ok := current[m.Spec.UserID]; !ok || newer(m, other) {
			current[m.Spec.UserID] = m
		}
	}
	return current
}

func newer(a, b *clerkv1alpha1.ClerkOrganizationMembership) bool {
	return cmp.Or(
		created(a).Compare(created(b).Time),
		a.Spec.UpdatedAt.Compare(b.Spec.UpdatedAt.Time),
		cmp.Compare(a.Spec.MembershipID, b.Spec.MembershipID),
	) > 0
}

func created(m *clerkv1alpha1.ClerkOrganizationMembership) clerkv1alpha1.Timestamp {
	if m.Spec.CreatedAt == nil {
		return m.Spec.UpdatedAt
	}
	return *m.Spec.CreatedAt
}

// Username returns the name by which the Kubernetes API server knows a user: the instance's prefix and the user's ID,
// never anything that the user can change.
func Username(prefix, userID string) string { return prefix + userID }

// UserID returns what stands for the Clerk user ID in a username, whatever its prefix, and false where nothing does. It
// is for finding things, and grants nothing.
func UserID(username string) (string, bool) {
	at := strings.LastIndex(username, "user_")
	if at < 0 {
		return "", false
	}
	return username[at:], true
}
