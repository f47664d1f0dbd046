// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build unix

package controlplane

import "syscall"

// PauseAPIServer makes the API server stop responding and keep its connections, as one that hangs, until ResumeAPIServer. It
// does nothing when the API server is not running.
func (c *ControlPlane) PauseAPIServer() error { return c.signalAPIServer(syscall.SIGSTOP) }

// ResumeAPIServer lets the API server go on.
func (c *ControlPlane) ResumeAPIServer() error { return c.signalAPIServer(syscall.SIGCONT) }

func (c *ControlPlane) signalAPIServer(signal syscall.Signal) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.apiServer == nil {
		return nil
	}
	return c.apiServer.signal(signal)
}
