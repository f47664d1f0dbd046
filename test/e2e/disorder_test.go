// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"math/rand/v2"
	"strconv"
	"testing"
	"time"

	. "github.com/onsi/gomega"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	clerkv1alpha1 "github.com/clerk-operator/clerk-operator/api/v1alpha1"
	"github.com/clerk-operator/clerk-operator/internal/delivery"
	"github.com/clerk-operator/clerk-operator/test/payload"
)

func TestDisorder_anyOrderOfCreationEndsTheSame(t *testing.T) {
	w := newWorld(t)
	orders := [][]int{{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}}
	ids, users := make([]string, 0, len(orders)), make([]payload.User, 0, len(orders))
	for _, order := range orders {
		u, o := w.newUser(), w.newOrganization("disorder")
		events := []delivery.Event{
			w.event("user.created", u.Data()),
			w.event("organization.created", o.Data()),
			w.event("organizationMembership.created", w.newMembership(u, o, "org:member").Data()),
		}
		for _, i := range order {
			w.Expect(w.deliver(events[i])).To(Equal("applied"))
		}
		ids, users = append(ids, o.ID), append(users, u)
	}
	w.class(ids)
	for i, order := range orders {
		namespace := w.provisioned(ids[i])
		w.Eventually(w.level(users[i].ID, namespace)).Should(Equal(edit), "order %v", order)
		w.Expect(w.elsewhere(users[i].ID, namespace)).To(BeEmpty())
	}
}

func TestDisorder_olderStatesAreStale(t *testing.T) {
	w := newWorld(t)
	u := w.newUser()
	created := w.event("user.created", u.Data())
	older := w.updateUser(&u, func(u *payload.User) { u.FirstName = "Older" })
	newest := w.updateUser(&u, func(u *payload.User) { u.FirstName, u.Banned = "Newest", true })

	w.Expect(w.deliver(newest)).To(Equal("applied"), "user.updated comes before user.created")
	before := get(w, w.userObject(u.ID))
	w.Expect(before.Spec.FirstName).To(Equal("Newest"))
	w.Expect(w.deliver(created)).To(Equal("stale"))
	w.Expect(w.deliver(older)).To(Equal("stale"))
	late := newest
	late.Time = newest.Time.Add(-time.Millisecond)
	w.Expect(w.deliver(late)).To(Equal("stale"), "the same updated_at and an older event")
	w.Expect(get(w, w.userObject(u.ID)).Spec).To(Equal(before.Spec))
}

func TestDisorder_duplicatesChangeNothing(t *testing.T) {
	w := newWorld(t)
	o := w.newOrganization("twice")
	w.class([]string{o.ID})
	u, other := w.newUser(), w.newUser()
	m := w.newMembership(u, o, "org:guest")
	first := []delivery.Event{
		w.event("user.created", u.Data()),
		w.event("user.created", other.Data()),
		w.event("organization.created", o.Data()),
		w.event("organizationMembership.created", m.Data()),
	}
	o.Name, o.UpdatedAt = "Acme Ltd.", w.tick()
	last := []delivery.Event{
		w.updateUser(&u, func(u *payload.User) { u.FirstName = "Ada" }),
		w.event("organization.updated", o.Data()),
		w.updateRole(&m, "org:member"),
	}
	messages := map[string][]delivery.Message{"stale": nil, "unchanged": {w.message(first[1])}}
	for _, event := range first {
		w.Expect(w.deliver(event)).To(Equal("applied"))
	}
	for _, event := range last {
		w.Expect(w.deliver(event)).To(Equal("applied"))
		messages["unchanged"] = append(messages["unchanged"], w.message(event))
	}
	for _, i := range []int{0, 2, 3} {
		messages["stale"] = append(messages["stale"], w.message(first[i]))
	}
	objects := []client.Object{
		w.userObject(u.ID), w.userObject(other.ID), w.organizationObject(o.ID), w.membershipObject(m.ID),
	}
	namespace := w.provisioned(o.ID)
	w.Eventually(stored(w, w.membershipObject(m.ID))).Should(beReady(metav1.ConditionTrue, clerkv1alpha1.ReasonBound))
	w.Eventually(w.level(u.ID, namespace)).Should(Equal(edit))
	active := beReady(metav1.ConditionTrue, clerkv1alpha1.ReasonActive)
	w.Eventually(stored(w, w.userObject(other.ID))).Should(active)
	w.Eventually(stored(w, w.userObject(u.ID))).Should(And(active, HaveField("Status.Organizations", HaveValue(BeEquivalentTo(1)))))
	w.Eventually(stored(w, w.organizationObject(o.ID))).Should(HaveField("Status.Members", HaveValue(BeEquivalentTo(1))))
	w.calm()

	before := w.versions(namespace, objects...)
	for result, duplicates := range messages {
		for _, m := range duplicates {
			w.Expect(w.attempt(m)).To(Equal(result), string(m.Body))
		}
	}
	w.Consistently(func() map[string]string { return w.versions(namespace, objects...) }).Should(Equal(before))
}

