// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package clerk_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	. "github.com/onsi/gomega"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/utils/ptr"

	clerkv1alpha1 "github.com/clerk-operator/clerk-operator/api/v1alpha1"
	"github.com/clerk-operator/clerk-operator/internal/clerk"
)

const itemData = `"id":"csub_item_1","status":"active","plan":{"slug":"pro","amount":2000},"updated_at":1716883200500`

// payerData is an organization that pays: the ID of the other kind is an empty string.
const payerData = `"payer":{"id":"cpayer_1","organization_id":"` + organizationID + `","user_id":"","email":"payer@example.com"}`

func TestDecode_subscriptions(t *testing.T) {
	for name, tc := range map[string]struct {
		event, data string
		wantPayer   string
		wantItems   []string
		wantReason  string
	}{
		"an organization's":         {"subscription.created", `{` + payerData + `,"items":[{` + itemData + `}]}`, organizationID, []string{"csub_item_1"}, ""},
		"under the other name":      {"subscription.updated", `{` + payerData + `,"subscription_items":[{` + itemData + `}]}`, organizationID, []string{"csub_item_1"}, ""},
		"an item's":                 {"subscriptionItem.active", `{` + payerData + `,` + itemData + `}`, organizationID, []string{"csub_item_1"}, ""},
		"an undocumented one":       {"subscriptionItem.expired", `{` + payerData + `,` + itemData + `}`, organizationID, []string{"csub_item_1"}, ""},
		"a user's":                  {"subscriptionItem.active", `{"payer":{"user_id":"` + userID + `","organization_id":""},` + itemData + `}`, userID, []string{"csub_item_1"}, ""},
		"both payers":               {"subscriptionItem.active", `{"payer":{"user_id":"` + userID + `","organization_id":"` + organizationID + `"},` + itemData + `}`, organizationID, []string{"csub_item_1"}, ""},
		"no items":                  {"subscription.active", `{` + payerData + `}`, organizationID, nil, ""},
		"one item of no use":        {"subscription.active", `{` + payerData + `,"items":[7,{"id":"a/b"},{` + itemData + `}]}`, organizationID, []string{"csub_item_1"}, ""},
		"the payer after them":      {"subscription.active", `{"items":[7,{"id":5},{` + itemData + `}],` + payerData + `}`, organizationID, []string{"csub_item_1"}, ""},
		"items of no use":           {"subscription.active", `{` + payerData + `,"items":[{"id":"a/b"}]}`, "", nil, "InvalidID"},
		"an item without an ID":     {"subscriptionItem.ended", `{` + payerData + `}`, "", nil, "NoID"},
		"an ID that is long":        {"subscriptionItem.ended", `{` + payerData + `,"id":"` + strings.Repeat("a", 64) + `"}`, "", nil, "InvalidID"},
		"no payer":                  {"subscriptionItem.ended", `{` + itemData + `}`, "", nil, "NoPayer"},
		"a payer without IDs":       {"subscription.created", `{"payer":{"user_id":"","organization_id":""},"items":[{` + itemData + `}]}`, "", nil, "NoPayer"},
		"a payer of no kind":        {"subscription.created", `{"payer":{"organization_id":"orgmem_1"},"items":[{` + itemData + `}]}`, "", nil, "NoPayer"},
		"a user in the wrong place": {"subscription.created", `{"payer":{"organization_id":"` + userID + `"},"items":[{` + itemData + `}]}`, "", nil, "NoPayer"},
		"as many as are read":       {"subscription.active", `{` + payerData + `,"items":[` + strings.Repeat("{},", 499) + `{` + itemData + `}]}`, organizationID, []string{"csub_item_1"}, ""},
		"more than are read":        {"subscription.active", `{` + payerData + `,"items":[` + strings.Repeat("{},", 500) + `{` + itemData + `}]}`, "", nil, "TooManyItems"},
		"no data":                   {"subscription.pastDue", `null`, "", nil, "NoData"},
	} {
		t.Run(name, func(t *testing.T) {
			g := NewWithT(t)
			event, err := clerk.Decode(envelope(tc.event, tc.data))
			if tc.wantReason != "" {
				g.Expect(err).To(MatchError(&clerk.UnusableError{Reason: tc.wantReason}))
				g.Expect(event.Subscription).To(BeNil())
				return
			}
			g.Expect(err).NotTo(HaveOccurred())
			g.Expect(event.Mirrored()).To(BeTrue())
			g.Expect(event.Object(source)).To(BeNil())
			g.Expect(event.Subscription.PayerID).To(Equal(tc.wantPayer))
			kind, _ := clerk.KindOf(tc.wantPayer)
			g.Expect(event.Subscription.PayerKind).To(Equal(kind))
			var ids []string
			for _, item := range event.Subscription.Items {
				ids = append(ids, item.ItemID)
			}
			g.Expect(ids).To(Equal(tc.wantItems))
		})
	}
}

