// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"cmp"
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
	// retryInterval is the time between two rounds while the policies do not hold, so that it is seen soon when they do.
	retryInterval = 10 * time.Second
	// settleRounds is how many rounds the policies may take to hold when the operator starts, and settleInterval the time
	// between them: policies that were installed with it come into force within seconds.
	settleRounds   = 5
	settleInterval = time.Second
	// roundTimeout bounds one round.
	roundTimeout = 30 * time.Second
)

// Prober probes the policies while it leads.
type Prober struct {
	client   client.Client
	interval time.Duration
	clock    clock.Clock
	log      logr.Logger
	enforced *prometheus.GaugeVec
	probes   []Probe

	mu sync.Mutex
	// settled says that the answers may be told.
	settled     bool
	answers     answers
	subscribers []chan event.GenericEvent
}

// NewProber returns a prober for an operator in a namespace that makes a round of probes each interval, and registers its
// metric. The client must be the operator's own: policies are asked what they hold for its account.
func NewProber(
	c client.Client, namespace string, interval time.Duration, clk clock.Clock, log logr.Logger, registry prometheus.Registerer,
) (*Prober, error) {
	p := &Prober{
		client: c, interval: interval, clock: clk, log: log, probes: Probes(namespace),
		enforced: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "clerk_operator_policy_enforced",
			Help: "1 when an admission policy of the operator refuses what it is probed with, else 0, by policy; of the leader.",
		}, []string{"policy"}),
	}
	p.answers = make(answers, len(p.probes))
	if err := registry.Register(p.enforced); err != nil {
		return nil, fmt.Errorf("registering the metric of policies: %w", err)
	}
	return p, nil
}

// NeedLeaderElection says that only the leader probes: it alone makes tenants.
func (*Prober) NeedLeaderElection() bool { return true }

// Start probes until the context ends.
func (p *Prober) Start(ctx context.Context) error {
	told := State{Standing: Pending}
	answered := true
	for round := 1; ctx.Err() == nil; round++ {
		err := p.round(ctx)
		if err != nil && answered {
			p.log.Info("The API server does not answer the probes of the admission policies", "error", err.Error())
		}
		answered = err == nil
		state := p.tellable(round)
		if state.Standing != told.Standing || state.Message != told.Message {
			p.log.Info("The admission policies were probed", "standing", state.Standing, "message", state.Message)
			p.changed()
		}
		told = state
		timer := p.clock.NewTimer(p.wait(state))
		select {
		case <-ctx.Done():
			timer.Stop()
		case <-timer.C():
		}
	}
	return nil
}

// wait returns the time until the next round.
func (p *Prober) wait(state State) time.Duration {
	switch state.Standing {
	case Pending:
		return min(p.interval, settleInterval)
	case NotEnforced, Unanswered:
		return min(p.interval, retryInterval)
	case Enforced:
		return p.interval
	}
	return p.interval
}

// round makes every probe once. It returns an error when one was not answered. What is found not to hold is logged with the
// API server's words.
func (p *Prober) round(ctx context.Context) (unanswered error) {
	timed, cancel := context.WithTimeout(ctx, roundTimeout)
	defer cancel()
	for i := range p.probes {
		probe := &p.probes[i]
		err := probe.Ask(timed, p.client)
		if ctx.Err() != nil {
			return nil // the operator ends
		}
		answer := probe.Judge(err)
		if answer == Unknown {
			unanswered = cmp.Or(unanswered, err)
		}
		p.mu.Lock()
		before := p.answers.of(i, p.clock.Now())
		p.answers.note(i, answer, p.clock.Now())
		p.mu.Unlock()
		if answer == DoesNotHold && answer != before {
			p.log.Info("An admission policy does not refuse what it has to",
				"policy", probe.Policy, "attempt", probe.Attempt, "answer", fmt.Sprint(err))
		}
	}
	return unanswered
}

// tellable lets the answers be told when the policies hold, or had the time to, and returns what is told then.
func (p *Prober) tellable(round int) State {
	p.mu.Lock()
	state := p.answers.state(p.probes, p.clock.Now())
	p.settled = p.settled || state.Standing == Enforced || round >= settleRounds
	settled := p.settled
	holds := p.answers.holds(p.probes, p.clock.Now())
	p.mu.Unlock()
	if !settled {
		return State{Standing: Pending}
	}
	for policy, is := range holds {
		value := 0.0
		if is {
			value = 1
		}
		p.enforced.WithLabelValues(policy).Set(value)
	}
	return state
}

// State returns what is known now.
func (p *Prober) State() State {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.settled {
		return State{Standing: Pending}
	}
	return p.answers.state(p.probes, p.clock.Now())
}

// Changes returns a channel of its own that an empty event comes to when the state has changed.
func (p *Prober) Changes() <-chan event.GenericEvent {
	p.mu.Lock()
	defer p.mu.Unlock()
	changes := make(chan event.GenericEvent, 1)
	p.subscribers = append(p.subscribers, changes)
	return changes
}

func (p *Prober) changed() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, subscriber := range p.subscribers {
		select {
		case subscriber <- event.GenericEvent{}:
		default: // one that has not been read yet tells of this change, too
		}
	}
}
