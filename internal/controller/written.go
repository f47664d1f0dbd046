// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"maps"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/resourceversion"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// written remembers the status writes that the cache has not shown yet. A reconcile that reads an older object and finds
// its status right has found nothing: what it compares with is gone, and no watch tells of the own write.
//
// The client of controller-runtime can wait for that itself, but makes every list of a kind wait for every write of it.
type written struct {
	clock clock.PassiveClock

	mu       sync.Mutex
	versions map[types.UID]version
	// sweepAt is how many versions there may be before those are looked for that nobody will ask for.
	sweepAt int
}

type version struct {
	resourceVersion string
	at              time.Time
}

const (
	// sweepWritten is how many versions are always kept.
	sweepWritten = 1000
	// forgetWritten is how long a version counts: no cache that works is as far behind, and a write that was lost in a restore
	// of the API server's data is never shown.
	forgetWritten = 5 * time.Minute
)

func newWritten(c clock.PassiveClock) *written {
	return &written{clock: c, versions: map[types.UID]version{}, sweepAt: sweepWritten}
}

// note remembers the version of an object that was written.
func (w *written) note(o client.Object) {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := w.clock.Now()
	w.versions[o.GetUID()] = version{o.GetResourceVersion(), now}
	if len(w.versions) < w.sweepAt {
		return
	}
	// An object that is deleted after its last write is never read again.
	maps.DeleteFunc(w.versions, func(_ types.UID, v version) bool { return now.Sub(v.at) > forgetWritten })
	w.sweepAt = max(sweepWritten, 2*len(w.versions))
}

// isAhead reports whether an object was written after the version that was read, and forgets what has been read.
func (w *written) isAhead(read client.Object) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	last, ok := w.versions[read.GetUID()]
	if !ok {
		return false
	}
	order, err := resourceversion.CompareResourceVersion(read.GetResourceVersion(), last.resourceVersion)
	if err == nil && order < 0 && w.clock.Since(last.at) <= forgetWritten {
		return true
	}
	delete(w.versions, read.GetUID())
	return false
}
