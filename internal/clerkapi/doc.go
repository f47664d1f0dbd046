// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package clerkapi reads Clerk's Backend API. It only ever sends GET, keeps within a budget of requests, tries again what
// may pass, and tells by typed errors what happened. What it reads is in the terms of package clerk.
//
// Its source is Clerk's OpenAPI document of the version that every request names.
package clerkapi
