// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package installation

import (
	"errors"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	. "github.com/onsi/gomega"

	"github.com/clerk-operator/clerk-operator/test/controlplane"
)

// scripted returns a manager that is a shell script: at its nth start the script's $0 is n.
func scripted(t *testing.T, script string) *Manager {
	t.Helper()
	starts, log := 0, filepath.Join(t.TempDir(), "script.log")
	m := &Manager{start: func() (*controlplane.Process, error) {
		starts++
		return controlplane.StartProcess("script", exec.Command("sh", "-c", script, strconv.Itoa(starts)), log)
	}}
	var err error
	m.Process, err = m.start()
	NewWithT(t).Expect(err).NotTo(HaveOccurred())
	return m
}

func TestSupervisorRestartsWhatExits(t *testing.T) {
	g := NewWithT(t)
	g.SetDefaultEventuallyTimeout(30 * time.Second)
	// The fourth process ends when it is told to.
	s := scripted(t, `case $0 in 1) exit 1;; 2) exit 0;; 3) kill -9 $$;; esac; exec sleep 1000`).Supervise()
	t.Cleanup(func() { _ = s.Stop() })
	g.Eventually(s.Exits).Should(Equal([]int{1, 0, -1}))

	g.Expect(s.Stop()).To(Succeed())
	g.Expect(s.Exits()).To(Equal([]int{1, 0, -1}), "what is stopped does not exit by itself")
	g.Expect(s.Stop()).To(Succeed(), "stopping again")
}

func TestSupervisorReportsWhatDoesNotStart(t *testing.T) {
	g := NewWithT(t)
	m := scripted(t, "exit 3")
	m.start = func() (*controlplane.Process, error) { return nil, errors.New("no such file") }
	s := m.Supervise()
	g.Eventually(s.done).WithTimeout(30 * time.Second).Should(BeClosed())
	g.Expect(s.Exits()).To(Equal([]int{3}))
	g.Expect(s.Stop()).To(MatchError("no such file"))
}
