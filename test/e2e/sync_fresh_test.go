// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	. "github.com/onsi/gomega"
	"github.com/onsi/gomega/types"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	clerkv1alpha1 "github.com/clerk-operator/clerk-operator/api/v1alpha1"
	"github.com/clerk-operator/clerk-operator/test/clerkfake"
	"github.com/clerk-operator/clerk-operator/test/installation"
)

func TestSync_isFreshAgainAfterAFullOneWithoutRepairs(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	b, _ := w.staffed([]string{"org:admin"}, every(time.Second))
	b.quietly(func(c *clerkfake.Clerk) { c.CreateUser(clerkfake.User{}) })
	b.becomes(clerkv1alpha1.ConditionFresh, metav1.ConditionFalse, clerkv1alpha1.ReasonRepairsNeeded)
	w.Expect(b.message(clerkv1alpha1.ConditionFresh)).To(And(
		ContainSubstring("(1 user)"), ContainSubstring("check the endpoint in Clerk's dashboard")))
	w.Eventually(w.told(b.instance)).Should(ContainElement(HavePrefix("Warning RepairsNeeded: ")))

	repaired := get(w, b.instance).Status.Sync.LastTime
	w.Eventually(stored(w, b.instance)).Should(HaveField("Status.Sync.LastTime.Time", BeTemporally(">", repaired.Time)))
	w.Expect(get(w, b.instance)).To(haveCondition(
		clerkv1alpha1.ConditionFresh, metav1.ConditionFalse, clerkv1alpha1.ReasonRepairsNeeded), "an incremental one reads too little")
	b.resync()
	b.becomes(clerkv1alpha1.ConditionFresh, metav1.ConditionTrue, clerkv1alpha1.ReasonUpToDate)
}

func TestSync_repairsNothingThatAWebhookStillBrings(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	b, members := w.staffed([]string{"org:admin", "org:admin", "org:guest"})
	deleted, renamed, changed := members.users[0], members.users[1], members.memberships[2]
	gate := make(chan struct{})
	b.clerk.Inject(clerkfake.Fault{Path: "/v1/organization_memberships", Block: gate})
	b.clerk.ResetRequests()
	request := b.request()
	// A webhook has a few seconds: what changes does so as the sync is about to list it, however long the sync took to begin.
	w.Eventually(b.listings).Should(ContainElement("organization_memberships 0"))
	created := b.clerk.CreateUser(clerkfake.User{})
	b.clerk.UpdateUser(renamed.ID, func(u *clerkfake.User) { u.FirstName = "Ada" })
	b.clerk.DeleteUser(deleted.ID)
	_, err := b.clerk.SetRole(changed.ID, "org:member")
	w.Expect(err).NotTo(HaveOccurred())

	b.clerk.ClearFaults()
	close(gate)
	w.Eventually(b.listings).Should(ContainElement("users "))
	b.tell()
	w.Eventually(stored(w, b.instance)).Should(HaveField("Status.Sync.LastRequest", request))
	w.Expect(get(w, b.instance)).To(haveCondition(clerkv1alpha1.ConditionFresh, metav1.ConditionTrue, clerkv1alpha1.ReasonUpToDate))
	get(w, w.userObject(created.ID))
	w.Expect(get(w, w.userObject(renamed.ID)).Spec.FirstName).To(Equal("Ada"))
	w.wantLevels(members, none, admin, edit)
}

func TestSync_isOverdueWhenItFailsForTwoIntervals(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	b, _ := w.staffed(nil, every(time.Second))
	b.clerk.Inject(clerkfake.Fault{Status: http.StatusInternalServerError})
	b.becomes(clerkv1alpha1.ConditionFresh, metav1.ConditionFalse, clerkv1alpha1.ReasonSyncOverdue)
	w.Eventually(w.told(b.instance)).Should(ContainElement(HavePrefix("Warning SyncOverdue: ")))
	b.becomes(clerkv1alpha1.ConditionSynced, metav1.ConditionFalse, clerkv1alpha1.ReasonServerError)

	b.clerk.ClearFaults()
	b.becomes(clerkv1alpha1.ConditionFresh, metav1.ConditionTrue, clerkv1alpha1.ReasonUpToDate)
	b.becomes(clerkv1alpha1.ConditionSynced, metav1.ConditionTrue, clerkv1alpha1.ReasonSynced)
}

