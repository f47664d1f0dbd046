// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	_ "embed"
	"fmt"

	"github.com/clerk-operator/clerk-operator/internal/clerk"
	"github.com/clerk-operator/clerk-operator/internal/delivery"
	"github.com/clerk-operator/clerk-operator/internal/mirror"
	"github.com/clerk-operator/clerk-operator/test/payload"
)

//go:embed receiver.md
var receiverText string

const (
	// receiverAim is the part of the raw client's rate that the receiver should reach.
	receiverAim = 0.9
	// receiverCPUAim is how much of its CPU the operator should use for an event, in milliseconds.
	receiverCPUAim = 0.5
)

// pace is how many deliveries are made at once, and how many in a round.
type pace struct{ atOnce, operations int }

var paces = []pace{{atOnce: 1, operations: 150}, {atOnce: 32, operations: 450}}

// maxOperations is the number of the largest round.
const maxOperations = 450

// deliveries are a kind of deliveries to make again and again.
type deliveries struct {
	name string
	want mirror.Result
	// next returns the messages of a round.
	next func(n int) ([]delivery.Message, error)
}

// receiverLine is what was measured of one kind of deliveries at one pace.
type receiverLine struct {
	deliveries string
	atOnce     int
	comparison
}

// runReceiver measures deliveries against the same applies, with a manager that reconciles and with one that does not.
func runReceiver(ctx context.Context, b *bench) (chapter, error) {
	var both, alone []receiverLine
	err := withWorld(ctx, b, worldOptions{}, func(w *world) error {
		kinds, err := receiverDeliveries(ctx, w, newHistory())
		if err != nil {
			return err
		}
		// The leader comes first: it would have to catch up with all that the other one left. What is written to nobody
		// is there to be reconciled, and one delivery at a time tells nothing new.
		b.say("receiving with reconciling")
		if err := w.startLeader(ctx); err != nil {
			return err
		}
		if both, err = w.receive(ctx, b, kinds[:2], paces[1:]); err != nil {
			return err
		}
		if err := w.stopManager(); err != nil {
			return err
		}
		b.say("receiving only")
		if err := w.startStandby(ctx); err != nil {
			return err
		}
		alone, err = w.receive(ctx, b, kinds, paces)
		return err
	})
	if err != nil {
		return chapter{}, err
	}
	return renderChapter("The receiver", receiverText, map[string]any{
		"Aim": receiverAim, "CPUAim": receiverCPUAim,
		"Alone": receiverTable(alone), "Both": receiverTable(both), "CPU": receiverCPUTable(alone),
	})
}

// receiverDeliveries returns the kinds of deliveries, with the users that some of them need.
func receiverDeliveries(ctx context.Context, w *world, h *history) ([]deliveries, error) {
	users := make([]payload.User, maxOperations)
	var created, repeated []delivery.Message
	for i := range users {
		users[i] = h.newUser()
		m, err := h.message("user.created", users[i].Data())
		if err != nil {
			return nil, err
		}
		again, err := h.message("user.created", h.newUser().Data())
		if err != nil {
			return nil, err
		}
		created, repeated = append(created, m), append(repeated, again)
	}
	if err := applyAll(ctx, w.raw, append(created, repeated...)); err != nil {
		return nil, err
	}
	return []deliveries{
		{name: "`user.created`, new users", want: mirror.Applied, next: func(n int) (messages []delivery.Message, err error) {
			return collect(n, func(int) (delivery.Message, error) { return h.message("user.created", h.newUser().Data()) })
		}},
		{name: "`user.updated`, newer state", want: mirror.Applied, next: func(n int) ([]delivery.Message, error) {
			return collect(n, func(i int) (delivery.Message, error) {
				u := users[i]
				u.UpdatedAt = h.tick()
				u.FirstName = fmt.Sprintf("Some %d", u.UpdatedAt.UnixMilli())
				return h.message("user.updated", u.Data())
			})
		}},
		{name: "duplicates, the same message", want: mirror.Unchanged, next: func(n int) ([]delivery.Message, error) {
			return repeated[:n], nil
		}},
	}, nil
}

