// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package mirror_test

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"testing"

	. "github.com/onsi/gomega"
	"sigs.k8s.io/controller-runtime/pkg/client"

	clerkv1alpha1 "github.com/clerk-operator/clerk-operator/api/v1alpha1"
	"github.com/clerk-operator/clerk-operator/internal/clerk"
	"github.com/clerk-operator/clerk-operator/internal/mirror"
	"github.com/clerk-operator/clerk-operator/test/payload"
)

// event is an event of any type at a time, whose data is of that time as well.
func event(g Gomega, eventType string, data map[string]any, ms int) *clerk.Object {
	data = maps.Clone(data)
	data["updated_at"] = at(ms).UnixMilli()
	body, err := json.Marshal(map[string]any{"type": eventType, "timestamp": at(ms).UnixMilli(), "data": data})
	g.Expect(err).NotTo(HaveOccurred())
	decoded, err := clerk.Decode(body)
	g.Expect(err).NotTo(HaveOccurred())
	return decoded.Object(clerk.Source{InstanceName: "default"})
}

// unsaid is a user's data without what takes access away.
func unsaid(u payload.User) map[string]any {
	u.WithoutBanned = true
	data := u.Data()
	delete(data, "deprovisioned")
	return data
}

func newUser() payload.User {
	return payload.User{ID: payload.NewID("user"), Username: "ann", FirstName: "Ann", CreatedAt: at(0), UpdatedAt: at(1)}
}

// racing is the API server as a replica reads it that is slower than another one: after each read of an object, something
// happens to it.
type racing struct {
	client.Reader
	meanwhile func(read int)
	reads     int
}

func (r *racing) Get(ctx context.Context, key client.ObjectKey, object client.Object, options ...client.GetOption) error {
	err := r.Reader.Get(ctx, key, object, options...)
	r.reads++
	r.meanwhile(r.reads)
	return err
}

func TestApply_anAbsentFlagStaysAsItIsStored(t *testing.T) {
	for name, flag := range map[string]func(data map[string]any){
		"absent": func(data map[string]any) { delete(data, "banned") },
		"null":   func(data map[string]any) { data["banned"] = nil },
	} {
		for _, banned := range []bool{true, false} {
			g := NewWithT(t)
			m := mirror.New(api, api)
			u := newUser()
			u.Banned = banned
			apply(g, event(g, "user.updated", u.Data(), 1))
			data := u.Data()
			data["first_name"], data["username"] = "Anna", nil
			flag(data)
			apply(g, event(g, "user.updated", data, 2))
			g.Expect(stored(g, u.ID).Spec.Banned).To(HaveValue(Equal(banned)), name)
			g.Expect(stored(g, u.ID).Spec.FirstName).To(Equal("Anna"), name)
			g.Expect(stored(g, u.ID).Spec.Username).To(BeEmpty(), "every other absent field goes")

			before := stored(g, u.ID)
			g.Expect(m.Apply(t.Context(), event(g, "user.updated", data, 2))).To(Equal(mirror.Unchanged), "told again")
			data["first_name"] = "Late"
			g.Expect(m.Apply(t.Context(), event(g, "user.updated", data, 1))).To(Equal(mirror.Stale), "late")
			g.Expect(stored(g, u.ID)).To(Equal(before))

			u.Banned = !banned
			apply(g, event(g, "user.updated", u.Data(), 3))
			g.Expect(stored(g, u.ID).Spec.Banned).To(HaveValue(Equal(!banned)), "said again")
		}
	}
}

func TestApply_absentDeprovisionedOfAKnownTypeIsNo(t *testing.T) {
	g := NewWithT(t)
	u := newUser()
	u.Deprovisioned = true
	apply(g, event(g, "user.updated", u.Data(), 1))
	apply(g, event(g, "user.updated", unsaid(u), 2))
	g.Expect(stored(g, u.ID).Spec.Deprovisioned).To(HaveValue(BeFalse()))
}

func TestApply_aUserWhoseFirstStateLacksBanned(t *testing.T) {
	g := NewWithT(t)
	c, counted := counting(g)
	u := newUser()
	g.Expect(mirror.New(c, c).Apply(t.Context(), event(g, "user.created", unsaid(u), 1))).To(Equal(mirror.Applied))
	g.Expect(counted.writes).To(Equal(1))
	g.Expect(stored(g, u.ID).Spec.Banned).To(HaveValue(BeFalse()))
	g.Expect(stored(g, u.ID).Finalizers).To(ConsistOf(clerkv1alpha1.FinalizerUser))
	u.Username = ""
	apply(g, event(g, "user.updated", u.Data(), 2))
	g.Expect(stored(g, u.ID).Spec.Username).To(BeEmpty(), "the first write owns its fields as every later one does")
	g.Expect(stored(g, u.ID).ManagedFields).To(HaveLen(1))
}

