// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package backfill

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	. "github.com/onsi/gomega"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/intstr"
	clocktesting "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"

	clerkv1alpha1 "github.com/clerk-operator/clerk-operator/api/v1alpha1"
	"github.com/clerk-operator/clerk-operator/internal/clerk"
	"github.com/clerk-operator/clerk-operator/internal/clerkapi"
	"github.com/clerk-operator/clerk-operator/internal/mirror"
	"github.com/clerk-operator/clerk-operator/test/clerkfake"
)

const (
	organizationsPath = "/v1/organizations"
	membershipsPath   = "/v1/organization_memberships"
	usersPath         = "/v1/users"
)

// expectSkipped expects that a run skipped exactly these entries.
func (w *world) expectSkipped(run *Run, want ...clerkv1alpha1.SkippedEntry) {
	w.t.Helper()
	w.Expect(run.Outcome().SkippedEntries).To(ConsistOf(want))
	w.Expect(run.Outcome().Skipped).To(Equal(len(want)))
}

// Clerk's schema does not require the user of a membership (clerk/javascript#1735). Such an entry is there all the same.
func TestFull_skipsAMembershipWithoutItsUser(t *testing.T) {
	w := newWorld(t)
	acme := w.tenant(3)
	w.full()
	w.clerk.Subscribe(acme.ID, "pro")
	w.clerk.DeleteUser(acme.users[0].ID)
	w.Expect(w.clerk.RemoveMember(acme.memberships[2].ID)).To(Succeed())
	id := acme.memberships[1].ID
	w.clerk.Inject(clerkfake.Fault{Edit: clerkfake.Without("public_user_data", id)})
	for range 2 {
		run := w.full()
		w.Expect(run.Outcome().Unlisted).To(BeZero())
		w.expectSkipped(run, skippedEntry(clerk.KindMembership, id, "NoUser"))
		w.states(stored, id, acme.users[1].ID)
		w.states(deleted, acme.users[0].ID, acme.memberships[2].ID) // the listing is whole
	}
	w.Expect(w.planOf(acme.ID)).To(Equal("pro"))
	w.clerk.ClearFaults()
	w.expectSkipped(w.full())
}

// An entry without an ID may be any object of its kind, so that none is deleted. Other kinds are not concerned.
func TestFull_deletesNothingOfAKindWithoutIDs(t *testing.T) {
	for name, tc := range map[string]struct {
		path string
		kind clerk.Kind
		edit func(id string, entry map[string]any) map[string]any
		want string
	}{
		"a user":                       {usersPath, clerk.KindUser, nil, "NoID"},
		"an organization":              {organizationsPath, clerk.KindOrganization, nil, "NoID"},
		"a membership":                 {membershipsPath, clerk.KindMembership, nil, "NoID"},
		"another kind's ID":            {usersPath, clerk.KindUser, changed("id", "org_a"), "InvalidID"},
		"an ID that is no text":        {organizationsPath, clerk.KindOrganization, changed("id", 7), "NoID"},
		"an ID with an odd letter":     {membershipsPath, clerk.KindMembership, changed("id", "orgmem_a/b"), "InvalidID"},
		"no entry in an entry's place": {membershipsPath, clerk.KindMembership, func(string, map[string]any) map[string]any { return nil }, "NoData"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.config.Spec.BackendAPI.Sync.MaxDeletions = new(intstr.FromString("100%"))
			kept, other := w.tenant(3), w.tenant(0)
			w.full()
			gone := map[clerk.Kind]string{
				clerk.KindUser: kept.users[1].ID, clerk.KindOrganization: other.ID, clerk.KindMembership: kept.memberships[2].ID,
			}
			w.clerk.DeleteUser(gone[clerk.KindUser])
			w.clerk.DeleteOrganization(gone[clerk.KindOrganization])
			w.Expect(w.clerk.RemoveMember(gone[clerk.KindMembership])).To(Succeed())
			oddOne := map[clerk.Kind]string{
				clerk.KindUser: kept.users[0].ID, clerk.KindOrganization: kept.ID, clerk.KindMembership: kept.memberships[0].ID,
			}[tc.kind]
			edit := tc.edit
			if edit == nil {
				edit = clerkfake.Without("id", oddOne)
			}
			remove := w.clerk.Inject(clerkfake.Fault{Path: tc.path, Edit: func(id string, entry map[string]any) map[string]any {
				if id != oddOne {
					return entry
				}
				return edit(id, entry)
			}})
			run := w.full()
			w.Expect(run.Outcome().Unlisted).To(BeZero())
			w.expectSkipped(run, skippedEntry(tc.kind, "", tc.want))
			w.states(stored, oddOne)
			for kind, id := range gone {
				want := deleted
				if kind == tc.kind {
					want = stored
				}
				w.Expect(w.state(id)).To(Equal(want), string(kind))
			}
			remove()
			w.expectSkipped(w.full())
			w.states(deleted, gone[tc.kind])
		})
	}
}

