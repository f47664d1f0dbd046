// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package backfill

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	. "github.com/onsi/gomega"

	clerkv1alpha1 "github.com/clerk-operator/clerk-operator/api/v1alpha1"
	"github.com/clerk-operator/clerk-operator/test/clerkfake"
)

const plansPath = "/v1/billing/subscription_items"

func (w *world) planOf(organizationID string) string {
	w.t.Helper()
	return mirroredOrganizationOf(w, organizationID).(*clerkv1alpha1.ClerkOrganization).Spec.Billing.Plan
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

	// The events of all this got lost, or nobody subscribed to them, which is no failure of the endpoint.
	w.clerk.Subscribe(none.ID, "pro")
	w.clerk.Cancel(pro.ID)
	w.clerk.End(pro.ID)
	w.Expect(w.full().Repaired()).To(BeEmpty())
	w.Expect(w.planOf(pro.ID)).To(Equal(clerkfake.FreePlan))
	w.Expect(w.planOf(none.ID)).To(Equal("pro"))
	w.Expect(w.counters("clerk_operator_sync_objects_total")).To(HaveKeyWithValue("ClerkOrganization updated", BeNumerically(">=", 4)))
	w.Expect(w.counters("clerk_operator_sync_repaired_objects_total")).To(BeEmpty())
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
	w.Expect(run.Outcome().Skipped).To(BeZero())
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
			w.clerk.ResetRequests()
			run := w.full()
			w.Expect(w.asked(plansPath)).To(HaveLen(1))
			w.Expect(run.Outcome().PlansUnread).To(BeEmpty())
			w.Expect(w.planOf(acme.ID)).To(Equal("pro"), "it stays what it was")
		})
	}
}

// What goes wrong with plans is told, and everything else goes on however long it does.
func TestPlans_aFailureHoldsNothingElseUp(t *testing.T) {
	const item = `{"id":"%s","status":"active","updated_at":1,"plan":{"slug":"pro"},"payer":{"organization_id":"org_nobody"}}`
	for name, tc := range map[string]struct {
		fault clerkfake.Fault
		want  string
	}{
		"an error":               {clerkfake.Fault{Status: http.StatusInternalServerError}, "ListSubscriptionItems failed with 500"},
		"a refusal of the key":   {clerkfake.Fault{Status: http.StatusUnauthorized}, "ListSubscriptionItems failed with 401"},
		"a stranger's refusal":   {clerkfake.Fault{Status: http.StatusForbidden, Body: "no"}, "ListSubscriptionItems failed with 403"},
		"half an answer":         {clerkfake.Fault{Truncate: true}, "is not what Clerk documents"},
		"something else's list":  {clerkfake.Fault{Body: "[]"}, "is not what Clerk documents"},
		"items that repeat":      {clerkfake.Fault{Body: `{"data":[{"id":"a"}],"total_count":1000}`}, ErrListingRepeats.Error()},
		"a list that ends":       {clerkfake.Fault{Body: `{"data":[],"total_count":1}`}, ErrListingEnds.Error()},
		"a list that never does": {clerkfake.Fault{Body: `{"data":[` + fmt.Sprintf(item, "a") + `],"total_count":1000}`}, ErrListingRepeats.Error()},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			acme := w.tenant(0)
			w.full()
			w.clerk.Subscribe(acme.ID, "pro")
			tc.fault.Path = plansPath
			w.clerk.Inject(tc.fault)
			for range 2 {
				gone := w.tenant(0)
				w.sync(clerkv1alpha1.SyncIncremental)
				w.clerk.DeleteOrganization(gone.ID)
				run := w.full()
				w.states(deleted, gone.ID)
				w.Expect(run.Outcome().PlansUnread).To(ContainSubstring(tc.want))
			}
			w.Expect(w.planOf(acme.ID)).To(BeEmpty())
			w.clerk.ClearFaults()
			run := w.begin(clerkv1alpha1.SyncIncremental)
			run.ReadPlans()
			w.Expect(w.finish(run)).To(Succeed())
			w.Expect(run.Outcome().PlansUnread).To(BeEmpty())
			w.Expect(w.planOf(acme.ID)).To(Equal("pro"))
		})
	}
}

// Clerk need not say the plan of an item. Such a one says nothing, and there may be a page of them.
func TestPlans_itemsWithoutAPlanSayNothing(t *testing.T) {
	w := newWorld(t)
	acme := w.tenant(0)
	w.clerk.Subscribe(acme.ID, "pro")
	w.full()
	items := make([]string, 2)
	for i := range items {
		items[i] = fmt.Sprintf(`{"id":"csub_item_%d","status":"active","updated_at":1,"plan":null,"payer":{"organization_id":%q}}`, i, acme.ID)
	}
	w.clerk.Inject(clerkfake.Fault{Path: plansPath, Body: `{"data":[` + strings.Join(items, ",") + `],"total_count":4}`})
	w.clerk.ResetRequests()
	run := w.full()
	w.Expect(w.asked(plansPath)).To(HaveLen(2))
	w.Expect(run.Outcome().PlansUnread).To(BeEmpty())
	w.Expect(w.planOf(acme.ID)).To(Equal("pro"))
}

