// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package mirror writes the mirrored kinds. Whoever learns something of Clerk writes it through here, so that one
// place holds the order of events, the memory of deletions and the ownership of fields.
//
// The API server is the guard: a rule in each CRD refuses a state that is older than the stored one, so replicas need
// no lock and no memory of their own, and an identical state writes nothing.
package mirror

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	clerkv1alpha1 "github.com/clerk-operator/clerk-operator/api/v1alpha1"
	clerkv1alpha1ac "github.com/clerk-operator/clerk-operator/api/v1alpha1/applyconfiguration/api/v1alpha1"
	"github.com/clerk-operator/clerk-operator/internal/clerk"
)

// Selectable fields of the mirrored kinds, which are indexes of the manager's cache, too.
const (
	fieldUserID       = "spec.userID"
	fieldInstanceName = "spec.instanceName"
)

// FieldOwner owns the spec, the labels and the finalizer of every mirrored object, but for what BillingFieldOwner owns.
const FieldOwner = "clerk-operator/mirror"

// Result says what became of a state.
type Result string

// The results of writes.
const (
	// Applied says that the state is stored.
	Applied Result = "applied"
	// Unchanged says that the state was stored already.
	Unchanged Result = "unchanged"
	// Stale says that something newer is stored, or that the object is known to be deleted.
	Stale Result = "stale"
	// Ignored says that nothing is stored that the state, or the request, could be about.
	Ignored Result = "ignored"
)

// RefusedError says that a state can never be stored, however often it is tried. The reason is one CamelCase word.
type RefusedError struct {
	Reason string
	cause  error
}

func (e *RefusedError) Error() string { return fmt.Sprintf("refused (%s): %v", e.Reason, e.cause) }

func (e *RefusedError) Unwrap() error { return e.cause }

// Reasons of a RefusedError.
const (
	// ReasonNameTaken says that a Clerk ID of the instance which differs in case only has the object's name.
	ReasonNameTaken = "NameTaken"
	// ReasonInvalid says that the API server accepts no such object.
	ReasonInvalid = "Invalid"
)

// ErrTerminating says that an object of the same name is on its way out; the state can be stored when it is gone.
var ErrTerminating = errors.New("the object is being deleted")

// Object is an object of a mirrored kind.
type Object interface {
	client.Object
	GetMirrored() *clerkv1alpha1.Mirrored
	GetClerkID() string
}

// Mirror writes mirrored objects and tombstones.
type Mirror struct {
	client client.Client
	live   client.Reader
}

// New returns a mirror that reads from the client's cache. The cache may be behind, or hold what is no longer so: what it
// gives reason not to write is confirmed by live.
func New(c client.Client, live client.Reader) *Mirror {
	return &Mirror{client: c, live: live}
}

// Apply stores an object's state in one server-side apply, or in none if that very state is stored; a state that rests on
// what is stored is applied to exactly that, read live. It returns an error that is a *RefusedError when no retry can
// help, and any other when one can.
func (m *Mirror) Apply(ctx context.Context, o *clerk.Object) (Result, error) {
	if dead, err := m.isDead(ctx, nil, o); err != nil || dead {
		return Stale, err
	}
	if o.UpdateOnly || o.Incomplete() {
		return m.applyOnto(ctx, o)
	}
	before := NewObject(o.Kind)
	if err := m.client.Get(ctx, client.ObjectKey{Name: clerk.ObjectName(o.InstanceName, o.ID)}, before); client.IgnoreNotFound(err) != nil {
		return "", fmt.Errorf("reading %s: %w", o.ID, err)
	}
	if known, err := m.isStored(ctx, o, before); err != nil || known {
		return Unchanged, err
	}
	err := m.client.Apply(ctx, o.Apply, client.FieldOwner(FieldOwner), client.ForceOwnership)
	if refusesState(err) {
		return m.explain(ctx, o, err)
	}
	if err != nil {
		return "", fmt.Errorf("applying %s: %w", o.ID, err)
	}
	switch {
	case o.Meta.DeletionTimestamp != nil:
		return "", fmt.Errorf("applying %s: %w", o.ID, ErrTerminating)
	case ptr.Deref(o.Meta.ResourceVersion, "") == before.GetResourceVersion():
		return Unchanged, nil
	}
	return Applied, nil
}

