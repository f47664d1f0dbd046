// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package backfill

import (
	"context"
	"net/http"
	"slices"
	"testing"
	"time"

	. "github.com/onsi/gomega"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	clerkv1alpha1 "github.com/clerk-operator/clerk-operator/api/v1alpha1"
	"github.com/clerk-operator/clerk-operator/internal/clerk"
	"github.com/clerk-operator/clerk-operator/internal/clerkapi"
	"github.com/clerk-operator/clerk-operator/internal/mirror"
	"github.com/clerk-operator/clerk-operator/test/clerkfake"
	"github.com/clerk-operator/clerk-operator/test/payload"
)

var errUnavailable = apierrors.NewServiceUnavailable("the API server is unavailable")

func TestFull_deletesWhatIsProvenToBeGone(t *testing.T) {
	w := newWorld(t)
	acme, other := w.tenant(3), w.tenant(1)
	w.full()
	w.clerk.DeleteUser(acme.users[0].ID)
	w.clerk.DeleteOrganization(other.ID)
	w.Expect(w.clerk.RemoveMember(acme.memberships[1].ID)).To(Succeed())
	run := w.full()
	w.states(deleted, acme.users[0].ID, other.ID, acme.memberships[1].ID)
	w.states(stored, acme.memberships[0].ID, other.memberships[0].ID) // they go with their user and organization, by themselves
	w.states(stored, acme.ID, acme.users[1].ID, acme.users[2].ID, acme.memberships[2].ID, other.users[0].ID)
	w.Expect(run.Outcome().Written).To(Equal(map[clerk.Kind]int{clerk.KindUser: 1, clerk.KindOrganization: 1, clerk.KindMembership: 1}))
	w.Expect(run.Outcome().Unlisted).To(BeZero())
	w.Expect(run.Outcome().Held).To(BeEmpty())
	w.Expect(run.Repaired()).To(Equal(run.Outcome().Written))
	w.Expect(w.counters("clerk_operator_sync_repaired_objects_total")).To(Equal(map[string]float64{
		"ClerkUser deleted": 1, "ClerkOrganization deleted": 1, "ClerkOrganizationMembership deleted": 1,
	}))
	before := w.versions()
	again := w.full()
	w.Expect(again.Outcome().Written).To(BeEmpty())
	w.Expect(w.versions()).To(Equal(before))
}

// A webhook may still be on its way that tells of a deletion, too.
func TestFull_waitsBeforeItJudgesOfTheGone(t *testing.T) {
	w := newWorld(t)
	w.tenant(1)
	user := w.clerk.CreateUser(clerkfake.User{})
	w.full()
	w.clerk.DeleteUser(user.ID)
	run := w.begin(clerkv1alpha1.SyncFull)
	w.until(run, clerkv1alpha1.SyncDeletions)
	w.asked("")
	w.Expect(w.step(run)).To(Equal(Next{After: settleTime}))
	w.Expect(w.asked("")).To(BeEmpty())
	_, err := w.mirror.Delete(t.Context(), w.config.Name, user.ID, w.clock.Now())
	w.Expect(err).NotTo(HaveOccurred())
	w.Expect(w.finish(run)).To(Succeed())
	w.states(deleted, user.ID)
	w.Expect(run.Repaired()).To(BeEmpty(), "the webhook did it")
	w.Expect(w.asked("/v1/users/user_")).To(BeEmpty())
}

func TestFull_whatAListingLeavesOutIsNotGone(t *testing.T) {
	w := newWorld(t)
	acme, other := w.tenant(3), w.tenant(1)
	w.full()
	w.clerk.DeleteUser(acme.users[2].ID)
	skipped := []string{acme.users[0].ID, acme.memberships[1].ID, other.ID}
	w.clerk.Inject(clerkfake.Fault{Skip: func(id string) bool { return slices.Contains(skipped, id) }})
	run := w.full()
	w.Expect(run.Outcome().Unlisted).To(Equal(3))
	w.states(stored, skipped...)
	w.states(deleted, acme.users[2].ID) // which Clerk says itself
}

