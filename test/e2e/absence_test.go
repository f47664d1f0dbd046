// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"testing"
	"time"

	. "github.com/onsi/gomega"
	"sigs.k8s.io/controller-runtime/pkg/client"

	clerkv1alpha1 "github.com/clerk-operator/clerk-operator/api/v1alpha1"
	"github.com/clerk-operator/clerk-operator/internal/delivery"
	"github.com/clerk-operator/clerk-operator/test/clerkfake"
	"github.com/clerk-operator/clerk-operator/test/payload"
)

// userEvent changes a user in Clerk and returns the event of a type that reports it.
func (w *world) userEvent(eventType string, u *payload.User, change func(*payload.User)) delivery.Event {
	event := w.updateUser(u, change)
	event.Type = eventType
	return event
}

func TestAbsence_liftsNoBan(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	acme, home := w.tenant("acme")
	ada := w.user()
	w.join(ada, acme, "org:admin")
	w.Eventually(w.level(ada.ID, home)).Should(Equal(admin))

	w.Expect(w.deliver(w.updateUser(&ada, func(u *payload.User) { u.Banned = true }))).To(Equal("applied"))
	w.Eventually(w.level(ada.ID, home)).Should(Equal(none))
	renamed := w.updateUser(&ada, func(u *payload.User) { u.FirstName, u.WithoutBanned = "Adele", true })
	w.Expect(w.deliver(renamed)).To(Equal("applied"))
	w.Expect(w.deliver(renamed)).To(Equal("unchanged"))
	w.Expect(get(w, w.userObject(ada.ID)).Spec.FirstName).To(Equal("Adele"))
	w.Consistently(w.level(ada.ID, home)).Should(Equal(none))

	w.Expect(w.deliver(w.updateUser(&ada, func(u *payload.User) { u.Banned, u.WithoutBanned = false, false }))).To(Equal("applied"))
	w.Eventually(w.level(ada.ID, home)).Should(Equal(admin))
}

// failures are the types and reasons of the deliveries that an instance could not use.
func (w *world) failures(instance *clerkv1alpha1.ClerkInstance) func() ([]string, error) {
	return func() ([]string, error) {
		current, err := stored(w, instance)()
		found := make([]string, 0, len(current.Status.Failures))
		for _, failure := range current.Status.Failures {
			found = append(found, failure.Type+" "+failure.Reason)
		}
		return found, err
	}
}

func TestUnknownType_takesAccessAwayAndGivesNone(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	instance := w.ownInstance()
	acme, home := w.tenant("acme")
	ada, grace := w.user(), w.user()
	w.join(ada, acme, "org:admin")
	w.Eventually(w.level(ada.ID, home)).Should(Equal(admin))

	w.Expect(w.deliver(w.userEvent("user.banned", &ada, func(u *payload.User) { u.Banned = true }))).To(Equal("applied"))
	w.Eventually(w.level(ada.ID, home)).Should(Equal(none))
	w.Expect(w.deliver(w.event("user.signedIn", thin("user", ada.ID, w.tick())))).To(Equal("applied"))

	stranger, elsewhere := w.newUser(), w.newOrganization("elsewhere")
	joined, gone := w.newMembership(grace, acme, "org:admin"), w.newMembership(ada, acme, "org:admin")
	for eventType, data := range map[string]map[string]any{
		"user.approved": stranger.Data(), "organization.approved": elsewhere.Data(),
		"organizationMembership.approved": joined.Data(), "organizationMembership.removed": gone.Data(),
	} {
		w.Expect(w.deliver(w.event(eventType, data))).To(Equal("ignored"), eventType)
	}
	w.Eventually(w.failures(instance)).Should(ConsistOf(
		"organizationMembership.approved UnknownEventType", "organizationMembership.removed UnknownEventType",
	))
	w.Consistently(w.level(grace.ID, home)).Should(Equal(none))
	w.Expect(w.levelOf(ada.ID, home)).To(Equal(none))
	for _, object := range []client.Object{
		w.userObject(stranger.ID), w.organizationObject(elsewhere.ID), w.membershipObject(joined.ID), w.membershipObject(gone.ID),
	} {
		w.Expect(w.gone(object)()).To(BeTrue(), object.GetName())
	}
}

// thin is the least that an event of an unknown type may carry of an object.
func thin(object, id string, updatedAt time.Time) map[string]any {
	return map[string]any{"object": object, "id": id, "updated_at": updatedAt.UnixMilli()}
}

func TestUnknownType_hasTheObjectReadFromClerk(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	b, members := w.staffed([]string{"org:admin", "org:guest"})
	w.instanceID = b.clerk.InstanceID()
	full := get(w, b.instance).Status.Sync
	user, left := members.users[0], members.memberships[1]
	b.quietly(func(c *clerkfake.Clerk) {
		user = c.UpdateUser(user.ID, func(u *clerkfake.User) { u.FirstName, u.Banned = "Ada", true })
		w.Expect(c.RemoveMember(left.ID)).To(Succeed())
	})
	w.Expect(w.deliver(w.event("user.banned", thin("user", user.ID, user.UpdatedAt)))).To(Equal("applied"))
	w.Expect(w.deliver(w.event("organizationMembership.removed", thin("organization_membership", left.ID, left.UpdatedAt)))).
		To(Equal("ignored"))
	w.Eventually(stored(w, w.userObject(user.ID))).Should(And(
		HaveField("Spec.Banned", HaveValue(BeTrue())), HaveField("Spec.FirstName", "Ada"),
		HaveField("Annotations", Not(HaveKey(clerkv1alpha1.AnnotationResyncRequestedAt))),
	))
	w.Eventually(w.gone(w.membershipObject(left.ID))).Should(BeTrue())
	w.Eventually(w.access(members)).Should(HaveEach(none))
	w.Expect(get(w, b.instance).Status.Sync).To(Equal(full), "nothing else was read")
}

func TestUnknownType_ofWhatIsNotMirroredHasEverythingRead(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	b, members := w.staffed([]string{"org:guest"}, every(time.Second))
	w.instanceID = b.clerk.InstanceID()
	full := get(w, b.instance).Status.Sync.LastFullTime
	var approved clerkfake.User
	b.quietly(func(c *clerkfake.Clerk) { approved, _ = w.hire(c, members, "org:admin") })
	w.Expect(w.deliver(w.event("user.approved", thin("user", approved.ID, approved.UpdatedAt)))).To(Equal("ignored"))
	w.Eventually(w.access(members)).Should(HaveKeyWithValue(approved.ID, admin))
	w.Eventually(stored(w, b.instance)).Should(HaveField("Status.Sync.LastFullTime.Time", BeTemporally(">", full.Time)))
	w.Expect(w.failures(b.instance)()).To(ConsistOf("user.approved UnknownEventType"))
}
