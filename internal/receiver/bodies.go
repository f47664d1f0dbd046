// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package receiver

import (
	"container/list"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

var (
	// errTooLarge says that a body is larger than maxBody, or that its sender declares so.
	errTooLarge = errors.New("the body is too large")
	// errTooSlow says that a body did not arrive in time.
	errTooSlow = errors.New("the body did not arrive in time")
	// errCut says that the bodies that are not verified yet hold more than their budget, and that this one has been
	// arriving longest.
	errCut = errors.New("too many bodies arrive")
)

// bodies are those of requests that nothing has proven to be Clerk's yet. Their budget is of bytes that have arrived: a
// length that a request declares reserves nothing. At the budget, the body that has been arriving longest is cut: a genuine
// one arrives within milliseconds.
type bodies struct {
	budget  int64
	timeout time.Duration
	held    prometheus.Gauge

	mu    sync.Mutex
	bytes int64
	// arriving are the *body that can be cut, the first to begin at the front.
	arriving list.List
}

// body is one that arrives.
type body struct {
	of     *bodies
	source io.Reader
	// control interrupts a read that waits.
	control *http.ResponseController

	// The rest is guarded by the mutex of bodies. The place is nil for a body that cannot be cut any more.
	place *list.Element
	bytes int64
	cut   bool
}

// read reads the body of a request, and passes it to verify when it has arrived completely. It counts until verify returns.
// The errors are errTooLarge, errTooSlow, errCut, what the connection failed with, and those of verify.
func (b *bodies) read(w http.ResponseWriter, r *http.Request, verify func(content []byte) error) error {
	arriving := &body{of: b, source: http.MaxBytesReader(w, r.Body, maxBody), control: http.NewResponseController(w)}
	// A test's recorder has no deadline, and nothing to wait for.
	_ = arriving.control.SetReadDeadline(time.Now().Add(b.timeout))
	b.begin(arriving)
	defer b.release(arriving)
	content, err := io.ReadAll(arriving)
	tooLarge := new(http.MaxBytesError)
	switch cut := b.end(arriving); {
	case cut:
		return errCut
	case errors.As(err, &tooLarge):
		return errTooLarge
	case errors.Is(err, os.ErrDeadlineExceeded):
		return errTooSlow
	case err != nil:
		return fmt.Errorf("reading the body: %w", err)
	}
	// net/http takes the deadline away when it has read the end of the body.
	return verify(content)
}

// Read reads what arrives, and counts it.
func (a *body) Read(p []byte) (int, error) {
	n, err := a.source.Read(p)
	if !a.of.add(a, int64(n)) {
		return n, errCut
	}
	return n, err
}

func (b *bodies) begin(a *body) {
	b.mu.Lock()
	defer b.mu.Unlock()
	a.place = b.arriving.PushBack(a)
}

// add counts what arrived of a body, and reports whether there is still room for it.
func (b *bodies) add(a *body, n int64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if a.cut {
		return false
	}
	a.bytes += n
	b.count(n)
	for b.bytes > b.budget && b.arriving.Len() > 0 {
		b.cut(b.arriving.Front().Value.(*body))
	}
	return !a.cut
}

// cut gives up a body, whose reader finds that out at once.
func (b *bodies) cut(a *body) {
	b.forget(a)
	a.cut = true
	b.count(-a.bytes)
	_ = a.control.SetReadDeadline(time.Now())
}

// end says that a body arrives no more, and reports whether it was cut.
func (b *bodies) end(a *body) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.forget(a)
	return a.cut
}

// release gives the room of a body back.
func (b *bodies) release(a *body) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.forget(a)
	if !a.cut {
		b.count(-a.bytes)
	}
}

func (b *bodies) forget(a *body) {
	if a.place != nil {
		b.arriving.Remove(a.place)
		a.place = nil
	}
}

func (b *bodies) count(n int64) {
	b.bytes += n
	b.held.Set(float64(b.bytes))
}
