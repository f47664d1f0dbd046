// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package clerkfake

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"time"
)

// Fault is something wrong with the Backend API. A request meets every fault that its path matches.
type Fault struct {
	// Path is how the URL's path begins; empty is every one.
	Path string
	// Times is how many requests meet it; 0 is all of them until it is removed.
	Times int

	// Status answers with that code and an error of Clerk's; 0 does not.
	Status int
	// Body answers with that, verbatim, and with the code 200 if Status is 0.
	Body string
	// RetryAfter is the header of that name, in whatever is answered.
	RetryAfter string

	// Truncate sends only the first half of the answer, and a Content-Length that fits.
	Truncate bool
	// EmptyLists makes lists empty, their total count included.
	EmptyLists bool
	// RepeatPages answers every page of a list with the first one.
	RepeatPages bool
	// Skip leaves objects out of lists and their total count, as if they were not there.
	Skip func(id string) bool
	// Edit changes an object of a list before it is sent; nil sends null in its place.
	Edit func(id string, entry map[string]any) map[string]any

	// Delay and Block hold the answer that long, and until the channel is closed; no longer than the client waits.
	Delay time.Duration
	Block <-chan struct{}
}

// Inject makes requests meet a fault until it is removed.
func (c *Clerk) Inject(fault Fault) (remove func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	injected := &fault
	c.faults = append(c.faults, injected)
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.faults = slices.DeleteFunc(c.faults, func(f *Fault) bool { return f == injected })
	}
}

// ClearFaults removes every fault. Requests that a fault holds are still held.
func (c *Clerk) ClearFaults() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.faults = nil
}

// met are the faults that a request met.
type met []Fault

// meet returns the faults that a request for a path meets, and counts it.
func (c *Clerk) meet(path string) met {
	c.mu.Lock()
	defer c.mu.Unlock()
	var faults met
	c.faults = slices.DeleteFunc(c.faults, func(fault *Fault) bool {
		if !strings.HasPrefix(path, fault.Path) {
			return false
		}
		faults = append(faults, *fault)
		last := fault.Times == 1
		fault.Times = max(0, fault.Times-1)
		return last
	})
	return faults
}

// hold waits as long as the faults say, and reports whether anybody is still waiting for the answer.
func (m met) hold(ctx context.Context) bool {
	for _, fault := range m {
		if fault.Delay > 0 {
			select {
			case <-ctx.Done():
			case <-time.After(fault.Delay):
			}
		}
		if fault.Block != nil {
			select {
			case <-ctx.Done():
			case <-fault.Block:
			}
		}
	}
	return ctx.Err() == nil
}

// answer returns what the first fault that answers a request answers.
func (m met) answer() (*answer, bool) {
	for _, fault := range m {
		switch {
		case fault.Body != "" && fault.Status == 0:
			return &answer{status: http.StatusOK, body: []byte(fault.Body)}, true
		case fault.Body != "":
			return &answer{status: fault.Status, body: []byte(fault.Body)}, true
		case fault.Status == http.StatusTooManyRequests:
			return refuse(fault.Status, "too_many_requests", "Too many requests", "Too many requests, retry later").answer(), true
		case fault.Status != 0:
			return refuse(fault.Status, "fault", http.StatusText(fault.Status), "A fault that was injected").answer(), true
		}
	}
	return nil, false
}

func (m met) retryAfter() string {
	for _, fault := range m {
		if fault.RetryAfter != "" {
			return fault.RetryAfter
		}
	}
	return ""
}

func (m met) truncates() bool {
	return slices.ContainsFunc(m, func(f Fault) bool { return f.Truncate })
}

// position is where a page begins that should begin there.
func (m met) position(asked int) int {
	if slices.ContainsFunc(m, func(f Fault) bool { return f.RepeatPages }) {
		return 0
	}
	return asked
}

// leavesOut says whether lists are without an object.
func (m met) leavesOut(id string) bool {
	return slices.ContainsFunc(m, func(f Fault) bool { return f.EmptyLists || f.Skip != nil && f.Skip(id) })
}

// edit returns an object of a list as it is sent.
func (m met) edit(id string, entry object) object {
	for _, fault := range m {
		if fault.Edit != nil {
			entry = fault.Edit(id, entry)
		}
	}
	return entry
}

// Without returns a fault's Edit that takes a field from the entries of some IDs.
func Without(field string, ids ...string) func(string, map[string]any) map[string]any {
	return func(id string, entry map[string]any) map[string]any {
		if slices.Contains(ids, id) {
			delete(entry, field)
		}
		return entry
	}
}
