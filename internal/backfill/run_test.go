// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package backfill

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"testing"
	"time"

	. "github.com/onsi/gomega"
	"github.com/prometheus/client_golang/prometheus"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	clerkv1alpha1 "github.com/clerk-operator/clerk-operator/api/v1alpha1"
	"github.com/clerk-operator/clerk-operator/internal/clerk"
	"github.com/clerk-operator/clerk-operator/internal/clerkapi"
	"github.com/clerk-operator/clerk-operator/test/clerkfake"
	"github.com/clerk-operator/clerk-operator/test/payload"
)

func TestFull_writesEverythingAndThenNothing(t *testing.T) {
	w := newWorld(t)
	acme, other := w.tenant(2), w.tenant(1)
	lonely := w.clerk.CreateUser(clerkfake.User{Username: "lonely", Banned: true, PublicMetadata: map[string]any{"plan": "pro"}})
	first := w.full()
	w.Expect(first.Outcome().Written).To(Equal(map[clerk.Kind]int{clerk.KindUser: 4, clerk.KindOrganization: 2, clerk.KindMembership: 3}))
	w.Expect(first.Repaired()).To(BeEmpty(), "nothing was to be delivered before")
	w.Expect(first.Outcome().Unlisted + first.Outcome().Skipped).To(BeZero())
	w.Expect(first.Progress.Done).To(BeEquivalentTo(9))
	w.Expect(first.Progress.Total).To(BeEquivalentTo(9))
	w.Expect(w.counters("clerk_operator_sync_objects_total")).To(Equal(map[string]float64{
		"ClerkUser created": 4, "ClerkOrganization created": 2, "ClerkOrganizationMembership created": 3,
	}))
	w.Expect(w.counters("clerk_operator_sync_repaired_objects_total")).To(BeEmpty())
	w.states(stored, append(append(membershipIDs(acme.memberships), other.memberships[0].ID), acme.ID, other.ID, lonely.ID)...)
	user := w.user(lonely.ID)
	w.Expect(user.Spec.Username).To(Equal("lonely"))
	w.Expect(user.Spec.Banned).To(HaveValue(BeTrue()))
	w.Expect(user.Spec.PublicMetadata.Raw).To(MatchJSON(`{"plan":"pro"}`))
	w.Expect(user.Spec.UpdatedAt.Time).To(BeTemporally("==", lonely.UpdatedAt))
	w.Expect(user.Spec.EventTime.Time).To(BeTemporally("~", first.Progress.StartedAt.Time, time.Minute), "when it was read")
	w.Expect(user.Finalizers).To(ConsistOf(clerkv1alpha1.FinalizerUser))
	w.Expect(w.user(acme.users[1].ID).Spec.Email).To(Equal("1@example.com"))

	before := w.versions()
	w.Expect(before).To(HaveLen(9))
	w.asked("")
	second := w.begin(clerkv1alpha1.SyncFull)
	for done := false; !done; {
		next := w.step(second)
		w.Expect(next.Wrote).To(BeFalse())
		w.Expect(next.After).To(BeZero(), "nothing has to be waited for")
		done = next.Done
	}
	w.Expect(second.Outcome().Written).To(BeEmpty())
	w.Expect(second.Repaired()).To(BeEmpty())
	w.Expect(w.versions()).To(Equal(before))
	w.Expect(w.asked("/v1/users/user_")).To(BeEmpty(), "nobody is suspected")
}

func TestFull_repairsWhatWebhooksDidNotDeliver(t *testing.T) {
	w := newWorld(t)
	acme := w.tenant(2)
	w.full()
	w.clerk.UpdateUser(acme.users[0].ID, func(u *clerkfake.User) { u.Banned = true })
	w.clerk.UpdateOrganization(acme.ID, func(o *clerkfake.Organization) { o.Slug = "acme-inc" })
	_, err := w.clerk.SetRole(acme.memberships[1].ID, "org:admin")
	w.Expect(err).NotTo(HaveOccurred())
	joined := w.clerk.CreateUser(clerkfake.User{})
	run := w.full()
	w.Expect(run.Outcome().Written).To(Equal(map[clerk.Kind]int{clerk.KindUser: 2, clerk.KindOrganization: 1, clerk.KindMembership: 1}))
	w.Expect(run.Repaired()).To(Equal(run.Outcome().Written))
	w.Expect(w.counters("clerk_operator_sync_repaired_objects_total")).To(Equal(map[string]float64{
		"ClerkUser created": 1, "ClerkUser updated": 1, "ClerkOrganization updated": 1, "ClerkOrganizationMembership updated": 1,
	}))
	w.Expect(w.user(acme.users[0].ID).Spec.Banned).To(HaveValue(BeTrue()))
	w.states(stored, joined.ID)
	var membership clerkv1alpha1.ClerkOrganizationMembership
	w.Expect(cluster.Get(t.Context(), client.ObjectKey{Name: clerk.ObjectName(w.config.Name, acme.memberships[1].ID)}, &membership)).To(Succeed())
	w.Expect(membership.Spec.Role).To(Equal("org:admin"))
	w.Expect(w.full().Repaired()).To(BeEmpty())
}

