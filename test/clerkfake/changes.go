// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package clerkfake

import (
	"cmp"
	"errors"
	"fmt"
	"time"

	"github.com/clerk-operator/clerk-operator/test/payload"
)

// The ways in which Clerk refuses a change of a membership.
var (
	ErrNotFound      = errors.New("not found")
	ErrAlreadyMember = errors.New("already a member")
)

// User is a user. Its address is verified; every user has another, unverified one as well.
type User struct {
	ID, ExternalID                       string
	Email, Username, FirstName, LastName string
	Banned, Deprovisioned                bool
	PublicMetadata                       map[string]any
	CreatedAt, UpdatedAt                 time.Time
}

// Organization is an organization. A slug may be empty: Clerk gives new applications' organizations none by default.
type Organization struct {
	ID, Name, Slug, CreatedBy string
	// MaxAllowedMemberships is only told, not enforced.
	MaxAllowedMemberships int
	PublicMetadata        map[string]any
	CreatedAt, UpdatedAt  time.Time
}

// Membership is a user's membership in an organization.
type Membership struct {
	ID, OrganizationID, UserID, Role string
	CreatedAt, UpdatedAt             time.Time
}

func (u User) copy() User {
	u.PublicMetadata = copied(u.PublicMetadata)
	return u
}

func (o Organization) copy() Organization {
	o.PublicMetadata = copied(o.PublicMetadata)
	return o
}

// Users returns the users in the order of their creation.
func (c *Clerk) Users() []User {
	c.mu.Lock()
	defer c.mu.Unlock()
	return values(c.users.all(), User.copy)
}

// Organizations returns the organizations in the order of their creation.
func (c *Clerk) Organizations() []Organization {
	c.mu.Lock()
	defer c.mu.Unlock()
	return values(c.organizations.all(), Organization.copy)
}

// Memberships returns the memberships in the order of their creation.
func (c *Clerk) Memberships() []Membership {
	c.mu.Lock()
	defer c.mu.Unlock()
	return values(c.memberships.all(), func(m Membership) Membership { return m })
}

func values[T any](objects []*T, duplicate func(T) T) []T {
	found := make([]T, len(objects))
	for i, object := range objects {
		found[i] = duplicate(*object)
	}
	return found
}

// CreateUser creates a user with what is given. An ID or a time that is zero is a new one. It panics if the ID is taken.
func (c *Clerk) CreateUser(user User) User {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.tick()
	user = user.copy()
	user.ID = cmp.Or(user.ID, payload.NewID("user"))
	user.CreatedAt, user.UpdatedAt = given(user.CreatedAt, now), given(user.UpdatedAt, now)
	c.users.add(user.ID, &user)
	c.announce("user.created", now, userData(&user))
	return user.copy()
}

// UpdateUser changes a user, but for its ID and times. It panics if there is none.
func (c *Clerk) UpdateUser(id string, change func(*User)) User {
	c.mu.Lock()
	defer c.mu.Unlock()
	old := c.users.must(id)
	user := old.copy()
	change(&user)
	user = user.copy()
	user.ID, user.CreatedAt, user.UpdatedAt = id, old.CreatedAt, c.tick()
	c.users.byID[id] = &user
	c.announce("user.updated", user.UpdatedAt, userData(&user))
	return user.copy()
}

// DeleteUser deletes a user and its memberships. It panics if there is none.
func (c *Clerk) DeleteUser(id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	user := c.users.must(id)
	c.drop(c.membershipsOf(func(m *Membership) bool { return m.UserID == id }), c.cascade)
	c.users.remove(id)
	delete(c.subscriptions, id)
	data := deletedData("user", id)
	if user.ExternalID != "" {
		data["external_id"] = user.ExternalID
	}
	c.announce("user.deleted", c.tick(), data)
}

// CreateOrganization creates an organization with what is given. An ID or a time that is zero is a new one. Nobody is
// its member yet, the creator neither. It panics if the ID is taken.
func (c *Clerk) CreateOrganization(organization Organization) Organization {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.tick()
	organization = organization.copy()
	organization.ID = cmp.Or(organization.ID, payload.NewID("org"))
	organization.CreatedAt, organization.UpdatedAt = given(organization.CreatedAt, now), given(organization.UpdatedAt, now)
	c.organizations.add(organization.ID, &organization)
	c.members[organization.ID] = map[string]string{}
	c.announce("organization.created", now, c.organizationData(&organization, true))
	return organization.copy()
}

