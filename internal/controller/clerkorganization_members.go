// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"context"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	clerkv1alpha1 "github.com/clerk-operator/clerk-operator/api/v1alpha1"
	"github.com/clerk-operator/clerk-operator/internal/access"
	"github.com/clerk-operator/clerk-operator/internal/clerk"
	"github.com/clerk-operator/clerk-operator/internal/mirror"
	"github.com/clerk-operator/clerk-operator/internal/tenant"
)

// member is a membership with its user, nil when there is none.
type member struct {
	membership *clerkv1alpha1.ClerkOrganizationMembership
	user       *clerkv1alpha1.ClerkUser
}

// membersOf returns an organization's memberships with their users. A membership or a user with a tombstone does not
// count, however long the object still lives.
func (b *base) membersOf(ctx context.Context, organization *clerkv1alpha1.ClerkOrganization) ([]member, error) {
	items, err := memberships(ctx, b.client,
		client.MatchingFields{indexOrganizationID: organization.Spec.OrganizationID})
	if err != nil {
		return nil, fmt.Errorf("listing memberships: %w", err)
	}
	members := make([]member, 0, len(items))
	for i := range items {
		m := &items[i]
		if m.Spec.InstanceName != organization.Spec.InstanceName {
			continue
		}
		dead, err := mirror.Deleted(ctx, b.client, m.Spec.InstanceName, m.Spec.MembershipID, m.Spec.UserID)
		if err != nil {
			return nil, err
		}
		if dead {
			continue
		}
		user, err := b.userOf(ctx, m)
		if err != nil {
			return nil, err
		}
		members = append(members, member{membership: m, user: user})
	}
	return members, nil
}

// userOf returns a membership's user, nil when there is none.
func (b *base) userOf(
	ctx context.Context, m *clerkv1alpha1.ClerkOrganizationMembership,
) (*clerkv1alpha1.ClerkUser, error) {
	var user clerkv1alpha1.ClerkUser
	err := b.client.Get(ctx, client.ObjectKey{Name: clerk.ObjectName(m.Spec.InstanceName, m.Spec.UserID)}, &user)
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading user %s: %w", m.Spec.UserID, err)
	}
	return &user, nil
}

// grants asks for the decision on each member.
func grants(
	organization *clerkv1alpha1.ClerkOrganization, c *claim, members []member,
) tenant.Grants {
	all := make([]*clerkv1alpha1.ClerkOrganizationMembership, 0, len(members))
	for _, m := range members {
		all = append(all, m.membership)
	}
	current := access.Current(all)
	grants := tenant.Grants{}
	for _, m := range members {
		decision := access.Decide(access.Request{
			Membership:   m.membership,
			User:         m.user,
			Organization: organization,
			Class:        c.class,
			Suspended:    suspended(c.owner, c.config),
			Superseded:   current[m.membership.Spec.UserID] != m.membership,
		})
		for _, role := range decision.ClusterRoles {
			grants[role] = append(grants[role], m.membership.Spec.UserID)
		}
	}
	return grants
}
