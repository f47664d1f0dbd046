// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package mirror_test

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	. "github.com/onsi/gomega"
	"sigs.k8s.io/controller-runtime/pkg/client"

	clerkv1alpha1 "github.com/clerk-operator/clerk-operator/api/v1alpha1"
	"github.com/clerk-operator/clerk-operator/internal/clerk"
	"github.com/clerk-operator/clerk-operator/internal/mirror"
	"github.com/clerk-operator/clerk-operator/test/payload"
)

// listed is an object as a listing of a time tells it.
func listed(g Gomega, kind clerk.Kind, instanceName string, data map[string]any, readAt time.Time) *clerk.Object {
	raw, err := json.Marshal(data)
	g.Expect(err).NotTo(HaveOccurred())
	from := clerk.Source{InstanceName: instanceName, EventTime: readAt}
	switch kind {
	case clerk.KindUser:
		user, err := clerk.DecodeUser(raw)
		g.Expect(err).NotTo(HaveOccurred())
		return user.Object(from)
	case clerk.KindOrganization:
		organization, err := clerk.DecodeOrganization(raw)
		g.Expect(err).NotTo(HaveOccurred())
		return organization.Object(from)
	default:
		membership, err := clerk.DecodeMembership(raw)
		g.Expect(err).NotTo(HaveOccurred())
		return membership.Object(from)
	}
}

// sample is a new object of a kind with everything in it.
func sample(kind clerk.Kind) map[string]any {
	metadata := map[string]any{"plan": "pro", "seats": 3}
	organization := payload.Organization{
		ID: payload.NewID("org"), Name: "Acme", Slug: "acme", CreatedBy: payload.NewID("user"), CreatedAt: at(0), UpdatedAt: at(1),
		PublicMetadata: metadata,
	}
	switch kind {
	case clerk.KindUser:
		data := payload.User{
			ID: payload.NewID("user"), Email: "jane@example.com", Username: "jane", FirstName: "Jane", LastName: "Doe",
			CreatedAt: at(0), UpdatedAt: at(1), PublicMetadata: metadata,
		}.Data()
		data["external_id"] = "17"
		return data
	case clerk.KindOrganization:
		return organization.Data()
	default:
		return payload.Membership{
			ID: payload.NewID("orgmem"), Role: "org:admin", UserID: payload.NewID("user"), Organization: organization,
			CreatedAt: at(0), UpdatedAt: at(1),
		}.Data()
	}
}

func idOf(data map[string]any) string { return data["id"].(string) }

var kinds = []clerk.Kind{clerk.KindUser, clerk.KindOrganization, clerk.KindMembership}

func apply(g Gomega, o *clerk.Object) {
	result, err := mirror.New(api, api).Apply(context.Background(), o)
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(result).To(Equal(mirror.Applied))
}

func expectDifference(g Gomega, o *clerk.Object, want mirror.Difference, name string) {
	got, err := mirror.New(api, api).Compare(context.Background(), o, nil)
	g.Expect(err).NotTo(HaveOccurred(), name)
	g.Expect(got).To(Equal(want), name)
}

func object(g Gomega, kind clerk.Kind, id string) mirror.Object {
	o := mirror.NewObject(kind)
	g.Expect(api.Get(context.Background(), client.ObjectKey{Name: clerk.ObjectName("default", id)}, o)).To(Succeed())
	return o
}

func TestCompare_isTheSameWheneverItWasLearned(t *testing.T) {
	for _, kind := range kinds {
		t.Run(string(kind), func(t *testing.T) {
			g := NewWithT(t)
			data := sample(kind)
			expectDifference(g, listed(g, kind, "default", data, at(5)), mirror.Missing, "before it is stored")
			apply(g, listed(g, kind, "default", data, at(5)))
			before := object(g, kind, idOf(data))
			for name, readAt := range map[string]time.Time{"then": at(5), "later": at(500), "before": at(2), "not known": {}} {
				expectDifference(g, listed(g, kind, "default", data, readAt), mirror.Same, name)
			}
			for _, private := range []string{"private_metadata", "unsafe_metadata", "phone_numbers", "last_sign_in_at", "locked", "has_image", "role_name"} {
				changed := maps.Clone(data)
				changed[private] = []any{"changed"}
				expectDifference(g, listed(g, kind, "default", changed, at(9)), mirror.Same, private)
			}
			g.Expect(object(g, kind, idOf(data))).To(Equal(before), "a comparison writes nothing")
		})
	}
}

