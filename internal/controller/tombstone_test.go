// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package controller_test

import (
	"testing"

	. "github.com/onsi/gomega"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	clerkv1alpha1 "github.com/clerk-operator/clerk-operator/api/v1alpha1"
	"github.com/clerk-operator/clerk-operator/internal/clerk"
	"github.com/clerk-operator/clerk-operator/internal/mirror"
	"github.com/clerk-operator/clerk-operator/test/payload"
)

// bury writes a tombstone alone, as a replica does that has not seen the object yet.
func (w *world) bury(id string) {
	w.t.Helper()
	tombstone := &clerkv1alpha1.ClerkTombstone{ObjectMeta: metav1.ObjectMeta{Name: clerk.ObjectName(w.instance, id)}}
	tombstone.Spec = clerkv1alpha1.ClerkTombstoneSpec{InstanceName: w.instance, ID: id, DeletedAt: clerkv1alpha1.NewTimestamp(w.now)}
	w.Expect(suite.client.Create(w.t.Context(), tombstone)).To(Succeed())
}

func TestTombstone_objectThatEscapedTheDeletionIsDeleted(t *testing.T) {
	w := newWorld(t)
	w.class()
	user := w.user()
	membership := w.join(user, "org:admin")
	namespace := w.tenant().Status.Namespace.Name
	w.eventuallyHold(namespace, map[string][]string{"admin": {user.ID}})

	w.bury(user.ID)
	w.eventuallyHold(namespace, nil)
	w.eventuallyGone(&clerkv1alpha1.ClerkOrganizationMembership{}, client.ObjectKey{Name: clerk.ObjectName(w.instance, membership.ID)})
	w.eventuallyGone(&clerkv1alpha1.ClerkUser{}, client.ObjectKey{Name: clerk.ObjectName(w.instance, user.ID)})
	w.bury(w.org.ID)
	w.eventuallyGone(&clerkv1alpha1.ClerkOrganization{}, client.ObjectKey{Name: clerk.ObjectName(w.instance, w.org.ID)})
	w.Eventually(func(g Gomega) {
		tombstone := &clerkv1alpha1.ClerkTombstone{}
		w.get(tombstone, user.ID)
		g.Expect(tombstone.Status.ExpiresAt).NotTo(BeNil())
	}).Should(Succeed())
}

func TestTombstone_nothingComesBack(t *testing.T) {
	w := newWorld(t)
	w.class()
	user := w.user()
	membership := payload.Membership{
		ID: payload.NewID("orgmem"), Role: "org:admin", UserID: user.ID, Organization: w.org, CreatedAt: w.now, UpdatedAt: w.now,
	}
	w.happen("user.deleted", payload.Deleted("user", user.ID))
	w.happen("organization.deleted", payload.Deleted("organization", w.org.ID)) // before it was created
	user.UpdatedAt = w.tick()
	w.Expect(w.happen("user.updated", user.Data())).To(Equal(mirror.Stale))
	w.Expect(w.happen("organization.created", w.org.Data())).To(Equal(mirror.Stale))
	w.Expect(w.happen("organizationMembership.created", membership.Data())).To(Equal(mirror.Stale), "it cannot outlive its user")
	w.eventuallyGone(&clerkv1alpha1.ClerkUser{}, client.ObjectKey{Name: clerk.ObjectName(w.instance, user.ID)})
}
