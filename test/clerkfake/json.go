// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package clerkfake

import (
	"slices"
	"strings"
	"time"

	"github.com/clerk-operator/clerk-operator/test/payload"
)

const (
	privateMetadata = "private-metadata-must-not-be-stored"
	unsafeMetadata  = "unsafe-metadata-must-not-be-stored"
	phoneNumber     = "+15555550100"
	identifier      = "identifier-must-not-be-stored"
	otherEmail      = "claimed-and-not-verified@example.org"
	imageURL        = "https://img.clerk.com/image-must-not-be-stored"
)

// Canaries returns texts of the payloads that the operator must never store. Each is in every user's payload, in every
// membership's or in every subscription's.
func Canaries() []string {
	return []string{privateMetadata, unsafeMetadata, phoneNumber, identifier, imageURL, payload.PayerEmail, payload.PayerName}
}

type object = map[string]any

func userData(u *User) object {
	data := object{
		"object": "user", "id": u.ID, "external_id": nullable(u.ExternalID), "username": nullable(u.Username),
		"first_name": nullable(u.FirstName), "last_name": nullable(u.LastName), "locale": nil,
		"image_url": imageURL, "profile_image_url": imageURL, "has_image": true,
		"public_metadata":  metadata(u.PublicMetadata),
		"private_metadata": object{"secret": privateMetadata}, "unsafe_metadata": object{"claim": unsafeMetadata},
		"primary_email_address_id": nil, "email_addresses": []any{},
		"primary_phone_number_id": "idn_phone", "phone_numbers": []any{phoneData(u.CreatedAt)},
		"primary_web3_wallet_id": nil, "web3_wallets": []any{}, "passkeys": []any{},
		"external_accounts": []any{}, "saml_accounts": []any{}, "enterprise_accounts": []any{},
		"password_enabled": true, "two_factor_enabled": false, "totp_enabled": false, "backup_code_enabled": false,
		"mfa_enabled_at": nil, "mfa_disabled_at": nil, "last_sign_in_at": nil, "last_active_at": nil,
		"banned": u.Banned, "deprovisioned": u.Deprovisioned, "locked": false,
		"lockout_expires_in_seconds": nil, "verification_attempts_remaining": 100,
		"delete_self_enabled": true, "create_organization_enabled": true, "legal_accepted_at": nil,
		"created_at": u.CreatedAt.UnixMilli(), "updated_at": u.UpdatedAt.UnixMilli(),
	}
	if u.Email != "" {
		data["primary_email_address_id"] = "idn_primary"
		data["email_addresses"] = []any{
			emailData("idn_other", otherEmail, "unverified", u.CreatedAt), emailData("idn_primary", u.Email, "verified", u.CreatedAt),
		}
	}
	return data
}

func emailData(id, address, status string, at time.Time) object {
	return object{
		"object": "email_address", "id": id, "email_address": address, "reserved": false, "linked_to": []any{},
		"verification": object{
			"object": "verification_otp", "status": status, "strategy": "email_code", "attempts": nil, "expire_at": nil,
		},
		"created_at": at.UnixMilli(), "updated_at": at.UnixMilli(),
	}
}

func phoneData(at time.Time) object {
	return object{
		"object": "phone_number", "id": "idn_phone", "phone_number": phoneNumber, "reserved": false, "linked_to": []any{},
		"verification": nil, "created_at": at.UnixMilli(), "updated_at": at.UnixMilli(),
	}
}

// organizationData counts the members only on demand, as Clerk does.
func (c *Clerk) organizationData(o *Organization, counted bool) object {
	data := object{
		"object": "organization", "id": o.ID, "name": o.Name, "slug": nullable(o.Slug), "image_url": imageURL, "has_image": true,
		"max_allowed_memberships": o.MaxAllowedMemberships, "admin_delete_enabled": true,
		"public_metadata": metadata(o.PublicMetadata), "private_metadata": object{"secret": privateMetadata},
		"created_at": o.CreatedAt.UnixMilli(), "updated_at": o.UpdatedAt.UnixMilli(),
	}
	if o.CreatedBy != "" {
		data["created_by"] = o.CreatedBy
	}
	if counted {
		data["members_count"] = len(c.members[o.ID])
	}
	return data
}

func (c *Clerk) membershipData(m *Membership, counted bool) object {
	user := c.users.must(m.UserID)
	return object{
		"object": "organization_membership", "id": m.ID, "role": m.Role, "role_name": roleName(m.Role),
		"permissions": permissions(m.Role), "public_metadata": object{}, "private_metadata": object{"secret": privateMetadata},
		"organization": c.organizationData(c.organizations.must(m.OrganizationID), counted),
		"public_user_data": object{
			"user_id": user.ID, "first_name": nullable(user.FirstName), "last_name": nullable(user.LastName),
			"image_url": imageURL, "profile_image_url": imageURL, "has_image": true,
			"identifier": identifier, "username": nullable(user.Username),
			"banned": user.Banned, "deprovisioned": user.Deprovisioned,
		},
		"created_at": m.CreatedAt.UnixMilli(), "updated_at": m.UpdatedAt.UnixMilli(),
	}
}

// deletedData is all that Clerk tells of a user or an organization that it deleted.
func deletedData(kind, id string) object { return object{"object": kind, "id": id, "deleted": true} }

func (c *Clerk) instanceData() object {
	return object{
		"object": "instance", "id": c.instanceID, "environment_type": c.environmentType,
		"allowed_origins": nil, "workspace_id": nil,
	}
}

const (
	adminRole  = "org:admin"
	memberRole = "org:member"
)

// roles returns the keys of the two roles of every instance and of those that members have.
func (c *Clerk) roles() []*string {
	keys := []string{adminRole, memberRole}
	for _, membership := range c.memberships.all() {
		if !slices.Contains(keys, membership.Role) {
			keys = append(keys, membership.Role)
		}
	}
	roles := make([]*string, len(keys))
	for i := range keys {
		roles[i] = &keys[i]
	}
	return roles
}

func (c *Clerk) roleData(key string) object {
	born := c.born.UnixMilli()
	keys := permissions(key)
	granted := make([]object, len(keys))
	for i, permission := range keys {
		granted[i] = object{
			"object": "permission", "id": "perm_" + permission, "key": permission, "name": permission, "description": "",
			"type": "system", "created_at": born, "updated_at": born,
		}
	}
	return object{
		"object": "role", "id": "role_" + key, "key": key, "name": roleName(key), "description": nil,
		"is_creator_eligible": key == adminRole, "permissions": granted, "created_at": born, "updated_at": born,
	}
}

func roleName(key string) string {
	name := strings.TrimPrefix(key, "org:")
	return strings.ToUpper(name[:min(1, len(name))]) + name[min(1, len(name)):]
}

func permissions(role string) []string {
	switch role {
	case adminRole:
		return []string{"org:sys_profile:manage", "org:sys_memberships:read", "org:sys_memberships:manage"}
	case memberRole:
		return []string{"org:sys_memberships:read"}
	}
	return []string{}
}

func nullable(s string) any {
	if s == "" {
		return nil
	}
	return s
}

func metadata(m map[string]any) object {
	if m == nil {
		return object{}
	}
	return m
}
