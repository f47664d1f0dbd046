// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package backfill reads Clerk's Backend API into the mirror: what was there before the operator, what webhooks did not
// deliver, and what is gone from Clerk.
//
// A sync is a Run that is taken forward by steps. Each step reads one page or asks for a few objects, so that its
// progress can be kept and another leader can take it up. Everything is written through package mirror, so that a
// listing and an event obey the same order, and what has not changed is not written.
//
// That a listing lacks an object is a hint that it is gone and never a proof; see proof.go for what is.
package backfill
