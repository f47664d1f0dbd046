// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package backfill

import (
	"net/http"
	"testing"

	. "github.com/onsi/gomega"
	"github.com/onsi/gomega/types"

	clerkv1alpha1 "github.com/clerk-operator/clerk-operator/api/v1alpha1"
	"github.com/clerk-operator/clerk-operator/internal/clerk"
	"github.com/clerk-operator/clerk-operator/internal/clerkapi"
	"github.com/clerk-operator/clerk-operator/internal/mirror"
	"github.com/clerk-operator/clerk-operator/test/clerkfake"
	"github.com/clerk-operator/clerk-operator/test/payload"
)

func TestRefresh_storesWhatClerkSays(t *testing.T) {
	w := newWorld(t)
	acme := w.tenant(3)
	w.full()
	w.clerk.UpdateUser(acme.users[0].ID, func(u *clerkfake.User) { u.Banned = true })
	refresh := func(o mirror.Object) {
		certain, err := w.syncer.Refresh(t.Context(), w.config, w.api, o)
		w.Expect(err).NotTo(HaveOccurred())
		w.Expect(certain).To(BeTrue())
	}
	refresh(w.user(acme.users[0].ID))
	w.Expect(w.user(acme.users[0].ID).Spec.Banned).To(HaveValue(BeTrue()))
	before := w.versions()
	refresh(w.user(acme.users[0].ID))
	refresh(mirroredOrganization(acme.ID))
	refresh(mirroredMembership(acme.memberships[0]))
	w.Expect(w.versions()).To(Equal(before), "nothing is written when nothing changed")

	w.clerk.DeleteUser(acme.users[1].ID)
	dropMembership(w, acme)
	refresh(w.user(acme.users[1].ID))
	refresh(mirroredMembershipOf(w, acme.memberships[0]))
	w.states(deleted, acme.users[1].ID, acme.memberships[0].ID)
	w.clerk.DeleteOrganization(acme.ID)
	refresh(mirroredOrganizationOf(w, acme.ID))
	w.states(deleted, acme.ID)
}

func TestRefresh_readsThePlan(t *testing.T) {
	w := newWorld(t)
	acme := w.tenant(1)
	w.full()
	w.clerk.Subscribe(acme.ID, clerkfake.FreePlan)
	w.clerk.Subscribe(acme.ID, "pro")
	organization := func() *clerkv1alpha1.ClerkOrganization {
		return mirroredOrganizationOf(w, acme.ID).(*clerkv1alpha1.ClerkOrganization)
	}
	w.Expect(organization().Spec.Billing).To(BeZero())
	refresh := func() error {
		_, err := w.syncer.Refresh(t.Context(), w.config, w.api, organization())
		return err
	}
	w.Expect(refresh()).To(Succeed())
	w.Expect(organization().Spec.Billing.Plan).To(Equal("pro"))
	before := w.versions()
	w.Expect(refresh()).To(Succeed())
	w.full()
	w.Expect(w.versions()).To(Equal(before), "nothing is written when nothing changed")

	w.clerk.Cancel(acme.ID)
	w.clerk.End(acme.ID)
	path := "/v1/organizations/" + acme.ID + "/billing/subscription"
	remove := w.clerk.Inject(clerkfake.Fault{Path: path, Status: http.StatusForbidden})
	w.Expect(refresh()).To(Succeed(), "billing is off")
	remove()
	remove = w.clerk.Inject(clerkfake.Fault{Path: path, Status: http.StatusInternalServerError})
	w.Expect(refresh()).To(HaveField("StatusCode", http.StatusInternalServerError))
	remove()
	w.Expect(organization().Spec.Billing.Plan).To(Equal("pro"))
	w.Expect(refresh()).To(Succeed())
	w.Expect(organization().Spec.Billing.Plan).To(Equal(clerkfake.FreePlan))
}

// mirroredMembershipOf and mirroredOrganizationOf are as the cluster has them.
func mirroredMembershipOf(w *world, m clerkfake.Membership) mirror.Object {
	o, err := w.mirror.Get(w.t.Context(), clerk.KindMembership, w.config.Name, m.ID)
	w.Expect(err).NotTo(HaveOccurred())
	return o
}

