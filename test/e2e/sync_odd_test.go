// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"testing"

	. "github.com/onsi/gomega"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	clerkv1alpha1 "github.com/clerk-operator/clerk-operator/api/v1alpha1"
	"github.com/clerk-operator/clerk-operator/test/clerkfake"
)

// Clerk's schema does not require the user of a membership (clerk/javascript#1735), here of one that a webhook told of. The
// first full sync ends all the same, and so does each after it.
func TestSync_passesOverAnOddEntry(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	b, backend := w.clerkFor(nil)
	b.instance = w.ownInstance()
	members := w.team(b.clerk, "org:admin", "org:member", "org:guest")
	b.tell()
	b.provide(members)
	oddOne := members.memberships[1].ID
	remove := b.clerk.Inject(clerkfake.Fault{Edit: clerkfake.Without("public_user_data", oddOne)})
	b.quietly(func(c *clerkfake.Clerk) {
		w.Expect(c.RemoveMember(members.memberships[0].ID)).To(Succeed())
		c.Subscribe(members.ID, "pro")
	})
	changeByHand(w, b.instance, backend)

	status := b.synced().Status.Sync
	w.Expect(status.SkippedCount).To(BeEquivalentTo(1))
	w.Expect(status.Skipped).To(HaveExactElements(clerkv1alpha1.SkippedEntry{
		Kind: clerkv1alpha1.ClerkMembershipObject, ID: oddOne, Reason: "NoUser",
	}))
	w.Expect(b.message(clerkv1alpha1.ConditionSynced)).To(And(HavePrefix("1 entry of Clerk"), HaveSuffix("status.sync.skipped")))
	w.Expect(get(w, w.organizationObject(members.ID)).Spec.Billing).To(HaveField("Plan", "pro"), "plans are read")
	w.wantBuried(w.membershipObject(members.memberships[0].ID), members.memberships[0].ID)
	w.wantLevels(members, none, edit, view)

	// An entry without an ID may be any membership: none is deleted before it has one again.
	remove()
	remove = b.clerk.Inject(clerkfake.Fault{Edit: clerkfake.Without("id", oddOne)})
	b.quietly(func(c *clerkfake.Clerk) { w.Expect(c.RemoveMember(members.memberships[2].ID)).To(Succeed()) })
	w.Expect(b.resync().Status.Sync.Skipped).To(HaveExactElements(clerkv1alpha1.SkippedEntry{
		Kind: clerkv1alpha1.ClerkMembershipObject, Reason: "NoID",
	}))
	b.becomes(clerkv1alpha1.ConditionSynced, metav1.ConditionTrue, clerkv1alpha1.ReasonSynced)
	w.wantLevels(members, none, edit, view)

	remove()
	w.Expect(b.resync().Status.Sync).To(And(HaveField("Skipped", BeEmpty()), HaveField("SkippedCount", BeZero())))
	w.wantBuried(w.membershipObject(members.memberships[2].ID), members.memberships[2].ID)
	w.wantLevels(members, none, edit, none)
}