func changed(field string, value any) func(string, map[string]any) map[string]any {
	return func(_ string, entry map[string]any) map[string]any {
		entry[field] = value
		return entry
	}
}

// An entry without an ID in the listing of one organization says nothing of its other members, and of no other organization.
func TestFull_deletesNothingOfARosterWithoutIDs(t *testing.T) {
	w := newWorld(t)
	w.config.Spec.BackendAPI.Sync.MaxDeletions = new(intstr.FromString("100%"))
	acme, other := w.tenant(3), w.tenant(2)
	w.full()
	for _, of := range []tenant{acme, other} {
		w.Expect(w.clerk.RemoveMember(of.memberships[0].ID)).To(Succeed())
	}
	w.clerk.Inject(clerkfake.Fault{Path: pathOfRoster(acme), Edit: clerkfake.Without("id", acme.memberships[1].ID)})
	run := w.full()
	w.Expect(run.Outcome().Unlisted).To(BeZero())
	w.expectSkipped(run, skippedEntry(clerk.KindMembership, "", "NoID"))
	w.states(stored, membershipIDs(acme.memberships)...)
	w.states(deleted, other.memberships[0].ID)
	w.Expect(run.Progress.Stage).To(Equal(clerkv1alpha1.SyncPlans))
}

// What Clerk says of one object, when it is asked for just that, is one odd answer.
func TestFull_skipsAnObjectWhoseResponseCannotBeUsed(t *testing.T) {
	for name, fault := range map[string]clerkfake.Fault{
		"another user":   {Body: `{"id":"user_another"}`},
		"nothing":        {Body: "null"},
		"half an answer": {Truncate: true, Body: `{"id":"user_another"}`},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			acme, other := w.tenant(2), w.tenant(0)
			w.full()
			w.clerk.DeleteUser(acme.users[0].ID)
			w.clerk.DeleteOrganization(other.ID)
			fault.Path = usersPath + "/user_"
			remove := w.clerk.Inject(fault)
			run := w.full()
			w.Expect(run.Outcome().Unlisted).To(BeZero())
			w.expectSkipped(run, skippedEntry(clerk.KindUser, acme.users[0].ID, reasonInvalidResponse))
			w.states(stored, acme.users[0].ID)
			w.states(deleted, other.ID)
			remove()
			w.expectSkipped(w.full())
			w.states(deleted, acme.users[0].ID)
		})
	}
}

// A server none of whose responses can be used is none that a sync could read.
func TestFull_failsByManyResponsesThatCannotBeUsed(t *testing.T) {
	w := newWorld(t)
	acme := w.tenant(maxUnlisted + 5)
	w.full()
	w.config.Spec.BackendAPI.Sync.MaxDeletions = new(intstr.FromString("100%"))
	for _, user := range acme.users {
		w.clerk.DeleteUser(user.ID)
	}
	before := w.versions()
	w.clerk.Inject(clerkfake.Fault{Path: usersPath + "/user_", Body: "{}"})
	run := w.begin(clerkv1alpha1.SyncFull)
	w.Expect(w.finish(run)).To(MatchError(clerkapi.ErrMalformed))
	w.Expect(w.versions()).To(Equal(before))
}

