// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"errors"
	"net/http"
	"os/exec"
	"sync"
	"syscall"
	"testing"
	"time"

	. "github.com/onsi/gomega"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	clerkv1alpha1 "github.com/clerk-operator/clerk-operator/api/v1alpha1"
	"github.com/clerk-operator/clerk-operator/internal/delivery"
	"github.com/clerk-operator/clerk-operator/test/controlplane"
	"github.com/clerk-operator/clerk-operator/test/installation"
)

const (
	// longOutage is longer than the steps by which informers and other clients back off from an API server that is away.
	longOutage = 20 * time.Second
	// readySoon is how long a manager may take to be ready after an outage: a few seconds, and as much again for a busy machine.
	readySoon = 10 * time.Second
)

// wantUnavailable delivers a message, which must be refused for now.
func (w *world) wantUnavailable(m delivery.Message) {
	w.t.Helper()
	answer, err := w.sender.Post(w.t.Context(), m)
	w.Expect(err).NotTo(HaveOccurred())
	w.Expect(answer.Code).To(Equal(http.StatusServiceUnavailable))
	w.Expect(answer.Body).To(Equal("{\"error\":\"try again later\"}\n"))
	w.Expect(answer.Header.Get("Retry-After")).To(MatchRegexp("^[0-9]+$"))
}

// runWhileAway runs a manager while there is no API server, until the end of the test if the test does not end it.
func (w *world) runWhileAway(o installation.ManagerOptions) *installation.Manager {
	w.t.Helper()
	m, err := suite.in.RunManager(w.t.Context(), o)
	w.Expect(err).NotTo(HaveOccurred())
	w.t.Cleanup(func() { w.Expect(m.Stop()).To(Succeed()) })
	w.Eventually(m.Alive).WithContext(w.t.Context()).Should(BeTrue())
	return m
}

func TestOutage_theManagerStartsAndWaits(t *testing.T) {
	w := newWorld(t)
	w.ownCluster()
	w.withoutManager()
	waits := installation.ManagerOptions{Name: "waits", Args: []string{leaderElection}}
	stopped := installation.ManagerOptions{Name: "stopped-early", Args: []string{leaderElection}}
	w.Expect(suite.in.WriteCredentials(t.Context(), waits)).To(Succeed())
	w.Expect(suite.in.WriteCredentials(t.Context(), stopped)).To(Succeed())
	w.Expect(suite.cp.StopAPIServer(t.Context())).To(Succeed())

	manager := w.runWhileAway(waits)
	w.sender.URL = manager.URL + clerkv1alpha1.WebhookPath
	u := w.newUser()
	m := w.message(w.event("user.created", u.Data()))
	w.wantUnavailable(m)
	w.Consistently(func(g Gomega) {
		g.Expect(manager.Alive(t.Context())).To(BeTrue())
		g.Expect(manager.Ready(t.Context())).To(BeFalse())
		g.Expect(manager.Process.Exited()).NotTo(BeClosed())
	}, longOutage).Should(Succeed())
	w.wantUnavailable(m)

	// One that is told to end meanwhile ends at once, and well.
	early := w.runWhileAway(stopped)
	begun := time.Now()
	w.Expect(early.Stop()).To(Succeed())
	w.Expect(early.Process.Err()).NotTo(HaveOccurred())
	w.Expect(time.Since(begun)).To(BeNumerically("<", readySoon))

	w.Expect(suite.cp.StartAPIServer(t.Context())).To(Succeed())
	begun = time.Now()
	w.Eventually(manager.Ready).WithContext(t.Context()).WithTimeout(readySoon).Should(BeTrue())
	t.Logf("ready %s after the API server", time.Since(begun))
	w.Expect(w.attempt(m)).To(Equal("applied"))
	w.tenant("afterwards")
	w.Expect(manager.Process.Exited()).NotTo(BeClosed())
}

