// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package controlplane

import "syscall"

// childAttributes adds to what the caller asked for (attr may be nil) that the kernel kills the child when the thread
// that created it ends, which includes every way in which this program can end.
func childAttributes(attr *syscall.SysProcAttr) *syscall.SysProcAttr {
	if attr == nil {
		attr = &syscall.SysProcAttr{}
	}
	attr.Pdeathsig = syscall.SIGKILL
	// Ctrl-C goes to the whole foreground process group: in a group of its own the child is left to Stop, which ends
	// the processes in an order that lets each of them finish.
	attr.Setpgid = true
	return attr
}