// The users' listing goes on after the last user that has an ID.
func TestRun_readsUsersPastEntriesWithoutAnID(t *testing.T) {
	for name, tc := range map[string]struct {
		first, last int
		// wantRead and wantSkipped are users and entries.
		wantRead, wantSkipped, wantRequests int
	}{
		"one within a page":              {7, 7, clerkapi.PageSize + 2, 1, 2},
		"the last ones of a page":        {clerkapi.PageSize - 2, clerkapi.PageSize - 1, clerkapi.PageSize + 1, 2, 2},
		"around the end of a page":       {clerkapi.PageSize - 1, clerkapi.PageSize + 1, clerkapi.PageSize, 3, 2},
		"those after the first":          {1, clerkapi.PageSize, 1, clerkapi.PageSize, 2},
		"a page of them":                 {0, clerkapi.PageSize + 2, 0, clerkapi.PageSize, 1},
		"all but the first and the last": {1, clerkapi.PageSize - 1, 4, clerkapi.PageSize - 1, 3},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			users := w.manyUsers()
			w.clerk.Inject(clerkfake.Fault{Path: usersPath, Edit: clerkfake.Without("id", users[tc.first:tc.last+1]...)})
			run := w.begin(clerkv1alpha1.SyncFull)
			w.until(run, clerkv1alpha1.SyncUsers)
			w.asked("")
			w.Expect(w.finish(run)).To(Succeed())
			w.Expect(run.seen[clerk.KindUser].Len()).To(Equal(tc.wantRead))
			w.Expect(run.Outcome().Skipped).To(Equal(tc.wantSkipped))
			w.Expect(w.asked(usersPath)).To(HaveLen(tc.wantRequests))
			w.Expect(run.incomplete.Has(clerk.KindUser)).To(BeTrue())
		})
	}
}

// Each entry counts once, though a page begins with the last row of the page before.
func TestRun_countsEntriesWithoutAnIDOnce(t *testing.T) {
	for name, odd := range map[string][]int{"the first": {0}, "one between pages": {1}, "two of a page": {2, 3}, "the last": {5}, "all": {0, 1, 2, 3, 4, 5}} {
		for _, syncType := range []clerkv1alpha1.ClerkInstanceSyncType{clerkv1alpha1.SyncFull, clerkv1alpha1.SyncIncremental} {
			t.Run(name+", "+string(syncType), func(t *testing.T) {
				w := newWorld(t, pagesOf(2))
				all := make([]string, 6)
				for i := range all {
					all[i] = w.tenant(0).ID
				}
				var without []string
				for _, i := range odd {
					without = append(without, all[i])
				}
				w.clerk.Inject(clerkfake.Fault{Path: organizationsPath, Edit: clerkfake.Without("id", without...)})
				run := w.sync(syncType)
				w.Expect(run.Outcome().Skipped).To(Equal(len(odd)))
				w.Expect(run.Outcome().Written[clerk.KindOrganization]).To(Equal(len(all) - len(odd)))
				w.Expect(run.Progress.Done).To(BeEquivalentTo(len(all)))
			})
		}
	}
}

// A listing that never ends and has no IDs cannot be told from one that repeats itself; it must not be read for ever.
func TestRun_aListingWithoutIDsEnds(t *testing.T) {
	full := strings.TrimSuffix(strings.Repeat("null,", clerkapi.PageSize), ",")
	for name, tc := range map[string]struct {
		syncType clerkv1alpha1.ClerkInstanceSyncType
		path     string
		body     string
	}{
		"organizations":           {clerkv1alpha1.SyncFull, organizationsPath, `{"data":[null,{}],"total_count":1000000}`},
		"memberships":             {clerkv1alpha1.SyncFull, membershipsPath, `{"data":[null],"total_count":1000000}`},
		"organizations, the news": {clerkv1alpha1.SyncIncremental, organizationsPath, `{"data":[null,{}],"total_count":1000000}`},
		"users":                   {clerkv1alpha1.SyncFull, usersPath, `[` + full + `]`},
		"users, the news":         {clerkv1alpha1.SyncIncremental, usersPath, `[` + full + `]`},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			acme := w.tenant(1)
			w.full()
			w.clerk.Inject(clerkfake.Fault{Path: tc.path, Body: tc.body})
			w.asked("")
			w.sync(tc.syncType)
			w.Expect(len(w.asked(tc.path))).To(And(BeNumerically(">=", 1), BeNumerically("<=", maxBlankPages+2)))
			w.states(stored, acme.ID, acme.users[0].ID, acme.memberships[0].ID)
		})
	}
}

