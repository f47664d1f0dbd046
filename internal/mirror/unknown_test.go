// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package mirror_test

import (
	"testing"

	. "github.com/onsi/gomega"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	clerkv1alpha1 "github.com/clerk-operator/clerk-operator/api/v1alpha1"
	"github.com/clerk-operator/clerk-operator/internal/clerk"
	"github.com/clerk-operator/clerk-operator/internal/mirror"
	"github.com/clerk-operator/clerk-operator/test/payload"
)

// expectNothing expects that nothing has the name of an ID.
func expectNothing(t *testing.T, g Gomega, kind clerk.Kind, id string) {
	t.Helper()
	err := api.Get(t.Context(), client.ObjectKey{Name: clerk.ObjectName("default", id)}, mirror.NewObject(kind))
	g.Expect(apierrors.IsNotFound(err)).To(BeTrue(), "error is %v", err)
}

func TestApply_anUnknownTypeUpdatesWhatIsMirrored(t *testing.T) {
	g := NewWithT(t)
	m := mirror.New(api, api)
	u := newUser()
	apply(g, event(g, "user.created", u.Data(), 1))
	u.Banned, u.Deprovisioned = true, true
	apply(g, event(g, "user.banned", u.Data(), 2))
	g.Expect(stored(g, u.ID).Suspended()).To(BeTrue())
	u.FirstName = "Anna"
	apply(g, event(g, "user.renamed", unsaid(u), 3))
	g.Expect(stored(g, u.ID).Spec.FirstName).To(Equal("Anna"))
	g.Expect(stored(g, u.ID).Spec.Banned).To(HaveValue(BeTrue()))
	g.Expect(stored(g, u.ID).Spec.Deprovisioned).To(HaveValue(BeTrue()), "an unknown type lifts nothing by absence")
	g.Expect(m.Apply(t.Context(), event(g, "user.renamed", unsaid(u), 2))).To(Equal(mirror.Stale), "late")
	g.Expect(m.Apply(t.Context(), event(g, "user.renamed", unsaid(u), 3))).To(Equal(mirror.Unchanged), "told again")

	o := payload.Organization{ID: payload.NewID("org"), Name: "Acme", CreatedAt: at(0), UpdatedAt: at(1)}
	apply(g, event(g, "organization.created", o.Data(), 1))
	o.Name = "Acme Inc"
	apply(g, event(g, "organization.renamed", o.Data(), 2))
	g.Expect(object(g, clerk.KindOrganization, o.ID).(*clerkv1alpha1.ClerkOrganization).Spec.Name).To(Equal("Acme Inc"))
}

func TestApply_anUnknownTypeCreatesNothing(t *testing.T) {
	m := mirror.New(api, api)
	for _, data := range []map[string]any{
		newUser().Data(), unsaid(newUser()),
		payload.Organization{ID: payload.NewID("org"), Name: "Acme", CreatedAt: at(0), UpdatedAt: at(1)}.Data(),
	} {
		g := NewWithT(t)
		kind, _ := clerk.KindOf(idOf(data))
		prefix := data["object"].(string)
		g.Expect(m.Apply(t.Context(), event(g, prefix+".x", data, 2))).To(Equal(mirror.Ignored), "never mirrored")
		expectNothing(t, g, kind, idOf(data))

		apply(g, event(g, prefix+".created", data, 1))
		gone := &racing{Reader: api, meanwhile: func(read int) {
			if read == 1 {
				o := object(g, kind, idOf(data))
				o.SetFinalizers(nil)
				g.Expect(api.Update(t.Context(), o)).To(Succeed())
				g.Expect(api.Delete(t.Context(), o)).To(Succeed())
			}
		}}
		g.Expect(mirror.New(api, gone).Apply(t.Context(), event(g, prefix+".x", data, 2))).To(Equal(mirror.Ignored), "gone meanwhile")
		expectNothing(t, g, kind, idOf(data))

		apply(g, event(g, prefix+".created", data, 1))
		g.Expect(api.Delete(t.Context(), object(g, kind, idOf(data)))).To(Succeed()) // its finalizer holds it
		g.Expect(m.Apply(t.Context(), event(g, prefix+".x", data, 2))).To(Equal(mirror.Ignored), "on its way out")
		_, err := m.Delete(t.Context(), "default", idOf(data), at(3))
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(m.Apply(t.Context(), event(g, prefix+".x", data, 4))).To(Equal(mirror.Stale), "deleted in Clerk")
	}
}