func TestCompare_findsEveryChange(t *testing.T) {
	email := func(address, status string) []any {
		return []any{map[string]any{"id": "idn_primary", "email_address": address, "verification": map[string]any{"status": status}}}
	}
	changes := map[clerk.Kind]map[string][]any{
		clerk.KindUser: {
			"external_id": {"18", "", nil}, "username": {"john", nil}, "first_name": {"Jane-Ann", "jane", nil}, "last_name": {"Dö", nil},
			"banned": {true}, "deprovisioned": {true, "perhaps"},
			"email_addresses":          {email("j@example.com", "verified"), email("jane@example.com", "unverified"), []any{}},
			"primary_email_address_id": {nil, "idn_other"},
			"public_metadata": {
				map[string]any{"plan": "pro"}, map[string]any{"plan": "free", "seats": 3}, map[string]any{"plan": "pro", "seats": 3.5},
				map[string]any{"plan": "pro", "seats": "3"}, map[string]any{"plan": "pro", "seats": 3, "more": map[string]any{}}, nil,
			},
			"created_at": {at(7).UnixMilli(), nil}, "updated_at": {at(2).UnixMilli()},
		},
		clerk.KindOrganization: {
			"name": {"Acme Inc", "ACME"}, "slug": {"acme-inc", nil}, "created_by": {payload.NewID("user"), nil},
			"max_allowed_memberships": {0, 6, nil}, "public_metadata": {map[string]any{"plan": []any{"pro"}, "seats": 3}, nil},
			"created_at": {at(7).UnixMilli(), nil}, "updated_at": {at(2).UnixMilli()},
		},
		clerk.KindMembership: {
			"role": {"org:member", "admin", "", nil}, "created_at": {at(7).UnixMilli(), nil}, "updated_at": {at(2).UnixMilli()},
		},
	}
	for kind, fields := range changes {
		g := NewWithT(t)
		data := sample(kind)
		apply(g, listed(g, kind, "default", data, at(5)))
		for field, values := range fields {
			for _, value := range values {
				name := fmt.Sprintf("%s of %s is %v", field, kind, value)
				changed := maps.Clone(data)
				changed[field] = value
				expectDifference(g, listed(g, kind, "default", changed, at(9)), mirror.Changed, name)
			}
		}
		expectDifference(g, listed(g, kind, "default", data, at(9)), mirror.Same, "unchanged")
	}
}

// The profile Minimal stores less of a user, which is a change as well.
func TestCompare_findsAnotherProfile(t *testing.T) {
	g := NewWithT(t)
	data := sample(clerk.KindUser)
	apply(g, listed(g, clerk.KindUser, "default", data, at(5)))
	raw, err := json.Marshal(data)
	g.Expect(err).NotTo(HaveOccurred())
	user, err := clerk.DecodeUser(raw)
	g.Expect(err).NotTo(HaveOccurred())
	minimal := func(readAt time.Time) *clerk.Object {
		return user.Object(clerk.Source{InstanceName: "default", Profile: clerkv1alpha1.UserProfileMinimal, EventTime: readAt})
	}
	expectDifference(g, minimal(at(6)), mirror.Changed, "before")
	apply(g, minimal(at(6)))
	expectDifference(g, minimal(at(7)), mirror.Same, "after")
	g.Expect(stored(g, idOf(data)).Spec.Email).To(BeEmpty())
}

