// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package mirror_test

import (
	"context"
	"strings"
	"testing"

	. "github.com/onsi/gomega"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	clerkv1alpha1 "github.com/clerk-operator/clerk-operator/api/v1alpha1"
	"github.com/clerk-operator/clerk-operator/internal/clerk"
	"github.com/clerk-operator/clerk-operator/internal/mirror"
	"github.com/clerk-operator/clerk-operator/test/payload"
)

// lost is a client whose cache holds what the API server no longer has, as after a restore. Writes reach the API server.
type lost struct {
	client.Client
	cache client.Reader
}

func (l lost) Get(ctx context.Context, key client.ObjectKey, into client.Object, options ...client.GetOption) error {
	return l.cache.Get(ctx, key, into, options...)
}

// losing returns a client whose cache keeps what is stored of an ID now, and a function that loses it in the API server.
func losing(t *testing.T, g Gomega, id string) (m *mirror.Mirror, lose func()) {
	t.Helper()
	key := client.ObjectKey{Name: clerk.ObjectName("default", id)}
	kind, _ := clerk.KindOf(id)
	var objects []client.Object
	for _, o := range []client.Object{mirror.NewObject(kind), &clerkv1alpha1.ClerkTombstone{}} {
		if err := api.Get(t.Context(), key, o); err == nil {
			objects = append(objects, o)
		}
	}
	cache := fake.NewClientBuilder().WithScheme(api.Scheme()).WithObjects(objects...).Build()
	return mirror.New(lost{Client: api, cache: cache}, api), func() {
		for _, o := range objects {
			patch := client.RawPatch("application/merge-patch+json", []byte(`{"metadata":{"finalizers":null}}`))
			current := o.DeepCopyObject().(client.Object)
			g.Expect(client.IgnoreNotFound(api.Patch(t.Context(), current, patch))).To(Succeed())
			g.Expect(client.IgnoreNotFound(api.Delete(t.Context(), current))).To(Succeed())
		}
	}
}

