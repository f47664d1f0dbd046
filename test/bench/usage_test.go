// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"runtime"
	"testing"
	"time"

	. "github.com/onsi/gomega"
)

func TestParseStat(t *testing.T) {
	const rest = " S 77 42 42 0 -1 4194560 100 0 0 0 12 3 0 0 20 0 9 0 100 1000000 200\n"
	for name, test := range map[string]struct {
		line string
		want process
		err  string
	}{
		"a process":                {"42 (manager)" + rest, process{42, 77, "manager", 150 * time.Millisecond}, ""},
		"a name with parentheses":  {"42 (a) b (c)" + rest, process{42, 77, "a) b (c", 150 * time.Millisecond}, ""},
		"no name":                  {"42 manager" + rest, process{}, "no name"},
		"a line that is cut short": {"42 (manager) S 77", process{}, "too few"},
		"no number":                {"42 (manager) S x 42 42 0 -1 0 1 0 0 0 12 3 0", process{}, "invalid syntax"},
	} {
		t.Run(name, func(t *testing.T) {
			g := NewWithT(t)
			got, err := parseStat([]byte(test.line))
			if test.err != "" {
				g.Expect(err).To(MatchError(ContainSubstring(test.err)))
				return
			}
			g.Expect(err).NotTo(HaveOccurred())
			g.Expect(got).To(Equal(test.want))
		})
	}
}

func TestParseMachineStat(t *testing.T) {
	g := NewWithT(t)
	// Idle, waiting for a disk, and what guests used a second time do not count.
	g.Expect(parseMachineStat([]byte("cpu  1 2 3 1000 2000 4 5 6 3000 4000\ncpu0 1 1 1 1 1 1 1 1 1 1\n"))).
		To(Equal(210 * time.Millisecond))
	_, err := parseMachineStat([]byte("intr 1 2 3\n"))
	g.Expect(err).To(MatchError(ContainSubstring("not the sum")))
	_, err = parseMachineStat([]byte("cpu 1 2 x 4 5 6 7 8\n"))
	g.Expect(err).To(HaveOccurred())
}

func TestParsePeakMemory(t *testing.T) {
	g := NewWithT(t)
	g.Expect(parsePeakMemory([]byte("Name:\tmanager\nVmHWM:\t   67584 kB\nVmRSS:\t   60000 kB\n"))).To(Equal(int64(66 << 20)))
	for status, says := range map[string]string{
		"Name:\tmanager\nVmRSS:\t 60000 kB\n": "no peak",
		"VmHWM:\t 67584\n":                    "not a number of kB",
		"VmHWM:\t some kB\n":                  "not a number of kB",
	} {
		_, err := parsePeakMemory([]byte(status))
		g.Expect(err).To(MatchError(ContainSubstring(says)))
	}
}

func TestUsage(t *testing.T) {
	g := NewWithT(t)
	u := usage{bench: 5, manager: 6, controlPlane: 7, machine: 20}.minus(usage{bench: 1, manager: 2, controlPlane: 3, machine: 4})
	g.Expect(u).To(Equal(usage{bench: 4, manager: 4, controlPlane: 4, machine: 16}))
	g.Expect(u.othersPart(40)).To(BeNumerically("~", 0.1/float64(runtime.NumCPU()), 1e-9))
}