func TestApply_anUnknownTypeRequestsAResyncOnce(t *testing.T) {
	g := NewWithT(t)
	c, counted := counting(g)
	m := mirror.New(c, c)
	u := newUser()
	apply(g, event(g, "user.created", u.Data(), 1))
	u.Banned = true
	banned := func() *clerk.Object {
		o := event(g, "user.banned", u.Data(), 2)
		o.RequestResync()
		return o
	}
	g.Expect(m.Apply(t.Context(), banned())).To(Equal(mirror.Applied))
	g.Expect(counted.writes).To(Equal(1), "the state and the request")
	g.Expect(stored(g, u.ID).Annotations).To(HaveKeyWithValue(clerkv1alpha1.AnnotationResyncRequestedAt, "2026-05-01T12:00:00.002Z"))
	g.Expect(m.Apply(t.Context(), banned())).To(Equal(mirror.Unchanged))

	answered := stored(g, u.ID)
	answered.Annotations = nil
	g.Expect(api.Update(t.Context(), answered)).To(Succeed())
	g.Expect(m.Apply(t.Context(), banned())).To(Equal(mirror.Unchanged), "after the resync")
	g.Expect(counted.writes).To(Equal(1))
	g.Expect(stored(g, u.ID).Annotations).To(BeEmpty())
}

func TestRequestResync_changesNothingElse(t *testing.T) {
	g := NewWithT(t)
	c, counted := counting(g)
	m := mirror.New(c, c)
	data := sample(clerk.KindMembership)
	apply(g, listed(g, clerk.KindMembership, "default", data, at(5)))
	before := object(g, clerk.KindMembership, idOf(data)).(*clerkv1alpha1.ClerkOrganizationMembership)
	request := func(ms int) mirror.Result {
		result, err := m.RequestResync(t.Context(), "default", idOf(data), at(ms))
		g.Expect(err).NotTo(HaveOccurred())
		return result
	}
	g.Expect(request(9)).To(Equal(mirror.Applied))
	g.Expect(request(9)).To(Equal(mirror.Unchanged))
	g.Expect(counted.writes).To(Equal(1))
	after := object(g, clerk.KindMembership, idOf(data)).(*clerkv1alpha1.ClerkOrganizationMembership)
	g.Expect(after.Spec).To(Equal(before.Spec))
	g.Expect(after.Generation).To(Equal(before.Generation))
	g.Expect(after.Labels).To(Equal(before.Labels))
	g.Expect(after.Annotations).To(Equal(map[string]string{clerkv1alpha1.AnnotationResyncRequestedAt: "2026-05-01T12:00:00.009Z"}))
	g.Expect(request(10)).To(Equal(mirror.Applied), "another event's request takes its place")

	data["role"] = "org:member"
	apply(g, listed(g, clerk.KindMembership, "default", data, at(20)))
	g.Expect(object(g, clerk.KindMembership, idOf(data)).GetAnnotations()).To(HaveLen(1), "a later state is no answer")
}

func TestRequestResync_whereThereIsNothingToMark(t *testing.T) {
	g := NewWithT(t)
	m := mirror.New(api, api)
	id := payload.NewID("orgmem")
	g.Expect(m.RequestResync(t.Context(), "default", id, at(1))).To(Equal(mirror.Ignored))
	expectNothing(t, g, clerk.KindMembership, id)

	data := sample(clerk.KindMembership)
	apply(g, listed(g, clerk.KindMembership, "default", data, at(5)))
	_, err := m.RequestResync(t.Context(), "default", "orgmem_"+flipCase(idOf(data)[len("orgmem_"):]), at(9))
	g.Expect(err).To(HaveField("Reason", mirror.ReasonNameTaken))
	_, err = m.RequestResync(t.Context(), "default", "sess_x", at(9))
	g.Expect(err).To(HaveField("Reason", mirror.ReasonInvalid))
	g.Expect(m.RequestResync(t.Context(), "other", idOf(data), at(9))).To(Equal(mirror.Ignored), "another instance's")

	_, err = m.Delete(t.Context(), "default", idOf(data), at(9))
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(m.RequestResync(t.Context(), "default", idOf(data), at(10))).To(Equal(mirror.Stale))
}

// An object that took the name of the one that was read is another: its own state is what the event does not know.
func TestRequestResync_marksWhatIsThereByThen(t *testing.T) {
	g := NewWithT(t)
	data := sample(clerk.KindMembership)
	apply(g, listed(g, clerk.KindMembership, "default", data, at(5)))
	old := object(g, clerk.KindMembership, idOf(data))
	g.Expect(api.Delete(t.Context(), old)).To(Succeed())
	behind := mirror.New(cached{Client: api, membership: old.(*clerkv1alpha1.ClerkOrganizationMembership)}, api)
	g.Expect(behind.RequestResync(t.Context(), "default", idOf(data), at(9))).To(Equal(mirror.Ignored), "gone")
	apply(g, listed(g, clerk.KindMembership, "default", data, at(6)))
	g.Expect(behind.RequestResync(t.Context(), "default", idOf(data), at(9))).To(Equal(mirror.Applied), "recreated")
	g.Expect(object(g, clerk.KindMembership, idOf(data)).GetAnnotations()).To(HaveKey(clerkv1alpha1.AnnotationResyncRequestedAt))
}