// Another configuration of what is mirrored writes a lot, and no webhook should have.
func TestFull_ofAnotherConfigurationIsNoRepair(t *testing.T) {
	w := newWorld(t)
	acme := w.tenant(2)
	w.full()
	w.config.Spec.Users.Profile = clerkv1alpha1.UserProfileMinimal
	run := w.full()
	w.Expect(run.Outcome().Written).To(Equal(map[clerk.Kind]int{clerk.KindUser: 2}))
	w.Expect(run.Repaired()).To(BeEmpty())
	w.Expect(w.user(acme.users[0].ID).Spec.Email).To(BeEmpty())
}

func TestStep_readsOnePage(t *testing.T) {
	w := newWorld(t, pagesOf(2))
	acme := w.tenant(3)
	w.tenant(0)
	w.tenant(0)
	run := w.begin(clerkv1alpha1.SyncFull)
	steps := []struct {
		stage        clerkv1alpha1.ClerkInstanceSyncStage
		offset, done int64
		asked        []string
		wrote        bool
	}{
		{clerkv1alpha1.SyncOrganizations, 2, 2, []string{"/v1/users/count", "/v1/organizations?limit=250&offset=0&order_by=%2Bcreated_at"}, true},
		{clerkv1alpha1.SyncMemberships, 0, 3, []string{"/v1/organizations?limit=250&offset=1&order_by=%2Bcreated_at"}, true},
		{clerkv1alpha1.SyncMemberships, 2, 5, []string{"/v1/organization_memberships?limit=250&offset=0&order_by=%2Bcreated_at"}, true},
		{clerkv1alpha1.SyncUsers, 0, 6, []string{"/v1/organization_memberships?limit=250&offset=1&order_by=%2Bcreated_at"}, true},
		{clerkv1alpha1.SyncDeletions, 0, 9, []string{"/v1/users?limit=250&order_by=%2Bcreated_at"}, true},
		{clerkv1alpha1.SyncPlans, 0, 9, nil, false},
		{clerkv1alpha1.SyncPlans, 0, 9, []string{plansPath + "?include_free=true&limit=250&offset=0&paginated=true"}, false},
	}
	for i, want := range steps {
		next := w.step(run)
		w.Expect(run.Progress.Stage).To(Equal(want.stage))
		w.Expect(run.Progress.Offset).To(Equal(want.offset))
		w.Expect(run.Progress.Done).To(Equal(want.done))
		w.Expect(run.Progress.Total).To(BeNumerically(">=", want.done))
		w.Expect(run.Progress.After).To(BeEmpty())
		w.Expect(next).To(Equal(Next{Wrote: want.wrote, Done: i == len(steps)-1}))
		got := w.asked("")
		w.Expect(got).To(HaveLen(len(want.asked)))
		for i := range got {
			w.Expect(got[i]).To(Equal(smaller(want.asked[i])))
		}
	}
	w.Expect(run.Progress.Total).To(BeEquivalentTo(9))
	w.states(stored, membershipIDs(acme.memberships)...)
}

// smaller is a request as pagesOf(2) passes it on.
func smaller(request string) string {
	r, err := http.NewRequestWithContext(context.Background(), http.MethodGet, "http://clerk.example.com"+request, nil)
	if err != nil {
		return err.Error()
	}
	pagesOf(2)(r)
	return r.URL.RequestURI()
}

func TestRun_isTakenUpAndThenMustNotDelete(t *testing.T) {
	w := newWorld(t, pagesOf(2))
	acme := w.tenant(2)
	gone := []clerkfake.Organization{w.tenant(0).Organization, w.tenant(0).Organization}
	w.full()
	w.clerk.DeleteOrganization(gone[0].ID)
	w.clerk.DeleteUser(acme.users[0].ID)
	late := []clerkfake.Organization{w.tenant(0).Organization, w.tenant(0).Organization}
	before := w.begin(clerkv1alpha1.SyncFull)
	w.step(before)
	w.Expect(before.Progress.Offset).To(BeEquivalentTo(2))
	w.asked("")

	run := w.syncer.NewRun(w.config.DeepCopy(), w.api, w.clerk.InstanceID(), clerkv1alpha1.SyncFull, before.Progress)
	w.Expect(run.Interrupted()).To(BeTrue())
	w.Expect(run.Progress.StartedAt).To(Equal(before.Progress.StartedAt))
	w.Expect(run.Progress.Done).To(BeEquivalentTo(2))
	w.Expect(w.finish(run)).To(Succeed())
	w.Expect(w.asked("/v1/organizations")).To(Equal([]string{
		smaller("/v1/organizations?limit=250&offset=1&order_by=%2Bcreated_at"), smaller("/v1/organizations?limit=250&offset=2&order_by=%2Bcreated_at"),
	}), "it went on where it was, and asked for nobody who was not listed")
	w.Expect(run.Outcome().Unlisted).To(BeZero())
	w.states(stored, gone[0].ID, acme.users[0].ID, late[0].ID, late[1].ID)

	whole := w.full()
	w.Expect(whole.Interrupted()).To(BeFalse())
	w.states(deleted, gone[0].ID, acme.users[0].ID)
	w.states(stored, gone[1].ID, acme.users[1].ID)
}

