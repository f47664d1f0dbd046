// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package clerkfake_test

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/legacy"
	. "github.com/onsi/gomega"
	"sigs.k8s.io/yaml"

	"github.com/clerk-operator/clerk-operator/test/clerkfake"
)

// document reads a document of Clerk's.
func document(t *testing.T, name string) []byte {
	t.Helper()
	content, err := os.ReadFile(filepath.Join("..", "openapi", name))
	if err != nil {
		t.Fatal(err)
	}
	return content
}

// world makes one of everything, and returns the ID of the membership. The organization has a slug: Clerk's documents
// do not know organizations without one, although there are.
func world(g *WithT, c *clerkfake.Clerk) string {
	user := c.CreateUser(clerkfake.User{
		ID: "user_0", ExternalID: "ext_0", Email: "jane@example.com", Username: "jane", FirstName: "Jane", LastName: "Doe",
		PublicMetadata: object{"team": "blue"},
	})
	c.CreateUser(clerkfake.User{ID: "user_1"})
	organization := c.CreateOrganization(clerkfake.Organization{
		ID: "org_0", Name: "Acme", Slug: "acme", CreatedBy: user.ID, MaxAllowedMemberships: 5,
	})
	membership, err := c.AddMember(organization.ID, user.ID, "org:admin")
	g.Expect(err).NotTo(HaveOccurred())
	c.Subscribe(organization.ID, "pro")
	return membership.ID
}

func TestConformance_backendAPI(t *testing.T) {
	parsed, err := openapi3.NewLoader().LoadFromData(document(t, "bapi-2026-05-12.yml"))
	g := NewWithT(t)
	g.Expect(err).NotTo(HaveOccurred())
	router, err := legacy.NewRouter(parsed)
	g.Expect(err).NotTo(HaveOccurred())
	clerkErrors := parsed.Components.Schemas["ClerkErrors"].Value

	for target, want := range map[string]int{
		"/v1/instance": 200,
		"/v1/users?limit=500&order_by=%2Bcreated_at":                                200,
		"/v1/users?starting_after=user_1":                                           200,
		"/v1/users?user_id=user_0&user_id=-user_1":                                  200,
		"/v1/users?organization_id=org_0&order_by=-updated_at":                      200,
		"/v1/users?order_by=shoe_size":                                              422,
		"/v1/users?starting_after=user_0&offset=1":                                  422,
		"/v1/users/count":                                                           200,
		"/v1/users/user_0":                                                          200,
		"/v1/users/user_1":                                                          200,
		"/v1/users/user_none":                                                       404,
		"/v1/users/user_0/organization_memberships?limit=2":                         200,
		"/v1/organizations?include_members_count=true&order_by=-name":               200,
		"/v1/organizations?order_by=shoe_size":                                      422,
		"/v1/organizations/acme":                                                    200,
		"/v1/organizations/org_0?include_members_count=true":                        200,
		"/v1/organizations/org_none":                                                404,
		"/v1/organizations/org_0/billing/subscription":                              200,
		"/v1/users/user_0/billing/subscription":                                     404,
		"/v1/organizations/org_0/memberships?user_id=user_0":                        200,
		"/v1/organizations/org_0/memberships?order_by=shoe_size":                    422,
		"/v1/organization_memberships?limit=1&offset=0":                             200,
		"/v1/organization_memberships?order_by=shoe_size":                           422,
		"/v1/organization_roles":                                                    200,
		"/v1/billing/subscription_items":                                            200,
		"/v1/billing/subscription_items?limit=500&include_free=true&paginated=true": 200,
	} {
		t.Run(target, func(t *testing.T) {
			g := NewWithT(t)
			c := newClerk()
			world(g, c)
			expectConforming(t, g, router, c, request(t, c, target), want)
		})
	}

	// What the document says nothing about is an error of Clerk's all the same.
	for target, change := range map[string]func(*http.Request){
		"/v1/users?limit=500":         func(r *http.Request) { r.Header.Set("Authorization", "Bearer sk_test_other") },
		"/v1/users?limit=501":         func(*http.Request) {},
		"/v1/instance":                func(r *http.Request) { r.Header.Set("Clerk-API-Version", "2020-01-01") },
		"/v1/users/count":             func(r *http.Request) { r.Method = http.MethodPost },
		"/v1/nothing":                 func(*http.Request) {},
		"/v1/organizations?username=": func(*http.Request) {},
	} {
		t.Run("refused "+target, func(t *testing.T) {
			g := NewWithT(t)
			c := newClerk()
			r := request(t, c, target)
			change(r)
			response := do(c, r)
			g.Expect(response.status).To(BeNumerically(">=", 400))
			g.Expect(clerkErrors.VisitJSON(decode[any](t, response), openapi3.VisitAsResponse())).To(Succeed())
		})
	}

	t.Run("authentication", func(t *testing.T) {
		g := NewWithT(t)
		c := newClerk()
		r := request(t, c, "/v1/users")
		r.Header.Set("Authorization", "Bearer sk_test_other")
		expectConforming(t, g, router, c, r, 401)
	})
	t.Run("faults", func(t *testing.T) {
		g := NewWithT(t)
		c := newClerk()
		world(g, c)
		remove := c.Inject(clerkfake.Fault{EmptyLists: true})
		expectConforming(t, g, router, c, request(t, c, "/v1/users"), 200)
		expectConforming(t, g, router, c, request(t, c, "/v1/organizations"), 200)
		remove()
		c.Inject(clerkfake.Fault{Status: 500})
		expectConforming(t, g, router, c, request(t, c, "/v1/organization_memberships"), 500)
	})
}

