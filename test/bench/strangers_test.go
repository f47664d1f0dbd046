// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"strings"
	"testing"
	"time"

	. "github.com/onsi/gomega"

	"github.com/clerk-operator/clerk-operator/test/attack"
)

// receipts are so many deliveries that were accepted at the first attempt, at the second, and not at all.
func receipts(first, second, lost int) []receipt {
	var all []receipt
	for range first {
		all = append(all, receipt{attempts: 1, took: 10 * time.Millisecond})
	}
	for range second {
		all = append(all, receipt{attempts: 2, took: 500 * time.Millisecond})
	}
	return append(all, make([]receipt, lost)...)
}

func TestStrangersTable(t *testing.T) {
	lines := strings.Split(strangersTable([]strangersLine{
		{attack: "none", receipts: receipts(200, 0, 0), peak: 66.4},
		{attack: "few", connections: 128, receipts: receipts(190, 8, 2), peak: 1024},
		{attack: "many", connections: 10_000, receipts: receipts(10, 187, 3), peak: 1024.6},
		{attack: "all", connections: 10_000, receipts: receipts(0, 0, 200), peak: 100},
	}), "\n")
	g := NewWithT(t)
	g.Expect(lines[2]).To(Equal("| none | 0 | 200 | 200 | 10.0 | 10.0 | 66 |"))
	g.Expect(lines[3]).To(Equal("| few | 128 | 190 | 198 | 10.0 | 500 | 1024 |"))
	g.Expect(lines[4]).To(Equal("| many | 10000 | 10 | **197** | 500 | 500 | **1025** |"))
	g.Expect(lines[5]).To(Equal("| all | 10000 | 0 | **0** | 0.00 | 0.00 | 100 |"), "there are no times")
}

func TestOnslaughtName(t *testing.T) {
	g := NewWithT(t)
	g.Expect(onslaught{kind: attack.Silent(), port: webhookPort}.name()).To(Equal("silent connections"))
	g.Expect(onslaught{kind: attack.Silent(), port: healthPort}.name()).To(Equal("silent connections, health port"))
}
