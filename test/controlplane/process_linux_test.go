// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package controlplane

import (
	"bufio"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"
	"testing"
	"time"

	. "github.com/onsi/gomega"
)

// crashHelperLog turns the test program into one that starts a process, with this log, and then waits to be killed.
const crashHelperLog = "CONTROLPLANE_CRASH_HELPER_LOG"

func TestMain(m *testing.M) {
	if logPath := os.Getenv(crashHelperLog); logPath != "" {
		runCrashHelper(logPath)
	}
	// Gomega's own second is short on a machine that compiles and tests at the same time.
	SetDefaultEventuallyTimeout(30 * time.Second)
	os.Exit(m.Run())
}

// runCrashHelper starts a process that says "started" on file descriptor 3 of this one and keeps it open.
func runCrashHelper(logPath string) {
	cmd := exec.Command("sh", "-c", "echo started >&3; exec sleep 1000")
	cmd.ExtraFiles = []*os.File{os.NewFile(3, "pipe")}
	if _, err := StartProcess("sleep", cmd, logPath); err != nil {
		_, _ = os.Stderr.WriteString(err.Error() + "\n")
		os.Exit(1)
	}
	for {
		// No return and no signal handler: only a signal ends this.
		_ = syscall.Pause()
	}
}

func TestProcessDoesNotOutliveAKilledProgram(t *testing.T) {
	g := NewWithT(t)
	self, err := os.Executable()
	g.Expect(err).NotTo(HaveOccurred())
	reader, writer, err := os.Pipe()
	g.Expect(err).NotTo(HaveOccurred())
	t.Cleanup(func() { _ = reader.Close() })
	helper := exec.Command(self)
	helper.Env = append(os.Environ(), crashHelperLog+"="+filepath.Join(t.TempDir(), "sleep.log"))
	helper.Stderr = os.Stderr
	helper.ExtraFiles = []*os.File{writer}
	g.Expect(helper.Start()).To(Succeed())
	t.Cleanup(func() { _ = helper.Process.Kill() })
	g.Expect(writer.Close()).To(Succeed())
	g.Expect(reader.SetReadDeadline(time.Now().Add(30 * time.Second))).To(Succeed())
	lines := bufio.NewReader(reader)
	g.Expect(lines.ReadString('\n')).To(Equal("started\n"))

	g.Expect(helper.Process.Kill()).To(Succeed())
	g.Expect(helper.Wait()).To(MatchError("signal: killed"))

	// The pipe ends when nobody has it open for writing any more. Unlike a look at the process ID this neither
	// depends on who reaps the orphan nor takes another process with the same ID for it.
	_, err = lines.ReadByte()
	g.Expect(err).To(MatchError(io.EOF), "the process that the killed program started still has the pipe open")
}

func TestProcessOutlivesTheThreadThatAskedForIt(t *testing.T) {
	g := NewWithT(t)
	reader, writer, err := os.Pipe()
	g.Expect(err).NotTo(HaveOccurred())
	t.Cleanup(func() { _ = reader.Close() })
	cmd := exec.Command("cat")
	stdin, err := cmd.StdinPipe()
	g.Expect(err).NotTo(HaveOccurred())
	cmd.Args = []string{"sh", "-c", "exec cat >&3"}
	cmd.Path = "/bin/sh"
	cmd.ExtraFiles = []*os.File{writer}
	type result struct {
		p   *Process
		tid int
		err error
	}
	var r result
	onAThreadThatEnds(func() {
		p, err := StartProcess("cat", cmd, filepath.Join(t.TempDir(), "cat.log"))
		r = result{p, syscall.Gettid(), err}
	})
	g.Expect(r.err).NotTo(HaveOccurred())
	t.Cleanup(func() { _ = r.p.Kill() })
	g.Expect(writer.Close()).To(Succeed())
	g.Eventually(filepath.Join("/proc/self/task", strconv.Itoa(r.tid))).ShouldNot(BeADirectory())

	g.Expect(io.WriteString(stdin, "alive\n")).To(Equal(6))
	g.Expect(reader.SetReadDeadline(time.Now().Add(30 * time.Second))).To(Succeed())
	g.Expect(bufio.NewReader(reader).ReadString('\n')).To(Equal("alive\n"))
}

// onAThreadThatEnds calls f on a thread that ends after it: one that is still locked when its goroutine ends. The
// program's first thread is the exception, the runtime only parks that one.
func onAThreadThatEnds(f func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		if syscall.Gettid() == syscall.Getpid() {
			// While this goroutine holds the first thread, the next one runs on another.
			defer runtime.UnlockOSThread()
			onAThreadThatEnds(f)
			return
		}
		f()
	}()
	<-done
}
