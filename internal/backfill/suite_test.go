// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package backfill

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	. "github.com/onsi/gomega"
	"github.com/prometheus/client_golang/prometheus"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clocktesting "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"

	clerkv1alpha1 "github.com/clerk-operator/clerk-operator/api/v1alpha1"
	"github.com/clerk-operator/clerk-operator/internal/clerk"
	"github.com/clerk-operator/clerk-operator/internal/clerkapi"
	"github.com/clerk-operator/clerk-operator/internal/mirror"
	"github.com/clerk-operator/clerk-operator/test/clerkfake"
	"github.com/clerk-operator/clerk-operator/test/controlplane"
	"github.com/clerk-operator/clerk-operator/test/installation"
	"github.com/clerk-operator/clerk-operator/test/payload"
)

// cluster is the API server's client. No manager runs here: finalizers hold what is deleted, and nothing cascades.
var cluster client.Client

func TestMain(m *testing.M) {
	os.Exit(runSuite(m))
}

func runSuite(m *testing.M) int {
	ctx := context.Background()
	cp, err := controlplane.Start(ctx, controlplane.Options{})
	if err != nil {
		fmt.Fprintln(os.Stderr, "starting the control plane:", err)
		return 1
	}
	in, err := installation.Install(ctx, cp, "../..")
	if err != nil {
		fmt.Fprintln(os.Stderr, "installing:", err)
		return 1
	}
	cluster = in.Client
	code := m.Run()
	if err := cp.Stop(); err != nil {
		fmt.Fprintln(os.Stderr, "stopping the control plane:", err)
		return 1
	}
	return code
}

// world is one Clerk instance and its mirror.
type world struct {
	*WithT
	t        *testing.T
	clerk    *clerkfake.Clerk
	api      *clerkapi.Client
	config   *clerkv1alpha1.ClerkInstance
	mirror   *mirror.Mirror
	syncer   *Syncer
	registry *prometheus.Registry
	// clock is the syncer's, and that of what Clerk answers. It stands still until a run asks to wait.
	clock *clocktesting.FakePassiveClock
}

// option changes the Backend API of a world.
type option func(*http.Request)

// pagesOf makes the pages of organizations and memberships smaller, of which each has one row of the page before, and
// those of plans. Those of users end where they are not full, so they stay as they are.
func pagesOf(n int) option {
	return func(r *http.Request) {
		if strings.Contains(r.URL.Path, "/organization") && r.URL.Query().Has("order_by") || r.URL.Path == plansPath {
			set(r, "limit", strconv.Itoa(n))
		}
	}
}

// uncounted makes organizations not tell how many members they have.
func uncounted(r *http.Request) { set(r, "include_members_count", "false") }

func set(r *http.Request, parameter, value string) {
	query := r.URL.Query()
	if query.Has(parameter) {
		query.Set(parameter, value)
		r.URL.RawQuery = query.Encode()
	}
}

// newWorld returns a world in which everything happened an hour ago, so that nothing has changed a moment ago.
func newWorld(t *testing.T, options ...option) *world {
	t.Helper()
	w := &world{
		WithT: NewWithT(t), t: t, registry: prometheus.NewRegistry(), mirror: mirror.New(cluster, cluster),
		clock: clocktesting.NewFakePassiveClock(time.Now().Truncate(time.Second)),
	}
	w.clerk = clerkfake.New(clerkfake.Config{
		SecretKey: "sk_live_" + rand.Text(), Now: func() time.Time { return w.clock.Now().Add(-time.Hour) },
	})
	server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		rw.Header().Set("Date", w.clock.Now().UTC().Format(http.TimeFormat))
		for _, change := range options {
			change(r)
		}
		w.clerk.ServeHTTP(rw, r)
	}))
	t.Cleanup(server.Close)
	w.config = &clerkv1alpha1.ClerkInstance{ObjectMeta: metav1.ObjectMeta{
		Name: "i-" + strings.ToLower(rand.Text()), Annotations: map[string]string{},
	}}
	w.api = clerkapi.NewClients(clerkapi.NewMetrics(prometheus.NewRegistry())).For(w.config.Name, server.URL, w.clerk.SecretKey())
	w.config.Status.InstanceID = w.clerk.InstanceID()
	w.syncer = NewSyncer(cluster, w.mirror, w.clock, NewMetrics(w.registry))
	return w
}

