// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package clerkapi

import (
	"context"
	"fmt"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	. "github.com/onsi/gomega"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/time/rate"

	"github.com/clerk-operator/clerk-operator/internal/clerk"
	"github.com/clerk-operator/clerk-operator/test/clerkfake"
)

func TestReads_askForWhatClerkDocuments(t *testing.T) {
	for name, tc := range map[string]struct {
		read      func(context.Context, *Client)
		wantPath  string
		wantQuery string
	}{
		"instance":             {func(ctx context.Context, c *Client) { _, _ = c.Instance(ctx) }, "/v1/instance", ""},
		"first users":          {func(ctx context.Context, c *Client) { _, _ = c.UsersAfter(ctx, "") }, "/v1/users", "limit=250&order_by=%2Bcreated_at"},
		"users after one":      {func(ctx context.Context, c *Client) { _, _ = c.UsersAfter(ctx, "user_a") }, "/v1/users", "limit=250&order_by=%2Bcreated_at&starting_after=user_a"},
		"users after a query":  {func(ctx context.Context, c *Client) { _, _ = c.UsersAfter(ctx, "user_a&limit=1") }, "/v1/users", "limit=250&order_by=%2Bcreated_at&starting_after=user_a%26limit%3D1"},
		"users by change":      {func(ctx context.Context, c *Client) { _, _ = c.Users(ctx, LastModifiedFirst, 500) }, "/v1/users", "limit=250&offset=500&order_by=-updated_at"},
		"number of users":      {func(ctx context.Context, c *Client) { _, _ = c.CountUsers(ctx) }, "/v1/users/count", ""},
		"user":                 {func(ctx context.Context, c *Client) { _, _, _ = c.User(ctx, userID) }, "/v1/users/" + userID, ""},
		"oldest organizations": {func(ctx context.Context, c *Client) { _, _ = c.Organizations(ctx, OldestFirst, 0) }, "/v1/organizations", "limit=250&offset=0&order_by=%2Bcreated_at"},
		"newest organizations": {func(ctx context.Context, c *Client) { _, _ = c.Organizations(ctx, NewestFirst, 250) }, "/v1/organizations", "limit=250&offset=250&order_by=-created_at"},
		"organization":         {func(ctx context.Context, c *Client) { _, _, _, _ = c.Organization(ctx, organizationID) }, "/v1/organizations/" + organizationID, "include_members_count=true"},
		"oldest memberships":   {func(ctx context.Context, c *Client) { _, _ = c.Memberships(ctx, OldestFirst, 250) }, "/v1/organization_memberships", "limit=250&offset=250&order_by=%2Bcreated_at"},
		"newest memberships":   {func(ctx context.Context, c *Client) { _, _ = c.Memberships(ctx, NewestFirst, 0) }, "/v1/organization_memberships", "limit=250&offset=0&order_by=-created_at"},
		"one's memberships":    {func(ctx context.Context, c *Client) { _, _ = c.MembershipsOf(ctx, organizationID, 7) }, "/v1/organizations/" + organizationID + "/memberships", "limit=250&offset=7&order_by=%2Bcreated_at"},
		"one's membership":     {func(ctx context.Context, c *Client) { _, _, _ = c.MembershipOf(ctx, organizationID, userID) }, "/v1/organizations/" + organizationID + "/memberships", "limit=250&order_by=%2Bcreated_at&user_id=" + userID},
		"an organization's plan": {func(ctx context.Context, c *Client) {
			_, _ = c.Subscription(ctx, clerk.KindOrganization, organizationID)
		}, "/v1/organizations/" + organizationID + "/billing/subscription", ""},
		"a user's plan":          {func(ctx context.Context, c *Client) { _, _ = c.Subscription(ctx, clerk.KindUser, userID) }, "/v1/users/" + userID + "/billing/subscription", ""},
		"plans":                  {func(ctx context.Context, c *Client) { _, _ = c.SubscriptionItems(ctx, 250) }, "/v1/billing/subscription_items", "include_free=true&limit=250&offset=250&paginated=true"},
		"the instance's roles":   {func(ctx context.Context, c *Client) { _, _ = c.Roles(ctx) }, "/v1/organization_roles", "limit=100"},
		"users from the newest":  {func(ctx context.Context, c *Client) { _, _ = c.Users(ctx, NewestFirst, 0) }, "/v1/users", "limit=250&offset=0&order_by=-created_at"},
		"users after themselves": {func(ctx context.Context, c *Client) { _, _ = c.UsersAfter(ctx, userID) }, "/v1/users", "limit=250&order_by=%2Bcreated_at&starting_after=" + userID},
	} {
		t.Run(name, func(t *testing.T) {
			g := NewWithT(t)
			s := newStub(t, answer{body: emptyListing})
			tc.read(t.Context(), s.client)
			g.Expect(s.requests()).To(HaveLen(1))
			g.Expect(s.requests()[0].URL.Path).To(Equal(tc.wantPath))
			g.Expect(s.requests()[0].URL.RawQuery).To(Equal(tc.wantQuery))
		})
	}
	t.Run("below the URL", func(t *testing.T) {
		g := NewWithT(t)
		s := newStub(t, answer{body: instanceBody})
		_, err := NewClients(NewMetrics(prometheus.NewRegistry())).For("test", s.URL+"/", secretKey).Instance(t.Context())
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(s.requests()[0].URL.Path).To(Equal("/v1/instance"))
	})
}