func TestRun_isNotTakenUp(t *testing.T) {
	progress := func(syncType clerkv1alpha1.ClerkInstanceSyncType) clerkv1alpha1.ClerkInstanceSyncProgress {
		return clerkv1alpha1.ClerkInstanceSyncProgress{Type: syncType, Stage: clerkv1alpha1.SyncUsers, Offset: 250, After: "user_a", Done: 500}
	}
	const full, incremental = clerkv1alpha1.SyncFull, clerkv1alpha1.SyncIncremental
	for name, tc := range map[string]struct {
		before clerkv1alpha1.ClerkInstanceSyncProgress
		due    clerkv1alpha1.ClerkInstanceSyncType
	}{
		"nothing": {clerkv1alpha1.ClerkInstanceSyncProgress{}, full}, "an incremental one": {progress(incremental), incremental},
		"an incremental one, all is due": {progress(incremental), full}, "all, an incremental one is due": {progress(full), incremental},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			run := w.syncer.NewRun(w.config, w.api, "ins_a", tc.due, tc.before)
			w.Expect(run.Interrupted()).To(BeFalse())
			w.Expect(run.Progress).To(Equal(clerkv1alpha1.ClerkInstanceSyncProgress{
				Type: tc.due, Stage: clerkv1alpha1.SyncOrganizations, StartedAt: at(w.clock.Now().Truncate(time.Second)),
			}))
		})
	}
}

// A run that failed in between has not seen everything with its own eyes, even when it has come to the deletions.
func TestRun_thatWasInterruptedDeletesNothing(t *testing.T) {
	for name, tc := range map[string]struct{ steps, wantProven int }{
		"at its beginning": {0, 0}, "before the deletions": {3, 0}, "when all is proven": {4, 1},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			acme := w.tenant(2)
			w.full()
			w.clerk.DeleteUser(acme.users[0].ID)
			run := w.begin(clerkv1alpha1.SyncFull)
			for range tc.steps {
				w.Expect(w.step(run).After).To(BeZero())
				w.clock.SetTime(w.clock.Now().Add(settleTime))
			}
			if tc.wantProven > 0 {
				w.Expect(run.deaths.gone[clerk.KindUser]).To(HaveLen(tc.wantProven))
			}
			run.Interrupt()
			w.Expect(w.finish(run)).To(Succeed())
			w.states(stored, acme.users[0].ID)
			w.Expect(run.Outcome().Written).To(BeEmpty())
		})
	}
}

func TestRun_triesAStepAgain(t *testing.T) {
	w := newWorld(t, pagesOf(2))
	acme := w.tenant(3)
	run := w.begin(clerkv1alpha1.SyncFull)
	w.clerk.Inject(clerkfake.Fault{Path: "/v1/users/count", Status: http.StatusForbidden}) // it is for the percentage only
	for stage, path := range []string{"/v1/organizations", "/v1/organization_memberships", "/v1/users"} {
		w.until(run, stages[stage])
		before := run.Progress
		remove := w.clerk.Inject(clerkfake.Fault{Path: path, Status: http.StatusForbidden})
		next, err := w.syncer.Step(t.Context(), run)
		w.Expect(err).To(HaveField("StatusCode", http.StatusForbidden))
		w.Expect(next).To(BeZero())
		w.Expect(run.Progress).To(Equal(before))
		remove()
	}
	w.Expect(w.finish(run)).To(Succeed())
	w.Expect(run.Interrupted()).To(BeFalse(), "which is for the caller to say")
	w.Expect(run.Progress.Total).To(Equal(run.Progress.Done))
	w.states(stored, append(membershipIDs(acme.memberships), userIDs(acme.users)...)...)
}