func TestDisorder_nothingComesBackAfterItsDeletion(t *testing.T) {
	w := newWorld(t)
	o, namespace := w.tenant("deleted")
	kept, keptNamespace := w.tenant("kept")
	u, stays := w.user(), w.user()
	m := w.join(u, o, "org:member")
	left := w.join(stays, kept, "org:member")
	late := []delivery.Event{
		w.updateUser(&u, func(*payload.User) {}), w.event("user.created", u.Data()),
		w.event("organization.created", o.Data()), w.event("organization.updated", o.Data()),
		w.updateRole(&m, "org:admin"), w.event("organizationMembership.created", m.Data()),
		w.event("organizationMembership.created", w.newMembership(stays, o, "org:admin").Data()),
		w.event("organizationMembership.created", w.newMembership(u, kept, "org:admin").Data()),
		w.updateRole(&left, "org:admin"),
	}
	w.happen("organizationMembership.deleted", left.Data())
	w.happen("user.deleted", payload.Deleted("user", u.ID))
	w.happen("organization.deleted", payload.Deleted("organization", o.ID))
	absent := []client.Object{w.userObject(u.ID), w.organizationObject(o.ID), w.membershipObject(m.ID), w.membershipObject(left.ID)}
	for _, object := range absent {
		w.Eventually(w.gone(object)).Should(BeTrue())
	}

	for _, event := range late {
		w.Expect(w.deliver(event)).To(Equal("stale"), event.Type)
	}
	w.Expect(w.deliver(w.event("user.deleted", payload.Deleted("user", u.ID)))).To(Equal("unchanged"))
	for _, object := range absent {
		w.Expect(w.gone(object)()).To(BeTrue(), object.GetName())
	}
	w.Expect(w.levelOf(u.ID, keptNamespace)).To(Equal(none))
	w.Expect(w.levelOf(stays.ID, keptNamespace)).To(Equal(none))
	w.Eventually(w.gone(namespaceObject(namespace))).Should(BeTrue())
}

func TestDisorder_deletionBeforeCreation(t *testing.T) {
	w := newWorld(t)
	u, o := w.newUser(), w.newOrganization("early")
	m := w.newMembership(u, o, "org:admin")
	for _, tc := range []struct {
		id       string
		deletion delivery.Event
		creation delivery.Event
		object   client.Object
	}{
		{
			m.ID, w.event("organizationMembership.deleted", m.Data()), w.event("organizationMembership.created", m.Data()),
			w.membershipObject(m.ID),
		},
		{
			u.ID, w.event("user.deleted", payload.Deleted("user", u.ID)), w.event("user.created", u.Data()),
			w.userObject(u.ID),
		},
		{
			o.ID, w.event("organization.deleted", payload.Deleted("organization", o.ID)), w.event("organization.created", o.Data()),
			w.organizationObject(o.ID),
		},
	} {
		w.Expect(w.deliver(tc.deletion)).To(Equal("applied"), tc.id)
		w.Eventually(w.tombstones(tc.id)).Should(ConsistOf(beReady(metav1.ConditionTrue, clerkv1alpha1.ReasonRecorded)))
		w.Expect(w.deliver(tc.creation)).To(Equal("stale"), tc.id)
		w.Expect(w.gone(tc.object)()).To(BeTrue(), tc.id)
	}
}