func TestApply_aBanThatArrivesBetweenReadAndWriteStays(t *testing.T) {
	for name, tc := range map[string]struct {
		stored bool
		// banAt is when the ban was made: the state that lacks it is of 10.
		banAt int
		want  mirror.Result
	}{
		"an older one":                     {true, 5, mirror.Applied},
		"one of the same time":             {true, 10, mirror.Applied},
		"a newer one":                      {true, 20, mirror.Stale},
		"the user's first state, older":    {false, 5, mirror.Applied},
		"the user's first state, newer":    {false, 20, mirror.Stale},
		"the user's first state, together": {false, 10, mirror.Applied},
	} {
		t.Run(name, func(t *testing.T) {
			g := NewWithT(t)
			u := newUser()
			if tc.stored {
				apply(g, event(g, "user.created", u.Data(), 1))
			}
			ban := u
			ban.Banned = true
			live := &racing{Reader: api, meanwhile: func(read int) {
				if read == 1 {
					apply(g, event(g, "user.updated", ban.Data(), tc.banAt))
				}
			}}
			u.FirstName = "Anna"
			g.Expect(mirror.New(api, live).Apply(t.Context(), event(g, "user.updated", unsaid(u), 10))).To(Equal(tc.want))
			g.Expect(live.reads).To(Equal(2), "a conflict, and read again")
			g.Expect(stored(g, u.ID).Spec.Banned).To(HaveValue(BeTrue()))
			g.Expect(stored(g, u.ID).Spec.FirstName == "Anna").To(Equal(tc.want == mirror.Applied))
		})
	}
}

func TestApply_givesUpWhenOtherWritersAreAlwaysFaster(t *testing.T) {
	g := NewWithT(t)
	u := newUser()
	u.Banned = true
	apply(g, event(g, "user.created", u.Data(), 1))
	live := &racing{Reader: api, meanwhile: func(read int) {
		apply(g, event(g, "user.updated", u.Data(), 1+read))
	}}
	_, err := mirror.New(api, live).Apply(t.Context(), event(g, "user.updated", unsaid(u), 1000))
	g.Expect(err).To(MatchError(ContainSubstring("faster each time")))
	g.Expect(err).NotTo(BeAssignableToTypeOf(&mirror.RefusedError{}), "the event is sent again")
	g.Expect(live.reads).To(BeNumerically("<", 20))
	g.Expect(stored(g, u.ID).Spec.Banned).To(HaveValue(BeTrue()))
}

func TestApply_aStateWithoutBannedOfWhatIsGoing(t *testing.T) {
	g := NewWithT(t)
	m := mirror.New(api, api)
	u := newUser()
	apply(g, event(g, "user.created", u.Data(), 1))
	g.Expect(api.Delete(t.Context(), stored(g, u.ID))).To(Succeed()) // by hand; its finalizer holds it
	_, err := m.Apply(t.Context(), event(g, "user.updated", unsaid(u), 2))
	g.Expect(err).To(MatchError(mirror.ErrTerminating))
	_, err = m.Delete(t.Context(), "default", u.ID, at(3))
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(m.Apply(t.Context(), event(g, "user.updated", unsaid(u), 4))).To(Equal(mirror.Stale))

	v := newUser()
	apply(g, event(g, "user.created", v.Data(), 1))
	v.ID = "user_" + flipCase(v.ID[len("user_"):])
	_, err = m.Apply(t.Context(), event(g, "user.updated", unsaid(v), 2))
	g.Expect(err).To(HaveField("Reason", mirror.ReasonNameTaken))
}

// failing is an API server that must not be read.
type failing struct{ client.Reader }

func (failing) Get(context.Context, client.ObjectKey, client.Object, ...client.GetOption) error {
	return errors.New("a live read")
}

func TestApply_aStateWithBannedIsOneWriteAndNoLiveRead(t *testing.T) {
	g := NewWithT(t)
	c, counted := counting(g)
	m := mirror.New(c, failing{})
	u := newUser()
	g.Expect(m.Apply(t.Context(), event(g, "user.created", u.Data(), 1))).To(Equal(mirror.Applied))
	u.Banned = true
	g.Expect(m.Apply(t.Context(), event(g, "user.updated", u.Data(), 2))).To(Equal(mirror.Applied))
	g.Expect(counted.writes).To(Equal(2))
}

func TestCompare_anAbsentFlagIsNoDifference(t *testing.T) {
	g := NewWithT(t)
	data := sample(clerk.KindUser)
	data["banned"] = true
	apply(g, listed(g, clerk.KindUser, "default", data, at(5)))
	delete(data, "banned")
	expectDifference(g, listed(g, clerk.KindUser, "default", data, at(9)), mirror.Same, "absent")
	data["banned"] = nil
	expectDifference(g, listed(g, clerk.KindUser, "default", data, at(9)), mirror.Same, "null")
	data["first_name"] = "Joan"
	o := listed(g, clerk.KindUser, "default", data, at(9))
	expectDifference(g, o, mirror.Changed, "something else")
	apply(g, o)
	g.Expect(stored(g, o.ID).Spec.Banned).To(HaveValue(BeTrue()))
	g.Expect(stored(g, o.ID).Spec.FirstName).To(Equal("Joan"))
	expectDifference(g, listed(g, clerk.KindUser, "default", data, at(10)), mirror.Same, "after the write")
}

func TestApplyIfMissing_keepsABanThatTheCacheLacks(t *testing.T) {
	g := NewWithT(t)
	u := newUser()
	u.Banned = true
	apply(g, event(g, "user.updated", u.Data(), 1))
	m := mirror.New(emptyCache{api}, api)
	g.Expect(m.ApplyIfMissing(t.Context(), event(g, "user.updated", unsaid(u), 2))).To(Equal(mirror.Applied))
	g.Expect(stored(g, u.ID).Spec.Banned).To(HaveValue(BeTrue()))
}

// emptyCache is a client that has heard of nothing yet.
type emptyCache struct{ client.Client }

func (c emptyCache) Get(ctx context.Context, key client.ObjectKey, object client.Object, options ...client.GetOption) error {
	return c.Client.Get(ctx, client.ObjectKey{Name: key.Name + "-unheard"}, object, options...)
}
