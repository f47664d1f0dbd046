// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package clerk

import (
	"maps"
	"time"

	"k8s.io/apimachinery/pkg/runtime"
	metav1ac "k8s.io/client-go/applyconfigurations/meta/v1"
	"k8s.io/utils/ptr"

	clerkv1alpha1 "github.com/clerk-operator/clerk-operator/api/v1alpha1"
	clerkv1alpha1ac "github.com/clerk-operator/clerk-operator/api/v1alpha1/applyconfiguration/api/v1alpha1"
)

// Source says where state comes from.
type Source struct {
	// InstanceName is the name of the ClerkInstance.
	InstanceName string
	// Profile says how much of a user is stored.
	Profile clerkv1alpha1.UserProfile
	// EventTime is when Clerk made the event that carried the state, or when the state was read.
	EventTime time.Time
	// UpdateOnly reports that the state is from an event of an unknown type.
	UpdateOnly bool
}

// Object is one object of the mirror as it should be.
type Object struct {
	// Kind and ID name the object.
	Kind Kind
	ID   string
	// Parents are the IDs of the objects that this one cannot outlive.
	Parents []string
	// InstanceName is the name of the ClerkInstance that the state comes from.
	InstanceName string
	// UpdatedAt and EventTime are the version of the state.
	UpdatedAt, EventTime time.Time
	// UpdateOnly reports that the state updates what is mirrored and creates nothing.
	UpdateOnly bool
	// Dropped names what Clerk sent and the cluster could not hold, such as publicMetadata.
	Dropped []string
	// Apply is the object's desired state: name, labels, finalizers and spec. It is complete, unless Incomplete.
	Apply runtime.ApplyConfiguration
	// Meta is the metadata of Apply: after an apply, what the API server answered.
	Meta *metav1ac.ObjectMetaApplyConfiguration
}

// Object returns the object that the event asks for; nil for a deletion, a subscription or a type that is not mirrored.
func (e *Event) Object(source Source) *Object {
	source.EventTime, source.UpdateOnly = e.Time, e.UpdateOnly
	switch {
	case e.User != nil:
		return e.User.Object(source)
	case e.Organization != nil:
		return e.Organization.Object(source)
	case e.Membership != nil:
		return e.Membership.Object(source)
	}
	return nil
}

// Object maps a user to its ClerkUser.
func (u *User) Object(source Source) *Object {
	o := newObject(KindUser, u.ID, source, u.CreatedAt, u.UpdatedAt)
	spec := clerkv1alpha1ac.ClerkUserSpec().WithUserID(u.ID)
	spec.Banned, spec.Deprovisioned = (*bool)(u.Banned), (*bool)(u.Deprovisioned)
	if spec.Deprovisioned == nil && !source.UpdateOnly {
		// Clerk's schema requires banned, and leaves deprovisioned out of users that no directory manages.
		spec.WithDeprovisioned(false)
	}
	spec.MirroredApplyConfiguration = o.mirrored(u.CreatedAt)
	if source.Profile != clerkv1alpha1.UserProfileMinimal {
		email, verified := u.primaryEmail()
		spec.ExternalID = optional(text(u.ExternalID, maxText))
		spec.Username = optional(text(u.Username, maxText))
		spec.FirstName = optional(text(u.FirstName, maxText))
		spec.LastName = optional(text(u.LastName, maxText))
		if spec.Email = optional(text(email, maxEmail)); spec.Email != nil {
			spec.WithEmailVerified(verified)
		}
		var ok bool
		if spec.PublicMetadata, ok = metadata(u.PublicMetadata); !ok {
			o.Dropped = append(o.Dropped, "publicMetadata")
		}
	}
	object := clerkv1alpha1ac.ClerkUser(ObjectName(source.InstanceName, u.ID)).
		WithLabels(o.labels(map[string]string{clerkv1alpha1.LabelUserID: u.ID})).
		WithFinalizers(clerkv1alpha1.FinalizerUser).
		WithSpec(spec)
	o.Apply, o.Meta = object, object.ObjectMetaApplyConfiguration
	return o
}

// Incomplete reports whether the state leaves out a flag that takes access away. Absence gives no access, so such a flag
// stays as it is stored: see Completed.
func (o *Object) Incomplete() bool {
	user, ok := o.Apply.(*clerkv1alpha1ac.ClerkUserApplyConfiguration)
	return ok && (user.Spec.Banned == nil || user.Spec.Deprovisioned == nil)
}

// Suspended reports whether the state says that a user holds no access: one who is banned or deprovisioned.
func (o *Object) Suspended() bool {
	user, ok := o.Apply.(*clerkv1alpha1ac.ClerkUserApplyConfiguration)
	return ok && (ptr.Deref(user.Spec.Banned, false) || ptr.Deref(user.Spec.Deprovisioned, false))
}

// Completed returns the object with the flags that its state leaves out as they are stored. They are false where nothing is
// stored, which is nil.
func (o *Object) Completed(stored *clerkv1alpha1.ClerkUser) *Object {
	if !o.Incomplete() {
		return o
	}
	banned, deprovisioned := new(false), new(false)
	if stored != nil {
		banned, deprovisioned = stored.Spec.Banned, stored.Spec.Deprovisioned
	}
	completed, object, meta := *o, *o.Apply.(*clerkv1alpha1ac.ClerkUserApplyConfiguration), *o.Meta
	spec := *object.Spec
	spec.Banned, spec.Deprovisioned = firstFlag(spec.Banned, banned), firstFlag(spec.Deprovisioned, deprovisioned)
	meta.Annotations = maps.Clone(meta.Annotations)
	object.Spec, object.ObjectMetaApplyConfiguration = &spec, &meta
	completed.Apply, completed.Meta = &object, &meta
	return &completed
}