// A listing that leaves out what has changed, too, does not keep it from being repaired.
func TestFull_repairsWhatAListingLeavesOut(t *testing.T) {
	w := newWorld(t)
	acme := w.tenant(2)
	w.full()
	w.clerk.UpdateUser(acme.users[0].ID, func(u *clerkfake.User) { u.Banned = true })
	w.clerk.Inject(clerkfake.Fault{Path: "/v1/users", Skip: func(id string) bool { return id == acme.users[0].ID }})
	run := w.full()
	w.Expect(run.Outcome().Unlisted).To(Equal(1))
	w.Expect(run.Outcome().Written).To(Equal(map[clerk.Kind]int{clerk.KindUser: 1}))
	w.Expect(w.user(acme.users[0].ID).Spec.Banned).To(HaveValue(BeTrue()))
}

func TestFull_emptyListsDeleteNothing(t *testing.T) {
	w := newWorld(t)
	acme, other := w.tenant(3), w.tenant(1)
	w.full()
	before := w.versions()
	w.clerk.Inject(clerkfake.Fault{EmptyLists: true})
	run := w.full()
	w.Expect(run.Outcome().Unlisted).To(Equal(len(before)))
	w.Expect(run.Outcome().Written).To(BeEmpty())
	w.Expect(w.versions()).To(Equal(before))
	w.states(stored, acme.ID, other.ID)
}

// A listing that lacks so much is broken, and what is gone among it is not for this sync to say.
func TestFull_doesNotAskForEverythingThatABrokenListingLacks(t *testing.T) {
	w := newWorld(t)
	acme := w.tenant(maxUnlisted + 5)
	w.full()
	w.config.Spec.BackendAPI.Sync.MaxDeletions = new(intstr.FromString("100%"))
	for _, user := range acme.users[:3] {
		w.clerk.DeleteUser(user.ID)
	}
	before := w.versions()
	w.clerk.Inject(clerkfake.Fault{EmptyLists: true})
	w.asked("")
	run := w.full()
	w.Expect(len(w.asked("/v1/users/user_"))).To(And(BeNumerically(">=", maxUnlisted), BeNumerically("<=", maxUnlisted+3)))
	w.Expect(run.Outcome().Unlisted).To(BeNumerically(">", maxUnlisted))
	w.Expect(run.Outcome().Held).To(BeEmpty())
	w.Expect(w.versions()).To(Equal(before))
}

// What was stored after the sync had begun need not be in a listing from before.
func TestFull_doesNotMissWhatCameMeanwhile(t *testing.T) {
	w := newWorld(t)
	w.tenant(1)
	w.full()
	w.clock.SetTime(time.Now().Truncate(time.Second)) // creation timestamps are by the cluster's clock
	run := w.begin(clerkv1alpha1.SyncFull)
	w.until(run, clerkv1alpha1.SyncDeletions)
	late := w.clerk.CreateUser(clerkfake.User{})
	w.deliver(late)
	w.Expect(w.finish(run)).To(Succeed())
	w.Expect(run.Outcome().Unlisted).To(BeZero())
	w.states(stored, late.ID)
	ghost := w.begin(clerkv1alpha1.SyncFull)
	w.until(ghost, clerkv1alpha1.SyncDeletions)
	nobody := clerkfake.User{ID: newUserID(), CreatedAt: w.clock.Now(), UpdatedAt: w.clock.Now()}
	w.deliver(nobody)
	w.Expect(w.finish(ghost)).To(Succeed())
	w.states(deleted, nobody.ID) // Clerk has been asked, which is a proof whenever it came
}

