// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package clerkfake is a stand-in for one Clerk instance, in memory: tests change its users, organizations, memberships
// and subscriptions, it serves the state through Clerk's Backend API of 2026-05-12, and it makes the webhook events of
// every change, which can get lost, doubled and out of order on their way.
package clerkfake
