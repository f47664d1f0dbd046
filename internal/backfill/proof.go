// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package backfill

import (
	"context"
	"time"

	clerkv1alpha1 "github.com/clerk-operator/clerk-operator/api/v1alpha1"
	"github.com/clerk-operator/clerk-operator/internal/clerk"
	"github.com/clerk-operator/clerk-operator/internal/clerkapi"
	"github.com/clerk-operator/clerk-operator/internal/mirror"
)

// verdict is what Clerk says of one object when it is asked for that one.
type verdict string

const (
	alive verdict = "alive"
	gone  verdict = "gone"
	// cascaded is gone because its user or organization is, which is mirrored, too: the cluster's own cascade takes it.
	cascaded verdict = "cascaded"
	// unproven is neither: what Clerk says does not fit together.
	unproven verdict = "unproven"
)

// prover asks Clerk for single objects. A user or an organization is gone when Clerk answers the GET of exactly this one
// with 404. A membership has no such GET. It is gone when its organization or its user is; or when its user's membership
// of the organization, asked for by both, is not this one, and the organization's own listing lacks it and has as many
// memberships as the organization says that it has members.
type prover struct {
	api *clerkapi.Client
	// listsWork says that the sync's other listings had something in them, which a broken server's might not. It has to do
	// where an organization does not say how many members it has.
	listsWork bool

	users   map[string]verdict
	rosters map[string]*roster
}

// roster is who is a member of an organization.
type roster struct {
	verdict verdict
	// complete says that the memberships are as many as Clerk says there are.
	complete    bool
	memberships map[string]*clerk.Membership
	readAt      time.Time
}

func newProver(api *clerkapi.Client, listsWork bool) *prover {
	return &prover{api: api, listsWork: listsWork, users: map[string]verdict{}, rosters: map[string]*roster{}}
}

// prove asks Clerk for one mirrored object. Of one that is alive it returns the present state.
func (p *prover) prove(ctx context.Context, o mirror.Object, source clerk.Source) (verdict, *clerk.Object, error) {
	switch o := o.(type) {
	case *clerkv1alpha1.ClerkUser:
		user, readAt, err := p.api.User(ctx, o.Spec.UserID)
		if clerkapi.IsNotFound(err) {
			p.users[o.Spec.UserID] = gone
			return gone, nil, nil
		}
		if err != nil {
			return "", nil, err
		}
		source.EventTime = readAt
		return alive, user.Object(source), nil
	case *clerkv1alpha1.ClerkOrganization:
		organization, readAt, _, err := p.api.Organization(ctx, o.Spec.OrganizationID)
		if clerkapi.IsNotFound(err) {
			p.rosters[o.Spec.OrganizationID] = &roster{verdict: cascaded}
			return gone, nil, nil
		}
		if err != nil {
			return "", nil, err
		}
		source.EventTime = readAt
		return alive, organization.Object(source), nil
	case *clerkv1alpha1.ClerkOrganizationMembership:
		return p.proveMembership(ctx, o, source)
	}
	return unproven, nil, nil
}

func (p *prover) proveMembership(
	ctx context.Context, o *clerkv1alpha1.ClerkOrganizationMembership, source clerk.Source,
) (verdict, *clerk.Object, error) {
	if p.users[o.Spec.UserID] == gone {
		return cascaded, nil, nil
	}
	roster, err := p.rosterOf(ctx, o.Spec.OrganizationID)
	if err != nil {
		return "", nil, err
	}
	membership := roster.memberships[o.Spec.MembershipID]
	switch {
	case roster.verdict != alive:
		return roster.verdict, nil, nil
	case membership != nil:
		source.EventTime = roster.readAt
		return alive, membership.Object(source), nil
	case !roster.complete:
		return unproven, nil, nil
	}
	other, err := p.api.MembershipOf(ctx, o.Spec.OrganizationID, o.Spec.UserID)
	if err != nil {
		return "", nil, err
	}
	if other != nil && other.ID == o.Spec.MembershipID {
		return alive, other.Object(source), nil
	}
	return gone, nil, nil
}

// rosterOf reads an organization and all its memberships, once.
func (p *prover) rosterOf(ctx context.Context, organizationID string) (*roster, error) {
	if known := p.rosters[organizationID]; known != nil {
		return known, nil
	}
	_, _, count, err := p.api.Organization(ctx, organizationID)
	if clerkapi.IsNotFound(err) {
		p.rosters[organizationID] = &roster{verdict: gone}
		return p.rosters[organizationID], nil
	}
	if err != nil {
		return nil, err
	}
	r := &roster{verdict: alive, memberships: map[string]*clerk.Membership{}}
	offset, total := 0, 1
	for offset < total {
		page, err := p.api.MembershipsOf(ctx, organizationID, offset)
		if err != nil {
			return nil, err
		}
		for _, membership := range page.Items {
			r.memberships[membership.ID] = membership
		}
		offset, total, r.readAt = offset+page.Listed, page.Total, page.ReadAt
		if page.Listed == 0 {
			break
		}
	}
	r.complete = len(r.memberships) == count || count < 0 && p.listsWork && len(r.memberships) == total
	p.rosters[organizationID] = r
	return r, nil
}
