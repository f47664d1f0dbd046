// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package clerkapi

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	. "github.com/onsi/gomega"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/time/rate"
)

const (
	secretKey      = "sk_test_canaryOfTheSecretKey"
	userID         = "user_2g7np7Hrk0SN6kj5EDMLDaKNL0S"
	organizationID = "org_2g7npKLq8vT0NmEYw5uZxRfAbCd"
	membershipID   = "orgmem_2g7npZyX3wV4uT5sR6qP7oN8mL9"
	pinnedID       = "ins_2g7np7Hrk0SN6kj5EDMLDaKNL0S"

	instanceBody = `{"object":"instance","id":"` + pinnedID + `"}`
	emptyListing = `{"data":[],"total_count":0}`
)

// answer is what a stub answers: 200 if it names no status.
type answer struct {
	status int
	header map[string]string
	body   string
}

// asked is a request that a stub got.
type asked struct {
	*http.Request
	at   time.Time
	body string
}

// stub is a Backend API that answers what it is told.
type stub struct {
	*httptest.Server

	client   *Client
	registry *prometheus.Registry

	mu      sync.Mutex
	answers []answer
	asked   []asked
}

// newStub returns a stub that gives the answers one after the other and then the last one for ever. Its client waits
// neither for its budget nor between attempts, but where the stub asks it to.
func newStub(t *testing.T, answers ...answer) *stub {
	t.Helper()
	s := &stub{answers: answers, registry: prometheus.NewRegistry()}
	s.Server = httptest.NewServer(s)
	t.Cleanup(s.Close)
	s.client = NewClients(NewMetrics(s.registry)).For("test", s.URL, secretKey)
	s.client.transport().limiter = rate.NewLimiter(rate.Inf, 1)
	s.client.http.RetryWaitMin, s.client.http.RetryWaitMax = time.Millisecond, time.Millisecond
	return s
}

func (s *stub) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body) // a request of these tests has none
	s.mu.Lock()
	s.asked = append(s.asked, asked{Request: r, at: time.Now(), body: string(body)})
	next := s.answers[0]
	if len(s.answers) > 1 {
		s.answers = s.answers[1:]
	}
	s.mu.Unlock()
	for name, value := range next.header {
		w.Header()[name] = nil // so that an empty one is not sent, Date neither
		if value != "" {
			w.Header().Set(name, value)
		}
	}
	w.WriteHeader(cmp.Or(next.status, http.StatusOK))
	_, _ = io.WriteString(w, next.body) // a client that went away
}

// requests are what the stub was asked.
func (s *stub) requests() []asked {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]asked(nil), s.asked...)
}

// reads are all that a client can ask.
var reads = map[string]func(context.Context, *Client) error{
	"GetInstance": func(ctx context.Context, c *Client) error {
		_, err := c.Instance(ctx)
		return err
	},
	"ListUsers": func(ctx context.Context, c *Client) error {
		_, err := c.Users(ctx, LastModifiedFirst, 0)
		return err
	},
	"CountUsers": func(ctx context.Context, c *Client) error {
		_, err := c.CountUsers(ctx)
		return err
	},
	"GetUser": func(ctx context.Context, c *Client) error {
		_, _, err := c.User(ctx, userID)
		return err
	},
	"ListOrganizations": func(ctx context.Context, c *Client) error {
		_, err := c.Organizations(ctx, OldestFirst, 0)
		return err
	},
	"GetOrganization": func(ctx context.Context, c *Client) error {
		_, _, _, err := c.Organization(ctx, organizationID)
		return err
	},
	"ListMemberships": func(ctx context.Context, c *Client) error {
		_, err := c.Memberships(ctx, OldestFirst, 0)
		return err
	},
	"ListOrganizationMemberships": func(ctx context.Context, c *Client) error {
		_, err := c.MembershipsOf(ctx, organizationID, 0)
		return err
	},
	"GetOrganizationMembership": func(ctx context.Context, c *Client) error {
		_, _, err := c.MembershipOf(ctx, organizationID, userID)
		return err
	},
	"ListRoles": func(ctx context.Context, c *Client) error {
		_, err := c.Roles(ctx)
		return err
	},
}

