// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package clerkfake

import (
	"cmp"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/clerk-operator/clerk-operator/test/payload"
)

const (
	defaultLimit = 10
	maxLimit     = 500
	// maxFilter is how many IDs a filter takes.
	maxFilter = 100
)

// listing is what a list endpoint lists and how.
type listing[T any] struct {
	id func(*T) string
	// orders compare by what order_by can name; the default is always -created_at.
	orders map[string]func(a, b *T) int
	// keep says what passes the filters.
	keep func(*T) bool
	data func(*T) object
}

// page returns the data of one page of rows, and how many there are on all pages.
func page[T any](c call, rows []*T, l listing[T]) (data []object, total int, problem *problem) {
	limit, problem := c.number("limit", defaultLimit, 1, maxLimit)
	if problem != nil {
		return nil, 0, problem
	}
	offset, problem := c.number("offset", 0, 0, math.MaxInt)
	if problem != nil {
		return nil, 0, problem
	}
	property, problem := arrange(c, rows, l)
	if problem != nil {
		return nil, 0, problem
	}
	data = []object{}
	if after := c.query.Get("starting_after"); after != "" {
		at := slices.IndexFunc(rows, func(row *T) bool { return l.id(row) == after })
		if property != "created_at" || offset != 0 || at < 0 {
			return nil, 0, invalid("starting_after")
		}
		rows = rows[c.faults.position(at+1):]
	}
	offset = c.faults.position(offset)
	for _, row := range rows {
		if l.keep != nil && !l.keep(row) || c.faults.leavesOut(l.id(row)) {
			continue
		}
		if total++; total > offset && len(data) < limit {
			data = append(data, c.faults.edit(l.id(row), l.data(row)))
		}
	}
	return data, total, nil
}

// arrange sorts rows, which are in the order of their creation, as the request wants it, and returns by what.
func arrange[T any](c call, rows []*T, l listing[T]) (property string, problem *problem) {
	property, descending := strings.CutPrefix(cmp.Or(c.query.Get("order_by"), "-created_at"), "-")
	if !descending {
		property = strings.TrimPrefix(property, "+")
	}
	compare, ok := l.orders[property]
	if !ok {
		return "", invalid("order_by")
	}
	if !slices.IsSortedFunc(rows, compare) {
		slices.SortStableFunc(rows, compare)
	}
	if descending {
		slices.Reverse(rows)
	}
	return property, nil
}

// paged is how every list but that of users is answered.
func paged[T any](c call, rows []*T, l listing[T]) (any, *problem) {
	data, total, problem := page(c, rows, l)
	return object{"data": data, "total_count": total}, problem
}

func (c call) listUsers() (any, *problem) {
	if problem := c.only("limit", "offset", "order_by", "starting_after", "user_id", "organization_id"); problem != nil {
		return nil, problem
	}
	keep, problem := c.userFilter()
	if problem != nil {
		return nil, problem
	}
	data, _, problem := page(c, c.users.all(), listing[User]{
		id: func(u *User) string { return u.ID },
		orders: map[string]func(a, b *User) int{
			"created_at": func(a, b *User) int { return a.CreatedAt.Compare(b.CreatedAt) },
			"updated_at": func(a, b *User) int { return a.UpdatedAt.Compare(b.UpdatedAt) },
		},
		keep: keep,
		data: userData,
	})
	return data, problem
}

func (c call) countUsers() (any, *problem) {
	if problem := c.only("user_id", "organization_id"); problem != nil {
		return nil, problem
	}
	keep, problem := c.userFilter()
	if problem != nil {
		return nil, problem
	}
	count := 0
	for _, user := range c.users.all() {
		if keep(user) {
			count++
		}
	}
	return object{"object": "total_count", "total_count": count}, nil
}

func (c call) userFilter() (func(*User) bool, *problem) {
	byID, problem := c.filter("user_id")
	if problem != nil {
		return nil, problem
	}
	byOrganization, problem := c.filter("organization_id")
	return func(u *User) bool {
		return byID(func(id string) bool { return id == u.ID }) && byOrganization(func(id string) bool {
			_, ok := c.members[id][u.ID]
			return ok
		})
	}, problem
}

func (c call) listOrganizations() (any, *problem) {
	if problem := c.only("limit", "offset", "order_by", "organization_id", "include_members_count"); problem != nil {
		return nil, problem
	}
	counted, problem := c.flag("include_members_count")
	if problem != nil {
		return nil, problem
	}
	byID, problem := c.filter("organization_id")
	if problem != nil {
		return nil, problem
	}
	return paged(c, c.organizations.all(), listing[Organization]{
		id: func(o *Organization) string { return o.ID },
		orders: map[string]func(a, b *Organization) int{
			"created_at":    func(a, b *Organization) int { return a.CreatedAt.Compare(b.CreatedAt) },
			"name":          func(a, b *Organization) int { return strings.Compare(a.Name, b.Name) },
			"members_count": func(a, b *Organization) int { return cmp.Compare(len(c.members[a.ID]), len(c.members[b.ID])) },
		},
		keep: func(o *Organization) bool { return byID(func(id string) bool { return id == o.ID }) },
		data: func(o *Organization) object { return c.organizationData(o, counted) },
	})
}