// A manager that has been ready sees what it missed in an outage soon after it, too.
func TestOutage_aRunningManagerCatchesUp(t *testing.T) {
	w := newWorld(t)
	w.ownCluster()
	w.withoutManager()
	manager := w.manager(installation.ManagerOptions{Name: "running"})
	w.sender.URL = manager.URL + clerkv1alpha1.WebhookPath
	o := w.newOrganization("caught-up")
	w.happen("organization.created", o.Data())

	w.Expect(suite.cp.KillAPIServer()).To(Succeed())
	u := w.newUser()
	m := w.message(w.event("user.created", u.Data()))
	w.Consistently(func() bool { return manager.Alive(t.Context()) }, longOutage).Should(BeTrue())
	w.wantUnavailable(m)
	w.Expect(manager.Ready(t.Context())).To(BeFalse())
	w.Expect(suite.cp.StartAPIServer(t.Context())).To(Succeed())
	begun := time.Now()
	w.class([]string{o.ID})
	w.Eventually(manager.Ready).WithContext(t.Context()).WithTimeout(readySoon).Should(BeTrue())
	t.Logf("ready %s after the API server", time.Since(begun))
	w.Eventually(stored(w, w.organizationObject(o.ID))).WithTimeout(readySoon).
		Should(beReady(metav1.ConditionTrue, clerkv1alpha1.ReasonProvisioned))
	t.Logf("caught up %s after the API server", time.Since(begun))
	w.Expect(w.attempt(m)).To(Equal("applied"))
}

// posted is a delivery that was made once.
type posted struct {
	code int
	err  error
}

// deliverUntil makes a delivery each second until a process ends, and returns how each went.
func (w *world) deliverUntil(process *controlplane.Process) []posted {
	w.t.Helper()
	var attempts []*posted
	var posting sync.WaitGroup
	ticker, late := time.NewTicker(time.Second), time.After(2*timeout)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			a, m := &posted{}, w.message(w.event("user.created", w.newUser().Data()))
			attempts = append(attempts, a)
			posting.Go(func() {
				var answer delivery.Answer
				answer, a.err = w.sender.Post(w.t.Context(), m)
				a.code = answer.Code
			})
			continue
		case <-process.Exited():
		case <-late:
			w.t.Error("the process does not end")
		}
		break
	}
	posting.Wait()
	made := make([]posted, len(attempts))
	for i, a := range attempts {
		made[i] = *a
	}
	return made
}

// A leader that loses its lease ends, since another may lead, and finishes the deliveries that it has begun before. The API
// server hangs here, so each takes as long as the receiver lets it.
func TestOutage_aLeaderDrainsBeforeItEnds(t *testing.T) {
	w := newWorld(t)
	w.ownCluster()
	leader := suite.manager
	// The suite checks that its manager does not end by itself.
	var err error
	suite.manager, err = suite.in.StartManager(t.Context(), installation.ManagerOptions{Name: "follower", Args: []string{leaderElection}})
	w.Expect(err).NotTo(HaveOccurred())

	w.Expect(suite.cp.PauseAPIServer()).To(Succeed())
	t.Cleanup(func() { w.Expect(suite.cp.ResumeAPIServer()).To(Succeed()) })
	attempts := w.deliverUntil(leader.Process)
	exit, ok := errors.AsType[*exec.ExitError](leader.Process.Err())
	w.Expect(ok).To(BeTrue())
	w.Expect(exit.ExitCode()).To(Equal(1))
	answered := 0
	for _, a := range attempts {
		if a.err != nil {
			w.Expect(a.err).To(MatchError(syscall.ECONNREFUSED), "a delivery is cut")
			continue
		}
		w.Expect(a.code).To(Equal(http.StatusServiceUnavailable))
		answered++
	}
	t.Logf("%d attempts, of which %d were answered", len(attempts), answered)
	w.Expect(answered).To(BeNumerically(">", 1))
	w.Expect(suite.manager.Process.Exited()).NotTo(BeClosed(), "one that does not lead goes on")
}