func TestRun_aListingThatCannotBeTrustedFails(t *testing.T) {
	repeated := func(path string) clerkfake.Fault { return clerkfake.Fault{Path: path, RepeatPages: true} }
	body := func(path, body string) clerkfake.Fault { return clerkfake.Fault{Path: path, Body: body} }
	for name, tc := range map[string]struct {
		fault clerkfake.Fault
		want  error
	}{
		"organizations repeat a page":     {repeated("/v1/organizations"), ErrListingRepeats},
		"memberships repeat a page":       {repeated("/v1/organization_memberships"), ErrListingRepeats},
		"organizations end early":         {body("/v1/organizations", `{"data":[],"total_count":5}`), ErrListingEnds},
		"memberships end early":           {body("/v1/organization_memberships", `{"data":[],"total_count":1}`), ErrListingEnds},
		"an empty object":                 {body("/v1/organizations", `{}`), clerkapi.ErrMalformed},
		"users in another list's clothes": {body("/v1/users", `{"data":[],"total_count":0}`), clerkapi.ErrMalformed},
		"half an answer":                  {clerkfake.Fault{Path: "/v1/organization_memberships", Truncate: true}, clerkapi.ErrMalformed},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, pagesOf(2))
			acme := w.tenant(4)
			w.tenant(0)
			w.tenant(0)
			w.full()
			w.clerk.DeleteUser(acme.users[0].ID)
			w.clerk.Inject(tc.fault)
			before := w.versions()
			run := w.begin(clerkv1alpha1.SyncFull)
			w.Expect(w.finish(run)).To(MatchError(tc.want))
			w.Expect(run.Progress.Stage).NotTo(Equal(clerkv1alpha1.SyncDeletions), "it has not come to ask for single objects")
			w.Expect(w.versions()).To(Equal(before), "what is mirrored stays as it is")
		})
	}
}

// manyUsers makes more users than a page has, which are mirrored only when they join.
func (w *world) manyUsers() []string {
	w.config.Spec.Users.Mirror = clerkv1alpha1.UserMirrorMembers
	made := make([]string, clerkapi.PageSize+3)
	for i := range made {
		made[i] = w.clerk.CreateUser(clerkfake.User{}).ID
	}
	return made
}

func TestRun_readsUsersAfterTheLastOne(t *testing.T) {
	w := newWorld(t)
	users := w.manyUsers()
	run := w.begin(clerkv1alpha1.SyncFull)
	w.until(run, clerkv1alpha1.SyncUsers)
	w.asked("")
	w.step(run)
	w.Expect(run.Progress.After).To(Equal(users[clerkapi.PageSize-1]))
	w.Expect(run.Progress.Total).To(BeEquivalentTo(len(users)), "which Clerk was asked for")
	w.Expect(w.finish(run)).To(Succeed())
	w.Expect(w.asked("/v1/users")).To(Equal([]string{
		"/v1/users?limit=250&order_by=%2Bcreated_at",
		"/v1/users?limit=250&order_by=%2Bcreated_at&starting_after=" + users[clerkapi.PageSize-1],
	}))
	w.Expect(run.Progress.Done).To(BeEquivalentTo(len(users)))
	w.Expect(run.seen[clerk.KindUser].Len()).To(Equal(len(users)))
	w.Expect(w.versions()).To(BeEmpty())
}

func TestRun_readsUsersAnewWhenTheLastOneIsGone(t *testing.T) {
	w := newWorld(t)
	users := w.manyUsers()
	run := w.begin(clerkv1alpha1.SyncFull)
	w.until(run, clerkv1alpha1.SyncUsers)
	w.step(run)
	w.clerk.DeleteUser(users[clerkapi.PageSize-1])
	w.asked("")
	w.Expect(w.finish(run)).To(Succeed())
	w.Expect(w.asked("/v1/users")).To(Equal([]string{
		"/v1/users?limit=250&order_by=%2Bcreated_at&starting_after=" + users[clerkapi.PageSize-1],
		"/v1/users?limit=250&order_by=%2Bcreated_at",
		"/v1/users?limit=250&order_by=%2Bcreated_at&starting_after=" + users[clerkapi.PageSize],
	}))
	w.Expect(run.seen[clerk.KindUser].Len()).To(Equal(len(users)-1), "and not the one who is gone")
	w.Expect(run.Progress.Done).To(BeEquivalentTo(len(users) - 1))
}

// A row that goes while a listing is read makes all that come after it move up, and one of them would be missed.
func TestRun_missesNothingOfAListingThatMoves(t *testing.T) {
	for name, drop := range map[string][]int{
		"a row that was read": {0}, "the last row that was read": {1}, "two rows that were read": {0, 1}, "a row that comes": {3},
		"one of both": {0, 4}, "three of both": {0, 1, 2},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, pagesOf(2))
			w.config.Spec.BackendAPI.Sync.MaxDeletions = new(intstr.FromString("100%"))
			all := make([]string, 5)
			for i := range all {
				all[i] = w.tenant(0).ID
			}
			w.full()
			run := w.begin(clerkv1alpha1.SyncFull)
			w.step(run)
			var gone []string
			for _, i := range drop {
				gone = append(gone, all[i])
				w.clerk.DeleteOrganization(all[i])
			}
			w.Expect(w.finish(run)).To(Succeed())
			w.Expect(run.Outcome().Unlisted).To(BeZero())
			w.succeeded(run)
			w.full() // one that was read before it went is for the next sync
			w.states(deleted, gone...)
			w.states(stored, slices.DeleteFunc(all, func(id string) bool { return slices.Contains(gone, id) })...)
		})
	}
}

