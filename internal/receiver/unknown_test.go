// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package receiver_test

import (
	"context"
	"testing"
	"time"

	. "github.com/onsi/gomega"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	clerkv1alpha1 "github.com/clerk-operator/clerk-operator/api/v1alpha1"
	"github.com/clerk-operator/clerk-operator/internal/clerk"
	"github.com/clerk-operator/clerk-operator/internal/mirror"
	"github.com/clerk-operator/clerk-operator/test/payload"
)

// ownInstance makes a ClerkInstance for one test.
func ownInstance(t *testing.T, g Gomega, change func(*clerkv1alpha1.ClerkInstanceSpec)) *clerkv1alpha1.ClerkInstance {
	t.Helper()
	config := &clerkv1alpha1.ClerkInstance{ObjectMeta: metav1.ObjectMeta{GenerateName: "unknown-"}}
	config.Spec.Webhook.SigningSecrets = []clerkv1alpha1.SecretKeyReference{{Name: "clerk-webhook", Key: "old"}}
	change(&config.Spec)
	g.Expect(api(t).Create(t.Context(), config)).To(Succeed())
	return config
}

func withBackend(spec *clerkv1alpha1.ClerkInstanceSpec) {
	spec.BackendAPI.SecretKeyRef = clerkv1alpha1.SecretKeyReference{Name: "clerk-backend-api", Key: "secret-key"}
}

// failures writes what was noted of an instance, and returns the types and reasons of its failures.
func (e *edge) failures(t *testing.T, g Gomega, config *clerkv1alpha1.ClerkInstance) []string {
	t.Helper()
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	g.Expect(e.report.Start(ended)).To(Succeed())
	g.Expect(api(t).Get(t.Context(), client.ObjectKeyFromObject(config), config)).To(Succeed())
	found := make([]string, 0, len(config.Status.Failures))
	for _, failure := range config.Status.Failures {
		found = append(found, failure.Type+" "+failure.Reason)
	}
	return found
}

func TestHandler_aTypeThatIsUnknown(t *testing.T) {
	now := time.Now()
	later := now.Add(time.Second)
	user := func(mirrored payload.User) map[string]any {
		mirrored.Banned, mirrored.UpdatedAt = true, later
		return mirrored.Data()
	}
	known := newUser()
	organization := payload.Organization{ID: payload.NewID("org"), Name: "Acme", CreatedAt: now, UpdatedAt: now}
	membership := payload.Membership{
		ID: payload.NewID("orgmem"), Role: "org:admin", UserID: known.ID, Organization: organization, CreatedAt: now, UpdatedAt: now,
	}
	stranger := membership
	stranger.ID, stranger.UserID = payload.NewID("orgmem"), payload.NewID("user")
	renamed := organization
	renamed.Name, renamed.UpdatedAt = "Acme Inc", later
	elsewhere := payload.Organization{ID: payload.NewID("org"), Name: "Elsewhere", CreatedAt: now, UpdatedAt: now}
	const unusable, resync = "the event cannot be used", "a resync is requested"
	type result struct {
		body    string
		failed  bool
		request bool
	}
	for _, tc := range []struct {
		about, eventType string
		data             map[string]any
		kind             clerk.Kind
		plain            result
		backed           result
		members          result
	}{
		{
			"a user", "user.banned", user(known), clerk.KindUser,
			result{`"applied"`, false, false}, result{`"applied"`, false, true}, result{`"applied"`, false, true},
		},
		{
			"an organization", "organization.renamed", renamed.Data(), clerk.KindOrganization,
			result{`"applied"`, false, false}, result{`"applied"`, false, true}, result{`"applied"`, false, true},
		},
		{
			"a membership", "organizationMembership.removed", membership.Data(), clerk.KindMembership,
			result{unusable, true, false}, result{resync, false, true}, result{resync, false, true},
		},
		{
			"a user that is not mirrored", "user.banned", user(newUser()), clerk.KindUser,
			result{`"ignored"`, false, false}, result{unusable, true, false}, result{"a member of no organization", false, false},
		},
		{
			"an organization that is not mirrored", "organization.renamed", elsewhere.Data(), clerk.KindOrganization,
			result{`"ignored"`, false, false}, result{unusable, true, false}, result{unusable, true, false},
		},
		{
			"a membership that is not mirrored", "organizationMembership.approved", stranger.Data(), clerk.KindMembership,
			result{unusable, true, false}, result{unusable, true, false}, result{unusable, true, false},
		},
		{
			"a deletion", "user.erased", payload.Deleted("user", known.ID), clerk.KindUser,
			result{`{"result":"ignored"}`, false, false}, result{`{"result":"ignored"}`, false, false}, result{`{"result":"ignored"}`, false, false},
		},
	} {
		t.Run(tc.about, func(t *testing.T) {
			for name, instance := range map[string]struct {
				change func(*clerkv1alpha1.ClerkInstanceSpec)
				want   result
			}{
				"plain":  {func(*clerkv1alpha1.ClerkInstanceSpec) {}, tc.plain},
				"backed": {withBackend, tc.backed},
				"members": {func(spec *clerkv1alpha1.ClerkInstanceSpec) {
					withBackend(spec)
					spec.Users.Mirror = clerkv1alpha1.UserMirrorMembers
				}, tc.members},
			} {
				g := NewWithT(t)
				e := newEdge(t, "", api(t))
				config := ownInstance(t, g, instance.change)
				post := func(eventType string, data map[string]any) string {
					answer, err := e.sender("/webhooks/clerk/"+config.Name, oldSecret).Post(t.Context(), message(g, eventType, "", data))
					g.Expect(err).NotTo(HaveOccurred())
					g.Expect(answer.Code).To(Equal(200))
					return answer.Body
				}
				g.Expect(post("organizationMembership.created", membership.Data())).To(ContainSubstring(`"applied"`))
				g.Expect(post("user.created", known.Data())).To(ContainSubstring(`"applied"`))
				before := objectOf(t, g, config, tc.kind, tc.data)
				g.Expect(post(tc.eventType, tc.data)).To(ContainSubstring(instance.want.body), name)
				expectUnknown(t, g, config, tc.kind, tc.data, before, name)
				var failures []string
				if instance.want.failed {
					failures = append(failures, tc.eventType+" UnknownEventType")
				}
				g.Expect(e.failures(t, g, config)).To(ConsistOf(failures), name)
				g.Expect(e.labels(g)).To(HaveKey("other"), name)
				g.Expect(e.labels(g)).NotTo(HaveKey(tc.eventType), name)
				if after := objectOf(t, g, config, tc.kind, tc.data); after != nil {
					g.Expect(after.GetAnnotations()[clerkv1alpha1.AnnotationResyncRequestedAt] != "").To(Equal(instance.want.request), name)
				}
			}
		})
	}
}

