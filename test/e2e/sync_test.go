// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"testing"

	. "github.com/onsi/gomega"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	clerkv1alpha1 "github.com/clerk-operator/clerk-operator/api/v1alpha1"
	"github.com/clerk-operator/clerk-operator/test/clerkfake"
)

func TestSync_backfillsWhatWasThereBefore(t *testing.T) {
	w := newWorld(t)
	var user clerkfake.User
	var organization clerkfake.Organization
	b := w.backedBy(func(c *clerkfake.Clerk) {
		user = c.CreateUser(clerkfake.User{Email: "someone@example.com"})
		organization = c.CreateOrganization(clerkfake.Organization{Name: "Acme"})
		_, err := c.AddMember(organization.ID, user.ID, "org:admin")
		w.Expect(err).NotTo(HaveOccurred())
	})
	w.class([]string{organization.ID})
	instance := b.synced()
	w.Expect(instance).To(haveCondition(clerkv1alpha1.ConditionFresh, metav1.ConditionTrue, clerkv1alpha1.ReasonUpToDate))
	w.Expect(instance.Status.InstanceID).To(Equal(b.clerk.InstanceID()))
	w.Expect(instance.Status.Sync.State).To(Equal("Synced"))
	namespace := w.provisioned(organization.ID)
	w.Eventually(w.level(user.ID, namespace)).Should(Equal(admin))

	b.clerk.Quietly(func() { b.clerk.DeleteUser(user.ID) })
	instance = b.resync()
	w.Eventually(w.gone(userObject(user.ID))).Should(BeTrue())
	w.Eventually(w.level(user.ID, namespace)).Should(Equal(none))
	w.Expect(instance).To(haveCondition(clerkv1alpha1.ConditionFresh, metav1.ConditionFalse, clerkv1alpha1.ReasonRepairsNeeded))
}