func TestCompare_findsWhatSomebodyTookAway(t *testing.T) {
	for name, tc := range map[string]struct {
		kind  clerk.Kind
		patch string
		want  mirror.Difference
	}{
		"a label":              {clerk.KindUser, `{"metadata":{"labels":{"clerk-operator.dev/user-id":null}}}`, mirror.Changed},
		"a label's value":      {clerk.KindMembership, `{"metadata":{"labels":{"clerk-operator.dev/organization-id":"org_x"}}}`, mirror.Changed},
		"the instance's label": {clerk.KindOrganization, `{"metadata":{"labels":{"clerk-operator.dev/instance":null}}}`, mirror.Changed},
		"all labels":           {clerk.KindMembership, `{"metadata":{"labels":null}}`, mirror.Changed},
		"a user's finalizer":   {clerk.KindUser, `{"metadata":{"finalizers":null}}`, mirror.Changed},
		"a tenant's finalizer": {clerk.KindOrganization, `{"metadata":{"finalizers":["example.com/other"]}}`, mirror.Changed},
		"a field":              {clerk.KindMembership, `{"spec":{"role":"org:owner"}}`, mirror.Changed},
		"a field that is gone": {clerk.KindUser, `{"spec":{"email":null}}`, mirror.Changed},

		"another label":           {clerk.KindUser, `{"metadata":{"labels":{"example.com/team":"a"}}}`, mirror.Same},
		"another annotation":      {clerk.KindUser, `{"metadata":{"annotations":{"example.com/team":"a"}}}`, mirror.Same},
		"a finalizer beside ours": {clerk.KindUser, `{"metadata":{"finalizers":["example.com/other","clerk-operator.dev/user-access"]}}`, mirror.Same},
	} {
		t.Run(name, func(t *testing.T) {
			g := NewWithT(t)
			data := sample(tc.kind)
			apply(g, listed(g, tc.kind, "default", data, at(5)))
			patch := client.RawPatch("application/merge-patch+json", []byte(tc.patch))
			g.Expect(api.Patch(t.Context(), object(g, tc.kind, idOf(data)), patch)).To(Succeed())
			expectDifference(g, listed(g, tc.kind, "default", data, at(9)), tc.want, "after it")
			if tc.want == mirror.Changed {
				apply(g, listed(g, tc.kind, "default", data, at(9)))
				expectDifference(g, listed(g, tc.kind, "default", data, at(10)), mirror.Same, "after it was repaired")
			}
		})
	}
}

func TestCompare_whatIsDeletedIsDead(t *testing.T) {
	m := mirror.New(api, api)
	membership := func(g Gomega) (data map[string]any, o *clerk.Object) {
		data = sample(clerk.KindMembership)
		return data, listed(g, clerk.KindMembership, "default", data, at(5))
	}
	for _, kind := range kinds {
		t.Run("by a tombstone: "+string(kind), func(t *testing.T) {
			g := NewWithT(t)
			o := listed(g, kind, "default", sample(kind), at(5))
			_, err := m.Delete(t.Context(), "default", o.ID, at(6))
			g.Expect(err).NotTo(HaveOccurred())
			expectDifference(g, o, mirror.Dead, "never stored")
		})
	}
	for i, parent := range []string{"organization", "user"} {
		t.Run("by the tombstone of its "+parent, func(t *testing.T) {
			g := NewWithT(t)
			data, o := membership(g)
			_, err := m.Delete(t.Context(), "default", o.Parents[i], at(6))
			g.Expect(err).NotTo(HaveOccurred())
			expectDifference(g, o, mirror.Dead, "never stored")
			_, stillThere := membership(g)
			expectDifference(g, stillThere, mirror.Missing, "another one")
			expectDifference(g, listed(g, clerk.KindMembership, "other", data, at(5)), mirror.Missing, "another instance's")
		})
	}
	t.Run("being deleted", func(t *testing.T) {
		g := NewWithT(t)
		o := listed(g, clerk.KindUser, "default", sample(clerk.KindUser), at(5))
		apply(g, o)
		g.Expect(api.Delete(t.Context(), stored(g, o.ID))).To(Succeed()) // its finalizer holds it
		expectDifference(g, o, mirror.Dead, "and not missing or changed")
	})
	t.Run("by another instance", func(t *testing.T) {
		g := NewWithT(t)
		o := listed(g, clerk.KindUser, "default", sample(clerk.KindUser), at(5))
		_, err := m.Delete(t.Context(), "other", o.ID, at(6))
		g.Expect(err).NotTo(HaveOccurred())
		expectDifference(g, o, mirror.Missing, "its word is not about this instance")
	})
}