// An acknowledgement is the end of a delivery: it must not rest on what only the cache holds.
func TestMirror_acknowledgesNothingOnACacheAlone(t *testing.T) {
	g := NewWithT(t)
	u, plan := newUser(), subscribed("", "item", "pro", clerkv1alpha1.BillingItemActive, 5)
	o := payload.Organization{ID: payload.NewID("org"), Name: "Acme", Slug: "acme", CreatedAt: at(0), UpdatedAt: at(1)}
	state := func() *clerk.Object { return event(g, "user.updated", u.Data(), 2) }
	organization := func() *clerk.Object { return event(g, "organization.updated", o.Data(), 2) }
	banned := u
	banned.Banned, banned.UpdatedAt = true, at(10)
	other := "user_" + flipCase(u.ID[len("user_"):])

	for name, tc := range map[string]struct {
		id string
		// world makes what the cache holds; restored is what the API server holds then.
		world, restored func(m *mirror.Mirror) (mirror.Result, error)
		again           func(m *mirror.Mirror) (mirror.Result, error)
	}{
		"Unchanged": {
			id: u.ID,
			world: func(m *mirror.Mirror) (mirror.Result, error) {
				return m.Apply(t.Context(), event(g, "user.updated", banned.Data(), 10))
			},
			restored: func(m *mirror.Mirror) (mirror.Result, error) { return m.Apply(t.Context(), state()) },
			again: func(m *mirror.Mirror) (mirror.Result, error) {
				return m.Apply(t.Context(), event(g, "user.updated", banned.Data(), 10))
			},
		},
		"Unchanged, of a new user": {
			id:    u.ID,
			world: func(m *mirror.Mirror) (mirror.Result, error) { return m.Apply(t.Context(), state()) },
			again: func(m *mirror.Mirror) (mirror.Result, error) { return m.Apply(t.Context(), state()) },
		},
		"Stale": {
			id:       u.ID,
			world:    func(m *mirror.Mirror) (mirror.Result, error) { return m.Delete(t.Context(), "default", u.ID, at(9)) },
			restored: func(m *mirror.Mirror) (mirror.Result, error) { return m.Apply(t.Context(), state()) },
			again: func(m *mirror.Mirror) (mirror.Result, error) {
				return m.Apply(t.Context(), event(g, "user.updated", banned.Data(), 10))
			},
		},
		"a deletion": {
			id:       u.ID,
			world:    func(m *mirror.Mirror) (mirror.Result, error) { return m.Delete(t.Context(), "default", u.ID, at(9)) },
			restored: func(m *mirror.Mirror) (mirror.Result, error) { return m.Apply(t.Context(), state()) },
			again:    func(m *mirror.Mirror) (mirror.Result, error) { return m.Delete(t.Context(), "default", u.ID, at(9)) },
		},
		"a deletion of a name that is taken": {
			id:    u.ID,
			world: func(m *mirror.Mirror) (mirror.Result, error) { return m.Apply(t.Context(), state()) },
			again: func(m *mirror.Mirror) (mirror.Result, error) { return m.Delete(t.Context(), "default", other, at(9)) },
		},
		"a plan": {
			id:       o.ID,
			world:    func(m *mirror.Mirror) (mirror.Result, error) { return planned(t, m, organization(), plan) },
			restored: func(m *mirror.Mirror) (mirror.Result, error) { return m.Apply(t.Context(), organization()) },
			again: func(m *mirror.Mirror) (mirror.Result, error) {
				return m.ApplyBilling(t.Context(), "default", plan, nil)
			},
		},
		"no payer": {
			id: o.ID,
			world: func(m *mirror.Mirror) (mirror.Result, error) {
				_, err := m.Apply(t.Context(), organization())
				g.Expect(err).NotTo(HaveOccurred())
				return mirror.Applied, api.Delete(t.Context(), object(g, clerk.KindOrganization, o.ID))
			},
			restored: func(m *mirror.Mirror) (mirror.Result, error) { return m.Apply(t.Context(), organization()) },
			again: func(m *mirror.Mirror) (mirror.Result, error) {
				return m.ApplyBilling(t.Context(), "default", plan, nil)
			},
		},
		"a request for a resync": {
			id: u.ID,
			world: func(m *mirror.Mirror) (mirror.Result, error) {
				_, err := m.Apply(t.Context(), state())
				g.Expect(err).NotTo(HaveOccurred())
				return m.RequestResync(t.Context(), "default", u.ID, at(7))
			},
			restored: func(m *mirror.Mirror) (mirror.Result, error) { return m.Apply(t.Context(), state()) },
			again: func(m *mirror.Mirror) (mirror.Result, error) {
				return m.RequestResync(t.Context(), "default", u.ID, at(7))
			},
		},
		"what is learned by the way": {
			id:    o.ID,
			world: func(m *mirror.Mirror) (mirror.Result, error) { return m.Apply(t.Context(), organization()) },
			again: func(m *mirror.Mirror) (mirror.Result, error) { return m.ApplyIfMissing(t.Context(), organization()) },
		},
	} {
		t.Run(name, func(t *testing.T) {
			g := NewWithT(t)
			plan.PayerKind, plan.PayerID = clerk.KindOrganization, o.ID
			m := mirror.New(api, api)
			g.Expect(tc.world(m)).To(Equal(mirror.Applied))
			behind, lose := losing(t, g, tc.id)
			lose()
			if tc.restored != nil {
				g.Expect(tc.restored(m)).To(Equal(mirror.Applied))
			}
			g.Expect(tc.again(behind)).To(Equal(mirror.Applied))
			g.Expect(tc.again(m)).NotTo(Equal(mirror.Applied), "it is stored now")
			_, lose = losing(t, g, tc.id)
			lose()
			_, lose = losing(t, g, other)
			lose()
		})
	}
}

// planned stores an organization with its plan.
func planned(t *testing.T, m *mirror.Mirror, o *clerk.Object, plan *clerk.Subscription) (mirror.Result, error) {
	t.Helper()
	if result, err := m.Apply(t.Context(), o); err != nil {
		return result, err
	}
	return m.ApplyBilling(t.Context(), "default", plan, nil)
}

func TestCompare_believesNoCacheThatSomethingIsStored(t *testing.T) {
	g, u := NewWithT(t), newUser()
	m := mirror.New(api, api)
	newest := func() *clerk.Object { return event(g, "user.updated", u.Data(), 2) }
	for name, world := range map[string]func() (mirror.Result, error){
		"the same state": func() (mirror.Result, error) { return m.Apply(t.Context(), newest()) },
		"a tombstone":    func() (mirror.Result, error) { return m.Delete(t.Context(), "default", u.ID, at(9)) },
	} {
		t.Run(name, func(t *testing.T) {
			g := NewWithT(t)
			g.Expect(world()).To(Equal(mirror.Applied))
			behind, lose := losing(t, g, u.ID)
			confirmed, err := behind.Compare(t.Context(), newest(), behind.Listed("default"))
			g.Expect(err).NotTo(HaveOccurred())
			g.Expect(confirmed).To(BeElementOf(mirror.Same, mirror.Dead), "while it is stored")
			lose()
			for _, listed := range []*mirror.Listed{nil, behind.Listed("default")} {
				g.Expect(behind.Compare(t.Context(), newest(), listed)).To(Equal(mirror.Missing))
			}
		})
	}
}