func TestFull_anAnswerThatIsNotClerksProvesNothing(t *testing.T) {
	for name, fault := range map[string]clerkfake.Fault{
		"a gateway's 404":  {Status: http.StatusNotFound, Body: "<html>404</html>"},
		"another API's":    {Status: http.StatusNotFound, Body: `{"message":"no such route"}`},
		"an error":         {Status: http.StatusForbidden},
		"an empty success": {Status: http.StatusNoContent, Body: " "},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			acme := w.tenant(2)
			w.full()
			w.clerk.DeleteUser(acme.users[0].ID)
			fault.Path = "/v1/users/user_"
			remove := w.clerk.Inject(fault)
			run := w.begin(clerkv1alpha1.SyncFull)
			before := w.versions()
			w.Expect(w.finish(run)).To(BeAssignableToTypeOf(&clerkapi.Error{}))
			w.Expect(w.versions()).To(Equal(before))
			remove()
			w.Expect(w.finish(run)).To(Succeed())
			w.states(deleted, acme.users[0].ID)
		})
	}
}

func TestFull_anotherInstanceProvesNothing(t *testing.T) {
	for name, swapped := range map[string]struct {
		// steps are those of the deletions before the instance is another.
		steps int
		want  int
	}{"before it is asked": {0, 0}, "between the proof and the deletion": {1, 1}} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			acme := w.tenant(2)
			w.full()
			w.clerk.DeleteUser(acme.users[0].ID)
			run := w.begin(clerkv1alpha1.SyncFull)
			w.until(run, clerkv1alpha1.SyncDeletions)
			w.clock.SetTime(w.clock.Now().Add(settleTime))
			for range swapped.steps {
				w.Expect(w.step(run)).To(BeZero())
				w.Expect(run.deaths.gone[clerk.KindUser]).To(HaveLen(swapped.want))
			}
			before := w.versions()
			w.clerk.SetInstance(payload.NewID("ins"), "")
			_, err := w.syncer.Step(t.Context(), run)
			w.Expect(err).To(MatchError(ErrWrongInstance))
			w.Expect(w.versions()).To(Equal(before))
		})
	}
	t.Run("when nothing is missing", func(t *testing.T) {
		w := newWorld(t)
		w.tenant(1)
		w.full()
		run := w.begin(clerkv1alpha1.SyncFull)
		w.until(run, clerkv1alpha1.SyncDeletions)
		w.asked("")
		w.step(run)
		w.Expect(run.Progress.Stage).To(Equal(clerkv1alpha1.SyncPlans))
		w.Expect(w.asked("")).To(BeEmpty(), "nothing has to be proven")
	})
}

func TestFull_holdsAllWhenAnythingIsTooMuch(t *testing.T) {
	w := newWorld(t)
	acme, other := w.tenant(4), w.tenant(0)
	w.full()
	gone := append(userIDs(acme.users[:3]), other.ID)
	for _, user := range acme.users[:3] {
		w.clerk.DeleteUser(user.ID)
	}
	w.clerk.DeleteOrganization(other.ID)
	before := w.versions()
	run := w.full()
	w.Expect(run.Outcome().Held).To(HaveLen(2))
	w.Expect(run.Outcome().Held[clerk.KindUser]).To(ConsistOf(userIDs(acme.users[:3])))
	w.Expect(run.Outcome().Held[clerk.KindOrganization]).To(ConsistOf(other.ID))
	w.Expect(run.Outcome().Allowed).To(Equal(map[clerk.Kind]int{clerk.KindUser: 1, clerk.KindOrganization: 1}))
	w.Expect(run.Outcome().Written).To(BeEmpty())
	w.Expect(run.Outcome().Unlisted).To(BeZero())
	w.Expect(run.Repaired()).To(Equal(map[clerk.Kind]int{clerk.KindUser: 3, clerk.KindOrganization: 1}), "webhooks should have told")
	w.Expect(w.versions()).To(Equal(before))

	token := Token(run.Outcome().Held)
	for name, tc := range map[string]string{"nothing": "", "others": Token(map[clerk.Kind][]string{clerk.KindUser: gone[:2]}), "anything": "true"} {
		w.config.Annotations[clerkv1alpha1.AnnotationReleasePrune] = tc
		w.Expect(Token(w.full().Outcome().Held)).To(Equal(token), name)
		w.Expect(w.versions()).To(Equal(before), name)
	}
	w.config.Annotations[clerkv1alpha1.AnnotationReleasePrune] = token
	w.clerk.DeleteUser(acme.users[3].ID)
	more := w.full()
	w.Expect(more.Outcome().Held[clerk.KindUser]).To(HaveLen(4), "what was released is not what is gone now")
	w.Expect(w.versions()).To(Equal(before))

	w.config.Annotations[clerkv1alpha1.AnnotationReleasePrune] = Token(more.Outcome().Held)
	released := w.full()
	w.Expect(released.Outcome().Held).To(BeEmpty())
	w.Expect(released.Outcome().Written).To(Equal(map[clerk.Kind]int{clerk.KindUser: 4, clerk.KindOrganization: 1}))
	w.states(deleted, append(gone, acme.users[3].ID)...)
}

