// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package receiver

import "time"

// Limits bound what the receiver holds for senders that nothing has proven to be Clerk.
type Limits struct {
	// Connections is how many are open at once, from MinConnections to MaxConnections. At the limit, a new one takes the
	// place of the one that has been idle or silent longest.
	Connections int
	// UnverifiedBytes is how much of bodies that are not verified yet may have arrived, in bytes; at least MinUnverifiedBytes.
	// At the limit, the body that has been arriving longest is cut.
	UnverifiedBytes int64
	// BodyTimeout is how long a body may take.
	BodyTimeout time.Duration
}

// DefaultLimits are for the memory limit of config/manager. A genuine body has a few kilobytes, and an ingress sends it at
// once.
func DefaultLimits() Limits {
	return Limits{Connections: 2000, UnverifiedBytes: 32 << 20, BodyTimeout: 2 * time.Second}
}

const (
	// MinConnections is the least of Limits.Connections: twice as many as there are slots to share, whose connections are
	// not closed.
	MinConnections = 2 * maxSlots
	// MaxConnections is the most of Limits.Connections.
	MaxConnections = 1 << 16
	// MinUnverifiedBytes is the least of Limits.UnverifiedBytes: a few of the largest bodies.
	MinUnverifiedBytes = 4 * maxBody
)

const (
	// maxBody is the largest body that is read, in bytes. Svix sends at most about 350 kB.
	maxBody = 1 << 20
	// maxSlots bounds the verified deliveries that are worked on at once, beside one of each instance.
	maxSlots = 64
	// maxWaiting bounds what an instance's deliveries that wait for a slot hold, in bytes.
	maxWaiting = 8 << 20
	// overhead is about what a request holds beside its body, in bytes.
	overhead = 16 << 10

	// drainTimeout is how long what a refused sender still sends is thrown away, so that it can read the answer.
	drainTimeout = 500 * time.Millisecond
	// processTimeout bounds the work on a verified delivery. Svix gives a delivery up after 15 s, so the whole way of a
	// request must be shorter.
	processTimeout = 10 * time.Second

	// DrainTimeout bounds how long a shutdown waits for deliveries in flight. The manager's and the pod's grace
	// periods must be longer.
	DrainTimeout = 20 * time.Second

	// retryAfter is what a sender is told to wait, in seconds, when the fault is passing and ours.
	retryAfter = "10"

	// payerPatience is how old an event of a payer that is not mirrored may be before it is given up. Svix sends an event
	// for the sixth time about 8 hours after the first one, and for the seventh and eighth after 18 and 28: whatever held
	// the payer's own event up for less than a working day costs nothing.
	payerPatience = 12 * time.Hour

	// quietInterval is how often the log repeats what goes on being wrong.
	quietInterval = 10 * time.Second

	// tolerance is how far a delivery's timestamp may be from now. It is the time of the attempt, not of the event.
	tolerance = 5 * time.Minute
)