// tenant is an organization with some members.
type tenant struct {
	clerkfake.Organization
	users       []clerkfake.User
	memberships []clerkfake.Membership
}

// tenant makes an organization with new users as its members.
func (w *world) tenant(members int) tenant {
	made := tenant{Organization: w.clerk.CreateOrganization(clerkfake.Organization{Name: "Acme", Slug: "acme"})}
	for i := range members {
		made.users = append(made.users, w.clerk.CreateUser(clerkfake.User{Email: fmt.Sprintf("%d@example.com", i), FirstName: "Jane"}))
		made.memberships = append(made.memberships, w.join(made.ID, made.users[i].ID))
	}
	return made
}

func (w *world) join(organizationID, userID string) clerkfake.Membership {
	membership, err := w.clerk.AddMember(organizationID, userID, "org:member")
	w.Expect(err).NotTo(HaveOccurred())
	return membership
}

// begin begins a sync, as the controller does: nobody else changes the instance that it works with.
func (w *world) begin(syncType clerkv1alpha1.ClerkInstanceSyncType) *Run {
	return w.syncer.NewRun(w.config.DeepCopy(), w.api, w.clerk.InstanceID(), syncType, clerkv1alpha1.ClerkInstanceSyncProgress{})
}

// step takes a run one step forward.
func (w *world) step(run *Run) Next {
	w.t.Helper()
	next, err := w.syncer.Step(w.t.Context(), run)
	w.Expect(err).NotTo(HaveOccurred())
	return next
}

// until takes a run forward to a stage.
func (w *world) until(run *Run, stage clerkv1alpha1.ClerkInstanceSyncStage) {
	w.t.Helper()
	for run.Progress.Stage != stage {
		w.Expect(w.step(run).Done).To(BeFalse())
	}
}

// finish takes a run to its end, or to its first error.
func (w *world) finish(run *Run) error {
	w.t.Helper()
	for {
		next, err := w.syncer.Step(w.t.Context(), run)
		if err != nil || next.Done {
			return err
		}
		w.clock.SetTime(w.clock.Now().Add(next.After))
	}
}

// sync runs a whole sync that succeeds, and notes that in the instance's status as the controller does. The next one is
// an hour later.
func (w *world) sync(syncType clerkv1alpha1.ClerkInstanceSyncType) *Run {
	w.t.Helper()
	run := w.begin(syncType)
	w.Expect(w.finish(run)).To(Succeed())
	w.succeeded(run)
	return run
}

func (w *world) full() *Run {
	w.t.Helper()
	return w.sync(clerkv1alpha1.SyncFull)
}

func (w *world) succeeded(run *Run) {
	last := &w.config.Status.Sync
	last.LastTime = run.Progress.StartedAt
	if run.Progress.Type == clerkv1alpha1.SyncFull {
		last.LastFullTime, last.LastFullUsers = run.Progress.StartedAt, UsersKey(w.config)
	}
	w.clock.SetTime(w.clock.Now().Add(time.Hour))
}

var mirrored = []clerk.Kind{clerk.KindUser, clerk.KindOrganization, clerk.KindMembership}

// versions returns the resource versions of all that is mirrored, and of the tombstones.
func (w *world) versions() map[string]string {
	w.t.Helper()
	found := map[string]string{}
	for _, kind := range mirrored {
		objects, err := w.mirror.List(w.t.Context(), kind, w.config.Name)
		w.Expect(err).NotTo(HaveOccurred())
		for _, o := range objects {
			found[o.GetClerkID()] = o.GetResourceVersion()
		}
	}
	var tombstones clerkv1alpha1.ClerkTombstoneList
	w.Expect(cluster.List(w.t.Context(), &tombstones, client.MatchingFields{"spec.instanceName": w.config.Name})).To(Succeed())
	for _, tombstone := range tombstones.Items {
		found["tombstone of "+tombstone.Spec.ID] = tombstone.ResourceVersion
	}
	return found
}

