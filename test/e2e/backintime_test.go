// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"fmt"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	. "github.com/onsi/gomega"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	apitypes "k8s.io/apimachinery/pkg/types"

	clerkv1alpha1 "github.com/clerk-operator/clerk-operator/api/v1alpha1"
	"github.com/clerk-operator/clerk-operator/internal/delivery"
	"github.com/clerk-operator/clerk-operator/test/clerkfake"
	"github.com/clerk-operator/clerk-operator/test/installation"
	"github.com/clerk-operator/clerk-operator/test/payload"
)

// bystanders is how many users have no membership; with the members of the teams there are 30 users.
const bystanders = 21

// The events that a restore of etcd takes away were acknowledged, so Clerk does not send them again by itself. The caches of
// the running operator still hold them, and its watches go on from a revision that the API server has not reached yet.
func TestBackInTime_theClusterEndsAsClerkSays(t *testing.T) {
	w := newWorld(t)
	w.ownCluster()
	r := w.restoration()
	backup := filepath.Join(t.TempDir(), "backup")
	w.Expect(suite.cp.Backup(t.Context(), backup)).To(Succeed())
	replayed, unreplayed := r.happen(r.growAndBan), r.happen(r.shrink)
	all := slices.Concat(replayed, unreplayed)
	r.deliver(all)
	r.wantAsInClerk("before any restore")

	t.Log("a restore, and a replay of all events")
	r.restore(backup)
	r.deliver(all)
	r.wantAsInClerk("after a replay of all events")
	r.wantRestarted()

	t.Log("the same restore, a replay of some events, and a sync")
	r.restore(backup)
	r.deliver(replayed)
	r.resync()
	r.happened.isSynced = true
	r.wantAsInClerk("after a replay of some events and a sync")
	r.wantRestarted()

	t.Log("a CRD that is deleted")
	r.loseOrganizations()
	r.deliver(r.happen(r.renameOrganizations))
	r.wantAsInClerk("after the deletion of a CRD")

	t.Log("an outage of the API server")
	r.deliverInOutage(r.happen(r.goOn))
	r.wantAsInClerk("after an outage")

	r.resync()
	r.becomes(clerkv1alpha1.ConditionFresh, metav1.ConditionTrue, clerkv1alpha1.ReasonUpToDate)
	r.wantAsInClerk("after the last sync")
	for name, uid := range r.namespaces {
		w.Expect(get(w, namespaceObject(name)).UID).To(Equal(uid), name)
	}
}

// restoration is a cluster that is restored from a backup, under a manager that is restarted whenever it exits.
type restoration struct {
	*permutations
	supervisor *installation.Supervisor
	// exits is how many exits there were before the last restore.
	exits int
	// happened is everything that happened in Clerk.
	happened *history
	// teams are the tenants. The last one is founded after the backup.
	teams []*team
	// namespaces are the UIDs of the namespaces that the backup has.
	namespaces map[string]apitypes.UID
}

// restoration fills a Clerk and waits until the cluster is as Clerk says.
func (w *world) restoration() *restoration {
	w.t.Helper()
	suite.supervisor = suite.manager.Supervise()
	r := &restoration{
		permutations: &permutations{owners: map[string]*history{}},
		supervisor:   suite.supervisor,
		happened:     &history{names: map[string]string{}, about: map[string]string{}},
		namespaces:   map[string]apitypes.UID{},
	}
	r.backed = w.backedBy(func(c *clerkfake.Clerk) {
		for range 3 {
			r.teams = append(r.teams, w.team(c, "org:admin", "org:member", "org:guest"))
		}
		for range bystanders {
			c.CreateUser(clerkfake.User{Email: "someone@example.com"})
		}
	}, maxDeletions("100%"), every(12*time.Hour)) // no sync but those that are requested
	r.happened.clerk = r.clerk
	// The class, which the backup must have, selects the organization that is created later, too.
	r.teams = append(r.teams, &team{Organization: clerkfake.Organization{ID: payload.NewID("org")}})
	for _, t := range r.teams {
		r.happened.selected = append(r.happened.selected, t.ID)
	}
	r.class(r.happened.selected)
	r.synced()
	r.happen(func(*clerkfake.Clerk) {})
	r.wantAsInClerk("before the backup")
	for _, t := range r.teams {
		if t.namespace != "" {
			r.namespaces[t.namespace] = get(w, namespaceObject(t.namespace)).UID
		}
	}
	return r
}

