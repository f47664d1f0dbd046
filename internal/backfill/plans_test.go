// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package backfill

import (
	"encoding/json"
	"net/http"
	"testing"
	"time"

	. "github.com/onsi/gomega"

	clerkv1alpha1 "github.com/clerk-operator/clerk-operator/api/v1alpha1"
	"github.com/clerk-operator/clerk-operator/internal/clerk"
	"github.com/clerk-operator/clerk-operator/test/clerkfake"
)

const plansPath = "/v1/billing/subscription_items"

func (w *world) planOf(organizationID string) string {
	w.t.Helper()
	return mirroredOrganizationOf(w, organizationID).(*clerkv1alpha1.ClerkOrganization).Spec.Billing.Plan
}

// deliverPlans delivers the events of plans that were made and not taken.
func (w *world) deliverPlans() {
	w.t.Helper()
	for _, event := range w.clerk.TakeEvents() {
		decoded, err := clerk.Decode(event.Message.Body)
		w.Expect(err).NotTo(HaveOccurred())
		_, err = w.mirror.ApplyBilling(w.t.Context(), w.config.Name, decoded.Subscription)
		w.Expect(err).NotTo(HaveOccurred())
	}
}

func TestPlans_areReadByAFullSync(t *testing.T) {
	w := newWorld(t, pagesOf(2))
	pro, free, none := w.tenant(1), w.tenant(0), w.tenant(0)
	w.clerk.Subscribe(pro.ID, clerkfake.FreePlan)
	w.clerk.Subscribe(pro.ID, "pro")
	w.clerk.Subscribe(free.ID, "pro")
	w.clerk.Cancel(free.ID)
	w.clerk.End(free.ID)
	w.clerk.Subscribe(pro.users[0].ID, "personal")

	w.sync(clerkv1alpha1.SyncIncremental)
	w.Expect(w.planOf(pro.ID)).To(BeEmpty())
	w.Expect(w.asked(plansPath)).To(BeEmpty())
	run := w.full()
	w.Expect(w.asked(plansPath)).To(Equal([]string{
		plansPath + "?include_free=true&limit=2&offset=0&paginated=true",
		plansPath + "?include_free=true&limit=2&offset=2&paginated=true",
		plansPath + "?include_free=true&limit=2&offset=4&paginated=true",
	}))
	w.Expect(w.planOf(pro.ID)).To(Equal("pro"))
	w.Expect(w.planOf(free.ID)).To(Equal(clerkfake.FreePlan))
	w.Expect(w.planOf(none.ID)).To(BeEmpty())
	w.Expect(w.user(pro.users[0].ID).Spec.Billing.Plan).To(Equal("personal"))
	w.Expect(run.Repaired()).To(BeEmpty(), "nothing was expected before the first full sync")
	w.Expect(run.Progress.Done).To(Equal(run.Progress.Total))

	before := w.versions()
	w.Expect(w.full().Outcome().Written).To(BeEmpty())
	w.Expect(w.versions()).To(Equal(before))

	// Nobody subscribed to events of plans.
	w.clerk.Subscribe(none.ID, "team")
	w.Expect(w.full().Repaired()).To(BeEmpty())
	w.Expect(w.planOf(none.ID)).To(Equal("team"))

	// Somebody did, and the events of all but the first got lost.
	w.clerk.TakeEvents()
	w.clerk.Subscribe(free.ID, "team")
	w.deliverPlans()
	w.clerk.Subscribe(none.ID, "pro")
	w.clerk.Cancel(pro.ID)
	w.clerk.End(pro.ID)
	run = w.full()
	w.Expect(w.planOf(pro.ID)).To(Equal(clerkfake.FreePlan))
	w.Expect(w.planOf(none.ID)).To(Equal("pro"))
	w.Expect(run.Repaired()).To(Equal(map[clerk.Kind]int{clerk.KindOrganization: 2}))
}

func TestPlans_ofNobodyMirroredAreLeftOut(t *testing.T) {
	w := newWorld(t)
	w.config.Spec.Users.Mirror = clerkv1alpha1.UserMirrorMembers
	acme := w.tenant(1)
	stranger := w.clerk.CreateUser(clerkfake.User{Email: "stranger@example.com"})
	w.clerk.Subscribe(stranger.ID, "personal")
	w.clerk.Subscribe(acme.users[0].ID, "personal")
	run := w.full()
	w.states(absent, stranger.ID)
	w.Expect(w.user(acme.users[0].ID).Spec.Billing.Plan).To(Equal("personal"))
	w.Expect(run.Outcome().Refused).To(BeZero())
}

func TestPlans_whatMovesUpIsRead(t *testing.T) {
	w := newWorld(t, pagesOf(2))
	tenants := make([]tenant, 0, 4)
	for range 4 {
		tenants = append(tenants, w.tenant(0))
		w.clerk.Subscribe(tenants[len(tenants)-1].ID, "pro")
	}
	run := w.begin(clerkv1alpha1.SyncFull)
	w.until(run, clerkv1alpha1.SyncPlans)
	w.step(run)
	w.clerk.DeleteOrganization(tenants[3].ID) // whose item was the first
	w.Expect(w.finish(run)).To(Succeed())
	for _, of := range tenants[:3] {
		w.Expect(w.planOf(of.ID)).To(Equal("pro"))
	}
}

