// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package clerkapi

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"time"

	"github.com/clerk-operator/clerk-operator/internal/clerk"
)

// PageSize is how many objects a page of a listing has; Clerk allows 500.
const PageSize = 250

// Order is how a listing is sorted.
type Order string

// The orders of listings.
const (
	OldestFirst       Order = "+created_at"
	NewestFirst       Order = "-created_at"
	LastModifiedFirst Order = "-updated_at"
)

// Page is a part of a listing.
type Page[T any] struct {
	// Items are the objects that can be used.
	Items []T
	// Listed is how many objects the page has, those that cannot be used included.
	Listed int
	// Total is how many objects the whole listing has; -1 where Clerk does not tell.
	Total int
	// ReadAt is a time by Clerk's clock from which on the page was true.
	ReadAt time.Time
}

// Instance is the Clerk instance that a secret key is of.
type Instance struct {
	ID string `json:"id"`
}

var instanceID = regexp.MustCompile(`^ins_[A-Za-z0-9]{1,59}$`)

// Instance returns the instance that the secret key is of (GET /instance).
func (c *Client) Instance(ctx context.Context) (Instance, error) {
	const operation = "GetInstance"
	var instance Instance
	if _, err := c.get(ctx, operation, "/instance", nil, &instance); err != nil {
		return Instance{}, err
	}
	if !instanceID.MatchString(instance.ID) {
		return Instance{}, &Error{Operation: operation, StatusCode: http.StatusOK, cause: ErrMalformed}
	}
	return instance, nil
}

// UsersAfter returns the page of users, oldest first, that follows a user (GET /users with starting_after); the first
// page when there is no such user. Unlike an offset it does not drift and does not slow down.
func (c *Client) UsersAfter(ctx context.Context, userID string) (Page[*clerk.User], error) {
	query := listQuery(OldestFirst)
	if userID != "" {
		query.Set("starting_after", userID)
	}
	return c.users(ctx, query)
}

// Users returns a page of users (GET /users).
func (c *Client) Users(ctx context.Context, order Order, offset int) (Page[*clerk.User], error) {
	query := listQuery(order)
	query.Set("offset", strconv.Itoa(offset))
	return c.users(ctx, query)
}

func (c *Client) users(ctx context.Context, query url.Values) (Page[*clerk.User], error) {
	const operation = "ListUsers"
	var items []json.RawMessage
	readAt, err := c.get(ctx, operation, "/users", query, &items)
	if err != nil {
		return Page[*clerk.User]{}, err
	}
	if items == nil { // the answer was null
		return Page[*clerk.User]{}, &Error{Operation: operation, StatusCode: http.StatusOK, cause: ErrMalformed}
	}
	return newPage(items, -1, readAt, clerk.DecodeUser), nil
}

// CountUsers returns how many users there are (GET /users/count).
func (c *Client) CountUsers(ctx context.Context) (int, error) {
	var count struct {
		TotalCount int `json:"total_count"`
	}
	_, err := c.get(ctx, "CountUsers", "/users/count", nil, &count)
	return count.TotalCount, err
}

// Organizations returns a page of organizations (GET /organizations).
func (c *Client) Organizations(ctx context.Context, order Order, offset int) (Page[*clerk.Organization], error) {
	return list(ctx, c, "ListOrganizations", "/organizations", order, offset, clerk.DecodeOrganization)
}

// Memberships returns a page of the memberships of all organizations (GET /organization_memberships).
func (c *Client) Memberships(ctx context.Context, order Order, offset int) (Page[*clerk.Membership], error) {
	return list(ctx, c, "ListMemberships", "/organization_memberships", order, offset, clerk.DecodeMembership)
}

// MembershipOf returns a user's membership of an organization; nil when the user is no member (GET
// /organizations/{id}/memberships with user_id).
func (c *Client) MembershipOf(ctx context.Context, organizationID, userID string) (*clerk.Membership, error) {
	path, err := pathTo("organizations", organizationID, clerk.KindOrganization, "memberships")
	if err != nil {
		return nil, err
	}
	query := listQuery(OldestFirst)
	query.Set("user_id", userID)
	page, err := listOf(ctx, c, "GetOrganizationMembership", path, query, clerk.DecodeMembership)
	if err != nil {
		return nil, err
	}
	for _, membership := range page.Items {
		if membership.PublicUserData.UserID == userID {
			return membership, nil
		}
	}
	return nil, nil
}

// MembershipsOf returns a page of an organization's memberships, oldest first (GET /organizations/{id}/memberships).
func (c *Client) MembershipsOf(ctx context.Context, organizationID string, offset int) (Page[*clerk.Membership], error) {
	path, err := pathTo("organizations", organizationID, clerk.KindOrganization, "memberships")
	if err != nil {
		return Page[*clerk.Membership]{}, err
	}
	return list(ctx, c, "ListOrganizationMemberships", path, OldestFirst, offset, clerk.DecodeMembership)
}

// Role is a role that an organization's members can have.
type Role struct {
	Key string `json:"key"`
}

