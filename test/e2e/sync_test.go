// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"net/http"
	"os"
	"testing"
	"time"

	. "github.com/onsi/gomega"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	clerkv1alpha1 "github.com/clerk-operator/clerk-operator/api/v1alpha1"
	"github.com/clerk-operator/clerk-operator/test/clerkfake"
	"github.com/clerk-operator/clerk-operator/test/installation"
	"github.com/clerk-operator/clerk-operator/test/payload"
)

func TestSync_backfillsWhatWasThereBefore(t *testing.T) {
	t.Parallel()
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
	w.Expect(w.told(instance)()).NotTo(ContainElement(ContainSubstring("RepairsNeeded")), "nobody told of what was there before")

	b.clerk.Quietly(func() { b.clerk.DeleteUser(user.ID) })
	instance = b.resync()
	w.Eventually(w.gone(w.userObject(user.ID))).Should(BeTrue())
	w.Eventually(w.level(user.ID, namespace)).Should(Equal(none))
	w.Expect(instance).To(haveCondition(clerkv1alpha1.ConditionFresh, metav1.ConditionFalse, clerkv1alpha1.ReasonRepairsNeeded))
}

func TestSync_canBeAddedAndTakenAway(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	const interval = 3 * time.Second
	b, backend := w.clerkFor(nil)
	b.instance = w.ownInstance()
	members := w.team(b.clerk, "org:admin", "org:guest")
	b.tell()
	b.provide(members)
	leaver := members.users[1].ID
	b.quietly(func(c *clerkfake.Clerk) { c.DeleteUser(leaver) })

	w.Eventually(time.Now).Should(BeTemporally(">", b.instance.CreationTimestamp.Add(3*interval)))
	changeByHand(w, b.instance, func(i *clerkv1alpha1.ClerkInstance) {
		backend(i)
		every(interval)(i)
	})
	b.synced()
	w.wantBuried(w.userObject(leaver), leaver)
	w.wantLevels(members, admin, none)
	b.becomes(clerkv1alpha1.ConditionFresh, metav1.ConditionTrue, clerkv1alpha1.ReasonUpToDate)
	w.Expect(w.told(b.instance)()).NotTo(ContainElement(ContainSubstring("SyncOverdue")), "the instance is old, and its sync is not")

	changeByHand(w, b.instance, func(i *clerkv1alpha1.ClerkInstance) { i.Spec.BackendAPI = clerkv1alpha1.ClerkInstanceBackendAPI{} })
	w.Eventually(stored(w, b.instance)).Should(And(
		HaveField("Status.Sync", BeZero()), HaveField("Status.Conditions", HaveLen(3)), HaveField("Status.Roles", BeEmpty()),
		HaveField("Status.InstanceID", b.clerk.InstanceID()), beReady(metav1.ConditionTrue, clerkv1alpha1.ReasonReceiving),
	), "only what was learned stays")
	w.wantLevels(members, admin, none)
}

func TestSync_findsWhatIsNewAtEveryInterval(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	b, members := w.staffed([]string{"org:admin"}, every(time.Second))
	b.quietly(func(c *clerkfake.Clerk) {
		w.hire(c, members, "org:guest")
		c.UpdateUser(members.users[0].ID, func(u *clerkfake.User) { u.Banned = true })
	})
	w.wantLevels(members, none, view)
	before := get(w, b.instance).Status.Sync
	w.Eventually(stored(w, b.instance)).Should(HaveField("Status.Sync.LastTime.Time", BeTemporally(">", before.LastTime.Time)))
	w.Expect(get(w, b.instance).Status.Sync.LastFullTime).To(Equal(before.LastFullTime))
}

func TestSync_learnsWhoseEventsToBelieve(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	b := w.backedBy(nil)
	w.Expect(b.synced().Status.InstanceID).To(Equal(b.clerk.InstanceID()))
	foreigner := w.newUser()
	w.Eventually(func() string { return w.deliver(w.event("user.created", foreigner.Data())) }).Should(Equal("ignored"))
	for from, want := range map[string]string{
		b.clerk.InstanceID(): "applied", payload.NewID("ins"): "ignored", "": "ignored",
	} {
		w.instanceID = from
		u := w.newUser()
		w.Expect(w.deliver(w.event("user.created", u.Data()))).To(Equal(want), from)
		w.Expect(w.gone(w.userObject(u.ID))()).To(Equal(want == "ignored"), from)
	}
}

func TestSync_tellsNothingSensitive(t *testing.T) {
	w := newWorld(t)
	w.withoutManager()
	manager, reader := w.manager(installation.ManagerOptions{Name: "sync-sensitive", Metrics: true}), w.reader()
	b, members := w.staffed([]string{"org:admin"})
	b.through(manager)
	user, membership := w.hire(b.clerk, members, "org:guest")
	b.tell()
	w.wantLevels(members, admin, view)
	const canary = "nobody-is-to-read-this"
	for reason, fault := range map[string]clerkfake.Fault{
		clerkv1alpha1.ReasonMalformedAnswer: {Body: `{"id": 7, "note": "` + canary + `"}`},
		clerkv1alpha1.ReasonRejected: {Status: http.StatusUnprocessableEntity, Body: `{"errors":[{"code":"` + canary + ` ",` +
			`"message":"` + canary + `"}],"clerk_trace_id":"` + canary + `\n"}`},
	} {
		remove := b.clerk.Inject(fault)
		b.request()
		b.becomes(clerkv1alpha1.ConditionSynced, metav1.ConditionFalse, reason)
		remove()
	}

	log, err := os.ReadFile(manager.Process.LogPath())
	w.Expect(err).NotTo(HaveOccurred())
	objects := w.kubectl("get", "clerk", "-o", "yaml", "-l", clerkv1alpha1.LabelInstance+"="+b.instance.Name)
	for _, id := range []string{user.ID, membership.ID, members.ID, user.Email} {
		w.Expect(objects).To(ContainSubstring(id))
	}
	told := map[string]string{
		"instance": w.kubectl("get", "clerkinstance", b.instance.Name, "-o", "yaml"),
		"events":   w.kubectl("get", "events", "-A", "-o", "yaml"),
		"log":      string(log),
		"metrics":  w.scrape(manager.Metrics, reader),
	}
	for about, text := range told {
		w.Expect(text).NotTo(ContainSubstring(user.Email), about)
	}
	told["objects"] = objects
	for about, text := range told {
		for _, never := range append(clerkfake.Canaries(), b.clerk.SecretKey(), canary) {
			w.Expect(text).NotTo(ContainSubstring(never), about)
		}
	}
}
