// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package controlplane

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	. "github.com/onsi/gomega"
)

func shell(t *testing.T, script string) *Process {
	t.Helper()
	p, err := StartProcess("shell", exec.Command("sh", "-c", script), filepath.Join(t.TempDir(), "shell.log"))
	NewWithT(t).Expect(err).NotTo(HaveOccurred())
	t.Cleanup(func() { _ = p.Kill() })
	return p
}

func TestProcessStopsOnSIGTERM(t *testing.T) {
	g := NewWithT(t)
	p := shell(t, "trap 'echo bye; exit 0' TERM; echo started; while :; do sleep 0.05; done")
	g.Eventually(p.LogTail).WithArguments(1).Should(Equal("started"))
	g.Expect(p.Err()).NotTo(HaveOccurred())
	g.Expect(p.Exited()).NotTo(BeClosed())

	g.Expect(p.Stop(time.Minute)).To(Succeed())
	g.Expect(p.Exited()).To(BeClosed())
	g.Expect(p.Err()).NotTo(HaveOccurred())
	g.Expect(p.LogTail(1)).To(Equal("bye"))

	g.Expect(p.Stop(time.Minute)).To(Succeed(), "stopping again")
	g.Expect(p.Kill()).To(Succeed(), "killing what has ended")
}

func TestProcessThatIgnoresSIGTERMIsKilled(t *testing.T) {
	g := NewWithT(t)
	p := shell(t, "trap '' TERM; echo started; exec sleep 1000")
	g.Eventually(p.LogTail).WithArguments(1).Should(Equal("started"))

	g.Expect(p.Stop(10 * time.Millisecond)).To(MatchError(ContainSubstring("did not end within 10ms of SIGTERM and was killed")))
	g.Expect(p.Exited()).To(BeClosed())
	g.Expect(p.Err()).To(MatchError("signal: killed"))
}

func TestProcessKill(t *testing.T) {
	g := NewWithT(t)
	p := shell(t, "exec sleep 1000")
	g.Expect(p.PID()).To(BeNumerically(">", 0))
	g.Expect(p.Kill()).To(Succeed())
	g.Expect(p.Err()).To(MatchError("signal: killed"))
}

func TestProcessThatEndsByItself(t *testing.T) {
	g := NewWithT(t)
	p := shell(t, "echo one; echo two >&2; echo three; exit 3")
	g.Eventually(p.Exited()).Should(BeClosed())
	g.Expect(p.Err()).To(MatchError("exit status 3"))
	g.Expect(p.LogTail(2)).To(Equal("two\nthree"))
	g.Expect(p.LogTail(10)).To(Equal("one\ntwo\nthree"))
	g.Expect(p.LogTail(0)).To(BeEmpty())
}

func TestProcessesShareALog(t *testing.T) {
	g := NewWithT(t)
	logPath := filepath.Join(t.TempDir(), "echo.log")
	var last *Process
	for _, text := range []string{"first", "second"} {
		p, err := StartProcess("echo", exec.Command("echo", text), logPath)
		g.Expect(err).NotTo(HaveOccurred())
		g.Eventually(p.Exited()).Should(BeClosed())
		last = p
	}
	g.Expect(last.LogTail(10)).To(Equal("second"), "the tail is that of one process")
	g.Expect(os.ReadFile(last.LogPath())).To(BeEquivalentTo("first\nsecond\n"), "the file is that of both")
}

func TestStartProcessFails(t *testing.T) {
	g := NewWithT(t)
	dir := t.TempDir()
	_, err := StartProcess("nothing", exec.Command(filepath.Join(dir, "nothing")), filepath.Join(dir, "log"))
	g.Expect(err).To(MatchError(And(ContainSubstring("starting nothing: "), ContainSubstring("no such file"))))

	_, err = StartProcess("echo", exec.Command("echo"), filepath.Join(dir, "missing", "log"))
	g.Expect(err).To(MatchError(ContainSubstring("starting echo: opening its log: ")))

	cmd := exec.Command("echo")
	cmd.Stdout = os.Stderr
	_, err = StartProcess("echo", cmd, filepath.Join(dir, "log"))
	g.Expect(err).To(MatchError(ContainSubstring("leave Stdout and Stderr of the command unset")))
}
