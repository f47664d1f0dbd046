// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"fmt"
	"maps"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	. "github.com/onsi/gomega"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	clerkv1alpha1 "github.com/clerk-operator/clerk-operator/api/v1alpha1"
	"github.com/clerk-operator/clerk-operator/test/clerkfake"
	"github.com/clerk-operator/clerk-operator/test/installation"
)

// What is in Clerk before the operator comes.
const (
	manyUsers, manyOrganizations, manyMemberships = 2000, 200, 1500
	everything                                    = manyUsers + manyOrganizations + manyMemberships
)

func (w *world) populate(c *clerkfake.Clerk) {
	w.t.Helper()
	organizations := make([]clerkfake.Organization, 0, manyOrganizations)
	for i := range manyOrganizations {
		organizations = append(organizations, c.CreateOrganization(clerkfake.Organization{Name: "Acme", Slug: fmt.Sprint("acme-", i)}))
	}
	for i := range manyUsers {
		user := c.CreateUser(clerkfake.User{Email: fmt.Sprint("user", i, "@example.com")})
		if i < manyMemberships {
			_, err := c.AddMember(organizations[i%manyOrganizations].ID, user.ID, "org:member")
			w.Expect(err).NotTo(HaveOccurred())
		}
	}
}

func TestSync_goesOnWhereTheManagerWasKilled(t *testing.T) {
	w := newWorld(t)
	w.withoutManager()
	manager := w.manager(installation.ManagerOptions{Name: "backfill"})
	b := w.backedBy(w.populate)

	for _, stage := range []clerkv1alpha1.ClerkInstanceSyncStage{clerkv1alpha1.SyncMemberships, clerkv1alpha1.SyncUsers} {
		progress := b.killIn(stage, manager)
		manager = w.manager(installation.ManagerOptions{Name: "resumed-" + strings.ToLower(string(stage))})
		w.Eventually(b.listings).ShouldNot(BeEmpty())
		w.Expect(b.listings()[0]).To(Equal(positionOf(progress)), "it goes on, and does not begin anew")
	}
	w.Eventually(stored(w, b.instance), 3*timeout).Should(And(haveCondition(clerkv1alpha1.ConditionSynced, metav1.ConditionTrue, clerkv1alpha1.ReasonSynced),
		HaveField("Status.Sync.LastFullTime", Not(BeNil())),
	))
	w.Expect(b.mirrored()).To(HaveLen(everything))
	w.Expect(get(w, b.instance).Status.Sync.Progress).To(BeZero())
	w.Expect(b.listings()).To(ContainElements("organizations 0", "organization_memberships 0", "users "),
		"what managers read in parts is read once more as a whole")

	w.provide(&team{Organization: b.clerk.Organizations()[0]}, &team{Organization: b.clerk.Organizations()[1]})
	b.wantNoWrites()
}

// killIn kills the manager while it reads a stage, and returns the progress that outlives it.
func (b *backed) killIn(
	stage clerkv1alpha1.ClerkInstanceSyncStage, manager *installation.Manager,
) clerkv1alpha1.ClerkInstanceSyncProgress {
	b.t.Helper()
	at := func() (clerkv1alpha1.ClerkInstanceSyncProgress, error) {
		instance, err := stored(b.world, b.instance)()
		return instance.Status.Sync.Progress, err
	}
	b.Eventually(at, 2*timeout).Should(And(
		HaveField("Type", clerkv1alpha1.SyncFull), HaveField("Stage", stage), HaveField("Offset", BeNumerically(">", 0)),
	))
	b.becomes(clerkv1alpha1.ConditionFresh, metav1.ConditionUnknown, clerkv1alpha1.ReasonInitialSync)
	gate := make(chan struct{})
	b.clerk.Inject(clerkfake.Fault{Block: gate})
	b.Eventually(b.clerk.Requests).Should(ContainElement(HaveField("Status", 0)), "it waits for a page")
	b.Expect(manager.Process.Kill()).To(Succeed())
	progress, err := at()
	b.Expect(err).NotTo(HaveOccurred())
	b.Expect(progress.Stage).To(Equal(stage), "it was killed in the middle")
	b.clerk.ClearFaults()
	close(gate)
	b.clerk.ResetRequests()
	return progress
}

