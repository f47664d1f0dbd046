// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package clerkfake_test

import (
	"context"
	"encoding/base64"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	. "github.com/onsi/gomega"
	svix "github.com/svix/svix-webhooks/go"

	"github.com/clerk-operator/clerk-operator/internal/delivery"
	"github.com/clerk-operator/clerk-operator/test/clerkfake"
)

var secret = "whsec_" + base64.StdEncoding.EncodeToString([]byte("a secret of the tests, not a real one"))

func createUsers(c *clerkfake.Clerk, n int) {
	for range n {
		c.CreateUser(clerkfake.User{})
	}
}

func messages(events []clerkfake.Event) []string {
	found := make([]string, len(events))
	for i, event := range events {
		found[i] = event.Message.ID
	}
	return found
}

func TestArrange(t *testing.T) {
	c := newClerk()
	createUsers(c, 200)
	events := c.TakeEvents()
	for name, tc := range map[string]struct {
		trouble  clerkfake.Trouble
		wantSent int
		wantLost int
		inOrder  bool
	}{
		"no trouble":   {clerkfake.Trouble{Seed: 1}, 200, 0, true},
		"all lost":     {clerkfake.Trouble{Seed: 1, Loss: 1, Duplicate: 1}, 0, 200, true},
		"all twice":    {clerkfake.Trouble{Seed: 1, Duplicate: 1}, 400, 0, true},
		"some lost":    {clerkfake.Trouble{Seed: 1, Loss: 0.5}, -1, -1, true},
		"some twice":   {clerkfake.Trouble{Seed: 1, Duplicate: 0.5, Loss: 0.1}, -1, -1, true},
		"out of order": {clerkfake.Trouble{Seed: 1, Reorder: true}, 200, 0, false},
	} {
		t.Run(name, func(t *testing.T) {
			g := NewWithT(t)
			sent, lost := clerkfake.Arrange(events, tc.trouble)
			if tc.wantSent >= 0 {
				g.Expect(sent).To(HaveLen(tc.wantSent))
				g.Expect(lost).To(HaveLen(tc.wantLost))
			} else {
				g.Expect(lost).NotTo(BeEmpty())
				g.Expect(sent).NotTo(BeEmpty())
			}
			distinct := map[string]bool{}
			inOrder := true
			for i, event := range sent {
				distinct[event.Message.ID] = true
				inOrder = inOrder && (i == 0 || !event.Time.Before(sent[i-1].Time))
			}
			g.Expect(len(distinct) + len(lost)).To(Equal(200))
			g.Expect(inOrder).To(Equal(tc.inOrder))

			again, lostAgain := clerkfake.Arrange(events, tc.trouble)
			g.Expect(messages(again)).To(Equal(messages(sent)))
			g.Expect(messages(lostAgain)).To(Equal(messages(lost)))
			g.Expect(c.TakeEvents()).To(BeEmpty())
		})
	}
}

func TestArrange_seedsDiffer(t *testing.T) {
	g := NewWithT(t)
	c := newClerk()
	createUsers(c, 50)
	events := c.TakeEvents()
	before := messages(events)
	one, _ := clerkfake.Arrange(events, clerkfake.Trouble{Seed: 1, Reorder: true})
	two, _ := clerkfake.Arrange(events, clerkfake.Trouble{Seed: 2, Reorder: true})
	g.Expect(messages(one)).NotTo(Equal(messages(two)))
	g.Expect(messages(one)).To(ConsistOf(messages(two)))
	g.Expect(messages(events)).To(Equal(before))
}

// receiver is an endpoint that verifies deliveries with Svix's own library, and fails the first attempt at each.
type receiver struct {
	mu       sync.Mutex
	attempts map[string]int
	received []string
}

func (r *receiver) ServeHTTP(w http.ResponseWriter, request *http.Request) {
	verifier, err := svix.NewWebhook(secret)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	body, err := io.ReadAll(request.Body)
	if err == nil {
		err = verifier.Verify(body, request.Header)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	id := request.Header.Get("svix-id")
	if r.attempts[id]++; r.attempts[id] == 1 {
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	r.received = append(r.received, id)
}

func TestDeliver(t *testing.T) {
	const events = 15
	for name, trouble := range map[string]clerkfake.Trouble{
		"no trouble":   {},
		"much trouble": {Seed: 7, Loss: 0.2, Duplicate: 0.3, Reorder: true},
		"with delays":  {Seed: 7, Loss: 0.2, Duplicate: 0.3, Reorder: true, MaxDelay: 5 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			g := NewWithT(t)
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			c := newClerk()
			g.Expect(c.Deliver(ctx, delivery.Sender{}, trouble)).To(BeEmpty())
			createUsers(c, events)
			endpoint := &receiver{attempts: map[string]int{}}
			server := httptest.NewServer(endpoint)
			t.Cleanup(server.Close)
			lost, err := c.Deliver(ctx, delivery.Sender{URL: server.URL, Secret: secret}, trouble)
			g.Expect(err).NotTo(HaveOccurred())
			g.Expect(c.TakeEvents()).To(BeEmpty())

			sent, wouldBeLost := clerkfake.Arrange(make([]clerkfake.Event, events), trouble)
			g.Expect(lost).To(HaveLen(len(wouldBeLost)))
			g.Expect(endpoint.received).To(HaveLen(len(sent)))
			for _, event := range lost {
				g.Expect(endpoint.attempts).NotTo(HaveKey(event.Message.ID))
			}
		})
	}
}

func TestDeliver_contextEnds(t *testing.T) {
	g := NewWithT(t)
	server := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(server.Close)
	c := newClerk()
	createUsers(c, 20)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	lost, err := c.Deliver(ctx, delivery.Sender{URL: server.URL, Secret: secret}, clerkfake.Trouble{MaxDelay: time.Millisecond})
	g.Expect(err).To(MatchError(context.DeadlineExceeded))
	g.Expect(err).To(MatchError(HavePrefix("delivering user.created of 2026-03-01T12:00:00")))
	g.Expect(lost).To(BeEmpty())
}
