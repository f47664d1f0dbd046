// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package clerkfake

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/clerk-operator/clerk-operator/test/payload"
)

// FreePlan is the slug of the plan that a payer has when no other one is in force.
const FreePlan = "free"

const (
	price  = 2000
	period = 30 * 24 * time.Hour
)

// The states of an item that the stand-in knows.
const (
	itemActive   = "active"
	itemPastDue  = "past_due"
	itemCanceled = "canceled"
	itemUpcoming = "upcoming"
	itemEnded    = "ended"
)

// Plan returns the slug of the plan that a payer has; empty when there is no subscription.
func (c *Clerk) Plan(payerID string) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s := c.subscriptions[payerID]; s != nil {
		if i := inForce(s); i >= 0 {
			return s.Items[i].Plan
		}
	}
	return ""
}

// Subscribe gives an organization or a user a plan, at once. It panics if there is no such payer.
func (c *Clerk) Subscribe(payerID, plan string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if strings.HasPrefix(payerID, "org_") {
		c.organizations.must(payerID)
	} else {
		c.users.must(payerID)
	}
	now := c.tick()
	s, event := c.subscriptions[payerID], "subscription.updated"
	if s == nil {
		s, event = &payload.Subscription{ID: payload.NewID("csub"), PayerID: payerID, CreatedAt: now}, "subscription.created"
		c.subscriptions[payerID] = s
	}
	var changed []int
	for i := range s.Items {
		if s.Items[i].Status != itemEnded {
			changed = append(changed, i)
			change(s, i, itemEnded, now)
		}
	}
	s.Items = append(s.Items, newItem(s, plan, itemActive, now))
	c.announceBilling(s, event, now, append(changed, len(s.Items)-1)...)
}

// PastDue makes the payment of a payer's plan overdue. It panics if there is no plan in force.
func (c *Clerk) PastDue(payerID string) { c.changeItem(payerID, itemPastDue, "subscription.pastDue") }

// Pay pays what is overdue. It panics if there is no plan in force.
func (c *Clerk) Pay(payerID string) { c.changeItem(payerID, itemActive, "subscription.active") }

// Cancel lets a payer's plan run until its period ends, and the free one begin then. It panics if there is no plan in
// force.
func (c *Clerk) Cancel(payerID string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s, i, now := c.mustSubscription(payerID)
	change(s, i, itemCanceled, now)
	s.Items = append(s.Items, newItem(s, FreePlan, itemUpcoming, given(s.Items[i].PeriodEnd, now)))
	next := &s.Items[len(s.Items)-1]
	next.CreatedAt, next.UpdatedAt = now, now
	c.announceBilling(s, "subscription.updated", now, i, len(s.Items)-1)
}

// End ends the period of a payer's plan: what was upcoming begins. It panics if there is no plan in force.
func (c *Clerk) End(payerID string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s, i, now := c.mustSubscription(payerID)
	change(s, i, itemEnded, now)
	changed := []int{i}
	for j := range s.Items {
		if s.Items[j].Status == itemUpcoming {
			change(s, j, itemActive, now)
			changed = append(changed, j)
		}
	}
	c.announceBilling(s, "subscription.updated", now, changed...)
}

func (c *Clerk) changeItem(payerID, status, event string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s, i, now := c.mustSubscription(payerID)
	change(s, i, status, now)
	c.announceBilling(s, event, now, i)
}

// mustSubscription returns a payer's subscription and which of its items is in force.
func (c *Clerk) mustSubscription(payerID string) (*payload.Subscription, int, time.Time) {
	s := c.subscriptions[payerID]
	if s == nil || inForce(s) < 0 {
		panic(fmt.Sprintf("clerkfake: %q has no plan", payerID))
	}
	return s, inForce(s), c.tick()
}

func inForce(s *payload.Subscription) int {
	return slices.IndexFunc(s.Items, func(i payload.SubscriptionItem) bool {
		return i.Status != itemEnded && i.Status != itemUpcoming
	})
}

func newItem(s *payload.Subscription, plan, status string, from time.Time) payload.SubscriptionItem {
	item := payload.SubscriptionItem{
		ID: payload.NewID("csub_item"), SubscriptionID: s.ID, PayerID: s.PayerID, Plan: plan, Status: status,
		PeriodStart: from, CreatedAt: from, UpdatedAt: from,
	}
	if plan != FreePlan {
		item.Amount, item.PeriodEnd = price, from.Add(period)
	}
	return item
}

func change(s *payload.Subscription, i int, status string, now time.Time) {
	s.Items[i].Status, s.Items[i].UpdatedAt = status, now
}

// announceBilling makes the event of a subscription, and one of each item that changed.
func (c *Clerk) announceBilling(s *payload.Subscription, event string, now time.Time, changed ...int) {
	s.Status, s.UpdatedAt = itemActive, now
	if i := inForce(s); i >= 0 && s.Items[i].Status == itemPastDue {
		s.Status = itemPastDue
	}
	c.announce(event, now, s.Data())
	for _, i := range changed {
		status := s.Items[i].Status
		if status == itemPastDue {
			status = "pastDue"
		}
		c.announce("subscriptionItem."+status, now, s.Items[i].Data())
	}
}
