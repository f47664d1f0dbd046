// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package controlplane

import (
	"context"
	"errors"
	"fmt"
	"os"
)

// etcdRestored is the folder, in the working folder, of the data that takes the place of etcd's.
const etcdRestored = "etcd-restored"

// Backup copies etcd's data into the folder dir, which must not exist or must be empty. All processes are stopped meanwhile,
// etcd because its files fit each other only then, and the others because etcd takes long to stop while they are connected.
// Backup returns when the control plane is ready again, with the same ports and credentials.
func (c *ControlPlane) Backup(ctx context.Context, dir string) error {
	err := c.whileStopped(ctx, func() error { return copyFolder(dir, c.path(etcdData)) })
	if err != nil {
		return fmt.Errorf("backing up etcd: %w", err)
	}
	return nil
}

// Restore puts a backup in the place of etcd's data, and returns when the control plane is ready again, with the same ports
// and credentials. All processes are restarted, as Kubernetes' guide to restoring etcd says: those that cache the API would
// go on with what the backup does not have. resourceVersions continue from those of the backup.
//
// The backup stays as it is and can be restored again. When it cannot be read, the control plane goes on with what it had.
func (c *ControlPlane) Restore(ctx context.Context, dir string) error {
	err := c.whileStopped(ctx, func() error {
		restored := c.path(etcdRestored)
		if err := copyFolder(restored, dir); err != nil {
			return errors.Join(err, os.RemoveAll(restored))
		}
		return errors.Join(os.RemoveAll(c.path(etcdData)), os.Rename(restored, c.path(etcdData)))
	})
	if err != nil {
		return fmt.Errorf("restoring etcd: %w", err)
	}
	return nil
}

// whileStopped stops all processes, does something and starts them again.
func (c *ControlPlane) whileStopped(ctx context.Context, do func() error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stopped {
		return errors.New("the control plane has been stopped: start a new one")
	}
	// The restart would hide a crash.
	if err := c.crashed(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	if err := c.stopProcesses(); err != nil {
		return err
	}
	c.etcd, c.apiServer, c.controllerManager = nil, nil, nil
	if err := do(); err != nil {
		return errors.Join(err, c.startAgain(ctx))
	}
	return c.startAgain(ctx)
}

// startAgain starts all processes as they were before. The caller holds mu.
func (c *ControlPlane) startAgain(ctx context.Context) error {
	if err := c.startEtcd(ctx); err != nil {
		return err
	}
	if err := c.startAPIServerAgain(ctx); err != nil {
		return err
	}
	if !c.options.ControllerManager {
		return nil
	}
	return c.startControllerManager(ctx)
}

// copyFolder copies a folder, which holds Secrets and so is for its owner only. It overwrites nothing.
func copyFolder(to, from string) error {
	if err := os.MkdirAll(to, 0o700); err != nil {
		return fmt.Errorf("creating a folder: %w", err)
	}
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		return fmt.Errorf("copying %s: %w", from, err)
	}
	return nil
}
