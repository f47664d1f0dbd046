// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package backfill

import (
	"net/http"
	"testing"
	"time"

	. "github.com/onsi/gomega"

	clerkv1alpha1 "github.com/clerk-operator/clerk-operator/api/v1alpha1"
	"github.com/clerk-operator/clerk-operator/internal/clerk"
	"github.com/clerk-operator/clerk-operator/internal/mirror"
	"github.com/clerk-operator/clerk-operator/test/clerkfake"
)

func mirroredUser(id string) mirror.Object {
	o := &clerkv1alpha1.ClerkUser{}
	o.Spec.UserID = id
	return o
}

func mirroredOrganization(id string) mirror.Object {
	o := &clerkv1alpha1.ClerkOrganization{}
	o.Spec.OrganizationID = id
	return o
}

func mirroredMembership(m clerkfake.Membership) mirror.Object {
	o := &clerkv1alpha1.ClerkOrganizationMembership{}
	o.Spec.MembershipID, o.Spec.OrganizationID, o.Spec.UserID = m.ID, m.OrganizationID, m.UserID
	return o
}

// proof is a case of what Clerk says of the first member of an organization of three, and of what that proves.
type proof struct {
	// change makes Clerk what it is when it is asked.
	change func(*world, tenant)
	// before is proven first, as a sync does it: users and organizations before memberships.
	before  func(tenant) mirror.Object
	object  func(tenant) mirror.Object
	options []option
	// listsWork is what the sweep's other listings say.
	listsWork   bool
	want        verdict
	wantPresent bool
	wantErr     bool
	// wantSkipped are the reasons of what cannot be used.
	wantSkipped []string
}

func ofUser(t tenant) mirror.Object         { return mirroredUser(t.users[0].ID) }
func ofOrganization(t tenant) mirror.Object { return mirroredOrganization(t.ID) }
func ofMembership(t tenant) mirror.Object   { return mirroredMembership(t.memberships[0]) }

func dropUser(w *world, t tenant)         { w.clerk.DeleteUser(t.users[0].ID) }
func dropOrganization(w *world, t tenant) { w.clerk.DeleteOrganization(t.ID) }
func dropMembership(w *world, t tenant) {
	w.Expect(w.clerk.RemoveMember(t.memberships[0].ID)).To(Succeed())
}

// rejoin gives the user another membership of the same organization.
func rejoin(w *world, t tenant) {
	dropMembership(w, t)
	w.join(t.ID, t.users[0].ID)
}

func nothing(*world, tenant) {}

// odd makes listings have one of the memberships without a field.
func odd(field string, i int) func(*world, tenant) {
	return func(w *world, t tenant) {
		w.clerk.Inject(clerkfake.Fault{Path: pathOfRoster(t), Edit: clerkfake.Without(field, t.memberships[i].ID)})
	}
}

// oddOfUser makes listings have the newest membership, which is the first user's, without its user.
func oddOfUser(w *world, t tenant) {
	all := w.clerk.Memberships()
	w.clerk.Inject(clerkfake.Fault{Path: pathOfRoster(t), Edit: clerkfake.Without("public_user_data", all[len(all)-1].ID)})
}

var invalidResponse = []string{reasonInvalidResponse}

// skip makes the listings lack the membership, which the organization still counts.
func skip(w *world, t tenant) {
	w.clerk.Inject(clerkfake.Fault{Skip: func(id string) bool { return id == t.memberships[0].ID }})
}

func fault(path func(tenant) string, fault clerkfake.Fault) func(*world, tenant) {
	return func(w *world, t tenant) {
		fault.Path = path(t)
		w.clerk.Inject(fault)
	}
}

func pathOfUser(t tenant) string         { return "/v1/users/" + t.users[0].ID }
func pathOfOrganization(t tenant) string { return "/v1/organizations/" + t.ID }
func pathOfRoster(t tenant) string       { return "/v1/organizations/" + t.ID + "/memberships" }