// state is what became of an ID in the cluster.
type state string

const (
	stored  state = "stored"
	absent  state = "absent"
	deleted state = "deleted" // or being deleted, with a tombstone
	evicted state = "evicted" // or being deleted, without one
)

func (w *world) state(id string) state {
	w.t.Helper()
	kind, _ := clerk.KindOf(id)
	object, tombstone := mirror.NewObject(kind), &clerkv1alpha1.ClerkTombstone{}
	key := client.ObjectKey{Name: clerk.ObjectName(w.config.Name, id)}
	err := cluster.Get(w.t.Context(), key, object)
	w.Expect(client.IgnoreNotFound(err)).To(Succeed())
	buried := cluster.Get(w.t.Context(), key, tombstone)
	w.Expect(client.IgnoreNotFound(buried)).To(Succeed())
	switch gone := apierrors.IsNotFound(err) || !object.GetDeletionTimestamp().IsZero(); {
	case gone && buried == nil:
		w.Expect(tombstone.Spec.InstanceName).To(Equal(w.config.Name))
		return deleted
	case apierrors.IsNotFound(err):
		return absent
	case gone:
		return evicted
	}
	w.Expect(buried).To(HaveOccurred(), "what is stored has no tombstone")
	return stored
}

// states expects IDs to be in a state.
func (w *world) states(want state, ids ...string) {
	w.t.Helper()
	for _, id := range ids {
		w.Expect(w.state(id)).To(Equal(want), id)
	}
}

func (w *world) user(id string) *clerkv1alpha1.ClerkUser {
	w.t.Helper()
	user := &clerkv1alpha1.ClerkUser{}
	w.Expect(cluster.Get(w.t.Context(), client.ObjectKey{Name: clerk.ObjectName(w.config.Name, id)}, user)).To(Succeed())
	return user
}

// asked returns the paths and queries that Clerk was asked for since the last call, of those that begin so.
func (w *world) asked(prefix string) []string {
	var found []string
	for _, request := range w.clerk.Requests() {
		if strings.HasPrefix(request.Path, prefix) {
			found = append(found, strings.TrimSuffix(request.Path+"?"+request.Query.Encode(), "?"))
		}
	}
	w.clerk.ResetRequests()
	return found
}

// counters returns a metric's values by "kind direction".
func (w *world) counters(name string) map[string]float64 {
	w.t.Helper()
	families, err := w.registry.Gather()
	w.Expect(err).NotTo(HaveOccurred())
	counted := map[string]float64{}
	for _, family := range families {
		if family.GetName() != name {
			continue
		}
		for _, metric := range family.GetMetric() {
			values := map[string]string{}
			for _, label := range metric.GetLabel() {
				values[label.GetName()] = label.GetValue()
			}
			w.Expect(values).To(HaveKeyWithValue("instance", w.config.Name))
			counted[values["kind"]+" "+values["direction"]] = metric.GetCounter().GetValue()
		}
	}
	return counted
}

func ids[T any](of []T, id func(T) string) []string {
	found := make([]string, len(of))
	for i, o := range of {
		found[i] = id(o)
	}
	slices.Sort(found)
	return found
}

func userIDs(users []clerkfake.User) []string {
	return ids(users, func(u clerkfake.User) string { return u.ID })
}

func membershipIDs(memberships []clerkfake.Membership) []string {
	return ids(memberships, func(m clerkfake.Membership) string { return m.ID })
}

// newUserID is the ID of nobody.
func newUserID() string { return payload.NewID("user") }

// otherCase is another ID, whose object would have the same name.
func otherCase(id string) string { return id[:len(id)-1] + strings.ToUpper(id[len(id)-1:]) }

// decoded is a user of an event of now as the mirror takes it.
func decoded(w *world, data map[string]any) *clerk.Object {
	w.t.Helper()
	raw, err := json.Marshal(data)
	w.Expect(err).NotTo(HaveOccurred())
	user, err := clerk.DecodeUser(raw)
	w.Expect(err).NotTo(HaveOccurred())
	return user.Object(clerk.Source{InstanceName: w.config.Name, EventTime: w.clock.Now()})
}