// A cursor that is never accepted would else begin anew for ever.
func TestRun_readsUsersAnewOnce(t *testing.T) {
	w := newWorld(t)
	users := w.manyUsers()
	run := w.begin(clerkv1alpha1.SyncFull)
	w.until(run, clerkv1alpha1.SyncUsers)
	for last := range 2 {
		w.step(run)
		w.clerk.DeleteUser(users[clerkapi.PageSize-1+last])
	}
	before := run.Progress
	w.Expect(w.finish(run)).To(HaveField("StatusCode", http.StatusUnprocessableEntity))
	w.Expect(run.Progress).To(Equal(before))
}

func TestRun_usersThatRepeatAPageFail(t *testing.T) {
	w := newWorld(t)
	w.manyUsers()
	run := w.begin(clerkv1alpha1.SyncFull)
	w.until(run, clerkv1alpha1.SyncUsers)
	w.clerk.Inject(clerkfake.Fault{Path: "/v1/users", RepeatPages: true})
	w.Expect(w.finish(run)).To(MatchError(ErrListingRepeats))
}

func TestIncremental_readsWhatIsNew(t *testing.T) {
	w := newWorld(t, pagesOf(2))
	born := w.clock.Now().Add(-2 * time.Hour)
	organizations := make([]string, 6)
	for i := range organizations {
		organizations[i] = w.clerk.CreateOrganization(clerkfake.Organization{CreatedAt: born.Add(time.Duration(i) * time.Minute)}).ID
	}
	gone := w.tenant(0)
	w.full()
	w.clerk.DeleteOrganization(gone.ID)
	for _, id := range organizations { // as if nothing of them had ever been seen
		o := &clerkv1alpha1.ClerkOrganization{}
		w.Expect(cluster.Get(t.Context(), client.ObjectKey{Name: clerk.ObjectName(w.config.Name, id)}, o)).To(Succeed())
		o.Finalizers = nil
		w.Expect(cluster.Update(t.Context(), o)).To(Succeed())
		w.Expect(cluster.Delete(t.Context(), o)).To(Succeed())
	}
	// The last sync less the overlap is between the third and the fourth.
	w.config.Status.Sync.LastTime = at(born.Add(2*time.Minute + 30*time.Second + overlap))
	w.asked("")
	run := w.sync(clerkv1alpha1.SyncIncremental)
	w.Expect(w.asked("/v1/organizations")).To(Equal([]string{
		smaller("/v1/organizations?limit=250&offset=0&order_by=-created_at"), smaller("/v1/organizations?limit=250&offset=1&order_by=-created_at"),
		smaller("/v1/organizations?limit=250&offset=2&order_by=-created_at"),
	}))
	w.Expect(run.Outcome().Written).To(Equal(map[clerk.Kind]int{clerk.KindOrganization: 4}))
	w.Expect(run.Repaired()).To(Equal(run.Outcome().Written))
	w.states(stored, organizations[2:]...)
	w.states(absent, organizations[:2]...)
	w.states(stored, gone.ID) // what is gone is for a full sync
}

func TestIncremental_findsChangedUsers(t *testing.T) {
	w := newWorld(t)
	acme := w.tenant(2)
	w.full()
	w.clerk.UpdateUser(acme.users[0].ID, func(u *clerkfake.User) { u.Deprovisioned = true })
	w.clerk.DeleteUser(acme.users[1].ID)
	w.asked("")
	run := w.sync(clerkv1alpha1.SyncIncremental)
	w.Expect(w.asked("/v1/users")).To(Equal([]string{"/v1/users/count", "/v1/users?limit=250&offset=0&order_by=-updated_at"}))
	w.Expect(run.Outcome().Written).To(Equal(map[clerk.Kind]int{clerk.KindUser: 1}))
	w.Expect(w.user(acme.users[0].ID).Spec.Deprovisioned).To(HaveValue(BeTrue()))
	w.states(stored, acme.users[1].ID)
	w.Expect(run.Outcome().Unlisted).To(BeZero())
}

