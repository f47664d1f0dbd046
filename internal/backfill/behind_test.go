// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package backfill

import (
	"context"
	"testing"

	. "github.com/onsi/gomega"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	clerkv1alpha1 "github.com/clerk-operator/clerk-operator/api/v1alpha1"
	"github.com/clerk-operator/clerk-operator/internal/clerk"
	"github.com/clerk-operator/clerk-operator/internal/mirror"
	"github.com/clerk-operator/clerk-operator/test/clerkfake"
)

// frozen is a client whose cache has stopped hearing of changes. Writes reach the API server.
type frozen struct {
	client.Client
	cache client.Reader
}

func (f frozen) Get(ctx context.Context, key client.ObjectKey, into client.Object, options ...client.GetOption) error {
	return f.cache.Get(ctx, key, into, options...)
}

func (f frozen) List(ctx context.Context, list client.ObjectList, options ...client.ListOption) error {
	return f.cache.List(ctx, list, options...)
}

// freeze stops the cache at what is stored of the kinds now; of all others it has heard of nothing.
func (w *world) freeze(lists ...client.ObjectList) {
	w.t.Helper()
	builder := fake.NewClientBuilder().WithScheme(cluster.Scheme())
	for _, object := range []client.Object{
		&clerkv1alpha1.ClerkUser{}, &clerkv1alpha1.ClerkOrganization{}, &clerkv1alpha1.ClerkOrganizationMembership{},
	} {
		builder.WithIndex(object, "spec.instanceName", func(o client.Object) []string {
			return []string{o.(mirror.Object).GetMirrored().InstanceName}
		})
	}
	builder.WithIndex(&clerkv1alpha1.ClerkOrganizationMembership{}, "spec.userID", func(o client.Object) []string {
		return []string{o.(*clerkv1alpha1.ClerkOrganizationMembership).Spec.UserID}
	})
	for _, list := range lists {
		w.Expect(cluster.List(w.t.Context(), list, client.MatchingFields{"spec.instanceName": w.config.Name})).To(Succeed())
		builder.WithLists(list)
	}
	w.mirror = mirror.New(frozen{Client: cluster, cache: builder.Build()}, cluster)
	w.syncer.mirror = w.mirror
}

// lose deletes what is stored of an ID as a restore from before it was made does.
func (w *world) lose(id string) {
	w.t.Helper()
	kind, _ := clerk.KindOf(id)
	key := client.ObjectKey{Name: clerk.ObjectName(w.config.Name, id)}
	for _, o := range []client.Object{mirror.NewObject(kind), &clerkv1alpha1.ClerkTombstone{}} {
		o.SetName(key.Name)
		patch := client.RawPatch("application/merge-patch+json", []byte(`{"metadata":{"finalizers":null}}`))
		w.Expect(client.IgnoreNotFound(cluster.Patch(w.t.Context(), o, patch))).To(Succeed())
		w.Expect(client.IgnoreNotFound(cluster.Delete(w.t.Context(), o))).To(Succeed())
	}
}

func everything() []client.ObjectList {
	return []client.ObjectList{
		&clerkv1alpha1.ClerkUserList{}, &clerkv1alpha1.ClerkOrganizationList{}, &clerkv1alpha1.ClerkOrganizationMembershipList{},
		&clerkv1alpha1.ClerkTombstoneList{},
	}
}

func TestSync_repairsWhatOnlyTheCacheHas(t *testing.T) {
	for _, syncType := range []clerkv1alpha1.ClerkInstanceSyncType{clerkv1alpha1.SyncFull, clerkv1alpha1.SyncIncremental} {
		t.Run(string(syncType), func(t *testing.T) {
			w := newWorld(t)
			acme := w.tenant(2)
			w.full()
			before := w.versions()
			// What happens now was not there when the last sync began.
			late := w.tenant(2)
			w.sync(clerkv1alpha1.SyncIncremental)
			w.config.Status.Sync.LastTime = w.config.Status.Sync.LastFullTime
			w.freeze(everything()...)
			for _, id := range []string{late.ID, late.users[0].ID, late.memberships[0].ID} {
				w.lose(id)
			}
			w.sync(syncType)
			w.states(stored, late.ID, late.users[0].ID, late.memberships[0].ID)
			w.freeze(everything()...)
			after := w.versions()
			for _, id := range []string{acme.ID, acme.users[0].ID, acme.memberships[0].ID} {
				w.Expect(after).To(HaveKeyWithValue(id, before[id]), "what is stored is not written")
			}
		})
	}
}