func TestProve(t *testing.T) {
	refused := clerkfake.Fault{Status: http.StatusForbidden}
	foreign := clerkfake.Fault{Status: http.StatusNotFound, Body: "not found"}
	for name, tc := range map[string]proof{
		"a user":                              {change: nothing, object: ofUser, want: alive, wantPresent: true},
		"a user who is gone":                  {change: dropUser, object: ofUser, want: gone},
		"a user of whom Clerk does not tell":  {change: fault(pathOfUser, refused), object: ofUser, wantErr: true},
		"a user whom a gateway does not know": {change: fault(pathOfUser, foreign), object: ofUser, wantErr: true},

		"an organization":                          {change: nothing, object: ofOrganization, want: alive, wantPresent: true},
		"an organization that is gone":             {change: dropOrganization, object: ofOrganization, want: gone},
		"an organization Clerk does not tell of":   {change: fault(pathOfOrganization, refused), object: ofOrganization, wantErr: true},
		"an organization a gateway does not know":  {change: fault(pathOfOrganization, foreign), object: ofOrganization, wantErr: true},
		"an organization without members' numbers": {change: nothing, object: ofOrganization, options: []option{uncounted}, want: alive, wantPresent: true},

		"a membership":                             {change: nothing, object: ofMembership, want: alive, wantPresent: true},
		"a membership that has ended":              {change: dropMembership, object: ofMembership, want: gone},
		"of a user who is gone":                    {change: dropUser, before: ofUser, object: ofMembership, want: cascaded},
		"of a user who is gone, not mirrored":      {change: dropUser, object: ofMembership, want: gone},
		"of an organization that is gone":          {change: dropOrganization, before: ofOrganization, object: ofMembership, want: cascaded},
		"of an organization, not mirrored":         {change: dropOrganization, object: ofMembership, want: gone},
		"of a user who is alive":                   {change: nothing, before: ofUser, object: ofMembership, want: alive, wantPresent: true},
		"of an organization that is alive":         {change: nothing, before: ofOrganization, object: ofMembership, want: alive, wantPresent: true},
		"that the roster lacks and Clerk counts":   {change: skip, object: ofMembership, want: unproven},
		"that the roster lacks, lists work":        {change: skip, object: ofMembership, listsWork: true, want: unproven},
		"of an empty roster":                       {change: fault(pathOfRoster, clerkfake.Fault{EmptyLists: true}), object: ofMembership, listsWork: true, want: unproven},
		"of a roster that repeats itself":          {change: fault(pathOfRoster, clerkfake.Fault{RepeatPages: true}), object: ofMembership, options: []option{pagesOf(1)}, want: alive, wantPresent: true},
		"of a roster of two pages":                 {change: nothing, object: ofMembership, options: []option{pagesOf(2)}, want: alive, wantPresent: true},
		"ended, of a roster of two pages":          {change: dropMembership, object: ofMembership, options: []option{pagesOf(1)}, want: gone},
		"ended, of a roster that repeats":          {change: both(dropMembership, fault(pathOfRoster, clerkfake.Fault{RepeatPages: true})), object: ofMembership, options: []option{pagesOf(1)}, want: unproven},
		"ended, not counted, lists work":           {change: dropMembership, object: ofMembership, options: []option{uncounted}, listsWork: true, want: gone},
		"ended, not counted, lists are empty":      {change: dropMembership, object: ofMembership, options: []option{uncounted}, want: unproven},
		"of a roster that ends early, not counted": {change: fault(pathOfRoster, clerkfake.Fault{Body: `{"data":[],"total_count":3}`}), object: ofMembership, options: []option{uncounted}, listsWork: true, want: unproven},
		"ended, and joined again":                  {change: rejoin, object: ofMembership, want: gone},
		"not counted":                              {change: nothing, object: ofMembership, options: []option{uncounted}, want: alive, wantPresent: true},
		"of an organization Clerk tells not of":    {change: fault(pathOfOrganization, refused), object: ofMembership, wantErr: true},
		"of a roster that Clerk does not tell":     {change: fault(pathOfRoster, refused), object: ofMembership, wantErr: true},
		"of a roster that a gateway refuses":       {change: fault(pathOfRoster, foreign), object: ofMembership, wantErr: true},
		"of an organization a gateway refuses":     {change: fault(pathOfOrganization, foreign), object: ofMembership, wantErr: true},

		"a user whom Clerk describes as another":  {change: fault(pathOfUser, clerkfake.Fault{Body: `{"id":"user_another"}`}), object: ofUser, want: unjudged, wantSkipped: invalidResponse},
		"a user of whom Clerk says nothing":       {change: fault(pathOfUser, clerkfake.Fault{Body: "null"}), object: ofUser, want: unjudged, wantSkipped: invalidResponse},
		"a user of whom Clerk says half":          {change: fault(pathOfUser, clerkfake.Fault{Truncate: true}), object: ofUser, want: unjudged, wantSkipped: invalidResponse},
		"an organization that cannot be used":     {change: fault(pathOfOrganization, clerkfake.Fault{Body: "{}"}), object: ofOrganization, want: unjudged, wantSkipped: invalidResponse},
		"of an organization that cannot be used":  {change: fault(pathOfOrganization, clerkfake.Fault{Body: "{}"}), object: ofMembership, want: unjudged, wantSkipped: invalidResponse},
		"of one that could not, and is asked for": {change: fault(pathOfOrganization, clerkfake.Fault{Body: "{}"}), before: ofOrganization, object: ofMembership, want: unjudged, wantSkipped: invalidResponse},
		"of a roster that cannot be used":         {change: fault(pathOfRoster, clerkfake.Fault{Body: "{}"}), object: ofMembership, want: unjudged, wantSkipped: invalidResponse},
		"listed without its user":                 {change: odd("public_user_data", 0), object: ofMembership, want: unjudged, wantSkipped: []string{"NoUser"}},
		"listed without its ID":                   {change: odd("id", 0), object: ofMembership, want: unjudged, wantSkipped: []string{"NoID"}},
		"ended, another has no user":              {change: both(dropMembership, odd("public_user_data", 1)), object: ofMembership, want: gone, wantSkipped: []string{"NoUser"}},
		"ended, another has no ID":                {change: both(dropMembership, odd("id", 1)), object: ofMembership, want: unjudged, wantSkipped: []string{"NoID"}},
		"ended, another has no ID, not counted":   {change: both(dropMembership, odd("id", 1)), object: ofMembership, options: []option{uncounted}, listsWork: true, want: unjudged, wantSkipped: []string{"NoID"}},
		"ended, joined again without a user":      {change: both(rejoin, oddOfUser), object: ofMembership, want: unjudged, wantSkipped: []string{"NoUser", "NoUser"}},
		"missing, another has no user":            {change: both(skip, odd("public_user_data", 1)), object: ofMembership, want: unproven, wantSkipped: []string{"NoUser"}},
	} {
		t.Run(name, func(t *testing.T) { expectProof(t, tc) })
	}
}