// What changed a moment ago is still on its way by webhook, and is no repair.
func TestRun_leavesWhatIsYoungToItsWebhook(t *testing.T) {
	w := newWorld(t)
	w.tenant(1)
	w.full()
	now := w.clock.Now()
	lost := w.clerk.CreateUser(clerkfake.User{CreatedAt: now, UpdatedAt: now})
	delivered := w.clerk.CreateUser(clerkfake.User{CreatedAt: now, UpdatedAt: now})
	changed := w.clerk.CreateUser(clerkfake.User{CreatedAt: now, UpdatedAt: now})
	settled := w.clerk.CreateUser(clerkfake.User{CreatedAt: now.Add(-20 * time.Second), UpdatedAt: now.Add(-20 * time.Second)})
	run := w.begin(clerkv1alpha1.SyncFull)
	w.until(run, clerkv1alpha1.SyncDeletions)
	w.states(absent, lost.ID, delivered.ID, changed.ID)
	w.states(stored, settled.ID)
	next := w.step(run)
	w.Expect(next.Done).To(BeFalse())
	w.Expect(next.After).To(Equal(settleTime))
	w.deliver(delivered)
	changed.FirstName, changed.UpdatedAt = "Newer", now.Add(time.Second)
	w.deliver(changed)
	w.clock.SetTime(w.clock.Now().Add(next.After - time.Nanosecond))
	w.Expect(w.step(run).After).To(Equal(time.Nanosecond))
	w.states(absent, lost.ID)
	w.clock.SetTime(w.clock.Now().Add(time.Nanosecond))
	w.Expect(w.finish(run)).To(Succeed())
	w.states(stored, lost.ID, delivered.ID)
	w.Expect(run.Repaired()).To(Equal(map[clerk.Kind]int{clerk.KindUser: 2}), "the lost and the settled one")
	w.Expect(w.user(changed.ID).Spec.FirstName).To(Equal("Newer"))
	w.Expect(run.Outcome().Skipped).To(BeZero(), "an event is faster than a listing, which is as it should be")
}

// deliver writes a user as the receiver does, whose event is of now.
func (w *world) deliver(user clerkfake.User) {
	w.t.Helper()
	data := payload.User{ID: user.ID, FirstName: user.FirstName, CreatedAt: user.CreatedAt, UpdatedAt: user.UpdatedAt}.Data()
	o := decoded(w, data)
	_, err := w.mirror.Apply(w.t.Context(), o)
	w.Expect(err).NotTo(HaveOccurred())
}

func TestFirstFull_waitsForNothing(t *testing.T) {
	w := newWorld(t)
	now := w.clock.Now()
	young := w.clerk.CreateUser(clerkfake.User{CreatedAt: now, UpdatedAt: now})
	nobody := clerkfake.User{ID: newUserID(), CreatedAt: now, UpdatedAt: now}
	w.deliver(nobody)
	run := w.begin(clerkv1alpha1.SyncFull)
	w.until(run, clerkv1alpha1.SyncDeletions)
	w.states(stored, young.ID)
	w.Expect(w.step(run)).To(BeZero(), "who is mirrored and not listed is asked for at once")
	w.Expect(w.step(run)).To(Equal(Next{Wrote: true}))
	w.states(deleted, nobody.ID)
	w.Expect(w.step(run)).To(Equal(Next{Done: true}))
}

func TestFull_mirrorsMembersOnly(t *testing.T) {
	w := newWorld(t)
	w.config.Spec.Users.Mirror = clerkv1alpha1.UserMirrorMembers
	acme := w.tenant(2)
	lonely := w.clerk.CreateUser(clerkfake.User{})
	run := w.full()
	w.Expect(run.Outcome().Written).To(Equal(map[clerk.Kind]int{clerk.KindUser: 2, clerk.KindOrganization: 1, clerk.KindMembership: 2}))
	w.states(stored, userIDs(acme.users)...)
	w.states(absent, lonely.ID)
	w.join(acme.ID, lonely.ID)
	w.full()
	w.states(stored, lonely.ID)
}

func TestFull_leavesOutWhatTheClusterCannotHold(t *testing.T) {
	w := newWorld(t)
	acme := w.tenant(2)
	twin := w.clerk.CreateUser(clerkfake.User{ID: otherCase(acme.users[0].ID), FirstName: "twin"})
	w.deliver(twin)
	run := w.full()
	w.Expect(run.Outcome().Skipped).To(Equal(1))
	w.Expect(run.Outcome().Written).To(Equal(map[clerk.Kind]int{clerk.KindUser: 1, clerk.KindOrganization: 1, clerk.KindMembership: 2}))
	w.Expect(w.user(acme.users[0].ID).Spec.UserID).To(Equal(twin.ID))
}

// An instance may have no organizations at all, which is not a listing that fails.
func TestFull_mirrorsAnInstanceWithoutOrganizations(t *testing.T) {
	const off = `{"errors":[{"code":"organization_not_enabled_in_instance","message":"m"}],"clerk_trace_id":"t"}`
	w := newWorld(t)
	user := w.clerk.CreateUser(clerkfake.User{})
	w.clerk.Inject(clerkfake.Fault{Path: "/v1/organization", Status: http.StatusForbidden, Body: off})
	run := w.full()
	w.states(stored, user.ID)
	w.Expect(run.Outcome().Unlisted).To(BeZero())
	w.Expect(run.Progress.Done).To(BeEquivalentTo(1))

	w.clerk.ClearFaults()
	acme := w.tenant(1)
	w.full()
	w.clerk.Inject(clerkfake.Fault{Path: "/v1/organization", Status: http.StatusForbidden, Body: off})
	before := w.versions()
	w.Expect(w.finish(w.begin(clerkv1alpha1.SyncFull))).To(HaveOccurred(), "what is mirrored says otherwise")
	w.Expect(w.versions()).To(Equal(before))
	w.states(stored, acme.ID, acme.memberships[0].ID)
}