// What Clerk deleted is gone from the cluster, too, where the cache has not heard that it is there.
func TestFull_deletesWhatTheCacheLacks(t *testing.T) {
	w := newWorld(t)
	w.config.Spec.BackendAPI.Sync.MaxDeletions = new(intstr.FromInt32(10))
	acme := w.tenant(3)
	w.full()
	w.freeze(&clerkv1alpha1.ClerkOrganizationList{}, &clerkv1alpha1.ClerkOrganizationMembershipList{})
	w.clerk.DeleteUser(acme.users[0].ID)
	w.full()
	w.states(deleted, acme.users[0].ID)
	w.states(stored, acme.users[1].ID)
}

// counting counts live reads.
type counting struct {
	client.Reader
	gets, lists int
}

func (c *counting) Get(ctx context.Context, key client.ObjectKey, into client.Object, options ...client.GetOption) error {
	c.gets++
	return c.Reader.Get(ctx, key, into, options...)
}

func (c *counting) List(ctx context.Context, list client.ObjectList, options ...client.ListOption) error {
	c.lists++
	return c.Reader.List(ctx, list, options...)
}

// A sync that finds everything as it should be reads no object by name, and an incremental one that finds nothing new reads
// nothing at all.
func TestSync_confirmsWithoutReadingEachObject(t *testing.T) {
	for _, users := range []clerkv1alpha1.UserMirror{clerkv1alpha1.UserMirrorAll, clerkv1alpha1.UserMirrorMembers} {
		t.Run(string(users), func(t *testing.T) {
			w := newWorld(t)
			w.config.Spec.Users.Mirror = users
			acme := w.tenant(20)
			for _, u := range acme.users {
				w.clerk.Subscribe(u.ID, "pro")
			}
			w.clerk.CreateUser(clerkfake.User{FirstName: "Stranger", Banned: true})
			w.full()
			live := &counting{Reader: cluster}
			w.mirror = mirror.New(cluster, live)
			w.syncer.mirror = w.mirror
			w.full()
			w.Expect(live.gets).To(BeZero())
			w.Expect(live.lists).To(BeNumerically("<", 10))
			live.lists = 0
			w.sync(clerkv1alpha1.SyncIncremental)
			w.Expect(live.gets + live.lists).To(BeZero())
		})
	}
}

// A tombstone that only the cache has keeps nothing away.
func TestFull_bringsBackWhatOnlyTheCacheRemembersAsDeleted(t *testing.T) {
	w := newWorld(t)
	acme := w.tenant(2)
	w.full()
	_, err := w.mirror.Delete(t.Context(), w.config.Name, acme.users[0].ID, w.clock.Now())
	w.Expect(err).NotTo(HaveOccurred())
	w.freeze(everything()...)
	w.lose(acme.users[0].ID)
	run := w.full()
	w.states(stored, acme.users[0].ID)
	w.Expect(run.Outcome().Buried).To(BeEmpty())
}

func TestMembers_areNotToldByACacheThatIsBehind(t *testing.T) {
	w := newWorld(t)
	w.config.Spec.Users.Mirror = clerkv1alpha1.UserMirrorMembers
	acme := w.tenant(2)
	w.full()
	w.freeze(&clerkv1alpha1.ClerkUserList{}, &clerkv1alpha1.ClerkOrganizationList{})

	w.clerk.UpdateUser(acme.users[0].ID, func(u *clerkfake.User) { u.Banned = true })
	w.sync(clerkv1alpha1.SyncIncremental)
	w.Expect(w.user(acme.users[0].ID).Spec.Banned).To(HaveValue(BeTrue()))

	w.clerk.Inject(clerkfake.Fault{Path: "/v1/organization_memberships", EmptyLists: true})
	w.full()
	w.states(stored, userIDs(acme.users)...)
}
