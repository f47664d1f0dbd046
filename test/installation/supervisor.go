// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package installation

import (
	"errors"
	"os/exec"
	"slices"
	"sync"
	"time"

	"github.com/clerk-operator/clerk-operator/test/controlplane"
)

// restartBackoff is the time between the exit of a manager and its next start. A kubelet waits longer, and longer each time.
const restartBackoff = 500 * time.Millisecond

// Supervisor restarts a manager whenever its process exits, as a kubelet restarts a container.
type Supervisor struct {
	start   func() (*controlplane.Process, error)
	stop    func()
	stopped chan struct{} // closed by stop
	done    chan struct{} // closed when nothing runs any more
	err     error         // written before done is closed, read only after

	mu    sync.Mutex
	exits []int
}

// Supervise restarts the manager whenever its process exits, with the same arguments and addresses, until the Supervisor is
// stopped. Whether the API server is there does not matter.
func (m *Manager) Supervise() *Supervisor {
	s := &Supervisor{start: m.start, stopped: make(chan struct{}), done: make(chan struct{})}
	s.stop = sync.OnceFunc(func() { close(s.stopped) })
	go s.run(m.Process)
	return s
}

// run restarts p whenever it exits.
func (s *Supervisor) run(p *controlplane.Process) {
	defer close(s.done)
	for {
		select {
		case <-s.stopped:
			s.err = p.Stop(stopGrace)
			return
		case <-p.Exited():
			s.record(p.Err())
		}
		select {
		case <-s.stopped:
			return
		case <-time.After(restartBackoff):
		}
		if p, s.err = s.start(); s.err != nil {
			return
		}
	}
}

// record records how a process ended.
func (s *Supervisor) record(err error) {
	code := 0
	if err != nil {
		code = -1
	}
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		code = exit.ExitCode()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.exits = append(s.exits, code)
}

// Exits returns the exit code of each process that ended by itself, in order; -1 is a signal's.
func (s *Supervisor) Exits() []int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.exits)
}

// Stop stops the manager as a pod's end does, and waits until it has ended. It returns an error where the manager had to be
// killed or could not be started again. Stopping again returns the same.
func (s *Supervisor) Stop() error {
	s.stop()
	<-s.done
	return s.err
}
