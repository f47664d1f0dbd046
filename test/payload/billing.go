// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package payload

import (
	"strings"
	"time"
)

// Payer data that the operator must never store.
const (
	PayerEmail = "payer-must-not-be-stored@example.com"
	PayerName  = "Payer Must Not Be Stored"
)

// SubscriptionItem is a subscription item as events of Clerk Billing carry it. A plan of amount 0 is a free one.
type SubscriptionItem struct {
	ID, SubscriptionID, PayerID string
	Plan, Status                string
	Amount                      int
	// PeriodEnd is zero for the plan that everybody has by default.
	PeriodStart, PeriodEnd, CreatedAt, UpdatedAt time.Time
}

// Data returns the item as an event of its own holds it.
func (i SubscriptionItem) Data() map[string]any {
	data := i.within()
	data["payer"], data["subscription_id"] = payer(i.PayerID, i.CreatedAt), i.SubscriptionID
	return data
}

// within returns the item as its subscription holds it, which says whose it is.
func (i SubscriptionItem) within() map[string]any {
	return map[string]any{
		"object": "commerce_subscription_item", "id": i.ID, "status": i.Status, "is_free_trial": false, "interval": "month",
		"created_at": i.CreatedAt.UnixMilli(), "updated_at": i.UpdatedAt.UnixMilli(),
		"period_start": i.PeriodStart.UnixMilli(), "period_end": instant(i.PeriodEnd),
		"plan_id": "cplan_" + i.Plan,
		"plan": map[string]any{
			"id": "cplan_" + i.Plan, "slug": i.Plan, "name": "Plan " + i.Plan, "is_recurring": i.Amount > 0,
			"amount": i.Amount, "currency": "USD",
		},
		"seats": map[string]any{"quantity": nil}, "subscription_id": nil,
	}
}

// Subscription is a subscription as events carry it.
type Subscription struct {
	ID, PayerID, Status  string
	Items                []SubscriptionItem
	CreatedAt, UpdatedAt time.Time
}

// Data returns the subscription as JSON would hold it.
func (s Subscription) Data() map[string]any {
	items := make([]any, len(s.Items))
	for i, item := range s.Items {
		items[i] = item.within()
	}
	data := map[string]any{
		"object": "commerce_subscription", "id": s.ID, "status": s.Status, "items": items,
		"payer_id": "cpayer_" + s.PayerID, "payer": payer(s.PayerID, s.CreatedAt),
		"active_at": s.CreatedAt.UnixMilli(), "canceled_at": nil, "ended_at": nil, "past_due_at": nil,
		"created_at": s.CreatedAt.UnixMilli(), "updated_at": s.UpdatedAt.UnixMilli(),
		"latest_payment_id": nil, "payment_source_id": nil,
	}
	if s.Status == "past_due" {
		data["past_due_at"] = s.UpdatedAt.UnixMilli()
	}
	return data
}

// Read returns the item as the Backend API lists it.
func (i SubscriptionItem) Read(instanceID string) map[string]any {
	data := i.readWithin(instanceID)
	payer := payer(i.PayerID, i.CreatedAt)
	payer["instance_id"] = instanceID
	for key, value := range payer {
		if value == "" { // what events hold as an empty string
			payer[key] = nil
		}
	}
	data["payer"] = payer
	return data
}

// readWithin returns the item as the Backend API holds it in its subscription, which says whose it is.
func (i SubscriptionItem) readWithin(instanceID string) map[string]any {
	fee := map[string]any{"amount": i.Amount, "amount_formatted": "", "currency": "USD", "currency_symbol": "$"}
	return map[string]any{
		"object": "commerce_subscription_item", "id": i.ID, "instance_id": instanceID, "status": i.Status,
		"plan_id": "cplan_" + i.Plan, "plan_period": "month", "payer_id": "cpayer_" + i.PayerID, "is_free_trial": false,
		"period_start": i.PeriodStart.UnixMilli(), "period_end": instant(i.PeriodEnd),
		"canceled_at": nil, "past_due_at": nil, "ended_at": nil,
		"created_at": i.CreatedAt.UnixMilli(), "updated_at": i.UpdatedAt.UnixMilli(),
		"plan": map[string]any{
			"object": "commerce_plan", "id": "cplan_" + i.Plan, "name": "Plan " + i.Plan, "slug": i.Plan, "fee": fee,
			"annual_monthly_fee": nil, "annual_fee": nil, "description": nil, "product_id": "cprod_1", "is_default": i.Amount == 0,
			"is_recurring": i.Amount > 0, "publicly_visible": true, "has_base_fee": i.Amount > 0, "for_payer_type": "org",
			"avatar_url": nil, "free_trial_enabled": false, "free_trial_days": nil,
		},
	}
}

// Read returns the subscription as the Backend API holds it.
func (s Subscription) Read(instanceID string) map[string]any {
	items := make([]any, len(s.Items))
	for i, item := range s.Items {
		items[i] = item.readWithin(instanceID)
	}
	return map[string]any{
		"object": "commerce_subscription", "id": s.ID, "instance_id": instanceID, "status": s.Status,
		"payer_id": "cpayer_" + s.PayerID, "created_at": s.CreatedAt.UnixMilli(), "updated_at": s.UpdatedAt.UnixMilli(),
		"active_at": s.CreatedAt.UnixMilli(), "past_due_at": nil, "subscription_items": items,
	}
}

// payer has an empty string where an ID does not apply.
func payer(id string, createdAt time.Time) map[string]any {
	data := map[string]any{
		"object": "commerce_payer", "id": "cpayer_" + id, "email": PayerEmail, "image_url": "https://img.clerk.com/payer",
		"user_id": "", "first_name": "", "last_name": "", "organization_id": "", "organization_name": "",
		"created_at": createdAt.UnixMilli(), "updated_at": createdAt.UnixMilli(),
	}
	if strings.HasPrefix(id, "org_") {
		data["organization_id"], data["organization_name"] = id, PayerName
	} else {
		data["user_id"], data["first_name"], data["last_name"] = id, PayerName, PayerName
	}
	return data
}

func instant(t time.Time) any {
	if t.IsZero() {
		return nil
	}
	return t.UnixMilli()
}
