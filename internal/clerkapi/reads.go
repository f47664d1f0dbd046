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

// Entry is one entry of a listing.
type Entry struct {
	// ID is empty where the entry has none that is valid for the listing's kind.
	ID string
	// Reason says in one CamelCase word why the entry cannot be used; empty for one that can.
	Reason string
}

// Page is a part of a listing.
type Page[T any] struct {
	// Items are the objects that can be used.
	Items []T
	// Entries are all that the page has, in its order, those that cannot be used included.
	Entries []Entry
	// Total is how many objects the whole listing has; -1 where Clerk does not tell.
	Total int
	// ReadAt is a time by Clerk's clock from which on the page was true.
	ReadAt time.Time
}

// Invalid returns the entries that cannot be used.
func (p Page[T]) Invalid() []Entry {
	var invalid []Entry
	for _, entry := range p.Entries {
		if entry.Reason != "" {
			invalid = append(invalid, entry)
		}
	}
	return invalid
}

// reader is how the entries of a listing are read.
type reader[T any] struct {
	kind   clerk.Kind
	decode func(json.RawMessage) (T, error)
}

var (
	users             = reader[*clerk.User]{clerk.KindUser, clerk.DecodeUser}
	organizations     = reader[*clerk.Organization]{clerk.KindOrganization, clerk.DecodeOrganization}
	memberships       = reader[*clerk.Membership]{clerk.KindMembership, clerk.DecodeMembership}
	subscriptionItems = reader[*clerk.Subscription]{clerk.KindSubscriptionItem, clerk.DecodeSubscriptionItem}
	roles             = reader[string]{clerk.KindRole, clerk.DecodeRole}
)

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
	var entries []json.RawMessage
	readAt, err := c.get(ctx, operation, "/users", query, &entries)
	if err != nil {
		return Page[*clerk.User]{}, err
	}
	if entries == nil { // the answer was null
		return Page[*clerk.User]{}, &Error{Operation: operation, StatusCode: http.StatusOK, cause: ErrMalformed}
	}
	return newPage(entries, -1, readAt, users), nil
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
	return list(ctx, c, "ListOrganizations", "/organizations", order, offset, organizations)
}

// Memberships returns a page of the memberships of all organizations (GET /organization_memberships).
func (c *Client) Memberships(ctx context.Context, order Order, offset int) (Page[*clerk.Membership], error) {
	return list(ctx, c, "ListMemberships", "/organization_memberships", order, offset, memberships)
}

// MembershipOf returns a user's membership of an organization; nil when the user is no member (GET
// /organizations/{id}/memberships with user_id). The entries cannot be used, so that any of them may be the membership.
func (c *Client) MembershipOf(ctx context.Context, organizationID, userID string) (*clerk.Membership, []Entry, error) {
	path, err := pathTo("organizations", organizationID, clerk.KindOrganization, "memberships")
	if err != nil {
		return nil, nil, err
	}
	query := listQuery(OldestFirst)
	query.Set("user_id", userID)
	page, err := listOf(ctx, c, "GetOrganizationMembership", path, query, memberships)
	if err != nil {
		return nil, nil, err
	}
	for _, membership := range page.Items {
		if membership.PublicUserData.UserID == userID {
			return membership, page.Invalid(), nil
		}
	}
	return nil, page.Invalid(), nil
}

// MembershipsOf returns a page of an organization's memberships, oldest first (GET /organizations/{id}/memberships).
func (c *Client) MembershipsOf(ctx context.Context, organizationID string, offset int) (Page[*clerk.Membership], error) {
	path, err := pathTo("organizations", organizationID, clerk.KindOrganization, "memberships")
	if err != nil {
		return Page[*clerk.Membership]{}, err
	}
	return list(ctx, c, "ListOrganizationMemberships", path, OldestFirst, offset, memberships)
}

// Roles returns the keys of the roles that the instance knows (GET /organization_roles), as one page.
func (c *Client) Roles(ctx context.Context) (Page[string], error) {
	var listing struct {
		Data []json.RawMessage `json:"data"`
	}
	readAt, err := c.get(ctx, "ListRoles", "/organization_roles", url.Values{"limit": {"100"}}, &listing)
	if err != nil {
		return Page[string]{}, err
	}
	return newPage(listing.Data, len(listing.Data), readAt, roles), nil
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
	return listOf(ctx, c, "ListSubscriptionItems", "/billing/subscription_items", query, subscriptionItems)
}

func listQuery(order Order) url.Values {
	return url.Values{"limit": {strconv.Itoa(PageSize)}, "order_by": {string(order)}}
}

// list reads a page of a listing that tells its total.
func list[T any](
	ctx context.Context, c *Client, operation, path string, order Order, offset int, of reader[T],
) (Page[T], error) {
	query := listQuery(order)
	query.Set("offset", strconv.Itoa(offset))
	return listOf(ctx, c, operation, path, query, of)
}

func listOf[T any](
	ctx context.Context, c *Client, operation, path string, query url.Values, of reader[T],
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
	return newPage(*listing.Data, *listing.TotalCount, readAt, of), nil
}

func newPage[T any](entries []json.RawMessage, total int, readAt time.Time, of reader[T]) Page[T] {
	page := Page[T]{Total: total, ReadAt: readAt}
	for _, raw := range entries {
		entry := Entry{ID: clerk.IDIn(raw, of.kind)}
		if item, err := of.decode(raw); err == nil {
			page.Items = append(page.Items, item)
		} else {
			entry.Reason = clerk.ReasonOf(err)
		}
		page.Entries = append(page.Entries, entry)
	}
	return page
}
