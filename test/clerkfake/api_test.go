// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package clerkfake_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"
	"time"

	. "github.com/onsi/gomega"

	"github.com/clerk-operator/clerk-operator/test/clerkfake"
)

func TestAPI_lists(t *testing.T) {
	for name, tc := range map[string]struct {
		target string
		want   []string
	}{
		"users, the newest first":         {"/v1/users", []string{"user_3", "user_2", "user_1", "user_0"}},
		"users, the oldest first":         {"/v1/users?order_by=created_at", []string{"user_0", "user_1", "user_2", "user_3"}},
		"users, a plus is the same":       {"/v1/users?order_by=%2Bcreated_at", []string{"user_0", "user_1", "user_2", "user_3"}},
		"users, the last updated first":   {"/v1/users?order_by=-updated_at", []string{"user_1", "user_3", "user_2", "user_0"}},
		"users, first of several orders":  {"/v1/users?order_by=created_at&order_by=-created_at&limit=1", []string{"user_0"}},
		"users, a page by offset":         {"/v1/users?limit=2&offset=1", []string{"user_2", "user_1"}},
		"users, beyond the end":           {"/v1/users?offset=4", []string{}},
		"users, after one":                {"/v1/users?limit=2&starting_after=user_3", []string{"user_2", "user_1"}},
		"users, after one, oldest first":  {"/v1/users?order_by=%2Bcreated_at&starting_after=user_1", []string{"user_2", "user_3"}},
		"users, after the last one":       {"/v1/users?offset=0&starting_after=user_0", []string{}},
		"users, some":                     {"/v1/users?user_id=user_2&user_id=%2Buser_0&user_id=user_none", []string{"user_2", "user_0"}},
		"users, some with a comma":        {"/v1/users?user_id=user_2,user_0", []string{"user_2", "user_0"}},
		"users, all but some":             {"/v1/users?user_id=-user_2", []string{"user_3", "user_1", "user_0"}},
		"users, of an organization":       {"/v1/users?organization_id=org_b", []string{"user_0"}},
		"users, not of an organization":   {"/v1/users?organization_id=-org_b&starting_after=user_3", []string{"user_2", "user_1"}},
		"organizations, the newest first": {"/v1/organizations", []string{"org_b", "org_a"}},
		"organizations by name":           {"/v1/organizations?order_by=-name", []string{"org_a", "org_b"}},
		"organizations by members":        {"/v1/organizations?order_by=members_count", []string{"org_b", "org_a"}},
		"organizations, one":              {"/v1/organizations?organization_id=org_a", []string{"org_a"}},
		"roles, those in use included":    {"/v1/organization_roles?order_by=key", []string{"role_org:admin", "role_org:billing", "role_org:member"}},
		"memberships of no user in it":    {"/v1/organizations/org_b/memberships?user_id=user_1", []string{}},
	} {
		t.Run(name, func(t *testing.T) {
			g := NewWithT(t)
			c := newClerk()
			populate(g, c, 4)
			c.UpdateUser("user_1", func(*clerkfake.User) {})
			response := ask(t, c, tc.target)
			g.Expect(response.status).To(Equal(http.StatusOK))
			g.Expect(response.header.Get("Content-Type")).To(Equal("application/json"))
			g.Expect(ids(t, response)).To(Equal(tc.want))
		})
	}
}

func TestAPI_memberships(t *testing.T) {
	g := NewWithT(t)
	c := newClerk()
	populate(g, c, 3)
	memberships := c.Memberships()
	all := make([]string, len(memberships))
	for i, membership := range memberships {
		all[i] = membership.ID
	}
	oldestFirst := ask(t, c, "/v1/organization_memberships?order_by=%2Bcreated_at&limit=2&offset=1")
	g.Expect(ids(t, oldestFirst)).To(Equal(all[1:3]))
	g.Expect(ids(t, ask(t, c, "/v1/organization_memberships?limit=1"))).To(Equal(all[3:]))
	g.Expect(ids(t, ask(t, c, "/v1/organizations/org_a/memberships?user_id=user_1,user_2&order_by=created_at"))).To(Equal(all[1:3]))
	g.Expect(ids(t, ask(t, c, "/v1/users/user_0/organization_memberships"))).To(Equal([]string{all[3], all[0]}))
	page := decode[object](t, ask(t, c, "/v1/organization_memberships?limit=1"))
	g.Expect(page).To(HaveKeyWithValue("total_count", 4.0))
}

