// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package clerkapi

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	. "github.com/onsi/gomega"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/time/rate"
	clocktesting "k8s.io/utils/clock/testing"
)

// transport is the part of a client that every attempt passes.
func (c *Client) transport() *limited { return c.http.HTTPClient.Transport.(*limited) }

func TestTransport_triesAgainWhatMayPass(t *testing.T) {
	ok := answer{body: instanceBody}
	for name, tc := range map[string]struct {
		answers      []answer
		wantRequests int
		wantStatus   int
	}{
		"it works":                     {[]answer{ok}, 1, 0},
		"failed once":                  {[]answer{{status: 500}, ok}, 2, 0},
		"failed three times":           {[]answer{{status: 502}, {status: 503}, {status: 504}, ok}, 4, 0},
		"failed all the time":          {[]answer{{status: 500}}, 4, 500},
		"failed in one way or another": {[]answer{{status: 500}, {status: 500}, {status: 500}, {status: 503}}, 4, 503},
		"too many requests":            {[]answer{{status: 429}, ok}, 2, 0},
		"too many, come at once":       {[]answer{{status: 429, header: map[string]string{"Retry-After": "0"}}, ok}, 2, 0},
		"never":                        {[]answer{{status: 501}, ok}, 1, 501},
		"refused":                      {[]answer{{status: 401}, ok}, 1, 401},
		"not found":                    {[]answer{{status: 404}, ok}, 1, 404},
		"rejected":                     {[]answer{{status: 422}, ok}, 1, 422},
		"refused in the end":           {[]answer{{status: 500}, {status: 403}}, 2, 403},
		"too many, for long":           {[]answer{{status: 429, header: map[string]string{"Retry-After": "11"}}, ok}, 1, 429},
		"not there for long":           {[]answer{{status: 503, header: map[string]string{"Retry-After": "86400"}}, ok}, 1, 503},
		"failed, for long":             {[]answer{{status: 500, header: map[string]string{"Retry-After": "11"}}, ok}, 1, 500},
		"not long, then for long":      {[]answer{{status: 500}, {status: 429, header: map[string]string{"Retry-After": "60"}}, ok}, 2, 429},
	} {
		t.Run(name, func(t *testing.T) {
			g := NewWithT(t)
			s := newStub(t, tc.answers...)
			instance, err := s.client.Instance(t.Context())
			if tc.wantStatus == 0 {
				g.Expect(err).NotTo(HaveOccurred())
				g.Expect(instance.ID).To(Equal(pinnedID))
			} else {
				g.Expect(err).To(HaveField("StatusCode", tc.wantStatus))
			}
			g.Expect(s.requests()).To(HaveLen(tc.wantRequests))
			for _, request := range s.requests() {
				g.Expect(request.Header.Get("Authorization")).To(Equal("Bearer " + secretKey))
			}
		})
	}
}

func TestTransport_waitsAsLongAsClerkAsks(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	s := newStub(t, answer{status: 429, header: map[string]string{"Retry-After": "1"}}, answer{body: instanceBody})
	_, err := s.client.Instance(t.Context())
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(s.requests()).To(HaveLen(2))
	g.Expect(s.requests()[1].at.Sub(s.requests()[0].at)).To(BeNumerically(">=", 900*time.Millisecond))
}

func TestTransport_pausesBetweenAttempts(t *testing.T) {
	g := NewWithT(t)
	client := NewClients(NewMetrics(prometheus.NewRegistry())).For("test", "https://api.clerk.com", secretKey).http
	g.Expect(client.RetryMax).To(Equal(3))
	pause := func(attempt int) time.Duration {
		return client.Backoff(client.RetryWaitMin, client.RetryWaitMax, attempt, nil)
	}
	g.Expect(pause(0)).To(Equal(500 * time.Millisecond))
	g.Expect(pause(1)).To(Equal(time.Second))
	g.Expect(pause(2)).To(Equal(2 * time.Second))
	g.Expect(pause(100)).To(Equal(10 * time.Second))
	g.Expect(pause(0)+pause(1)+pause(2)).To(BeNumerically("<", callTimeout), "else no call ever has all its attempts")
	g.Expect((attempts - 1) * maxRetryWait).To(BeNumerically("<", callTimeout))
}

