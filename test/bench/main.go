// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

// The benchmarks measure what the operator costs on top of the API server. Each scenario runs the built manager, under
// its own service account, on a real control plane, in turns with a raw client that makes the same writes and does
// nothing else, and reports the ratio of the two; but one measures what strangers cost. Nothing is asserted in absolute
// time.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/go-logr/logr"
	ctrl "sigs.k8s.io/controller-runtime"
)

// scenario is one thing that is measured; it adds a chapter to the page. A further one is a file with its run function,
// the text beside it, and a line in scenarios.
type scenario struct {
	name string
	run  func(ctx context.Context, b *bench) (chapter, error)
}

var scenarios = []scenario{
	{name: "receiver", run: runReceiver},
	{name: "provisioning", run: runProvisioning},
	{name: "sync", run: runSync},
	{name: "strangers", run: runStrangers},
}

// bench is what every scenario is told.
type bench struct {
	// root is the module's root folder.
	root string
	// rounds is how many rounds of each side are counted.
	rounds int
	// patience is how much longer it may take altogether that something else on the machine disturbs: rounds wait for it
	// to end, and are made again.
	patience time.Duration
	// again is how many rounds were made again for that reason, and disturbed how many of those that count were disturbed,
	// too, because the patience was at its end.
	again, disturbed int
	// log is told what is going on.
	log io.Writer
	// machine is filled in by the first control plane.
	machine machine
}

func (b *bench) say(format string, args ...any) {
	_, _ = fmt.Fprintf(b.log, "%s %s\n", time.Now().UTC().Format(time.TimeOnly), fmt.Sprintf(format, args...))
}

func main() {
	out := flag.String("out", "", "The file that the page is written to, beside standard output.")
	rounds := flag.Int("rounds", 5, "How many rounds of each side are counted.")
	patience := flag.Duration("patience", time.Minute,
		"How much longer it may take altogether because something else keeps the machine busy.")
	only := flag.String("only", "", "The scenarios to run, separated by commas; all by default.")
	flag.Parse()
	// Clients and caches would tell on standard error what is none of the benchmarks' business.
	ctrl.SetLogger(logr.Discard())
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	b := &bench{rounds: *rounds, patience: *patience, log: os.Stderr}
	if err := b.run(ctx, *out, *only); err != nil {
		fmt.Fprintln(os.Stderr, "The benchmarks failed:", err)
		stop()
		os.Exit(1)
	}
}

func (b *bench) run(ctx context.Context, out, only string) error {
	selected, err := selectScenarios(only)
	if err != nil {
		return err
	}
	if b.rounds < 1 {
		return errors.New("-rounds must be at least 1")
	}
	if b.root, err = os.Getwd(); err != nil {
		return fmt.Errorf("finding the module's root: %w", err)
	}
	began := time.Now()
	var chapters []chapter
	for _, s := range selected {
		b.say("== %s", s.name)
		c, err := s.run(ctx, b)
		if err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
		chapters = append(chapters, c)
	}
	text := page(b, time.Since(began), chapters)
	if _, err := io.WriteString(os.Stdout, text); err != nil {
		return fmt.Errorf("printing the page: %w", err)
	}
	if out == "" {
		return nil
	}
	if err := os.WriteFile(out, []byte(text), 0o644); err != nil {
		return fmt.Errorf("writing the page: %w", err)
	}
	return nil
}

// selectScenarios returns the scenarios with the given names, in their own order; all for an empty list.
func selectScenarios(only string) ([]scenario, error) {
	if only == "" {
		return scenarios, nil
	}
	names := strings.Split(only, ",")
	var selected []scenario
	for _, s := range scenarios {
		if slices.Contains(names, s.name) {
			selected = append(selected, s)
		}
	}
	if len(selected) != len(names) {
		return nil, fmt.Errorf("-only=%q names a scenario that there is not, or one twice", only)
	}
	return selected, nil
}
