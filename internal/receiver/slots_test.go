// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package receiver

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	. "github.com/onsi/gomega"
)

// crowd is an instance whose deliveries hold every slot that it can get.
const crowd = "crowd"

// crowded returns slots of which two are shared. The instance crowd holds these and its own, until each is released.
func crowded(g Gomega) (s *slots, release []func()) {
	s = newSlots(2)
	for range 3 {
		one, err := s.acquire(context.Background(), crowd, 1)
		g.Expect(err).NotTo(HaveOccurred())
		release = append(release, one)
	}
	return s, release
}

// waiter is a delivery that asked for a slot.
type waiter struct {
	got     bool
	err     error
	release func()
}

// wait asks for a slot, and returns when the waiter has one, or waits for one.
func (s *slots) wait(ctx context.Context, instanceName string, size int) *waiter {
	w := &waiter{}
	go func() {
		w.release, w.err = s.acquire(ctx, instanceName, size)
		w.got = w.err == nil
	}()
	synctest.Wait()
	return w
}

// waitingBytes is what the waiting deliveries of crowd hold.
func (s *slots) waitingBytes() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lanes[crowd].waiting
}

func TestSlots_whileAnInstanceHoldsAllSharedOnes(t *testing.T) {
	for name, test := range map[string]func(ctx context.Context, g Gomega, s *slots, release []func()){
		"another has its own at once": func(ctx context.Context, g Gomega, s *slots, _ []func()) {
			g.Expect(s.wait(ctx, "quiet", maxBody).got).To(BeTrue())
			g.Expect(s.wait(ctx, "third", maxBody).got).To(BeTrue())
		},
		"another has only one of its own": func(ctx context.Context, g Gomega, s *slots, release []func()) {
			first := s.wait(ctx, "quiet", 1)
			second := s.wait(ctx, "quiet", 1)
			g.Expect(second).To(Equal(&waiter{}))
			first.release()
			synctest.Wait()
			g.Expect(second.got).To(BeTrue())
			// Whatever crowd releases of the shared ones is for every instance.
			third := s.wait(ctx, "quiet", 1)
			g.Expect(third.got).To(BeFalse())
			for _, one := range release {
				one()
			}
			synctest.Wait()
			g.Expect(third.got).To(BeTrue())
		},
		"its next delivery waits for one of them": func(ctx context.Context, g Gomega, s *slots, release []func()) {
			for _, one := range release {
				next := s.wait(ctx, crowd, 1)
				g.Expect(next).To(Equal(&waiter{}))
				one()
				synctest.Wait()
				g.Expect(next.got).To(BeTrue())
			}
		},
		"a slot that is released is the next one's at once": func(ctx context.Context, g Gomega, s *slots, release []func()) {
			release[0]()
			g.Expect(s.wait(ctx, crowd, maxBody).got).To(BeTrue())
			g.Expect(s.waitingBytes()).To(BeZero())
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := NewWithT(t)
				s, release := crowded(g)
				test(t.Context(), g, s, release)
			})
		})
	}
}

func TestSlots_boundWhatWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := NewWithT(t)
		s, release := crowded(g)
		// With its overhead it counts as much as the largest body.
		const large = maxBody - overhead
		ctx, leave := context.WithCancel(t.Context())
		for range maxWaiting / maxBody {
			g.Expect(s.wait(ctx, crowd, large)).To(Equal(&waiter{}))
		}
		g.Expect(s.waitingBytes()).To(Equal(maxWaiting))
		g.Expect(s.wait(ctx, crowd, 1).err).To(MatchError(errTooManyWait), "it is refused at once")
		g.Expect(s.waitingBytes()).To(Equal(maxWaiting), "what is refused does not count")
		g.Expect(s.wait(ctx, "quiet", maxBody).got).To(BeTrue(), "another instance has a bound of its own")

		release[0]()
		synctest.Wait()
		g.Expect(s.waitingBytes()).To(Equal(maxWaiting - maxBody))
		last := s.wait(ctx, crowd, large)
		g.Expect(last).To(Equal(&waiter{}), "there is room for another")
		leave()
		synctest.Wait()
		g.Expect(last.err).To(MatchError(context.Canceled))
		g.Expect(s.waitingBytes()).To(BeZero())
	})
}

func TestSlots_aDeliveryWaitsNoLongerThanItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := NewWithT(t)
		s, release := crowded(g)
		ctx, cancel := context.WithTimeout(t.Context(), processTimeout)
		defer cancel()
		start := time.Now()
		_, err := s.acquire(ctx, crowd, 1)
		g.Expect(err).To(MatchError(context.DeadlineExceeded))
		g.Expect(time.Since(start)).To(Equal(processTimeout))
		// It took no slot away.
		release[0]()
		g.Expect(s.wait(t.Context(), crowd, 1).got).To(BeTrue())
	})
}
