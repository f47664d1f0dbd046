// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package payload makes the objects that Clerk's events are about, in the shapes of Clerk's webhook API of 2025-04-15.
// They hold what the operator must never store, too: private metadata, phone numbers and addresses.
package payload

import (
	"crypto/rand"
	"time"
)

// NewID returns a new ID with a prefix (user, org, orgmem, ins) in the form of Clerk's.
func NewID(prefix string) string { return prefix + "_" + rand.Text() + "x" }

// User is a user as events carry it.
type User struct {
	ID, Email, Username, FirstName, LastName string
	Banned, Deprovisioned                    bool
	// WithoutBanned leaves banned out, which Clerk's schema requires.
	WithoutBanned        bool
	CreatedAt, UpdatedAt time.Time
	PublicMetadata       map[string]any
}

// Data returns the user as JSON would hold it.
func (u User) Data() map[string]any {
	data := map[string]any{
		"object": "user", "id": u.ID, "username": nullable(u.Username), "first_name": nullable(u.FirstName),
		"last_name": nullable(u.LastName), "external_id": nil, "banned": u.Banned, "deprovisioned": u.Deprovisioned,
		"locked": false, "created_at": u.CreatedAt.UnixMilli(), "updated_at": u.UpdatedAt.UnixMilli(),
		"public_metadata":  metadata(u.PublicMetadata),
		"private_metadata": map[string]any{"secret": "private-metadata-must-not-be-stored"},
		"unsafe_metadata":  map[string]any{"claim": "unsafe-metadata-must-not-be-stored"},
		"phone_numbers":    []any{map[string]any{"id": "idn_phone", "phone_number": "+15555550100"}},
		"email_addresses":  []any{}, "primary_email_address_id": nil, "last_sign_in_at": nil, "has_image": false,
	}
	if u.WithoutBanned {
		delete(data, "banned")
	}
	if u.Email != "" {
		data["primary_email_address_id"] = "idn_primary"
		data["email_addresses"] = []any{
			map[string]any{
				"id": "idn_other", "object": "email_address", "email_address": "claimed@example.org", "verification": nil,
			},
			map[string]any{
				"id": "idn_primary", "object": "email_address", "email_address": u.Email,
				"verification": map[string]any{"status": "verified", "strategy": "email_code"},
			},
		}
	}
	return data
}

// Organization is an organization as events carry it.
type Organization struct {
	ID, Name, Slug, CreatedBy string
	CreatedAt, UpdatedAt      time.Time
	PublicMetadata            map[string]any
}

// Data returns the organization as JSON would hold it.
func (o Organization) Data() map[string]any {
	return map[string]any{
		"object": "organization", "id": o.ID, "name": o.Name, "slug": nullable(o.Slug), "created_by": nullable(o.CreatedBy),
		"max_allowed_memberships": 5, "has_image": false, "admin_delete_enabled": true,
		"public_metadata":  metadata(o.PublicMetadata),
		"private_metadata": map[string]any{"secret": "private-metadata-must-not-be-stored"},
		"created_at":       o.CreatedAt.UnixMilli(), "updated_at": o.UpdatedAt.UnixMilli(),
	}
}

// Membership is a membership as events carry it, its deletion included.
type Membership struct {
	ID, Role, UserID     string
	Organization         Organization
	CreatedAt, UpdatedAt time.Time
}

// Data returns the membership as JSON would hold it.
func (m Membership) Data() map[string]any {
	return map[string]any{
		"object": "organization_membership", "id": m.ID, "role": m.Role, "role_name": m.Role, "permissions": []any{},
		"public_metadata": map[string]any{}, "private_metadata": map[string]any{},
		"organization":     m.Organization.Data(),
		"public_user_data": map[string]any{"user_id": m.UserID, "identifier": "identifier-must-not-be-stored"},
		"created_at":       m.CreatedAt.UnixMilli(), "updated_at": m.UpdatedAt.UnixMilli(),
	}
}

// Deleted returns what the deletion of a user or an organization carries.
func Deleted(object, id string) map[string]any {
	return map[string]any{"object": object, "id": id, "deleted": true}
}

func nullable(s string) any {
	if s == "" {
		return nil
	}
	return s
}

func metadata(m map[string]any) map[string]any {
	if m == nil {
		return map[string]any{}
	}
	return m
}
