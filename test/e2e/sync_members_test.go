// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"testing"

	. "github.com/onsi/gomega"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	clerkv1alpha1 "github.com/clerk-operator/clerk-operator/api/v1alpha1"
	"github.com/clerk-operator/clerk-operator/internal/clerk"
	"github.com/clerk-operator/clerk-operator/test/clerkfake"
)

// membersOnly mirrors the users that are members of some organization.
func membersOnly(i *clerkv1alpha1.ClerkInstance) {
	i.Spec.Users.Mirror = clerkv1alpha1.UserMirrorMembers
}

func TestSyncMembers_needsABackendAPI(t *testing.T) {
	newWorld(t).wantRefused(manifest("ClerkInstance", "refused",
		"{webhook: {signingSecrets: [{name: clerk-webhook, key: signing-secret}]}, users: {mirror: Members}}"),
		"users.mirror: Members needs a backendAPI, from which a user who joins is read")
}

func TestSyncMembers_mirrorsNobodyElse(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var members *team
	var loner clerkfake.User
	b := w.backedBy(func(c *clerkfake.Clerk) {
		loner, members = c.CreateUser(clerkfake.User{}), w.team(c, "org:admin", "org:guest")
	}, membersOnly)
	b.synced()
	w.Expect(b.mirrored()).To(And(HaveLen(5), Not(HaveKey(clerk.ObjectName(w.instanceName, loner.ID)))))
	b.provide(members)

	newcomer := b.clerk.CreateUser(clerkfake.User{})
	b.clerk.UpdateUser(loner.ID, func(u *clerkfake.User) { u.FirstName = "Ada" })
	for _, event := range b.clerk.TakeEvents() {
		w.Expect(w.attempt(event.Message)).To(Equal("ignored"), event.Type)
	}
	for _, id := range []string{newcomer.ID, loner.ID} {
		w.Expect(w.gone(w.userObject(id))()).To(BeTrue())
	}
	b.clerk.UpdateUser(members.users[0].ID, func(u *clerkfake.User) { u.Banned = true })
	b.tell()
	w.wantLevels(members, none, view)
}

func TestSyncMembers_readsWhoJoinsAndForgetsWhoLeaves(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	b, members := w.staffed([]string{"org:admin"}, membersOnly)
	joining, first := w.hire(b.clerk, members, "org:guest")
	b.tell()
	w.wantLevels(members, admin, view)

	w.Expect(b.clerk.RemoveMember(first.ID)).To(Succeed())
	b.tell()
	w.wantBuried(w.membershipObject(first.ID), first.ID)
	w.wantLevels(members, admin, none)
	b.resync()
	w.Eventually(w.gone(w.userObject(joining.ID))).Should(BeTrue())
	w.Expect(w.tombstones(joining.ID)()).To(BeEmpty(), "the user exists")
	w.Expect(get(w, b.instance)).To(haveCondition(clerkv1alpha1.ConditionFresh, metav1.ConditionTrue, clerkv1alpha1.ReasonUpToDate))

	_, err := b.clerk.AddMember(members.ID, joining.ID, "org:member")
	w.Expect(err).NotTo(HaveOccurred())
	b.tell()
	w.wantLevels(members, admin, edit)
	w.Expect(get(w, w.userObject(joining.ID)).Spec.Email).To(Equal(joining.Email))
}

func TestSyncMembers_canBeSwitchedOnAndOff(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var members *team
	var loner clerkfake.User
	b := w.backedBy(func(c *clerkfake.Clerk) {
		loner, members = c.CreateUser(clerkfake.User{}), w.team(c, "org:admin")
	}, maxDeletions("0"))
	b.synced()
	b.provide(members)
	all := b.names()
	w.Expect(all).To(HaveLen(4))
	b.resync()

	for _, tc := range []struct {
		mirror clerkv1alpha1.UserMirror
		want   []string
	}{
		{clerkv1alpha1.UserMirrorMembers, without(all, clerk.ObjectName(w.instanceName, loner.ID))},
		{clerkv1alpha1.UserMirrorAll, all},
	} {
		changeByHand(w, b.instance, func(i *clerkv1alpha1.ClerkInstance) { i.Spec.Users.Mirror = tc.mirror })
		w.Eventually(stored(w, b.instance)).Should(And(
			HaveField("Status.Sync.LastFullUsers", string(tc.mirror)+"/Full"),
			haveCondition(clerkv1alpha1.ConditionSynced, metav1.ConditionTrue, clerkv1alpha1.ReasonSynced),
		))
		w.Eventually(b.names).Should(Equal(tc.want), string(tc.mirror))
		w.Expect(get(w, b.instance)).To(haveCondition(
			clerkv1alpha1.ConditionFresh, metav1.ConditionTrue, clerkv1alpha1.ReasonUpToDate), "no webhook is missing")
	}
	w.Expect(w.tombstones(loner.ID)()).To(BeEmpty())
	w.Expect(w.access(members)()).To(Equal(members.due()))
}
