// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"strings"
	"testing"
	"time"

	. "github.com/onsi/gomega"
)

func TestTable(t *testing.T) {
	table := table{header: []string{"What", "A", "B"}}
	table.add("this", "1", "2")
	table.add("that", "3", "4")
	NewWithT(t).Expect(table.markdown()).To(Equal(strings.Join([]string{
		"| What | A | B |",
		"|---|---:|---:|",
		"| this | 1 | 2 |",
		"| that | 3 | 4 |",
		"",
	}, "\n")))
}

func TestRounded(t *testing.T) {
	g := NewWithT(t)
	for value, want := range map[float64]string{0: "0.00", 0.456: "0.46", 9.99: "9.99", 12.34: "12.3", 123.4: "123", 1234: "1234"} {
		g.Expect(rounded(value)).To(Equal(want))
	}
}

func TestJudged(t *testing.T) {
	g := NewWithT(t)
	g.Expect(judged(0.912, true)).To(Equal("0.91"))
	g.Expect(judged(0.5, false)).To(Equal("**0.50**"))
	g.Expect(marked("198", true)).To(Equal("198"))
	g.Expect(marked("197", false)).To(Equal("**197**"))
}

func TestReceiverTable(t *testing.T) {
	used := func(manager time.Duration) usage { return usage{manager: manager} }
	fast := receiverLine{deliveries: "`user.created`", atOnce: 32, comparison: comparison{
		operator: []sample{{operations: 95, took: time.Second, used: used(19 * time.Millisecond)}},
		raw:      []sample{{operations: 100, took: time.Second, used: used(10 * time.Millisecond)}},
	}}
	slow := receiverLine{deliveries: "duplicates", atOnce: 1, comparison: comparison{
		operator: []sample{{operations: 50, took: time.Second, used: used(100 * time.Millisecond)}},
		raw:      []sample{{operations: 100, took: time.Second, used: used(100 * time.Millisecond)}},
	}}
	g := NewWithT(t)
	lines := strings.Split(receiverTable([]receiverLine{fast, slow}), "\n")
	g.Expect(lines[2]).To(Equal("| `user.created` | 32 | 95.0 | 100 | 0.95 | 0.95–0.95 | 0.50 | 0.20 |"))
	g.Expect(lines[3]).To(Equal("| duplicates | 1 | 50.0 | 100 | **0.50** | 0.50–0.50 | 0.50 | **2.00** |"))
}

func TestRequestTable(t *testing.T) {
	p := &provisioning{takeover: newRequests()}
	p.operator = account{requests: newRequests(), organizations: 10}
	p.raw = account{requests: newRequests(), organizations: 5}
	p.operator.writes["clerkorganizations/status"], p.raw.writes["clerkorganizations/status"] = 13, 5
	p.operator.writes["events"], p.operator.refused["secrets"], p.operator.reads["namespaces"] = 20, 5, 10
	text := p.requestTable()
	g := NewWithT(t)
	g.Expect(text).To(ContainSubstring("| `clerkorganizations/status` | **1.30** | 1.00 | 1 |\n"))
	g.Expect(text).To(ContainSubstring("| writes together | 1.30 | 1.00 | 13 |\n"))
	g.Expect(text).To(ContainSubstring("| of them refused as conflicts | 0.50 | 0.00 | 0 |\n"))
	g.Expect(text).To(ContainSubstring("| Events | 2.00 | 0.00 |  |\n"))
	g.Expect(text).To(ContainSubstring("| reads past the cache | 1.00 | 0.00 |  |\n"))
}

func TestPage(t *testing.T) {
	g := NewWithT(t)
	b := &bench{rounds: 5, again: 2, disturbed: 1, machine: machine{
		date: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), cores: 2, platform: "linux/amd64", goVersion: "go1.2", kubernetes: "v1.3",
	}}
	text := page(b, 90*time.Second, []chapter{{title: "First", body: "\none\n\n"}, {title: "Second", body: "two"}})
	g.Expect(text).To(HavePrefix("# Benchmarks\n"))
	g.Expect(text).NotTo(ContainSubstring("FACTS"))
	for _, line := range []string{
		"| Date | 2026-01-02 |", "| Cores, shared by everything | 2 |", "| Kubernetes | v1.3 |", "| Duration | 1m30s |",
		"| Disturbed rounds that count all the same | 1 |",
	} {
		g.Expect(text).To(ContainSubstring(line + "\n"))
	}
	g.Expect(text).To(HaveSuffix("\n\n## First\n\none\n\n## Second\n\ntwo\n"))
}

func TestRenderChapter(t *testing.T) {
	g := NewWithT(t)
	g.Expect(renderChapter("Title", "{{.A}} of {{.B}}", map[string]any{"A": 1, "B": "two"})).
		To(Equal(chapter{title: "Title", body: "1 of two"}))
	_, err := renderChapter("Title", "{{.C}}", map[string]any{"A": 1})
	g.Expect(err).To(HaveOccurred(), "a result is missing")
	_, err = renderChapter("Title", "{{", nil)
	g.Expect(err).To(HaveOccurred())
}

func TestSelectScenarios(t *testing.T) {
	names := func(only string) []string {
		selected, err := selectScenarios(only)
		if err != nil {
			return nil
		}
		var names []string
		for _, s := range selected {
			names = append(names, s.name)
		}
		return names
	}
	g := NewWithT(t)
	g.Expect(names("")).To(HaveLen(len(scenarios)))
	g.Expect(names("provisioning")).To(Equal([]string{"provisioning"}))
	g.Expect(names("provisioning,receiver")).To(Equal([]string{"receiver", "provisioning"}), "in their own order")
	for _, bad := range []string{"other", "receiver,other", "receiver,receiver", ","} {
		_, err := selectScenarios(bad)
		g.Expect(err).To(HaveOccurred(), bad)
	}
}
