// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"

	. "github.com/onsi/gomega"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	clerkv1alpha1 "github.com/clerk-operator/clerk-operator/api/v1alpha1"
	"github.com/clerk-operator/clerk-operator/internal/clerk"
	"github.com/clerk-operator/clerk-operator/test/clerkfake"
)

// amounts are how many of each kind.
type amounts struct{ users, organizations, memberships int }

// brakes are limits on what one sync may delete of 8 users, 5 organizations and 4 memberships.
var brakes = []struct {
	about, limit string
	gone         amounts
	// held is what the condition PruneHeld says; empty is that what is gone is deleted.
	held string
}{
	{about: "as many as the number", limit: "2", gone: amounts{2, 2, 2}},
	{
		about: "more users than the number, which holds the other kinds, too", limit: "2", gone: amounts{3, 2, 1},
		held: "gone from Clerk: 3 users, 2 organizations, 1 membership; " +
			"one sync may delete 2 memberships and 2 organizations and 2 users (",
	},
	{
		about: "more of each kind than the number", limit: "1", gone: amounts{2, 3, 4},
		held: "gone from Clerk: 2 users, 3 organizations, 4 memberships; " +
			"one sync may delete 1 membership and 1 organization and 1 user (",
	},
	{about: "as many as the percentage, rounded up", limit: "25%", gone: amounts{2, 2, 1}},
	{
		about: "more organizations than the percentage", limit: "25%", gone: amounts{organizations: 3},
		held: "gone from Clerk: 3 organizations; one sync may delete 2 organizations (",
	},
	{
		about: "more memberships than the percentage", limit: "25%", gone: amounts{memberships: 2},
		held: "gone from Clerk: 2 memberships; one sync may delete 1 membership (",
	},
	{about: "one, which every percentage allows", limit: "1%", gone: amounts{1, 1, 1}},
	{
		about: "one where none is allowed", limit: "0", gone: amounts{memberships: 1},
		held: "gone from Clerk: 1 membership; one sync may delete 0 memberships (",
	},
	{
		about: "one where no part is allowed", limit: "0%", gone: amounts{organizations: 1},
		held: "gone from Clerk: 1 organization; one sync may delete 0 organizations (",
	},
	{about: "all where all are allowed", limit: "100%", gone: amounts{4, 4, 4}},
}

// population is what the limits are tried on.
type population struct{ users, organizations, memberships []string }

// newPopulation puts into Clerk four users and four organizations of their own, and four members of one more.
func (w *world) newPopulation(c *clerkfake.Clerk) *population {
	p := &population{}
	for range 4 {
		p.users = append(p.users, c.CreateUser(clerkfake.User{}).ID)
		p.organizations = append(p.organizations, c.CreateOrganization(clerkfake.Organization{}).ID)
	}
	for _, m := range w.team(c, "org:member", "org:member", "org:member", "org:member").memberships {
		p.memberships = append(p.memberships, m.ID)
	}
	return p
}

// some are the names of the first of each kind in an instance.
func (p *population) some(instanceName string, n amounts) []string {
	names := slices.Concat(p.users[:n.users], p.organizations[:n.organizations], p.memberships[:n.memberships])
	for i, id := range names {
		names[i] = clerk.ObjectName(instanceName, id)
	}
	return names
}

// leave makes the first of each kind go.
func (p *population) leave(w *world, c *clerkfake.Clerk, n amounts) {
	for _, id := range p.users[:n.users] {
		c.DeleteUser(id)
	}
	for _, id := range p.organizations[:n.organizations] {
		c.DeleteOrganization(id)
	}
	for _, id := range p.memberships[:n.memberships] {
		w.Expect(c.RemoveMember(id)).To(Succeed())
	}
}

// names are those of an instance's mirrored objects.
func (b *backed) names() []string { return slices.Sorted(maps.Keys(b.mirrored())) }

// without are all but some.
func without(all []string, some ...string) []string {
	return slices.DeleteFunc(slices.Clone(all), func(one string) bool { return slices.Contains(some, one) })
}