func TestDecode_subscriptionItems(t *testing.T) {
	eventTime := clerkv1alpha1.NewTimestamp(time.Date(2024, 5, 28, 8, 0, 0, 0, time.UTC))
	later := clerkv1alpha1.NewTimestamp(eventTime.Add(500 * time.Millisecond))
	base := clerkv1alpha1.BillingItem{
		ItemID: "i", Plan: "pro", Status: clerkv1alpha1.BillingItemActive, UpdatedAt: later, EventTime: eventTime,
	}
	for name, tc := range map[string]struct {
		data   string
		change func(*clerkv1alpha1.BillingItem)
	}{
		"plain": {`"plan":{"slug":"pro"}`, func(*clerkv1alpha1.BillingItem) {}},
		"paid":  {`"plan":{"slug":"pro","amount":1}`, func(i *clerkv1alpha1.BillingItem) { i.Paid = new(true) }},
		"free":  {`"plan":{"slug":"pro","amount":0,"unit_prices":[{"tiers":[{"amount_per_block":0}]}]}`, func(*clerkv1alpha1.BillingItem) {}},
		"paid by the seat": {`"plan":{"slug":"pro","amount":0,"unit_prices":[{"tiers":[{"amount_per_block":0},{"amount_per_block":5}]}]}`,
			func(i *clerkv1alpha1.BillingItem) { i.Paid = new(true) }},
		"no plan":                        {`"plan":null`, func(i *clerkv1alpha1.BillingItem) { i.Plan = "" }},
		"a plan that is no object":       {`"plan":"pro"`, func(i *clerkv1alpha1.BillingItem) { i.Plan = "" }},
		"a slug that fools readers":      {`"plan":{"slug":"pro\u202e"}`, func(i *clerkv1alpha1.BillingItem) { i.Plan = "" }},
		"a slug with spaces around":      {`"plan":{"slug":" pro "}`, func(i *clerkv1alpha1.BillingItem) { i.Plan = "" }},
		"a slug that is too long":        {`"plan":{"slug":"` + strings.Repeat("p", 129) + `"}`, func(i *clerkv1alpha1.BillingItem) { i.Plan = "" }},
		"a slug as long as may be":       {`"plan":{"slug":"` + strings.Repeat("p", 128) + `"}`, func(i *clerkv1alpha1.BillingItem) { i.Plan = strings.Repeat("p", 128) }},
		"a status that nobody knows":     {`"plan":{"slug":"pro"},"status":"paused"`, func(i *clerkv1alpha1.BillingItem) { i.Status = clerkv1alpha1.BillingItemUnknown }},
		"a status in another case":       {`"plan":{"slug":"pro"},"status":"Active"`, func(i *clerkv1alpha1.BillingItem) { i.Status = clerkv1alpha1.BillingItemUnknown }},
		"a status that is none":          {`"plan":{"slug":"pro"},"status":{}`, func(i *clerkv1alpha1.BillingItem) { i.Status = clerkv1alpha1.BillingItemActive }},
		"overdue":                        {`"plan":{"slug":"pro"},"status":"past_due"`, func(i *clerkv1alpha1.BillingItem) { i.Status = clerkv1alpha1.BillingItemPastDue }},
		"without updated_at":             {`"plan":{"slug":"pro"},"updated_at":null`, func(*clerkv1alpha1.BillingItem) {}},
		"a period, and one without end":  {`"plan":{"slug":"pro"},"period_start":1716883200000,"period_end":null`, func(i *clerkv1alpha1.BillingItem) { i.PeriodStart = &eventTime }},
		"a period of seconds":            {`"plan":{"slug":"pro"},"period_start":1716883200,"period_end":1716883200.5`, func(i *clerkv1alpha1.BillingItem) { i.PeriodStart, i.PeriodEnd = &eventTime, &later }},
		"times that nobody can be meant": {`"plan":{"slug":"pro"},"period_start":-1,"period_end":99999999999999999`, func(*clerkv1alpha1.BillingItem) {}},
	} {
		t.Run(name, func(t *testing.T) {
			g := NewWithT(t)
			event, err := clerk.Decode(envelope("subscriptionItem.updated",
				`{`+payerData+`,"id":"i","status":"active","updated_at":1716883200500,`+tc.data+`}`))
			g.Expect(err).NotTo(HaveOccurred())
			want := base
			tc.change(&want)
			g.Expect(event.Subscription.Items).To(Equal([]clerkv1alpha1.BillingItem{want}))
		})
	}
	t.Run("no time at all", func(t *testing.T) {
		g := NewWithT(t)
		_, err := clerk.Decode([]byte(`{"type":"subscriptionItem.updated","data":{` + payerData + `,"id":"i"}}`))
		g.Expect(err).To(MatchError(&clerk.UnusableError{Reason: "NoTime"}))
	})
}