func TestLists_nameWhatCannotBeUsed(t *testing.T) {
	user, organization := `{"id":"`+userID+`"}`, `{"id":"`+organizationID+`"}`
	of := fmt.Sprintf(`{"id":%q,"organization":%s`, membershipID, organization)
	member := fmt.Sprintf(`"public_user_data":{"user_id":%q}`, userID)
	payer := `"payer":{"organization_id":"` + organizationID + `"}`
	for name, tc := range map[string]struct {
		read    func(context.Context, *Client) ([]Entry, int, error)
		entries []string
		want    []Entry
	}{
		"users": {
			pageOf(func(ctx context.Context, c *Client) (Page[*clerk.User], error) { return c.UsersAfter(ctx, "") }), []string{user, organization},
			[]Entry{{ID: userID}, {Reason: "InvalidID"}},
		},
		"organizations": {
			pageOf(func(ctx context.Context, c *Client) (Page[*clerk.Organization], error) {
				return c.Organizations(ctx, OldestFirst, 0)
			}),
			[]string{user, organization}, []Entry{{Reason: "InvalidID"}, {ID: organizationID}},
		},
		"memberships": {
			pageOf(func(ctx context.Context, c *Client) (Page[*clerk.Membership], error) {
				return c.Memberships(ctx, OldestFirst, 0)
			}),
			[]string{
				of + `,` + member + `}`, of + `}`, of + `,"public_user_data":null}`, of + `,"public_user_data":"x"}`,
				`{"id":"` + membershipID + `",` + member + `}`, user,
			},
			[]Entry{
				{ID: membershipID}, {ID: membershipID, Reason: "NoUser"}, {ID: membershipID, Reason: "NoUser"},
				{ID: membershipID, Reason: "NoUser"}, {ID: membershipID, Reason: "NoOrganization"}, {Reason: "InvalidID"},
			},
		},
		"an organization's memberships": {
			pageOf(func(ctx context.Context, c *Client) (Page[*clerk.Membership], error) {
				return c.MembershipsOf(ctx, organizationID, 0)
			}),
			[]string{of + `}`}, []Entry{{ID: membershipID, Reason: "NoUser"}},
		},
		"subscription items": {
			pageOf(func(ctx context.Context, c *Client) (Page[*clerk.Subscription], error) {
				return c.SubscriptionItems(ctx, 0)
			}),
			[]string{`{"id":"a","updated_at":1,` + payer + `}`, `{"id":"a","updated_at":1}`, `{"id":"b",` + payer + `}`, `{"updated_at":1,` + payer + `}`},
			[]Entry{{ID: "a"}, {ID: "a", Reason: "NoPayer"}, {ID: "b", Reason: "NoTime"}, {Reason: "NoID"}},
		},
		"roles": {
			pageOf(func(ctx context.Context, c *Client) (Page[string], error) { return c.Roles(ctx) }),
			[]string{`{"id":"role_1","key":"org:admin"}`, `{"id":"role_2","key":7}`},
			[]Entry{{ID: "role_1"}, {ID: "role_2", Reason: "NoKey"}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			g := NewWithT(t)
			listing := "[" + strings.Join(append(tc.entries, `null`, `1`, `"x"`, `[]`), ",") + "]"
			if name != "users" {
				listing = `{"total_count":70,"data":` + listing + `}`
			}
			got, items, err := tc.read(t.Context(), newStub(t, answer{body: listing}).client)
			g.Expect(err).NotTo(HaveOccurred())
			malformed := Entry{Reason: "MalformedData"}
			g.Expect(got).To(Equal(append(tc.want, Entry{Reason: "NoData"}, malformed, malformed, malformed)))
			usable := 0
			for _, entry := range tc.want {
				if entry.Reason == "" {
					usable++
				}
			}
			g.Expect(items).To(Equal(usable))
		})
	}
}