func TestClient_asksOnlyByGETAndSaysWhoItIs(t *testing.T) {
	for operation, read := range reads {
		t.Run(operation, func(t *testing.T) {
			g := NewWithT(t)
			s := newStub(t, answer{status: http.StatusForbidden})
			g.Expect(read(t.Context(), s.client)).To(HaveField("Operation", operation))
			g.Expect(s.requests()).To(HaveLen(1))
			request := s.requests()[0]
			g.Expect(request.Method).To(Equal(http.MethodGet))
			g.Expect(request.body).To(BeEmpty())
			g.Expect(request.Header.Values("Authorization")).To(Equal([]string{"Bearer " + secretKey}))
			g.Expect(request.Header.Values("Clerk-API-Version")).To(Equal([]string{"2026-05-12"}))
			g.Expect(request.Header.Get("Accept")).To(Equal("application/json"))
			g.Expect(request.Header.Get("User-Agent")).To(Equal("clerk-operator"))
			g.Expect(request.URL.String()).NotTo(ContainSubstring("version"), "both would be refused")
		})
	}
}

func TestClient_anIDThatIsNoneIsNoRequest(t *testing.T) {
	for name, id := range map[string]string{
		"nothing": "", "a path": "../organizations", "a query": "user_x?y", "a query, too": "org_x?y", "a fragment": "user_x#y",
		"a part of a path": "user_x/../../organizations", "an escape": "user_x%2f", "a blank": "user_ x", "a line": "user_x\n",
		"no word": "user_", "another kind": "sess_x", "a membership": membershipID, "too long": "user_" + strings.Repeat("x", 60),
	} {
		t.Run(name, func(t *testing.T) {
			g := NewWithT(t)
			s := newStub(t, answer{body: instanceBody})
			_, _, err := s.client.User(t.Context(), id)
			g.Expect(err).To(MatchError(ContainSubstring("is no ID of a Clerk user")))
			_, _, members, err := s.client.Organization(t.Context(), id)
			g.Expect(err).To(MatchError(ContainSubstring("is no ID of a Clerk org")))
			g.Expect(members).To(Equal(-1))
			_, err = s.client.MembershipsOf(t.Context(), id, 0)
			g.Expect(err).To(MatchError(ContainSubstring("is no ID of a Clerk org")))
			_, _, err = s.client.MembershipOf(t.Context(), id, userID)
			g.Expect(err).To(MatchError(ContainSubstring("is no ID of a Clerk org")))
			g.Expect(IsNotFound(err)).To(BeFalse())
			g.Expect(s.requests()).To(BeEmpty())
		})
	}
	t.Run("of the other of the two kinds", func(t *testing.T) {
		g := NewWithT(t)
		s := newStub(t, answer{body: instanceBody})
		_, _, err := s.client.User(t.Context(), organizationID)
		g.Expect(err).To(HaveOccurred())
		_, _, _, err = s.client.Organization(t.Context(), userID)
		g.Expect(err).To(HaveOccurred())
		_, err = s.client.MembershipsOf(t.Context(), userID, 0)
		g.Expect(err).To(HaveOccurred())
		g.Expect(s.requests()).To(BeEmpty())
	})
}

func TestClient_followsNoRedirect(t *testing.T) {
	for _, status := range []int{http.StatusMovedPermanently, http.StatusFound, http.StatusTemporaryRedirect, http.StatusPermanentRedirect} {
		t.Run(http.StatusText(status), func(t *testing.T) {
			g := NewWithT(t)
			elsewhere := newStub(t, answer{body: instanceBody})
			s := newStub(t, answer{status: status, header: map[string]string{"Location": elsewhere.URL + "/v1/instance"}})
			_, err := s.client.Instance(t.Context())
			g.Expect(err).To(HaveField("StatusCode", status))
			g.Expect(s.requests()).To(HaveLen(1))
			g.Expect(elsewhere.requests()).To(BeEmpty(), "the secret key is for one host")
		})
	}
}

