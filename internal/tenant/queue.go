// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package tenant

import (
	"cmp"
	"slices"

	clerkv1alpha1 "github.com/clerk-operator/clerk-operator/api/v1alpha1"
)

// Creator is who places in a class are charged to. An ID alone does not identify one: each instance has users of its own.
type Creator struct {
	// InstanceName is the name of the ClerkInstance.
	InstanceName string
	// ID is a Clerk user ID, or that of an organization whose creator is not known.
	ID string
}

// CreatorOf returns who an owner's place in a class is charged to: the user who created the organization, or the owner
// itself where that is not known.
func CreatorOf(owner Owner) Creator {
	creator := Creator{InstanceName: owner.GetMirrored().InstanceName, ID: owner.GetClerkID()}
	if organization, ok := owner.(*clerkv1alpha1.ClerkOrganization); ok && organization.Spec.CreatedBy != "" {
		creator.ID = organization.Spec.CreatedBy
	}
	return creator
}

// InTurn orders those who wait for a place in a class, and leaves out whom it may not have. Whoever has the fewest places
// already comes first, counting those before it in the queue, so that nobody can fill the queue for the others; then the
// one that was created first in Clerk. held is how many places each creator has, and atMost how many each may have, 0
// for any number.
func InTurn(waiting []Owner, held map[Creator]int, atMost int32) []Owner {
	waiting = slices.Clone(waiting)
	slices.SortFunc(waiting, byAge)
	rank := make(map[Owner]int, len(waiting))
	taken := map[Creator]int{}
	inTurn := waiting[:0]
	for _, owner := range waiting {
		creator := CreatorOf(owner)
		places := held[creator] + taken[creator]
		if atMost > 0 && places >= int(atMost) {
			continue
		}
		rank[owner] = places
		taken[creator]++
		inTurn = append(inTurn, owner)
	}
	slices.SortStableFunc(inTurn, func(a, b Owner) int { return cmp.Compare(rank[a], rank[b]) })
	return inTurn
}

// byAge orders by creation in Clerk; what Clerk does not tell the age of comes last.
func byAge(a, b Owner) int {
	at, bt := a.GetMirrored().CreatedAt, b.GetMirrored().CreatedAt
	switch {
	case at != nil && bt != nil:
		if order := at.Compare(bt.Time); order != 0 {
			return order
		}
	case at != nil:
		return -1
	case bt != nil:
		return 1
	}
	return cmp.Or(
		cmp.Compare(a.GetClerkID(), b.GetClerkID()),
		cmp.Compare(a.GetMirrored().InstanceName, b.GetMirrored().InstanceName),
	)
}