func TestFull_tellsOfWhatCannotBeUsed(t *testing.T) {
	w := newWorld(t)
	acme := w.tenant(0)
	w.clerk.Inject(clerkfake.Fault{Path: "/v1/organizations", Body: fmt.Sprintf(
		`{"data":[{"id":"org_a/b"},{"id":%q,"name":"Acme","updated_at":1},null],"total_count":3}`, acme.ID)})
	run := w.full()
	w.Expect(run.Outcome().Skipped).To(Equal(2))
	w.Expect(run.Outcome().Written).To(Equal(map[clerk.Kind]int{clerk.KindOrganization: 1}))
	w.Expect(run.Progress.Done).To(BeEquivalentTo(3))
	w.states(stored, acme.ID)
}

// A state of the future keeps out all that is true; only somebody can mend that.
func TestFull_tellsOfAStateOfTheFuture(t *testing.T) {
	w := newWorld(t)
	user := w.clerk.CreateUser(clerkfake.User{FirstName: "true"})
	forged := user
	forged.FirstName, forged.UpdatedAt = "forged", w.clock.Now().Add(time.Hour)
	w.deliver(forged)
	run := w.full()
	w.Expect(run.Outcome().Skipped).To(Equal(1))
	w.Expect(run.Outcome().Written).To(BeEmpty())
	w.Expect(w.user(user.ID).Spec.FirstName).To(Equal("forged"))
}

func TestFull_bringsNothingBack(t *testing.T) {
	w := newWorld(t)
	acme := w.tenant(2)
	w.full()
	// A webhook told that one user is deleted, which Clerk's listing does not know yet; the other one is deleted here.
	_, err := w.mirror.Delete(t.Context(), w.config.Name, acme.users[0].ID, time.Now())
	w.Expect(err).NotTo(HaveOccurred())
	w.Expect(cluster.Delete(t.Context(), w.user(acme.users[1].ID))).To(Succeed())
	before := w.versions()
	run := w.full()
	w.Expect(run.Outcome().Written).To(BeEmpty())
	w.Expect(run.Outcome().Skipped).To(BeZero())
	w.Expect(run.Outcome().Buried).To(HaveKey(acme.users[0].ID), "somebody may want to know")
	w.Expect(run.Outcome().Buried).To(HaveLen(1))
	w.Expect(w.versions()).To(Equal(before))
}

func TestFull_aDeletionThatTheListingDoesNotKnowYetIsNoNews(t *testing.T) {
	w := newWorld(t)
	acme := w.tenant(1)
	w.full()
	w.clock.SetTime(time.Now().Add(-time.Minute))
	run := w.begin(clerkv1alpha1.SyncFull)
	_, err := w.mirror.Delete(t.Context(), w.config.Name, acme.users[0].ID, time.Now())
	w.Expect(err).NotTo(HaveOccurred())
	w.Expect(w.finish(run)).To(Succeed())
	w.Expect(run.Outcome().Buried).To(BeEmpty())
}

func TestVerify(t *testing.T) {
	for name, tc := range map[string]struct {
		pinned func(*clerkfake.Clerk) string
		fault  *clerkfake.Fault
		want   func(error) bool
	}{
		"nothing is pinned": {pinned: func(*clerkfake.Clerk) string { return "" }},
		"the pinned one":    {pinned: (*clerkfake.Clerk).InstanceID},
		"another one": {
			pinned: func(*clerkfake.Clerk) string { return "ins_other" },
			want:   func(err error) bool { return errors.Is(err, ErrWrongInstance) },
		},
		"no answer to that": {
			pinned: (*clerkfake.Clerk).InstanceID, fault: &clerkfake.Fault{Status: http.StatusUnauthorized},
			want: func(err error) bool { return !errors.Is(err, ErrWrongInstance) },
		},
		"an instance that says nothing of itself": {
			pinned: func(*clerkfake.Clerk) string { return "" }, fault: &clerkfake.Fault{Body: "{}"},
			want: func(err error) bool { return errors.Is(err, clerkapi.ErrMalformed) },
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			if tc.fault != nil {
				w.clerk.Inject(*tc.fault)
			}
			id, err := Verify(t.Context(), w.api, tc.pinned(w.clerk))
			if tc.want != nil {
				w.Expect(err).To(HaveOccurred())
				w.Expect(tc.want(err)).To(BeTrue(), fmt.Sprint(err))
				w.Expect(id).To(BeEmpty())
				return
			}
			w.Expect(err).NotTo(HaveOccurred())
			w.Expect(id).To(Equal(w.clerk.InstanceID()))
		})
	}
}

