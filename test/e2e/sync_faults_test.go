// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"net/http"
	"testing"

	. "github.com/onsi/gomega"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	apitypes "k8s.io/apimachinery/pkg/types"

	clerkv1alpha1 "github.com/clerk-operator/clerk-operator/api/v1alpha1"
	"github.com/clerk-operator/clerk-operator/internal/clerkapi"
	"github.com/clerk-operator/clerk-operator/test/clerkfake"
	"github.com/clerk-operator/clerk-operator/test/payload"
)

// trial is an instance in a trouble that must take nothing away.
type trial struct {
	about string
	// faults are Clerk's; leavesOut makes its lists lack the team's users, too.
	faults    []clerkfake.Fault
	leavesOut bool
	// users are so many more than the team.
	users int
	// reason is that of the condition Synced, and of BackendAPIReady where that is False, too.
	reason string
	// blameless says that BackendAPIReady stays True.
	blameless bool

	*backed
	team     *team
	before   map[string]apitypes.UID
	lastTime *metav1.Time
}

// begin makes a team whose members have their access.
func (tr *trial) begin(t *testing.T) {
	t.Helper()
	w := newWorld(t)
	tr.backed = w.backedBy(func(c *clerkfake.Clerk) {
		tr.team = w.team(c, "org:admin", "org:guest")
		for range tr.users {
			c.CreateUser(clerkfake.User{})
		}
	})
	tr.lastTime = tr.synced().Status.Sync.LastTime
}

// suffer lets the trouble begin, and asks for a sync in it.
func (tr *trial) suffer() {
	tr.t.Helper()
	tr.before = tr.mirrored()
	for _, fault := range tr.faults {
		tr.clerk.Inject(fault)
	}
	if tr.leavesOut {
		users := tr.team.users
		tr.clerk.Inject(clerkfake.Fault{Skip: func(id string) bool { return id == users[0].ID || id == users[1].ID }})
	}
	tr.request()
}

// wantUntouched checks that nothing is taken away, and that the last sync is the one from before.
func (tr *trial) wantUntouched() {
	tr.t.Helper()
	tr.Expect(tr.mirrored()).To(Equal(tr.before), tr.about)
	tr.Expect(tr.access(tr.team)()).To(Equal(tr.team.due()), tr.about)
	tr.Expect(get(tr.world, tr.instance).Status.Sync).To(And(
		HaveField("LastTime", tr.lastTime), HaveField("LastFullTime", tr.lastTime)), tr.about)
}

// troubles are the ways in which Clerk, or something in between, can fail.
func troubles() []*trial {
	return []*trial{
		{about: "500", faults: []clerkfake.Fault{{Status: 500}}, reason: clerkv1alpha1.ReasonServerError},
		{
			about: "500 in the middle", faults: []clerkfake.Fault{{Path: "/v1/organization_memberships", Status: 500}},
			reason: clerkv1alpha1.ReasonServerError,
		},
		{about: "429", faults: []clerkfake.Fault{{Status: 429, RetryAfter: "1"}}, reason: clerkv1alpha1.ReasonRateLimited},
		{about: "half an answer", faults: []clerkfake.Fault{{Truncate: true}}, reason: clerkv1alpha1.ReasonMalformedAnswer},
		{
			about: "half a page", faults: []clerkfake.Fault{{Path: "/v1/users", Truncate: true}},
			reason: clerkv1alpha1.ReasonMalformedAnswer,
		},
		{
			about: "somebody else's page", faults: []clerkfake.Fault{{Body: "<html>We will be back soon</html>"}},
			reason: clerkv1alpha1.ReasonMalformedAnswer,
		},
		{
			about: "null", faults: []clerkfake.Fault{{Path: "/v1/users", Body: "null"}}, reason: clerkv1alpha1.ReasonMalformedAnswer,
		},
		{
			about: "empty lists", faults: []clerkfake.Fault{{EmptyLists: true}},
			reason: clerkv1alpha1.ReasonListingIncomplete, blameless: true,
		},
		{
			about: "a page less than the total", reason: clerkv1alpha1.ReasonListingIncomplete, blameless: true,
			faults: []clerkfake.Fault{{Path: "/v1/organizations", Body: `{"data":[],"total_count":7}`}},
		},
		{
			about: "lists that lack what exists", leavesOut: true,
			reason: clerkv1alpha1.ReasonListingIncomplete, blameless: true,
		},
		{
			about: "empty lists, and 404 of something in between", reason: clerkv1alpha1.ReasonRejected,
			faults: []clerkfake.Fault{{EmptyLists: true}, {Path: "/v1/users/", Status: 404, Body: "<html>Not Found</html>"}},
		},
		{
			about: "a page that repeats", faults: []clerkfake.Fault{{RepeatPages: true}}, users: clerkapi.PageSize,
			reason: clerkv1alpha1.ReasonListingRepeats, blameless: true,
		},
	}
}

