// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package mirror_test

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"testing"

	. "github.com/onsi/gomega"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	clerkv1alpha1 "github.com/clerk-operator/clerk-operator/api/v1alpha1"
	"github.com/clerk-operator/clerk-operator/internal/clerk"
	"github.com/clerk-operator/clerk-operator/internal/mirror"
	"github.com/clerk-operator/clerk-operator/test/payload"
)

// storedOrganization mirrors a new organization, whose state is of a time.
func storedOrganization(t *testing.T, g Gomega, m *mirror.Mirror, ms int) payload.Organization {
	t.Helper()
	o := payload.Organization{ID: payload.NewID("org"), Name: "Acme", CreatedAt: at(0), UpdatedAt: at(ms)}
	_, err := m.Apply(t.Context(), listed(g, clerk.KindOrganization, "default", o.Data(), at(ms)))
	g.Expect(err).NotTo(HaveOccurred())
	return o
}

func storedBilling(g Gomega, id string) (*clerkv1alpha1.ClerkOrganization, clerkv1alpha1.Billing) {
	organization := &clerkv1alpha1.ClerkOrganization{}
	g.Expect(api.Get(context.Background(), client.ObjectKey{Name: clerk.ObjectName("default", id)}, organization)).To(Succeed())
	return organization, organization.Spec.Billing
}

// subscribed is an item of a payer at a time.
func subscribed(payerID, itemID, plan string, status clerkv1alpha1.BillingItemStatus, ms int) *clerk.Subscription {
	kind, _ := clerk.KindOf(payerID)
	return &clerk.Subscription{PayerKind: kind, PayerID: payerID, Items: []clerkv1alpha1.BillingItem{{
		ItemID: itemID, Plan: plan, Status: status, Paid: new(true),
		PeriodStart: new(clerkv1alpha1.NewTimestamp(at(0))), PeriodEnd: new(clerkv1alpha1.NewTimestamp(at(1 << 30))),
		UpdatedAt: clerkv1alpha1.NewTimestamp(at(ms)), EventTime: clerkv1alpha1.NewTimestamp(at(ms)),
	}}}
}

func TestApplyBilling_theNewestStateOfAnItemWins(t *testing.T) {
	g := NewWithT(t)
	m := mirror.New(api, api)
	o := storedOrganization(t, g, m, 1000)
	for _, step := range []struct {
		subscription *clerk.Subscription
		want         mirror.Result
		wantPlan     string
		wantStatus   clerkv1alpha1.BillingItemStatus
	}{
		// Older than the organization's own state, and all the same news.
		{subscribed(o.ID, "a", "pro", clerkv1alpha1.BillingItemActive, 10), mirror.Applied, "pro", clerkv1alpha1.BillingItemActive},
		{subscribed(o.ID, "a", "pro", clerkv1alpha1.BillingItemActive, 10), mirror.Unchanged, "pro", clerkv1alpha1.BillingItemActive},
		{subscribed(o.ID, "a", "pro", clerkv1alpha1.BillingItemCanceled, 30), mirror.Applied, "pro", clerkv1alpha1.BillingItemCanceled},
		{subscribed(o.ID, "a", "pro", clerkv1alpha1.BillingItemPastDue, 20), mirror.Unchanged, "pro", clerkv1alpha1.BillingItemCanceled},
		{subscribed(o.ID, "b", "team", clerkv1alpha1.BillingItemUpcoming, 40), mirror.Applied, "pro", clerkv1alpha1.BillingItemCanceled},
		{subscribed(o.ID, "a", "pro", clerkv1alpha1.BillingItemEnded, 50), mirror.Applied, "", ""},
		{subscribed(o.ID, "b", "team", clerkv1alpha1.BillingItemActive, 50), mirror.Applied, "team", clerkv1alpha1.BillingItemActive},
		{&clerk.Subscription{PayerKind: clerk.KindOrganization, PayerID: o.ID}, mirror.Unchanged, "team", clerkv1alpha1.BillingItemActive},
	} {
		result, err := m.ApplyBilling(t.Context(), "default", step.subscription, nil)
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(result).To(Equal(step.want))
		_, billing := storedBilling(g, o.ID)
		g.Expect(billing.Plan).To(Equal(step.wantPlan))
		g.Expect(billing.Status).To(Equal(step.wantStatus))
	}
}

func TestApplyBilling_usersHavePlansToo(t *testing.T) {
	g := NewWithT(t)
	m := mirror.New(api, api)
	u := payload.User{ID: payload.NewID("user"), CreatedAt: at(0), UpdatedAt: at(1)}
	_, err := m.Apply(t.Context(), userEvent(g, u, at(1)))
	g.Expect(err).NotTo(HaveOccurred())
	_, err = m.ApplyBilling(t.Context(), "default", subscribed(u.ID, "a", "pro", clerkv1alpha1.BillingItemActive, 10), nil)
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(stored(g, u.ID).Spec.Billing.Plan).To(Equal("pro"))
}

