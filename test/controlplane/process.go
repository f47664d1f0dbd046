// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package controlplane

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// tailBytes bounds how much of the end of a log LogTail reads.
const tailBytes = 64 << 10

// Process is a command that runs as a child of this program and, on Linux, cannot outlive it: however this program ends
// (return, os.Exit, panic, SIGKILL), the kernel kills the child with SIGKILL. On other systems a child survives when
// this program ends without calling Stop or Kill. Processes that the command starts itself are not covered.
//
// All methods are safe for concurrent use.
type Process struct {
	name     string
	logPath  string
	logStart int64
	child    *os.Process
	exited   chan struct{}
	err      error // written before exited is closed, read only after
}

// StartProcess starts cmd and returns without waiting for anything that it does. The name is for messages only.
//
// The standard output and error of cmd, which must not be set, are appended to the file logPath; it is created with
// mode 0600 where it does not exist, its folder must exist. On Linux cmd gets a process group of its own, so a
// Ctrl-C in a terminal reaches this program and not the child. A context given to exec.CommandContext kills the child
// when it ends.
func StartProcess(name string, cmd *exec.Cmd, logPath string) (*Process, error) {
	if cmd.Stdout != nil || cmd.Stderr != nil {
		return nil, fmt.Errorf("starting %s: its output goes to %s: leave Stdout and Stderr of the command unset", name, logPath)
	}
	logFile, err := os.OpenFile(filepath.Clean(logPath), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("starting %s: opening its log: %w", name, err)
	}
	// The child has its own copy of the descriptor.
	defer func() { _ = logFile.Close() }()
	info, err := logFile.Stat()
	if err != nil {
		return nil, fmt.Errorf("starting %s: reading the size of its log: %w", name, err)
	}
	cmd.Stdout, cmd.Stderr = logFile, logFile
	cmd.SysProcAttr = childAttributes(cmd.SysProcAttr)
	p := &Process{name: name, logPath: logPath, logStart: info.Size(), exited: make(chan struct{})}
	started := make(chan error, 1)
	go p.run(cmd, started)
	if err := <-started; err != nil {
		return nil, fmt.Errorf("starting %s: %w", name, err)
	}
	return p, nil
}

// run starts cmd, reports on started and waits for the end of cmd.
func (p *Process) run(cmd *exec.Cmd, started chan<- error) {
	// The kernel kills the child when the thread that created it ends. Go may end any thread at any time, except one
	// that a goroutine has locked, so the thread stays locked for as long as the child lives.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := cmd.Start(); err != nil {
		started <- err
		return
	}
	p.child = cmd.Process
	started <- nil
	p.err = cmd.Wait()
	close(p.exited)
}

// Stop sends SIGTERM and waits until the process has ended. A process that is still there after grace is killed with
// SIGKILL, which is reported as an error; the process is gone then too. Stopping a process that has ended does nothing
// and returns nil: how it ended is what Err tells.
func (p *Process) Stop(grace time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), grace)
	defer cancel()
	killed, err := p.stop(ctx)
	if err != nil {
		return err
	}
	if killed {
		return fmt.Errorf("stopping %s: it did not end within %s of SIGTERM and was killed; its log is %s", p.name, grace, p.logPath)
	}
	return nil
}

// stop is Stop for callers to whom a process that has to be killed, here when ctx ends, is no failure.
func (p *Process) stop(ctx context.Context) (killed bool, err error) {
	if err := p.signal(syscall.SIGTERM); err != nil {
		return false, err
	}
	select {
	case <-p.exited:
		return false, nil
	case <-ctx.Done():
		return true, p.Kill()
	}
}

// Kill sends SIGKILL and waits until the process has ended. It returns nil for a process that had ended before.
func (p *Process) Kill() error {
	if err := p.signal(syscall.SIGKILL); err != nil {
		return err
	}
	<-p.exited
	return nil
}

func (p *Process) signal(sig os.Signal) error {
	if err := p.child.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("sending %s to %s (PID %d): %w", sig, p.name, p.PID(), err)
	}
	return nil
}

// Exited returns a channel that is closed when the process has ended, for whatever reason.
func (p *Process) Exited() <-chan struct{} {
	return p.exited
}

func (p *Process) hasExited() bool {
	select {
	case <-p.exited:
		return true
	default:
		return false
	}
}

// Err tells how the process ended: nil for exit code 0, an *exec.ExitError for another code or a signal. It is nil too
// while the process runs.
func (p *Process) Err() error {
	if !p.hasExited() {
		return nil
	}
	return p.err
}

// PID returns the process ID. It is no longer this process's own after it has ended.
func (p *Process) PID() int {
	return p.child.Pid
}

// LogPath returns the path of the file that holds what the process writes to its standard output and error.
func (p *Process) LogPath() string {
	return p.logPath
}

// LogTail returns the last lines of what this process has logged so far, at most that many and at most 64 KiB, for use
// in a message: where the log cannot be read, the text says so. What an earlier process wrote to the same file is left
// out.
func (p *Process) LogTail(lines int) string {
	tail, err := p.readTail()
	if err != nil {
		return fmt.Sprintf("(no log: %v)", err)
	}
	all := strings.Split(strings.TrimRight(string(tail), "\n"), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

// readTail returns the last tailBytes of what this process has logged.
func (p *Process) readTail() ([]byte, error) {
	logFile, err := os.Open(filepath.Clean(p.logPath))
	if err != nil {
		return nil, fmt.Errorf("opening the log of %s: %w", p.name, err)
	}
	defer func() { _ = logFile.Close() }()
	info, err := logFile.Stat()
	if err != nil {
		return nil, fmt.Errorf("reading the size of the log of %s: %w", p.name, err)
	}
	start := max(p.logStart, info.Size()-tailBytes)
	tail, err := io.ReadAll(io.NewSectionReader(logFile, start, info.Size()-start))
	if err != nil {
		return nil, fmt.Errorf("reading the log of %s: %w", p.name, err)
	}
	return tail, nil
}