// pageOf makes pages of every kind comparable.
func pageOf[T any](read func(context.Context, *Client) (Page[T], error)) func(context.Context, *Client) ([]Entry, int, error) {
	return func(ctx context.Context, c *Client) ([]Entry, int, error) {
		page, err := read(ctx, c)
		return page.Entries, len(page.Items), err
	}
}

func TestLists_ofNothing(t *testing.T) {
	g := NewWithT(t)
	page, err := newStub(t, answer{body: "[]"}).client.UsersAfter(t.Context(), "")
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(page.Items).To(BeEmpty())
	g.Expect(page.Entries).To(BeEmpty())
	g.Expect(page.Total).To(Equal(-1))
}

func TestOrganization_tellsItsMembersWhereClerkDoes(t *testing.T) {
	for count, want := range map[string]int{
		`,"members_count":3`: 3, `,"members_count":0`: 0, ``: -1, `,"members_count":null`: -1, `,"members_count":"3"`: -1,
		`,"members_count":1.5`: -1,
	} {
		t.Run(count, func(t *testing.T) {
			g := NewWithT(t)
			organization, _, members, err := newStub(t, answer{body: `{"id":"` + organizationID + `"` + count + `}`}).client.
				Organization(t.Context(), organizationID)
			g.Expect(err).NotTo(HaveOccurred())
			g.Expect(organization.ID).To(Equal(organizationID))
			g.Expect(members).To(Equal(want))
		})
	}
}

// The stand-in accepts and answers what Clerk's OpenAPI document says, and refuses other parameters.
func TestReads_understandClerk(t *testing.T) {
	g := NewWithT(t)
	c := clerkfake.New(clerkfake.Config{Now: func() time.Time { return time.Now().Add(-time.Hour) }})
	server := httptest.NewServer(c)
	t.Cleanup(server.Close)
	client := NewClients(NewMetrics(prometheus.NewRegistry())).For("test", server.URL, c.SecretKey())
	client.transport().limiter = rate.NewLimiter(rate.Inf, 1)
	users := []clerkfake.User{c.CreateUser(clerkfake.User{Email: "a@example.com"}), c.CreateUser(clerkfake.User{Banned: true})}
	organization := c.CreateOrganization(clerkfake.Organization{Name: "Acme", Slug: "acme"})
	membership, err := c.AddMember(organization.ID, users[0].ID, "org:admin")
	g.Expect(err).NotTo(HaveOccurred())

	instance, err := client.Instance(t.Context())
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(instance.ID).To(Equal(c.InstanceID()))
	count, err := client.CountUsers(t.Context())
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(count).To(Equal(2))
	keys, err := client.Roles(t.Context())
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(keys.Items).To(ContainElements("org:admin", "org:member"))
	g.Expect(keys.Invalid()).To(BeEmpty())

	first, err := client.UsersAfter(t.Context(), "")
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(first.Items).To(HaveExactElements(HaveField("ID", users[0].ID), HaveField("ID", users[1].ID)))
	rest, err := client.UsersAfter(t.Context(), users[0].ID)
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(rest.Items).To(HaveExactElements(HaveField("ID", users[1].ID)))
	changed, err := client.Users(t.Context(), LastModifiedFirst, 1)
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(changed.Items).To(HaveExactElements(HaveField("ID", users[0].ID)))
	organizations, err := client.Organizations(t.Context(), NewestFirst, 0)
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(organizations.Items).To(HaveExactElements(HaveField("ID", organization.ID)))
	g.Expect(organizations.Total).To(Equal(1))

	isTheMembership := HaveExactElements(SatisfyAll(HaveField("ID", membership.ID), HaveField("Organization.ID", organization.ID),
		HaveField("PublicUserData.UserID", users[0].ID), HaveField("Role", "org:admin")))
	memberships, err := client.Memberships(t.Context(), OldestFirst, 0)
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(memberships.Items).To(isTheMembership)
	memberships, err = client.MembershipsOf(t.Context(), organization.ID, 0)
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(memberships.Items).To(isTheMembership)
	found, _, err := client.MembershipOf(t.Context(), organization.ID, users[0].ID)
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(found).To(HaveField("ID", membership.ID))
	found, _, err = client.MembershipOf(t.Context(), organization.ID, users[1].ID)
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(found).To(BeNil(), "who is no member")
	expectSingleObjects(t, g, client, users[1], organization)
}