func TestAPI_objects(t *testing.T) {
	g := NewWithT(t)
	c := newClerk()
	populate(g, c, 3)
	g.Expect(decode[object](t, ask(t, c, "/v1/instance"))).To(And(
		HaveKeyWithValue("id", "ins_test"), HaveKeyWithValue("environment_type", "development")))
	g.Expect(decode[object](t, ask(t, c, "/v1/users/count"))).To(HaveKeyWithValue("total_count", 3.0))
	g.Expect(decode[object](t, ask(t, c, "/v1/users/count?organization_id=org_b"))).To(HaveKeyWithValue("total_count", 1.0))
	g.Expect(decode[object](t, ask(t, c, "/v1/users/user_1"))).To(HaveKeyWithValue("id", "user_1"))
	g.Expect(decode[object](t, ask(t, c, "/v1/organizations/org_a"))).NotTo(HaveKey("members_count"))
	g.Expect(decode[object](t, ask(t, c, "/v1/organizations/zeta?include_members_count=true"))).To(And(
		HaveKeyWithValue("id", "org_a"), HaveKeyWithValue("members_count", 3.0)))
	list := elements(t, ask(t, c, "/v1/organizations?include_members_count=true"))
	g.Expect(list).To(HaveEach(HaveKey("members_count")))
}

// Every user is on exactly one page, although users come and go between the pages.
func TestAPI_cursorOverMany(t *testing.T) {
	g := NewWithT(t)
	c := newClerk()
	c.Quietly(func() {
		for i := range 2000 {
			c.CreateUser(clerkfake.User{ID: fmt.Sprintf("user_%d", i)})
		}
	})
	seen := []string{}
	for query := "/v1/users?limit=500&order_by=%2Bcreated_at"; ; {
		page := ids(t, ask(t, c, query))
		seen = append(seen, page...)
		if len(page) < 500 {
			break
		}
		c.DeleteUser(page[0])
		c.CreateUser(clerkfake.User{})
		query = "/v1/users?limit=500&order_by=%2Bcreated_at&starting_after=" + page[len(page)-1]
	}
	g.Expect(seen).To(HaveLen(2004))
	for i := range 2000 {
		g.Expect(seen[i]).To(Equal(fmt.Sprintf("user_%d", i)))
	}
}

func TestAPI_refusals(t *testing.T) {
	for target, want := range map[string]struct {
		status int
		code   string
	}{
		"/v1/users?limit=0":                                     {422, "form_param_value_invalid"},
		"/v1/users?limit=501":                                   {422, "form_param_value_invalid"},
		"/v1/users?limit=many":                                  {422, "form_param_value_invalid"},
		"/v1/users?offset=-1":                                   {422, "form_param_value_invalid"},
		"/v1/users?order_by=shoe_size":                          {422, "form_param_value_invalid"},
		"/v1/users?order_by=+created_at":                        {422, "form_param_value_invalid"},
		"/v1/users?starting_after=user_none":                    {422, "form_param_value_invalid"},
		"/v1/users?starting_after=user_0&offset=1":              {422, "form_param_value_invalid"},
		"/v1/users?starting_after=user_0&order_by=updated_at":   {422, "form_param_value_invalid"},
		"/v1/users?username=jane":                               {422, "form_param_unknown"},
		"/v1/organizations?starting_after=org_a":                {422, "form_param_unknown"},
		"/v1/organizations?include_members_count=perhaps":       {422, "form_param_value_invalid"},
		"/v1/organizations/org_a?include_members_count=perhaps": {422, "form_param_value_invalid"},
		"/v1/organization_memberships?order_by=updated_at":      {422, "form_param_value_invalid"},
		"/v1/users/user_none":                                   {404, "resource_not_found"},
		"/v1/users/":                                            {404, "resource_not_found"},
		"/v1/users/user_none/organization_memberships":          {404, "resource_not_found"},
		"/v1/organizations/org_none":                            {404, "resource_not_found"},
		"/v1/organizations/org_none/memberships":                {404, "resource_not_found"},
		"/v1/sessions":                                          {404, "resource_not_found"},
		"/v1/users/user_0/organization_memberships/orgmem_0":    {404, "resource_not_found"},
		"/users": {404, "resource_not_found"},
	} {
		t.Run(target, func(t *testing.T) {
			g := NewWithT(t)
			c := newClerk()
			populate(g, c, 1)
			response := ask(t, c, target)
			g.Expect(response.status).To(Equal(want.status))
			g.Expect(response.header.Get("Content-Type")).To(Equal("application/json"))
			g.Expect(errorCode(t, response)).To(Equal(want.code))
			requests := c.Requests()
			g.Expect(requests).To(HaveLen(1))
			g.Expect(requests[0].Status).To(Equal(want.status))
			c.ResetRequests()
			g.Expect(c.Requests()).To(BeEmpty())
		})
	}
}

