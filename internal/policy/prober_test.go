// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-logr/logr"
	. "github.com/onsi/gomega"
	"github.com/prometheus/client_golang/prometheus"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	clocktesting "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
)

// answering is an API server that answers every probe alike: a real one is not away when a test wants it to.
type answering struct {
	client.Client
	// answer is an error, or nil.
	answer atomic.Pointer[error]
}

// with makes it answer so from now on.
func (a *answering) with(err error) { a.answer.Store(&err) }

func (a *answering) Create(context.Context, client.Object, ...client.CreateOption) error {
	return *a.answer.Load()
}

func (a *answering) Patch(context.Context, client.Object, client.Patch, ...client.PatchOption) error {
	return *a.answer.Load()
}

var (
	errAway    = errors.New("connection refused")
	errRefused = apierrors.NewForbidden(schema.GroupResource{Resource: "secrets"}, "x", errors.New("so"))
)

// probing is a prober with a clock that the test moves.
type probing struct {
	*WithT
	*Prober
	now     *clocktesting.FakeClock
	server  *answering
	changes <-chan event.GenericEvent
}

func startProbing(t *testing.T, answer error) *probing {
	t.Helper()
	p := &probing{WithT: NewWithT(t), now: clocktesting.NewFakeClock(time.Now()), server: &answering{}}
	p.server.with(answer)
	var err error
	p.Prober, err = NewProber(p.server, "somewhere", DefaultInterval, p.now, logr.Discard(), prometheus.NewRegistry())
	p.Expect(err).NotTo(HaveOccurred())
	for i := range p.probes {
		p.probes[i].Message = "" // one answer is right for all
	}
	p.changes = p.Changes()
	go func() { _ = p.Start(t.Context()) }()
	return p
}

// expect waits for the round to end and expects a standing, and whether that is told.
func (p *probing) expect(standing Standing, told bool) {
	p.Eventually(p.now.HasWaiters).Should(BeTrue())
	p.Expect(p.State().Standing).To(Equal(standing))
	if told {
		p.Expect(p.changes).To(Receive())
	} else {
		p.Expect(p.changes).NotTo(Receive())
	}
}

func TestProber_givesPoliciesTimeToSettle(t *testing.T) {
	for name, tc := range map[string]struct {
		answer error
		want   Standing
	}{
		"an API server that is away": {errAway, NotProven},
		"policies that let through":  {nil, NotEnforced},
	} {
		t.Run(name, func(t *testing.T) {
			p := startProbing(t, tc.answer)
			for range settleTime / settleInterval {
				p.expect(Pending, false)
				p.now.Step(settleInterval)
			}
			p.expect(tc.want, true)
		})
	}
}

func TestProber_tellsAtOnceThatPoliciesHold(t *testing.T) {
	p := startProbing(t, nil)
	p.expect(Pending, false)
	p.server.with(errRefused)
	p.now.Step(settleInterval)
	p.expect(Enforced, true)

	p.server.with(nil)
	p.now.Step(DefaultInterval)
	p.expect(NotEnforced, true)
	p.server.with(errRefused)
	p.now.Step(retryInterval)
	p.expect(Enforced, true)
}

// The end of an answer's time is told like every change: owners to which something was refused wait to hear of it.
func TestProber_tellsThatAnswersCountNoMore(t *testing.T) {
	p := startProbing(t, errRefused)
	p.expect(Enforced, true)
	p.server.with(errAway)
	p.now.Step(DefaultInterval)
	for range (answerCounts - DefaultInterval) / retryInterval {
		p.expect(Enforced, false)
		p.now.Step(retryInterval)
	}
	p.expect(Enforced, false)
	p.now.Step(retryInterval)
	p.expect(NotProven, true)
	p.server.with(errRefused)
	p.now.Step(retryInterval)
	p.expect(Enforced, true)
}