// positionOf is the listing that a progress goes on with. A page by offset begins with the last row of the one before.
func positionOf(p clerkv1alpha1.ClerkInstanceSyncProgress) string {
	if p.Stage == clerkv1alpha1.SyncUsers {
		return "users " + p.After
	}
	return fmt.Sprint("organization_memberships ", p.Offset-1)
}

// wantNoWrites checks that a sync which finds nothing new writes nothing, and that one which does writes just that.
func (b *backed) wantNoWrites() {
	b.t.Helper()
	const requests = "clerkinstances.clerk-operator.dev" // resync asks by an annotation
	before := b.calm()
	b.resync()
	b.Expect(b.writesSince(before)).To(Equal(map[string]int{requests: 1}))

	b.quietly(func(c *clerkfake.Clerk) {
		c.UpdateUser(c.Users()[manyUsers-1].ID, func(u *clerkfake.User) { u.FirstName = "Ada" })
	})
	before = b.calm()
	b.resync()
	b.Eventually(func() map[string]int { return b.writesSince(before) }).Should(Equal(map[string]int{
		requests: 1, "clerkusers.clerk-operator.dev": 1, "clerkusers.clerk-operator.dev/status": 1,
	}), "the API server counts what is written")
}

var (
	requestCount  = regexp.MustCompile(`(?m)^apiserver_request_total\{(.*)\} (\S+)$`)
	requestLabels = regexp.MustCompile(`(\w+)="([^"]*)"`)
	// unwritten are verbs that change nothing; unrelated are groups in which everybody writes all the time.
	unwritten = regexp.MustCompile(`^(GET|LIST|WATCH|CONNECT|WATCHLIST|OPTIONS|HEAD)$`)
	unrelated = regexp.MustCompile(`^(coordination|events|authentication|authorization|flowcontrol\.apiserver)\.k8s\.io$`)
)

// writes counts the writes since the API server started by what was written. The status of instances, which tells of the
// sync itself, is left out.
func (w *world) writes() map[string]int {
	w.t.Helper()
	counts := w.requests(func(labels map[string]string) bool {
		// Dry runs store nothing: they are the probes of the policies.
		return !unwritten.MatchString(labels["verb"]) && !unrelated.MatchString(labels["group"]) && labels["dry_run"] == ""
	})
	delete(counts, "clerkinstances.clerk-operator.dev/status")
	return counts
}

// requests counts some requests since the API server started by what they were about.
func (w *world) requests(some func(labels map[string]string) bool) map[string]int {
	w.t.Helper()
	counts := map[string]int{}
	for _, line := range requestCount.FindAllStringSubmatch(w.kubectl("get", "--raw", "/metrics"), -1) {
		labels := map[string]string{}
		for _, label := range requestLabels.FindAllStringSubmatch(line[1], -1) {
			labels[label[1]] = label[2]
		}
		if !some(labels) {
			continue
		}
		what := strings.TrimSuffix(labels["resource"]+"."+labels["group"], ".")
		if labels["subresource"] != "" {
			what += "/" + labels["subresource"]
		}
		count, err := strconv.ParseFloat(line[2], 64)
		w.Expect(err).NotTo(HaveOccurred())
		counts[what] += int(count)
	}
	return counts
}

// writesSince are the writes since others were counted.
func (w *world) writesSince(before map[string]int) map[string]int {
	w.t.Helper()
	return growth(before, w.writes())
}

// growth is what was counted in between.
func growth(before, after map[string]int) map[string]int {
	grown := maps.Clone(after)
	for what, count := range before {
		grown[what] -= count
	}
	maps.DeleteFunc(grown, func(_ string, count int) bool { return count == 0 })
	return grown
}

// calm waits until nobody writes, and counts the writes. It looks for longer than the operator puts any write off.
func (w *world) calm() (counts map[string]int) {
	w.t.Helper()
	w.Eventually(func() map[string]int {
		before := counts
		counts = w.writes()
		return growth(before, counts)
	}, 2*timeout, 3*time.Second).Should(BeEmpty())
	return counts
}
