// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package receiver_test

import (
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr"
	. "github.com/onsi/gomega"
	"github.com/prometheus/client_golang/prometheus"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"

	clerkv1alpha1 "github.com/clerk-operator/clerk-operator/api/v1alpha1"
	"github.com/clerk-operator/clerk-operator/internal/clerk"
	"github.com/clerk-operator/clerk-operator/internal/delivery"
	"github.com/clerk-operator/clerk-operator/internal/instance"
	"github.com/clerk-operator/clerk-operator/internal/mirror"
	"github.com/clerk-operator/clerk-operator/internal/receiver"
	"github.com/clerk-operator/clerk-operator/test/installation"
	"github.com/clerk-operator/clerk-operator/test/payload"
)

// failing is an instance of its own whose failures are told in its status.
type failing struct {
	delivery.Sender
	g      Gomega
	t      *testing.T
	name   string
	counts *prometheus.Registry
}

func newFailing(t *testing.T) *failing {
	t.Helper()
	g := NewWithT(t)
	config := &clerkv1alpha1.ClerkInstance{ObjectMeta: metav1.ObjectMeta{Name: strings.ToLower(payload.NewID("f")[2:])}}
	config.Spec.Webhook.SigningSecrets = []clerkv1alpha1.SecretKeyReference{{Name: "clerk-webhook", Key: "old"}}
	g.Expect(api(t).Create(t.Context(), config)).To(Succeed())
	report, registry := receiver.NewReport(api(t), logr.Discard()), prometheus.NewRegistry()
	go func() { _ = report.Start(t.Context()) }()
	server := httptest.NewServer(receiver.NewHandler(instance.NewResolver(api(t), installation.Namespace, ""),
		mirror.New(api(t), api(t)), report, receiver.DefaultLimits(), clock.RealClock{}, logr.Discard(), registry))
	t.Cleanup(server.Close)
	return &failing{
		Sender: delivery.Sender{URL: server.URL + clerkv1alpha1.WebhookPath + "/" + config.Name, Secret: oldSecret},
		g:      g, t: t, name: config.Name, counts: registry,
	}
}

// post delivers an event that must be acknowledged with a result.
func (f *failing) post(eventType string, data map[string]any, want string) {
	f.t.Helper()
	body, err := delivery.Event{Type: eventType, Time: time.Now(), Data: data}.Body()
	f.g.Expect(err).NotTo(HaveOccurred())
	answer, err := f.Post(f.t.Context(), delivery.NewMessage(body))
	f.g.Expect(err).NotTo(HaveOccurred())
	f.g.Expect(answer.Code).To(Equal(200), answer.Body)
	f.g.Expect(answer.Body).To(ContainSubstring(want))
}

// failures are those in the status, as type, kind, ID and reason.
func (f *failing) failures() []string {
	config := &clerkv1alpha1.ClerkInstance{}
	f.g.Expect(api(f.t).Get(f.t.Context(), client.ObjectKey{Name: f.name}, config)).To(Succeed())
	found := make([]string, len(config.Status.Failures))
	for i, failure := range config.Status.Failures {
		found[i] = strings.Join([]string{failure.Type, string(failure.Kind), failure.ID, failure.Reason}, " ")
	}
	return found
}

func TestHandler_namesWhatCannotBeUsed(t *testing.T) {
	f := newFailing(t)
	now := time.Now()
	user := newUser()
	f.post("user.created", user.Data(), "applied")
	organization := payload.Organization{ID: payload.NewID("org"), Name: "Acme", CreatedAt: now, UpdatedAt: now}
	f.post("organization.created", organization.Data(), "applied")
	membership := payload.Membership{
		ID: payload.NewID("orgmem"), Role: "org:" + strings.Repeat("x", 200), UserID: user.ID, Organization: organization, CreatedAt: now, UpdatedAt: now,
	}
	f.post("organizationMembership.created", membership.Data(), "applied")

	withoutUser := membership.Data()
	withoutUser["public_user_data"] = nil
	f.post("organizationMembership.updated", withoutUser, "ignored")
	organization.PublicMetadata = map[string]any{"long": strings.Repeat("x", 20<<10)}
	for range 3 { // a change that is told again and again
		organization.UpdatedAt = organization.UpdatedAt.Add(time.Second)
		f.post("organization.updated", organization.Data(), "applied")
	}
	organization.UpdatedAt = organization.UpdatedAt.Add(time.Second)
	f.post("organization.archived", organization.Data(), "applied") // a type that is unknown
	f.post("user.deleted", map[string]any{"id": "jane@example.com"}, "ignored")

	carried := organization
	carried.ID = payload.NewID("org")
	member := payload.Membership{
		ID: payload.NewID("orgmem"), Role: "org:admin", UserID: user.ID, Organization: carried, CreatedAt: now, UpdatedAt: now,
	}
	f.post("organizationMembership.created", member.Data(), "applied")

	item := payload.SubscriptionItem{ID: "csub_item_good", PayerID: organization.ID, Plan: "pro", Status: "active", CreatedAt: now, UpdatedAt: now}
	subscription := map[string]any{"id": "csub_1", "payer": item.Data()["payer"], "items": []any{
		map[string]any{"id": "csub/item"}, item.Data(), 7, map[string]any{}, map[string]any{}, map[string]any{}, map[string]any{},
	}}
	f.post("subscription.updated", subscription, "applied")
	f.post("subscription.updated", map[string]any{"id": "csub_2", "items": []any{item.Data()}}, "ignored")

	want := []string{
		"organizationMembership.created OrganizationMembership " + membership.ID + " RoleNotStored",
		"organizationMembership.updated OrganizationMembership " + membership.ID + " NoUser",
		"organization.updated Organization " + organization.ID + " PublicMetadataNotStored",
		"organization.archived Organization " + organization.ID + " PublicMetadataNotStored",
		"user.deleted   InvalidID",
		"organizationMembership.created Organization " + carried.ID + " PublicMetadataNotStored",
		"subscription.updated   InvalidID",
		"subscription.updated   NoID", "subscription.updated   NoID", "subscription.updated   NoID", "subscription.updated   NoID",
		"subscription.updated Subscription csub_2 NoPayer",
	}
	f.g.Eventually(f.failures).WithTimeout(30 * time.Second).Should(Equal(want))
	stored := &clerkv1alpha1.ClerkOrganization{}
	f.g.Expect(api(t).Get(t.Context(), client.ObjectKey{Name: clerk.ObjectName(f.name, organization.ID)}, stored)).To(Succeed())
	f.g.Expect(stored.Spec.Billing.Plan).To(Equal("pro"))
	f.g.Expect(f.counted()).To(Equal(map[string]float64{
		"RoleNotStored": 1, "NoUser": 1, "PublicMetadataNotStored": 5, "InvalidID": 2, "NoID": 5, "NoPayer": 1,
	}), "each one counts, named or not")
}

// counted is how many failures there were, by reason.
func (f *failing) counted() map[string]float64 {
	families, err := f.counts.Gather()
	f.g.Expect(err).NotTo(HaveOccurred())
	counts := map[string]float64{}
	for _, family := range families {
		if family.GetName() != "clerk_operator_webhook_failures_total" {
			continue
		}
		for _, metric := range family.GetMetric() {
			for _, label := range metric.GetLabel() {
				if label.GetName() == "reason" {
					counts[label.GetValue()] = metric.GetCounter().GetValue()
				}
			}
		}
	}
	return counts
}
