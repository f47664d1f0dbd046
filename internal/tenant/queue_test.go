// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package tenant_test

import (
	"math/rand/v2"
	"testing"
	"time"

	. "github.com/onsi/gomega"

	clerkv1alpha1 "github.com/clerk-operator/clerk-operator/api/v1alpha1"
	"github.com/clerk-operator/clerk-operator/internal/tenant"
)

// waitingFor is an organization that a user created so many minutes after the first; zero where Clerk does not say when.
func waitingFor(id, creator string, minutes int) tenant.Owner {
	o := organization()
	o.Spec.OrganizationID, o.Spec.CreatedBy = id, creator
	if minutes > 0 {
		o.Spec.CreatedAt = new(clerkv1alpha1.NewTimestamp(time.Date(2026, 5, 1, 12, minutes, 0, 0, time.UTC)))
	}
	return o
}

// held are places of users of the instance that every owner here is of.
func held(places map[string]int) map[tenant.Creator]int {
	held := map[tenant.Creator]int{}
	for id, n := range places {
		held[tenant.Creator{InstanceName: organization().Spec.InstanceName, ID: id}] = n
	}
	return held
}

// A user of another instance who has the same ID is another user, and so is the organization.
func TestInTurn_isByInstance(t *testing.T) {
	g := NewWithT(t)
	mine, theirs := waitingFor("org_1", "user_x", 1), waitingFor("org_1", "user_x", 1)
	theirs.GetMirrored().InstanceName = "other"
	full := held(map[string]int{"user_x": 1})
	g.Expect(tenant.InTurn([]tenant.Owner{mine, theirs}, full, 1)).To(Equal([]tenant.Owner{theirs}))
	g.Expect(tenant.InTurn([]tenant.Owner{mine, theirs}, full, 0)).To(Equal([]tenant.Owner{theirs, mine}))
	g.Expect(tenant.CreatorOf(mine)).NotTo(Equal(tenant.CreatorOf(theirs)))
}

func TestInTurn(t *testing.T) {
	for name, tc := range map[string]struct {
		waiting []tenant.Owner
		held    map[string]int // by the ID of a user of the instance default
		atMost  int32
		want    []string
	}{
		"nobody":             {nil, nil, 0, []string{}},
		"the oldest first":   {[]tenant.Owner{waitingFor("org_b", "user_b", 2), waitingFor("org_a", "user_a", 3), waitingFor("org_c", "user_c", 1)}, nil, 0, []string{"org_c", "org_b", "org_a"}},
		"of no age the last": {[]tenant.Owner{waitingFor("org_a", "user_a", 0), waitingFor("org_b", "user_b", 9)}, nil, 0, []string{"org_b", "org_a"}},
		"of one age by ID":   {[]tenant.Owner{waitingFor("org_b", "user_b", 1), waitingFor("org_a", "user_a", 1)}, nil, 0, []string{"org_a", "org_b"}},
		"one of many by one user is not before others": {
			[]tenant.Owner{waitingFor("org_1", "user_x", 1), waitingFor("org_2", "user_x", 2), waitingFor("org_3", "user_x", 3), waitingFor("org_y", "user_y", 9)},
			nil, 0, []string{"org_1", "org_y", "org_2", "org_3"},
		},
		"who has fewer places": {
			[]tenant.Owner{waitingFor("org_1", "user_x", 1), waitingFor("org_y", "user_y", 9)}, map[string]int{"user_x": 2, "user_y": 1}, 0,
			[]string{"org_y", "org_1"},
		},
		"no more than each may have": {
			[]tenant.Owner{waitingFor("org_1", "user_x", 1), waitingFor("org_2", "user_x", 2), waitingFor("org_y", "user_y", 9)},
			map[string]int{"user_x": 1}, 2, []string{"org_y", "org_1"},
		},
		"who has all that one may have": {[]tenant.Owner{waitingFor("org_1", "user_x", 1)}, map[string]int{"user_x": 5}, 1, []string{}},
		"without a creator each is its own": {
			[]tenant.Owner{waitingFor("org_1", "", 1), waitingFor("org_2", "", 2)}, map[string]int{"org_2": 1}, 1, []string{"org_1"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			for range 10 {
				rand.Shuffle(len(tc.waiting), func(i, j int) { tc.waiting[i], tc.waiting[j] = tc.waiting[j], tc.waiting[i] })
				got := make([]string, 0, len(tc.waiting))
				for _, o := range tenant.InTurn(tc.waiting, held(tc.held), tc.atMost) {
					got = append(got, o.GetClerkID())
				}
				NewWithT(t).Expect(got).To(Equal(tc.want))
			}
		})
	}
}

// However many organizations one user creates, everybody else is served as if that user had created few.
func TestInTurn_manyByOneUserDelayNobodyElse(t *testing.T) {
	g := NewWithT(t)
	waiting := make([]tenant.Owner, 0, 1003)
	for i := range 1000 {
		waiting = append(waiting, waitingFor("org_x"+string(rune('a'+i%26))+time.Duration(i).String(), "user_x", 1))
	}
	for _, creator := range []string{"user_a", "user_b", "user_c"} {
		waiting = append(waiting, waitingFor("org_"+creator, creator, 50))
	}
	first := tenant.InTurn(waiting, nil, 0)[:4]
	creators := map[tenant.Creator]bool{}
	for _, o := range first {
		creators[tenant.CreatorOf(o)] = true
	}
	g.Expect(creators).To(HaveLen(4))
}
