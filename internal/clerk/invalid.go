// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package clerk

import (
	"encoding/json"
	"errors"
	"strings"

	clerkv1alpha1 "github.com/clerk-operator/clerk-operator/api/v1alpha1"
)

// Kinds that are not mirrored as objects of their own, so that KindOf knows none of their IDs.
const (
	KindSubscription     Kind = "csub"
	KindSubscriptionItem Kind = "csub_item"
	KindRole             Kind = "role"
)

// Invalid is a part of an event that cannot be used. It holds none of its content.
type Invalid struct {
	// ID is empty where the part has none that is valid.
	ID string
	// Reason is one CamelCase word.
	Reason string
}

// ReasonOf returns the reason of an *UnusableError, and Invalid for any other error.
func ReasonOf(err error) string {
	if e, ok := errors.AsType[*UnusableError](err); ok {
		return e.Reason
	}
	return "Invalid"
}

var objectKinds = map[Kind]clerkv1alpha1.ClerkObjectKind{
	KindUser:             clerkv1alpha1.ClerkUserObject,
	KindOrganization:     clerkv1alpha1.ClerkOrganizationObject,
	KindMembership:       clerkv1alpha1.ClerkMembershipObject,
	KindSubscription:     clerkv1alpha1.ClerkSubscriptionObject,
	KindSubscriptionItem: clerkv1alpha1.ClerkSubscriptionItemObject,
	KindRole:             clerkv1alpha1.ClerkRoleObject,
}

// ObjectKind returns the name of a kind in the status of a ClerkInstance.
func (k Kind) ObjectKind() clerkv1alpha1.ClerkObjectKind { return objectKinds[k] }

// subjectKinds holds, for the first word of an event's type, what its data is.
var subjectKinds = map[string]Kind{
	"user":                   KindUser,
	"organization":           KindOrganization,
	"organizationMembership": KindMembership,
	"subscription":           KindSubscription,
	"subscriptionItem":       KindSubscriptionItem,
}

// subject is what the data of an event is about, as far as it tells.
type subject struct {
	kind Kind
	id   string
}

// subjectOf reads from the data of an event that cannot be used what it is about.
func subjectOf(eventType string, data json.RawMessage) subject {
	word, _, _ := strings.Cut(eventType, ".")
	kind := subjectKinds[word]
	return subject{kind: kind, id: IDIn(data, kind)}
}

// Subject returns the kind and the ID of what the event is about, which for a subscription is its payer. The ID is empty
// where the event does not tell one that is valid.
func (e *Event) Subject() (Kind, string) {
	switch {
	case e.User != nil:
		return KindUser, e.User.ID
	case e.Organization != nil:
		return KindOrganization, e.Organization.ID
	case e.Membership != nil:
		return KindMembership, e.Membership.ID
	case e.Subscription != nil:
		return e.Subscription.PayerKind, e.Subscription.PayerID
	case e.Deleted != "":
		kind, _ := KindOf(e.Deleted)
		return kind, e.Deleted
	case e.Recheck != "":
		return KindMembership, e.Recheck
	}
	return e.subject.kind, e.subject.id
}

// IDIn returns the ID of an object of a kind, whether or not the object can be used; empty where there is no valid one.
func IDIn(data json.RawMessage, kind Kind) string {
	var object struct {
		ID string `json:"id"`
	}
	if err := decodeObject(data, &object); err != nil || !isID(object.ID, kind) {
		return ""
	}
	return object.ID
}

func isID(id string, kind Kind) bool {
	switch kind {
	case KindUser, KindOrganization, KindMembership:
		found, ok := KindOf(id)
		return ok && found == kind
	case KindSubscription, KindSubscriptionItem, KindRole:
		return len(id) <= maxIDLength && itemIDPattern.MatchString(id)
	}
	return false
}

// maxRoleKey is the CRD's own limit.
const maxRoleKey = 256

// DecodeRole returns the key of a role of a listing. The error is an *UnusableError.
func DecodeRole(data json.RawMessage) (string, error) {
	var role struct {
		Key string `json:"key"`
	}
	if err := decodeData(data, &role); err != nil {
		return "", err
	}
	switch {
	case role.Key == "":
		return "", unusable("NoKey")
	case len(role.Key) > maxRoleKey:
		return "", unusable("InvalidKey")
	}
	return role.Key, nil
}

// notStored ends the reasons of what is stored without one of its fields.
const notStored = "NotStored"

// NotStored returns the reason for a field in Object.Dropped, such as PublicMetadataNotStored.
func NotStored(field string) string {
	return strings.ToUpper(field[:1]) + field[1:] + notStored
}

// IsNotStored reports whether a reason is one of NotStored: the object itself is stored.
func IsNotStored(reason string) bool { return strings.HasSuffix(reason, notStored) }
