// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"sync"
	"testing"
	"time"

	. "github.com/onsi/gomega"
	coordinationv1 "k8s.io/api/coordination/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	clerkv1alpha1 "github.com/clerk-operator/clerk-operator/api/v1alpha1"
	"github.com/clerk-operator/clerk-operator/internal/delivery"
	"github.com/clerk-operator/clerk-operator/test/installation"
	"github.com/clerk-operator/clerk-operator/test/payload"
)

const (
	// burstSize users sign up in a burst, whose deliveries are made burstWorkers at a time.
	burstSize    = 200
	burstWorkers = 16
)

// burst is many deliveries at once, each repeated until it is acknowledged, as Svix repeats it.
type burst struct {
	// underWay is closed when a quarter is acknowledged.
	underWay chan struct{}
	// done receives the end of the last delivery: nil when all are acknowledged.
	done chan error

	mu                  sync.Mutex
	acknowledged, total int
	// answers counts the attempts by the code that answered them, 0 for none.
	answers map[int]int
}

// burst begins one.
func (w *world) burst(messages []delivery.Message) *burst {
	b := &burst{underWay: make(chan struct{}), done: make(chan error, 1), total: len(messages), answers: map[int]int{}}
	queue := make(chan delivery.Message, len(messages))
	for _, m := range messages {
		queue <- m
	}
	close(queue)
	sender := w.sender
	sender.Client = &http.Client{Transport: b, Timeout: 15 * time.Second}
	ctx, cancel := context.WithTimeout(w.t.Context(), 2*timeout)
	w.t.Cleanup(cancel)
	errs := make([]error, burstWorkers)
	var workers sync.WaitGroup
	for i := range errs {
		workers.Go(func() {
			for m := range queue {
				if _, errs[i] = sender.Deliver(ctx, m, 50*time.Millisecond); errs[i] != nil {
					return
				}
				b.acknowledge()
			}
		})
	}
	go func() {
		workers.Wait()
		b.done <- errors.Join(errs...)
	}()
	return b
}

// signUps are users who sign up, and the deliveries that tell of them.
func (w *world) signUps(number int) (ids []string, messages []delivery.Message) {
	w.t.Helper()
	for range number {
		u := w.newUser()
		ids, messages = append(ids, u.ID), append(messages, w.message(w.event("user.created", u.Data())))
	}
	return ids, messages
}

// RoundTrip makes one attempt and notes what answered it.
func (b *burst) RoundTrip(r *http.Request) (*http.Response, error) {
	answer, err := http.DefaultTransport.RoundTrip(r)
	code := 0
	if err == nil {
		code = answer.StatusCode
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.answers[code]++
	return answer, err
}

func (b *burst) acknowledge() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.acknowledged++; b.acknowledged == b.total/4 {
		close(b.underWay)
	}
}

// waitUnderWay waits for a quarter to be acknowledged, and not by polling: the rest does not take long.
func (w *world) waitUnderWay(b *burst) {
	w.t.Helper()
	select {
	case <-b.underWay:
	case <-time.After(timeout):
		w.t.Fatal("too few deliveries are acknowledged")
	}
}

// progress returns how many deliveries are acknowledged.
func (b *burst) progress() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.acknowledged
}

// wantAll waits for all to be acknowledged, and checks that every user is there and what the attempts were answered with.
func (w *world) wantAll(b *burst, userIDs []string, codes ...any) {
	w.t.Helper()
	w.Eventually(b.done, 3*timeout).Should(Receive(BeNil()))
	w.wantUsers(userIDs)
	w.t.Logf("attempts by the code that answered them: %v", b.answers)
	for code := range b.answers {
		w.Expect(code).To(BeElementOf(codes...))
	}
}

// wantUsers checks that users are mirrored.
func (w *world) wantUsers(ids []string) {
	w.t.Helper()
	var users clerkv1alpha1.ClerkUserList
	w.Expect(suite.client.List(w.t.Context(), &users)).To(Succeed())
	there := make(map[string]bool, len(users.Items))
	for i := range users.Items {
		there[users.Items[i].Spec.UserID] = true
	}
	for _, id := range ids {
		w.Expect(there).To(HaveKey(id))
	}
}

