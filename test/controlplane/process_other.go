// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package controlplane

import "syscall"

// childAttributes returns what the caller asked for: only Linux can tie a child's life to that of its parent.
func childAttributes(attr *syscall.SysProcAttr) *syscall.SysProcAttr {
	return attr
}
