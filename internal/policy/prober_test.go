// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"testing"
	"time"

	"github.com/go-logr/logr"
	. "github.com/onsi/gomega"
	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/client-go/rest"
	"k8s.io/utils/clock"
	clocktesting "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// nowhere is an address at which no API server answers.
const nowhere = "127.0.0.1:1"

func TestProber_saysNothingAtOnceAndThenThatItHasNoAnswer(t *testing.T) {
	g := NewWithT(t)
	c, err := client.New(&rest.Config{Host: nowhere}, client.Options{})
	g.Expect(err).NotTo(HaveOccurred())
	now := clocktesting.NewFakeClock(time.Now())
	prober, err := NewProber(c, "somewhere", DefaultInterval, now, logr.Discard(), prometheus.NewRegistry())
	g.Expect(err).NotTo(HaveOccurred())
	changes := prober.Changes()
	go func() { _ = prober.Start(t.Context()) }()
	for range settleRounds - 1 {
		g.Eventually(now.HasWaiters).Should(BeTrue())
		g.Expect(prober.State().Standing).To(Equal(Pending))
		g.Expect(changes).NotTo(Receive())
		now.Step(settleInterval)
	}
	g.Eventually(changes).Should(Receive())
	g.Expect(prober.State().Standing).To(Equal(Unanswered))
}

func TestProber_asksSoonAgainWhatDoesNotHold(t *testing.T) {
	g := NewWithT(t)
	prober, err := NewProber(nil, "somewhere", DefaultInterval, clock.RealClock{}, logr.Discard(), prometheus.NewRegistry())
	g.Expect(err).NotTo(HaveOccurred())
	for standing, want := range map[Standing]time.Duration{
		Pending: settleInterval, NotEnforced: retryInterval, Unanswered: retryInterval, Enforced: DefaultInterval,
	} {
		g.Expect(prober.wait(State{Standing: standing})).To(Equal(want), string(standing))
	}
	prober.interval = time.Millisecond
	g.Expect(prober.wait(State{Standing: NotEnforced})).To(Equal(time.Millisecond))
}