func TestCrash_ofTheManagerLosesNothing(t *testing.T) {
	w := newWorld(t)
	o := installation.ManagerOptions{Name: "killed", Args: []string{leaderElection}}
	manager := w.manager(o)
	w.sender.URL = manager.URL + clerkv1alpha1.WebhookPath

	ids, messages := w.signUps(burstSize)
	b := w.burst(messages)
	w.waitUnderWay(b)
	w.Expect(manager.Process.Kill()).To(Succeed())
	w.Expect(b.progress()).To(BeNumerically("<", burstSize), "it was killed in the middle")
	o.ReceiverAddress = addressOf(manager)
	w.manager(o)
	w.wantAll(b, ids, 0, 200, 503)
}

func TestCrash_ofTheAPIServerLosesNothing(t *testing.T) {
	w := newWorld(t)
	// A leader ends itself when it cannot renew its lease for long, to be started again by a kubelet. There is none here.
	w.withoutManager()
	w.sender.URL = w.manager(installation.ManagerOptions{Name: "alone"}).URL + clerkv1alpha1.WebhookPath

	ids, messages := w.signUps(burstSize)
	b := w.burst(messages)
	w.waitUnderWay(b)
	w.Expect(suite.cp.KillAPIServer()).To(Succeed())
	w.t.Cleanup(func() { w.Expect(suite.cp.StartAPIServer(contextAfter(t))).To(Succeed()) })
	w.Expect(b.progress()).To(BeNumerically("<", burstSize), "it was killed in the middle")
	answer, err := w.sender.Post(t.Context(), w.message(w.event("user.created", w.newUser().Data())))
	w.Expect(err).NotTo(HaveOccurred())
	w.Expect(answer.Code).To(Equal(http.StatusServiceUnavailable))
	w.Expect(answer.Body).To(Equal("{\"error\":\"try again later\"}\n"))
	w.Expect(answer.Header.Get("Retry-After")).To(MatchRegexp("^[0-9]+$"))

	w.Expect(suite.cp.StartAPIServer(t.Context())).To(Succeed())
	w.wantAll(b, ids, 0, 200, 503)
	// It also goes on to reconcile.
	w.tenant("afterwards")
}

func TestRestart_writesNothing(t *testing.T) {
	w := newWorld(t)
	o, namespace := w.tenant("restart")
	u, suspended := w.memberOf(o, namespace), w.user()
	m := w.join(suspended, o, "org:admin")
	w.Expect(w.deliver(w.updateUser(&suspended, func(u *payload.User) { u.Banned = true }))).To(Equal("applied"))
	w.Eventually(stored(w, w.membershipObject(m.ID))).Should(beReady(metav1.ConditionFalse, clerkv1alpha1.ReasonUserSuspended))
	w.Eventually(stored(w, w.userObject(suspended.ID))).Should(beReady(metav1.ConditionTrue, clerkv1alpha1.ReasonSuspended))
	w.Eventually(w.level(suspended.ID, namespace)).Should(Equal(none))
	objects := []client.Object{w.userObject(u.ID), w.userObject(suspended.ID), w.organizationObject(o.ID), w.membershipObject(m.ID)}

	w.calm() // what is still queued would be written after the restart
	restart := w.withoutManager()
	before := w.versions(namespace, objects...)
	restart()
	w.tenant("afterwards")
	w.Consistently(func() map[string]string { return w.versions(namespace, objects...) }).Should(Equal(before))
}

// held is a delivery whose body is not sent before a gate is open. It tells when the receiver asks for the body.
type held struct {
	gate    <-chan struct{}
	reading chan<- struct{}
	body    io.Reader
}

func (h *held) Read(p []byte) (int, error) {
	<-h.gate
	return h.body.Read(p)
}

func (h *held) Close() error { return nil }

