// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package tenant

import (
	"cmp"
	"slices"

	clerkv1alpha1 "github.com/clerk-operator/clerk-operator/api/v1alpha1"
)

// CreatorOf returns who an owner's place in a class is charged to: the user who created the organization, or the owner
// itself where that is not known.
func CreatorOf(owner Owner) string {
	if organization, ok := owner.(*clerkv1alpha1.ClerkOrganization); ok && organization.Spec.CreatedBy != "" {
		return organization.Spec.CreatedBy
	}
	return owner.GetClerkID()
}

// InTurn orders those who wait for a place in a class, and leaves out whom it may not have. Whoever has the fewest places
// already comes first, counting those before it in the queue, so that nobody can fill the queue for the others; then the
// one that was created first in Clerk. held is how many places each creator has, and atMost how many each may have, 0
// for any number.
func InTurn(waiting []Owner, held map[string]int, atMost int32) []Owner {
	waiting = slices.Clone(waiting)
	slices.SortFunc(waiting, byAge)
	rank := make(map[string]int, len(waiting))
	taken := map[string]int{}
	inTurn := waiting[:0]
	for _, owner := range waiting {
		creator := CreatorOf(owner)
		places := held[creator] + taken[creator]
		if atMost > 0 && places >= int(atMost) {
			continue
		}
		rank[owner.GetClerkID()] = places
		taken[creator]++
		inTurn = append(inTurn, owner)
	}
	slices.SortStableFunc(inTurn, func(a, b Owner) int { return cmp.Compare(rank[a.GetClerkID()], rank[b.GetClerkID()]) })
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
	return cmp.Compare(a.GetClerkID(), b.GetClerkID())
}