func collect[T any](n int, item func(i int) (T, error)) ([]T, error) {
	items := make([]T, 0, n)
	for i := range n {
		it, err := item(i)
		if err != nil {
			return nil, err
		}
		items = append(items, it)
	}
	return items, nil
}

// receive measures kinds of deliveries at paces.
func (w *world) receive(ctx context.Context, b *bench, kinds []deliveries, paces []pace) ([]receiverLine, error) {
	var lines []receiverLine
	for _, kind := range kinds {
		for _, p := range paces {
			c, err := b.inTurns(ctx, b.rounds, w.deliver(kind, p), w.applyLikewise(kind, p))
			if err != nil {
				return nil, fmt.Errorf("%s, %d at once: %w", kind.name, p.atOnce, err)
			}
			b.say("%s, %d at once: %s", kind.name, p.atOnce, c)
			lines = append(lines, receiverLine{deliveries: kind.name, atOnce: p.atOnce, comparison: c})
		}
	}
	return lines, nil
}

// deliver is the operator's side: signed deliveries over HTTP.
func (w *world) deliver(kind deliveries, p pace) side {
	sender := w.newSender(p.atOnce)
	return func(ctx context.Context) (sample, error) {
		messages, err := kind.next(p.operations)
		if err != nil {
			return sample{}, err
		}
		attempts, err := sign(messages)
		if err != nil {
			return sample{}, err
		}
		return w.measure(ctx, p.operations, func(ctx context.Context) error {
			return drive(ctx, p.operations, p.atOnce, func(ctx context.Context, i int) error {
				return post(ctx, sender, attempts[i], kind.want)
			})
		})
	}
}

// applyLikewise is the raw client's side: the applies that such deliveries come to.
func (w *world) applyLikewise(kind deliveries, p pace) side {
	return func(ctx context.Context) (sample, error) {
		messages, err := kind.next(p.operations)
		if err != nil {
			return sample{}, err
		}
		objects, err := collect(len(messages), func(i int) (*clerk.Object, error) { return desired(messages[i]) })
		if err != nil {
			return sample{}, err
		}
		return w.measure(ctx, p.operations, func(ctx context.Context) error {
			return drive(ctx, p.operations, p.atOnce, func(ctx context.Context, i int) error {
				return applyRaw(ctx, w.raw, objects[i])
			})
		})
	}
}

// receiverTable compares rates.
func receiverTable(lines []receiverLine) string {
	t := table{header: []string{
		"Deliveries", "At once", "Receiver, events/s", "Raw, applies/s", "Ratio", "Rounds", "CPU ratio", "Manager's CPU, ms/event",
	}}
	for _, l := range lines {
		ratios := l.ratios()
		t.add(l.deliveries, fmt.Sprint(l.atOnce), rounded(medianRate(l.operator)), rounded(medianRate(l.raw)),
			judged(l.ratio(), l.ratio() >= receiverAim), fmt.Sprintf("%.2f–%.2f", ratios[0], ratios[len(ratios)-1]),
			fmt.Sprintf("%.2f", l.cpuRatio()), judged(perOperation(l.operator, ofManager), perOperation(l.operator, ofManager) <= receiverCPUAim))
	}
	return t.markdown()
}

// receiverCPUTable says where the CPU time goes.
func receiverCPUTable(lines []receiverLine) string {
	t := table{header: []string{
		"Deliveries", "At once", "Receiver: sender", "manager", "control plane", "Raw: client", "manager's caches", "control plane",
	}}
	for _, l := range lines {
		t.add(l.deliveries, fmt.Sprint(l.atOnce),
			milliseconds(perOperation(l.operator, ofBench)), milliseconds(perOperation(l.operator, ofManager)),
			milliseconds(perOperation(l.operator, ofControlPlane)),
			milliseconds(perOperation(l.raw, ofBench)), milliseconds(perOperation(l.raw, ofManager)),
			milliseconds(perOperation(l.raw, ofControlPlane)))
	}
	return t.markdown()
}
