// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package clerk

import (
	"cmp"
	"encoding/json"
	"maps"
	"regexp"
	"slices"
	"time"

	"k8s.io/utils/ptr"

	clerkv1alpha1 "github.com/clerk-operator/clerk-operator/api/v1alpha1"
	clerkv1alpha1ac "github.com/clerk-operator/clerk-operator/api/v1alpha1/applyconfiguration/api/v1alpha1"
)

// Subscription is what an event of Clerk Billing says: some or all of the items of one payer.
type Subscription struct {
	// PayerKind and PayerID name the organization or the user who pays.
	PayerKind Kind
	PayerID   string
	Items     []clerkv1alpha1.BillingItem
	// Invalid are the items that cannot be used.
	Invalid []Invalid
}

// payer has an empty string where an ID does not apply. Names and addresses are nobody's business here.
type payer struct {
	UserID         string `json:"user_id"`
	OrganizationID string `json:"organization_id"`
}

type subscriptionItem struct {
	ID          string `json:"id"`
	Status      string `json:"status"`
	Plan        plan   `json:"plan"`
	PeriodStart epoch  `json:"period_start"`
	PeriodEnd   epoch  `json:"period_end"`
	CreatedAt   epoch  `json:"created_at"`
	UpdatedAt   epoch  `json:"updated_at"`
}

type plan struct {
	Slug       string      `json:"slug"`
	Amount     wholeNumber `json:"amount"`
	Fee        fee         `json:"fee"`        // for the amount, in the Backend API
	AnnualFee  fee         `json:"annual_fee"` // too
	UnitPrices few[struct {
		Tiers few[struct {
			AmountPerBlock wholeNumber `json:"amount_per_block"`
		}] `json:"tiers"`
	}] `json:"unit_prices"`
}

type fee struct {
	Amount wholeNumber `json:"amount"`
}

// paid says whether a plan costs something, be it by the seat.
func (p *plan) paid() bool {
	for _, amount := range []wholeNumber{p.Amount, p.Fee.Amount, p.AnnualFee.Amount} {
		if ptr.Deref(amount.int64, 0) > 0 {
			return true
		}
	}
	for _, price := range p.UnitPrices {
		for _, tier := range price.Tiers {
			if ptr.Deref(tier.AmountPerBlock.int64, 0) > 0 {
				return true
			}
		}
	}
	return false
}

// itemStatuses holds what Clerk's words for the state of an item mean, in the order of an item's life.
var itemStatuses = []struct {
	word   string
	status clerkv1alpha1.BillingItemStatus
}{
	{"upcoming", clerkv1alpha1.BillingItemUpcoming},
	{"incomplete", clerkv1alpha1.BillingItemIncomplete},
	{"active", clerkv1alpha1.BillingItemActive},
	{"past_due", clerkv1alpha1.BillingItemPastDue},
	{"canceled", clerkv1alpha1.BillingItemCanceled},
	{"expired", clerkv1alpha1.BillingItemExpired},
	{"abandoned", clerkv1alpha1.BillingItemAbandoned},
	{"ended", clerkv1alpha1.BillingItemEnded},
}

func itemStatus(word string) clerkv1alpha1.BillingItemStatus {
	for _, known := range itemStatuses {
		if known.word == word {
			return known.status
		}
	}
	return clerkv1alpha1.BillingItemUnknown
}

// stage is how far in its life an item of a status is; the unknown one is before all others.
func stage(status clerkv1alpha1.BillingItemStatus) int {
	for i, known := range itemStatuses {
		if known.status == status {
			return i
		}
	}
	return -1
}

// subscriptionData is a subscription. Clerk's documents do not agree on the name of its items.
type subscriptionData struct {
	Payer             payer                 `json:"payer"`
	Items             few[subscriptionItem] `json:"items"`
	SubscriptionItems few[subscriptionItem] `json:"subscription_items"`
}

func decodeSubscriptionData(data json.RawMessage) (payer, []subscriptionItem, error) {
	var subscription subscriptionData
	if err := decodeData(data, &subscription); err != nil {
		return payer{}, nil, err
	}
	items := slices.Concat(subscription.Items, subscription.SubscriptionItems)
	if len(items) > maxListed {
		return payer{}, nil, unusable("TooManyItems")
	}
	return subscription.Payer, items, nil
}