func TestClients_keepOneClientForEachInstance(t *testing.T) {
	g := NewWithT(t)
	clients := NewClients(NewMetrics(prometheus.NewRegistry()))
	first := clients.For("one", "https://api.clerk.com", "sk_live_1")
	g.Expect(clients.For("one", "https://api.clerk.com", "sk_live_1")).To(BeIdenticalTo(first))
	g.Expect(clients.For("one", "https://api.clerk.com/", "sk_live_1")).To(BeIdenticalTo(first), "the same URL")
	g.Expect(clients.For("two", "https://api.clerk.com", "sk_live_1")).NotTo(BeIdenticalTo(first), "another instance")
	g.Expect(clients.For("one", "https://api.clerk.com", "sk_live_1")).To(BeIdenticalTo(first), "for all that")

	rotated := clients.For("one", "https://api.clerk.com", "sk_live_2")
	g.Expect(rotated).NotTo(BeIdenticalTo(first))
	g.Expect(rotated.key).To(Equal("sk_live_2"))
	g.Expect(clients.For("one", "https://api.clerk.com", "sk_live_2")).To(BeIdenticalTo(rotated))
	moved := clients.For("one", "https://clerk.example.com", "sk_live_2")
	g.Expect(moved).NotTo(BeIdenticalTo(rotated))
	g.Expect(moved.base).To(Equal("https://clerk.example.com/v1"))
	old := clients.For("one", "https://api.clerk.com", "sk_live_1")
	g.Expect(old).NotTo(BeIdenticalTo(first), "an old client is gone")

	other := clients.For("two", "https://api.clerk.com", "sk_live_1")
	clients.Forget("one")
	clients.Forget("nothing")
	g.Expect(clients.For("one", "https://api.clerk.com", "sk_live_1")).NotTo(BeIdenticalTo(old))
	g.Expect(clients.For("two", "https://api.clerk.com", "sk_live_1")).To(BeIdenticalTo(other))
}

func TestClients_areSafeForConcurrentUse(t *testing.T) {
	g := NewWithT(t)
	clients := NewClients(NewMetrics(prometheus.NewRegistry()))
	var wait sync.WaitGroup
	found := make([]*Client, 16)
	for i := range found {
		wait.Go(func() { found[i] = clients.For("one", "https://api.clerk.com", secretKey) })
	}
	wait.Wait()
	for _, client := range found {
		g.Expect(client).To(BeIdenticalTo(found[0]))
	}
}