func TestShouldRetry_notWhenAnotherCallHasToWait(t *testing.T) {
	for name, tc := range map[string]struct {
		status int
		after  string
		want   bool
	}{
		"longest pause":          {429, "10", true},
		"longer":                 {429, "10.5", false},
		"much longer":            {429, "3600", false},
		"until a date":           {503, time.Now().Add(time.Hour).UTC().Format(http.TimeFormat), false},
		"until a date that was":  {503, time.Now().Add(-time.Hour).UTC().Format(http.TimeFormat), true},
		"not told":               {500, "", true},
		"told what says nothing": {429, "soon", true},
		"a success":              {200, "", false},
	} {
		t.Run(name, func(t *testing.T) {
			g := NewWithT(t)
			response := &http.Response{StatusCode: tc.status, Header: http.Header{"Retry-After": {tc.after}}, Body: http.NoBody}
			again, err := shouldRetry(t.Context(), response, nil)
			g.Expect(err).NotTo(HaveOccurred())
			g.Expect(again).To(Equal(tc.want))
		})
	}
}

func TestRetryAfter(t *testing.T) {
	for value, want := range map[string]time.Duration{
		"": 0, "0": 0, "1": time.Second, "90": 90 * time.Second, "0.5": 500 * time.Millisecond, "-5": 0, "soon": 0, "1 s": 0,
		time.Now().Add(-time.Minute).UTC().Format(http.TimeFormat): 0,
		"Fri, 32 Dec 1999 23:59:59 GMT":                            0,
	} {
		NewWithT(t).Expect(retryAfter(http.Header{"Retry-After": {value}})).To(Equal(want), value)
	}
	g := NewWithT(t)
	g.Expect(retryAfter(http.Header{})).To(BeZero())
	date := time.Now().Add(time.Hour).UTC().Format(http.TimeFormat)
	g.Expect(retryAfter(http.Header{"Retry-After": {date}})).To(BeNumerically("~", time.Hour, time.Minute))
}

func TestTransport_endsWithItsContext(t *testing.T) {
	t.Run("before a request", func(t *testing.T) {
		g := NewWithT(t)
		s := newStub(t, answer{body: instanceBody})
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_, err := s.client.Instance(ctx)
		g.Expect(err).To(MatchError(context.Canceled))
		g.Expect(s.requests()).To(BeEmpty())
	})
	t.Run("during a request", func(t *testing.T) {
		g := NewWithT(t)
		ctx, cancel := context.WithCancel(t.Context())
		s := newStub(t, answer{body: instanceBody})
		s.Config.Handler = http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			cancel()
			<-r.Context().Done()
		})
		_, err := s.client.Instance(ctx)
		g.Expect(err).To(MatchError(context.Canceled))
		g.Expect(labels(g, s)).To(Equal(map[string]float64{"test GetInstance 0": 1}), "and is not tried again")
	})
	t.Run("between two attempts", func(t *testing.T) {
		g := NewWithT(t)
		ctx, cancel := context.WithCancel(t.Context())
		s := newStub(t, answer{status: 500})
		s.client.http.RetryWaitMin, s.client.http.RetryWaitMax = time.Hour, time.Hour
		backoff := s.client.http.Backoff
		s.client.http.Backoff = func(least, most time.Duration, attempt int, response *http.Response) time.Duration {
			cancel()
			return backoff(least, most, attempt, response)
		}
		_, err := s.client.Instance(ctx)
		g.Expect(err).To(MatchError(context.Canceled))
		g.Expect(s.requests()).To(HaveLen(1))
	})
}

// roundTripper answers requests without a network.
type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(request *http.Request) (*http.Response, error) { return f(request) }

func TestClient_boundsACall(t *testing.T) {
	g := NewWithT(t)
	s := newStub(t, answer{body: instanceBody})
	next := s.client.transport().next
	var left time.Duration
	s.client.transport().next = roundTripper(func(request *http.Request) (*http.Response, error) {
		deadline, ok := request.Context().Deadline()
		g.Expect(ok).To(BeTrue())
		left = time.Until(deadline)
		return next.RoundTrip(request)
	})
	_, err := s.client.Instance(t.Context())
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(left).To(And(BeNumerically("<=", callTimeout), BeNumerically(">", callTimeout-30*time.Second)))
}

