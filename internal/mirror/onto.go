// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package mirror

import (
	"context"
	"errors"
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/util/retry"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	clerkv1alpha1 "github.com/clerk-operator/clerk-operator/api/v1alpha1"
	"github.com/clerk-operator/clerk-operator/internal/clerk"
)

// conflictBackoff bounds how often, and for how long, a write that rests on a read is made again because another writer was
// faster.
var conflictBackoff = wait.Backoff{Steps: 12, Duration: 2 * time.Millisecond, Factor: 1.5, Jitter: 1}

// noVersion is a resource version that no stored object has: the first revision of an etcd is that of the empty one. An apply
// with it creates an object, and is a conflict where there is one.
const noVersion = "1"

// onLatest makes a write that rests on what is stored, nil for nothing. What the cache holds will do where it comes to a write,
// which is a conflict if another version is stored. Anything else is decided on what is stored, unless that is listed just so.
func (m *Mirror) onLatest(
	ctx context.Context, listed *Listed, kind clerk.Kind, instanceName, id string,
	write func(stored Object) (Result, error),
) (Result, error) {
	cached, err := m.Get(ctx, kind, instanceName, id)
	if err != nil {
		return "", err
	}
	if cached != nil {
		result, err := write(cached)
		if err == nil && result == Applied || err != nil && !isDecision(err) {
			return result, err
		}
		confirmed, unlisted := listed.confirms(ctx, cached)
		if unlisted != nil {
			return "", unlisted
		}
		if confirmed && !apierrors.IsConflict(err) {
			return result, err
		}
	}
	return m.onStored(ctx, kind, instanceName, id, write)
}

// isDecision reports whether an error says something of what is stored, and not that it could not be read or written.
func isDecision(err error) bool {
	refused := new(RefusedError)
	return errors.As(err, &refused) || errors.Is(err, ErrNoPayer) || apierrors.IsConflict(err)
}

// onStored makes a write that rests on what is stored, nil for nothing, and makes it again on what is stored by then as long
// as another writer was faster, which is a conflict.
func (m *Mirror) onStored(
	ctx context.Context, kind clerk.Kind, instanceName, id string, write func(stored Object) (Result, error),
) (Result, error) {
	var result Result
	err := retry.RetryOnConflict(conflictBackoff, func() error {
		stored, err := m.GetLive(ctx, kind, instanceName, id)
		if err != nil {
			return err
		}
		result, err = write(stored)
		return err
	})
	if apierrors.IsConflict(err) {
		return "", fmt.Errorf("writing %s: other writers were faster each time: %w", id, err)
	}
	return result, err
}

// applyOnto stores a state that rests on what is stored: one that leaves out a flag that takes access away, which must be
// neither lifted nor kept from a replica that sets it in this moment, or one that must not create anything.
func (m *Mirror) applyOnto(ctx context.Context, o *clerk.Object) (Result, error) {
	return m.onStored(ctx, o.Kind, o.InstanceName, o.ID, func(stored Object) (Result, error) {
		return m.applyTo(ctx, o, stored)
	})
}

// applyTo stores a state on exactly the object that was read. A conflict says that it is no longer so.
func (m *Mirror) applyTo(ctx context.Context, o *clerk.Object, stored Object) (Result, error) {
	switch {
	case stored == nil && o.UpdateOnly:
		return Ignored, nil
	case stored == nil:
		o = o.Completed(nil)
		o.Meta.WithResourceVersion(noVersion)
		return m.applyExactly(ctx, o)
	case stored.GetClerkID() != o.ID:
		return "", nameTaken(o.ID)
	case !stored.GetDeletionTimestamp().IsZero() && o.UpdateOnly:
		// Sent again when the object is gone, it would find nothing.
		return Ignored, nil
	case !stored.GetDeletionTimestamp().IsZero():
		return "", fmt.Errorf("applying %s: %w", o.ID, ErrTerminating)
	case older(o, stored.GetMirrored()):
		return Stale, nil
	}
	o = completed(o, stored)
	if known, err := recognize(o, stored); err != nil || known {
		return Unchanged, err
	}
	o.Meta.WithUID(stored.GetUID()).WithResourceVersion(stored.GetResourceVersion())
	return m.applyExactly(ctx, o)
}

// applyExactly applies a state whose metadata says what it is applied to. What is stored is known, so a refusal is of the
// state itself.
func (m *Mirror) applyExactly(ctx context.Context, o *clerk.Object) (Result, error) {
	before := ptr.Deref(o.Meta.ResourceVersion, "")
	err := m.client.Apply(ctx, o.Apply, client.FieldOwner(FieldOwner), client.ForceOwnership)
	switch {
	case refusesState(err):
		return "", &RefusedError{Reason: ReasonInvalid, cause: err}
	case err != nil:
		return "", fmt.Errorf("applying %s: %w", o.ID, err)
	case ptr.Deref(o.Meta.ResourceVersion, "") == before:
		return Unchanged, nil
	}
	return Applied, nil
}

// completed returns an object with what its state leaves out as it is stored.
func completed(o *clerk.Object, stored Object) *clerk.Object {
	user, _ := stored.(*clerkv1alpha1.ClerkUser)
	return o.Completed(user)
}

// RequestResync marks a mirrored object to be read from Clerk again because of an event, and stores nothing else. A request
// that is there already, of another delivery of the event, is not repeated.
func (m *Mirror) RequestResync(ctx context.Context, instanceName, id string, eventTime time.Time) (Result, error) {
	kind, ok := clerk.KindOf(id)
	if !ok {
		return "", &RefusedError{Reason: ReasonInvalid, cause: fmt.Errorf("%q is no Clerk ID", id)}
	}
	if dead, err := m.isDeleted(ctx, nil, instanceName, id); err != nil || dead {
		return Stale, err
	}
	return m.onLatest(ctx, nil, kind, instanceName, id, func(stored Object) (Result, error) {
		return m.annotate(ctx, id, stored, clerk.ResyncRequest(eventTime))
	})
}

// annotate writes a request for a resync to exactly the object that was read.
func (m *Mirror) annotate(ctx context.Context, id string, stored Object, request string) (Result, error) {
	switch {
	case stored == nil || !stored.GetDeletionTimestamp().IsZero():
		return Ignored, nil
	case stored.GetClerkID() != id:
		return "", nameTaken(id)
	case stored.GetAnnotations()[clerkv1alpha1.AnnotationResyncRequestedAt] == request:
		return Unchanged, nil
	}
	marked := stored.DeepCopyObject().(Object)
	annotations := marked.GetAnnotations()
	if annotations == nil {
		annotations = map[string]string{}
	}
	annotations[clerkv1alpha1.AnnotationResyncRequestedAt] = request
	marked.SetAnnotations(annotations)
	patch := client.MergeFromWithOptions(stored, client.MergeFromWithOptimisticLock{})
	err := m.client.Patch(ctx, marked, patch, client.FieldOwner(FieldOwner))
	switch {
	case apierrors.IsNotFound(err):
		return Ignored, nil
	case err != nil:
		return "", fmt.Errorf("requesting a resync of %s: %w", id, err)
	}
	return Applied, nil
}