func TestApplyBilling_theOwnersOfFieldsLeaveEachOtherAlone(t *testing.T) {
	g := NewWithT(t)
	m := mirror.New(api, api)
	o := storedOrganization(t, g, m, 10)
	before, _ := storedBilling(g, o.ID)
	_, err := m.ApplyBilling(t.Context(), "default", subscribed(o.ID, "a", "pro", clerkv1alpha1.BillingItemActive, 99), nil)
	g.Expect(err).NotTo(HaveOccurred())
	after, billing := storedBilling(g, o.ID)
	g.Expect(after.Spec.Mirrored).To(Equal(before.Spec.Mirrored), "the version of the organization is none of billing's business")
	g.Expect(after.Spec.Name).To(Equal("Acme"))
	g.Expect(after.Labels).To(Equal(before.Labels))
	g.Expect(after.Finalizers).To(Equal(before.Finalizers))
	g.Expect(fieldsOf(after, mirror.FieldOwner)).To(Equal(fieldsOf(before, mirror.FieldOwner)))
	g.Expect(fieldsOf(after, mirror.BillingFieldOwner)).To(MatchRegexp(`^\{"f:spec":\{"f:billing":.*\}\}$`))

	same := listed(g, clerk.KindOrganization, "default", o.Data(), at(11))
	g.Expect(m.Compare(t.Context(), same, nil)).To(Equal(mirror.Same), "a plan is no difference that a sync would have to repair")
	o.Name, o.UpdatedAt = "Acme Inc", at(20)
	result, err := m.Apply(t.Context(), listed(g, clerk.KindOrganization, "default", o.Data(), at(20)))
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(result).To(Equal(mirror.Applied))
	o.UpdatedAt = at(5)
	result, err = m.Apply(t.Context(), listed(g, clerk.KindOrganization, "default", o.Data(), at(5)))
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(result).To(Equal(mirror.Stale))
	organization, kept := storedBilling(g, o.ID)
	g.Expect(organization.Spec.Name).To(Equal("Acme Inc"))
	g.Expect(kept).To(Equal(billing))
	g.Expect(organization.Annotations).NotTo(HaveKey(clerkv1alpha1.AnnotationResyncRequestedAt))
}

// fieldsOf returns what a field owner has applied of an object.
func fieldsOf(object client.Object, owner string) string {
	for _, entry := range object.GetManagedFields() {
		if entry.Manager == owner && entry.Operation == metav1.ManagedFieldsOperationApply {
			return entry.FieldsV1.GetRawString()
		}
	}
	return ""
}

func TestApplyBilling_writesOnceForAnEvent(t *testing.T) {
	g := NewWithT(t)
	c, counted := counting(g)
	m := mirror.New(c, c)
	o := storedOrganization(t, g, m, 1)
	writes := func(s *clerk.Subscription) int {
		counted.writes = 0
		_, err := m.ApplyBilling(t.Context(), "default", s, nil)
		g.Expect(err).NotTo(HaveOccurred())
		return counted.writes
	}
	active := subscribed(o.ID, "a", "pro", clerkv1alpha1.BillingItemActive, 10)
	g.Expect(writes(active)).To(Equal(1))
	g.Expect(writes(active)).To(Equal(0), "repeated")
	g.Expect(writes(subscribed(o.ID, "a", "pro", clerkv1alpha1.BillingItemEnded, 20))).To(Equal(1))
	g.Expect(writes(active)).To(Equal(0), "late")
}

func TestApplyBilling_replicasThatMeet(t *testing.T) {
	g := NewWithT(t)
	o := storedOrganization(t, g, mirror.New(api, api), 1)
	const replicas, events = 3, 4
	var running sync.WaitGroup
	errs := make(chan error, replicas*events)
	for replica := range replicas {
		running.Go(func() {
			for i := range events {
				id := fmt.Sprintf("item_%d_%d", replica, i)
				_, err := mirror.New(api, api).ApplyBilling(t.Context(), "default", subscribed(o.ID, id, "pro", clerkv1alpha1.BillingItemActive, i), nil)
				errs <- err
			}
		})
	}
	running.Wait()
	close(errs)
	for err := range errs {
		g.Expect(err).NotTo(HaveOccurred())
	}
	_, billing := storedBilling(g, o.ID)
	g.Expect(billing.Items).To(HaveLen(replicas * events))
}

func TestApplyBilling_aCacheThatIsBehind(t *testing.T) {
	g := NewWithT(t)
	live := mirror.New(api, api)
	o := storedOrganization(t, g, live, 1)
	old, _ := storedBilling(g, o.ID)
	_, err := live.ApplyBilling(t.Context(), "default", subscribed(o.ID, "a", "pro", clerkv1alpha1.BillingItemActive, 10), nil)
	g.Expect(err).NotTo(HaveOccurred())
	behind := mirror.New(cached{Client: api, organization: old}, api)
	_, err = behind.ApplyBilling(t.Context(), "default", subscribed(o.ID, "b", "team", clerkv1alpha1.BillingItemUpcoming, 20), nil)
	g.Expect(err).NotTo(HaveOccurred())
	_, billing := storedBilling(g, o.ID)
	g.Expect(billing.Items).To(HaveLen(2))
}

