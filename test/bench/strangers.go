// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	_ "embed"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/util/wait"

	"github.com/clerk-operator/clerk-operator/internal/delivery"
	"github.com/clerk-operator/clerk-operator/internal/mirror"
	"github.com/clerk-operator/clerk-operator/internal/receiver"
	"github.com/clerk-operator/clerk-operator/test/attack"
	"github.com/clerk-operator/clerk-operator/test/installation"
)

//go:embed strangers.md
var strangersText string

const (
	// strangersAim is the part of the genuine deliveries that should be accepted with one retry.
	strangersAim = 0.99
	// strangersMemoryAim is the memory limit of config/manager, in MiB.
	strangersMemoryAim = 1024
	// strangersGoLimit is the limit that config/manager gives the Go runtime.
	strangersGoLimit = "GOMEMLIMIT=920MiB"
)

const (
	// genuineDeliveries are made in each attack, in bursts of genuineBurst.
	genuineDeliveries = 200
	genuineBurst      = 8
	// genuineInterval is from burst to burst: altogether they take longer than a header and a body may.
	genuineInterval = 320 * time.Millisecond
	// genuineRetry is when a delivery that is not accepted is made again. Svix waits for 5 s.
	genuineRetry = time.Second
)

// port is one of the manager's.
type port struct {
	name string
	url  func(m *installation.Manager) string
}

var (
	webhookPort = port{name: "webhooks", url: func(m *installation.Manager) string { return m.URL }}
	healthPort  = port{name: "health", url: func(m *installation.Manager) string { return m.Health }}
	metricsPort = port{name: "metrics", url: func(m *installation.Manager) string { return m.Metrics }}
)

// onslaught is one attack.
type onslaught struct {
	kind        attack.Kind
	port        port
	connections int
	// pause is how long strangers wait on average before opening another connection: short enough for the port to be full
	// all the time, long enough not to be a flood, which costs every server its CPU.
	pause time.Duration
}

func (o onslaught) name() string {
	if o.port.name == webhookPort.name {
		return o.kind.Name
	}
	return o.kind.Name + ", " + o.port.name + " port"
}

const (
	// shortPause is for few strangers, and longPause for many of whom each costs CPU.
	shortPause = 250 * time.Millisecond
	longPause  = 20 * time.Second
)

// onslaughts are what is measured; the first one is none.
func onslaughts() []onslaught {
	const few, large, many = 128, 300, 10_000
	const pause = 2 * time.Second
	return []onslaught{
		{attack.Kind{Name: "none"}, webhookPort, 0, 0},
		{attack.SlowBodies(), webhookPort, few, shortPause},
		{attack.UnsignedBodies(), webhookPort, few, shortPause},
		{attack.Silent(), webhookPort, many, pause},
		{attack.SlowHeaders(), webhookPort, many, pause},
		{attack.ManyHeaders(), webhookPort, many, longPause},
		{attack.UnendingHeaders(), webhookPort, many, longPause},
		{attack.SlowBodies(), webhookPort, many, pause},
		{attack.LargeBodies(), webhookPort, large, pause},
		{attack.ChunkedBodies(), webhookPort, large, pause},
		{attack.Silent(), healthPort, many, pause},
		{attack.Silent(), metricsPort, many, longPause},
	}
}

// receipt is what became of a genuine delivery.
type receipt struct {
	// attempts is how many it took until one was accepted, 0 if none was.
	attempts int
	// took is from the beginning of the accepted attempt, with a new connection, until its answer.
	took time.Duration
}

// strangersLine is what was measured of one attack.
type strangersLine struct {
	attack      string
	connections int
	receipts    []receipt
	// peak is the most memory that the manager had resident, in MiB.
	peak float64
	// open is how many connections strangers had open in the end.
	open int64
	// took is from the first delivery to the last answer, used the CPU time in it, and others the part of the machine that
	// something else used.
	took   time.Duration
	used   usage
	others float64
}

