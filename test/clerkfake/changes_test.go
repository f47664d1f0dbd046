// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package clerkfake_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	. "github.com/onsi/gomega"
	"github.com/onsi/gomega/types"

	"github.com/clerk-operator/clerk-operator/internal/clerk"
	"github.com/clerk-operator/clerk-operator/test/clerkfake"
)

func TestChanges_events(t *testing.T) {
	membership := func(c *clerkfake.Clerk) string { return c.Memberships()[0].ID }
	inMembership := And(
		HaveKeyWithValue("organization", HaveKeyWithValue("id", "org_a")),
		HaveKeyWithValue("public_user_data", HaveKeyWithValue("user_id", "user_0")),
		Not(HaveKey("deleted")),
	)
	for name, tc := range map[string]struct {
		change   func(g *WithT, c *clerkfake.Clerk)
		wantType string
		wantData types.GomegaMatcher
	}{
		"a new user": {
			change: func(_ *WithT, c *clerkfake.Clerk) {
				c.CreateUser(clerkfake.User{ID: "user_new", Email: "new@example.com"})
			},
			wantType: "user.created",
			wantData: And(HaveKeyWithValue("id", "user_new"), HaveKeyWithValue("primary_email_address_id", "idn_primary")),
		},
		"a changed user": {
			change: func(_ *WithT, c *clerkfake.Clerk) {
				c.UpdateUser("user_0", func(u *clerkfake.User) { u.Banned, u.ID = true, "user_other" })
			},
			wantType: "user.updated",
			wantData: And(HaveKeyWithValue("id", "user_0"), HaveKeyWithValue("banned", true)),
		},
		"a deleted user": {
			change:   func(_ *WithT, c *clerkfake.Clerk) { c.DeleteUser("user_0") },
			wantType: "user.deleted",
			wantData: Equal(object{"object": "user", "id": "user_0", "deleted": true, "external_id": "ext_0"}),
		},
		"a new organization": {
			change: func(_ *WithT, c *clerkfake.Clerk) {
				c.CreateOrganization(clerkfake.Organization{ID: "org_new", Name: "New"})
			},
			wantType: "organization.created",
			wantData: And(HaveKeyWithValue("id", "org_new"), HaveKeyWithValue("slug", BeNil()), HaveKeyWithValue("members_count", 0.0)),
		},
		"a changed organization": {
			change: func(_ *WithT, c *clerkfake.Clerk) {
				c.UpdateOrganization("org_a", func(o *clerkfake.Organization) { o.PublicMetadata = object{"plan": "pro"} })
			},
			wantType: "organization.updated",
			wantData: And(HaveKeyWithValue("id", "org_a"), HaveKeyWithValue("public_metadata", Equal(object{"plan": "pro"}))),
		},
		"a deleted organization": {
			change:   func(_ *WithT, c *clerkfake.Clerk) { c.DeleteOrganization("org_a") },
			wantType: "organization.deleted",
			wantData: Equal(object{"object": "organization", "id": "org_a", "deleted": true, "slug": "zeta"}),
		},
		"a new member": {
			change: func(g *WithT, c *clerkfake.Clerk) {
				_, err := c.AddMember("org_b", "user_1", "org:admin")
				g.Expect(err).NotTo(HaveOccurred())
			},
			wantType: "organizationMembership.created",
			wantData: And(HaveKeyWithValue("role", "org:admin"), HaveKeyWithValue("permissions", Not(BeEmpty()))),
		},
		"another role": {
			change: func(g *WithT, c *clerkfake.Clerk) {
				_, err := c.SetRole(membership(c), "org:owner")
				g.Expect(err).NotTo(HaveOccurred())
			},
			wantType: "organizationMembership.updated",
			wantData: And(inMembership, HaveKeyWithValue("role", "org:owner"), HaveKeyWithValue("role_name", "Owner")),
		},
		"a removed member": {
			change: func(g *WithT, c *clerkfake.Clerk) {
				g.Expect(c.RemoveMember(membership(c))).To(Succeed())
			},
			wantType: "organizationMembership.deleted",
			wantData: And(inMembership, HaveKeyWithValue("role", "org:member")),
		},
	} {
		t.Run(name, func(t *testing.T) {
			g := NewWithT(t)
			c := newClerk()
			populate(g, c, 2)
			c.Quietly(func() { c.UpdateUser("user_0", func(u *clerkfake.User) { u.ExternalID = "ext_0" }) })
			tc.change(g, c)

			events := c.TakeEvents()
			g.Expect(events).To(HaveLen(1))
			g.Expect(c.TakeEvents()).To(BeEmpty())
			g.Expect(events[0].Type).To(Equal(tc.wantType))
			g.Expect(events[0].Message.ID).To(HavePrefix("msg_"))
			var envelope object
			g.Expect(json.Unmarshal(events[0].Message.Body, &envelope)).To(Succeed())
			g.Expect(envelope).To(And(
				HaveKeyWithValue("object", "event"),
				HaveKeyWithValue("type", tc.wantType),
				HaveKeyWithValue("instance_id", "ins_test"),
				HaveKeyWithValue("timestamp", float64(events[0].Time.UnixMilli())),
				HaveKeyWithValue("data", tc.wantData),
			))
			decoded, err := clerk.Decode(events[0].Message.Body)
			g.Expect(err).NotTo(HaveOccurred())
			g.Expect(decoded.Mirrored()).To(BeTrue())
		})
	}
}