func decodeSubscription(event *Event, data json.RawMessage) error {
	payer, items, err := decodeSubscriptionData(data)
	if err != nil {
		return err
	}
	return event.subscribe(payer, items)
}

// DecodeSubscription reads the subscription of a payer from the Backend API, which need not say whose it is, as leniently
// as Decode. Its items are states of their own updated_at and nothing newer. The error is an *UnusableError.
func DecodeSubscription(payerID string, data json.RawMessage) (*Subscription, error) {
	_, items, err := decodeSubscriptionData(data)
	if err != nil {
		return nil, err
	}
	var event Event
	if err := event.subscribe(payer{UserID: payerID, OrganizationID: payerID}, items); err != nil {
		return nil, err
	}
	return event.Subscription.read(), nil
}

// DecodeSubscriptionItem reads an item, which says whose it is, from the Backend API, as DecodeSubscription does.
func DecodeSubscriptionItem(data json.RawMessage) (*Subscription, error) {
	var event Event
	if err := decodeSubscriptionItem(&event, data); err != nil {
		return nil, err
	}
	return event.Subscription.read(), nil
}

// read makes items states that no event told of: as new as they are themselves and nothing newer. The Backend API need not
// say an item's plan, and what is known of it must not be lost to that.
func (s *Subscription) read() *Subscription {
	s.Items = slices.DeleteFunc(s.Items, func(item clerkv1alpha1.BillingItem) bool { return item.Plan == "" })
	for i := range s.Items {
		// Envelopes can be in whole seconds: the event that told the same must not look older.
		s.Items[i].EventTime = clerkv1alpha1.NewTimestamp(s.Items[i].UpdatedAt.Truncate(time.Second))
	}
	return s
}

func decodeSubscriptionItem(event *Event, data json.RawMessage) error {
	var item struct {
		subscriptionItem
		Payer payer `json:"payer"`
	}
	if err := decodeData(data, &item); err != nil {
		return err
	}
	return event.subscribe(item.Payer, []subscriptionItem{item.subscriptionItem})
}

// subscribe takes what can be used of the items, and names the others. Nothing of a single item or of all of them is an
// error: it would look as if the payer had no plan.
func (e *Event) subscribe(payer payer, items []subscriptionItem) error {
	subscription := &Subscription{}
	if kind, ok := KindOf(payer.OrganizationID); ok && kind == KindOrganization {
		subscription.PayerKind, subscription.PayerID = kind, payer.OrganizationID
	} else if kind, ok := KindOf(payer.UserID); ok && kind == KindUser {
		subscription.PayerKind, subscription.PayerID = kind, payer.UserID
	} else {
		return unusable("NoPayer")
	}
	var problem error
	for i := range items {
		item, err := e.billingItem(&items[i])
		if err != nil {
			problem = cmp.Or(problem, err)
			subscription.Invalid = append(subscription.Invalid, invalidItem(items[i].ID, err))
			continue
		}
		subscription.Items = append(subscription.Items, item)
	}
	if len(subscription.Items) == 0 && problem != nil {
		return problem
	}
	e.Subscription = subscription
	return nil
}

func invalidItem(id string, err error) Invalid {
	invalid := Invalid{Reason: ReasonOf(err)}
	if isID(id, KindSubscriptionItem) {
		invalid.ID = id
	}
	return invalid
}

// itemIDPattern is the CRDs' own.
var itemIDPattern = regexp.MustCompile(`^[A-Za-z0-9_-]+$`)

