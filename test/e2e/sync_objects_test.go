// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"net/http"
	"testing"
	"time"

	. "github.com/onsi/gomega"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	clerkv1alpha1 "github.com/clerk-operator/clerk-operator/api/v1alpha1"
	"github.com/clerk-operator/clerk-operator/internal/clerk"
	"github.com/clerk-operator/clerk-operator/test/clerkfake"
	"github.com/clerk-operator/clerk-operator/test/payload"
)

// read asks for one object to be read, and waits until it has been.
func (w *world) read(o client.Object) {
	w.t.Helper()
	w.annotate(o, clerkv1alpha1.AnnotationResyncRequestedAt, "now")
	w.Eventually(stored(w, o)).Should(HaveField("Annotations", Not(HaveKey(clerkv1alpha1.AnnotationResyncRequestedAt))))
}

func TestSyncObject_isReadOnRequest(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	b, members := w.staffed([]string{"org:admin", "org:guest"})
	user, membership := members.users[0], members.memberships[1]
	b.quietly(func(c *clerkfake.Clerk) {
		c.UpdateUser(user.ID, func(u *clerkfake.User) { u.FirstName, u.Banned = "Ada", true })
		c.UpdateOrganization(members.ID, func(o *clerkfake.Organization) { o.Name = "Acme Ltd." })
		_, err := c.SetRole(membership.ID, "org:member")
		w.Expect(err).NotTo(HaveOccurred())
	})
	full := get(w, b.instance).Status.Sync

	w.read(w.userObject(user.ID))
	w.Expect(get(w, w.userObject(user.ID)).Spec).To(And(HaveField("FirstName", "Ada"), HaveField("Banned", HaveValue(BeTrue()))))
	w.read(w.organizationObject(members.ID))
	w.Expect(get(w, w.organizationObject(members.ID)).Spec.Name).To(Equal("Acme Ltd."))
	w.read(w.membershipObject(membership.ID))
	w.wantLevels(members, none, edit)
	w.Expect(get(w, b.instance).Status.Sync).To(Equal(full), "nothing else was read")
}

func TestSyncObject_isDeletedOnRequestIfItIsGone(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	// What somebody asks about object by object is not held.
	b, members := w.staffed([]string{"org:admin", "org:guest", "org:member"}, maxDeletions("0"))
	deleted, left := members.users[0].ID, members.memberships[1].ID
	b.quietly(func(c *clerkfake.Clerk) {
		c.DeleteUser(deleted)
		w.Expect(c.RemoveMember(left)).To(Succeed())
	})
	for _, object := range []client.Object{w.userObject(deleted), w.membershipObject(left)} {
		w.annotate(object, clerkv1alpha1.AnnotationResyncRequestedAt, "now")
	}
	w.wantBuried(w.userObject(deleted), deleted)
	w.wantBuried(w.membershipObject(left), left)
	w.wantLevels(members, none, none, edit)

	b.quietly(func(c *clerkfake.Clerk) { c.DeleteOrganization(members.ID) })
	w.annotate(w.organizationObject(members.ID), clerkv1alpha1.AnnotationResyncRequestedAt, "now")
	w.wantBuried(w.organizationObject(members.ID), members.ID)
	w.wantLevels(members, none, none, none)
}

func TestSyncObject_staysWhenItIsNotProvenToBeGone(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	b, members := w.staffed([]string{"org:admin", "org:guest"})
	user, membership := w.userObject(members.users[0].ID), w.membershipObject(members.memberships[1].ID)
	before := b.mirrored()

	b.clerk.Inject(clerkfake.Fault{Skip: func(id string) bool { return id == members.memberships[1].ID }})
	w.read(membership)
	w.Eventually(w.told(membership)).Should(ContainElement(HavePrefix("Warning ResyncUncertain: ")))

	b.clerk.Inject(clerkfake.Fault{Path: "/v1/users/", Status: http.StatusNotFound, Body: "<html>Not Found</html>"})
	w.annotate(user, clerkv1alpha1.AnnotationResyncRequestedAt, "now")
	w.Eventually(b.clerk.Requests).Should(ContainElement(HaveField("Status", http.StatusNotFound)))
	w.Consistently(b.mirrored).Should(Equal(before), "a 404 of something in between")

	b.clerk.ClearFaults()
	b.clerk.SetInstance(payload.NewID("ins"), "")
	b.clerk.Inject(clerkfake.Fault{Path: "/v1/users/", Status: http.StatusNotFound})
	b.clerk.ResetRequests()
	w.annotate(user, clerkv1alpha1.AnnotationResyncRequestedAt, "again")
	w.Eventually(b.clerk.Requests).Should(ContainElement(HaveField("Path", "/v1/instance")))
	w.Consistently(b.mirrored).Should(Equal(before), "another instance's 404")
	w.Expect(w.access(members)()).To(Equal(members.due()))
}