func TestChanges_cascade(t *testing.T) {
	for name, tc := range map[string]struct {
		change  func(*clerkfake.Clerk)
		cascade bool
		want    []string
		left    int
	}{
		"user":                              {func(c *clerkfake.Clerk) { c.DeleteUser("user_0") }, false, []string{"user.deleted"}, 1},
		"organization":                      {func(c *clerkfake.Clerk) { c.DeleteOrganization("org_a") }, false, []string{"organization.deleted"}, 1},
		"user with its memberships":         {func(c *clerkfake.Clerk) { c.DeleteUser("user_0") }, true, []string{"organizationMembership.deleted", "organizationMembership.deleted", "user.deleted"}, 1},
		"organization with its memberships": {func(c *clerkfake.Clerk) { c.DeleteOrganization("org_a") }, true, []string{"organizationMembership.deleted", "organizationMembership.deleted", "organization.deleted"}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			g := NewWithT(t)
			c := newClerk()
			populate(g, c, 2)
			c.CascadeEvents(tc.cascade)
			tc.change(c)
			events := c.TakeEvents()
			g.Expect(events).To(HaveLen(len(tc.want)))
			for i, event := range events {
				g.Expect(event.Type).To(Equal(tc.want[i]))
			}
			g.Expect(c.Memberships()).To(HaveLen(tc.left))
		})
	}
}

func TestChanges_timesIncrease(t *testing.T) {
	g := NewWithT(t)
	c := newClerk()
	user := c.CreateUser(clerkfake.User{CreatedAt: noon.Add(-time.Hour)})
	g.Expect(user.CreatedAt).To(Equal(noon.Add(-time.Hour)))
	g.Expect(user.UpdatedAt).To(Equal(noon))
	updated := c.UpdateUser(user.ID, func(*clerkfake.User) {})
	g.Expect(updated.UpdatedAt).To(Equal(noon.Add(time.Millisecond)))
	organization := c.CreateOrganization(clerkfake.Organization{})
	membership, err := c.AddMember(organization.ID, user.ID, "org:member")
	g.Expect(err).NotTo(HaveOccurred())
	changed, err := c.SetRole(membership.ID, "org:admin")
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(changed.UpdatedAt).To(BeTemporally(">", membership.UpdatedAt))
	g.Expect(c.RemoveMember(membership.ID)).To(Succeed())
	c.DeleteUser(user.ID)

	var last time.Time
	for _, event := range c.TakeEvents() {
		g.Expect(event.Time).To(BeTemporally(">", last), event.Type)
		last = event.Time
	}
}