// Odd items are counted and named, be there nothing else on their page, and the rest is read.
func TestPlans_skipItemsThatCannotBeUsed(t *testing.T) {
	item := func(id, payer string) string {
		return fmt.Sprintf(`{"id":%q,"status":"active","updated_at":1,"plan":{"slug":"pro"},"payer":{"organization_id":%q}}`, id, payer)
	}
	for name, tc := range map[string]struct {
		pages func(payer string) [][]string
		want  []clerkv1alpha1.SkippedEntry
	}{
		"a page of them": {
			func(payer string) [][]string {
				return [][]string{{item("a", ""), item("b", "user_a")}, {item("a/b", payer), item("c", payer)}}
			},
			[]clerkv1alpha1.SkippedEntry{
				{Kind: clerkv1alpha1.ClerkSubscriptionItemObject, ID: "a", Reason: "NoPayer"},
				{Kind: clerkv1alpha1.ClerkSubscriptionItemObject, ID: "b", Reason: "NoPayer"},
				{Kind: clerkv1alpha1.ClerkSubscriptionItemObject, Reason: "InvalidID"},
			},
		},
		"a page without an ID": {
			func(payer string) [][]string { return [][]string{{`null`, `7`}, {item("c", payer), `{}`}} },
			[]clerkv1alpha1.SkippedEntry{
				{Kind: clerkv1alpha1.ClerkSubscriptionItemObject, Reason: "NoData"},
				{Kind: clerkv1alpha1.ClerkSubscriptionItemObject, Reason: "MalformedData"},
				{Kind: clerkv1alpha1.ClerkSubscriptionItemObject, Reason: "NoPayer"},
			},
		},
		"one that moved to the next page": {
			func(payer string) [][]string {
				return [][]string{{item("c", payer), item("a", "")}, {item("a", ""), item("d", payer)}}
			},
			[]clerkv1alpha1.SkippedEntry{{Kind: clerkv1alpha1.ClerkSubscriptionItemObject, ID: "a", Reason: "NoPayer"}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			acme := w.tenant(0)
			run := w.begin(clerkv1alpha1.SyncFull)
			w.until(run, clerkv1alpha1.SyncPlans)
			pages := tc.pages(acme.ID)
			for i, page := range pages {
				w.clerk.Inject(clerkfake.Fault{Path: plansPath, Times: 1, Body: fmt.Sprintf(`{"data":[%s],"total_count":4}`, strings.Join(page, ","))})
				w.Expect(w.step(run).Done).To(Equal(i == len(pages)-1))
			}
			w.Expect(run.Outcome().PlansUnread).To(BeEmpty())
			w.Expect(run.Outcome().SkippedEntries).To(Equal(tc.want))
			w.Expect(run.Outcome().Skipped).To(Equal(len(tc.want)))
			w.Expect(w.planOf(acme.ID)).To(Equal("pro"))
		})
	}
}

// A listing of nothing that has an ID cannot be told from one that repeats itself.
func TestPlans_aListingWithoutIDsEnds(t *testing.T) {
	w := newWorld(t)
	w.clerk.Inject(clerkfake.Fault{Path: plansPath, Body: `{"data":[null],"total_count":1000000}`})
	run := w.full()
	w.Expect(len(w.asked(plansPath))).To(BeNumerically("<=", maxBlankPages+1))
	w.Expect(run.Outcome().Skipped).To(BeNumerically(">", 1))
	w.Expect(run.Outcome().SkippedEntries).To(HaveLen(clerkv1alpha1.MaxSkipped))
}

// That billing is off is said at once or not at all.
func TestPlans_aListingThatBreaksOffIsToldOf(t *testing.T) {
	w := newWorld(t, pagesOf(2))
	for range 3 {
		w.clerk.Subscribe(w.tenant(0).ID, "pro")
	}
	run := w.begin(clerkv1alpha1.SyncFull)
	w.until(run, clerkv1alpha1.SyncPlans)
	w.Expect(w.step(run).Done).To(BeFalse())
	w.clerk.Inject(clerkfake.Fault{Path: plansPath, Status: http.StatusNotFound})
	w.Expect(w.step(run).Done).To(BeTrue())
	w.Expect(run.Outcome().PlansUnread).To(HavePrefix("ListSubscriptionItems failed with 404"))
}

// Another process does not know what was decided on deletions, so it begins anew.
func TestPlans_takenUpByAnotherProcess(t *testing.T) {
	w := newWorld(t)
	acme := w.tenant(0)
	run := w.begin(clerkv1alpha1.SyncFull)
	w.until(run, clerkv1alpha1.SyncPlans)
	w.clerk.DeleteOrganization(acme.ID)
	taken := w.syncer.NewRun(w.config.DeepCopy(), w.api, w.clerk.InstanceID(), clerkv1alpha1.SyncFull, run.Progress)
	w.Expect(w.finish(taken)).To(Succeed())
	w.Expect(taken.Interrupted()).To(BeFalse())
	w.states(deleted, acme.ID)
}