func TestDecodeSubscription_ofTheBackendAPI(t *testing.T) {
	g := NewWithT(t)
	raw := `{"id":"csub_1","status":"active","payer_id":"cpayer_1","subscription_items":[
		{"id":"a","status":"active","updated_at":1716883200500,"plan":{"slug":"pro","fee":{"amount":2000},"annual_fee":null}},
		{"id":"b","status":"upcoming","updated_at":1716883200500,"plan":{"slug":"free","fee":null,"annual_fee":{"amount":0}}}]}`
	subscription, err := clerk.DecodeSubscription(organizationID, json.RawMessage(raw))
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(subscription.PayerID).To(Equal(organizationID))
	g.Expect(subscription.PayerKind).To(Equal(clerk.KindOrganization))
	g.Expect(subscription.Items).To(HaveLen(2))
	g.Expect(subscription.Items[0].Paid).To(HaveValue(BeTrue()))
	g.Expect(subscription.Items[1].Paid).To(BeNil())

	event, err := clerk.Decode(envelope("subscriptionItem.active", `{`+payerData+`,"id":"a","status":"active",`+
		`"updated_at":1716883200500,"plan":{"slug":"pro","amount":2000}}`))
	g.Expect(err).NotTo(HaveOccurred())
	told := clerk.MergeBilling(&clerkv1alpha1.Billing{}, event.Subscription)
	subscription.Items = subscription.Items[:1]
	g.Expect(clerk.MergeBilling(&told, subscription)).To(Equal(told), "what an event told is no news")
	listed, err := clerk.DecodeSubscriptionItem(json.RawMessage(`{` + payerData + `,"id":"a","status":"active",` +
		`"updated_at":1716883200500,"plan":{"slug":"pro","fee":{"amount":2000}}}`))
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(listed).To(Equal(subscription))
	for _, plan := range []string{`null`, `{"slug":""}`, `{"slug":"pr\u202eo"}`} {
		listed, err = clerk.DecodeSubscriptionItem(json.RawMessage(`{` + payerData + `,"id":"a","updated_at":1716883200900,"plan":` + plan + `}`))
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(clerk.MergeBilling(&told, listed)).To(Equal(told), "an item of no plan says nothing")
	}
	_, err = clerk.DecodeSubscriptionItem(json.RawMessage(`{"id":"a","status":"active","updated_at":1716883200500}`))
	g.Expect(err).To(MatchError(&clerk.UnusableError{Reason: "NoPayer"}))
	for _, useless := range []string{`null`, `[]`, `{"items":[{"id":"a/b"}]}`, `{"items":[{"id":"a"}]}`} {
		_, err := clerk.DecodeSubscription(organizationID, json.RawMessage(useless))
		g.Expect(err).To(BeAssignableToTypeOf(&clerk.UnusableError{}), useless)
	}
}