func TestChanges_refused(t *testing.T) {
	g := NewWithT(t)
	c := newClerk()
	populate(g, c, 1)
	_, err := c.AddMember("org_a", "user_0", "org:admin")
	g.Expect(err).To(MatchError(clerkfake.ErrAlreadyMember))
	_, err = c.AddMember("org_none", "user_0", "org:admin")
	g.Expect(err).To(MatchError(clerkfake.ErrNotFound))
	_, err = c.AddMember("org_a", "user_none", "org:admin")
	g.Expect(err).To(MatchError(clerkfake.ErrNotFound))
	_, err = c.SetRole("orgmem_none", "org:admin")
	g.Expect(err).To(MatchError(clerkfake.ErrNotFound))
	g.Expect(c.RemoveMember("orgmem_none")).To(MatchError(clerkfake.ErrNotFound))
	g.Expect(c.TakeEvents()).To(BeEmpty())
	g.Expect(func() { c.CreateUser(clerkfake.User{ID: "user_0"}) }).To(Panic())
	g.Expect(func() { c.UpdateOrganization("org_none", func(*clerkfake.Organization) {}) }).To(Panic())

	g.Expect(c.RemoveMember(c.Memberships()[0].ID)).To(Succeed())
	again, err := c.AddMember("org_a", "user_0", "org:admin")
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(c.Memberships()[1]).To(Equal(again))
}

// What is handed out and taken in is not the state itself.
func TestChanges_copies(t *testing.T) {
	g := NewWithT(t)
	c := newClerk()
	given := object{"list": []any{"a"}}
	user := c.CreateUser(clerkfake.User{PublicMetadata: given})
	given["list"].([]any)[0] = "changed"
	user.PublicMetadata["more"] = true
	c.Users()[0].PublicMetadata["more"] = true
	g.Expect(c.Users()[0].PublicMetadata).To(Equal(object{"list": []any{"a"}}))

	organization := c.CreateOrganization(clerkfake.Organization{})
	for _, update := range []func() object{
		func() object {
			return c.UpdateUser(user.ID, func(u *clerkfake.User) { u.PublicMetadata = given }).PublicMetadata
		},
		func() object {
			return c.UpdateOrganization(organization.ID, func(o *clerkfake.Organization) { o.PublicMetadata = given }).PublicMetadata
		},
	} {
		update()["more"] = true
	}
	given["more"] = true
	g.Expect(c.Users()[0].PublicMetadata).To(Equal(object{"list": []any{"changed"}}))
	g.Expect(c.Organizations()[0].PublicMetadata).To(Equal(object{"list": []any{"changed"}}))
}

func TestChanges_canaries(t *testing.T) {
	g := NewWithT(t)
	c := newClerk()
	user := c.CreateUser(clerkfake.User{})
	organization := c.CreateOrganization(clerkfake.Organization{})
	_, err := c.AddMember(organization.ID, user.ID, "org:member")
	g.Expect(err).NotTo(HaveOccurred())
	c.Subscribe(user.ID, "pro")
	var bodies strings.Builder
	for _, event := range c.TakeEvents() {
		g.Expect(bodies.Write(event.Message.Body)).NotTo(BeZero())
	}
	for _, canary := range clerkfake.Canaries() {
		g.Expect(bodies.String()).To(ContainSubstring(canary))
	}
}

func TestClerk_concurrentUse(t *testing.T) {
	g := NewWithT(t)
	c := clerkfake.New(clerkfake.Config{})
	var running sync.WaitGroup
	for i := range 8 {
		running.Go(func() {
			for j := range 20 {
				user := c.CreateUser(clerkfake.User{ID: fmt.Sprintf("user_%d_%d", i, j), PublicMetadata: object{"n": 0}})
				c.UpdateUser(user.ID, func(u *clerkfake.User) { u.PublicMetadata["n"] = j })
				do(c, request(t, c, "/v1/users?limit=500"))
				_ = c.Requests()
				if j%2 == 0 {
					c.DeleteUser(user.ID)
				}
			}
		})
	}
	running.Wait()
	g.Expect(c.Users()).To(HaveLen(80))
	g.Expect(c.TakeEvents()).To(HaveLen(8 * (20 + 20 + 10)))
	g.Expect(c.InstanceID()).To(HavePrefix("ins_"))
	g.Expect(c.SecretKey()).To(HavePrefix("sk_test_"))
}