func mirroredOrganizationOf(w *world, id string) mirror.Object {
	o, err := w.mirror.Get(w.t.Context(), clerk.KindOrganization, w.config.Name, id)
	w.Expect(err).NotTo(HaveOccurred())
	return o
}

func TestRefresh_withoutAProofDeletesNothing(t *testing.T) {
	for name, tc := range map[string]struct {
		change  func(*world, tenant)
		object  func(tenant) mirror.Object
		options []option
		wantErr types.GomegaMatcher
	}{
		"another instance's key": {
			change: both(dropUser, func(w *world, _ tenant) { w.clerk.SetInstance(payload.NewID("ins"), "") }), object: ofUser,
			wantErr: MatchError(ErrWrongInstance),
		},
		"an instance that does not say who it is": {
			change: both(dropUser, fault(func(tenant) string { return "/v1/instance" }, clerkfake.Fault{Status: http.StatusForbidden})), object: ofUser,
			wantErr: HaveField("StatusCode", http.StatusForbidden),
		},
		"a gateway's 404": {
			change: both(dropUser, fault(pathOfUser, clerkfake.Fault{Status: http.StatusNotFound, Body: "no"})), object: ofUser,
			wantErr: HaveField("StatusCode", http.StatusNotFound),
		},
		"an instance that nobody named": {
			change: both(dropUser, func(w *world, _ tenant) { w.config.Status.InstanceID = "" }), object: ofUser,
			wantErr: Not(HaveOccurred()),
		},
		"nonsense":                         {change: fault(pathOfUser, clerkfake.Fault{Body: "{}"}), object: ofUser, wantErr: MatchError(clerkapi.ErrMalformed)},
		"a roster that lacks who counts":   {change: skip, object: ofMembership, wantErr: Not(HaveOccurred())},
		"a roster that nobody has counted": {change: dropMembership, object: ofMembership, options: []option{uncounted}, wantErr: Not(HaveOccurred())},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, tc.options...)
			acme := w.tenant(3)
			w.full()
			before := w.versions()
			tc.change(w, acme)
			certain, err := w.syncer.Refresh(t.Context(), w.config, w.api, tc.object(acme))
			w.Expect(certain).To(BeFalse())
			w.Expect(err).To(tc.wantErr)
			w.Expect(w.versions()).To(Equal(before))
		})
	}
}

func TestFetchUser(t *testing.T) {
	w := newWorld(t)
	user := w.clerk.CreateUser(clerkfake.User{Email: "jane@example.com"})
	fetch := func(id string) error { return w.syncer.FetchUser(t.Context(), w.config, w.api, id) }
	w.config.Spec.Users.Profile = clerkv1alpha1.UserProfileMinimal
	w.Expect(fetch(user.ID)).To(Succeed())
	w.states(stored, user.ID)
	w.Expect(w.user(user.ID).Spec.Email).To(BeEmpty())
	before := w.versions()
	w.Expect(fetch(user.ID)).To(Succeed())
	w.Expect(w.versions()).To(Equal(before))

	nobody := newUserID()
	w.Expect(fetch(nobody)).To(Succeed(), "who does not exist is left to the next sync")
	w.states(absent, nobody)
	w.Expect(fetch("../organizations")).NotTo(Succeed())

	twin := w.clerk.CreateUser(clerkfake.User{ID: otherCase(user.ID)})
	w.Expect(fetch(twin.ID)).To(Succeed(), "what the cluster cannot hold no retry mends")
	w.Expect(w.user(user.ID).Spec.UserID).To(Equal(user.ID))

	_, err := w.mirror.Delete(t.Context(), w.config.Name, user.ID, w.clock.Now())
	w.Expect(err).NotTo(HaveOccurred())
	w.Expect(fetch(user.ID)).To(Succeed())
	w.states(deleted, user.ID)
	w.clerk.Inject(clerkfake.Fault{Status: http.StatusForbidden})
	w.Expect(fetch(user.ID)).To(HaveField("StatusCode", http.StatusForbidden))
}