// firstFlag returns a copy of the first flag that is set, nil where none is.
func firstFlag(flags ...*bool) *bool {
	for _, flag := range flags {
		if flag != nil {
			return new(*flag)
		}
	}
	return nil
}

// RequestResync marks the object to be read from Clerk again once the state is stored.
func (o *Object) RequestResync() {
	o.Meta.WithAnnotations(map[string]string{clerkv1alpha1.AnnotationResyncRequestedAt: ResyncRequest(o.EventTime)})
}

// ResyncRequest returns the value that requests a resync because of an event, which is the same for each of its deliveries.
func ResyncRequest(eventTime time.Time) string { return eventTime.UTC().Format(time.RFC3339Nano) }

// Object maps an organization to its ClerkOrganization.
func (g *Organization) Object(source Source) *Object {
	o := newObject(KindOrganization, g.ID, source, g.CreatedAt, g.UpdatedAt)
	spec := clerkv1alpha1ac.ClerkOrganizationSpec().WithOrganizationID(g.ID)
	spec.MirroredApplyConfiguration = o.mirrored(g.CreatedAt)
	spec.Name = optional(text(g.Name, maxText))
	spec.Slug = optional(text(g.Slug, maxText))
	if kind, ok := KindOf(g.CreatedBy); ok && kind == KindUser {
		spec.WithCreatedBy(g.CreatedBy)
	}
	if limit := g.MaxAllowedMemberships.int64; limit != nil && *limit >= 0 {
		spec.WithMaxAllowedMemberships(*limit)
	}
	var ok bool
	if spec.PublicMetadata, ok = metadata(g.PublicMetadata); !ok {
		o.Dropped = append(o.Dropped, "publicMetadata")
	}
	object := clerkv1alpha1ac.ClerkOrganization(ObjectName(source.InstanceName, g.ID)).
		WithLabels(o.labels(map[string]string{clerkv1alpha1.LabelOrganizationID: g.ID})).
		WithFinalizers(clerkv1alpha1.FinalizerOrganization).
		WithSpec(spec)
	o.Apply, o.Meta = object, object.ObjectMetaApplyConfiguration
	return o
}

// Object maps a membership to its ClerkOrganizationMembership.
func (m *Membership) Object(source Source) *Object {
	o := newObject(KindMembership, m.ID, source, m.CreatedAt, m.UpdatedAt)
	organizationID, userID := m.Organization.ID, m.PublicUserData.UserID
	o.Parents = []string{organizationID, userID}
	spec := clerkv1alpha1ac.ClerkOrganizationMembershipSpec().
		WithMembershipID(m.ID).
		WithOrganizationID(organizationID).
		WithUserID(userID)
	spec.MirroredApplyConfiguration = o.mirrored(m.CreatedAt)
	// A role decides on access: it is taken exactly as it is or not at all.
	if m.Role == text(m.Role, maxRole) {
		spec.Role = optional(m.Role)
	} else {
		o.Dropped = append(o.Dropped, "role")
	}
	object := clerkv1alpha1ac.ClerkOrganizationMembership(ObjectName(source.InstanceName, m.ID)).
		WithLabels(o.labels(map[string]string{
			clerkv1alpha1.LabelMembershipID:   m.ID,
			clerkv1alpha1.LabelOrganizationID: organizationID,
			clerkv1alpha1.LabelUserID:         userID,
		})).
		WithSpec(spec)
	o.Apply, o.Meta = object, object.ObjectMetaApplyConfiguration
	return o
}

// OrganizationObject maps the organization that a membership carries to its ClerkOrganization. What a membership carries
// of it can be older than the organization's own events, whatever the membership's time: it is a state of its own
// updated_at and nothing more. It is nil where the organization has none.
func (m *Membership) OrganizationObject(source Source) *Object {
	if m.Organization.UpdatedAt.IsZero() {
		return nil
	}
	// Envelopes can be in whole seconds: the organization's own event of this state must not look older.
	source.EventTime = m.Organization.UpdatedAt.Truncate(time.Second)
	return m.Organization.Object(source)
}

// newObject settles the version: what lacks one time has the next best one, so that an object without updated_at
// still has an order.
func newObject(kind Kind, id string, source Source, createdAt, updatedAt epoch) *Object {
	o := &Object{Kind: kind, ID: id, InstanceName: source.InstanceName, EventTime: source.EventTime, UpdateOnly: source.UpdateOnly}
	o.UpdatedAt = firstTime(updatedAt.Time, source.EventTime, createdAt.Time)
	o.EventTime = firstTime(source.EventTime, o.UpdatedAt)
	return o
}

func (o *Object) mirrored(createdAt epoch) clerkv1alpha1ac.MirroredApplyConfiguration {
	m := clerkv1alpha1ac.Mirrored().
		WithInstanceName(o.InstanceName).
		WithUpdatedAt(clerkv1alpha1.NewTimestamp(o.UpdatedAt)).
		WithEventTime(clerkv1alpha1.NewTimestamp(o.EventTime))
	if !createdAt.IsZero() {
		m.WithCreatedAt(clerkv1alpha1.NewTimestamp(createdAt.Time))
	}
	return *m
}

func (o *Object) labels(ids map[string]string) map[string]string {
	ids[clerkv1alpha1.LabelManagedBy] = clerkv1alpha1.ManagedBy
	ids[clerkv1alpha1.LabelInstance] = o.InstanceName
	return ids
}

func firstTime(times ...time.Time) time.Time {
	for _, t := range times {
		if !t.IsZero() {
			return t
		}
	}
	return time.Time{}
}

// optional leaves out an empty string, which the CRDs do not accept.
func optional(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}