func (c call) listMemberships() (any, *problem) {
	if problem := c.only("limit", "offset", "order_by"); problem != nil {
		return nil, problem
	}
	return c.pagedMemberships(nil)
}

func (c call) listMembershipsOfUser() (any, *problem) {
	if c.users.byID[c.id] == nil {
		return nil, missing()
	}
	if problem := c.only("limit", "offset"); problem != nil {
		return nil, problem
	}
	return c.pagedMemberships(func(m *Membership) bool { return m.UserID == c.id })
}

func (c call) listMembershipsOfOrganization() (any, *problem) {
	if c.organizations.byID[c.id] == nil {
		return nil, missing()
	}
	if problem := c.only("limit", "offset", "order_by", "user_id"); problem != nil {
		return nil, problem
	}
	byUser, problem := c.filter("user_id")
	if problem != nil {
		return nil, problem
	}
	return c.pagedMemberships(func(m *Membership) bool {
		return m.OrganizationID == c.id && byUser(func(id string) bool { return id == m.UserID })
	})
}

func (c call) pagedMemberships(keep func(*Membership) bool) (any, *problem) {
	return paged(c, c.memberships.all(), listing[Membership]{
		id: func(m *Membership) string { return m.ID },
		orders: map[string]func(a, b *Membership) int{
			"created_at": func(a, b *Membership) int { return a.CreatedAt.Compare(b.CreatedAt) },
		},
		keep: keep,
		data: func(m *Membership) object { return c.membershipData(m, false) },
	})
}

func (c call) listRoles() (any, *problem) {
	if problem := c.only("limit", "offset", "order_by"); problem != nil {
		return nil, problem
	}
	byKey := func(a, b *string) int { return strings.Compare(*a, *b) }
	return paged(c, c.roles(), listing[string]{
		id:     func(key *string) string { return *key },
		orders: map[string]func(a, b *string) int{"key": byKey, "name": byKey, "created_at": func(*string, *string) int { return 0 }},
		data:   func(key *string) object { return c.roleData(*key) },
	})
}

// listSubscriptionItems leaves the free ones out unless it is asked for them.
func (c call) listSubscriptionItems() (any, *problem) {
	if problem := c.only("limit", "offset", "paginated", "include_free"); problem != nil {
		return nil, problem
	}
	free, problem := c.flag("include_free")
	if problem != nil {
		return nil, problem
	}
	if _, problem := c.flag("paginated"); problem != nil {
		return nil, problem
	}
	var rows []*payload.SubscriptionItem
	for _, subscription := range c.subscriptions {
		for i := range subscription.Items {
			rows = append(rows, &subscription.Items[i])
		}
	}
	return paged(c, rows, listing[payload.SubscriptionItem]{
		id: func(i *payload.SubscriptionItem) string { return i.ID },
		orders: map[string]func(a, b *payload.SubscriptionItem) int{
			"created_at": func(a, b *payload.SubscriptionItem) int {
				return cmp.Or(a.CreatedAt.Compare(b.CreatedAt), strings.Compare(a.ID, b.ID))
			},
		},
		keep: func(i *payload.SubscriptionItem) bool { return free || i.Amount > 0 },
		data: func(i *payload.SubscriptionItem) object { return i.Read(c.instanceID) },
	})
}

// only refuses parameters that the stand-in does not know. Clerk has more of them than it, and a filter that is not
// applied would be worse than one that is refused.
func (c call) only(known ...string) *problem {
	for name := range c.query {
		if !slices.Contains(known, name) {
			return refuse(http.StatusUnprocessableEntity, "form_param_unknown", "is unknown",
				name+" is not a valid parameter for this request.")
		}
	}
	return nil
}

func invalid(parameter string) *problem {
	return refuse(http.StatusUnprocessableEntity, "form_param_value_invalid", "is invalid",
		"The value of parameter "+parameter+" is not allowed")
}

func (c call) number(name string, otherwise, least, most int) (int, *problem) {
	if !c.query.Has(name) {
		return otherwise, nil
	}
	number, err := strconv.Atoi(c.query.Get(name))
	if err != nil || number < least || number > most {
		return 0, invalid(name)
	}
	return number, nil
}

func (c call) flag(name string) (bool, *problem) {
	if !c.query.Has(name) {
		return false, nil
	}
	flag, err := strconv.ParseBool(c.query.Get(name))
	if err != nil {
		return false, invalid(name)
	}
	return flag, nil
}

// filter reads IDs, in parameters of their own or with commas between them, which are to be matched, or not to be with
// a minus in front. What it returns takes what it is to match an ID.
func (c call) filter(name string) (func(matches func(id string) bool) bool, *problem) {
	var with, without []string
	for id := range strings.SplitSeq(strings.Join(c.query[name], ","), ",") {
		if excluded, ok := strings.CutPrefix(id, "-"); ok {
			without = append(without, excluded)
		} else if id != "" {
			with = append(with, strings.TrimPrefix(id, "+"))
		}
	}
	if len(with)+len(without) > maxFilter {
		return nil, refuse(http.StatusUnprocessableEntity, "form_param_array_size_exceeded", "exceeds maximum size",
			name+" should not exceed 100 items.")
	}
	return func(matches func(id string) bool) bool {
		return (len(with) == 0 || slices.ContainsFunc(with, matches)) && !slices.ContainsFunc(without, matches)
	}, nil
}