func (e *Event) billingItem(item *subscriptionItem) (clerkv1alpha1.BillingItem, error) {
	switch {
	case item.ID == "":
		return clerkv1alpha1.BillingItem{}, unusable("NoID")
	case len(item.ID) > maxIDLength || !itemIDPattern.MatchString(item.ID):
		return clerkv1alpha1.BillingItem{}, unusable("InvalidID")
	}
	if err := checkTime(e, item.UpdatedAt, item.CreatedAt); err != nil {
		return clerkv1alpha1.BillingItem{}, err
	}
	updatedAt := firstTime(item.UpdatedAt.Time, e.Time, item.CreatedAt.Time)
	billing := clerkv1alpha1.BillingItem{
		ItemID:      item.ID,
		Status:      itemStatus(item.Status),
		PeriodStart: item.PeriodStart.timestamp(),
		PeriodEnd:   item.PeriodEnd.timestamp(),
		UpdatedAt:   clerkv1alpha1.NewTimestamp(updatedAt),
		EventTime:   clerkv1alpha1.NewTimestamp(firstTime(e.Time, updatedAt)),
	}
	// A slug decides what an organization gets: it is taken exactly as it is or not at all.
	if item.Plan.Slug == text(item.Plan.Slug, maxPlan) {
		billing.Plan = item.Plan.Slug
	}
	if item.Plan.paid() {
		billing.Paid = new(true)
	}
	return billing, nil
}

func (e epoch) timestamp() *clerkv1alpha1.Timestamp {
	if e.IsZero() {
		return nil
	}
	return new(clerkv1alpha1.NewTimestamp(e.Time))
}

// MergeBilling returns what is known of a payer's plan after an event. Of each item the newest state counts, and of the
// items as many as can be stored, the newest ones. So it does not matter in which order and how often events arrive: an
// old state of an item that is forgotten is older than all items that are not.
func MergeBilling(stored *clerkv1alpha1.Billing, subscription *Subscription) clerkv1alpha1.Billing {
	newest := map[string]clerkv1alpha1.BillingItem{}
	for _, item := range slices.Concat(stored.Items, subscription.Items) {
		if known, ok := newest[item.ItemID]; !ok || compareItems(item, known) > 0 {
			newest[item.ItemID] = item
		}
	}
	if len(newest) == 0 {
		return clerkv1alpha1.Billing{}
	}
	items := slices.SortedFunc(maps.Values(newest), func(a, b clerkv1alpha1.BillingItem) int { return compareItems(b, a) })
	merged := clerkv1alpha1.Billing{Items: items[:min(len(items), clerkv1alpha1.MaxBillingItems)]}
	if item := merged.InForce(); item != nil {
		merged.Plan, merged.Status = item.Plan, item.Status
	}
	return merged
}

// compareItems orders states of items by their version. Two states of one version are told apart by what they say, the
// later in an item's life being the newer one, so that the order of their arrival decides nothing.
func compareItems(a, b clerkv1alpha1.BillingItem) int {
	return cmp.Or(
		a.UpdatedAt.Compare(b.UpdatedAt.Time),
		a.EventTime.Compare(b.EventTime.Time),
		cmp.Compare(stage(a.Status), stage(b.Status)),
		compareTimes(a.PeriodStart, b.PeriodStart),
		compareTimes(a.PeriodEnd, b.PeriodEnd),
		cmp.Compare(a.Plan, b.Plan),
		compareTrue(a.Paid, b.Paid),
		cmp.Compare(a.ItemID, b.ItemID),
	)
}

func compareTimes(a, b *clerkv1alpha1.Timestamp) int {
	return ptr.Deref(a, clerkv1alpha1.Timestamp{}).Compare(ptr.Deref(b, clerkv1alpha1.Timestamp{}).Time)
}

func compareTrue(a, b *bool) int {
	switch a, b := ptr.Deref(a, false), ptr.Deref(b, false); {
	case a == b:
		return 0
	case a:
		return 1
	}
	return -1
}

// Billing maps what is known of a payer's plan to what is applied of it.
func Billing(b *clerkv1alpha1.Billing) *clerkv1alpha1ac.BillingApplyConfiguration {
	applied := clerkv1alpha1ac.Billing()
	applied.Plan = optional(b.Plan)
	if b.Status != "" {
		applied.WithStatus(b.Status)
	}
	for _, item := range b.Items {
		i := clerkv1alpha1ac.BillingItem().
			WithItemID(item.ItemID).
			WithStatus(item.Status).
			WithUpdatedAt(item.UpdatedAt).
			WithEventTime(item.EventTime)
		i.Plan, i.Paid, i.PeriodStart, i.PeriodEnd = optional(item.Plan), item.Paid, item.PeriodStart, item.PeriodEnd
		applied.WithItems(i)
	}
	return applied
}
