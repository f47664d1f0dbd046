// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	"cmp"
	"slices"

	"k8s.io/utils/ptr"
)

// MaxBillingItems is how many subscription items of one payer are remembered. It is the limit in the CRDs, too.
const MaxBillingItems = 32

// BillingItemStatus is the state of a subscription item in Clerk.
// +kubebuilder:validation:Enum=Upcoming;Incomplete;Active;PastDue;Canceled;Expired;Abandoned;Ended;Unknown
type BillingItemStatus string

const (
	// BillingItemUpcoming is an item that has not begun.
	BillingItemUpcoming BillingItemStatus = "Upcoming"
	// BillingItemIncomplete is an item that waits for the payer before it can begin.
	BillingItemIncomplete BillingItemStatus = "Incomplete"
	// BillingItemActive is an item in force.
	BillingItemActive BillingItemStatus = "Active"
	// BillingItemPastDue is an item in force with an overdue payment.
	BillingItemPastDue BillingItemStatus = "PastDue"
	// BillingItemCanceled is an item in force that ends with its period.
	BillingItemCanceled BillingItemStatus = "Canceled"
	// BillingItemExpired is an item that ran out.
	BillingItemExpired BillingItemStatus = "Expired"
	// BillingItemAbandoned is an item that was superseded before it began.
	BillingItemAbandoned BillingItemStatus = "Abandoned"
	// BillingItemEnded is an item that was in force and no longer is.
	BillingItemEnded BillingItemStatus = "Ended"
	// BillingItemUnknown is an item in a state that this version does not know. It is not in force.
	BillingItemUnknown BillingItemStatus = "Unknown"
)

// InForce says whether an item of this status gives its plan to the payer.
func (s BillingItemStatus) InForce() bool {
	switch s {
	case BillingItemActive, BillingItemPastDue, BillingItemCanceled:
		return true
	default:
		return false
	}
}

// Billing is what Clerk Billing says of a payer's plan. It has an order of its own: each item is as new as its version.
type Billing struct {
	// plan is the slug of the plan in force; absent when there is none.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=128
	Plan string `json:"plan,omitempty"`

	// status is that of the item in force: Active, PastDue, or Canceled, which runs until its period ends.
	// +optional
	Status BillingItemStatus `json:"status,omitempty"`

	// items are the subscription items that Clerk told of, the newest first. The oldest are forgotten.
	// +required
	// +listType=map
	// +listMapKey=itemID
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=32
	Items []BillingItem `json:"items,omitempty"`
}

// BillingItem is one subscription item: a plan, for a time. (updatedAt, eventTime) is the version of what is told of it.
type BillingItem struct {
	// itemID is the item's ID in Clerk.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:Pattern=`^[A-Za-z0-9_-]+$`
	ItemID string `json:"itemID,omitempty"`

	// plan is the slug of the item's plan; absent where Clerk names none, and then the item is not in force.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=128
	Plan string `json:"plan,omitempty"`

	// status is the item's state.
	// +required
	Status BillingItemStatus `json:"status,omitempty"`

	// paid is true when the plan costs something. A paid plan counts before a free one.
	// +optional
	Paid *bool `json:"paid,omitempty"`

	// periodStart is when the item's current period begins.
	// +optional
	PeriodStart *Timestamp `json:"periodStart,omitempty"`

	// periodEnd is when the item's current period ends; absent for an item without an end.
	// +optional
	PeriodEnd *Timestamp `json:"periodEnd,omitempty"`

	// updatedAt is Clerk's updated_at of the item: the first part of the version of this state.
	// +required
	UpdatedAt Timestamp `json:"updatedAt,omitzero"`

	// eventTime is when Clerk made the event that carried this state: the second part of the version.
	// +required
	EventTime Timestamp `json:"eventTime,omitzero"`
}

// InForce returns the item whose plan is in force, nil when there is none. It depends on nothing but the items.
func (b *Billing) InForce() *BillingItem {
	var best *BillingItem
	for i := range b.Items {
		item := &b.Items[i]
		if !item.eligible() || slices.ContainsFunc(b.Items, item.replacedBy) {
			continue
		}
		if best == nil || item.before(best) {
			best = item
		}
	}
	return best
}

func (i *BillingItem) eligible() bool { return i.Status.InForce() && i.Plan != "" }

// replacedBy says whether another item in force began when this one's period was over: that Clerk ended this one got
// lost on the way, or comes later.
func (i *BillingItem) replacedBy(other BillingItem) bool {
	return other.eligible() && i.PeriodStart != nil && i.PeriodEnd != nil && other.PeriodStart != nil &&
		i.PeriodEnd.After(i.PeriodStart.Time) && !other.PeriodStart.Before(&i.PeriodEnd.MicroTime)
}

// before says whether an item in force counts before another one.
func (i *BillingItem) before(other *BillingItem) bool {
	if paid := ptr.Deref(i.Paid, false); paid != ptr.Deref(other.Paid, false) {
		return paid
	}
	return cmp.Or(
		ptr.Deref(other.PeriodStart, Timestamp{}).Compare(ptr.Deref(i.PeriodStart, Timestamp{}).Time),
		other.UpdatedAt.Compare(i.UpdatedAt.Time),
		other.EventTime.Compare(i.EventTime.Time),
		cmp.Compare(i.ItemID, other.ItemID),
	) < 0
}
