// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package rollback notices that the API server's data went back in time, as after a restore of etcd's data.
//
// Watches go on after that as if nothing had happened: they ask for what is newer than a resource version that does not exist
// any more, and get what comes when the API server has counted up to it again. What happened up to then never reaches a cache,
// which holds what is no longer so, for good. The only cure is a new process.
package rollback
