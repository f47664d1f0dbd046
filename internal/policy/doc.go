// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package policy proves that the admission policies of config/policy are in force. A policy that is installed may enforce
// nothing: its binding may be missing, may only audit, or may be for another account. So the operator asks the API server
// for what the policies refuse, as dry runs, and reads the answers.
package policy