// isDead reports whether an object, or one that it cannot outlive, is known to be deleted.
func (m *Mirror) isDead(ctx context.Context, listed *Listed, o *clerk.Object) (bool, error) {
	return m.isDeleted(ctx, listed, o.InstanceName, append([]string{o.ID}, o.Parents...)...)
}

// isDeleted reports whether any of an instance's IDs has a tombstone. That of the cache is confirmed by what is listed, or
// else by a live read.
func (m *Mirror) isDeleted(ctx context.Context, listed *Listed, instanceName string, ids ...string) (bool, error) {
	for _, id := range ids {
		tombstone, err := m.Tombstone(ctx, instanceName, id)
		if err != nil {
			return false, err
		}
		if tombstone == nil {
			continue
		}
		if confirmed, err := listed.confirms(ctx, tombstone); err != nil || confirmed {
			return confirmed, err
		}
		if deleted, err := Deleted(ctx, m.live, instanceName, id); err != nil || deleted {
			return deleted, err
		}
	}
	return false, nil
}

// isStored reports whether a state is stored already. That the cache has it is confirmed by a live read.
func (m *Mirror) isStored(ctx context.Context, o *clerk.Object, cached Object) (bool, error) {
	if known, err := recognize(o, cached); err != nil || !known {
		return false, err
	}
	stored, err := m.GetLive(ctx, o.Kind, o.InstanceName, o.ID)
	if err != nil || stored == nil {
		return false, err
	}
	return recognize(o, stored)
}

// recognize says whether a state is stored already. Which of two different states of the same version is newer nobody can
// tell but Clerk: it marks such a one to be read again.
func recognize(o *clerk.Object, stored Object) (bool, error) {
	version := stored.GetMirrored()
	if !o.UpdatedAt.Equal(version.UpdatedAt.Time) || !o.EventTime.Equal(version.EventTime.Time) {
		return false, nil
	}
	same, err := same(o, stored)
	if err == nil && !same {
		o.RequestResync()
	}
	return same && stored.GetDeletionTimestamp().IsZero(), err
}

// ApplyIfMissing stores a state where nothing is stored: for what is learned by the way, which is not worth a write for
// each event.
func (m *Mirror) ApplyIfMissing(ctx context.Context, o *clerk.Object) (Result, error) {
	stored, err := m.Get(ctx, o.Kind, o.InstanceName, o.ID)
	if err == nil && stored != nil {
		stored, err = m.GetLive(ctx, o.Kind, o.InstanceName, o.ID)
	}
	switch {
	case err != nil:
		return "", err
	case stored != nil:
		return Unchanged, nil
	}
	return m.Apply(ctx, o)
}

// HasMembership reports whether a membership of a user is stored, as far as the cache knows.
func (m *Mirror) HasMembership(ctx context.Context, instanceName, userID string) (bool, error) {
	return hasMembership(ctx, m.client, instanceName, userID)
}

// IsMember reports whether a user, or a membership of the user, is stored: a live read of the one and a live list of the
// others.
func (m *Mirror) IsMember(ctx context.Context, instanceName, userID string) (bool, error) {
	user, err := m.GetLive(ctx, clerk.KindUser, instanceName, userID)
	if err != nil || user != nil {
		return user != nil, err
	}
	return hasMembership(ctx, m.live, instanceName, userID)
}

func hasMembership(ctx context.Context, reader client.Reader, instanceName, userID string) (bool, error) {
	var memberships clerkv1alpha1.ClerkOrganizationMembershipList
	err := reader.List(ctx, &memberships, client.Limit(1), client.UnsafeDisableDeepCopy,
		client.MatchingFields{fieldUserID: userID, fieldInstanceName: instanceName})
	if err != nil {
		return false, fmt.Errorf("listing the memberships of %s: %w", userID, err)
	}
	return len(memberships.Items) > 0, nil
}

