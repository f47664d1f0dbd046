// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package receiver_test

import (
	"net/http"
	"testing"
	"time"

	. "github.com/onsi/gomega"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	clerkv1alpha1 "github.com/clerk-operator/clerk-operator/api/v1alpha1"
	"github.com/clerk-operator/clerk-operator/internal/clerk"
	"github.com/clerk-operator/clerk-operator/internal/delivery"
	"github.com/clerk-operator/clerk-operator/test/payload"
)

// proItem is an event of a payer's paid plan that was made at a time.
func proItem(g Gomega, payerID string, at time.Time) delivery.Message {
	item := payload.SubscriptionItem{
		ID: "csub_item_1", SubscriptionID: "csub_1", PayerID: payerID, Plan: "pro", Status: "active", Amount: 2000,
		PeriodStart: at, PeriodEnd: at.AddDate(0, 1, 0), CreatedAt: at, UpdatedAt: at,
	}
	body, err := delivery.Event{Type: "subscriptionItem.active", Time: at, Data: item.Data()}.Body()
	g.Expect(err).NotTo(HaveOccurred())
	return delivery.NewMessage(body)
}

func TestHandler_aSubscriptionThatComesBeforeItsPayer(t *testing.T) {
	g := NewWithT(t)
	e := newEdge(t, "", api(t))
	sender := e.sender("/webhooks/clerk", oldSecret)
	now := time.Now()
	organization := payload.Organization{ID: payload.NewID("org"), Name: "Acme", CreatedAt: now, UpdatedAt: now}
	subscribed := proItem(g, organization.ID, now)
	post := func(m delivery.Message) delivery.Answer {
		answer, err := sender.Post(t.Context(), m)
		g.Expect(err).NotTo(HaveOccurred())
		return answer
	}
	early := post(subscribed)
	g.Expect(early.Code).To(Equal(http.StatusServiceUnavailable))
	g.Expect(early.Header.Get("Retry-After")).NotTo(BeEmpty())
	g.Expect(early.Body).NotTo(ContainSubstring(organization.ID))

	g.Expect(post(message(g, "organization.created", "", organization.Data())).Body).To(ContainSubstring(`"applied"`))
	g.Expect(post(subscribed).Body).To(ContainSubstring(`"applied"`))
	g.Expect(post(subscribed).Body).To(ContainSubstring(`"unchanged"`))
	stored := &clerkv1alpha1.ClerkOrganization{}
	g.Expect(api(t).Get(t.Context(), client.ObjectKey{Name: clerk.ObjectName("default", organization.ID)}, stored)).To(Succeed())
	g.Expect(stored.Spec.Billing.Plan).To(Equal("pro"))

	g.Expect(post(message(g, "organization.deleted", "", payload.Deleted("organization", organization.ID))).Code).To(Equal(200))
	g.Expect(post(subscribed).Body).To(ContainSubstring(`"stale"`))

	// An organization that never comes must not make the endpoint fail for ever.
	lost := post(proItem(g, payload.NewID("org"), now.Add(-13*time.Hour)))
	g.Expect(lost.Code).To(Equal(http.StatusOK))
	g.Expect(lost.Body).To(ContainSubstring(`"ignored"`))
	g.Expect(e.log.String()).To(ContainSubstring(`"reason"="PayerNotMirrored"`))
	g.Expect(post(proItem(g, payload.NewID("org"), now.Add(-11*time.Hour))).Code).To(Equal(http.StatusServiceUnavailable))

	families, err := e.registry.Gather()
	g.Expect(err).NotTo(HaveOccurred())
	results := map[string]float64{}
	for _, family := range families {
		for _, metric := range family.GetMetric() {
			labels := map[string]string{}
			for _, label := range metric.GetLabel() {
				labels[label.GetName()] = label.GetValue()
			}
			if labels["type"] == "subscriptionItem.active" {
				results[labels["result"]+" "+labels["code"]] = metric.GetCounter().GetValue()
			}
		}
	}
	g.Expect(results).To(Equal(map[string]float64{
		"no_payer 503": 2, "applied 200": 1, "unchanged 200": 1, "stale 200": 1, "unusable 200": 1,
	}))
	for _, private := range []string{payload.PayerEmail, payload.PayerName} {
		g.Expect(e.log.String()).NotTo(ContainSubstring(private))
	}
}

func TestHandler_plansWhereOnlyMembersAreMirrored(t *testing.T) {
	g := NewWithT(t)
	e := newEdge(t, "", api(t))
	config := &clerkv1alpha1.ClerkInstance{ObjectMeta: metav1.ObjectMeta{Name: "members"}}
	config.Spec.Webhook.SigningSecrets = []clerkv1alpha1.SecretKeyReference{{Name: "clerk-webhook", Key: "old"}}
	config.Spec.Users.Mirror = clerkv1alpha1.UserMirrorMembers
	config.Spec.BackendAPI.SecretKeyRef = clerkv1alpha1.SecretKeyReference{Name: "clerk-backend-api", Key: "secret-key"}
	if err := api(t).Create(t.Context(), config); !apierrors.IsAlreadyExists(err) {
		g.Expect(err).NotTo(HaveOccurred())
	}
	now := time.Now()
	stranger := payload.NewID("user")
	answer, err := e.sender("/webhooks/clerk/members", oldSecret).Post(t.Context(), proItem(g, stranger, now))
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(answer.Code).To(Equal(http.StatusOK))
	g.Expect(answer.Body).To(ContainSubstring("member of no organization"))

	answer, err = e.sender("/webhooks/clerk", oldSecret).Post(t.Context(), proItem(g, stranger, now))
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(answer.Code).To(Equal(http.StatusServiceUnavailable), "where everybody is mirrored, the user is to come")

	organization := payload.NewID("org")
	answer, err = e.sender("/webhooks/clerk/members", oldSecret).Post(t.Context(), proItem(g, organization, now))
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(answer.Code).To(Equal(http.StatusServiceUnavailable), "organizations are mirrored all the same")
}