// A sync that finds everything as it should be asks for lists, and not for each object. What was stored since it listed is
// asked for by name.
func TestCompare_isConfirmedByPagesAndNotByObjects(t *testing.T) {
	g := NewWithT(t)
	const instance, number = "paged", 501
	states := make([]*clerk.Object, number)
	for i := range states {
		states[i] = listed(g, clerk.KindUser, instance, sample(clerk.KindUser), at(5))
		apply(g, states[i])
	}
	live, record := counting(g)
	m := mirror.New(api, live)
	pages := m.Listed(instance)
	for _, o := range states {
		g.Expect(m.Compare(t.Context(), o, pages)).To(Equal(mirror.Same))
	}
	lists := 0
	for _, request := range record.reads {
		if strings.Contains(request, "/clerkusers?") {
			g.Expect(request).To(And(ContainSubstring("limit=500"), ContainSubstring("spec.instanceName%3D"+instance)))
			lists++
		}
	}
	g.Expect(lists).To(Equal(2), "two pages: %v", record.reads)
	g.Expect(record.reads).NotTo(ContainElement(ContainSubstring("/clerkusers/")), "no object by name")

	changed := storedIn(g, instance, states[0].ID)
	changed.SetAnnotations(map[string]string{"changed": "meanwhile"})
	g.Expect(api.Update(t.Context(), changed)).To(Succeed())
	record.reads = nil
	g.Expect(m.Compare(t.Context(), states[0], pages)).To(Equal(mirror.Same))
	g.Expect(record.reads).To(ConsistOf(HavePrefix("/apis/clerk-operator.dev/v1alpha1/clerkusers/")))
}

func TestListed_knowsTheMembersOfItsInstance(t *testing.T) {
	g := NewWithT(t)
	data := sample(clerk.KindMembership)
	apply(g, listed(g, clerk.KindMembership, "members", data, at(5)))
	member := data["public_user_data"].(map[string]any)["user_id"].(string)
	m := mirror.New(api, api)
	g.Expect(m.Listed("members").HasMember(t.Context(), member)).To(BeTrue())
	g.Expect(m.Listed("members").HasMember(t.Context(), payload.NewID("user"))).To(BeFalse())
	g.Expect(m.Listed("others").HasMember(t.Context(), member)).To(BeFalse())

	g.Expect(m.IsMember(t.Context(), "members", member)).To(BeTrue())
	g.Expect(m.IsMember(t.Context(), "others", member)).To(BeFalse())
	u := newUser()
	g.Expect(m.IsMember(t.Context(), "default", u.ID)).To(BeFalse())
	apply(g, event(g, "user.created", u.Data(), 1))
	g.Expect(m.IsMember(t.Context(), "default", u.ID)).To(BeTrue(), "the user is mirrored")
}

func storedIn(g Gomega, instanceName, id string) *clerkv1alpha1.ClerkUser {
	user := &clerkv1alpha1.ClerkUser{}
	g.Expect(api.Get(context.Background(), client.ObjectKey{Name: clerk.ObjectName(instanceName, id)}, user)).To(Succeed())
	return user
}

// A cache that has not heard of an object, or holds it as on its way out, keeps no deletion from it.
func TestDelete_deletesWhatTheCacheDoesNotHold(t *testing.T) {
	for name, tc := range map[string]struct{ dying, remembered bool }{
		"not heard of": {}, "not heard of, with a tombstone": {remembered: true},
		"on its way out": {dying: true}, "on its way out, with a tombstone": {dying: true, remembered: true},
	} {
		t.Run(name, func(t *testing.T) {
			g, u := NewWithT(t), newUser()
			m := mirror.New(api, api)
			apply(g, event(g, "user.updated", u.Data(), 2))
			g.Expect(api.Delete(t.Context(), stored(g, u.ID))).To(Succeed())
			behind, lose := losing(t, g, u.ID)
			lose()
			if !tc.dying {
				behind = mirror.New(emptyCache{api}, api)
			}
			if tc.remembered {
				g.Expect(m.Delete(t.Context(), "default", u.ID, at(9))).To(Equal(mirror.Applied))
			}
			restored := event(g, "user.updated", u.Data(), 2).Apply
			g.Expect(api.Apply(t.Context(), restored, client.FieldOwner(mirror.FieldOwner))).To(Succeed())
			g.Expect(behind.Delete(t.Context(), "default", u.ID, at(9))).To(Equal(mirror.Applied))
			g.Expect(stored(g, u.ID).DeletionTimestamp).NotTo(BeNil())
		})
	}
}