// What the API server stores must compare as the same, or each sync would write it and tell of a webhook that is lost.
func TestCompare_storedMetadataIsTheSame(t *testing.T) {
	nested := strings.Repeat(`{"a":[`, 15) + "1" + strings.Repeat("]}", 15)
	for name, tc := range map[string]struct {
		metadata string
		again    string
	}{
		"key order":             {`{"b":{"d":1,"c":2},"a":[1,2]}`, ` { "a" : [ 1, 2 ], "b" : { "c" : 2, "d" : 1 } } `},
		"whole numbers":         {`{"n":[1,0,-1,9007199254740993,-9223372036854775808]}`, ""},
		"a number with a point": {`{"n":1.0}`, `{"n":1}`},
		"a number with a power": {`{"n":1e3}`, `{"n":1000}`},
		"numbers with parts":    {`{"n":[0.1,1.5,1e-7,1.7976931348623157e308,123456789.123456789]}`, ""},
		"very large numbers":    {`{"n":[9223372036854775808,18446744073709551615,1e21,123456789012345678901234567890]}`, ""},
		"minus zero":            {`{"n":[-0,-0.0]}`, ""},
		"null":                  {`{"a":null,"b":{"c":null},"d":[null]}`, ""},
		"truth":                 {`{"a":true,"b":false,"c":"true"}`, ""},
		"empty":                 {`{"a":{},"b":[],"c":""}`, ""},
		"angle brackets":        {`{"<b>&amp;</b>":"<script>alert('&')</script>"}`, `{"\u003cb\u003e\u0026amp;\u003c/b\u003e":"\u003cscript\u003ealert('\u0026')\u003c/script\u003e"}`},
		"unicode":               {`{"name":"Zoë 東京 🚀 \u200d","ключ":"значение"}`, `{"name":"Zo\u00eb \u6771\u4eac \ud83d\ude80 \u200d","\u043a\u043b\u044e\u0447":"значение"}`},
		"line separators":       {`{"a":"\u2028\u2029\u0001\t\n\\\"/"}`, `{"a":"\u2028\u2029\u0001\u0009\u000a\u005c\u0022\/"}`},
		"half a character":      {`{"a":"\ud800x"}`, ""},
		"no metadata":           {`{}`, `null`},
		"deep":                  {nested, ""},
		"an empty key":          {`{"":{"":1}}`, ""},
		"keys of Kubernetes":    {`{"metadata":{"name":"x"},"kind":"Secret","apiVersion":"v1","x.y/z":1,"~1":2}`, ""},
		"a key twice":           {`{"a":1,"a":2}`, `{"a":2}`},
	} {
		t.Run(name, func(t *testing.T) {
			for _, kind := range []clerk.Kind{clerk.KindUser, clerk.KindOrganization} {
				g := NewWithT(t)
				data := sample(kind)
				data["public_metadata"] = json.RawMessage(tc.metadata)
				o := listed(g, kind, "default", data, at(5))
				g.Expect(o.Dropped).To(BeEmpty())
				apply(g, o)
				expectDifference(g, listed(g, kind, "default", data, at(9)), mirror.Same, "the same")
				if tc.again != "" {
					data["public_metadata"] = json.RawMessage(tc.again)
					expectDifference(g, listed(g, kind, "default", data, at(9)), mirror.Same, "the same in other words")
				}
				result, err := mirror.New(api, api).Apply(t.Context(), listed(g, kind, "default", data, at(5)))
				g.Expect(err).NotTo(HaveOccurred())
				g.Expect(result).To(Equal(mirror.Unchanged))
			}
		})
	}
}

