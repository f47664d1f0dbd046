// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	. "github.com/onsi/gomega"
)

func TestMedian(t *testing.T) {
	for name, test := range map[string]struct {
		values []float64
		want   float64
	}{
		"none":                    {nil, 0},
		"one":                     {[]float64{3}, 3},
		"odd":                     {[]float64{9, 1, 5}, 5},
		"even":                    {[]float64{4, 1, 3, 2}, 2.5},
		"an outlier moves little": {[]float64{1, 1, 1, 1000}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			NewWithT(t).Expect(median(test.values)).To(Equal(test.want))
		})
	}
}

func TestPercentile(t *testing.T) {
	hundred := make([]float64, 100)
	for i := range hundred {
		hundred[i] = float64(100 - i)
	}
	for name, test := range map[string]struct {
		values  []float64
		percent int
		want    float64
	}{
		"none":             {nil, 99, 0},
		"one":              {[]float64{3}, 99, 3},
		"all but one":      {hundred, 99, 99},
		"between two":      {[]float64{1, 2, 3}, 50, 2},
		"the smallest":     {hundred, 0, 1},
		"the largest":      {hundred, 100, 100},
		"two of a hundred": {hundred, 2, 2},
	} {
		t.Run(name, func(t *testing.T) {
			NewWithT(t).Expect(percentile(test.values, test.percent)).To(Equal(test.want))
		})
	}
}

func TestMedianLeavesTheOrder(t *testing.T) {
	values := []float64{3, 1, 2}
	median(values)
	NewWithT(t).Expect(values).To(Equal([]float64{3, 1, 2}))
}

// second is a round of so many operations in a second.
func second(operations int) sample { return sample{operations: operations, took: time.Second} }

func TestRatio(t *testing.T) {
	g := NewWithT(t)
	c := comparison{
		operator: []sample{second(90), second(50), second(30)},
		raw:      []sample{second(100), second(100), second(100)},
	}
	g.Expect(c.ratios()).To(Equal([]float64{0.3, 0.5, 0.9}))
	g.Expect(c.ratio()).To(Equal(0.5))

	// A machine that becomes slower slows both down.
	c.operator, c.raw = []sample{second(80), second(40), second(20)}, []sample{second(100), second(50), second(25)}
	g.Expect(c.ratio()).To(Equal(0.8))
}

func TestPerOperation(t *testing.T) {
	g := NewWithT(t)
	samples := []sample{
		{operations: 10, used: usage{manager: 10 * time.Millisecond, bench: time.Second}},
		{operations: 30, used: usage{manager: 10 * time.Millisecond}},
	}
	g.Expect(perOperation(samples, ofManager)).To(Equal(0.5))
	g.Expect(perOperation(samples, ofControlPlane)).To(BeZero())
	g.Expect(perOperation(nil, ofManager)).To(BeZero())
}

// sides returns two sides that note when they are asked, and answer with what is in turn.
func sides(order *string, others ...float64) (operator, raw side) {
	round := 0
	next := func(name string) side {
		return func(context.Context) (sample, error) {
			*order += name
			s := second(1)
			if round/2 < len(others) {
				s.others = others[round/2]
			}
			round++
			return s, nil
		}
	}
	return next("o"), next("r")
}

func TestInTurns(t *testing.T) {
	for name, test := range map[string]struct {
		patience         time.Duration
		others           []float64
		order            string
		again, disturbed int
	}{
		"the first round does not count":             {order: "orroor"},
		"a disturbed first round does not either":    {others: []float64{1}, order: "orroor", patience: time.Hour},
		"a disturbed round is made again":            {others: []float64{0, 1}, order: "orroorro", again: 1, patience: time.Hour},
		"a disturbed round counts without patience":  {others: []float64{0, 1}, order: "orroor", disturbed: 1},
		"a little that others do is no disturbance":  {others: []float64{0, calm}, order: "orroor", patience: time.Hour},
		"what the kernel counts double is none, too": {others: []float64{0, -1}, order: "orroor", patience: time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			g := NewWithT(t)
			var order string
			operator, raw := sides(&order, test.others...)
			b := &bench{patience: test.patience}
			c, err := b.inTurns(t.Context(), 2, operator, raw)
			g.Expect(err).NotTo(HaveOccurred())
			g.Expect(order).To(Equal(test.order))
			g.Expect(c.operator).To(HaveLen(2))
			g.Expect(c.raw).To(HaveLen(2))
			g.Expect([]int{b.again, b.disturbed}).To(Equal([]int{test.again, test.disturbed}))
		})
	}
}

func TestInTurnsEndsWithTheFirstError(t *testing.T) {
	g := NewWithT(t)
	var order string
	operator, _ := sides(&order)
	broken := errors.New("broken")
	_, err := (&bench{}).inTurns(t.Context(), 2, operator, func(context.Context) (sample, error) { return sample{}, broken })
	g.Expect(err).To(MatchError(broken))
	g.Expect(order).To(Equal("o"))
}

func TestDrive(t *testing.T) {
	g := NewWithT(t)
	var done [100]atomic.Int32
	var now, most atomic.Int32
	err := drive(t.Context(), len(done), 7, func(_ context.Context, i int) error {
		most.Store(max(most.Load(), now.Add(1)))
		defer now.Add(-1)
		done[i].Add(1)
		return nil
	})
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(most.Load()).To(BeNumerically("<=", 7))
	for i := range done {
		g.Expect(done[i].Load()).To(BeEquivalentTo(1))
	}
}

func TestDriveEndsWithTheFirstError(t *testing.T) {
	g := NewWithT(t)
	broken := errors.New("broken")
	var made atomic.Int32
	err := drive(t.Context(), 1000, 2, func(context.Context, int) error {
		made.Add(1)
		return broken
	})
	g.Expect(err).To(MatchError(broken))
	g.Expect(made.Load()).To(BeNumerically("<", 10))

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	g.Expect(drive(ctx, 1, 1, func(context.Context, int) error { return nil })).To(MatchError(context.Canceled))
}