// A key that nobody pinned must know something of what is mirrored already.
func TestRecognize(t *testing.T) {
	mirroredBy := func(w *world, organizations, users int) (o, u []string) {
		for range organizations {
			o = append(o, w.tenant(0).ID)
		}
		for range users {
			u = append(u, w.clerk.CreateUser(clerkfake.User{}).ID)
		}
		w.full()
		return o, u
	}
	for name, tc := range map[string]struct {
		change    func(w *world)
		want      error
		wantAsked int
	}{
		"nothing is mirrored":       {change: func(*world) {}},
		"an organization is known":  {change: func(w *world) { mirroredBy(w, 1, 1) }, wantAsked: 1},
		"only users, who are known": {change: func(w *world) { mirroredBy(w, 0, 7) }, wantAsked: 1},
		"only a user is known": {change: func(w *world) {
			o, _ := mirroredBy(w, 2, 1)
			w.clerk.DeleteOrganization(o[0])
			w.clerk.DeleteOrganization(o[1])
		}, wantAsked: 3},
		"nothing is known": {change: func(w *world) {
			o, u := mirroredBy(w, 6, 7)
			for i := range o {
				w.clerk.DeleteOrganization(o[i])
			}
			for i := range u {
				w.clerk.DeleteUser(u[i])
			}
		}, want: ErrWrongInstance, wantAsked: 2 * recognizable},
		"one answer cannot be used": {change: func(w *world) {
			mirroredBy(w, 2, 1)
			w.clerk.Inject(clerkfake.Fault{Path: "/v1/organizations/org_", Times: 1, Body: "{}"})
		}, wantAsked: 2},
		"no answer can be used": {change: func(w *world) {
			mirroredBy(w, 2, 1)
			w.clerk.Inject(clerkfake.Fault{Body: "{}"})
		}, want: clerkapi.ErrMalformed, wantAsked: 3},
		"one answer cannot be used, nothing else is known": {change: func(w *world) {
			_, u := mirroredBy(w, 1, 1)
			w.clerk.DeleteUser(u[0])
			w.clerk.Inject(clerkfake.Fault{Path: "/v1/organizations/org_", Body: "{}"})
		}, want: clerkapi.ErrMalformed, wantAsked: 2},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			tc.change(w)
			w.asked("")
			err := w.syncer.Recognize(t.Context(), w.config, w.api)
			if tc.want == nil {
				w.Expect(err).NotTo(HaveOccurred())
			} else {
				w.Expect(err).To(MatchError(tc.want))
			}
			w.Expect(w.asked("")).To(HaveLen(tc.wantAsked))
		})
	}
	t.Run("Clerk does not tell", func(t *testing.T) {
		w := newWorld(t)
		mirroredBy(w, 1, 1)
		w.clerk.Inject(clerkfake.Fault{Status: http.StatusForbidden})
		w.Expect(w.syncer.Recognize(t.Context(), w.config, w.api)).To(HaveField("StatusCode", http.StatusForbidden))
	})
}

func TestMetrics_showTheStatusOfInstances(t *testing.T) {
	g := NewWithT(t)
	registry := prometheus.NewRegistry()
	m := NewMetrics(registry)
	for _, name := range []string{"one", "two"} {
		config := due(func(i *clerkv1alpha1.ClerkInstance) { i.Name = name })
		config.Status.Sync.LastTime, config.Status.Sync.SkippedCount = at(noon.Add(time.Minute)), 7
		config.Status.Conditions = []metav1.Condition{
			{Type: clerkv1alpha1.ConditionFresh, Status: metav1.ConditionTrue}, {Type: clerkv1alpha1.ConditionPruneHeld, Status: metav1.ConditionUnknown},
		}
		m.Observe(config)
	}
	never := &clerkv1alpha1.ClerkInstance{ObjectMeta: metav1.ObjectMeta{Name: "three"}}
	never.Status.Conditions = []metav1.Condition{{Type: clerkv1alpha1.ConditionPruneHeld, Status: metav1.ConditionTrue}}
	m.Observe(never)
	m.Forget("one")
	families, err := registry.Gather()
	g.Expect(err).NotTo(HaveOccurred())
	series := map[string]float64{}
	for _, family := range families {
		for _, metric := range family.GetMetric() {
			name := family.GetName()
			for _, label := range metric.GetLabel() {
				name += " " + label.GetValue()
			}
			series[name] = metric.GetGauge().GetValue()
		}
	}
	g.Expect(series).To(Equal(map[string]float64{
		"clerk_operator_sync_last_success_timestamp_seconds two Full": float64(noon.Unix()),
		"clerk_operator_sync_last_success_timestamp_seconds two Any":  float64(noon.Add(time.Minute).Unix()),
		"clerk_operator_fresh two":                                    1, "clerk_operator_prune_held two": 0,
		"clerk_operator_fresh three": 0, "clerk_operator_prune_held three": 1,
		"clerk_operator_sync_skipped_entries two": 7, "clerk_operator_sync_skipped_entries three": 0,
	}))
}
