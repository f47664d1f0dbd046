// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package clerk

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
)

// ErrNotAnObject says that a body is not a JSON object, which no delivery of Clerk ever is.
var ErrNotAnObject = errors.New("body is not a JSON object")

// UnusableError says that a delivery of a mirrored type cannot be applied, whatever happens later. The reason is one
// CamelCase word without any of the delivery's content.
type UnusableError struct{ Reason string }

func (e *UnusableError) Error() string { return "unusable event: " + e.Reason }

func unusable(reason string) error { return &UnusableError{Reason: reason} }

// Event is one delivery. At most one of User, Organization, Membership, Subscription, Deleted and Recheck is set; none is
// for a type that is not mirrored.
type Event struct {
	// Type is the event's type as sent, such as user.created.
	Type string
	// InstanceID is the Clerk instance that made the event (ins_…); empty when the event does not say.
	InstanceID string
	// Time is when Clerk made the event; zero when the event does not say.
	Time time.Time

	User         *User
	Organization *Organization
	Membership   *Membership
	Subscription *Subscription
	// Deleted is the ID of what was deleted.
	Deleted string

	// UpdateOnly reports that the type is unknown, so that User or Organization updates what is mirrored and creates nothing.
	UpdateOnly bool
	// Recheck is the ID of a membership that an event of an unknown type is about. Its state is not to be stored: a removal
	// carries the same object as a creation.
	Recheck string

	subject subject // of an event that cannot be applied
}

// Mirrored reports whether the event is about an object that is, or could be, mirrored.
func (e *Event) Mirrored() bool {
	return e.User != nil || e.Organization != nil || e.Membership != nil || e.Subscription != nil ||
		e.Deleted != "" || e.Recheck != ""
}

type envelope struct {
	Type       json.RawMessage `json:"type"`
	Timestamp  epoch           `json:"timestamp"`
	InstanceID json.RawMessage `json:"instance_id"`
	Data       json.RawMessage `json:"data"`
}

// Decode reads a delivery's body. Unknown fields and types are fine, and so are missing ones as long as the object
// that the event is about can be told. It returns ErrNotAnObject for a body that is no JSON object and an
// *UnusableError, together with what could be read, for one that cannot be applied.
func Decode(body []byte) (*Event, error) {
	var env envelope
	if err := decodeObject(body, &env); err != nil {
		return nil, ErrNotAnObject
	}
	event := &Event{Type: stringOf(env.Type), InstanceID: stringOf(env.InstanceID), Time: env.Timestamp.Time}
	decode, ok := decoders[event.Type]
	if !ok {
		decodeUnknown(event, env.Data)
		return event, nil
	}
	if err := decode(event, env.Data); err != nil {
		event.subject = subjectOf(event.Type, env.Data)
		return event, err
	}
	return event, nil
}

// decoders holds, for each mirrored type, how its data is read.
var decoders = map[string]func(*Event, json.RawMessage) error{
	"user.created":                   decodeUser,
	"user.updated":                   decodeUser,
	"user.deleted":                   decodeDeleted(KindUser),
	"organization.created":           decodeOrganization,
	"organization.updated":           decodeOrganization,
	"organization.deleted":           decodeDeleted(KindOrganization),
	"organizationMembership.created": decodeMembership,
	"organizationMembership.updated": decodeMembership,
	"organizationMembership.deleted": decodeDeleted(KindMembership),

	"subscription.created":             decodeSubscription,
	"subscription.updated":             decodeSubscription,
	"subscription.active":              decodeSubscription,
	"subscription.pastDue":             decodeSubscription,
	"subscriptionItem.created":         decodeSubscriptionItem, // in Clerk's SDK only
	"subscriptionItem.updated":         decodeSubscriptionItem,
	"subscriptionItem.active":          decodeSubscriptionItem,
	"subscriptionItem.canceled":        decodeSubscriptionItem,
	"subscriptionItem.upcoming":        decodeSubscriptionItem,
	"subscriptionItem.ended":           decodeSubscriptionItem,
	"subscriptionItem.expired":         decodeSubscriptionItem, // in Clerk's guides only
	"subscriptionItem.abandoned":       decodeSubscriptionItem,
	"subscriptionItem.incomplete":      decodeSubscriptionItem,
	"subscriptionItem.pastDue":         decodeSubscriptionItem,
	"subscriptionItem.freeTrialEnding": decodeSubscriptionItem,
}

// unknownTypes holds, for the part before the dot of types that decoders does not have, what their data must be.
var unknownTypes = map[string]struct {
	object string
	kind   Kind
}{
	"user":                   {"user", KindUser},
	"organization":           {"organization", KindOrganization},
	"organizationMembership": {"organization_membership", KindMembership},
}