func TestSyncObject_cannotBeReadWithoutABackendAPI(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.ownInstance()
	u := w.user()
	spec := get(w, w.userObject(u.ID)).Spec
	w.read(w.userObject(u.ID))
	w.Eventually(w.told(w.userObject(u.ID))).Should(ContainElement(
		"Warning NoBackendAPI: the ClerkInstance has no backendAPI to read the object from"))
	w.Expect(get(w, w.userObject(u.ID)).Spec).To(Equal(spec))
}

// A user's own event has half a minute to arrive.
func TestSyncObject_ofAMemberIsThere(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	b, members := w.staffed([]string{"org:admin"})
	b.clerk.TakeEvents()
	// Nobody is read before it is seen that whoever is deleted has no access: a member of old is read at once.
	gate := make(chan struct{})
	b.clerk.Inject(clerkfake.Fault{Path: "/v1/users/", Block: gate})
	var late clerkfake.User
	b.quietly(func(c *clerkfake.Clerk) { late = c.CreateUser(clerkfake.User{Email: "late@example.com"}) })
	membership, err := b.clerk.AddMember(members.ID, late.ID, "org:guest")
	w.Expect(err).NotTo(HaveOccurred())
	members.users = append(members.users, late)
	b.tell()
	w.Eventually(stored(w, w.membershipObject(membership.ID))).
		Should(beReady(metav1.ConditionFalse, clerkv1alpha1.ReasonWaitingForUser))

	deleted := get(w, w.userObject(members.users[0].ID))
	w.kubectl("delete", "clerkuser", clerk.ObjectName(w.instanceName, deleted.Spec.UserID), "--timeout=60s")
	w.wantLevels(members, none, none)
	full := get(w, b.instance).Status.Sync

	b.clerk.ClearFaults()
	close(gate)
	w.wantLevels(members, admin, view)
	joined, came := get(w, w.membershipObject(membership.ID)), get(w, w.userObject(late.ID))
	w.Expect(came.Spec.Email).To(Equal("late@example.com"))
	w.Expect(came.CreationTimestamp.Sub(joined.CreationTimestamp.Time)).To(BeNumerically(">=", 30*time.Second))
	w.Expect(get(w, deleted)).To(And(HaveField("UID", Not(Equal(deleted.UID))), HaveField("Spec.Email", deleted.Spec.Email)))
	w.Expect(w.tombstones(deleted.Spec.UserID)()).To(BeEmpty())
	w.Expect(get(w, b.instance).Status.Sync).To(Equal(full), "no sync was needed")
}

func TestSyncOrganization_comesWithAMembership(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.ownInstance()
	u, o := w.user(), w.newOrganization("nested")
	w.class([]string{o.ID})
	w.join(u, o, "org:admin")
	namespace := w.provisioned(o.ID)
	w.Eventually(w.level(u.ID, namespace)).Should(Equal(admin))
	w.Expect(get(w, w.organizationObject(o.ID)).Spec).To(And(HaveField("Name", o.Name), HaveField("Slug", o.Slug)))

	older := o
	o.Name, o.UpdatedAt = "Acme Ltd.", w.tick()
	w.happen("organization.updated", o.Data())
	spec := get(w, w.organizationObject(o.ID)).Spec
	w.Expect(spec.Name).To(Equal("Acme Ltd."))
	for _, event := range []string{"organizationMembership.created", "organizationMembership.updated"} {
		w.happen(event, w.newMembership(w.user(), older, "org:guest").Data())
	}
	w.Expect(get(w, w.organizationObject(o.ID)).Spec).To(Equal(spec), "what a membership carries can be older")
}

func TestSyncOrganization_isNotBroughtBackByAMembership(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.ownInstance()
	u, o := w.user(), w.newOrganization("dead")
	w.Expect(w.deliver(w.event("organization.deleted", payload.Deleted("organization", o.ID)))).To(Equal("applied"))
	w.Eventually(w.tombstones(o.ID)).Should(HaveLen(1))
	m := w.newMembership(u, o, "org:admin")
	w.Eventually(func() string { return w.deliver(w.event("organizationMembership.created", m.Data())) }).Should(Equal("stale"))
	w.Consistently(w.gone(w.organizationObject(o.ID))).Should(BeTrue())
	w.Expect(w.gone(w.membershipObject(m.ID))()).To(BeTrue())
}
