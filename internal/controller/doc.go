// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package controller turns the mirrored objects into tenants. Its reconcilers are thin: they read from the cache, ask the
// pure packages access and tenant what should be, and write the difference. All have one shape: get, delete what has a
// tombstone, branch on deletion, reconcile, and one status patch at the end.
package controller