// A server that does not know the filter answers with somebody else's membership.
func TestMembershipOf_isOfTheUser(t *testing.T) {
	g := NewWithT(t)
	membership := func(user string) string {
		return fmt.Sprintf(`{"id":%q,"organization":{"id":%q},"public_user_data":{"user_id":%q}}`, membershipID+user[5:6], organizationID, user)
	}
	s := newStub(t,
		answer{body: `{"data":[` + membership("user_other") + `],"total_count":1}`},
		answer{body: `{"data":[` + membership("user_other") + `,null,` + membership(userID) + `],"total_count":3}`},
	)
	found, invalid, err := s.client.MembershipOf(t.Context(), organizationID, userID)
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(found).To(BeNil())
	g.Expect(invalid).To(BeEmpty())
	found, invalid, err = s.client.MembershipOf(t.Context(), organizationID, userID)
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(found).To(HaveField("PublicUserData.UserID", userID))
	g.Expect(invalid).To(Equal([]Entry{{Reason: "NoData"}}))
}

func expectSingleObjects(t *testing.T, g Gomega, client *Client, user clerkfake.User, organization clerkfake.Organization) {
	t.Helper()
	gotUser, readAt, err := client.User(t.Context(), user.ID)
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(gotUser).To(SatisfyAll(HaveField("ID", user.ID), HaveField("Banned", HaveValue(BeEquivalentTo(true)))))
	g.Expect(readAt).To(BeTemporally("~", time.Now(), time.Minute))
	gotOrganization, readAt, members, err := client.Organization(t.Context(), organization.ID)
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(gotOrganization).To(HaveField("Name", "Acme"))
	g.Expect(members).To(Equal(1))
	g.Expect(readAt).To(BeTemporally("~", time.Now(), time.Minute))
	_, _, err = client.User(t.Context(), "user_nobody")
	g.Expect(IsNotFound(err)).To(BeTrue())
	_, _, _, err = client.Organization(t.Context(), "org_none")
	g.Expect(IsNotFound(err)).To(BeTrue())
}

func TestSubscriptionItems_saysWhoPays(t *testing.T) {
	g := NewWithT(t)
	s := newStub(t, answer{body: `{"total_count":4,"data":[
		{"id":"a","updated_at":1716883200500,"plan":{"slug":"pro"},"payer":{"organization_id":"` + organizationID + `","user_id":null}},
		{"id":"b","updated_at":1716883200500,"plan":{"slug":"pro"},"payer":{"organization_id":null,"user_id":"` + userID + `"}},
		{"id":"c","updated_at":1716883200500,"plan":{"slug":"pro"}},
		7]}`})
	page, err := s.client.SubscriptionItems(t.Context(), 0)
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(page.Total).To(Equal(4))
	g.Expect(page.Entries).To(Equal([]Entry{{ID: "a"}, {ID: "b"}, {ID: "c", Reason: "NoPayer"}, {Reason: "MalformedData"}}))
	g.Expect(page.Items).To(HaveExactElements(
		And(HaveField("PayerKind", clerk.KindOrganization), HaveField("PayerID", organizationID), HaveField("Items", HaveLen(1))),
		And(HaveField("PayerKind", clerk.KindUser), HaveField("PayerID", userID)),
	))
}

func TestSubscription_thereMayBeNone(t *testing.T) {
	refusal := `{"errors":[{"code":"some_code","message":"no"}]}`
	for name, tc := range map[string]struct {
		answer    answer
		wantItems int
		wantError bool
	}{
		"one":                     {answer{body: `{"id":"csub_1","subscription_items":[{"id":"a","updated_at":1716883200500,"plan":{"slug":"pro"}}]}`}, 1, false},
		"one without items":       {answer{body: `{"id":"csub_1","subscription_items":[]}`}, 0, false},
		"none":                    {answer{status: 404, body: refusal}, -1, false},
		"billing is off":          {answer{status: 403, body: refusal}, -1, false},
		"a gateway's 404":         {answer{status: 404, body: `not found`}, -1, false},
		"a gateway's 403":         {answer{status: 403, body: `no`}, 0, true},
		"a key that is not good":  {answer{status: 401, body: refusal}, 0, true},
		"items of no use":         {answer{body: `{"id":"csub_1","subscription_items":[{"id":"a/b"}]}`}, 0, true},
		"nothing that is a thing": {answer{body: `null`}, 0, true},
	} {
		t.Run(name, func(t *testing.T) {
			g := NewWithT(t)
			subscription, err := newStub(t, tc.answer).client.Subscription(t.Context(), clerk.KindOrganization, organizationID)
			switch {
			case tc.wantError:
				g.Expect(err).To(HaveOccurred())
			case tc.wantItems < 0:
				g.Expect(err).NotTo(HaveOccurred())
				g.Expect(subscription).To(BeNil())
			default:
				g.Expect(err).NotTo(HaveOccurred())
				g.Expect(subscription.Items).To(HaveLen(tc.wantItems))
			}
		})
	}
}
