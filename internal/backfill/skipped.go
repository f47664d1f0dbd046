// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package backfill

import (
	"context"
	"errors"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/log"

	clerkv1alpha1 "github.com/clerk-operator/clerk-operator/api/v1alpha1"
	"github.com/clerk-operator/clerk-operator/internal/clerk"
	"github.com/clerk-operator/clerk-operator/internal/clerkapi"
	"github.com/clerk-operator/clerk-operator/internal/mirror"
)

const (
	// maxLogged is how many of the entries that a run skips are in the log.
	maxLogged = 100
	// maxRejected is how many objects the API server may reject in a run before that is a matter of the cluster's
	// configuration and not of these objects.
	maxRejected = 20
)

// Reasons of skipped entries, beside those of packages clerk and mirror.
const (
	// reasonInvalidResponse says that Clerk was asked for just this object, and the response is not what Clerk documents.
	reasonInvalidResponse = "InvalidResponse"
	// reasonRejected says that the API server or an admission policy rejects the object.
	reasonRejected = "Rejected"
	// reasonNewerStored says that a state is stored whose time Clerk has not come to yet.
	reasonNewerStored = "NewerStateStored"
)

func skippedEntry(kind clerk.Kind, id, reason string) clerkv1alpha1.SkippedEntry {
	return clerkv1alpha1.SkippedEntry{Kind: kind.ObjectKind(), ID: id, Reason: reason}
}

// SkipInvalid counts and names the entries of a listing that cannot be used.
func (r *Run) SkipInvalid(ctx context.Context, kind clerk.Kind, entries []clerkapi.Entry) {
	for _, entry := range entries {
		if entry.Reason != "" {
			r.skip(ctx, skippedEntry(kind, entry.ID, entry.Reason))
		}
	}
}

// skip counts and names what the run does not store, or not in full. What has an ID counts once, however often it is
// listed.
func (r *Run) skip(ctx context.Context, entry clerkv1alpha1.SkippedEntry) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if entry.ID != "" && r.skipped.Has(entry) {
		return
	}
	r.skipped.Insert(entry)
	r.outcome.Skipped++
	if len(r.outcome.SkippedEntries) < clerkv1alpha1.MaxSkipped {
		r.outcome.SkippedEntries = append(r.outcome.SkippedEntries, entry)
	}
	if r.outcome.Skipped <= maxLogged {
		log.FromContext(ctx).Info("Skipped an entry of Clerk, or stored it without a field; see docs/backfill.md",
			"kind", entry.Kind, "id", entry.ID, "reason", entry.Reason)
	}
}

// pass counts and names an object that cannot be written, and returns nil; or the error, where that is not about this
// object alone.
func (r *Run) pass(ctx context.Context, kind clerk.Kind, id string, err error) error {
	refused := new(mirror.RefusedError)
	switch {
	case err == nil:
		return nil
	case errors.As(err, &refused):
		r.skip(ctx, skippedEntry(kind, id, refused.Reason))
		return nil
	case isRejection(err) && r.reject(id):
		// Not the rejection's own words, which can quote the object.
		log.FromContext(ctx).Info("The API server rejected an object", "id", id, "reason", apierrors.ReasonForError(err))
		r.skip(ctx, skippedEntry(kind, id, reasonRejected))
		return nil
	}
	return err
}

// reject notes an object that the API server rejected, and reports whether the run goes on without it.
func (r *Run) reject(id string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.rejected.Has(id) && r.rejected.Len() >= maxRejected {
		return false
	}
	r.rejected.Insert(id)
	return true
}

// isRejection reports whether an error can be about one object and what it says, as a third party's admission policy or
// webhook makes them; it may as well be about all objects.
func isRejection(err error) bool {
	return apierrors.IsForbidden(err) || apierrors.IsInvalid(err) || apierrors.IsBadRequest(err) ||
		apierrors.IsRequestEntityTooLargeError(err)
}