func TestPlans_theWebhookComesFirst(t *testing.T) {
	for name, delivered := range map[string]bool{"it comes": true, "it is lost": false} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			acme := w.tenant(0)
			w.full()
			w.clerk.TakeEvents()
			w.clerk.Subscribe(acme.ID, clerkfake.FreePlan)
			w.clerk.Pay(acme.ID) // not at a full second, which the time of what is read would be
			w.deliverPlans()
			run := w.begin(clerkv1alpha1.SyncFull)
			w.clock.SetTime(w.clock.Now().Add(time.Hour)) // by the stand-in's clock it is now
			w.clerk.Subscribe(acme.ID, "pro")
			w.clock.SetTime(w.clock.Now().Add(-time.Hour))
			w.until(run, clerkv1alpha1.SyncPlans)
			w.Expect(w.step(run).Done).To(BeFalse())
			next := w.step(run)
			w.Expect(next.After).To(BeNumerically(">", 0))
			w.Expect(w.planOf(acme.ID)).To(Equal(clerkfake.FreePlan))
			if delivered {
				w.deliverPlans()
			}
			w.Expect(w.finish(run)).To(Succeed())
			w.Expect(w.planOf(acme.ID)).To(Equal("pro"))
			want := map[clerk.Kind]int{}
			if !delivered {
				want[clerk.KindOrganization] = 1
			}
			w.Expect(run.Repaired()).To(Equal(want))
		})
	}
}

func TestPlans_whereThereAreNone(t *testing.T) {
	clerks, err := json.Marshal(map[string]any{"errors": []any{map[string]any{"code": "billing_disabled"}}})
	NewWithT(t).Expect(err).NotTo(HaveOccurred())
	for name, fault := range map[string]clerkfake.Fault{
		"refused":          {Status: http.StatusForbidden, Body: string(clerks)},
		"not understood":   {Status: http.StatusUnprocessableEntity, Body: string(clerks)},
		"an older API":     {Status: http.StatusNotFound, Body: string(clerks)},
		"a gateway's 404":  {Status: http.StatusNotFound, Body: "404 page not found"},
		"not implemented":  {Status: http.StatusNotImplemented, Body: "no"},
		"an empty listing": {EmptyLists: true},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			acme := w.tenant(0)
			w.clerk.Subscribe(acme.ID, "pro")
			w.full()
			fault.Path = plansPath
			w.clerk.Inject(fault)
			run := w.full()
			w.Expect(run.Interrupted()).To(BeFalse())
			w.Expect(w.planOf(acme.ID)).To(Equal("pro"), "it stays what it was")
		})
	}
}

// What Clerk does not answer is asked again, and what was gone is gone by then.
func TestPlans_aFailureHoldsNothingElseUp(t *testing.T) {
	for name, fault := range map[string]clerkfake.Fault{
		"an error":              {Status: http.StatusInternalServerError},
		"a refusal of the key":  {Status: http.StatusUnauthorized},
		"a stranger's refusal":  {Status: http.StatusForbidden, Body: "no"},
		"half an answer":        {Truncate: true},
		"something else's list": {Body: "[]"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.config.Spec.BackendAPI.Sync.MaxDeletions = nil
			acme, gone := w.tenant(0), w.tenant(0)
			w.full()
			w.clerk.Subscribe(acme.ID, "pro")
			w.clerk.DeleteOrganization(gone.ID)
			fault.Path = plansPath
			remove := w.clerk.Inject(fault)
			run := w.begin(clerkv1alpha1.SyncFull)
			w.Expect(w.finish(run)).NotTo(Succeed())
			run.Fail()
			w.states(deleted, gone.ID)
			w.Expect(w.planOf(acme.ID)).To(BeEmpty())
			remove()
			w.Expect(w.finish(run)).To(Succeed())
			w.Expect(run.Interrupted()).To(BeFalse(), "it had seen everything when it deleted")
			w.Expect(w.planOf(acme.ID)).To(Equal("pro"))
		})
	}
}

// Another process does not know what was decided on deletions.
func TestPlans_takenUpByAnotherProcess(t *testing.T) {
	w := newWorld(t)
	acme := w.tenant(0)
	w.clerk.Subscribe(acme.ID, "pro")
	run := w.begin(clerkv1alpha1.SyncFull)
	w.until(run, clerkv1alpha1.SyncPlans)
	taken := w.syncer.NewRun(w.config.DeepCopy(), w.api, w.clerk.InstanceID(), clerkv1alpha1.SyncFull, run.Progress)
	w.clerk.ResetRequests()
	w.Expect(w.finish(taken)).To(Succeed())
	w.Expect(taken.Interrupted()).To(BeTrue())
	w.Expect(w.asked("/v1/")).To(HaveLen(1))
	w.Expect(w.planOf(acme.ID)).To(Equal("pro"))
}