// An answer that is not what Clerk documents is no answer, whatever it is.
func TestClient_refusesWhatClerkDoesNotDocument(t *testing.T) {
	user := func(id string) string { return fmt.Sprintf(`{"object":"user","id":%q}`, id) }
	organization := func(id string) string { return fmt.Sprintf(`{"object":"organization","id":%q,"members_count":2}`, id) }
	lists := []string{"ListOrganizations", "ListMemberships", "ListOrganizationMemberships", "GetOrganizationMembership"}
	single := []string{"GetInstance", "GetUser", "GetOrganization"}
	all := slices.Concat(lists, single, []string{"ListUsers", "CountUsers", "ListRoles"})
	for name, tc := range map[string]struct {
		operations []string
		body       string
	}{
		"nothing":            {all, ""},
		"a page of a proxy":  {all, "<html></html>"},
		"null":               {slices.Concat(lists, single, []string{"ListUsers"}), "null"},
		"an empty object":    {slices.Concat(lists, single, []string{"ListUsers"}), "{}"},
		"an array":           {slices.Concat(lists, single, []string{"CountUsers", "ListRoles"}), "[]"},
		"a string":           {all, `"x"`},
		"a truncated object": {single, user(userID)[:20]},
		"a truncated array":  {[]string{"ListUsers"}, "[" + user(userID) + ","},
		"a truncated list":   {[]string{"ListOrganizations", "ListMemberships"}, `{"data":[` + organization(organizationID) + `],"total_count":1`},
		"two answers":        {[]string{"GetUser"}, user(userID) + user(userID)},
		"no total":           {lists, `{"data":[]}`},
		"no data":            {lists, `{"total_count":0}`},
		"null data":          {lists, `{"data":null,"total_count":0}`},
		"null total":         {lists, `{"data":[],"total_count":null}`},
		"total of words":     {[]string{"ListOrganizations", "CountUsers"}, `{"data":[],"total_count":"many"}`},
		"data of words":      {[]string{"ListOrganizations", "ListRoles"}, `{"data":"none","total_count":0}`},
		"the list of others": {[]string{"ListUsers"}, emptyListing},

		"an instance without an ID":      {[]string{"GetInstance"}, `{"object":"instance"}`},
		"an instance's ID is no word":    {[]string{"GetInstance"}, `{"id":"ins_1 and jane@example.com"}`},
		"an instance's ID is a number":   {[]string{"GetInstance"}, `{"id":1}`},
		"an instance's ID is a user's":   {[]string{"GetInstance"}, `{"id":"` + userID + `"}`},
		"an instance's ID is no status":  {[]string{"GetInstance"}, `{"id":"ins_` + strings.Repeat("x", 60) + `"}`},
		"an instance's ID is cut off":    {[]string{"GetInstance"}, `{"id":"ins_"}`},
		"another user":                   {[]string{"GetUser"}, user(userID + "x")},
		"a user's ID in other case":      {[]string{"GetUser"}, user(strings.ToLower(userID))},
		"a user without an ID":           {[]string{"GetUser"}, `{"object":"user"}`},
		"an organization for a user":     {[]string{"GetUser"}, organization(organizationID)},
		"another organization":           {[]string{"GetOrganization"}, organization(organizationID + "x")},
		"a user for an organization":     {[]string{"GetOrganization"}, user(userID)},
		"an organization without an ID":  {[]string{"GetOrganization"}, `{"object":"organization","members_count":1}`},
		"an organization within another": {[]string{"GetOrganization"}, `{"data":` + organization(organizationID) + `}`},
	} {
		for _, operation := range tc.operations {
			t.Run(name+" for "+operation, func(t *testing.T) {
				g := NewWithT(t)
				s := newStub(t, answer{body: tc.body})
				err := reads[operation](t.Context(), s.client)
				g.Expect(err).To(MatchError(ErrMalformed))
				g.Expect(err).To(HaveField("Operation", operation))
				g.Expect(err).To(HaveField("StatusCode", http.StatusOK))
				g.Expect(IsNotFound(err)).To(BeFalse())
				g.Expect(s.requests()).To(HaveLen(1), "the same would come again")
			})
		}
	}
}

func TestClient_boundsAnAnswer(t *testing.T) {
	g := NewWithT(t)
	s := newStub(t, answer{})
	s.client.transport().next = roundTripper(func(request *http.Request) (*http.Response, error) {
		// White space may follow a value.
		body := io.MultiReader(strings.NewReader(instanceBody), strings.NewReader(strings.Repeat(" ", maxAnswer)))
		return &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(body), Request: request}, nil
	})
	_, err := s.client.Instance(t.Context())
	g.Expect(err).To(MatchError(ErrMalformed))
}

func TestClient_anAnswerThatBreaksOffIsNone(t *testing.T) {
	g := NewWithT(t)
	s := newStub(t, answer{header: map[string]string{"Content-Length": "1000"}, body: instanceBody})
	_, err := s.client.Instance(t.Context())
	g.Expect(err).To(MatchError(io.ErrUnexpectedEOF))
	g.Expect(err).To(HaveField("StatusCode", 0))
	g.Expect(err).NotTo(MatchError(ErrMalformed), "the network is to blame, and not what Clerk said")
}
