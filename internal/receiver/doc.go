// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package receiver is the HTTP edge that Clerk's webhooks are delivered to. It verifies, decodes and maps a delivery,
// hands it to the mirror, and answers 2xx only when the result is durable. Every replica receives; the order of
// deliveries is the API server's business.
//
// What arrives here comes from the internet. Until a signature is verified nothing of a request is logged, counted by
// its content or stored, and no answer holds any of it.
package receiver
