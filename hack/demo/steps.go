// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	clerkv1alpha1 "github.com/clerk-operator/clerk-operator/api/v1alpha1"
	"github.com/clerk-operator/clerk-operator/internal/clerk"
	"github.com/clerk-operator/clerk-operator/internal/delivery"
	"github.com/clerk-operator/clerk-operator/internal/tenant"
	"github.com/clerk-operator/clerk-operator/test/clerkfake"
	"github.com/clerk-operator/clerk-operator/test/payload"
)

const (
	adaID     = "user_2Ada7np7Hrk0SN6kj5EDMLDaKNL"
	graceID   = "user_2Grace8op3Isl1QR7tKu5FGNfaL"
	acmeID    = "org_2Acme7np7Hrk0SN6kj5EDMLDaKNL"
	adaAtAcme = "orgmem_2AdaAcme7np7Hrk0SN6kj5EDM"
	graceAcme = "orgmem_2GraceAcme7np7Hrk0SN6kj5E"
)

// steps are the demo's story. Clerk is what has gone on where no webhook told of it, and clerkURL is where its Backend API
// is.
func steps(c *clerkfake.Clerk, clerkURL string) []step {
	s := newStory()
	return slices.Concat(s.arrivals(), s.limits(), s.changes(), s.departures(), s.discoveries(c, clerkURL))
}

// story is who the demo is about.
type story struct {
	began        time.Time
	ada, grace   payload.User
	acme         payload.Organization
	adaIn        payload.Membership
	graceIn      payload.Membership
	namespace    string
	getUsers     []string
	showBindings []string
}

func newStory() *story {
	s := &story{began: time.Now().Add(-time.Hour).Truncate(time.Millisecond), namespace: namespaceOf(acmeID)}
	s.ada = payload.User{ID: adaID, Email: "ada@example.com", FirstName: "Ada", CreatedAt: s.at(0), UpdatedAt: s.at(0)}
	s.grace = payload.User{ID: graceID, Email: "grace@example.com", FirstName: "Grace", CreatedAt: s.at(1), UpdatedAt: s.at(1)}
	s.acme = payload.Organization{
		ID: acmeID, Name: "Acme Inc.", Slug: "acme", CreatedBy: adaID, CreatedAt: s.at(2), UpdatedAt: s.at(2),
	}
	s.adaIn = payload.Membership{
		ID: adaAtAcme, Role: "org:admin", UserID: adaID, Organization: s.acme, CreatedAt: s.at(3), UpdatedAt: s.at(3),
	}
	s.graceIn = payload.Membership{
		ID: graceAcme, Role: "org:member", UserID: graceID, Organization: s.acme, CreatedAt: s.at(4), UpdatedAt: s.at(4),
	}
	s.getUsers = []string{"get", "clerkusers"}
	s.showBindings = []string{"get", "rolebindings", "-n", s.namespace, "-o", "wide"}
	return s
}

// at is a minute of the story.
func (s *story) at(minute int) time.Time { return s.began.Add(time.Duration(minute) * time.Minute) }

func (s *story) event(minute int, eventType string, data map[string]any) delivery.Event {
	return delivery.Event{Type: eventType, Time: s.at(minute), Data: data}
}

// canCreate asks the API server whether a user may create something in the organization's namespace.
func (s *story) canCreate(userID, resource string) []string {
	return []string{"auth", "can-i", "create", resource, "-n", s.namespace, "--as=clerk:" + userID}
}