func TestSync_deletesOnlySoMuch(t *testing.T) {
	t.Parallel()
	type trial struct {
		*backed
		request string
		want    []string
	}
	trials := make([]trial, 0, len(brakes))
	for _, tc := range brakes {
		w := newWorld(t)
		var p *population
		b := w.backedBy(func(c *clerkfake.Clerk) { p = w.newPopulation(c) }, maxDeletions(tc.limit))
		b.synced()
		b.quietly(func(c *clerkfake.Clerk) { p.leave(w, c, tc.gone) })
		want := b.names()
		if tc.held == "" {
			want = without(want, p.some(b.instanceName, tc.gone)...)
		}
		trials = append(trials, trial{backed: b, want: want, request: b.request()})
	}

	for i, tc := range brakes {
		b := trials[i]
		b.Eventually(stored(b.world, b.instance)).Should(HaveField("Status.Sync.LastRequest", b.request), tc.about)
		b.Eventually(b.names).Should(Equal(b.want), tc.about)
		if tc.held == "" {
			b.becomes(clerkv1alpha1.ConditionPruneHeld, metav1.ConditionFalse, clerkv1alpha1.ReasonNothingHeld)
			continue
		}
		b.becomes(clerkv1alpha1.ConditionPruneHeld, metav1.ConditionTrue, clerkv1alpha1.ReasonTooManyDeletions)
		b.Expect(b.message(clerkv1alpha1.ConditionPruneHeld)).To(HavePrefix(tc.held), tc.about)
		b.Expect(get(b.world, b.instance).Status.Sync.State).To(Equal("Held"))
	}
	for i, tc := range brakes {
		trials[i].Expect(trials[i].names()).To(Equal(trials[i].want), tc.about)
	}
}

var releaseCommand = regexp.MustCompile(`kubectl (annotate clerkinstance \S+ --overwrite \S+)$`)

// release is what the condition PruneHeld tells to release the held deletions with, as arguments of kubectl.
func (b *backed) release() []string {
	b.t.Helper()
	found := releaseCommand.FindStringSubmatch(b.message(clerkv1alpha1.ConditionPruneHeld))
	b.Expect(found).To(HaveLen(2))
	return strings.Fields(found[1])
}

func TestSync_releasesExactlyWhatIsHeld(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	b, members := w.staffed([]string{"org:admin", "org:admin", "org:admin", "org:admin"}, maxDeletions("1"))
	all, leave := b.names(), func(i int) {
		b.quietly(func(c *clerkfake.Clerk) { c.DeleteUser(members.users[i].ID) })
	}
	leave(0)
	leave(1)
	token := b.resync().Status.Sync.HeldDeletions
	w.Expect(token).NotTo(BeEmpty())
	w.Expect(b.names()).To(Equal(all))
	w.Expect(w.access(members)()).To(Equal(members.due()))
	w.Eventually(w.told(b.instance)).Should(ContainElement(
		HavePrefix("Warning TooManyDeletions: gone from Clerk: 2 users; one sync may delete 1 user ")))

	before := get(w, b.instance).Status.Sync
	b.annotate(b.instance, clerkv1alpha1.AnnotationReleasePrune, token+"0")
	w.Consistently(stored(w, b.instance)).Should(HaveField("Status.Sync", before), "a release of something else")

	first := b.release()
	leave(2)
	w.kubectl(first...)
	w.Eventually(stored(w, b.instance)).Should(HaveField("Status.Sync.HeldDeletions", Not(BeElementOf("", token))))
	w.Expect(b.names()).To(Equal(all), "what was released is not what is gone now")
	w.Expect(b.message(clerkv1alpha1.ConditionPruneHeld)).To(HavePrefix("gone from Clerk: 3 users;"))

	w.kubectl(b.release()...)
	b.becomes(clerkv1alpha1.ConditionPruneHeld, metav1.ConditionFalse, clerkv1alpha1.ReasonNothingHeld)
	for i := range 3 {
		w.wantBuried(w.userObject(members.users[i].ID), members.users[i].ID)
	}
	w.wantLevels(members, none, none, none, admin)
	w.Expect(get(w, b.instance).Status.Sync).To(And(HaveField("HeldDeletions", BeEmpty()), HaveField("State", "Synced")))
	w.Eventually(w.told(b.instance)).Should(ContainElement("Normal NothingHeld: no deletion is held"))
}
