// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"testing"

	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	clerkv1alpha1 "github.com/clerk-operator/clerk-operator/api/v1alpha1"
	"github.com/clerk-operator/clerk-operator/test/clerkfake"
)

// holder is a finalizer that nobody but a test removes.
const holder = "example.com/held-by-a-test"

// lost are changes in Clerk to a team of an administrator and a guest, of which no webhook tells, and what the next full
// sync makes of them.
var lost = []struct {
	about  string
	happen func(w *world, c *clerkfake.Clerk, t *team) error
	want   func(b *backed, t *team)
}{
	{
		about: "a member leaves",
		happen: func(_ *world, c *clerkfake.Clerk, t *team) error {
			return c.RemoveMember(t.memberships[0].ID)
		},
		want: func(b *backed, t *team) {
			b.wantLevels(t, none, view)
			b.wantBuried(b.membershipObject(t.memberships[0].ID), t.memberships[0].ID)
			b.Expect(b.gone(b.userObject(t.users[0].ID))()).To(BeFalse())
		},
	},
	{
		about: "a member leaves and joins again with less",
		happen: func(_ *world, c *clerkfake.Clerk, t *team) (err error) {
			if err = c.RemoveMember(t.memberships[0].ID); err == nil {
				_, err = c.AddMember(t.ID, t.users[0].ID, "org:guest")
			}
			return err
		},
		want: func(b *backed, t *team) {
			b.wantLevels(t, view, view)
			b.wantBuried(b.membershipObject(t.memberships[0].ID), t.memberships[0].ID)
		},
	},
	{
		about: "a role changes",
		happen: func(_ *world, c *clerkfake.Clerk, t *team) error {
			_, err := c.SetRole(t.memberships[1].ID, "org:member")
			return err
		},
		want: func(b *backed, t *team) { b.wantLevels(t, admin, edit) },
	},
	{
		about: "a user is banned",
		happen: func(_ *world, c *clerkfake.Clerk, t *team) error {
			c.UpdateUser(t.users[0].ID, func(u *clerkfake.User) { u.Banned = true })
			return nil
		},
		want: func(b *backed, t *team) {
			b.wantLevels(t, none, view)
			b.Eventually(stored(b.world, b.userObject(t.users[0].ID))).
				Should(beReady(metav1.ConditionTrue, clerkv1alpha1.ReasonSuspended))
		},
	},
	{
		about: "a user and the organization are renamed",
		happen: func(_ *world, c *clerkfake.Clerk, t *team) error {
			c.UpdateUser(t.users[0].ID, func(u *clerkfake.User) { u.FirstName, u.Email = "Ada", "ada@example.com" })
			c.UpdateOrganization(t.ID, func(o *clerkfake.Organization) { o.Name = "Acme Ltd." })
			return nil
		},
		want: func(b *backed, t *team) {
			b.wantLevels(t, admin, view)
			b.Expect(get(b.world, b.userObject(t.users[0].ID)).Spec).To(And(
				HaveField("FirstName", "Ada"), HaveField("Email", "ada@example.com"), HaveField("EmailVerified", HaveValue(BeTrue()))))
			b.Eventually(func() string { return text(b.secretOf(t.namespace))["CLERK_ORGANIZATION_NAME"] }).Should(Equal("Acme Ltd."))
		},
	},
	{
		about: "a membership is deleted here and not in Clerk",
		happen: func(w *world, _ *clerkfake.Clerk, t *team) error {
			object := w.membershipObject(t.memberships[0].ID)
			w.Expect(suite.client.Delete(w.t.Context(), object)).To(Succeed())
			w.Eventually(w.gone(object)).Should(BeTrue())
			return nil
		},
		want: func(b *backed, t *team) { b.wantLevels(t, admin, view) },
	},
	{
		about: "somebody signs up and joins",
		happen: func(w *world, c *clerkfake.Clerk, t *team) error {
			w.hire(c, t, "org:member")
			return nil
		},
		want: func(b *backed, t *team) { b.wantLevels(t, admin, view, edit) },
	},
	{
		about: "the organization buys a plan",
		happen: func(_ *world, c *clerkfake.Clerk, t *team) error {
			c.Subscribe(t.ID, clerkfake.FreePlan)
			c.Subscribe(t.ID, "pro")
			return nil
		},
		want: func(b *backed, t *team) {
			b.Expect(get(b.world, b.organizationObject(t.ID)).Spec.Billing).To(HaveField("Plan", "pro"))
		},
	},
	{
		about: "a user is deleted",
		happen: func(_ *world, c *clerkfake.Clerk, t *team) error {
			c.DeleteUser(t.users[0].ID)
			return nil
		},
		want: func(b *backed, t *team) {
			b.wantLevels(t, none, view)
			b.wantBuried(b.userObject(t.users[0].ID), t.users[0].ID)
			b.Eventually(b.gone(b.membershipObject(t.memberships[0].ID))).Should(BeTrue())
		},
	},
	{
		about: "the organization is deleted",
		happen: func(_ *world, c *clerkfake.Clerk, t *team) error {
			c.DeleteOrganization(t.ID)
			return nil
		},
		want: func(b *backed, t *team) {
			b.wantLevels(t, none, none)
			b.wantBuried(b.organizationObject(t.ID), t.ID)
			b.Eventually(b.gone(namespaceObject(t.namespace))).Should(BeTrue())
			for i := range t.users {
				b.Eventually(b.gone(b.membershipObject(t.memberships[i].ID))).Should(BeTrue())
				b.Expect(b.gone(b.userObject(t.users[i].ID))()).To(BeFalse())
			}
		},
	},
}