// All of them are in trouble at the same time, since a sync gives Clerk some time to recover.
func TestSync_takesNothingAwayWhenClerkFails(t *testing.T) {
	t.Parallel()
	trials := troubles()
	for _, tr := range trials {
		tr.begin(t)
		tr.provide(tr.team)
	}
	for _, tr := range trials {
		tr.suffer()
	}
	for _, tr := range trials {
		tr.becomes(clerkv1alpha1.ConditionSynced, metav1.ConditionFalse, tr.reason)
		if tr.blameless {
			tr.becomes(clerkv1alpha1.ConditionBackendAPIReady, metav1.ConditionTrue, clerkv1alpha1.ReasonAuthenticated)
		} else {
			tr.becomes(clerkv1alpha1.ConditionBackendAPIReady, metav1.ConditionFalse, tr.reason)
		}
	}
	for _, tr := range trials {
		tr.wantUntouched()
	}

	for _, tr := range trials {
		tr.clerk.ClearFaults()
	}
	for _, tr := range trials {
		tr.Eventually(stored(tr.world, tr.instance), 2*timeout).Should(And(
			haveCondition(clerkv1alpha1.ConditionSynced, metav1.ConditionTrue, clerkv1alpha1.ReasonSynced),
			haveCondition(clerkv1alpha1.ConditionBackendAPIReady, metav1.ConditionTrue, clerkv1alpha1.ReasonAuthenticated),
			HaveField("Status.Sync.LastFullTime.Time", BeTemporally(">", tr.lastTime.Time)),
		), tr.about)
		tr.Expect(tr.mirrored()).To(Equal(tr.before), tr.about)
	}
}

func TestSync_waitsAsLongAsClerkAsks(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	b, _ := w.staffed(nil)
	b.clerk.ResetRequests()
	b.clerk.Inject(clerkfake.Fault{Status: http.StatusTooManyRequests, RetryAfter: "12", Times: 1})
	b.request()
	b.becomes(clerkv1alpha1.ConditionSynced, metav1.ConditionFalse, clerkv1alpha1.ReasonRateLimited)
	w.Consistently(b.clerk.Requests).Should(HaveLen(1), "it does not ask again before")
	b.becomes(clerkv1alpha1.ConditionSynced, metav1.ConditionTrue, clerkv1alpha1.ReasonSynced)
}

// What somebody has to mend is tried once a minute, so that it ends by itself, too.
func TestSync_takesNothingAwayWhenItsKeyIsRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	tr := &trial{about: "401", faults: []clerkfake.Fault{{Status: http.StatusUnauthorized}}}
	tr.begin(t)
	tr.provide(tr.team)
	tr.suffer()
	tr.becomes(clerkv1alpha1.ConditionSynced, metav1.ConditionFalse, clerkv1alpha1.ReasonSecretKeyRefused)
	w.Eventually(stored(w, tr.instance)).Should(beReady(metav1.ConditionFalse, clerkv1alpha1.ReasonSecretKeyRefused))
	tr.wantUntouched()

	tr.clerk.ClearFaults()
	w.Eventually(stored(w, tr.instance), 2*timeout).Should(And(
		haveCondition(clerkv1alpha1.ConditionSynced, metav1.ConditionTrue, clerkv1alpha1.ReasonSynced),
		beReady(metav1.ConditionTrue, clerkv1alpha1.ReasonReceiving),
	))
	w.Expect(tr.mirrored()).To(Equal(tr.before))
}