func expectProof(t *testing.T, tc proof) {
	t.Helper()
	w := newWorld(t, tc.options...)
	acme := w.tenant(3)
	w.tenant(1)
	tc.change(w, acme)
	prover, source := newProver(w.api, tc.listsWork), clerk.Source{InstanceName: w.config.Name}
	if tc.before != nil {
		_, _, err := prover.prove(t.Context(), tc.before(acme), source)
		w.Expect(err).NotTo(HaveOccurred())
	}
	o := tc.object(acme)
	got, present, err := prover.prove(t.Context(), o, source)
	w.Expect(err != nil).To(Equal(tc.wantErr))
	w.Expect(got).To(Equal(tc.want))
	w.Expect(present != nil).To(Equal(tc.wantPresent))
	w.Expect(prover.skipped).To(HaveLen(len(tc.wantSkipped)))
	for i, reason := range tc.wantSkipped {
		w.Expect(prover.skipped[i].Reason).To(Equal(reason))
	}
	if present != nil {
		w.Expect(present.ID).To(Equal(o.GetClerkID()))
		w.Expect(present.InstanceName).To(Equal(w.config.Name))
		w.Expect(present.EventTime).To(BeTemporally("~", w.clock.Now(), time.Minute), "when it was asked")
	}
}

func both(changes ...func(*world, tenant)) func(*world, tenant) {
	return func(w *world, t tenant) {
		for _, change := range changes {
			change(w, t)
		}
	}
}

func TestProve_asksForARosterOnce(t *testing.T) {
	w := newWorld(t, pagesOf(2))
	acme := w.tenant(3)
	prover := newProver(w.api, true)
	for i := range acme.memberships {
		got, _, err := prover.prove(t.Context(), mirroredMembership(acme.memberships[i]), clerk.Source{})
		w.Expect(err).NotTo(HaveOccurred())
		w.Expect(got).To(Equal(alive))
	}
	w.Expect(w.asked("")).To(HaveLen(3), "the organization and two pages")
}

// A roster may be as long as it should and still lack the one that is asked for.
func TestProve_asksForTheMembershipItself(t *testing.T) {
	w := newWorld(t, uncounted)
	acme := w.tenant(3)
	w.clerk.Inject(clerkfake.Fault{Path: pathOfRoster(acme), Times: 1, Skip: func(id string) bool { return id == acme.memberships[0].ID }})
	prover := newProver(w.api, true)
	got, present, err := prover.prove(t.Context(), ofMembership(acme), clerk.Source{InstanceName: w.config.Name})
	w.Expect(err).NotTo(HaveOccurred())
	w.Expect(got).To(Equal(alive))
	w.Expect(present).To(HaveField("ID", acme.memberships[0].ID))

	dropMembership(w, acme)
	remove := w.clerk.Inject(clerkfake.Fault{Path: pathOfRoster(acme), Status: http.StatusForbidden})
	_, _, err = prover.prove(t.Context(), ofMembership(acme), clerk.Source{})
	w.Expect(err).To(HaveField("StatusCode", http.StatusForbidden))
	remove()
	got, _, err = prover.prove(t.Context(), ofMembership(acme), clerk.Source{})
	w.Expect(err).NotTo(HaveOccurred())
	w.Expect(got).To(Equal(gone))
}

// What failed is asked for again, and not taken for an answer.
func TestProve_keepsNoRosterThatFailed(t *testing.T) {
	w := newWorld(t, pagesOf(2))
	acme := w.tenant(3)
	dropMembership(w, acme)
	prover := newProver(w.api, true)
	for _, path := range []string{pathOfOrganization(acme), pathOfRoster(acme)} {
		w.clerk.Inject(clerkfake.Fault{Path: path, Status: http.StatusForbidden, Times: 1})
		_, _, err := prover.prove(t.Context(), ofMembership(acme), clerk.Source{})
		w.Expect(err).To(HaveOccurred())
	}
	got, _, err := prover.prove(t.Context(), ofMembership(acme), clerk.Source{})
	w.Expect(err).NotTo(HaveOccurred())
	w.Expect(got).To(Equal(gone))
}
