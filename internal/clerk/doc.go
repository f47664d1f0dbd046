// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package clerk turns what Clerk sends into what the mirror stores: it decodes events, drops what must never be
// stored, and maps users, organizations and memberships to typed apply configurations. It is pure: bytes in, values
// out, no client and no clock.
//
// What Clerk sends is authentic but hostile: names, slugs and metadata come from people who signed up. Decoding is
// lenient about what it does not need and strict about what decides access, and the Go structs have no field for
// private or unsafe metadata, phone numbers, IP addresses, one-time codes, invitation links or who a payer is by name.
package clerk