// flakyClient deletes some objects and then no more.
type flakyClient struct {
	client.Client
	left int
}

func (c *flakyClient) Delete(ctx context.Context, o client.Object, options ...client.DeleteOption) error {
	if c.left--; c.left < 0 {
		return errUnavailable
	}
	return c.Client.Delete(ctx, o, options...)
}

// What remains of a release when the API server failed in its midst is no new set that has to be released again.
func TestFull_goesOnWithAReleaseThatFailed(t *testing.T) {
	w := newWorld(t)
	acme := w.tenant(4)
	w.full()
	for _, user := range acme.users[:3] {
		w.clerk.DeleteUser(user.ID)
	}
	held := w.full().Outcome().Held
	w.config.Annotations[clerkv1alpha1.AnnotationReleasePrune] = Token(held)
	flaky := &flakyClient{Client: cluster, left: 1}
	w.syncer = NewSyncer(flaky, mirror.New(flaky, flaky), w.clock, w.syncer.metrics)
	run := w.begin(clerkv1alpha1.SyncFull)
	w.Expect(w.finish(run)).To(MatchError(errUnavailable))
	flaky.left = 10
	w.Expect(w.finish(run)).To(Succeed())
	w.Expect(run.Outcome().Held).To(BeEmpty())
	w.Expect(run.Outcome().Written).To(Equal(map[clerk.Kind]int{clerk.KindUser: 3}))
	w.states(deleted, userIDs(acme.users[:3])...)
}

func TestFull_deletesAsManyAsItMay(t *testing.T) {
	for name, tc := range map[string]struct {
		limit intstr.IntOrString
		want  state
	}{
		"none":      {intstr.FromInt32(0), stored},
		"one less":  {intstr.FromInt32(1), stored},
		"as many":   {intstr.FromInt32(2), deleted},
		"half":      {intstr.FromString("50%"), deleted},
		"a quarter": {intstr.FromString("25%"), stored},
		"all":       {intstr.FromString("100%"), deleted},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.config.Spec.BackendAPI.Sync.MaxDeletions = &tc.limit
			acme := w.tenant(4)
			w.full()
			w.clerk.DeleteUser(acme.users[0].ID)
			w.clerk.DeleteUser(acme.users[1].ID)
			run := w.full()
			w.states(tc.want, acme.users[0].ID, acme.users[1].ID)
			w.Expect(len(run.Outcome().Held) == 0).To(Equal(tc.want == deleted))
		})
	}
}

// The tombstone's name is that of an ID which differs in case only: the object goes, and it is told that it may come back.
func TestFull_countsDeletionsThatTheClusterCannotRemember(t *testing.T) {
	w := newWorld(t)
	acme := w.tenant(2)
	w.full()
	id := acme.users[0].ID
	tombstone := &clerkv1alpha1.ClerkTombstone{ObjectMeta: metav1.ObjectMeta{Name: clerk.ObjectName(w.config.Name, id)}}
	tombstone.Spec = clerkv1alpha1.ClerkTombstoneSpec{InstanceName: w.config.Name, ID: otherCase(id), DeletedAt: clerkv1alpha1.NewTimestamp(noon)}
	w.Expect(cluster.Create(t.Context(), tombstone)).To(Succeed())
	w.clerk.DeleteUser(id)
	run := w.full()
	w.Expect(run.Outcome().Skipped).To(Equal(1))
	w.Expect(w.user(id).DeletionTimestamp).NotTo(BeNil())
}