// tombstones finds what remembers the deletion of an ID in the world's instance.
func (w *world) tombstones(id string) func() ([]*clerkv1alpha1.ClerkTombstone, error) {
	return func() ([]*clerkv1alpha1.ClerkTombstone, error) {
		var list clerkv1alpha1.ClerkTombstoneList
		err := suite.client.List(w.t.Context(), &list, client.MatchingFields{"spec.id": id})
		found := make([]*clerkv1alpha1.ClerkTombstone, 0, len(list.Items))
		for i := range list.Items {
			if list.Items[i].Spec.InstanceName == w.instanceName {
				found = append(found, &list.Items[i])
			}
		}
		return found, err
	}
}

func TestDisorder_theNewestMembershipCounts(t *testing.T) {
	w := newWorld(t)
	o, namespace := w.tenant("rejoin")
	u := w.user()
	old := w.join(u, o, "org:admin")
	w.Eventually(w.level(u.ID, namespace)).Should(Equal(admin))

	left := w.event("organizationMembership.deleted", old.Data())
	again := w.join(u, o, "org:guest")
	w.Eventually(w.level(u.ID, namespace)).Should(Equal(view), "the new membership supersedes the one that was not heard to end")
	w.Eventually(stored(w, w.membershipObject(old.ID))).Should(beReady(metav1.ConditionFalse, clerkv1alpha1.ReasonSuperseded))
	w.Expect(w.deliver(w.updateRole(&old, "org:admin"))).To(Equal("applied"))
	w.Consistently(w.level(u.ID, namespace)).Should(Equal(view), "an event of the old membership")

	w.Expect(w.deliver(left)).To(Equal("applied"))
	w.Eventually(w.gone(w.membershipObject(old.ID))).Should(BeTrue())
	w.Consistently(w.level(u.ID, namespace)).Should(Equal(view), "the late end of the old membership")
	w.Eventually(stored(w, w.membershipObject(again.ID))).Should(beReady(metav1.ConditionTrue, clerkv1alpha1.ReasonBound))
}

func TestDisorder_concurrentDeliveriesEndTheSame(t *testing.T) {
	w := newWorld(t)
	const users, changes = 20, 5
	var messages []delivery.Message
	stay, leave := map[string]string{}, map[string]bool{}
	for i := range users {
		u := w.newUser()
		messages = append(messages, w.message(w.event("user.created", u.Data())))
		for change := range changes {
			update := w.updateUser(&u, func(u *payload.User) { u.FirstName = strconv.Itoa(change) })
			messages = append(messages, w.message(update))
		}
		if i%2 == 0 {
			leave[u.ID] = true
			messages = append(messages, w.message(w.event("user.deleted", payload.Deleted("user", u.ID))))
		} else {
			stay[u.ID] = u.FirstName
		}
	}
	messages = append(messages, messages...)
	rand.Shuffle(len(messages), func(i, j int) { messages[i], messages[j] = messages[j], messages[i] })

	w.wantAll(w.burst(messages), nil, 200, 503)
	for id := range leave {
		w.Eventually(w.gone(w.userObject(id))).Should(BeTrue())
	}
	for id, name := range stay {
		w.Expect(get(w, w.userObject(id)).Spec.FirstName).To(Equal(name))
	}
	w.Consistently(func(g Gomega) {
		for id := range leave {
			g.Expect(w.gone(w.userObject(id))()).To(BeTrue())
		}
	}).Should(Succeed())
}
