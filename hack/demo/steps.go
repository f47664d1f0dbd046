// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"strings"
	"time"

	clerkv1alpha1 "github.com/clerk-operator/clerk-operator/api/v1alpha1"
	"github.com/clerk-operator/clerk-operator/internal/delivery"
	"github.com/clerk-operator/clerk-operator/internal/tenant"
	"github.com/clerk-operator/clerk-operator/test/payload"
)

const (
	adaID      = "user_2Ada7np7Hrk0SN6kj5EDMLDaKNL"
	graceID    = "user_2Grace8op3Isl1QR7tKu5FGNfaL"
	acmeID     = "org_2Acme7np7Hrk0SN6kj5EDMLDaKNL"
	adaAtAcme  = "orgmem_2AdaAcme7np7Hrk0SN6kj5EDM"
	graceAcme  = "orgmem_2GraceAcme7np7Hrk0SN6kj5E"
	acmeObject = "org-2acme7np7hrk0sn6kj5edmldaknl"
)

// steps are the demo's story.
func steps() []step {
	began := time.Now().Add(-time.Hour).Truncate(time.Millisecond)
	at := func(minute int) time.Time { return began.Add(time.Duration(minute) * time.Minute) }
	event := func(minute int, eventType string, data map[string]any) delivery.Event {
		return delivery.Event{Type: eventType, Time: at(minute), Data: data}
	}
	ada := payload.User{ID: adaID, Email: "ada@example.com", FirstName: "Ada", CreatedAt: at(0), UpdatedAt: at(0)}
	grace := payload.User{ID: graceID, Email: "grace@example.com", FirstName: "Grace", CreatedAt: at(1), UpdatedAt: at(1)}
	acme := payload.Organization{
		ID: acmeID, Name: "Acme Inc.", Slug: "acme", CreatedBy: adaID, CreatedAt: at(2), UpdatedAt: at(2),
	}
	adaIn := payload.Membership{
		ID: adaAtAcme, Role: "org:admin", UserID: adaID, Organization: acme, CreatedAt: at(3), UpdatedAt: at(3),
	}
	graceIn := payload.Membership{
		ID: graceAcme, Role: "org:member", UserID: graceID, Organization: acme, CreatedAt: at(4), UpdatedAt: at(4),
	}
	promoted := graceIn
	promoted.Role, promoted.UpdatedAt = "org:admin", at(5)
	banned := grace
	banned.Banned, banned.UpdatedAt = true, at(6)

	namespace := namespaceOf(acmeID)
	canI := func(userID string, what ...string) []string {
		return append(append([]string{"auth", "can-i"}, what...), "-n", namespace, "--as=clerk:"+userID)
	}
	users := []string{"get", "clerkusers"}
	bindings := []string{"get", "rolebindings", "-n", namespace, "-o", "wide"}
	ready := func(kind, name string) state {
		return answers("True", "get", kind, name, "-o", `jsonpath={.status.conditions[?(@.type=="Ready")].status}`)
	}
	return []step{
		{
			title: "Two users sign up",
			post:  []delivery.Event{event(0, "user.created", ada.Data()), event(1, "user.created", grace.Data())},
			until: []state{prints("ada@example.com", users...), prints("grace@example.com", users...)},
			show:  [][]string{users},
		},
		{
			title: "One of them creates an organization, and both are members",
			post: []delivery.Event{
				event(2, "organization.created", acme.Data()),
				event(3, "organizationMembership.created", adaIn.Data()),
				event(4, "organizationMembership.created", graceIn.Data()),
			},
			until: []state{
				ready("clerkorganization", acmeObject),
				answers("yes", canI(adaID, "create", "rolebindings")...),
				answers("yes", canI(graceID, "create", "deployments")...),
				answers("no", canI(graceID, "create", "rolebindings")...),
				answers("no", "auth", "can-i", "get", "pods", "-n", "default", "--as=clerk:"+adaID),
			},
			show: [][]string{
				{"get", "clerkorganizations,clerkorganizationmemberships"},
				{"get", "namespace", namespace, "--show-labels"},
				{"get", "secret", "clerk-organization", "-n", namespace},
				bindings,
				canI(graceID, "create", "deployments"),
				canI(graceID, "create", "rolebindings"),
				{"auth", "can-i", "get", "pods", "-n", "default", "--as=clerk:" + adaID},
			},
		},
		{
			title: "A member becomes an administrator of the organization",
			post:  []delivery.Event{event(5, "organizationMembership.updated", promoted.Data())},
			until: []state{answers("yes", canI(graceID, "create", "rolebindings")...)},
			show:  [][]string{bindings, canI(graceID, "create", "rolebindings")},
		},
		{
			title: "An old event arrives late: nothing goes back",
			post:  []delivery.Event{event(4, "organizationMembership.updated", graceIn.Data())},
			until: []state{answers("yes", canI(graceID, "create", "rolebindings")...)},
			show:  [][]string{{"get", "clerkorganizationmemberships"}},
		},
		{
			title: "A user is banned: access is gone, in the organization's namespace as everywhere",
			post:  []delivery.Event{event(6, "user.updated", banned.Data())},
			until: []state{
				answers("no", canI(graceID, "create", "deployments")...),
				answers("yes", canI(adaID, "create", "deployments")...),
				prints("Suspended", users...),
			},
			show: [][]string{users, bindings, canI(graceID, "create", "deployments")},
		},
		{
			title:  "Somebody forges an event that would lift the ban: refused",
			forged: true,
			post:   []delivery.Event{event(7, "user.updated", grace.Data())},
			until:  []state{prints("Suspended", users...)},
			show:   [][]string{users},
		},
		{
			title: "The organization is deleted: so is its namespace",
			post:  []delivery.Event{event(8, "organization.deleted", payload.Deleted("organization", acmeID))},
			until: []state{
				prints("NotFound", "get", "namespace", namespace),
				prints("No resources found", "get", "clerkorganizations"),
				prints("No resources found", "get", "clerkorganizationmemberships"),
			},
			show: [][]string{{"get", "clerkorganizations"}, {"get", "namespaces"}, {"get", "clerktombstones"}},
		},
		{
			title: "A user is deleted, and a late event does not bring the user back",
			post: []delivery.Event{
				event(9, "user.deleted", payload.Deleted("user", graceID)),
				event(1, "user.created", grace.Data()),
			},
			until: []state{
				{command: users, want: func(output string) bool {
					return !strings.Contains(output, "grace@example.com") && strings.Contains(output, "ada@example.com")
				}},
			},
			show: [][]string{users, {"get", "clerk"}},
		},
	}
}

// namespaceOf is the name that the operator gives the namespace of the demo's organization.
func namespaceOf(organizationID string) string {
	organization := &clerkv1alpha1.ClerkOrganization{}
	organization.Spec.OrganizationID, organization.Spec.Slug = organizationID, "acme"
	return tenant.NamespaceName("org-", organization)
}