// A sync that steps back reads rows again and then one that it had not read, on a page of its own.
func TestRun_stepsBackInAListingOfManyPages(t *testing.T) {
	w := newWorld(t)
	run := w.begin(clerkv1alpha1.SyncFull)
	all := make([]string, 2*clerkapi.PageSize+20)
	for i := range all {
		all[i] = w.clerk.CreateOrganization(clerkfake.Organization{Name: "Acme"}).ID
	}
	const read = 2*clerkapi.PageSize - 1
	run.seen[clerk.KindOrganization].Insert(all[:read]...) // the first two pages
	run.Progress.Offset, run.Progress.Done, run.read = read, read, read
	w.clerk.DeleteOrganization(all[10])
	w.until(run, clerkv1alpha1.SyncMemberships)
	w.Expect(run.steppedBack).To(Equal(1))
	w.Expect(run.seen[clerk.KindOrganization].Len()).To(Equal(len(all)))
	w.states(stored, all[read:]...)
}

// strict rejects some objects, as an admission policy or a webhook of a third party does.
type strict struct {
	client.Client
	rejects func(name string) error
}

func (c *strict) Apply(ctx context.Context, o runtime.ApplyConfiguration, options ...client.ApplyOption) error {
	if err := c.rejects(*o.(interface{ GetName() *string }).GetName()); err != nil {
		return err
	}
	return c.Client.Apply(ctx, o, options...)
}

func (c *strict) Delete(ctx context.Context, o client.Object, options ...client.DeleteOption) error {
	if err := c.rejects(o.GetName()); err != nil {
		return err
	}
	return c.Client.Delete(ctx, o, options...)
}

// rejecting makes the API server reject an instance's objects of some IDs.
func (w *world) rejecting(err error, ids ...string) {
	names := map[string]bool{}
	for _, id := range ids {
		names[clerk.ObjectName(w.config.Name, id)] = true
	}
	c := &strict{Client: cluster, rejects: func(name string) error {
		if names[name] {
			return err
		}
		return nil
	}}
	w.mirror = mirror.New(c, c)
	w.syncer = NewSyncer(c, w.mirror, w.clock, w.syncer.metrics)
}

func TestFull_skipsWhatTheAPIServerRejects(t *testing.T) {
	resource := schema.GroupResource{Group: clerkv1alpha1.GroupName, Resource: "clerkusers"}
	for name, tc := range map[string]struct {
		err      error
		wantFail bool
	}{
		"a webhook":            {apierrors.NewForbidden(resource, "x", errors.New("admission webhook denied the request")), false},
		"a policy":             {apierrors.NewInvalid(schema.GroupKind{Kind: "ClerkUser"}, "x", nil), false},
		"a webhook's own code": {apierrors.NewBadRequest("no"), false},
		"a size":               {apierrors.NewRequestEntityTooLargeError("no"), false},
		"an outage":            {errUnavailable, true},
		"an expired account":   {apierrors.NewUnauthorized("no"), true},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			acme := w.tenant(3)
			w.clerk.Subscribe(acme.ID, "pro")
			id := acme.users[1].ID
			w.rejecting(tc.err, id)
			run := w.begin(clerkv1alpha1.SyncFull)
			err := w.finish(run)
			if tc.wantFail {
				w.Expect(err).To(MatchError(tc.err))
				w.Expect(run.Outcome().Skipped).To(BeZero())
				return
			}
			w.Expect(err).NotTo(HaveOccurred())
			w.expectSkipped(run, skippedEntry(clerk.KindUser, id, reasonRejected))
			w.states(absent, id)
			w.states(stored, acme.users[0].ID, acme.users[2].ID)
			w.states(stored, membershipIDs(acme.memberships)...)
			w.Expect(w.planOf(acme.ID)).To(Equal("pro"))
		})
	}
}

func TestFull_skipsDeletionsAndPlansThatTheAPIServerRejects(t *testing.T) {
	w := newWorld(t)
	acme, other := w.tenant(0), w.tenant(1)
	w.full()
	w.clerk.Subscribe(acme.ID, "pro")
	w.clerk.DeleteUser(other.users[0].ID)
	forbidden := apierrors.NewForbidden(schema.GroupResource{}, "x", errors.New("no"))
	w.rejecting(forbidden, acme.ID, other.users[0].ID)
	run := w.full()
	w.expectSkipped(run, skippedEntry(clerk.KindUser, other.users[0].ID, reasonRejected), skippedEntry(clerk.KindOrganization, acme.ID, reasonRejected))
	w.states(stored, other.users[0].ID)
	w.Expect(w.planOf(acme.ID)).To(BeEmpty())
}