// RoundTrip waits with the body until the receiver has asked for it and the gate is open.
func (h *held) RoundTrip(r *http.Request) (*http.Response, error) {
	trace := &httptrace.ClientTrace{Got100Continue: func() { h.reading <- struct{}{} }}
	r = r.Clone(httptrace.WithClientTrace(r.Context(), trace))
	h.body, r.Body, r.GetBody = r.Body, h, nil
	r.Header.Set("Expect", "100-continue")
	transport := &http.Transport{ExpectContinueTimeout: timeout, DisableKeepAlives: true}
	return transport.RoundTrip(r)
}

// hold begins as many deliveries and returns when the receiver reads their bodies, which come when the gate is open. It
// begins all of them at once, and does not poll: the receiver waits for a body only so long.
func (w *world) hold(messages []delivery.Message, gate <-chan struct{}) (codes <-chan int) {
	w.t.Helper()
	answered, reading := make(chan int, len(messages)), make(chan struct{}, len(messages))
	for _, m := range messages {
		sender := w.sender
		sender.Client = &http.Client{Transport: &held{gate: gate, reading: reading}}
		go func() {
			answer, _ := sender.Post(w.t.Context(), m) // an error is no code
			answered <- answer.Code
		}()
	}
	late := time.After(timeout)
	for range messages {
		select {
		case <-reading:
		case <-late:
			w.t.Fatal("the receiver does not read the body")
		}
	}
	return answered
}

func TestStop_answersWhatIsInFlight(t *testing.T) {
	w := newWorld(t)
	w.withoutManager()
	manager := w.manager(installation.ManagerOptions{Name: "stopped", Args: []string{leaderElection}})
	w.sender.URL = manager.URL + clerkv1alpha1.WebhookPath

	ids, messages := w.signUps(20)
	gate := make(chan struct{})
	codes := w.hold(messages, gate)
	stopped := make(chan error, 1)
	go func() { stopped <- manager.Stop() }()
	w.Eventually(func() error {
		connection, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", addressOf(manager))
		if err == nil {
			_ = connection.Close()
		}
		return err
	}).Should(MatchError(ContainSubstring("refused")), "nothing new is accepted")
	w.Expect(manager.Ready(t.Context())).To(BeFalse())
	w.Expect(codes).To(BeEmpty())
	close(gate)

	for range messages {
		w.Eventually(codes).Should(Receive(Equal(http.StatusOK)))
	}
	w.Eventually(stopped).Should(Receive(BeNil()))
	w.Expect(manager.Process.Err()).NotTo(HaveOccurred(), "it exits with 0")
	for _, id := range ids {
		get(w, w.userObject(id))
	}
}

func TestLeaderElection_anotherTakesOver(t *testing.T) {
	w := newWorld(t)
	w.withoutManager()
	lease := &coordinationv1.Lease{
		ObjectMeta: metav1.ObjectMeta{Namespace: installation.Namespace, Name: "leader." + clerkv1alpha1.GroupName},
	}
	holder := func() string { return *get(w, lease).Spec.HolderIdentity }
	w.Expect(holder()).To(BeEmpty(), "a leader that is stopped gives its lease up")
	leader := w.manager(installation.ManagerOptions{Name: "leader", Args: []string{leaderElection}})
	w.Eventually(holder).ShouldNot(BeEmpty())
	first := holder()
	follower := w.manager(installation.ManagerOptions{Name: "follower", Args: []string{leaderElection}})

	for _, manager := range []*installation.Manager{leader, follower} {
		w.sender.URL = manager.URL + clerkv1alpha1.WebhookPath
		w.user()
		w.tenant("received")
	}
	w.Expect(leader.Process.Kill()).To(Succeed())
	w.Expect(holder()).To(Equal(first))
	u := w.user()
	o := w.newOrganization("orphan")
	w.class([]string{o.ID})
	w.happen("organization.created", o.Data())
	w.join(u, o, "org:member")
	namespace := w.provisioned(o.ID)
	w.Eventually(w.level(u.ID, namespace)).Should(Equal(edit))
	w.Expect(holder()).NotTo(Equal(first))
}
