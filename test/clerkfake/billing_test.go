// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package clerkfake_test

import (
	"testing"

	. "github.com/onsi/gomega"

	clerkv1alpha1 "github.com/clerk-operator/clerk-operator/api/v1alpha1"
	"github.com/clerk-operator/clerk-operator/internal/clerk"
	"github.com/clerk-operator/clerk-operator/test/clerkfake"
)

// What the operator makes of the events of each change is the plan that the stand-in means, in whatever order they come.
func TestBilling_aLifeOfPlans(t *testing.T) {
	g := NewWithT(t)
	c := newClerk()
	organization := c.CreateOrganization(clerkfake.Organization{})
	c.TakeEvents()
	past := make([]clerkfake.Event, 0, 32)
	for _, step := range []struct {
		name       string
		change     func()
		wantTypes  []string
		wantPlan   string
		wantStatus clerkv1alpha1.BillingItemStatus
	}{
		{"the default", func() { c.Subscribe(organization.ID, clerkfake.FreePlan) },
			[]string{"subscription.created", "subscriptionItem.active"}, "free", clerkv1alpha1.BillingItemActive},
		{"an upgrade", func() { c.Subscribe(organization.ID, "pro") },
			[]string{"subscription.updated", "subscriptionItem.ended", "subscriptionItem.active"}, "pro", clerkv1alpha1.BillingItemActive},
		{"overdue", func() { c.PastDue(organization.ID) },
			[]string{"subscription.pastDue", "subscriptionItem.pastDue"}, "pro", clerkv1alpha1.BillingItemPastDue},
		{"paid", func() { c.Pay(organization.ID) },
			[]string{"subscription.active", "subscriptionItem.active"}, "pro", clerkv1alpha1.BillingItemActive},
		{"canceled", func() { c.Cancel(organization.ID) },
			[]string{"subscription.updated", "subscriptionItem.canceled", "subscriptionItem.upcoming"}, "pro", clerkv1alpha1.BillingItemCanceled},
		{"ended", func() { c.End(organization.ID) },
			[]string{"subscription.updated", "subscriptionItem.ended", "subscriptionItem.active"}, "free", clerkv1alpha1.BillingItemActive},
	} {
		step.change()
		events := c.TakeEvents()
		types := make([]string, len(events))
		for i, event := range events {
			types[i] = event.Type
		}
		g.Expect(types).To(Equal(step.wantTypes), step.name)
		g.Expect(c.Plan(organization.ID)).To(Equal(step.wantPlan), step.name)
		past = append(past, events...)
		for seed := range uint64(5) {
			sent, _ := clerkfake.Arrange(past, clerkfake.Trouble{Seed: seed, Duplicate: 0.3, Reorder: seed > 0})
			billing := merged(g, sent)
			g.Expect(billing.Plan).To(Equal(step.wantPlan), step.name)
			g.Expect(billing.Status).To(Equal(step.wantStatus), step.name)
		}
	}
	g.Expect(func() { c.Cancel("org_none") }).To(Panic())
	c.DeleteOrganization(organization.ID)
	g.Expect(c.Plan(organization.ID)).To(BeEmpty())
}

func merged(g Gomega, events []clerkfake.Event) clerkv1alpha1.Billing {
	var billing clerkv1alpha1.Billing
	for _, event := range events {
		decoded, err := clerk.Decode(event.Message.Body)
		g.Expect(err).NotTo(HaveOccurred())
		billing = clerk.MergeBilling(&billing, decoded.Subscription)
	}
	return billing
}