// What rejects so much is the cluster's configuration.
func TestFull_failsByManyRejections(t *testing.T) {
	for rejections, wantFail := range map[int]bool{maxRejected: false, maxRejected + 1: true} {
		t.Run(fmt.Sprint(rejections), func(t *testing.T) {
			w := newWorld(t)
			acme := w.tenant(maxRejected + 3)
			forbidden := apierrors.NewForbidden(schema.GroupResource{}, "x", errors.New("no"))
			w.rejecting(forbidden, userIDs(acme.users[:rejections])...)
			run := w.begin(clerkv1alpha1.SyncFull)
			for range 2 { // it is tried again
				err := w.finish(run)
				w.Expect(err != nil).To(Equal(wantFail))
			}
			if !wantFail {
				w.Expect(run.Outcome().Skipped).To(Equal(rejections), "each one once")
			}
		})
	}
}

func TestFull_namesWhatIsStoredWithoutAField(t *testing.T) {
	w := newWorld(t)
	user := w.clerk.CreateUser(clerkfake.User{PublicMetadata: map[string]any{"long": strings.Repeat("x", 20<<10)}})
	acme := w.tenant(1)
	_, err := w.clerk.SetRole(acme.memberships[0].ID, "org:"+strings.Repeat("x", 200))
	w.Expect(err).NotTo(HaveOccurred())
	want := []clerkv1alpha1.SkippedEntry{
		skippedEntry(clerk.KindUser, user.ID, "PublicMetadataNotStored"), skippedEntry(clerk.KindMembership, acme.memberships[0].ID, "RoleNotStored"),
	}
	for range 2 {
		w.expectSkipped(w.full(), want...)
	}
	w.states(stored, user.ID, acme.memberships[0].ID)
}

// A membership that is listed without its user may be any user's, unless it is mirrored.
func TestFull_keepsUsersThatMayBeMembers(t *testing.T) {
	for name, tc := range map[string]struct {
		field    string
		mirrored bool
		path     string
		want     state
	}{
		"a mirrored membership":             {"public_user_data", true, "", evicted},
		"a membership that is not mirrored": {"public_user_data", false, "", stored},
		"a membership without an ID":        {"id", true, "", stored},
		"a user without an ID":              {"id", true, usersPath, stored},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			acme := w.tenant(2)
			lonely := w.clerk.CreateUser(clerkfake.User{})
			w.full()
			w.config.Spec.Users.Mirror = clerkv1alpha1.UserMirrorMembers
			id := acme.memberships[0].ID
			if !tc.mirrored {
				id = w.join(acme.ID, lonely.ID).ID
			}
			if tc.path == usersPath {
				id = acme.users[0].ID
			}
			w.clerk.Inject(clerkfake.Fault{Path: tc.path, Edit: clerkfake.Without(tc.field, id)})
			run := w.full()
			w.Expect(run.Outcome().Unlisted).To(BeZero())
			w.Expect(run.Outcome().Skipped).To(Equal(1))
			w.states(stored, userIDs(acme.users)...)
			w.states(tc.want, lonely.ID)
		})
	}
}

// A cluster that is full of odd entries does not fill the status or the log.
func TestSkip_isBounded(t *testing.T) {
	g := NewWithT(t)
	syncer := NewSyncer(nil, nil, clocktesting.NewFakePassiveClock(noon), nil)
	run := syncer.NewRun(&clerkv1alpha1.ClerkInstance{}, nil, "ins_a", clerkv1alpha1.SyncFull, clerkv1alpha1.ClerkInstanceSyncProgress{})
	for i := range 3 * maxLogged {
		run.skip(t.Context(), skippedEntry(clerk.KindUser, fmt.Sprintf("user_%d", i), "NoUser"))
		run.skip(t.Context(), skippedEntry(clerk.KindUser, "user_0", "NoUser"))
	}
	g.Expect(run.Outcome().Skipped).To(Equal(3 * maxLogged))
	g.Expect(run.Outcome().SkippedEntries).To(HaveLen(clerkv1alpha1.MaxSkipped))
}
