// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package clerkfake

import (
	"cmp"
	"crypto/rand"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/clerk-operator/clerk-operator/test/payload"
)

// Config says what instance a Clerk is.
type Config struct {
	// InstanceID is a new one when empty.
	InstanceID string
	// SecretKey authenticates requests to the Backend API; it is a new one when empty.
	SecretKey string
	// EnvironmentType is development when empty.
	EnvironmentType string
	// Now is Clerk's clock; nil is time.Now.
	Now func() time.Time
}

// Clerk is one Clerk instance. It is safe for concurrent use, but a function that a method is given must not call it
// back, except for Quietly's.
type Clerk struct {
	now  func() time.Time
	born time.Time

	mu              sync.Mutex
	instanceID      string
	secretKey       string
	environmentType string

	last          time.Time
	users         table[User]
	organizations table[Organization]
	memberships   table[Membership]
	// members are the IDs of the memberships by organization and user.
	members map[string]map[string]string
	// subscriptions are by the ID of the organization or the user who pays.
	subscriptions map[string]*payload.Subscription

	quiet   int
	cascade bool
	events  []Event

	faults   []*Fault
	requests []*Request
}

// New returns an instance with nothing in it.
func New(config Config) *Clerk {
	c := &Clerk{
		now:             config.Now,
		instanceID:      cmp.Or(config.InstanceID, payload.NewID("ins")),
		secretKey:       cmp.Or(config.SecretKey, "sk_test_"+rand.Text()),
		environmentType: cmp.Or(config.EnvironmentType, "development"),
		members:         map[string]map[string]string{},
		subscriptions:   map[string]*payload.Subscription{},
	}
	if c.now == nil {
		c.now = time.Now
	}
	c.born = milliseconds(c.now())
	return c
}

// InstanceID returns the instance's ID.
func (c *Clerk) InstanceID() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.instanceID
}

// SecretKey returns the key that the Backend API accepts.
func (c *Clerk) SecretKey() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.secretKey
}

// SetInstance makes it another instance, with another key, or both; what is empty stays as it is. The state stays.
func (c *Clerk) SetInstance(id, secretKey string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.instanceID = cmp.Or(id, c.instanceID)
	c.secretKey = cmp.Or(secretKey, c.secretKey)
}

// tick returns the time of a change: now, but always a millisecond later than the last one, so that it runs ahead of
// the clock when there is more than one change a millisecond.
func (c *Clerk) tick() time.Time {
	now := milliseconds(c.now())
	if !now.After(c.last) {
		now = c.last.Add(time.Millisecond)
	}
	c.last = now
	return now
}

// milliseconds is a time as Clerk tells it.
func milliseconds(t time.Time) time.Time { return t.UTC().Truncate(time.Millisecond) }

// given is a time that the caller chose, or the other one.
func given(t, otherwise time.Time) time.Time {
	if t.IsZero() {
		return otherwise
	}
	return milliseconds(t)
}

// table holds objects in the order of their creation. An object is never changed, only replaced, so whoever read one
// may keep it.
type table[T any] struct {
	ids  []string
	byID map[string]*T
}

// add puts a new object at the end.
func (t *table[T]) add(id string, object *T) {
	if t.byID == nil {
		t.byID = map[string]*T{}
	}
	if _, ok := t.byID[id]; ok {
		panic(fmt.Sprintf("clerkfake: %q is there already", id))
	}
	t.ids = append(t.ids, id)
	t.byID[id] = object
}

// must returns an object that the caller knows to be there.
func (t *table[T]) must(id string) *T {
	object, ok := t.byID[id]
	if !ok {
		panic(fmt.Sprintf("clerkfake: there is no %q", id))
	}
	return object
}

func (t *table[T]) remove(ids ...string) {
	for _, id := range ids {
		delete(t.byID, id)
	}
	t.ids = slices.DeleteFunc(t.ids, func(id string) bool { return t.byID[id] == nil })
}

func (t *table[T]) all() []*T {
	objects := make([]*T, len(t.ids))
	for i, id := range t.ids {
		objects[i] = t.byID[id]
	}
	return objects
}

// copied returns a deep copy of what JSON can hold.
func copied[V any](value V) V {
	switch value := any(value).(type) {
	case map[string]any:
		if value == nil {
			break
		}
		copies := make(map[string]any, len(value))
		for key, element := range value {
			copies[key] = copied(element)
		}
		return any(copies).(V)
	case []any:
		copies := make([]any, len(value))
		for i, element := range value {
			copies[i] = copied(element)
		}
		return any(copies).(V)
	}
	return value
}
