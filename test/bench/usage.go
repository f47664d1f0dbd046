// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"syscall"
	"time"

	"k8s.io/apimachinery/pkg/util/wait"
)

const (
	// tick is the unit of CPU time in /proc: the same on every Linux that Go runs on.
	tick = 10 * time.Millisecond
	// quietInterval is how long each look lasts at whether anybody still works.
	quietInterval = 50 * time.Millisecond
	// quietTicks is what an idle control plane and manager use in that time at most; while any work is left, they use
	// most of a core.
	quietTicks = 1
	// quietLooks is how many quiet looks in a row it takes.
	quietLooks = 3
	// quietTimeout bounds the wait.
	quietTimeout = 2 * time.Minute
)

// usage is CPU time, user and system together.
type usage struct {
	// bench is this program: the sender, or the raw client.
	bench time.Duration
	// manager is the operator.
	manager time.Duration
	// controlPlane is etcd, kube-apiserver and kube-controller-manager.
	controlPlane time.Duration
	// machine is everything that runs on the machine, these three included.
	machine time.Duration
}

func (u usage) minus(v usage) usage {
	return usage{
		bench: u.bench - v.bench, manager: u.manager - v.manager, controlPlane: u.controlPlane - v.controlPlane,
		machine: u.machine - v.machine,
	}
}

// othersPart is the part of the machine that everything else used in a time. The kernel's books do not match to the
// tick, so it may be a little below 0.
func (u usage) othersPart(in time.Duration) float64 {
	others := u.machine - u.bench - u.manager - u.controlPlane
	return others.Seconds() / in.Seconds() / float64(runtime.NumCPU())
}

func ofBench(u usage) time.Duration        { return u.bench }
func ofManager(u usage) time.Duration      { return u.manager }
func ofControlPlane(u usage) time.Duration { return u.controlPlane }

func ofAll(u usage) time.Duration { return u.bench + u.manager + u.controlPlane }

// controlPlaneNames are its processes, as the kernel cuts their names.
var controlPlaneNames = []string{"etcd", "kube-apiserver", "kube-controller"}

// usage returns the CPU time that was used until now. That of a process that has ended is not in it.
func (w *world) usage() (usage, error) {
	var self syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &self); err != nil {
		return usage{}, fmt.Errorf("reading this program's CPU time: %w", err)
	}
	stat, err := os.ReadFile("/proc/stat")
	if err != nil {
		return usage{}, fmt.Errorf("reading the machine's CPU time: %w", err)
	}
	result := usage{bench: time.Duration(self.Utime.Nano() + self.Stime.Nano())}
	if result.machine, err = parseMachineStat(stat); err != nil {
		return usage{}, err
	}
	paths, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return usage{}, fmt.Errorf("listing processes: %w", err)
	}
	for _, path := range paths {
		content, err := os.ReadFile(path)
		if err != nil {
			continue // it has ended, or is none of ours
		}
		p, err := parseStat(content)
		if err != nil {
			return usage{}, fmt.Errorf("reading %s: %w", path, err)
		}
		switch {
		case p.parent != os.Getpid():
		case w.manager != nil && p.id == w.manager.Process.PID():
			result.manager += p.used
		case slices.Contains(controlPlaneNames, p.name):
			result.controlPlane += p.used
		}
	}
	return result, nil
}

// process is what is needed of a line of /proc/<pid>/stat.
type process struct {
	id, parent int
	name       string
	used       time.Duration
}

// parseStat reads /proc/<pid>/stat, see proc_pid_stat(5). The name is in parentheses and may hold some, too.
func parseStat(line []byte) (process, error) {
	open, end := bytes.IndexByte(line, '('), bytes.LastIndexByte(line, ')')
	if open < 1 || end < open {
		return process{}, fmt.Errorf("%q has no name in parentheses", line)
	}
	// The first of these is field 3 of the manual, the state.
	fields := bytes.Fields(line[end+1:])
	const parent, utime, stime = 4 - 3, 14 - 3, 15 - 3
	if len(fields) <= stime {
		return process{}, fmt.Errorf("%q has too few fields", line)
	}
	var numbers [4]int
	for i, field := range [][]byte{bytes.TrimSpace(line[:open]), fields[parent], fields[utime], fields[stime]} {
		var err error
		if numbers[i], err = strconv.Atoi(string(field)); err != nil {
			return process{}, err
		}
	}
	return process{
		id: numbers[0], parent: numbers[1], name: string(line[open+1 : end]),
		used: time.Duration(numbers[2]+numbers[3]) * tick,
	}, nil
}

// peakMemory returns the most memory that the running manager has had resident at once since it started, in bytes.
func (w *world) peakMemory() (int64, error) {
	path := filepath.Join("/proc", strconv.Itoa(w.manager.Process.PID()), "status")
	content, err := os.ReadFile(path)
	if err != nil {
		return 0, fmt.Errorf("reading the manager's memory: %w", err)
	}
	return parsePeakMemory(content)
}

// parsePeakMemory reads /proc/<pid>/status, see proc_pid_status(5), and returns the peak of the resident memory in bytes.
func parsePeakMemory(content []byte) (int64, error) {
	for line := range bytes.Lines(content) {
		value, found := bytes.CutPrefix(line, []byte("VmHWM:"))
		if !found {
			continue
		}
		value, found = bytes.CutSuffix(bytes.TrimSpace(value), []byte(" kB"))
		kilobytes, err := strconv.ParseInt(string(value), 10, 64)
		if err != nil || !found {
			return 0, fmt.Errorf("%q is not a number of kB", line)
		}
		return kilobytes << 10, nil
	}
	return 0, errors.New("the status of the process has no peak of its memory")
}

// parseMachineStat reads /proc/stat, see proc_stat(5), and returns the time that the machine's cores were not idle.
func parseMachineStat(content []byte) (time.Duration, error) {
	line, _, _ := bytes.Cut(content, []byte("\n"))
	fields := bytes.Fields(line)
	// user, nice, system, idle, iowait, irq, softirq, steal; guests are in user already.
	const last, idle, iowait = 8, 4, 5
	if len(fields) <= last || string(fields[0]) != "cpu" {
		return 0, fmt.Errorf("%q is not the sum of all cores", line)
	}
	var ticks int
	for i, field := range fields[1 : last+1] {
		n, err := strconv.Atoi(string(field))
		if err != nil {
			return 0, fmt.Errorf("reading /proc/stat: %w", err)
		}
		if i+1 != idle && i+1 != iowait {
			ticks += n
		}
	}
	return time.Duration(ticks) * tick, nil
}

// quiet waits until manager and control plane have nothing to do any more, and returns what had been used by then.
func (w *world) quiet(ctx context.Context) (usage, error) {
	before, err := w.usage()
	if err != nil {
		return usage{}, err
	}
	// done is what had been used when the present run of quiet looks began.
	done, looks := before, 0
	err = wait.PollUntilContextTimeout(ctx, quietInterval, quietTimeout, false, func(context.Context) (bool, error) {
		now, err := w.usage()
		if err != nil {
			return false, err
		}
		spent := now.minus(before)
		before = now
		if spent.manager+spent.controlPlane > quietTicks*tick {
			done, looks = now, 0
			return false, nil
		}
		looks++
		return looks == quietLooks, nil
	})
	if err != nil {
		return usage{}, fmt.Errorf("waiting until nothing is left to do: %w", err)
	}
	return done, nil
}
