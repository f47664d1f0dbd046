// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"testing"
	"time"

	. "github.com/onsi/gomega"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	clerkv1alpha1 "github.com/clerk-operator/clerk-operator/api/v1alpha1"
	"github.com/clerk-operator/clerk-operator/test/payload"
)

func TestProvisioned(t *testing.T) {
	ready := []metav1.Condition{readyNow(clerkv1alpha1.ConditionReady, clerkv1alpha1.ReasonProvisioned, "", 1)}
	organization := func(conditions []metav1.Condition, members *int32) client.Object {
		o := &clerkv1alpha1.ClerkOrganization{}
		o.Status.Conditions, o.Status.Members = conditions, members
		return o
	}
	membership := func(conditions []metav1.Condition) client.Object {
		m := &clerkv1alpha1.ClerkOrganizationMembership{}
		m.Status.Conditions = conditions
		return m
	}
	user := func(organizations *int32) client.Object {
		u := &clerkv1alpha1.ClerkUser{}
		u.Status.Organizations = organizations
		return u
	}
	for name, test := range map[string]struct {
		object client.Object
		want   bool
	}{
		"an organization with its members": {organization(ready, new(int32(len(roles)))), true},
		"without members yet":              {organization(ready, new(int32(0))), false},
		"with a status to come":            {organization(nil, nil), false},
		"a membership":                     {membership(ready), true},
		"one that waits":                   {membership(nil), false},
		"a user in the organization":       {user(new(int32(1))), true},
		"one who is not":                   {user(new(int32(0))), false},
		"one without a status":             {user(nil), false},
		"something else":                   {&clerkv1alpha1.ClerkTombstone{}, false},
	} {
		t.Run(name, func(t *testing.T) {
			NewWithT(t).Expect(provisioned(test.object)).To(Equal(test.want))
		})
	}
}

func TestReadiness(t *testing.T) {
	g := NewWithT(t)
	r := &readiness{}
	user := &clerkv1alpha1.ClerkUser{ObjectMeta: metav1.ObjectMeta{Name: "one"}}
	user.Status.Organizations = new(int32(1))
	r.see(user) // nobody waits yet
	done := r.expect([]string{"one", "two"})
	r.see(user)
	r.see(user)
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	g.Expect(r.wait(ctx, done)).To(MatchError(ContainSubstring("1 objects are not provisioned, such as [two]")))
	user.Name = "two"
	r.see(user)
	r.see(user)
	g.Expect(r.wait(t.Context(), done)).To(Succeed())
}

func TestNewFounding(t *testing.T) {
	g := NewWithT(t)
	h := newHistory()
	users := []payload.User{h.newUser(), h.newUser()}
	f, err := h.newFounding(1, users)
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(f.messages).To(HaveLen(1 + len(roles)))
	g.Expect(f.names()).To(HaveLen(1+2*len(roles)), "the organization, its users and their memberships")
	for i, m := range f.messages {
		o, err := desired(m)
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(o.Dropped).To(BeEmpty())
		if i > 0 {
			g.Expect(o.Parents).To(Equal([]string{f.organization.ID, users[i-1].ID}))
		}
	}
}