// expectConforming checks a request and its answer against the document.
func expectConforming(t *testing.T, g *WithT, router routers.Router, c *clerkfake.Clerk, r *http.Request, want int) {
	t.Helper()
	route, parameters, err := router.FindRoute(r)
	g.Expect(err).NotTo(HaveOccurred())
	input := &openapi3filter.RequestValidationInput{
		Request: r, PathParams: parameters, Route: route,
		Options: &openapi3filter.Options{
			AuthenticationFunc: openapi3filter.NoopAuthenticationFunc, IncludeResponseStatus: true, MultiError: true,
		},
	}
	g.Expect(openapi3filter.ValidateRequest(t.Context(), input)).To(Succeed())
	response := do(c, r)
	g.Expect(response.status).To(Equal(want))
	answer := (&openapi3filter.ResponseValidationInput{
		RequestValidationInput: input, Status: response.status, Header: response.header, Options: input.Options,
	}).SetBodyBytes(response.body)
	g.Expect(openapi3filter.ValidateResponse(t.Context(), answer)).To(Succeed())
}

// Clerk's own examples violate the schemas of some events, but none of these.
func TestConformance_webhooks(t *testing.T) {
	g := NewWithT(t)
	schemas := eventSchemas(g, document(t, "webhooks-2025-04-15.yml"))
	c := newClerk()
	c.CascadeEvents(true)
	membership := world(g, c)
	_, err := c.SetRole(membership, "org:custom")
	g.Expect(err).NotTo(HaveOccurred())
	c.UpdateUser("user_0", func(u *clerkfake.User) { u.Banned, u.Deprovisioned = true, true })
	c.UpdateOrganization("org_0", func(o *clerkfake.Organization) { o.Name = "Acme Inc" })
	c.Subscribe("user_1", "personal")
	c.Subscribe("org_0", clerkfake.FreePlan)
	c.Subscribe("org_0", "pro")
	c.PastDue("org_0")
	c.Pay("org_0")
	c.Cancel("org_0")
	c.End("org_0")
	c.DeleteUser("user_0")
	c.DeleteUser("user_1")
	c.DeleteOrganization("org_0")

	seen := map[string]bool{}
	for _, event := range c.TakeEvents() {
		seen[event.Type] = true
		var content any
		g.Expect(json.Unmarshal(event.Message.Body, &content)).To(Succeed())
		g.Expect(schemas).To(HaveKey(event.Type))
		g.Expect(schemas[event.Type].VisitJSON(content, openapi3.VisitAsRequest(), openapi3.MultiErrors())).To(Succeed(), event.Type)
	}
	g.Expect(seen).To(HaveLen(18))
}

// eventSchemas returns the schema of each event's body. The document has no paths, which OpenAPI 3.0 demands, and lists
// its events in an extension instead, so these are made paths.
func eventSchemas(g *WithT, content []byte) map[string]*openapi3.Schema {
	var raw object
	g.Expect(yaml.Unmarshal(content, &raw)).To(Succeed())
	paths := object{}
	for eventType, item := range raw["x-webhooks"].(object) {
		paths["/"+eventType] = item
	}
	raw["paths"] = paths
	delete(raw, "x-webhooks")
	content, err := json.Marshal(raw)
	g.Expect(err).NotTo(HaveOccurred())
	parsed, err := openapi3.NewLoader().LoadFromData(content)
	g.Expect(err).NotTo(HaveOccurred())
	schemas := map[string]*openapi3.Schema{}
	for eventType := range raw["paths"].(object) {
		operation := parsed.Paths.Find(eventType).Post
		schemas[eventType[1:]] = operation.RequestBody.Value.Content.Get("application/json").Schema.Value
	}
	return schemas
}