// UpdateOrganization changes an organization, but for its ID and times. It panics if there is none.
func (c *Clerk) UpdateOrganization(id string, change func(*Organization)) Organization {
	c.mu.Lock()
	defer c.mu.Unlock()
	old := c.organizations.must(id)
	organization := old.copy()
	change(&organization)
	organization = organization.copy()
	organization.ID, organization.CreatedAt, organization.UpdatedAt = id, old.CreatedAt, c.tick()
	c.organizations.byID[id] = &organization
	c.announce("organization.updated", organization.UpdatedAt, c.organizationData(&organization, true))
	return organization.copy()
}

// DeleteOrganization deletes an organization and its memberships. It panics if there is none.
func (c *Clerk) DeleteOrganization(id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	organization := c.organizations.must(id)
	c.drop(c.membershipsOf(func(m *Membership) bool { return m.OrganizationID == id }), c.cascade)
	c.organizations.remove(id)
	delete(c.members, id)
	delete(c.subscriptions, id)
	data := deletedData("organization", id)
	if organization.Slug != "" {
		data["slug"] = organization.Slug
	}
	c.announce("organization.deleted", c.tick(), data)
}

// AddMember makes a user a member. It is ErrNotFound or ErrAlreadyMember if that cannot be.
func (c *Clerk) AddMember(organizationID, userID, role string) (Membership, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.organizations.byID[organizationID] == nil {
		return Membership{}, fmt.Errorf("organization %q: %w", organizationID, ErrNotFound)
	}
	if c.users.byID[userID] == nil {
		return Membership{}, fmt.Errorf("user %q: %w", userID, ErrNotFound)
	}
	if _, ok := c.members[organizationID][userID]; ok {
		return Membership{}, fmt.Errorf("user %q in organization %q: %w", userID, organizationID, ErrAlreadyMember)
	}
	now := c.tick()
	membership := Membership{
		ID: payload.NewID("orgmem"), OrganizationID: organizationID, UserID: userID, Role: role, CreatedAt: now, UpdatedAt: now,
	}
	c.memberships.add(membership.ID, &membership)
	c.members[organizationID][userID] = membership.ID
	c.announce("organizationMembership.created", now, c.membershipData(&membership, true))
	return membership, nil
}

// SetRole gives a member another role. It is ErrNotFound if there is no such membership.
func (c *Clerk) SetRole(membershipID, role string) (Membership, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	old, ok := c.memberships.byID[membershipID]
	if !ok {
		return Membership{}, fmt.Errorf("membership %q: %w", membershipID, ErrNotFound)
	}
	membership := *old
	membership.Role, membership.UpdatedAt = role, c.tick()
	c.memberships.byID[membershipID] = &membership
	c.announce("organizationMembership.updated", membership.UpdatedAt, c.membershipData(&membership, true))
	return membership, nil
}

// RemoveMember ends a membership. It is ErrNotFound if there is no such membership.
func (c *Clerk) RemoveMember(membershipID string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	membership, ok := c.memberships.byID[membershipID]
	if !ok {
		return fmt.Errorf("membership %q: %w", membershipID, ErrNotFound)
	}
	c.drop([]*Membership{membership}, true)
	return nil
}

func (c *Clerk) membershipsOf(matches func(*Membership) bool) []*Membership {
	var found []*Membership
	for _, membership := range c.memberships.all() {
		if matches(membership) {
			found = append(found, membership)
		}
	}
	return found
}

// drop ends memberships whose user and organization are still there.
func (c *Clerk) drop(memberships []*Membership, announced bool) {
	ids := make([]string, len(memberships))
	for i, membership := range memberships {
		ids[i] = membership.ID
		delete(c.members[membership.OrganizationID], membership.UserID)
		if announced {
			c.announce("organizationMembership.deleted", c.tick(), c.membershipData(membership, true))
		}
	}
	c.memberships.remove(ids...)
}
