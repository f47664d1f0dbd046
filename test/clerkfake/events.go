// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package clerkfake

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/clerk-operator/clerk-operator/internal/delivery"
)

const (
	// senders is how many events are on their way at once when they can be delayed.
	senders = 8
	// pause is how long an event waits for its next attempt.
	pause = 20 * time.Millisecond
)

// Event is a webhook event. Its body and its message ID are made once, whatever happens to it.
type Event struct {
	Message delivery.Message
	Type    string
	// Time is when the change was, the envelope's timestamp.
	Time time.Time
}

// announce queues the event of a change.
func (c *Clerk) announce(eventType string, at time.Time, data object) {
	if c.quiet > 0 {
		return
	}
	body, err := delivery.Event{Type: eventType, InstanceID: c.instanceID, Time: at, Data: data}.Body()
	if err != nil {
		panic(fmt.Sprintf("clerkfake: %s: %v", eventType, err))
	}
	c.events = append(c.events, Event{Message: delivery.NewMessage(body), Type: eventType, Time: at})
}

// CascadeEvents says whether the deletion of a user or an organization makes events of the memberships that end with
// it, before its own. Clerk's documents do not say whether it does; it starts as not.
func (c *Clerk) CascadeEvents(made bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cascade = made
}

// Quietly makes changes without events. Changes that are made elsewhere meanwhile have none either.
func (c *Clerk) Quietly(changes func()) {
	c.hush(1)
	defer c.hush(-1)
	changes()
}

func (c *Clerk) hush(by int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.quiet += by
}

// TakeEvents empties the queue, and returns what was in it in the order of the changes.
func (c *Clerk) TakeEvents() []Event {
	c.mu.Lock()
	defer c.mu.Unlock()
	events := c.events
	c.events = nil
	return events
}

// Trouble is what happens to events on their way. The same seed makes the same choices.
type Trouble struct {
	Seed uint64
	// Loss and Duplicate are the probabilities that an event never arrives and, if it does, that it arrives twice.
	Loss, Duplicate float64
	// Reorder shuffles the events, the second ones included, which otherwise follow the first ones at once.
	Reorder bool
	// MaxDelay holds every event up to that long, and some of them at the same time.
	MaxDelay time.Duration
}

// Arrange returns the events that are sent, in the order in which they are, and those that are lost.
func Arrange(events []Event, trouble Trouble) (sent, lost []Event) {
	random := rand.New(rand.NewPCG(trouble.Seed, 1))
	for _, event := range events {
		isLost, isTwice := random.Float64() < trouble.Loss, random.Float64() < trouble.Duplicate
		if isLost {
			lost = append(lost, event)
			continue
		}
		sent = append(sent, event)
		if isTwice {
			sent = append(sent, event)
		}
	}
	if trouble.Reorder {
		random.Shuffle(len(sent), func(i, j int) { sent[i], sent[j] = sent[j], sent[i] })
	}
	return sent, lost
}

// Deliver empties the queue and sends what was in it through the trouble, each event until it is delivered or the
// context ends; what was not delivered by then is gone. It returns what was lost on the way.
func (c *Clerk) Deliver(ctx context.Context, sender delivery.Sender, trouble Trouble) (lost []Event, err error) {
	type sending struct {
		Event
		delay time.Duration
	}
	sent, lost := Arrange(c.TakeEvents(), trouble)
	atOnce := 1
	if trouble.MaxDelay > 0 {
		atOnce = senders
	}
	sendings := make(chan sending)
	var running sync.WaitGroup
	var failed sync.Once
	for range atOnce {
		running.Go(func() {
			for next := range sendings {
				if failure := send(ctx, sender, next.Event, next.delay); failure != nil {
					failed.Do(func() { err = failure })
				}
			}
		})
	}
	random := rand.New(rand.NewPCG(trouble.Seed, 2))
	for _, event := range sent {
		sendings <- sending{event, time.Duration(random.Int64N(int64(max(0, trouble.MaxDelay)) + 1))}
	}
	close(sendings)
	running.Wait()
	return lost, err
}

func send(ctx context.Context, sender delivery.Sender, event Event, delay time.Duration) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(delay):
	}
	if _, err := sender.Deliver(ctx, event.Message, pause); err != nil {
		return fmt.Errorf("delivering %s of %s: %w", event.Type, event.Time.Format(time.RFC3339Nano), err)
	}
	return nil
}