// Get returns the object that has the name of an instance's ID, as far as the cache knows; nil when there is none.
func (m *Mirror) Get(ctx context.Context, kind clerk.Kind, instanceName, id string) (Object, error) {
	object := NewObject(kind)
	err := m.client.Get(ctx, client.ObjectKey{Name: clerk.ObjectName(instanceName, id)}, object)
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", id, err)
	}
	return object, nil
}

// explain tells why the API server refused a state, by what is stored and not by the words of the refusal.
func (m *Mirror) explain(ctx context.Context, o *clerk.Object, refusal error) (Result, error) {
	stored := NewObject(o.Kind)
	err := m.live.Get(ctx, client.ObjectKey{Name: clerk.ObjectName(o.InstanceName, o.ID)}, stored)
	if apierrors.IsNotFound(err) {
		// Either no such object can be, or the one that stood in the way is gone by now.
		err = m.client.Apply(ctx, o.Apply, client.FieldOwner(FieldOwner), client.ForceOwnership)
		switch {
		case refusesState(err):
			return "", &RefusedError{Reason: ReasonInvalid, cause: err}
		case err != nil:
			return "", fmt.Errorf("applying %s: %w", o.ID, err)
		}
		return Applied, nil
	}
	if err != nil {
		return "", fmt.Errorf("reading %s: %w", o.ID, err)
	}
	version := stored.GetMirrored()
	switch {
	case stored.GetClerkID() != o.ID:
		return "", &RefusedError{Reason: ReasonNameTaken, cause: refusal}
	case !stored.GetDeletionTimestamp().IsZero():
		return "", fmt.Errorf("applying %s: %w", o.ID, ErrTerminating)
	case older(o, version):
		return Stale, nil
	}
	return "", &RefusedError{Reason: ReasonInvalid, cause: refusal}
}

// refusesState says whether an error is the refusal of what an object says, which names a field. An admission policy
// refuses with the same code and names none: that is a matter of the cluster's configuration, and the state is tried again.
func refusesState(err error) bool {
	status, ok := errors.AsType[*apierrors.StatusError](err)
	if !ok || !apierrors.IsInvalid(err) || status.ErrStatus.Details == nil {
		return false
	}
	return slices.ContainsFunc(status.ErrStatus.Details.Causes, func(cause metav1.StatusCause) bool { return cause.Field != "" })
}

func older(o *clerk.Object, stored *clerkv1alpha1.Mirrored) bool {
	if order := o.UpdatedAt.Compare(stored.UpdatedAt.Time); order != 0 {
		return order < 0
	}
	return o.EventTime.Before(stored.EventTime.Time)
}

// Delete remembers that an ID is deleted, and then deletes its object. Finalizers do the cleanup.
func (m *Mirror) Delete(ctx context.Context, instanceName, id string, at time.Time) (Result, error) {
	kind, ok := clerk.KindOf(id)
	if !ok {
		return "", &RefusedError{Reason: ReasonInvalid, cause: fmt.Errorf("%q is no Clerk ID", id)}
	}
	known, err := m.isDeleted(ctx, nil, instanceName, id)
	if err != nil {
		return "", err
	}
	object, err := m.find(ctx, kind, instanceName, id)
	if err != nil {
		return "", err
	}
	if object != nil && object.GetClerkID() != id {
		// It is another's, and so is what would be remembered under its name.
		return "", nameTaken(id)
	}
	var refusal error
	if !known {
		if refusal, err = m.bury(ctx, instanceName, id, at); err != nil {
			return "", err
		}
	}
	living := object != nil && object.GetDeletionTimestamp().IsZero()
	if living {
		err = DeleteObject(ctx, m.client, object)
	}
	switch {
	case err != nil:
		return "", err
	case refusal != nil:
		return "", refusal
	case known && !living:
		return Unchanged, nil
	}
	return Applied, nil
}

func nameTaken(id string) error {
	return &RefusedError{Reason: ReasonNameTaken, cause: fmt.Errorf("an ID that differs from %s in case only has its name", id)}
}