// happen changes Clerk, and returns the deliveries of the changes.
func (r *restoration) happen(change func(*clerkfake.Clerk)) []delivery.Message {
	change(r.clerk)
	h := r.happened
	know := func(id string) { h.names[id], r.owners[id] = id, h }
	for _, user := range r.clerk.Users() {
		know(user.ID)
	}
	for _, organization := range r.clerk.Organizations() {
		know(organization.ID)
	}
	for _, membership := range r.clerk.Memberships() {
		know(membership.ID)
		h.joined = append(h.joined, membership)
	}
	events := r.clerk.TakeEvents()
	messages := make([]delivery.Message, 0, len(events))
	for _, event := range events {
		h.sent, h.about[event.Message.ID] = append(h.sent, event), subject(event)
		messages = append(messages, event.Message)
	}
	return messages
}

// growAndBan bans a member, changes users, lets users sign up, and founds the last team.
func (r *restoration) growAndBan(c *clerkfake.Clerk) {
	c.UpdateUser(r.teams[0].users[0].ID, func(u *clerkfake.User) { u.Banned = true })
	for i, user := range c.Users()[5:15] {
		c.UpdateUser(user.ID, func(u *clerkfake.User) { u.FirstName = fmt.Sprint("Ada ", i) })
	}
	for range 3 {
		c.CreateUser(clerkfake.User{Email: "new@example.com"})
	}
	founded := r.teams[3]
	founded.Organization = c.CreateOrganization(clerkfake.Organization{ID: founded.ID, Name: "Founded Inc."})
	r.hire(c, founded, "org:admin")
	r.hire(c, founded, "org:member")
}

// shrink takes access from members in every way, and gives an organization a plan.
func (r *restoration) shrink(c *clerkfake.Clerk) {
	demoted, removed := r.teams[0].memberships[1], r.teams[1].memberships[1]
	_, err := c.SetRole(demoted.ID, "org:guest")
	r.Expect(err).NotTo(HaveOccurred())
	r.Expect(c.RemoveMember(removed.ID)).To(Succeed())
	c.UpdateUser(r.teams[1].users[0].ID, func(u *clerkfake.User) { u.Banned = true })
	c.DeleteUser(r.teams[2].users[0].ID)
	c.Subscribe(r.teams[2].ID, "pro")
}

// renameOrganizations changes every organization, its plan included if it has one.
func (r *restoration) renameOrganizations(c *clerkfake.Clerk) {
	for _, t := range r.teams {
		c.UpdateOrganization(t.ID, func(o *clerkfake.Organization) { o.Name += " again" })
		if c.Plan(t.ID) != "" {
			c.Subscribe(t.ID, "team")
		}
	}
}

// goOn is what happens during an outage.
func (r *restoration) goOn(c *clerkfake.Clerk) {
	c.UpdateUser(r.teams[0].users[0].ID, func(u *clerkfake.User) { u.Banned = false })
	c.UpdateUser(r.teams[0].users[2].ID, func(u *clerkfake.User) { u.Banned = true })
	c.DeleteUser(r.teams[1].users[2].ID)
	r.hire(c, r.teams[2], "org:admin")
	for range 5 {
		c.CreateUser(clerkfake.User{Email: "late@example.com"})
	}
}

// deliver delivers messages, each until it is acknowledged, as Svix does.
func (r *restoration) deliver(messages []delivery.Message) {
	r.t.Helper()
	r.wantDelivered(r.burst(messages))
}

func (r *restoration) wantDelivered(b *burst) {
	r.t.Helper()
	r.Eventually(b.done, 3*timeout).Should(Receive(BeNil()))
	r.t.Logf("attempts by the code of their response: %v", b.answers)
}

