// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"math/rand/v2"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"
)

// schedule says when objects are due again, each once in an interval. What it has not seen before is due at some time
// within the interval, so that a restart does not make everything due at once.
type schedule struct {
	clock    clock.PassiveClock
	interval time.Duration

	mu  sync.Mutex
	due map[types.UID]time.Time
}

func newSchedule(c clock.PassiveClock, interval time.Duration) *schedule {
	return &schedule{clock: c, interval: interval, due: map[types.UID]time.Time{}}
}

// isDue says whether an object is due.
func (s *schedule) isDue(uid types.UID) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.clock.Now()
	if _, seen := s.due[uid]; !seen {
		s.due[uid] = now.Add(rand.N(s.interval)) //nolint:gosec // it spreads load and guards nothing
	}
	return !now.Before(s.due[uid])
}

// done makes an object due in an interval.
func (s *schedule) done(uid types.UID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.due[uid] = s.clock.Now().Add(s.interval)
}

// expire makes an object due now.
func (s *schedule) expire(uid types.UID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.due[uid] = s.clock.Now()
}

// forget drops an object that is gone.
func (s *schedule) forget(uid types.UID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.due, uid)
}