func TestFull_forgetsWhoIsNoMemberAnyMore(t *testing.T) {
	w := newWorld(t)
	acme := w.tenant(3)
	lonely := w.clerk.CreateUser(clerkfake.User{})
	w.full()
	w.states(stored, lonely.ID)
	w.config.Spec.Users.Mirror = clerkv1alpha1.UserMirrorMembers
	w.clerk.DeleteUser(acme.users[1].ID)
	w.Expect(w.clerk.RemoveMember(acme.memberships[2].ID)).To(Succeed())
	run := w.full()
	w.states(evicted, lonely.ID, acme.users[2].ID) // who exist, and come back when they join
	w.states(deleted, acme.users[1].ID, acme.memberships[2].ID)
	w.states(stored, acme.users[0].ID, acme.memberships[0].ID)
	w.Expect(run.Outcome().Written).To(Equal(map[clerk.Kind]int{clerk.KindUser: 1, clerk.KindMembership: 1}), "it is no repair")
}

// Who is a member here stays: with the membership, whose deletion is held.
func TestFull_keepsMembersWhileDeletionsAreHeld(t *testing.T) {
	w := newWorld(t)
	w.config.Spec.Users.Mirror = clerkv1alpha1.UserMirrorMembers
	acme := w.tenant(4)
	w.full()
	for _, membership := range acme.memberships[:3] {
		w.Expect(w.clerk.RemoveMember(membership.ID)).To(Succeed())
	}
	run := w.full()
	w.Expect(run.Outcome().Held[clerk.KindMembership]).To(HaveLen(3))
	w.states(stored, membershipIDs(acme.memberships)...)
	w.states(stored, userIDs(acme.users)...)
	w.config.Annotations[clerkv1alpha1.AnnotationReleasePrune] = Token(run.Outcome().Held)
	w.full()
	w.states(deleted, membershipIDs(acme.memberships[:3])...)
	w.states(evicted, userIDs(acme.users[:3])...)
	w.states(stored, acme.users[3].ID)
}

// A listing that lacks what exists says nothing of who is no member, either.
func TestFull_forgetsNobodyByAListingWithHoles(t *testing.T) {
	w := newWorld(t)
	acme := w.tenant(2)
	lonely := w.clerk.CreateUser(clerkfake.User{})
	w.full()
	w.config.Spec.Users.Mirror = clerkv1alpha1.UserMirrorMembers
	w.clerk.Inject(clerkfake.Fault{Path: "/v1/organization_memberships", Skip: func(id string) bool { return id == acme.memberships[0].ID }})
	run := w.full()
	w.Expect(run.Outcome().Unlisted).To(Equal(1))
	w.states(stored, lonely.ID, acme.users[0].ID, acme.users[1].ID)
}

func TestFull_keepsMembersWhomAListingLacks(t *testing.T) {
	w := newWorld(t)
	w.config.Spec.Users.Mirror = clerkv1alpha1.UserMirrorMembers
	acme := w.tenant(3)
	w.full()
	w.clerk.Inject(clerkfake.Fault{Path: "/v1/organization_memberships", EmptyLists: true})
	w.full()
	w.states(stored, userIDs(acme.users)...)
	w.states(stored, membershipIDs(acme.memberships)...)
}

// A user who was mirrored while the sync ran may be a member whose membership is on its way.
func TestFull_keepsWhoCameMeanwhile(t *testing.T) {
	w := newWorld(t)
	w.config.Spec.Users.Mirror = clerkv1alpha1.UserMirrorMembers
	w.tenant(1)
	w.full()
	w.clock.SetTime(time.Now().Truncate(time.Second))
	run := w.begin(clerkv1alpha1.SyncFull)
	w.until(run, clerkv1alpha1.SyncDeletions)
	late := w.clerk.CreateUser(clerkfake.User{})
	w.deliver(late)
	w.Expect(w.finish(run)).To(Succeed())
	w.states(stored, late.ID)
}