// wantLevels waits until the members of a team may do just that, in the order in which they joined.
func (w *world) wantLevels(t *team, levels ...string) {
	w.t.Helper()
	want := map[string]string{}
	for i, level := range levels {
		want[t.users[i].ID] = level
	}
	w.Eventually(w.access(t)).Should(Equal(want))
}

// wantBuried waits until an object is gone, and checks that its deletion is remembered.
func (w *world) wantBuried(object client.Object, id string) {
	w.t.Helper()
	w.Eventually(w.gone(object)).Should(BeTrue(), id)
	w.Expect(w.tombstones(id)()).To(HaveLen(1), id)
}

func TestSync_repairsWhatNoWebhookTold(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	teams := make([]*team, 0, len(lost))
	b := w.backedBy(func(c *clerkfake.Clerk) {
		for range lost {
			teams = append(teams, w.team(c, "org:admin", "org:guest"))
		}
	}, maxDeletions("100%"))
	b.synced()
	b.provide(teams...)

	for i, tc := range lost {
		b.quietly(func(c *clerkfake.Clerk) { w.Expect(tc.happen(w, c, teams[i])).To(Succeed(), tc.about) })
	}
	b.resync()
	for i, tc := range lost {
		t.Log(tc.about)
		tc.want(b, teams[i])
	}
	b.becomes(clerkv1alpha1.ConditionFresh, metav1.ConditionFalse, clerkv1alpha1.ReasonRepairsNeeded)
	// A plan is none that a webhook has to bring: the endpoint may not be subscribed to any.
	// A membership that goes with its user or organization is not counted: the cluster's own cascade takes it.
	w.Expect(b.message(clerkv1alpha1.ConditionFresh)).To(ContainSubstring("(4 users, 2 organizations, 6 memberships)"))

	b.resync()
	b.becomes(clerkv1alpha1.ConditionFresh, metav1.ConditionTrue, clerkv1alpha1.ReasonUpToDate)
}

func TestSync_takesAccessBeforeAUserGoes(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	b, members := w.staffed([]string{"org:admin", "org:admin"})
	leaver, stayer := members.users[0], members.users[1]
	changeByHand(w, w.userObject(leaver.ID), func(u *clerkv1alpha1.ClerkUser) { u.Finalizers = append(u.Finalizers, holder) })

	b.quietly(func(c *clerkfake.Clerk) { c.DeleteUser(leaver.ID) })
	b.request()
	w.Eventually(stored(w, w.userObject(leaver.ID))).Should(HaveField("Finalizers", ConsistOf(holder)))
	w.Expect(w.bindings(members.namespace)()).To(Equal(map[string][]string{"admin": {"clerk:" + stayer.ID}}))
	w.Expect(w.gone(w.membershipObject(members.memberships[0].ID))()).To(BeTrue())
	w.Expect(w.tombstones(leaver.ID)()).To(HaveLen(1))
	w.Eventually(w.level(leaver.ID, members.namespace)).Should(Equal(none))

	changeByHand(w, w.userObject(leaver.ID), func(u *clerkv1alpha1.ClerkUser) { u.Finalizers = nil })
	w.Eventually(w.gone(w.userObject(leaver.ID))).Should(BeTrue())
	w.Expect(w.access(members)()).To(Equal(map[string]string{leaver.ID: none, stayer.ID: admin}))
}

func TestSync_takesAccessBeforeAnOrganizationGoes(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	b, members := w.staffed([]string{"org:admin"})
	holding := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{
		Namespace: members.namespace, Name: "holding", Finalizers: []string{holder},
	}}
	w.Expect(suite.client.Create(t.Context(), holding)).To(Succeed())

	b.quietly(func(c *clerkfake.Clerk) { c.DeleteOrganization(members.ID) })
	b.request()
	w.Eventually(stored(w, namespaceObject(members.namespace))).Should(HaveField("DeletionTimestamp", Not(BeNil())))
	w.Expect(w.bindings(members.namespace)()).To(BeEmpty())
	w.Expect(get(w, w.organizationObject(members.ID)).DeletionTimestamp).NotTo(BeNil())
	w.Eventually(w.level(members.users[0].ID, members.namespace)).Should(Equal(none))

	changeByHand(w, holding, func(c *corev1.ConfigMap) { c.Finalizers = nil })
	w.Eventually(w.gone(namespaceObject(members.namespace))).Should(BeTrue())
	w.wantBuried(w.organizationObject(members.ID), members.ID)
}