// day is a moment of the tests' story.
func day(n int) *clerkv1alpha1.Timestamp {
	return new(clerkv1alpha1.NewTimestamp(time.Date(2026, 5, 1, 0, 0, 0, 0, time.UTC).AddDate(0, 0, n)))
}

func item(id, plan string, status clerkv1alpha1.BillingItemStatus, from, to, updated int, paid bool) clerkv1alpha1.BillingItem {
	item := clerkv1alpha1.BillingItem{
		ItemID: id, Plan: plan, Status: status, PeriodStart: day(from), UpdatedAt: *day(updated), EventTime: *day(updated),
	}
	if to > 0 {
		item.PeriodEnd = day(to)
	}
	if paid {
		item.Paid = new(true)
	}
	return item
}

func TestMergeBilling_theItemInForce(t *testing.T) {
	const (
		active, pastDue, canceled = clerkv1alpha1.BillingItemActive, clerkv1alpha1.BillingItemPastDue, clerkv1alpha1.BillingItemCanceled
		upcoming, ended, unknown  = clerkv1alpha1.BillingItemUpcoming, clerkv1alpha1.BillingItemEnded, clerkv1alpha1.BillingItemUnknown
		incomplete, abandoned     = clerkv1alpha1.BillingItemIncomplete, clerkv1alpha1.BillingItemAbandoned
	)
	for name, tc := range map[string]struct {
		items      []clerkv1alpha1.BillingItem
		wantPlan   string
		wantStatus clerkv1alpha1.BillingItemStatus
	}{
		"the free one alone":        {[]clerkv1alpha1.BillingItem{item("a", "free", active, 0, 0, 0, false)}, "free", active},
		"a paid one beside it":      {[]clerkv1alpha1.BillingItem{item("a", "free", active, 5, 0, 5, false), item("b", "pro", active, 1, 31, 1, true)}, "pro", active},
		"overdue is not ended":      {[]clerkv1alpha1.BillingItem{item("a", "free", active, 5, 0, 5, false), item("b", "pro", pastDue, 1, 31, 8, true)}, "pro", pastDue},
		"canceled runs on":          {[]clerkv1alpha1.BillingItem{item("a", "free", upcoming, 31, 0, 9, false), item("b", "pro", canceled, 1, 31, 9, true)}, "pro", canceled},
		"ended":                     {[]clerkv1alpha1.BillingItem{item("a", "free", active, 31, 0, 31, false), item("b", "pro", ended, 1, 31, 31, true)}, "free", active},
		"the end got lost":          {[]clerkv1alpha1.BillingItem{item("a", "free", active, 31, 0, 31, false), item("b", "pro", canceled, 1, 31, 9, true)}, "free", active},
		"an end before its start":   {[]clerkv1alpha1.BillingItem{item("a", "free", active, 0, 0, 31, false), item("b", "pro", active, 9, 3, 9, true)}, "pro", active},
		"an upgrade":                {[]clerkv1alpha1.BillingItem{item("a", "pro", canceled, 1, 31, 9, true), item("b", "team", active, 9, 40, 9, true)}, "team", active},
		"a downgrade that is to be": {[]clerkv1alpha1.BillingItem{item("a", "team", canceled, 1, 31, 9, true), item("b", "pro", upcoming, 31, 61, 9, true)}, "team", canceled},
		"nothing that is in force":  {[]clerkv1alpha1.BillingItem{item("a", "x", incomplete, 1, 0, 1, true), item("b", "y", abandoned, 1, 0, 1, true), item("c", "z", unknown, 1, 0, 1, true)}, "", ""},
		"no plan is none":           {[]clerkv1alpha1.BillingItem{item("a", "", active, 1, 0, 1, true)}, "", ""},
		"a tie":                     {[]clerkv1alpha1.BillingItem{item("b", "y", active, 1, 0, 1, true), item("a", "x", active, 1, 0, 1, true)}, "x", active},
		"nothing":                   {nil, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			g := NewWithT(t)
			for range 2 {
				merged := clerk.MergeBilling(&clerkv1alpha1.Billing{}, &clerk.Subscription{Items: tc.items})
				g.Expect(merged.Plan).To(Equal(tc.wantPlan))
				g.Expect(merged.Status).To(Equal(tc.wantStatus))
				slices.Reverse(tc.items)
			}
		})
	}
}