// runStrangers measures genuine deliveries, and the manager's memory, while strangers attack.
func runStrangers(ctx context.Context, b *bench) (chapter, error) {
	var lines []strangersLine
	manager := installation.ManagerOptions{Metrics: true, Env: []string{strangersGoLimit}}
	err := withWorld(ctx, b, worldOptions{manager: manager}, func(w *world) error {
		h := newHistory()
		for _, o := range onslaughts() {
			line, err := w.withstand(ctx, h, o)
			if err != nil {
				return err
			}
			lines = append(lines, line)
		}
		return nil
	})
	if err != nil {
		return chapter{}, err
	}
	return renderChapter("Strangers", strangersText, map[string]any{
		"Deliveries": genuineDeliveries, "Burst": genuineBurst, "Interval": genuineInterval.Milliseconds(),
		"Short": shortPause, "Long": longPause, "Limit": receiver.DefaultLimits().Connections,
		"Aim": strangersAim * 100, "MemoryAim": strangersMemoryAim, "Table": strangersTable(lines),
	})
}

// withstand measures an attack, and again when something else disturbs it, for as long as the patience lasts.
func (w *world) withstand(ctx context.Context, h *history, o onslaught) (strangersLine, error) {
	for {
		began := time.Now()
		line, err := w.withstandOnce(ctx, h, o)
		if err != nil {
			return strangersLine{}, fmt.Errorf("%s, %d connections: %w", o.name(), o.connections, err)
		}
		w.bench.say("%s", line)
		took := time.Since(began)
		if line.others <= calm {
			return line, nil
		}
		if w.bench.patience < took {
			w.bench.disturbed++
			return line, nil
		}
		w.bench.patience -= took
		w.bench.again++
	}
}

// withstandOnce measures an attack on a manager of its own, so that the peak of its memory is of this attack.
func (w *world) withstandOnce(ctx context.Context, h *history, o onslaught) (strangersLine, error) {
	messages, err := collect(genuineDeliveries, func(int) (delivery.Message, error) {
		return h.message("user.created", h.newUser().Data())
	})
	if err != nil {
		return strangersLine{}, err
	}
	if err := w.startLeader(ctx); err != nil {
		return strangersLine{}, err
	}
	if err := w.collectGarbage(ctx); err != nil {
		return strangersLine{}, err
	}
	if err := w.awaitCalm(ctx); err != nil {
		return strangersLine{}, err
	}
	attacking, err := w.startAttack(ctx, o)
	if err != nil {
		return strangersLine{}, err
	}
	defer attacking.Stop()
	line, err := w.deliverMeanwhile(ctx, messages)
	if err != nil {
		return strangersLine{}, err
	}
	line.attack, line.connections, line.open = o.name(), o.connections, attacking.Open()
	peak, err := w.peakMemory()
	if err != nil {
		return strangersLine{}, err
	}
	line.peak = float64(peak) / (1 << 20)
	attacking.Stop()
	return line, w.stopManager()
}

// startAttack starts an attack, and returns when as many connections have been opened as there are strangers.
func (w *world) startAttack(ctx context.Context, o onslaught) (*attack.Attack, error) {
	at, err := url.Parse(o.port.url(w.manager))
	if err != nil {
		return nil, fmt.Errorf("the URL of the %s port: %w", o.port.name, err)
	}
	attacking, err := attack.Start(ctx, attack.Options{
		Address: at.Host, TLS: at.Scheme == "https", Kind: o.kind, Connections: o.connections, Pause: o.pause,
	})
	if err != nil {
		return nil, err
	}
	err = wait.PollUntilContextTimeout(ctx, polling, stateTimeout, true, func(context.Context) (bool, error) {
		return attacking.Opened() >= int64(o.connections), nil
	})
	if err != nil {
		attacking.Stop()
		return nil, fmt.Errorf("waiting for strangers, who opened %d connections: %w", attacking.Opened(), err)
	}
	return attacking, nil
}

// deliverMeanwhile makes genuine deliveries, and measures what they and the attack use.
func (w *world) deliverMeanwhile(ctx context.Context, messages []delivery.Message) (strangersLine, error) {
	attempts, err := sign(messages)
	if err != nil {
		return strangersLine{}, err
	}
	before, err := w.usage()
	if err != nil {
		return strangersLine{}, err
	}
	began := time.Now()
	var line strangersLine
	line.receipts, err = deliverInBursts(ctx, w.newSenderOver(&http.Transport{DisableKeepAlives: true}), attempts)
	if err != nil {
		return strangersLine{}, err
	}
	line.took = time.Since(began)
	after, err := w.usage()
	if err != nil {
		return strangersLine{}, err
	}
	line.used = after.minus(before)
	line.others = line.used.othersPart(line.took)
	return line, nil
}

