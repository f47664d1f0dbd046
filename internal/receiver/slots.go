// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package receiver

import (
	"context"
	"errors"
	"sync"
)

// errTooManyWait says that the deliveries of an instance that wait for a slot hold maxWaiting bytes.
var errTooManyWait = errors.New("too many deliveries of this instance wait")

// slots are for verified deliveries, so that a burst does not become a burst of the same size on the API server. Every
// instance has one of its own beside those that all share, so that another's burst delays its deliveries and no more.
type slots struct {
	shared chan struct{}

	mu sync.Mutex
	// lanes are by instance: there are as many as ClerkInstances that something verified was delivered to.
	lanes map[string]*lane
}

// lane is what slots hold for one instance.
type lane struct {
	own chan struct{}
	// waiting is what waiting deliveries hold, in bytes: each its body and overhead.
	waiting int
}

func newSlots(shared int) *slots {
	return &slots{shared: make(chan struct{}, shared), lanes: map[string]*lane{}}
}

// acquire waits for a slot for a delivery with a body of size bytes, until the context ends. The error is errTooManyWait
// or the context's.
func (s *slots) acquire(ctx context.Context, instanceName string, size int) (release func(), err error) {
	l, ok := s.enter(instanceName, size+overhead)
	if !ok {
		return nil, errTooManyWait
	}
	defer s.leave(l, size+overhead)
	select {
	case l.own <- struct{}{}:
		return func() { <-l.own }, nil
	case s.shared <- struct{}{}:
		return func() { <-s.shared }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// enter lets a delivery wait, and reports whether there is room for it.
func (s *slots) enter(instanceName string, size int) (*lane, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.lanes[instanceName]
	if l == nil {
		l = &lane{own: make(chan struct{}, 1)}
		s.lanes[instanceName] = l
	}
	if l.waiting+size > maxWaiting {
		return nil, false
	}
	l.waiting += size
	return l, true
}

func (s *slots) leave(l *lane, size int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l.waiting -= size
}
