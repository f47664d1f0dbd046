// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package receiver_test

import (
	"context"
	"testing"

	. "github.com/onsi/gomega"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	clerkv1alpha1 "github.com/clerk-operator/clerk-operator/api/v1alpha1"
	"github.com/clerk-operator/clerk-operator/internal/clerk"
	"github.com/clerk-operator/clerk-operator/test/payload"
)

// unheard is a client whose cache has heard of no user and of no membership yet.
type unheard struct{ client.Client }

func (c unheard) Get(ctx context.Context, key client.ObjectKey, object client.Object, options ...client.GetOption) error {
	if _, isUser := object.(*clerkv1alpha1.ClerkUser); isUser {
		key.Name += "-unheard"
	}
	return c.Client.Get(ctx, key, object, options...)
}

func (c unheard) List(ctx context.Context, list client.ObjectList, options ...client.ListOption) error {
	if _, isMemberships := list.(*clerkv1alpha1.ClerkOrganizationMembershipList); isMemberships {
		return nil
	}
	return c.Client.List(ctx, list, options...)
}

// Another replica has stored who joined, and the ban comes to this one, whose watch is late. Svix does not come again.
func TestHandler_dropsNoBanOnACacheThatIsBehind(t *testing.T) {
	config := &clerkv1alpha1.ClerkInstance{ObjectMeta: metav1.ObjectMeta{Name: "behind"}}
	config.Spec.Users.Mirror = clerkv1alpha1.UserMirrorMembers
	config.Spec.BackendAPI.SecretKeyRef = clerkv1alpha1.SecretKeyReference{Name: "clerk-backend-api", Key: "secret-key"}
	config.Spec.Webhook.SigningSecrets = []clerkv1alpha1.SecretKeyReference{{Name: "clerk-webhook", Key: "old"}}
	NewWithT(t).Expect(client.IgnoreAlreadyExists(api(t).Create(t.Context(), config))).To(Succeed())
	sender := newEdgeWithCache(t, "", unheard{api(t)}, api(t)).sender("/webhooks/clerk/behind", oldSecret)

	for name, tc := range map[string]struct {
		change func(*payload.User)
		joined bool
		want   string
	}{
		"banned":                      {change: func(u *payload.User) { u.Banned = true }, joined: true, want: `"applied"`},
		"deprovisioned":               {change: func(u *payload.User) { u.Deprovisioned = true }, joined: true, want: `"applied"`},
		"banned, and no member":       {change: func(u *payload.User) { u.Banned = true }, want: `"the user is a member of no organization"`},
		"nothing that takes anything": {change: func(*payload.User) {}, joined: true, want: `"the user is a member of no organization"`},
	} {
		t.Run(name, func(t *testing.T) {
			g, u := NewWithT(t), newUser()
			if tc.joined {
				membership := payload.Membership{
					ID: payload.NewID("orgmem"), Role: "org:member", UserID: u.ID, CreatedAt: u.CreatedAt, UpdatedAt: u.UpdatedAt,
					Organization: payload.Organization{ID: payload.NewID("org"), Name: "Acme", CreatedAt: u.CreatedAt, UpdatedAt: u.UpdatedAt},
				}
				answer, err := sender.Post(t.Context(), message(g, "organizationMembership.created", "", membership.Data()))
				g.Expect(err).NotTo(HaveOccurred())
				g.Expect(answer.Body).To(ContainSubstring(`"applied"`))
			}
			tc.change(&u)
			answer, err := sender.Post(t.Context(), message(g, "user.updated", "", u.Data()))
			g.Expect(err).NotTo(HaveOccurred())
			g.Expect(answer.Body).To(ContainSubstring(tc.want))
			stored := &clerkv1alpha1.ClerkUser{}
			err = api(t).Get(t.Context(), client.ObjectKey{Name: clerk.ObjectName("behind", u.ID)}, stored)
			g.Expect(err == nil).To(Equal(tc.want == `"applied"`))
		})
	}
}
