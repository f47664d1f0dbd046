// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package clerkfake

import (
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// Request is one that the Backend API got.
type Request struct {
	Method, Path string
	Query        url.Values
	// Status is the code of the answer; 0 is that there is none yet, or that the client did not wait for it.
	Status int
}

// Requests returns the requests since the last reset in the order in which they came.
func (c *Clerk) Requests() []Request {
	c.mu.Lock()
	defer c.mu.Unlock()
	return values(c.requests, func(r Request) Request { return r })
}

// ResetRequests forgets the requests.
func (c *Clerk) ResetRequests() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.requests = nil
}

// answer is one to a request.
type answer struct {
	status int
	body   []byte
}

// problem is an error as the Backend API tells it.
type problem struct {
	status                     int
	code, message, longMessage string
}

func refuse(status int, code, message, longMessage string) *problem {
	return &problem{status: status, code: code, message: message, longMessage: longMessage}
}

func (p *problem) answer() *answer {
	return &answer{status: p.status, body: encode(object{
		"errors":         []any{object{"code": p.code, "message": p.message, "long_message": p.longMessage, "meta": object{}}},
		"clerk_trace_id": "trace",
	})}
}

func encode(content any) []byte {
	body, err := json.Marshal(content)
	if err != nil {
		panic("clerkfake: " + err.Error())
	}
	return body
}

// ServeHTTP serves the Backend API below /v1/.
func (c *Clerk) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	request := &Request{Method: r.Method, Path: r.URL.Path, Query: r.URL.Query()}
	c.mu.Lock()
	c.requests = append(c.requests, request)
	c.mu.Unlock()
	faults := c.meet(r.URL.Path)
	if !faults.hold(r.Context()) {
		return
	}
	answer, ok := faults.answer()
	if !ok {
		answer = c.answer(r, faults)
	}
	if faults.truncates() {
		answer.body = answer.body[:len(answer.body)/2]
	}
	c.mu.Lock()
	request.Status = answer.status
	c.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	if after := faults.retryAfter(); after != "" {
		w.Header().Set("Retry-After", after)
	}
	w.WriteHeader(answer.status)
	_, _ = w.Write(answer.body) // a client that went away
}

// call is a request that is answered from the state.
type call struct {
	*Clerk
	faults met
	query  url.Values
	// id is the path's second part.
	id string
}

// endpoints are by path; {id} is its second part.
var endpoints = map[string]func(call) (any, *problem){
	"instance":                                call.getInstance,
	"users":                                   call.listUsers,
	"users/count":                             call.countUsers,
	"users/{id}":                              call.getUser,
	"users/{id}/organization_memberships":     call.listMembershipsOfUser,
	"users/{id}/billing/subscription":         call.getSubscription,
	"organizations":                           call.listOrganizations,
	"organizations/{id}":                      call.getOrganization,
	"organizations/{id}/memberships":          call.listMembershipsOfOrganization,
	"organizations/{id}/billing/subscription": call.getSubscription,
	"organization_memberships":                call.listMemberships,
	"organization_roles":                      call.listRoles,
	"billing/subscription_items":              call.listSubscriptionItems,
}

// answer answers a request from the state, whatever is asked meanwhile.
func (c *Clerk) answer(r *http.Request, faults met) *answer {
	c.mu.Lock()
	content, problem := c.content(r, faults)
	c.mu.Unlock()
	if problem != nil {
		return problem.answer()
	}
	return &answer{status: http.StatusOK, body: encode(content)}
}

func (c *Clerk) content(r *http.Request, faults met) (any, *problem) {
	if r.Method != http.MethodGet {
		return nil, refuse(http.StatusMethodNotAllowed, "method_not_allowed", "Method not allowed", "The stand-in only answers GET")
	}
	if r.Header.Get("Authorization") != "Bearer "+c.secretKey {
		return nil, refuse(http.StatusUnauthorized, "authentication_invalid", "Invalid authentication",
			"Unable to authenticate the request")
	}
	if !validVersion(r) {
		return nil, refuse(http.StatusBadRequest, "api_version_invalid", "invalid API version", "Invalid Clerk API version")
	}
	path, ok := strings.CutPrefix(r.URL.Path, "/v1/")
	if !ok {
		return nil, missing()
	}
	call := call{Clerk: c, faults: faults, query: r.URL.Query()}
	call.query.Del(versionParameter)
	get, ok := endpoints[path]
	if parts := strings.Split(path, "/"); !ok && len(parts) > 1 {
		call.id, parts[1] = parts[1], "{id}"
		get, ok = endpoints[strings.Join(parts, "/")]
	}
	if !ok {
		return nil, missing()
	}
	return get(call)
}

func missing() *problem {
	return refuse(http.StatusNotFound, "resource_not_found", "not found", "Nothing was found there")
}

const versionParameter = "__clerk_api_version"

// versions are those of Clerk's API that there are.
var versions = []string{"2026-05-12", "2025-11-10", "2025-04-10", "2024-10-01", "2021-02-05"}

// validVersion accepts a version in the header or in the query, but not in both.
func validVersion(r *http.Request) bool {
	asked := slices.Concat(r.Header.Values("Clerk-API-Version"), r.URL.Query()[versionParameter])
	return len(asked) == 0 || len(asked) == 1 && slices.Contains(versions, asked[0])
}

func (c call) getInstance() (any, *problem) {
	return c.instanceData(), c.only()
}

func (c call) getUser() (any, *problem) {
	user, ok := c.users.byID[c.id]
	if !ok {
		return nil, missing()
	}
	return userData(user), c.only()
}

// getOrganization takes an ID or a slug, as Clerk does.
func (c call) getOrganization() (any, *problem) {
	counted, problem := c.flag("include_members_count")
	if problem != nil {
		return nil, problem
	}
	for _, organization := range c.organizations.all() {
		if organization.ID == c.id || organization.Slug != "" && organization.Slug == c.id {
			return c.organizationData(organization, counted), c.only("include_members_count")
		}
	}
	return nil, missing()
}

func (c call) getSubscription() (any, *problem) {
	s := c.subscriptions[c.id]
	if s == nil {
		return nil, missing()
	}
	return s.Read(c.instanceID), c.only()
}