func TestCompare_storedTextIsTheSame(t *testing.T) {
	for name, text := range map[string]string{
		"angle brackets": `<b>"Tom" & 'Jerry'</b>`, "unicode": "Zoë 東京 🚀", "joiners": "👩\u200d🚀", "decomposed": "Zoe\u0308",
		"what is cleaned": "a\u2028b\x00c\u202ed\t  e", "what is cut": strings.Repeat("東", 300), "what looks like more": "null", "a number": "1e3",
	} {
		t.Run(name, func(t *testing.T) {
			g := NewWithT(t)
			for kind, fields := range map[clerk.Kind][]string{
				clerk.KindUser: {"first_name", "last_name", "username", "external_id"}, clerk.KindOrganization: {"name", "slug"},
			} {
				data := sample(kind)
				for _, field := range fields {
					data[field] = text
				}
				apply(g, listed(g, kind, "default", data, at(5)))
				expectDifference(g, listed(g, kind, "default", data, at(9)), mirror.Same, string(kind))
			}
		})
	}
}

// What Clerk sends without a time of its own has the time at which it was read, which is not a change each time.
func TestCompare_aStateWithoutATimeIsTheSame(t *testing.T) {
	for _, kind := range kinds {
		g := NewWithT(t)
		data := sample(kind)
		data["updated_at"] = nil
		apply(g, listed(g, kind, "default", data, at(5)))
		expectDifference(g, listed(g, kind, "default", data, at(9)), mirror.Same, string(kind))
	}
}

func TestApplyIfMissing(t *testing.T) {
	m := mirror.New(api, api)
	t.Run("stores what is missing", func(t *testing.T) {
		g := NewWithT(t)
		o := listed(g, clerk.KindOrganization, "default", sample(clerk.KindOrganization), at(5))
		result, err := m.ApplyIfMissing(t.Context(), o)
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(result).To(Equal(mirror.Applied))
		g.Expect(object(g, clerk.KindOrganization, o.ID).GetMirrored().EventTime.Time).To(BeTemporally("==", at(5)))
	})
	t.Run("leaves what is there", func(t *testing.T) {
		g := NewWithT(t)
		data := sample(clerk.KindOrganization)
		apply(g, listed(g, clerk.KindOrganization, "default", data, at(5)))
		before := object(g, clerk.KindOrganization, idOf(data))
		data["name"], data["updated_at"] = "Newer", at(100).UnixMilli()
		result, err := m.ApplyIfMissing(t.Context(), listed(g, clerk.KindOrganization, "default", data, at(100)))
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(result).To(Equal(mirror.Unchanged))
		g.Expect(object(g, clerk.KindOrganization, idOf(data))).To(Equal(before))
	})
	t.Run("brings nothing back", func(t *testing.T) {
		g := NewWithT(t)
		o := listed(g, clerk.KindOrganization, "default", sample(clerk.KindOrganization), at(5))
		_, err := m.Delete(t.Context(), "default", o.ID, at(6))
		g.Expect(err).NotTo(HaveOccurred())
		result, err := m.ApplyIfMissing(t.Context(), o)
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(result).To(Equal(mirror.Stale))
	})
}