// Roles returns the roles that the instance knows (GET /organization_roles).
func (c *Client) Roles(ctx context.Context) ([]Role, error) {
	var listing struct {
		Data []Role `json:"data"`
	}
	_, err := c.get(ctx, "ListRoles", "/organization_roles", url.Values{"limit": {"100"}}, &listing)
	return listing.Data, err
}

// User returns one user (GET /users/{id}) and a time by Clerk's clock from which on that was true.
func (c *Client) User(ctx context.Context, id string) (*clerk.User, time.Time, error) {
	const operation = "GetUser"
	path, err := pathTo("users", id, clerk.KindUser)
	if err != nil {
		return nil, time.Time{}, err
	}
	var raw json.RawMessage
	readAt, err := c.get(ctx, operation, path, nil, &raw)
	if err != nil {
		return nil, time.Time{}, err
	}
	user, err := clerk.DecodeUser(raw)
	if err != nil || user.ID != id {
		return nil, time.Time{}, &Error{Operation: operation, StatusCode: http.StatusOK, cause: ErrMalformed}
	}
	return user, readAt, nil
}

// Organization returns one organization (GET /organizations/{id}), a time by Clerk's clock from which on that was true,
// and how many members it has; -1 where Clerk does not tell.
func (c *Client) Organization(ctx context.Context, id string) (*clerk.Organization, time.Time, int, error) {
	const operation = "GetOrganization"
	path, err := pathTo("organizations", id, clerk.KindOrganization)
	if err != nil {
		return nil, time.Time{}, -1, err
	}
	var raw json.RawMessage
	readAt, err := c.get(ctx, operation, path, url.Values{"include_members_count": {"true"}}, &raw)
	if err != nil {
		return nil, time.Time{}, -1, err
	}
	organization, err := clerk.DecodeOrganization(raw)
	if err != nil || organization.ID != id {
		return nil, time.Time{}, -1, &Error{Operation: operation, StatusCode: http.StatusOK, cause: ErrMalformed}
	}
	var counted struct {
		MembersCount *int `json:"members_count"`
	}
	if err := json.Unmarshal(raw, &counted); err != nil || counted.MembersCount == nil {
		return organization, readAt, -1, nil //nolint:nilerr // a count that cannot be read is one that Clerk does not tell
	}
	return organization, readAt, *counted.MembersCount, nil
}

// Subscription returns the subscription of an organization or a user (GET /organizations/{id}/billing/subscription or
// /users/{id}/billing/subscription); nil where Clerk says that there is none, as where billing is off.
func (c *Client) Subscription(ctx context.Context, kind clerk.Kind, id string) (*clerk.Subscription, error) {
	const operation = "GetSubscription"
	collection := "organizations"
	if kind == clerk.KindUser {
		collection = "users"
	}
	path, err := pathTo(collection, id, kind, "billing", "subscription")
	if err != nil {
		return nil, err
	}
	var raw json.RawMessage
	_, err = c.get(ctx, operation, path, nil, &raw)
	if IsBillingOff(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	subscription, err := clerk.DecodeSubscription(id, raw)
	if err != nil {
		return nil, &Error{Operation: operation, StatusCode: http.StatusOK, cause: ErrMalformed}
	}
	return subscription, nil
}

// SubscriptionItems returns a page of the items of all subscriptions, the newest first, each as a subscription of its own
// (GET /billing/subscription_items).
func (c *Client) SubscriptionItems(ctx context.Context, offset int) (Page[*clerk.Subscription], error) {
	query := url.Values{
		"limit": {strconv.Itoa(PageSize)}, "offset": {strconv.Itoa(offset)}, "paginated": {"true"}, "include_free": {"true"},
	}
	return listOf(ctx, c, "ListSubscriptionItems", "/billing/subscription_items", query, clerk.DecodeSubscriptionItem)
}

func listQuery(order Order) url.Values {
	return url.Values{"limit": {strconv.Itoa(PageSize)}, "order_by": {string(order)}}
}

// list reads a page of a listing that tells its total.
func list[T any](
	ctx context.Context, c *Client, operation, path string, order Order, offset int, decode func(json.RawMessage) (T, error),
) (Page[T], error) {
	query := listQuery(order)
	query.Set("offset", strconv.Itoa(offset))
	return listOf(ctx, c, operation, path, query, decode)
}

func listOf[T any](
	ctx context.Context, c *Client, operation, path string, query url.Values, decode func(json.RawMessage) (T, error),
) (Page[T], error) {
	var listing struct {
		Data       *[]json.RawMessage `json:"data"`
		TotalCount *int               `json:"total_count"`
	}
	readAt, err := c.get(ctx, operation, path, query, &listing)
	if err != nil {
		return Page[T]{}, err
	}
	if listing.Data == nil || listing.TotalCount == nil {
		return Page[T]{}, &Error{Operation: operation, StatusCode: http.StatusOK, cause: ErrMalformed}
	}
	return newPage(*listing.Data, *listing.TotalCount, readAt, decode), nil
}

func newPage[T any](items []json.RawMessage, total int, readAt time.Time, decode func(json.RawMessage) (T, error)) Page[T] {
	page := Page[T]{Listed: len(items), Total: total, ReadAt: readAt}
	for _, raw := range items {
		if item, err := decode(raw); err == nil {
			page.Items = append(page.Items, item)
		}
	}
	return page
}