// history is a set of events of one payer in which items are few enough to meet, and times few enough to be equal.
func history(random *rand.Rand, items int) []*clerk.Subscription {
	statuses := []clerkv1alpha1.BillingItemStatus{
		clerkv1alpha1.BillingItemUpcoming, clerkv1alpha1.BillingItemActive, clerkv1alpha1.BillingItemPastDue,
		clerkv1alpha1.BillingItemCanceled, clerkv1alpha1.BillingItemEnded, clerkv1alpha1.BillingItemUnknown,
	}
	events := make([]*clerk.Subscription, 3*items)
	for i := range events {
		events[i] = &clerk.Subscription{}
		for range 1 + random.IntN(3) {
			next := item(fmt.Sprintf("item_%d", random.IntN(items)), []string{"", "free", "pro", "team"}[random.IntN(4)],
				statuses[random.IntN(len(statuses))], random.IntN(9), random.IntN(9), random.IntN(2*items), random.IntN(2) == 0)
			next.EventTime = *day(random.IntN(3))
			events[i].Items = append(events[i].Items, next)
		}
	}
	return events
}

func TestMergeBilling_theOrderOfEventsDecidesNothing(t *testing.T) {
	for name, items := range map[string]int{"few items": 4, "more than can be stored": 3 * clerkv1alpha1.MaxBillingItems} {
		t.Run(name, func(t *testing.T) {
			g := NewWithT(t)
			random := rand.New(rand.NewPCG(1, uint64(items)))
			for range 5 {
				events := history(random, items)
				want := arriving(events)
				g.Expect(len(want.Items)).To(BeNumerically("<=", clerkv1alpha1.MaxBillingItems))
				for range 5 {
					again := slices.Concat(events, events[:random.IntN(len(events))])
					random.Shuffle(len(again), func(i, j int) { again[i], again[j] = again[j], again[i] })
					g.Expect(arriving(again)).To(Equal(want))
				}
				for _, repeated := range events {
					after := clerk.MergeBilling(&want, repeated)
					g.Expect(equality.Semantic.DeepEqual(after, want)).To(BeTrue(), "what is repeated changes nothing")
				}
			}
		})
	}
}

// arriving merges events as they come. What is stored goes through JSON, as in the API server.
func arriving(events []*clerk.Subscription) clerkv1alpha1.Billing {
	var stored clerkv1alpha1.Billing
	for _, event := range events {
		encoded, err := json.Marshal(clerk.MergeBilling(&stored, event))
		if err != nil {
			panic(err)
		}
		stored = clerkv1alpha1.Billing{}
		if err := json.Unmarshal(encoded, &stored); err != nil {
			panic(err)
		}
	}
	return stored
}

func TestBilling_appliesAllThatIsKnown(t *testing.T) {
	g := NewWithT(t)
	full := item("a", "pro", clerkv1alpha1.BillingItemActive, 1, 31, 2, true)
	bare := clerkv1alpha1.BillingItem{ItemID: "b", Status: clerkv1alpha1.BillingItemUnknown, UpdatedAt: *day(1), EventTime: *day(1)}
	merged := clerk.MergeBilling(&clerkv1alpha1.Billing{}, &clerk.Subscription{Items: []clerkv1alpha1.BillingItem{bare, full}})
	want, err := json.Marshal(merged)
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(clerk.Billing(&merged)).To(encodeTo(string(want)))
	g.Expect(ptr.Deref(merged.Items[0].Paid, false)).To(BeTrue(), "the newest one first")
}
