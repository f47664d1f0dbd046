// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package clerkfake_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	. "github.com/onsi/gomega"

	"github.com/clerk-operator/clerk-operator/test/clerkfake"
)

func TestFaults_answers(t *testing.T) {
	for name, tc := range map[string]struct {
		fault      clerkfake.Fault
		wantStatus int
		wantCode   string
		wantBody   string
		wantAfter  string
	}{
		"too many requests": {
			fault:      clerkfake.Fault{Status: 429, RetryAfter: "7"},
			wantStatus: 429, wantCode: "too_many_requests", wantAfter: "7",
		},
		"an error":                  {fault: clerkfake.Fault{Status: 500}, wantStatus: 500, wantCode: "fault"},
		"a gateway's page":          {fault: clerkfake.Fault{Status: 502, Body: "<html>"}, wantStatus: 502, wantBody: "<html>"},
		"nonsense":                  {fault: clerkfake.Fault{Body: "{}"}, wantStatus: 200, wantBody: "{}"},
		"another path's":            {fault: clerkfake.Fault{Path: "/v1/users", Status: 500}, wantStatus: 200},
		"before the key":            {fault: clerkfake.Fault{Path: "/v1/organ", Status: 503}, wantStatus: 503, wantCode: "fault"},
		"a header of a real answer": {fault: clerkfake.Fault{RetryAfter: "1"}, wantStatus: 200, wantAfter: "1"},
	} {
		t.Run(name, func(t *testing.T) {
			g := NewWithT(t)
			c := newClerk()
			c.Inject(tc.fault)
			response := ask(t, c, "/v1/organizations")
			g.Expect(response.status).To(Equal(tc.wantStatus))
			g.Expect(response.header.Get("Retry-After")).To(Equal(tc.wantAfter))
			g.Expect(c.Requests()[0].Status).To(Equal(tc.wantStatus))
			switch {
			case tc.wantCode != "":
				g.Expect(errorCode(t, response)).To(Equal(tc.wantCode))
			case tc.wantBody != "":
				g.Expect(string(response.body)).To(Equal(tc.wantBody))
			}
		})
	}
}

func TestFaults_entriesOfLists(t *testing.T) {
	g := NewWithT(t)
	c := newClerk()
	populate(g, c, 3)
	remove := c.Inject(clerkfake.Fault{Path: "/v1/users", Edit: clerkfake.Without("id", "user_1")})
	listed := decode[[]object](t, ask(t, c, "/v1/users"))
	g.Expect(listed).To(HaveExactElements(HaveKeyWithValue("id", "user_2"), Not(HaveKey("id")), HaveKeyWithValue("id", "user_0")))
	g.Expect(decode[object](t, ask(t, c, "/v1/users/user_1"))).To(HaveKeyWithValue("id", "user_1"), "which is not in a list")
	remove()
	c.Inject(clerkfake.Fault{Edit: func(string, map[string]any) map[string]any { return nil }})
	g.Expect(string(ask(t, c, "/v1/users").body)).To(Equal("[null,null,null]"))
}

func TestFaults_lists(t *testing.T) {
	skip := func(id string) bool { return id == "user_2" || id == "org_a" }
	for name, tc := range map[string]struct {
		fault     clerkfake.Fault
		target    string
		want      []string
		wantTotal any
	}{
		"empty users":              {clerkfake.Fault{EmptyLists: true}, "/v1/users", []string{}, nil},
		"empty organizations":      {clerkfake.Fault{EmptyLists: true}, "/v1/organizations", []string{}, 0.0},
		"the first page by cursor": {clerkfake.Fault{RepeatPages: true}, "/v1/users?limit=2&starting_after=user_2", []string{"user_3", "user_2"}, nil},
		"the first page by offset": {clerkfake.Fault{RepeatPages: true}, "/v1/organizations?limit=1&offset=1", []string{"org_b"}, 2.0},
		"a user left out":          {clerkfake.Fault{Skip: skip}, "/v1/users?limit=3", []string{"user_3", "user_1", "user_0"}, nil},
		"after a user left out":    {clerkfake.Fault{Skip: skip}, "/v1/users?starting_after=user_2", []string{"user_1", "user_0"}, nil},
		"an organization left out": {clerkfake.Fault{Skip: skip}, "/v1/organizations", []string{"org_b"}, 1.0},
	} {
		t.Run(name, func(t *testing.T) {
			g := NewWithT(t)
			c := newClerk()
			populate(g, c, 4)
			c.Inject(tc.fault)
			g.Expect(ids(t, ask(t, c, tc.target))).To(Equal(tc.want))
			if tc.wantTotal != nil {
				g.Expect(decode[object](t, ask(t, c, tc.target))).To(HaveKeyWithValue("total_count", tc.wantTotal))
			}
			g.Expect(ask(t, c, "/v1/users/user_2").status).To(Equal(http.StatusOK))
		})
	}
}

func TestFaults_times(t *testing.T) {
	g := NewWithT(t)
	c := newClerk()
	status := func() int { return ask(t, c, "/v1/users").status }

	c.Inject(clerkfake.Fault{Status: 429, Times: 2})
	g.Expect([]int{status(), status(), status()}).To(Equal([]int{429, 429, 200}))

	remove := c.Inject(clerkfake.Fault{Status: 500})
	other := c.Inject(clerkfake.Fault{Status: 503})
	g.Expect([]int{status(), status()}).To(Equal([]int{500, 500}))
	remove()
	g.Expect(status()).To(Equal(503))
	c.ClearFaults()
	g.Expect(status()).To(Equal(200))
	other()
}

func TestFaults_truncate(t *testing.T) {
	g := NewWithT(t)
	c := newClerk()
	populate(g, c, 4)
	server := httptest.NewServer(c)
	t.Cleanup(server.Close)
	whole := get(t, g, server.URL+"/v1/users", c.SecretKey())
	c.Inject(clerkfake.Fault{Truncate: true})
	g.Expect(get(t, g, server.URL+"/v1/users", c.SecretKey())).To(Equal(whole[:len(whole)/2]))
}

func get(t *testing.T, g *WithT, url, key string) string {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	g.Expect(err).NotTo(HaveOccurred())
	request.Header.Set("Authorization", "Bearer "+key)
	response, err := http.DefaultClient.Do(request)
	g.Expect(err).NotTo(HaveOccurred())
	defer func() { _ = response.Body.Close() }()
	g.Expect(response.StatusCode).To(Equal(http.StatusOK))
	content, err := io.ReadAll(response.Body)
	g.Expect(err).NotTo(HaveOccurred())
	return string(content)
}

func TestFaults_hold(t *testing.T) {
	g := NewWithT(t)
	c := newClerk()
	populate(g, c, 1)
	block := make(chan struct{})
	c.Inject(clerkfake.Fault{Block: block, Delay: time.Millisecond})
	answered := make(chan int)
	go func() { answered <- ask(t, c, "/v1/users").status }()
	g.Eventually(c.Requests).WithTimeout(30 * time.Second).Should(HaveLen(1))
	g.Expect(c.Requests()[0].Status).To(BeZero())
	g.Consistently(answered, 50*time.Millisecond).ShouldNot(Receive())
	close(block)
	g.Eventually(answered).WithTimeout(30 * time.Second).Should(Receive(Equal(200)))

	c.ClearFaults()
	c.Inject(clerkfake.Fault{Block: make(chan struct{})})
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	do(c, request(t, c, "/v1/users").WithContext(ctx))
	g.Expect(c.Requests()[1].Status).To(BeZero())
}