func TestLimiter_leavesHalfToTheApplication(t *testing.T) {
	for key, want := range map[string]struct {
		limit rate.Limit
		burst int
	}{
		"sk_live_abc": {50, 50}, "sk_test_abc": {5, 10}, "": {5, 10}, "sk_livelihood": {5, 10}, "x_sk_live_abc": {5, 10}, "SK_LIVE_abc": {5, 10},
	} {
		t.Run(key, func(t *testing.T) {
			g := NewWithT(t)
			limiter := NewClients(NewMetrics(prometheus.NewRegistry())).For("test", "https://api.clerk.com", key).transport().limiter
			g.Expect(limiter.Limit()).To(Equal(want.limit))
			g.Expect(limiter.Burst()).To(Equal(want.burst))
		})
	}
}

func TestLimiter_everyAttemptCounts(t *testing.T) {
	g := NewWithT(t)
	s := newStub(t, answer{status: 500})
	s.client.transport().limiter = rate.NewLimiter(rate.Every(time.Hour), 2)
	_, err := s.client.Instance(t.Context())
	g.Expect(err).To(HaveField("StatusCode", 0), "the budget is used up for longer than a call may take")
	g.Expect(s.requests()).To(HaveLen(2))
}

func TestReadAt_isNotAfterTheAnswerWasTrue(t *testing.T) {
	start := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	date := func(seconds int) map[string]string {
		return map[string]string{"Date": start.Add(time.Duration(seconds) * time.Second).Format(http.TimeFormat)}
	}
	user := `{"id":"` + userID + `"}`
	for name, tc := range map[string]struct {
		answers []answer
		// took is how long each attempt takes by the operator's clock.
		took time.Duration
		want time.Time
	}{
		"Date less the time it took":   {[]answer{{header: date(100), body: user}}, 3 * time.Second, start.Add(97 * time.Second)},
		"a clock that is behind":       {[]answer{{header: date(-100), body: user}}, 0, start.Add(-100 * time.Second)},
		"of the last attempt":          {[]answer{{status: 500, header: date(100)}, {header: date(200), body: user}}, time.Second, start.Add(199 * time.Second)},
		"no Date":                      {[]answer{{header: map[string]string{"Date": ""}, body: user}}, 3 * time.Second, time.Time{}},
		"no Date in the last attempt":  {[]answer{{status: 500, header: date(100)}, {header: map[string]string{"Date": ""}, body: user}}, time.Second, time.Time{}},
		"a Date that cannot be read":   {[]answer{{header: map[string]string{"Date": "today"}, body: user}}, 3 * time.Second, time.Time{}},
		"a Date of an attempt in vain": {[]answer{{status: 503, header: date(900)}, {header: date(1), body: user}}, 0, start.Add(time.Second)},
	} {
		t.Run(name, func(t *testing.T) {
			g := NewWithT(t)
			s := newStub(t, tc.answers...)
			clock := clocktesting.NewFakePassiveClock(start)
			s.client.transport().clock = clock
			next := s.client.transport().next
			s.client.transport().next = roundTripper(func(request *http.Request) (*http.Response, error) {
				response, err := next.RoundTrip(request)
				clock.SetTime(clock.Now().Add(tc.took))
				return response, err
			})
			_, readAt, err := s.client.User(t.Context(), userID)
			g.Expect(err).NotTo(HaveOccurred())
			g.Expect(readAt).To(BeTemporally("==", tc.want))
		})
	}
}