// cached is a client that knows an organization, or a membership, as it once was.
type cached struct {
	client.Client
	organization *clerkv1alpha1.ClerkOrganization
	membership   *clerkv1alpha1.ClerkOrganizationMembership
}

func (c cached) Get(ctx context.Context, key client.ObjectKey, object client.Object, options ...client.GetOption) error {
	switch into := object.(type) {
	case *clerkv1alpha1.ClerkOrganization:
		c.organization.DeepCopyInto(into)
	case *clerkv1alpha1.ClerkOrganizationMembership:
		c.membership.DeepCopyInto(into)
	default:
		return c.Client.Get(ctx, key, object, options...)
	}
	return nil
}

func TestApplyBilling_whereThereIsNoPayer(t *testing.T) {
	g := NewWithT(t)
	m := mirror.New(api, api)
	apply := func(instanceName, id string) (mirror.Result, error) {
		return m.ApplyBilling(t.Context(), instanceName, subscribed(id, "a", "pro", clerkv1alpha1.BillingItemActive, 10), nil)
	}
	unknown := payload.NewID("org")
	_, err := apply("default", unknown)
	g.Expect(err).To(MatchError(mirror.ErrNoPayer), "not mirrored")
	g.Expect(client.IgnoreNotFound(api.Get(t.Context(), client.ObjectKey{Name: clerk.ObjectName("default", unknown)},
		&clerkv1alpha1.ClerkOrganization{}))).To(Succeed())

	o := storedOrganization(t, g, m, 1)
	_, err = apply("other", o.ID)
	g.Expect(err).To(MatchError(mirror.ErrNoPayer), "another instance has none")
	_, err = apply("default", "org_"+flipCase(o.ID[len("org_"):]))
	g.Expect(err).To(HaveField("Reason", mirror.ReasonNameTaken), "another ID's")

	organization, billing := storedBilling(g, o.ID)
	g.Expect(billing).To(BeZero())
	g.Expect(api.Delete(t.Context(), organization)).To(Succeed())
	_, err = apply("default", o.ID)
	g.Expect(err).To(MatchError(mirror.ErrNoPayer), "on its way out")

	_, err = m.Delete(t.Context(), "default", o.ID, at(20))
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(apply("default", o.ID)).To(Equal(mirror.Stale), "deleted in Clerk")
	_, err = apply("other", o.ID)
	g.Expect(err).To(MatchError(mirror.ErrNoPayer), "that it was deleted in another instance says nothing here")
}

func TestApplyBilling_asMuchAsTheCRDHolds(t *testing.T) {
	g := NewWithT(t)
	m := mirror.New(api, api)
	o := storedOrganization(t, g, m, 1)
	all := &clerk.Subscription{PayerKind: clerk.KindOrganization, PayerID: o.ID}
	for i := range clerkv1alpha1.MaxBillingItems + 5 {
		next := subscribed(o.ID, fmt.Sprintf("item_%d", i), "pro", clerkv1alpha1.BillingItemEnded, i)
		all.Items = append(all.Items, next.Items...)
	}
	result, err := m.ApplyBilling(t.Context(), "default", all, nil)
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(result).To(Equal(mirror.Applied))
	g.Expect(m.ApplyBilling(t.Context(), "default", all, nil)).To(Equal(mirror.Unchanged))
	_, billing := storedBilling(g, o.ID)
	g.Expect(billing.Items).To(HaveLen(clerkv1alpha1.MaxBillingItems))
	g.Expect(billing.Items[0].ItemID).To(Equal(fmt.Sprintf("item_%d", clerkv1alpha1.MaxBillingItems+4)))
	// One item more takes the place of the oldest one.
	more := subscribed(o.ID, "one_more", "team", clerkv1alpha1.BillingItemActive, 1000)
	g.Expect(m.ApplyBilling(t.Context(), "default", more, nil)).To(Equal(mirror.Applied))
	_, billing = storedBilling(g, o.ID)
	g.Expect(billing.Items).To(HaveLen(clerkv1alpha1.MaxBillingItems))
	g.Expect(billing.Plan).To(Equal("team"))
}

// counting returns a client of the API server whose requests are counted.
func counting(g Gomega) (client.Client, *counter) {
	counted := &counter{}
	counting := rest.CopyConfig(config)
	counting.WrapTransport = func(next http.RoundTripper) http.RoundTripper {
		counted.next = next
		return counted
	}
	c, err := client.New(counting, client.Options{Scheme: api.Scheme()})
	g.Expect(err).NotTo(HaveOccurred())
	return c, counted
}