func TestSync_tellsWhatToDoAboutARefusedKey(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	b, members := w.staffed([]string{"org:admin"})
	b.clerk.SetInstance("", "sk_live_rotated")
	b.request()
	b.becomes(clerkv1alpha1.ConditionBackendAPIReady, metav1.ConditionFalse, clerkv1alpha1.ReasonSecretKeyRefused)
	w.Eventually(stored(w, b.instance)).Should(beReady(metav1.ConditionFalse, clerkv1alpha1.ReasonSecretKeyRefused))
	w.Expect(b.message(clerkv1alpha1.ConditionReady)).To(ContainSubstring("make a new secret key in Clerk's dashboard"))
	w.Expect(w.access(members)()).To(Equal(members.due()))

	for key, want := range map[string]string{
		"": "it is empty", "whsec_abc": "it is a webhook's signing secret", "pk_live_abc": "it is the publishable key",
		"password": "it is no secret key of Clerk",
	} {
		b.swapKey(key)
		b.becomes(clerkv1alpha1.ConditionBackendAPIReady, metav1.ConditionFalse, clerkv1alpha1.ReasonSecretKeyUnusable)
		w.Eventually(func() string { return b.message(clerkv1alpha1.ConditionReady) }).Should(ContainSubstring(want))
	}
	b.swapKey("sk_live_rotated\n")
	b.becomes(clerkv1alpha1.ConditionSynced, metav1.ConditionTrue, clerkv1alpha1.ReasonSynced)
	w.Eventually(stored(w, b.instance)).Should(beReady(metav1.ConditionTrue, clerkv1alpha1.ReasonReceiving))
}

// stranger is what Clerk answers to another instance's key.
func (b *backed) stranger(knowsNothing bool) {
	b.t.Helper()
	b.clerk.SetInstance(payload.NewID("ins"), "sk_live_stranger")
	if !knowsNothing {
		return
	}
	b.clerk.Inject(clerkfake.Fault{EmptyLists: true})
	for _, path := range []string{"/v1/users/", "/v1/organizations/"} {
		b.clerk.Inject(clerkfake.Fault{Path: path, Status: http.StatusNotFound})
	}
}

func TestSync_refusesAnotherInstancesKey(t *testing.T) {
	t.Parallel()
	for about, knowsNothing := range map[string]bool{
		"an instance with the same objects":      false,
		"an instance that knows nothing of them": true,
	} {
		t.Run(about, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			b, members := w.staffed([]string{"org:admin", "org:guest"}, maxDeletions("100%"))
			id, key, before := b.clerk.InstanceID(), b.clerk.SecretKey(), b.mirrored()

			b.stranger(knowsNothing)
			b.swapKey(b.clerk.SecretKey())
			b.wantWrongInstance(id)
			w.Consistently(b.mirrored).Should(Equal(before))
			w.Expect(w.access(members)()).To(Equal(members.due()))

			b.clerk.ClearFaults()
			b.clerk.SetInstance(id, key)
			b.swapKey(key)
			b.becomes(clerkv1alpha1.ConditionBackendAPIReady, metav1.ConditionTrue, clerkv1alpha1.ReasonAuthenticated)
			b.becomes(clerkv1alpha1.ConditionSynced, metav1.ConditionTrue, clerkv1alpha1.ReasonSynced)
			w.Eventually(stored(w, b.instance)).Should(beReady(metav1.ConditionTrue, clerkv1alpha1.ReasonReceiving))
			w.Expect(b.mirrored()).To(Equal(before))
		})
	}
}

// wantWrongInstance waits until the instance says that the key is not of the Clerk instance, and what to do.
func (b *backed) wantWrongInstance(id string) {
	b.t.Helper()
	b.becomes(clerkv1alpha1.ConditionBackendAPIReady, metav1.ConditionFalse, clerkv1alpha1.ReasonWrongInstance)
	b.Eventually(stored(b.world, b.instance)).Should(beReady(metav1.ConditionFalse, clerkv1alpha1.ReasonWrongInstance))
	b.Expect(b.message(clerkv1alpha1.ConditionReady)).To(And(
		ContainSubstring("it is of "+b.clerk.InstanceID()+" and not of "+id),
		ContainSubstring("use the key of the instance that is mirrored, or name the other one in spec.instanceID"),
	))
	b.Expect(get(b.world, b.instance).Status.InstanceID).To(Equal(id))
}