func TestReadAt_isOfEveryRead(t *testing.T) {
	at := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	header := map[string]string{"Date": at.Format(http.TimeFormat)}
	for name, tc := range map[string]struct {
		body string
		read func(context.Context, *Client) (time.Time, error)
	}{
		"user": {`{"id":"` + userID + `"}`, func(ctx context.Context, c *Client) (time.Time, error) {
			_, readAt, err := c.User(ctx, userID)
			return readAt, err
		}},
		"organization": {`{"id":"` + organizationID + `"}`, func(ctx context.Context, c *Client) (time.Time, error) {
			_, readAt, _, err := c.Organization(ctx, organizationID)
			return readAt, err
		}},
		"users": {"[]", func(ctx context.Context, c *Client) (time.Time, error) {
			page, err := c.UsersAfter(ctx, "")
			return page.ReadAt, err
		}},
		"memberships": {emptyListing, func(ctx context.Context, c *Client) (time.Time, error) {
			page, err := c.MembershipsOf(ctx, organizationID, 0)
			return page.ReadAt, err
		}},
	} {
		t.Run(name, func(t *testing.T) {
			g := NewWithT(t)
			s := newStub(t, answer{header: header, body: tc.body})
			s.client.transport().clock = clocktesting.NewFakePassiveClock(at.Add(time.Hour))
			readAt, err := tc.read(t.Context(), s.client)
			g.Expect(err).NotTo(HaveOccurred())
			g.Expect(readAt).To(BeTemporally("==", at))
		})
	}
}

// labels returns the request counters by "instance operation code".
func labels(g Gomega, s *stub) map[string]float64 {
	families, err := s.registry.Gather()
	g.Expect(err).NotTo(HaveOccurred())
	counted := map[string]float64{}
	for _, family := range families {
		if family.GetName() != "clerk_operator_api_requests_total" {
			continue
		}
		for _, metric := range family.GetMetric() {
			values := map[string]string{}
			for _, label := range metric.GetLabel() {
				values[label.GetName()] = label.GetValue()
			}
			g.Expect(values).To(HaveLen(3))
			counted[fmt.Sprint(values["instance"], " ", values["operation"], " ", values["code"])] = metric.GetCounter().GetValue()
		}
	}
	return counted
}

func TestMetrics_countAttemptsAndNameNobody(t *testing.T) {
	g := NewWithT(t)
	s := newStub(t, answer{status: 500}, answer{status: 404, body: clerksError("resource_not_found")})
	want := map[string]float64{"test GetUser 500": 1, "test GetUser 404": 2}
	for _, id := range []string{userID, userID + "x"} {
		_, _, err := s.client.User(t.Context(), id)
		g.Expect(IsNotFound(err)).To(BeTrue())
	}
	for operation, read := range reads {
		g.Expect(read(t.Context(), s.client)).NotTo(Succeed())
		want["test "+operation+" 404"]++
	}
	g.Expect(labels(g, s)).To(Equal(want))
	families, err := s.registry.Gather()
	g.Expect(err).NotTo(HaveOccurred())
	for _, family := range families {
		for _, private := range []string{userID, organizationID, secretKey, s.URL, "jane"} {
			g.Expect(strings.Contains(family.String(), private)).To(BeFalse())
		}
	}
}

func TestMetrics_countTheTimeThatTheBudgetTakes(t *testing.T) {
	g := NewWithT(t)
	s := newStub(t, answer{body: instanceBody})
	clock := &steppingClock{FakePassiveClock: clocktesting.NewFakePassiveClock(time.Unix(0, 0)), step: 2 * time.Second}
	s.client.transport().clock = clock
	_, err := s.client.Instance(t.Context())
	g.Expect(err).NotTo(HaveOccurred())
	families, err := s.registry.Gather()
	g.Expect(err).NotTo(HaveOccurred())
	for _, family := range families {
		if family.GetName() == "clerk_operator_api_throttled_seconds_total" {
			g.Expect(family.GetMetric()).To(HaveLen(1))
			g.Expect(family.GetMetric()[0].GetLabel()).To(HaveExactElements(HaveField("GetValue()", "test")))
			g.Expect(family.GetMetric()[0].GetCounter().GetValue()).To(Equal(2.0))
			return
		}
	}
	t.Error("no such metric")
}

// steppingClock moves on every time that it is looked at.
type steppingClock struct {
	*clocktesting.FakePassiveClock
	step time.Duration
}

func (c *steppingClock) Now() time.Time {
	now := c.FakePassiveClock.Now()
	c.SetTime(now.Add(c.step))
	return now
}
