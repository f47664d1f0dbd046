// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package backfill

import (
	"cmp"
	"hash/fnv"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	clerkv1alpha1 "github.com/clerk-operator/clerk-operator/api/v1alpha1"
	"github.com/clerk-operator/clerk-operator/internal/clerk"
)

const (
	defaultIncremental = 15 * time.Minute
	defaultFull        = 24 * time.Hour
	// jitter is by how much of itself an interval is longer for one instance than for another, so that they do not all
	// ask Clerk at once.
	jitter = 0.1
)

// Due returns which sync of an instance is due next, and when.
func Due(config *clerkv1alpha1.ClerkInstance, now time.Time) (clerkv1alpha1.ClerkInstanceSyncType, time.Time) {
	last := config.Status.Sync
	interval := lengthened(config, incremental(config))
	switch {
	case last.LastFullTime == nil || last.LastTime == nil,
		last.LastFullUsers != UsersKey(config),
		Request(config) != "" && Request(config) != last.LastRequest,
		last.HeldDeletions != "" && config.Annotations[clerkv1alpha1.AnnotationReleasePrune] == last.HeldDeletions:
		return clerkv1alpha1.SyncFull, now
	}
	full := last.LastFullTime.Add(lengthened(config, cmp.Or(valueOf(config.Spec.BackendAPI.Sync.Full), defaultFull)))
	next := last.LastTime.Add(interval)
	if failedSince(config, last.LastFullTime.Time) && next.Before(full) {
		// A delivery that could not be used may have been about anything.
		full = next
	}
	if !full.After(next) {
		return clerkv1alpha1.SyncFull, full
	}
	return clerkv1alpha1.SyncIncremental, next
}

// incremental is how often an instance is read.
func incremental(config *clerkv1alpha1.ClerkInstance) time.Duration {
	return cmp.Or(valueOf(config.Spec.BackendAPI.Sync.Incremental), defaultIncremental)
}

// Overdue is when an instance that was last read successfully at a time has not been for too long: two intervals later.
func Overdue(config *clerkv1alpha1.ClerkInstance, last time.Time) time.Time {
	return last.Add(2 * lengthened(config, incremental(config)))
}

// UsersKey tells one configuration of what is mirrored of users from another.
func UsersKey(config *clerkv1alpha1.ClerkInstance) string {
	return string(config.UserMirror()) + "/" + string(config.UserProfile())
}

// Request is somebody's request for a sync now; empty for none.
func Request(config *clerkv1alpha1.ClerkInstance) string {
	request := config.Annotations[clerkv1alpha1.AnnotationResyncRequestedAt]
	return strings.ToValidUTF8(request[:min(len(request), 256)], "")
}

// failedSince reports whether a delivery could not be used since a time. One that was stored without a field does not count: a
// sync would read the same.
func failedSince(config *clerkv1alpha1.ClerkInstance, since time.Time) bool {
	for _, failure := range config.Status.Failures {
		if !failure.Time.Time.Before(since) && !clerk.IsNotStored(failure.Reason) {
			return true
		}
	}
	return false
}

func lengthened(config *clerkv1alpha1.ClerkInstance, interval time.Duration) time.Duration {
	digest := fnv.New32a()
	_, _ = digest.Write([]byte(config.UID)) // a hash never fails
	return interval + time.Duration(float64(interval)*jitter*float64(digest.Sum32()%1000)/1000)
}

func valueOf(d *metav1.Duration) time.Duration {
	if d == nil {
		return 0
	}
	return d.Duration
}