func TestSync_refusesWhatBecomesAnotherInstanceOnTheWay(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	b, members := w.staffed([]string{"org:admin", "org:guest"}, maxDeletions("100%"))
	id, before := b.clerk.InstanceID(), b.mirrored()
	b.clerk.ResetRequests()
	remove := b.clerk.Inject(clerkfake.Fault{EmptyLists: true})
	b.request()
	w.Eventually(b.listings).Should(ContainElement("users "))
	remove()
	b.clerk.SetInstance(payload.NewID("ins"), "")
	b.clerk.Inject(clerkfake.Fault{Path: "/v1/users/", Status: http.StatusNotFound})
	b.clerk.Inject(clerkfake.Fault{Path: "/v1/organizations/", Status: http.StatusNotFound})

	b.wantWrongInstance(id)
	w.Expect(b.mirrored()).To(Equal(before))
	w.Expect(w.access(members)()).To(Equal(members.due()))
	b.clerk.ClearFaults()
	b.clerk.SetInstance(id, "")
	b.resync()
	w.Expect(b.mirrored()).To(Equal(before))
}

func TestSync_mirrorsNothingOfAnotherInstance(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	gate := make(chan struct{})
	b := w.backedBy(func(c *clerkfake.Clerk) {
		w.team(c, "org:admin")
		c.Inject(clerkfake.Fault{Block: gate})
	}, func(i *clerkv1alpha1.ClerkInstance) { i.Spec.InstanceID = payload.NewID("ins") })
	b.clerk.ClearFaults()
	close(gate)
	b.becomes(clerkv1alpha1.ConditionBackendAPIReady, metav1.ConditionFalse, clerkv1alpha1.ReasonWrongInstance)
	w.Eventually(stored(w, b.instance)).Should(beReady(metav1.ConditionFalse, clerkv1alpha1.ReasonWrongInstance))
	w.Expect(b.mirrored()).To(BeEmpty())

	changeByHand(w, b.instance, func(i *clerkv1alpha1.ClerkInstance) { i.Spec.InstanceID = b.clerk.InstanceID() })
	b.request()
	b.synced()
	w.Expect(b.mirrored()).To(HaveLen(3))
}

func TestSync_believesNoKeyThatKnowsNothingOfWhatIsMirrored(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	b, backend := w.clerkFor(nil)
	b.instance = w.ownInstance()
	o := w.newOrganization("webhooks")
	w.happen("organization.created", o.Data())
	w.join(w.user(), o, "org:admin")
	before := b.mirrored()
	w.Expect(before).To(HaveLen(3))

	changeByHand(w, b.instance, func(i *clerkv1alpha1.ClerkInstance) {
		backend(i)
		maxDeletions("100%")(i)
	})
	b.becomes(clerkv1alpha1.ConditionBackendAPIReady, metav1.ConditionFalse, clerkv1alpha1.ReasonWrongInstance)
	w.Expect(get(w, b.instance).Status.InstanceID).To(BeEmpty(), "nothing is learned from it")
	w.Expect(b.mirrored()).To(Equal(before))
}

// The first key of an instance is believed while nothing is mirrored that it should know.
func TestSync_deletesNothingThatCameFromAnotherInstanceMeanwhile(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	gate := make(chan struct{})
	b := w.backedBy(func(c *clerkfake.Clerk) { c.Inject(clerkfake.Fault{Path: "/v1/organization_memberships", Block: gate}) })
	w.Eventually(b.listings).Should(ContainElement("organization_memberships 0"))
	u := w.newUser()
	ignored := w.deliver(w.event("user.created", u.Data())) == "ignored"
	b.clerk.ClearFaults()
	close(gate)
	b.synced()
	b.resync()
	w.Expect(w.gone(w.userObject(u.ID))()).To(Equal(ignored), "what was stored stays")
	w.Expect(w.tombstones(u.ID)()).To(BeEmpty())
}