// deliverInOutage delivers messages while the API server is away for a while.
func (r *restoration) deliverInOutage(messages []delivery.Message) {
	r.t.Helper()
	r.Expect(suite.cp.StopAPIServer(r.t.Context())).To(Succeed())
	back := func() { r.Expect(suite.cp.StartAPIServer(contextAfter(r.t))).To(Succeed()) }
	r.t.Cleanup(back) // a test that fails is cleaned up with the API server, too
	b := r.burst(messages)
	r.Eventually(func() int {
		b.mu.Lock()
		defer b.mu.Unlock()
		return b.answers[http.StatusServiceUnavailable]
	}).Should(BeNumerically(">=", len(messages)))
	back()
	r.wantDelivered(b)
}

// restore takes the cluster back to a backup.
func (r *restoration) restore(backup string) {
	r.t.Helper()
	r.exits = len(r.supervisor.Exits())
	r.Expect(suite.cp.Restore(r.t.Context(), backup)).To(Succeed())
}

// wantRestarted waits until the manager has exited with an error because of the last restore and is ready again.
func (r *restoration) wantRestarted() {
	r.t.Helper()
	r.Eventually(func() int { return len(r.supervisor.Exits()) }).Should(BeNumerically(">", r.exits))
	r.Expect(r.supervisor.Exits()).To(HaveEach(BeNumerically(">", 0)), "exit codes")
	r.Eventually(func() bool { return suite.manager.Ready(r.t.Context()) }).Should(BeTrue())
}

// loseOrganizations deletes the CRD of organizations, waits until that has taken the access, and creates it again.
func (r *restoration) loseOrganizations() {
	r.t.Helper()
	r.kubectl(append([]string{"delete", "--timeout=60s"}, crds("clerkorganizations")...)...)
	for name := range r.namespaces {
		r.Eventually(r.bindings(name)).Should(BeEmpty())
	}
	r.kubectl("apply", "--server-side", "-k", "config/crd")
}

// wantAsInClerk waits until every mirrored object, tombstone, namespace, binding and count is what follows from Clerk's state.
func (r *restoration) wantAsInClerk(when string) {
	r.t.Helper()
	h := r.happened
	h.end = endOf(h)
	want, mayBeBuried := facts{}, map[string]bool{}
	h.model(want, mayBeBuried)
	var found []difference
	r.Eventually(func() (int, error) {
		have, err := r.observe()
		found = compare(want, have, mayBeBuried)
		return len(found), err
	}).Should(BeZero(), func() string { return when + describe(found) })
	for _, t := range r.teams {
		if _, ok := h.end.organizations[t.ID]; ok {
			t.namespace = r.provisioned(t.ID)
			r.Eventually(r.access(t)).Should(Equal(r.levelsOf(t)), when)
		}
	}
	r.wantInstance(when)
}

func describe(found []difference) string {
	var text strings.Builder
	for _, d := range found {
		fmt.Fprintf(&text, "\n    %s", d)
	}
	return text.String()
}

// levelsOf returns what all users who ever were members of a team may do in its namespace, by Clerk's state.
func (r *restoration) levelsOf(t *team) map[string]string {
	levels := map[string]string{}
	for _, user := range t.users {
		levels[user.ID] = none
	}
	for _, m := range r.happened.end.memberships {
		if m.OrganizationID == t.ID && !r.happened.end.users[m.UserID].Banned {
			levels[m.UserID] = clusterRoles[m.Role]
		}
	}
	return levels
}

// wantInstance waits until the instance's conditions and counts are right. Counts are updated once a minute, and whenever the
// spec changes.
func (r *restoration) wantInstance(when string) {
	r.t.Helper()
	end := r.happened.end
	changeByHand(r.world, r.instance, func(i *clerkv1alpha1.ClerkInstance) {
		i.Spec.BackendAPI.Sync.Incremental.Duration += time.Second
	})
	r.Eventually(stored(r.world, r.instance)).Should(And(
		beReady(metav1.ConditionTrue, clerkv1alpha1.ReasonReceiving),
		haveCondition(clerkv1alpha1.ConditionSynced, metav1.ConditionTrue, clerkv1alpha1.ReasonSynced),
		HaveField("Status.Counts.Users", HaveValue(BeEquivalentTo(len(end.users)))),
		HaveField("Status.Counts.Organizations", HaveValue(BeEquivalentTo(len(end.organizations)))),
		HaveField("Status.Counts.Memberships", HaveValue(BeEquivalentTo(len(end.memberships)))),
	), when)
}