func (s *story) arrivals() []step {
	elsewhere := []string{"auth", "can-i", "get", "pods", "-n", "default", "--as=clerk:" + adaID}
	return []step{
		{
			title: "Two users sign up",
			post:  []delivery.Event{s.event(0, "user.created", s.ada.Data()), s.event(1, "user.created", s.grace.Data())},
			until: []state{ready("clerkuser", clerk.ObjectName("default", adaID)), ready("clerkuser", clerk.ObjectName("default", graceID))},
			show:  [][]string{s.getUsers},
		},
		{
			title: "One of them creates an organization, and both are members",
			post: []delivery.Event{
				s.event(2, "organization.created", s.acme.Data()),
				s.event(3, "organizationMembership.created", s.adaIn.Data()),
				s.event(4, "organizationMembership.created", s.graceIn.Data()),
			},
			until: []state{
				ready("clerkorganization", clerk.ObjectName("default", acmeID)),
				ready("clerkorganizationmembership", clerk.ObjectName("default", adaAtAcme)),
				ready("clerkorganizationmembership", clerk.ObjectName("default", graceAcme)),
				answers("yes", s.canCreate(adaID, "rolebindings")...),
				answers("yes", s.canCreate(graceID, "deployments")...),
				answers("no", s.canCreate(graceID, "rolebindings")...),
				answers("no", elsewhere...),
			},
			show: [][]string{
				{"get", "clerkorganizations,clerkorganizationmemberships"},
				{"get", "namespace", s.namespace, "--show-labels"},
				{"get", "secret", "clerk-organization", "-n", s.namespace},
				s.showBindings,
				s.canCreate(graceID, "deployments"),
				s.canCreate(graceID, "rolebindings"),
				elsewhere,
			},
		},
	}
}

// limits are what a tenant may have, and who says so.
func (s *story) limits() []step {
	open := []string{"delete", "networkpolicy", "clerk-isolation", "-n", s.namespace, "--as=clerk:" + adaID}
	quota := []string{"get", "resourcequota", "clerk-quota", "-n", s.namespace, "-o", "jsonpath={.spec.hard.pods}"}
	pro := payload.SubscriptionItem{
		ID: "csub_item_2Acme", SubscriptionID: "csub_2Acme", PayerID: acmeID, Plan: "pro", Amount: 2000, Status: "active",
		CreatedAt: s.at(4), UpdatedAt: s.at(4), PeriodStart: s.at(4),
	}
	return []step{
		{
			title: "The organization's administrator would lift the tenant's limits: the API server refuses",
			until: []state{prints("may not create, change or delete it", open...)},
			show:  [][]string{{"get", "resourcequotas,networkpolicies", "-n", s.namespace}, open},
		},
		{
			title: "The organization buys a plan in Clerk Billing: another class, and a larger quota",
			post:  []delivery.Event{s.event(4, "subscriptionItem.active", pro.Data())},
			until: []state{
				answers("100", quota...),
				answers("yes", s.canCreate(graceID, "deployments")...),
				answers("1", "get", "clerktenantclass", "pro", "-o", "jsonpath={.status.tenants}"),
			},
			show: [][]string{{"get", "clerkorganizations", "-o", "wide"}, {"get", "clerktenantclasses"}, quota},
		},
	}
}

func (s *story) changes() []step {
	promoted := s.graceIn
	promoted.Role, promoted.UpdatedAt = "org:admin", s.at(5)
	banned := s.grace
	banned.Banned, banned.UpdatedAt = true, s.at(6)
	return []step{
		{
			title: "A member becomes an administrator of the organization",
			post:  []delivery.Event{s.event(5, "organizationMembership.updated", promoted.Data())},
			until: []state{answers("yes", s.canCreate(graceID, "rolebindings")...)},
			show:  [][]string{s.showBindings, s.canCreate(graceID, "rolebindings")},
		},
		{
			title: "An old event arrives late: nothing goes back",
			post:  []delivery.Event{s.event(4, "organizationMembership.updated", s.graceIn.Data())},
			until: []state{answers("yes", s.canCreate(graceID, "rolebindings")...)},
			show:  [][]string{{"get", "clerkorganizationmemberships"}},
		},
		{
			title: "A user is banned: access is gone, in the organization's namespace as everywhere",
			post:  []delivery.Event{s.event(6, "user.updated", banned.Data())},
			until: []state{
				answers("no", s.canCreate(graceID, "deployments")...),
				answers("yes", s.canCreate(adaID, "deployments")...),
				prints("Suspended", s.getUsers...),
			},
			show: [][]string{s.getUsers, s.showBindings, s.canCreate(graceID, "deployments")},
		},
		{
			title:  "Somebody forges an event that would lift the ban: refused",
			forged: true,
			post:   []delivery.Event{s.event(7, "user.updated", s.grace.Data())},
			until:  []state{prints("Suspended", s.getUsers...)},
			show:   [][]string{s.getUsers},
		},
	}
}

