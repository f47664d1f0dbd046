// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package backfill

import (
	"context"
	"errors"
	"time"

	"k8s.io/apimachinery/pkg/util/sets"

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
	// unjudged is neither, too: what Clerk says of just this object, or in its organization's listing, cannot be used. It is
	// no sign that anything else is wrong.
	unjudged verdict = "unjudged"
)

// prover asks Clerk for single objects. A user or an organization is gone when Clerk answers the GET of exactly this one
// with 404. A membership has no such GET. It is gone when its organization or its user is; or when its user's membership
// of the organization, asked for by both, is not this one, and the organization's own listing lacks it and has as many
// memberships as the organization says that it has members. What Clerk says in a way that cannot be used proves nothing, and is
// skipped.
type prover struct {
	api *clerkapi.Client
	// listsWork says that the sync's other listings had something in them, which a broken server's might not. It has to do
	// where an organization does not say how many members it has.
	listsWork bool

	users   map[string]verdict
	rosters map[string]*roster

	// skipped are the entries and responses that cannot be used; invalidResponses are the errors of the latter.
	skipped          []clerkv1alpha1.SkippedEntry
	invalidResponses []error
}

// roster is who is a member of an organization.
type roster struct {
	verdict verdict
	// complete says that the memberships are as many as Clerk says there are.
	complete bool
	// listed are the IDs of all, memberships those that can be used. nameless says that some have no ID: any may be one.
	listed      sets.Set[string]
	memberships map[string]*clerk.Membership
	nameless    bool
	readAt      time.Time
}

func newProver(api *clerkapi.Client, listsWork bool) *prover {
	return &prover{api: api, listsWork: listsWork, users: map[string]verdict{}, rosters: map[string]*roster{}}
}

// malformed returns the first error of a response that cannot be used; nil when there was none.
func (p *prover) malformed() error {
	if len(p.invalidResponses) == 0 {
		return nil
	}
	return p.invalidResponses[0]
}

// skips notes that a response about an object cannot be used, and reports whether that is what an error says.
func (p *prover) skips(err error, kind clerk.Kind, id string) bool {
	if !errors.Is(err, clerkapi.ErrMalformed) {
		return false
	}
	p.invalidResponses = append(p.invalidResponses, err)
	p.skipped = append(p.skipped, skippedEntry(kind, id, reasonInvalidResponse))
	return true
}

// skipInvalid notes entries of a listing of memberships that cannot be used.
func (p *prover) skipInvalid(entries []clerkapi.Entry) {
	for _, entry := range entries {
		p.skipped = append(p.skipped, skippedEntry(clerk.KindMembership, entry.ID, entry.Reason))
	}
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
		if p.skips(err, clerk.KindUser, o.Spec.UserID) {
			return unjudged, nil, nil
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
		if p.skips(err, clerk.KindOrganization, o.Spec.OrganizationID) {
			p.rosters[o.Spec.OrganizationID] = &roster{verdict: unjudged}
			return unjudged, nil, nil
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
	case roster.nameless || roster.listed.Has(o.Spec.MembershipID):
		return unjudged, nil, nil
	case !roster.complete:
		return unproven, nil, nil
	}
	other, invalid, err := p.api.MembershipOf(ctx, o.Spec.OrganizationID, o.Spec.UserID)
	p.skipInvalid(invalid)
	switch {
	case p.skips(err, clerk.KindMembership, o.Spec.MembershipID):
		return unjudged, nil, nil
	case err != nil:
		return "", nil, err
	case other != nil && other.ID == o.Spec.MembershipID:
		return alive, other.Object(source), nil
	case len(invalid) > 0:
		return unjudged, nil, nil
	}
	return gone, nil, nil
}

// rosterOf reads an organization and all its memberships, once.
func (p *prover) rosterOf(ctx context.Context, organizationID string) (*roster, error) {
	if known := p.rosters[organizationID]; known != nil {
		return known, nil
	}
	r := &roster{verdict: unjudged}
	_, _, count, err := p.api.Organization(ctx, organizationID)
	switch {
	case clerkapi.IsNotFound(err):
		r.verdict = gone
	case p.skips(err, clerk.KindOrganization, organizationID):
	case err != nil:
		return nil, err
	default:
		if r, err = p.readRoster(ctx, organizationID, count); err != nil {
			return nil, err
		}
	}
	p.rosters[organizationID] = r
	return r, nil
}

// readRoster reads the memberships of an organization, of which Clerk counts as many; less than none where it does not.
func (p *prover) readRoster(ctx context.Context, organizationID string, count int) (*roster, error) {
	r := &roster{verdict: alive, listed: sets.New[string](), memberships: map[string]*clerk.Membership{}}
	offset, total := 0, 1
	for offset < total {
		page, err := p.api.MembershipsOf(ctx, organizationID, offset)
		if p.skips(err, clerk.KindOrganization, organizationID) {
			return &roster{verdict: unjudged}, nil
		}
		if err != nil {
			return nil, err
		}
		p.skipInvalid(page.Invalid())
		offset, total = offset+len(page.Entries), page.Total
		if !r.add(page) {
			break
		}
	}
	r.complete = r.listed.Len() == count || count < 0 && p.listsWork && r.listed.Len() == total
	return r, nil
}

// add adds a page, and reports whether it brought anything new.
func (r *roster) add(page clerkapi.Page[*clerk.Membership]) bool {
	before := r.listed.Len()
	for _, entry := range page.Entries {
		if entry.ID == "" {
			r.nameless = true
			continue
		}
		r.listed.Insert(entry.ID)
	}
	for _, membership := range page.Items {
		r.memberships[membership.ID] = membership
	}
	r.readAt = page.ReadAt
	return r.listed.Len() > before
}