func TestAPI_longFilter(t *testing.T) {
	g := NewWithT(t)
	c := newClerk()
	users := url.Values{}
	for i := range 100 {
		users.Add("user_id", fmt.Sprintf("user_%d", i))
	}
	g.Expect(ask(t, c, "/v1/users?"+users.Encode()).status).To(Equal(http.StatusOK))
	users.Add("user_id", "user_100")
	response := ask(t, c, "/v1/users?"+users.Encode())
	g.Expect(response.status).To(Equal(http.StatusUnprocessableEntity))
	g.Expect(errorCode(t, response)).To(Equal("form_param_array_size_exceeded"))
}

func TestAPI_headers(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(*http.Request)
		want   int
	}{
		"a key":            {func(*http.Request) {}, 200},
		"no key":           {func(r *http.Request) { r.Header.Del("Authorization") }, 401},
		"another key":      {func(r *http.Request) { r.Header.Set("Authorization", "Bearer sk_test_other") }, 401},
		"another scheme":   {func(r *http.Request) { r.Header.Set("Authorization", "Basic sk_test_key") }, 401},
		"a version":        {func(r *http.Request) { r.Header.Set("Clerk-API-Version", "2026-05-12") }, 200},
		"an older version": {func(r *http.Request) { r.Header.Set("Clerk-API-Version", "2025-04-10") }, 200},
		"no such version":  {func(r *http.Request) { r.Header.Set("Clerk-API-Version", "2026-05-13") }, 400},
		"a version twice": {func(r *http.Request) {
			r.Header.Set("Clerk-API-Version", "2026-05-12")
			r.URL.RawQuery = "__clerk_api_version=2026-05-12"
		}, 400},
		"a version, asked": {func(r *http.Request) { r.URL.RawQuery = "__clerk_api_version=2026-05-12" }, 200},
		"another method":   {func(r *http.Request) { r.Method = http.MethodDelete }, 405},
		"a method, no key": {func(r *http.Request) { r.Method = http.MethodPost; r.Header.Del("Authorization") }, 405},
	} {
		t.Run(name, func(t *testing.T) {
			g := NewWithT(t)
			c := newClerk()
			populate(g, c, 1)
			r := request(t, c, "/v1/users")
			tc.change(r)
			response := do(c, r)
			g.Expect(response.status).To(Equal(tc.want))
			g.Expect(response.header.Get("Content-Type")).To(Equal("application/json"))
			g.Expect(c.Requests()).To(Equal([]clerkfake.Request{
				{Method: r.Method, Path: "/v1/users", Query: r.URL.Query(), Status: tc.want},
			}))
			if tc.want == 401 {
				g.Expect(errorCode(t, response)).To(Equal("authentication_invalid"))
			}
		})
	}
}

func TestAPI_becomesAnotherInstance(t *testing.T) {
	g := NewWithT(t)
	c := newClerk()
	populate(g, c, 1)
	old := request(t, c, "/v1/users")
	c.SetInstance("ins_other", "sk_test_other")
	g.Expect(do(c, old).status).To(Equal(http.StatusUnauthorized))
	g.Expect(ids(t, ask(t, c, "/v1/users"))).To(Equal([]string{"user_0"}))
	c.SetInstance("ins_third", "")
	g.Expect(decode[object](t, ask(t, c, "/v1/instance"))).To(HaveKeyWithValue("id", "ins_third"))
	c.DeleteUser("user_0")
	g.Expect(string(c.TakeEvents()[0].Message.Body)).To(ContainSubstring(`"instance_id":"ins_third"`))
}

// The server says when it answered, which tells a caller Clerk's time.
func TestAPI_date(t *testing.T) {
	g := NewWithT(t)
	c := newClerk()
	server := httptest.NewServer(c)
	t.Cleanup(server.Close)
	response, err := http.Get(server.URL + "/v1/instance")
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(response.Body.Close()).To(Succeed())
	date, err := http.ParseTime(response.Header.Get("Date"))
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(date).To(BeTemporally("~", time.Now(), time.Minute))
}