// decodeUnknown reads an event of a type that Clerk may have added since this was written. Data that is a whole object, with
// a version of its own, is its state, whatever happened to it; anything else is not understood, and so not used.
func decodeUnknown(event *Event, data json.RawMessage) {
	prefix, _, dotted := strings.Cut(event.Type, ".")
	want, ok := unknownTypes[prefix]
	var have struct {
		Object    string      `json:"object"`
		ID        string      `json:"id"`
		UpdatedAt epoch       `json:"updated_at"`
		Deleted   *forbidding `json:"deleted"`
	}
	if !ok || !dotted || decodeData(data, &have) != nil || have.Object != want.object || checkID(have.ID, want.kind) != nil ||
		have.UpdatedAt.IsZero() || have.Deleted != nil && bool(*have.Deleted) {
		return
	}
	var err error
	switch want.kind {
	case KindUser:
		event.User, err = DecodeUser(data)
	case KindOrganization:
		event.Organization, err = DecodeOrganization(data)
	default:
		event.Recheck = have.ID
	}
	event.UpdateOnly = err == nil && event.Recheck == ""
}

func decodeUser(event *Event, data json.RawMessage) error {
	user, err := DecodeUser(data)
	if err != nil {
		return err
	}
	event.User = user
	return checkTime(event, user.UpdatedAt, user.CreatedAt)
}

func decodeOrganization(event *Event, data json.RawMessage) error {
	organization, err := DecodeOrganization(data)
	if err != nil {
		return err
	}
	event.Organization = organization
	return checkTime(event, organization.UpdatedAt, organization.CreatedAt)
}

func decodeMembership(event *Event, data json.RawMessage) error {
	membership, err := DecodeMembership(data)
	if err != nil {
		return err
	}
	event.Membership = membership
	return checkTime(event, membership.UpdatedAt, membership.CreatedAt)
}

// DecodeUser reads a user of an event or a listing, as leniently as Decode. The error is an *UnusableError.
func DecodeUser(data json.RawMessage) (*User, error) {
	var user User
	if err := decodeData(data, &user); err != nil {
		return nil, err
	}
	return &user, checkID(user.ID, KindUser)
}

// DecodeOrganization reads an organization of an event or a listing, as leniently as Decode. The error is an
// *UnusableError.
func DecodeOrganization(data json.RawMessage) (*Organization, error) {
	var organization Organization
	if err := decodeData(data, &organization); err != nil {
		return nil, err
	}
	return &organization, checkID(organization.ID, KindOrganization)
}

// DecodeMembership reads a membership of an event or a listing, as leniently as Decode. The error is an *UnusableError.
func DecodeMembership(data json.RawMessage) (*Membership, error) {
	var membership Membership
	if err := decodeData(data, &membership); err != nil {
		return nil, err
	}
	if err := checkID(membership.ID, KindMembership); err != nil {
		return nil, err
	}
	if kind, ok := KindOf(membership.Organization.ID); !ok || kind != KindOrganization {
		return nil, unusable("NoOrganization")
	}
	if kind, ok := KindOf(membership.PublicUserData.UserID); !ok || kind != KindUser {
		return nil, unusable("NoUser")
	}
	return &membership, nil
}

func decodeDeleted(kind Kind) func(*Event, json.RawMessage) error {
	return func(event *Event, data json.RawMessage) error {
		var deleted struct {
			ID string `json:"id"`
		}
		if err := decodeData(data, &deleted); err != nil {
			return err
		}
		if err := checkID(deleted.ID, kind); err != nil {
			return err
		}
		event.Deleted = deleted.ID
		return nil
	}
}

// checkTime checks that the state can have a version: a time of its own or at least the event's.
func checkTime(event *Event, times ...epoch) error {
	for _, t := range times {
		if !t.IsZero() {
			return nil
		}
	}
	if event.Time.IsZero() {
		return unusable("NoTime")
	}
	return nil
}

func checkID(id string, want Kind) error {
	if id == "" {
		return unusable("NoID")
	}
	if kind, ok := KindOf(id); !ok || kind != want {
		return unusable("InvalidID")
	}
	return nil
}

func decodeData(data json.RawMessage, into any) error {
	if len(data) == 0 || string(data) == "null" {
		return unusable("NoData")
	}
	if err := decodeObject(data, into); err != nil {
		return unusable("MalformedData")
	}
	return nil
}

// decodeObject decodes a JSON object and leaves fields of an unexpected JSON type empty: encoding/json reports them
// only after it has decoded everything else.
func decodeObject(data []byte, into any) error {
	if trimmed := bytes.TrimLeft(data, " \t\r\n"); len(trimmed) == 0 || trimmed[0] != '{' {
		return ErrNotAnObject
	}
	if err := json.Unmarshal(data, into); err != nil && !isTypeError(err) {
		return fmt.Errorf("decoding: %w", err)
	}
	return nil
}

func isTypeError(err error) bool {
	_, ok := errors.AsType[*json.UnmarshalTypeError](err)
	return ok
}

func stringOf(raw json.RawMessage) string {
	var s string
	if err := json.Unmarshal(raw, &s); err != nil {
		return ""
	}
	return s
}