// deliverInBursts makes genuine deliveries in bursts that do not wait for each other.
func deliverInBursts(ctx context.Context, sender delivery.Sender, messages []signed) ([]receipt, error) {
	receipts, errs := make([]receipt, len(messages)), make([]error, len(messages))
	ticker := time.NewTicker(genuineInterval)
	defer ticker.Stop()
	var deliveries sync.WaitGroup
	for i := range messages {
		if i%genuineBurst == 0 {
			select {
			case <-ctx.Done():
			case <-ticker.C:
			}
		}
		deliveries.Go(func() { receipts[i], errs[i] = deliverOrRetry(ctx, sender, messages[i]) })
	}
	deliveries.Wait()
	// One error says enough.
	failed := slices.IndexFunc(errs, func(err error) bool { return err != nil })
	if failed >= 0 {
		return nil, errs[failed]
	}
	return receipts, nil
}

// deliverOrRetry makes a genuine delivery, and once more if it is not accepted.
func deliverOrRetry(ctx context.Context, sender delivery.Sender, m signed) (receipt, error) {
	for attempts := 1; ; attempts++ {
		began := time.Now()
		accepted, err := deliverOnce(ctx, sender, m)
		switch {
		case err != nil:
			return receipt{}, err
		case accepted:
			return receipt{attempts: attempts, took: time.Since(began)}, nil
		case attempts == 2:
			return receipt{}, nil
		}
		select {
		case <-ctx.Done():
			return receipt{}, ctx.Err()
		case <-time.After(genuineRetry):
		}
	}
}

// deliverOnce makes one attempt, and reports whether it was accepted. A closed connection, or an answer that asks for
// another attempt, may be the strangers' doing; any other answer is an error.
func deliverOnce(ctx context.Context, sender delivery.Sender, m signed) (bool, error) {
	answer, err := sender.PostWith(ctx, m.Message, m.header)
	if err != nil {
		return false, ctx.Err()
	}
	switch answer.Code {
	case http.StatusRequestTimeout, http.StatusServiceUnavailable:
		return false, nil
	case http.StatusOK:
		// The answer to an attempt that was processed may have been lost.
		if answer.Body == answerOf(mirror.Applied) || answer.Body == answerOf(mirror.Unchanged) {
			return true, nil
		}
	}
	return false, fmt.Errorf("a genuine delivery was answered with %d %s", answer.Code, answer.Body)
}

// accepted is how many deliveries were accepted with at most so many attempts.
func (l strangersLine) accepted(attempts int) int {
	accepted := 0
	for _, r := range l.receipts {
		if r.attempts > 0 && r.attempts <= attempts {
			accepted++
		}
	}
	return accepted
}

// times are how long accepted attempts took, in milliseconds.
func (l strangersLine) times() []float64 {
	var times []float64
	for _, r := range l.receipts {
		if r.attempts > 0 {
			times = append(times, r.took.Seconds()*1000)
		}
	}
	return times
}

// String says in a line what came out.
func (l strangersLine) String() string {
	cores := func(used time.Duration) float64 { return used.Seconds() / l.took.Seconds() }
	return fmt.Sprintf("%s, %d connections, %d open in the end: accepted %d, with one retry %d of %d, in %.1f ms, 99%% in %.1f ms, "+
		"%.0f MiB; cores of strangers and senders %.2f, manager %.2f, control plane %.2f",
		l.attack, l.connections, l.open, l.accepted(1), l.accepted(2), len(l.receipts), median(l.times()), percentile(l.times(), 99),
		l.peak, cores(l.used.bench), cores(l.used.manager), cores(l.used.controlPlane))
}

// strangersTable has a line for each attack.
func strangersTable(lines []strangersLine) string {
	t := table{header: []string{
		"Attack", "Connections", fmt.Sprintf("Accepted of %d at once", genuineDeliveries), "With one retry", "Median, ms", "99th percentile, ms",
		"Manager's memory, peak, MiB",
	}}
	for _, l := range lines {
		accepted := l.accepted(2)
		t.add(l.attack, fmt.Sprint(l.connections), fmt.Sprint(l.accepted(1)),
			marked(fmt.Sprint(accepted), float64(accepted) >= strangersAim*float64(len(l.receipts))),
			rounded(median(l.times())), rounded(percentile(l.times(), 99)),
			marked(fmt.Sprintf("%.0f", l.peak), l.peak <= strangersMemoryAim))
	}
	return t.markdown()
}
