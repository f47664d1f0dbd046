// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package receiver

import "time"

const (
	// maxBody is the largest body that is read, in bytes. Svix sends at most about 350 kB.
	maxBody = 1 << 20
	// maxHeader is the largest header that is read, in bytes.
	maxHeader = 64 << 10
	// maxRequests bounds the requests that are read and verified at once, and with maxBody the memory that strangers
	// can make the receiver hold.
	maxRequests = 128
	// maxWrites bounds the verified deliveries that are being written at once, so that a burst does not become a
	// burst of the same size on the API server.
	maxWrites = 64

	// Svix gives a delivery up after 15 s, so the whole way of a request must be shorter.
	readHeaderTimeout = 3 * time.Second
	readTimeout       = 6 * time.Second
	writeTimeout      = 15 * time.Second
	idleTimeout       = 90 * time.Second
	// processTimeout bounds the work on a verified delivery.
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