func TestSync_readsEverythingAfterADeliveryThatCannotBeUsed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	b, members := w.staffed([]string{"org:admin"}, every(time.Second))
	w.instanceID = b.clerk.InstanceID()
	leaver := members.users[0].ID
	b.quietly(func(c *clerkfake.Clerk) { c.DeleteUser(leaver) })
	w.Consistently(w.level(leaver, members.namespace)).Should(Equal(admin), "only a full sync finds what is gone")

	w.Expect(w.deliver(w.event("user.deleted", map[string]any{"object": "user", "deleted": true}))).To(Equal("ignored"))
	w.wantBuried(w.userObject(leaver), leaver)
	w.wantLevels(members, none)
}

// It has a manager of its own, since the shared one serves no metrics.
func TestSync_isToldInMetrics(t *testing.T) {
	w := newWorld(t)
	w.withoutManager()
	manager, reader := w.manager(installation.ManagerOptions{Name: "sync-metrics", Metrics: true}), w.reader()
	b, members := w.staffed([]string{"org:admin", "org:admin", "org:admin", "org:admin"}, maxDeletions("1"))
	metrics := func() string { return w.scrape(manager.Metrics, reader) }
	gauge := func(name string, value int) types.GomegaMatcher {
		return ContainSubstring(fmt.Sprintf("\nclerk_operator_%s{instance=%q} %d\n", name, b.instance.Name, value))
	}
	counted := func(name, direction, kind string, value int) types.GomegaMatcher {
		return ContainSubstring(fmt.Sprintf("\nclerk_operator_sync_%s_total{direction=%q,instance=%q,kind=%q} %d\n",
			name, direction, b.instance.Name, kind, value))
	}
	const repairs = "clerk_operator_sync_repaired_objects_total{"
	w.Expect(metrics()).To(And(
		gauge("fresh", 1), gauge("prune_held", 0), Not(ContainSubstring(repairs)),
		counted("objects", "created", "ClerkUser", 4), counted("objects", "created", "ClerkOrganization", 1),
		MatchRegexp(`\nclerk_operator_sync_last_success_timestamp_seconds\{instance="%s",type="Full"\} 1`, b.instance.Name),
		MatchRegexp(`\nclerk_operator_api_requests_total\{code="200",instance="%s",operation="ListUsers"\} 1\n`, b.instance.Name),
	))

	b.quietly(func(c *clerkfake.Clerk) {
		w.hire(c, members, "org:guest")
		c.DeleteUser(members.users[0].ID)
		c.UpdateUser(members.users[1].ID, func(u *clerkfake.User) { u.FirstName = "Ada" })
		_, err := c.SetRole(members.memberships[2].ID, "org:guest")
		w.Expect(err).NotTo(HaveOccurred())
	})
	b.resync()
	w.Eventually(metrics).Should(And(
		gauge("fresh", 0), gauge("prune_held", 0),
		counted("repaired_objects", "created", "ClerkUser", 1), counted("repaired_objects", "updated", "ClerkUser", 1),
		counted("repaired_objects", "deleted", "ClerkUser", 1), counted("repaired_objects", "created", "ClerkOrganizationMembership", 1),
		counted("repaired_objects", "updated", "ClerkOrganizationMembership", 1), counted("objects", "created", "ClerkUser", 5),
	))

	b.quietly(func(c *clerkfake.Clerk) {
		c.DeleteUser(members.users[1].ID)
		c.DeleteUser(members.users[2].ID)
	})
	b.resync()
	w.Eventually(metrics).Should(gauge("prune_held", 1))

	w.Expect(suite.client.Delete(t.Context(), b.instance)).To(Succeed())
	w.Eventually(metrics).ShouldNot(ContainSubstring("clerk_operator_prune_held{"), "what is gone is told of no more")
}
