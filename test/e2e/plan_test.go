// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"net/http"
	"testing"

	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	clerkv1alpha1 "github.com/clerk-operator/clerk-operator/api/v1alpha1"
	"github.com/clerk-operator/clerk-operator/internal/tenant"
	"github.com/clerk-operator/clerk-operator/test/payload"
)

// subscribed is an item of an organization's subscription in a state.
func (w *world) subscribed(o payload.Organization, id, plan, status string, amount int) payload.SubscriptionItem {
	return payload.SubscriptionItem{
		ID: id, SubscriptionID: "csub_" + o.ID, PayerID: o.ID, Plan: plan, Amount: amount, Status: status,
		CreatedAt: w.tick(), UpdatedAt: w.now, PeriodStart: w.now,
	}
}

// podsOf reads how many pods a tenant may have.
func (w *world) podsOf(namespace string) func() (string, error) {
	return func() (string, error) {
		quota, err := stored(w, &corev1.ResourceQuota{
			ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: tenant.QuotaName},
		})()
		return quota.Spec.Hard.Pods().String(), err
	}
}

func TestPlan_anUpgradeInClerkRaisesTheQuota(t *testing.T) {
	w := newWorld(t)
	o := w.newOrganization("upgraded")
	pods := func(n string, change func(*clerkv1alpha1.ClerkTenantClass)) *clerkv1alpha1.ClerkTenantClass {
		return w.class([]string{o.ID}, func(class *clerkv1alpha1.ClerkTenantClass) {
			class.Spec.Quota = &corev1.ResourceQuotaSpec{Hard: corev1.ResourceList{"pods": resource.MustParse(n)}}
			change(class)
		})
	}
	free := pods("5", func(*clerkv1alpha1.ClerkTenantClass) {})
	pro := pods("50", func(class *clerkv1alpha1.ClerkTenantClass) {
		class.Spec.Priority, class.Spec.Selector.Expression = new(int32(10)), "organization.plan == 'pro'"
	})
	w.happen("organization.created", o.Data())
	namespace := w.provisioned(o.ID)
	u := w.memberOf(o, namespace)
	w.Eventually(w.podsOf(namespace)).Should(Equal("5"))

	item := w.subscribed(o, payload.NewID("csub_item"), "pro", "active", 2000)
	w.happen("subscriptionItem.active", item.Data())
	w.Eventually(w.podsOf(namespace)).Should(Equal("50"))
	w.Eventually(stored(w, w.organizationObject(o.ID))).Should(HaveField("Status.TenantClass", pro.Name))
	w.Expect(w.levelOf(u.ID, namespace)).To(Equal(admin))

	active := w.event("subscriptionItem.updated", item.Data())
	item.Status, item.UpdatedAt = "past_due", w.tick()
	w.happen("subscriptionItem.pastDue", item.Data())
	w.Consistently(w.podsOf(namespace)).Should(Equal("50"), "what is overdue has not ended")

	item.Status, item.UpdatedAt = "ended", w.tick()
	w.happen("subscriptionItem.ended", item.Data())
	w.Eventually(w.podsOf(namespace)).Should(Equal("5"))
	w.Eventually(stored(w, w.organizationObject(o.ID))).Should(HaveField("Status.TenantClass", free.Name))
	w.Expect(w.deliver(active)).To(Equal("unchanged"), "an older state of the item changes nothing")
	w.Expect(w.levelOf(u.ID, namespace)).To(Equal(admin))

	o.Name, o.UpdatedAt = "Renamed", w.tick()
	w.happen("organization.updated", o.Data())
	w.Expect(get(w, w.organizationObject(o.ID)).Spec.Billing.Items).To(HaveLen(1), "the mirror leaves what is known of plans")
}

func TestPlan_isAskedForAgainUntilThePayerIsThere(t *testing.T) {
	w := newWorld(t)
	o := w.newOrganization("before-its-plan")
	item := w.subscribed(o, payload.NewID("csub_item"), "pro", "active", 2000)
	m := w.message(w.event("subscription.created", payload.Subscription{
		ID: item.SubscriptionID, PayerID: o.ID, Status: "active", CreatedAt: w.now, UpdatedAt: w.now,
		Items: []payload.SubscriptionItem{item},
	}.Data()))
	answer, err := w.sender.Post(t.Context(), m)
	w.Expect(err).NotTo(HaveOccurred())
	w.Expect(answer.Code).To(Equal(http.StatusServiceUnavailable))

	w.happen("organization.created", o.Data())
	w.Expect(w.attempt(m)).To(Equal("applied"))
	w.Expect(get(w, w.organizationObject(o.ID)).Spec.Billing).To(And(HaveField("Plan", "pro"), HaveField("Status", BeEquivalentTo("Active"))))
	w.Expect(w.attempt(m)).To(Equal("unchanged"))
}