// Which of two states of one version is the true one only Clerk can say, so it is asked.
func TestApply_aTieAsksForTheTruth(t *testing.T) {
	asked := func(g Gomega, o *clerk.Object) string {
		return object(g, o.Kind, o.ID).GetAnnotations()[clerkv1alpha1.AnnotationResyncRequestedAt]
	}
	changes := map[clerk.Kind]func(map[string]any){
		clerk.KindUser:         func(data map[string]any) { data["banned"] = true },
		clerk.KindOrganization: func(data map[string]any) { data["slug"] = "other" },
		clerk.KindMembership:   func(data map[string]any) { data["role"] = "org:member" },
	}
	for kind, change := range changes {
		t.Run(string(kind), func(t *testing.T) {
			g := NewWithT(t)
			data := sample(kind)
			first := listed(g, kind, "default", data, at(5))
			apply(g, first)
			g.Expect(asked(g, first)).To(BeEmpty(), "the first one")
			result, err := mirror.New(api, api).Apply(t.Context(), listed(g, kind, "default", data, at(5)))
			g.Expect(err).NotTo(HaveOccurred())
			g.Expect(result).To(Equal(mirror.Unchanged))
			g.Expect(asked(g, first)).To(BeEmpty(), "the same again")

			tied := maps.Clone(data)
			change(tied)
			apply(g, listed(g, kind, "default", tied, at(5)))
			g.Expect(asked(g, first)).To(Equal("2026-05-01T12:00:00.005Z"))
			apply(g, listed(g, kind, "default", data, at(6)))
			g.Expect(asked(g, first)).To(BeEmpty(), "a later event answers")
		})
	}
	t.Run("a version of its own", func(t *testing.T) {
		g := NewWithT(t)
		data := sample(clerk.KindUser)
		apply(g, listed(g, clerk.KindUser, "default", data, at(5)))
		data["username"] = "later"
		o := listed(g, clerk.KindUser, "default", data, at(6))
		apply(g, o)
		g.Expect(asked(g, o)).To(BeEmpty(), "another event time")
		data["username"], data["updated_at"] = "changed", at(2).UnixMilli()
		o = listed(g, clerk.KindUser, "default", data, at(6))
		apply(g, o)
		g.Expect(asked(g, o)).To(BeEmpty(), "another time of change")
	})
	t.Run("somebody's own request stays", func(t *testing.T) {
		g := NewWithT(t)
		data := sample(clerk.KindUser)
		o := listed(g, clerk.KindUser, "default", data, at(5))
		apply(g, o)
		patch := fmt.Sprintf(`{"metadata":{"annotations":{%q:"now"}}}`, clerkv1alpha1.AnnotationResyncRequestedAt)
		g.Expect(api.Patch(t.Context(), stored(g, o.ID), client.RawPatch("application/merge-patch+json", []byte(patch)))).To(Succeed())
		data["username"] = "later"
		apply(g, listed(g, clerk.KindUser, "default", data, at(6)))
		g.Expect(asked(g, o)).To(Equal("now"))
	})
}

func TestList_isOfOneInstanceAndKind(t *testing.T) {
	m := mirror.New(api, api)
	instances := []string{"list-a-" + clerk.ObjectName("default", payload.NewID("x")), "list-b-" + clerk.ObjectName("default", payload.NewID("x"))}
	for _, kind := range kinds {
		g := NewWithT(t)
		want := map[string][]string{}
		for i, instanceName := range []string{instances[0], instances[0], instances[1]} {
			o := listed(g, kind, instanceName, sample(kind), at(i+1))
			apply(g, o)
			want[instanceName] = append(want[instanceName], o.ID)
		}
		for instanceName, ids := range want {
			objects, err := m.List(t.Context(), kind, instanceName)
			g.Expect(err).NotTo(HaveOccurred())
			var found []string
			for _, o := range objects {
				g.Expect(o.GetMirrored().InstanceName).To(Equal(instanceName))
				found = append(found, o.GetClerkID())
			}
			g.Expect(found).To(ConsistOf(ids))
		}
		objects, err := m.List(t.Context(), kind, "list-nothing")
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(objects).To(BeEmpty())
	}
}

func TestHasMembership_isOfOneInstance(t *testing.T) {
	g := NewWithT(t)
	m := mirror.New(api, api)
	data := sample(clerk.KindMembership)
	o := listed(g, clerk.KindMembership, "default", data, at(5))
	userID := o.Parents[1]
	has := func(instanceName, id string) bool {
		found, err := m.HasMembership(t.Context(), instanceName, id)
		g.Expect(err).NotTo(HaveOccurred())
		return found
	}
	g.Expect(has("default", userID)).To(BeFalse())
	apply(g, o)
	g.Expect(has("default", userID)).To(BeTrue())
	g.Expect(has("other", userID)).To(BeFalse())
	g.Expect(has("default", payload.NewID("user"))).To(BeFalse())
	_, err := m.Delete(t.Context(), "default", o.ID, at(6))
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(has("default", userID)).To(BeFalse())
}