func (s *story) departures() []step {
	return []step{
		{
			title: "The organization is deleted: so is its namespace",
			post:  []delivery.Event{s.event(8, "organization.deleted", payload.Deleted("organization", acmeID))},
			until: []state{
				prints("NotFound", "get", "namespace", s.namespace),
				prints("No resources found", "get", "clerkorganizations"),
				prints("No resources found", "get", "clerkorganizationmemberships"),
			},
			show: [][]string{{"get", "clerkorganizations"}, {"get", "namespaces"}, {"get", "clerktombstones"}},
		},
		{
			title: "A user is deleted, and a late event does not bring the user back",
			post: []delivery.Event{
				s.event(9, "user.deleted", payload.Deleted("user", graceID)),
				s.event(1, "user.created", s.grace.Data()),
			},
			until: []state{
				{command: s.getUsers, want: func(output string) bool {
					return !strings.Contains(output, s.grace.Email) && strings.Contains(output, s.ada.Email)
				}},
			},
			show: [][]string{s.getUsers, {"get", "clerk"}},
		},
	}
}

// discoveries are what the operator finds out by asking Clerk.
func (s *story) discoveries(c *clerkfake.Clerk, clerkURL string) []step {
	getInstances := []string{"get", "clerkinstances"}
	var joan clerkfake.User
	c.Quietly(func() {
		c.CreateUser(clerkfake.User{
			ID: adaID, Email: s.ada.Email, FirstName: s.ada.FirstName, CreatedAt: s.ada.CreatedAt, UpdatedAt: s.ada.UpdatedAt,
		})
		joan = c.CreateUser(clerkfake.User{Email: "joan@example.com", FirstName: "Joan"})
		c.CreateOrganization(clerkfake.Organization{Name: "Globex", Slug: "globex", CreatedBy: joan.ID})
	})
	backend := fmt.Sprintf(`{"spec":{"backendAPI":{"url":%q,"secretKeyRef":{"name":"clerk-backend-api","key":"secret-key"}}}}`, clerkURL)
	return []step{
		{
			title: "The operator is given the key of Clerk's Backend API: what was there before it appears",
			run: [][]string{
				{"create", "secret", "generic", "clerk-backend-api", "-n", "clerk-operator-system", "--from-literal=secret-key=" + c.SecretKey()},
				{"patch", "clerkinstance", "default", "--type=merge", "-p", backend},
			},
			until: []state{
				condition("True", "clerkinstance", "default", "Synced"),
				ready("clerkuser", clerk.ObjectName("default", joan.ID)),
				prints("globex", "get", "clerkorganizations"),
			},
			show: [][]string{getInstances, s.getUsers, {"get", "clerkorganizations"}},
		},
		{
			title:  "A user is deleted in Clerk, and no webhook says so: the next sync finds out, and that webhooks fail",
			happen: func() { c.Quietly(func() { c.DeleteUser(joan.ID) }) },
			run:    [][]string{{"annotate", "clerkinstance", "default", "clerk-operator.dev/resync-requested-at=now"}},
			until: []state{
				prints("NotFound", "get", "clerkuser", clerk.ObjectName("default", joan.ID)),
				ready("clerkuser", clerk.ObjectName("default", adaID)),
				condition("False", "clerkinstance", "default", "Fresh"),
			},
			show: [][]string{getInstances, s.getUsers, {"get", "events", "--field-selector=involvedObject.kind=ClerkInstance"}},
		},
	}
}

func ready(kind, name string) state { return condition("True", kind, name, "Ready") }

// condition is a state in which a condition of an object has a status.
func condition(status, kind, name, conditionType string) state {
	return answers(status, "get", kind, name, "-o", `jsonpath={.status.conditions[?(@.type=="`+conditionType+`")].status}`)
}

// namespaceOf is the name that the operator gives the namespace of the demo's organization.
func namespaceOf(organizationID string) string {
	organization := &clerkv1alpha1.ClerkOrganization{}
	organization.Spec.InstanceName = clerkv1alpha1.DefaultInstanceName
	organization.Spec.OrganizationID, organization.Spec.Slug = organizationID, "acme"
	return tenant.NamespaceName("org-", organization)
}
