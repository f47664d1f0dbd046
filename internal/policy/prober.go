// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
)

const (
	// DefaultInterval is the time between two rounds of probes.
	DefaultInterval = 2 * time.Minute
	// MinInterval keeps the API server and its audit log from being flooded.
	MinInterval = 100 * time.Millisecond
	// MaxInterval lets a new answer come before the last one counts no more.
	MaxInterval = 5 * time.Minute
	// retryInterval is the time between two rounds while not every answer is that a policy holds, so that it is seen soon
	// when they do.
	retryInterval = 10 * time.Second
	// settleTime is what the policies may take to hold when the operator starts, and settleInterval the time between two
	// rounds then: policies that were installed with it come into force within seconds.
	settleTime     = 5 * time.Second
	settleInterval = time.Second
	// probeTimeout bounds one probe.
	probeTimeout = 10 * time.Second
)

// Prober probes the policies while it leads.
type Prober struct {
	client   client.Client
	interval time.Duration
	clock    clock.Clock
	log      logr.Logger
	enforced *prometheus.GaugeVec
	probes   []Probe
	// known is what is known of each probe. Only the rounds use it.
	known []heard

	mu          sync.Mutex
	state       State
	subscribers []chan event.GenericEvent
}

// NewProber returns a prober for an operator in a namespace that makes a round of probes each interval, and registers its
// metric. The client must be the operator's own: policies are asked what they hold for its account.
func NewProber(
	c client.Client, namespace string, interval time.Duration, clk clock.Clock, log logr.Logger, registry prometheus.Registerer,
) (*Prober, error) {
	probes := Probes(namespace)
	p := &Prober{
		client: c, interval: interval, clock: clk, log: log, probes: probes,
		known: make([]heard, len(probes)), state: State{Standing: Pending},
		enforced: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "clerk_operator_policy_enforced",
			Help: "1 when an admission policy of the operator refuses what it is probed with, else 0, by policy; of the leader.",
		}, []string{"policy"}),
	}
	if err := registry.Register(p.enforced); err != nil {
		return nil, fmt.Errorf("registering the metric of policies: %w", err)
	}
	return p, nil
}

// NeedLeaderElection says that only the leader probes: it alone makes tenants.
func (*Prober) NeedLeaderElection() bool { return true }

// Start probes until the context ends.
func (p *Prober) Start(ctx context.Context) error {
	start := p.clock.Now()
	for ctx.Err() == nil {
		allHold := p.round(ctx)
		state := sum(p.probes, p.known, p.clock.Now())
		settled := p.State().Standing != Pending || state.Standing == Enforced || p.clock.Since(start) >= settleTime
		wait := p.interval
		switch {
		case !settled:
			wait = min(wait, settleInterval)
		case !allHold:
			wait = min(wait, retryInterval)
		}
		if settled {
			p.publish(state)
		}
		timer := p.clock.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-timer.C():
		}
	}
	return nil
}

// round makes every probe once, and reports whether all of them hold.
func (p *Prober) round(ctx context.Context) (allHold bool) {
	errs := make([]error, len(p.probes))
	var probing sync.WaitGroup
	for i := range p.probes {
		probing.Go(func() {
			timed, cancel := context.WithTimeout(ctx, probeTimeout)
			defer cancel()
			errs[i] = p.probes[i].Ask(timed, p.client)
		})
	}
	probing.Wait()
	if ctx.Err() != nil {
		return false // the answers are of the operator's end
	}
	allHold = true
	for i, err := range errs {
		answer, before := p.probes[i].Judge(err), p.known[i].words
		p.known[i] = p.known[i].with(answer, err, p.clock.Now())
		if p.known[i].words == noAnswer && before != noAnswer {
			p.log.Info("A probe of an admission policy was not answered", "policy", p.probes[i].Policy, "error", err.Error())
		}
		allHold = allHold && answer == Holds
	}
	return allHold
}

// publish tells what is known when it has changed.
func (p *Prober) publish(state State) {
	for policy, is := range inForce(p.probes, p.known, p.clock.Now()) {
		value := 0.0
		if is {
			value = 1
		}
		p.enforced.WithLabelValues(policy).Set(value)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.state == state {
		return
	}
	p.state = state
	p.log.Info("What is known of the admission policies has changed", "standing", state.Standing, "message", state.Message)
	for _, subscriber := range p.subscribers {
		select {
		case subscriber <- event.GenericEvent{}:
		default: // one that has not been read yet tells of this change, too
		}
	}
}

// State returns what is known.
func (p *Prober) State() State {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.state
}

// Changes returns a channel of its own that an empty event comes to when the state has changed.
func (p *Prober) Changes() <-chan event.GenericEvent {
	p.mu.Lock()
	defer p.mu.Unlock()
	changes := make(chan event.GenericEvent, 1)
	p.subscribers = append(p.subscribers, changes)
	return changes
}
