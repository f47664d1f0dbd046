// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"time"
)

// sample is one round of one side.
type sample struct {
	// operations is how many were made, all with success.
	operations int
	// took is from the first operation until the last was answered.
	took time.Duration
	// used is the CPU time from the first operation until everything that it led to was done.
	used usage
	// others is the part of the machine that neither side used while the operations were made.
	others float64
}

// rate is operations per second.
func (s sample) rate() float64 { return float64(s.operations) / s.took.Seconds() }

// comparison is what the rounds of two sides came to, round by round.
type comparison struct {
	operator, raw []sample
}

// side makes one round of one side.
type side func(ctx context.Context) (sample, error)

const (
	// calm is the part of the machine that others may use without a round being made again.
	calm = 0.1
	// calmInterval is how long a look at the others lasts.
	calmInterval = 100 * time.Millisecond
)

// inTurns runs two sides in turns until enough rounds of each are made that nobody disturbed, or the patience with those
// who do is at its end. What changes in the meantime changes for both: who begins changes from round to round. A first
// round of each, in which connections are made and caches filled, does not count.
func (b *bench) inTurns(ctx context.Context, rounds int, operator, raw side) (comparison, error) {
	var c comparison
	for made := 0; len(c.operator) < rounds; made++ {
		var o, r sample
		steps := []func() error{
			func() (err error) { o, err = operator(ctx); return err },
			func() (err error) { r, err = raw(ctx); return err },
		}
		began := time.Now()
		if made%2 == 1 {
			slices.Reverse(steps)
		}
		for _, step := range steps {
			if err := step(); err != nil {
				return comparison{}, fmt.Errorf("round %d: %w", made, err)
			}
		}
		took := time.Since(began)
		disturbed := max(o.others, r.others) > calm
		switch {
		case made == 0:
		case disturbed && took <= b.patience:
			b.patience -= took
			b.again++
		default:
			c.operator, c.raw = append(c.operator, o), append(c.raw, r)
			if disturbed {
				b.disturbed++
			}
		}
	}
	return c, nil
}

// ratio is the median of the ratios.
func (c comparison) ratio() float64 { return median(c.ratios()) }

// cpuRatio is the CPU time of the raw client's operation, of all processes together, as a part of the operator's: the
// ratio on a machine without a core to spare, and the one that others on the machine disturb least.
func (c comparison) cpuRatio() float64 {
	return perOperation(c.raw, ofAll) / perOperation(c.operator, ofAll)
}

// ratios are the operator's rates as parts of the raw client's, of the rounds that followed each other, sorted.
func (c comparison) ratios() []float64 {
	ratios := make([]float64, 0, len(c.operator))
	for i := range c.operator {
		ratios = append(ratios, c.operator[i].rate()/c.raw[i].rate())
	}
	slices.Sort(ratios)
	return ratios
}

func rates(samples []sample) []float64 {
	rates := make([]float64, 0, len(samples))
	for _, s := range samples {
		rates = append(rates, s.rate())
	}
	return rates
}

func medianRate(samples []sample) float64 { return median(rates(samples)) }

// median is the middle value, or the mean of the two in the middle; 0 for none.
func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	middle := len(sorted) / 2
	switch {
	case len(sorted) == 0:
		return 0
	case len(sorted)%2 == 1:
		return sorted[middle]
	}
	return (sorted[middle-1] + sorted[middle]) / 2
}

// percentile is the smallest value that so many percent of the values do not exceed; 0 for none.
func percentile(values []float64, percent int) float64 {
	if len(values) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(values))
	rank := (len(sorted)*percent + 99) / 100
	return sorted[max(rank, 1)-1]
}

// perOperation is the CPU time in milliseconds that something used for each operation of all rounds together: the
// kernel counts it in hundredths of a second, which is too coarse for one round.
func perOperation(samples []sample, of func(usage) time.Duration) float64 {
	var total time.Duration
	var operations int
	for _, s := range samples {
		total += of(s.used)
		operations += s.operations
	}
	if operations == 0 {
		return 0
	}
	return total.Seconds() * 1000 / float64(operations)
}

// measure times what body does, which is a number of operations, and waits until everything is quiet again.
func (w *world) measure(ctx context.Context, operations int, body func(ctx context.Context) error) (sample, error) {
	// Neither what was prepared nor what the other side left must be cleaned up while the time is taken.
	runtime.GC()
	if err := w.collectGarbage(ctx); err != nil {
		return sample{}, err
	}
	if err := w.awaitCalm(ctx); err != nil {
		return sample{}, err
	}
	before, err := w.usage()
	if err != nil {
		return sample{}, err
	}
	start := time.Now()
	err = body(ctx)
	took := time.Since(start)
	if err != nil {
		return sample{}, err
	}
	meanwhile, err := w.usage()
	if err != nil {
		return sample{}, err
	}
	others := meanwhile.minus(before).othersPart(took)
	after, err := w.quiet(ctx)
	if err != nil {
		return sample{}, err
	}
	return sample{operations: operations, took: took, used: after.minus(before), others: others}, nil
}

// awaitCalm waits until others leave the machine alone, or the patience is at its end.
func (w *world) awaitCalm(ctx context.Context) error {
	for {
		before, err := w.usage()
		if err != nil {
			return err
		}
		began := time.Now()
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(calmInterval):
		}
		now, err := w.usage()
		if err != nil {
			return err
		}
		took := time.Since(began)
		if w.bench.patience < took || now.minus(before).othersPart(took) <= calm {
			return nil
		}
		w.bench.patience -= took
	}
}

// drive does something for each index below a number, so many at once, and returns the first error.
func drive(ctx context.Context, operations, atOnce int, do func(ctx context.Context, i int) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	next := make(chan int)
	var workers sync.WaitGroup
	for range atOnce {
		workers.Go(func() {
			for i := range next {
				if err := do(ctx, i); err != nil {
					cancel(err)
				}
			}
		})
	}
	for i := 0; i < operations && ctx.Err() == nil; i++ {
		next <- i
	}
	close(next)
	workers.Wait()
	return context.Cause(ctx)
}