// expectUnknown expects that an event of an unknown type created nothing and stored no membership.
func expectUnknown(
	t *testing.T, g Gomega, config *clerkv1alpha1.ClerkInstance, kind clerk.Kind, data map[string]any, before mirror.Object, name string,
) {
	t.Helper()
	after := objectOf(t, g, config, kind, data)
	g.Expect(after == nil).To(Equal(before == nil), name)
	if membership, ok := after.(*clerkv1alpha1.ClerkOrganizationMembership); ok {
		g.Expect(membership.Spec).To(Equal(before.(*clerkv1alpha1.ClerkOrganizationMembership).Spec), name)
	}
	if user, ok := after.(*clerkv1alpha1.ClerkUser); ok {
		g.Expect(user.Suspended()).To(Equal(data["banned"] == true), name)
	}
}

// objectOf returns the object that mirrors an event's, nil where there is none.
func objectOf(t *testing.T, g Gomega, config *clerkv1alpha1.ClerkInstance, kind clerk.Kind, data map[string]any) mirror.Object {
	t.Helper()
	o := mirror.NewObject(kind)
	err := api(t).Get(t.Context(), client.ObjectKey{Name: clerk.ObjectName(config.Name, data["id"].(string))}, o)
	if apierrors.IsNotFound(err) {
		return nil
	}
	g.Expect(err).NotTo(HaveOccurred())
	return o
}

// labels are the event types in the metric of requests.
func (e *edge) labels(g Gomega) map[string]bool {
	families, err := e.registry.Gather()
	g.Expect(err).NotTo(HaveOccurred())
	found := map[string]bool{}
	for _, family := range families {
		if family.GetName() != "clerk_operator_webhook_requests_total" {
			continue
		}
		for _, metric := range family.GetMetric() {
			for _, label := range metric.GetLabel() {
				if label.GetName() == "type" {
					found[label.GetValue()] = true
				}
			}
		}
	}
	return found
}

func TestHandler_aStateWithoutBannedLiftsNoBan(t *testing.T) {
	g := NewWithT(t)
	e := newEdge(t, "", api(t))
	user := newUser()
	user.Banned = true
	for i, step := range []struct {
		withoutBanned bool
		want          bool
	}{{false, true}, {true, true}} {
		user.WithoutBanned, user.UpdatedAt = step.withoutBanned, user.UpdatedAt.Add(time.Second)
		answer, err := e.sender("/webhooks/clerk", oldSecret).Post(t.Context(), message(g, "user.updated", "", user.Data()))
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(answer.Body).To(ContainSubstring(`"applied"`), "step %d", i)
		stored := &clerkv1alpha1.ClerkUser{}
		g.Expect(api(t).Get(t.Context(), client.ObjectKey{Name: clerk.ObjectName("default", user.ID)}, stored)).To(Succeed())
		g.Expect(stored.Spec.Banned).To(HaveValue(Equal(step.want)), "step %d", i)
	}
}