// find returns the object that has the name of an instance's ID, nil when there is none. That it is another ID's, is on its way
// out or is not there is read live.
func (m *Mirror) find(ctx context.Context, kind clerk.Kind, instanceName, id string) (Object, error) {
	object, err := m.Get(ctx, kind, instanceName, id)
	if err != nil || object != nil && object.GetClerkID() == id && object.GetDeletionTimestamp().IsZero() {
		return object, err
	}
	return m.GetLive(ctx, kind, instanceName, id)
}

// GetLive is Get without the cache.
func (m *Mirror) GetLive(ctx context.Context, kind clerk.Kind, instanceName, id string) (Object, error) {
	object := NewObject(kind)
	err := m.live.Get(ctx, client.ObjectKey{Name: clerk.ObjectName(instanceName, id)}, object)
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", id, err)
	}
	return object, nil
}

// bury writes the tombstone. That an ID which differs in case only has a tombstone of the name is a refusal and not an
// error: the object must go all the same.
func (m *Mirror) bury(ctx context.Context, instanceName, id string, at time.Time) (refusal, err error) {
	tombstone := clerkv1alpha1ac.ClerkTombstone(clerk.ObjectName(instanceName, id)).
		WithLabels(map[string]string{
			clerkv1alpha1.LabelManagedBy: clerkv1alpha1.ManagedBy,
			clerkv1alpha1.LabelInstance:  instanceName,
		}).
		WithSpec(clerkv1alpha1ac.ClerkTombstoneSpec().
			WithInstanceName(instanceName).
			WithID(id).
			WithDeletedAt(clerkv1alpha1.NewTimestamp(at)))
	err = m.client.Apply(ctx, tombstone, client.FieldOwner(FieldOwner), client.ForceOwnership)
	if refusesState(err) {
		return &RefusedError{Reason: ReasonNameTaken, cause: err}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("writing the tombstone of %s: %w", id, err)
	}
	return nil, nil
}

// DeleteObject deletes exactly the object that was read: one that took its name in the meantime is another.
func DeleteObject(ctx context.Context, c client.Writer, object client.Object) error {
	err := c.Delete(ctx, object, client.Preconditions{UID: new(object.GetUID())})
	if client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("deleting %s: %w", object.GetName(), err)
	}
	return nil
}

// Tombstone returns the tombstone that an instance has of an ID, as far as the cache knows; nil when there is none.
func (m *Mirror) Tombstone(ctx context.Context, instanceName, id string) (*clerkv1alpha1.ClerkTombstone, error) {
	return TombstoneOf(ctx, m.client, instanceName, id)
}

// Deleted reports whether any of an instance's IDs has a tombstone.
func Deleted(ctx context.Context, reader client.Reader, instanceName string, ids ...string) (bool, error) {
	tombstone, err := TombstoneOf(ctx, reader, instanceName, ids...)
	return tombstone != nil, err
}

// TombstoneOf reads the first tombstone that an instance has of any of the IDs; it returns nil when there is none.
func TombstoneOf(
	ctx context.Context, reader client.Reader, instanceName string, ids ...string,
) (*clerkv1alpha1.ClerkTombstone, error) {
	for _, id := range ids {
		tombstone := &clerkv1alpha1.ClerkTombstone{}
		err := reader.Get(ctx, client.ObjectKey{Name: clerk.ObjectName(instanceName, id)}, tombstone)
		switch {
		case client.IgnoreNotFound(err) != nil:
			return nil, fmt.Errorf("reading the tombstone of %s: %w", id, err)
		case err == nil && tombstone.Spec.ID == id: // and not one that differs in case only
			return tombstone, nil
		}
	}
	return nil, nil
}

// NewObject returns an empty object of a kind.
func NewObject(kind clerk.Kind) Object {
	switch kind {
	case clerk.KindUser:
		return &clerkv1alpha1.ClerkUser{}
	case clerk.KindOrganization:
		return &clerkv1alpha1.ClerkOrganization{}
	default:
		return &clerkv1alpha1.ClerkOrganizationMembership{}
	}
}
