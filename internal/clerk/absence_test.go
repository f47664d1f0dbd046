// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package clerk_test

import (
	"encoding/json"
	"fmt"
	"testing"

	. "github.com/onsi/gomega"

	clerkv1alpha1 "github.com/clerk-operator/clerk-operator/api/v1alpha1"
	clerkv1alpha1ac "github.com/clerk-operator/clerk-operator/api/v1alpha1/applyconfiguration/api/v1alpha1"
	"github.com/clerk-operator/clerk-operator/internal/clerk"
)

// An object of a type that Clerk may add one day, as its data is now.
const (
	unknownUser         = `"object":"user","id":"` + userID + `","updated_at":1716883190000`
	unknownOrganization = `"object":"organization","id":"` + organizationID + `","updated_at":1716883190000`
	unknownMembership   = `"object":"organization_membership","id":"` + membershipID + `","updated_at":1716883190000,
		"organization":{"id":"` + organizationID + `"},"public_user_data":{"user_id":"` + userID + `"},"role":"org:admin"`
)

func decoded(g Gomega, eventType, data string) *clerk.Event {
	event, err := clerk.Decode(envelope(eventType, data))
	g.Expect(err).NotTo(HaveOccurred())
	return event
}

func flagsOf(o *clerk.Object) [2]*bool {
	spec := o.Apply.(*clerkv1alpha1ac.ClerkUserApplyConfiguration).Spec
	return [2]*bool{spec.Banned, spec.Deprovisioned}
}

func TestCompleted_whatIsAbsentStaysAsItIsStored(t *testing.T) {
	yes, no := new(true), new(false)
	for name, tc := range map[string]struct {
		eventType, flags string
		incomplete       bool
		onNothing        [2]*bool // banned and deprovisioned
		onSuspended      [2]*bool
		onUnsaid         [2]*bool
	}{
		"both are said":           {"user.updated", `,"banned":false,"deprovisioned":false`, false, [2]*bool{no, no}, [2]*bool{no, no}, [2]*bool{no, no}},
		"both forbid":             {"user.updated", `,"banned":true,"deprovisioned":true`, false, [2]*bool{yes, yes}, [2]*bool{yes, yes}, [2]*bool{yes, yes}},
		"no deprovisioned":        {"user.updated", `,"banned":false`, false, [2]*bool{no, no}, [2]*bool{no, no}, [2]*bool{no, no}},
		"null deprovisioned":      {"user.updated", `,"banned":false,"deprovisioned":null`, false, [2]*bool{no, no}, [2]*bool{no, no}, [2]*bool{no, no}},
		"no banned":               {"user.updated", ``, true, [2]*bool{no, no}, [2]*bool{yes, no}, [2]*bool{nil, no}},
		"null banned":             {"user.created", `,"banned":null`, true, [2]*bool{no, no}, [2]*bool{yes, no}, [2]*bool{nil, no}},
		"unknown, both are said":  {"user.x", `,"banned":false,"deprovisioned":false`, false, [2]*bool{no, no}, [2]*bool{no, no}, [2]*bool{no, no}},
		"unknown, nothing":        {"user.x", ``, true, [2]*bool{no, no}, [2]*bool{yes, yes}, [2]*bool{nil, nil}},
		"unknown, only banned":    {"user.banned", `,"banned":true,"deprovisioned":null`, true, [2]*bool{yes, no}, [2]*bool{yes, yes}, [2]*bool{yes, nil}},
		"unknown, only the other": {"user.x", `,"deprovisioned":false`, true, [2]*bool{no, no}, [2]*bool{yes, no}, [2]*bool{nil, no}},
	} {
		t.Run(name, func(t *testing.T) {
			g := NewWithT(t)
			o := decoded(g, tc.eventType, `{`+unknownUser+tc.flags+`}`).Object(source)
			g.Expect(o.Incomplete()).To(Equal(tc.incomplete))
			before, err := json.Marshal(o.Apply)
			g.Expect(err).NotTo(HaveOccurred())

			suspended := &clerkv1alpha1.ClerkUser{Spec: clerkv1alpha1.ClerkUserSpec{Banned: new(true), Deprovisioned: new(true)}}
			g.Expect(flagsOf(o.Completed(nil))).To(Equal(tc.onNothing), "nothing is stored")
			g.Expect(flagsOf(o.Completed(suspended))).To(Equal(tc.onSuspended), "suspended")
			g.Expect(flagsOf(o.Completed(&clerkv1alpha1.ClerkUser{}))).To(Equal(tc.onUnsaid), "stored without flags")
			g.Expect(o.Incomplete()).To(Equal(tc.incomplete), "the state itself stays as it was sent")
			g.Expect(json.Marshal(o.Apply)).To(MatchJSON(before))
		})
	}
}

// Each attempt to store a state marks a copy: what one attempt says of the object that it found is not the next one's.
func TestCompleted_isACopy(t *testing.T) {
	g := NewWithT(t)
	o := decoded(g, "user.updated", `{`+unknownUser+`}`).Object(source)
	o.Meta.WithAnnotations(map[string]string{"example.com/a": "b"})
	completed := o.Completed(nil)
	completed.Meta.WithResourceVersion("7").WithAnnotations(map[string]string{"example.com/c": "d"})
	g.Expect(o.Meta.ResourceVersion).To(BeNil())
	g.Expect(o.Meta.Annotations).To(Equal(map[string]string{"example.com/a": "b"}))
	var got struct {
		Metadata struct {
			ResourceVersion string
			Annotations     map[string]string
		}
	}
	recode(g, completed.Apply, &got)
	g.Expect(got.Metadata.ResourceVersion).To(Equal("7"))
	g.Expect(got.Metadata.Annotations).To(HaveLen(2))
}

func TestDecode_anUnknownTypeUpdatesAndNothingElse(t *testing.T) {
	for name, tc := range map[string]struct {
		eventType, data   string
		want, wantRecheck string
	}{
		"a user":                      {"user.banned", unknownUser, userID, ""},
		"a user, not deleted":         {"user.banned", unknownUser + `,"deleted":false`, userID, ""},
		"a user, null deleted":        {"user.banned", unknownUser + `,"deleted":null`, userID, ""},
		"a longer type":               {"user.profile.changed", unknownUser, userID, ""},
		"an organization":             {"organization.renamed", unknownOrganization, organizationID, ""},
		"a membership":                {"organizationMembership.removed", unknownMembership, "", membershipID},
		"a membership of no user":     {"organizationMembership.x", `"object":"organization_membership","id":"` + membershipID + `","updated_at":1`, "", membershipID},
		"no object":                   {"user.x", `"id":"` + userID + `","updated_at":1`, "", ""},
		"another object":              {"user.x", unknownOrganization, "", ""},
		"a session of a user":         {"user.x", `"object":"session","id":"` + userID + `","updated_at":1`, "", ""},
		"no ID":                       {"user.x", `"object":"user","updated_at":1`, "", ""},
		"another kind's ID":           {"user.x", `"object":"user","id":"` + organizationID + `","updated_at":1`, "", ""},
		"a path":                      {"user.x", `"object":"user","id":"user_../x","updated_at":1`, "", ""},
		"no updated_at":               {"user.x", `"object":"user","id":"` + userID + `","created_at":1`, "", ""},
		"updated_at is no time":       {"organization.x", `"object":"organization","id":"` + organizationID + `","updated_at":"soon"`, "", ""},
		"deleted":                     {"user.erased", unknownUser + `,"deleted":true`, "", ""},
		"perhaps deleted":             {"organization.x", unknownOrganization + `,"deleted":"perhaps"`, "", ""},
		"a deleted membership":        {"organizationMembership.x", unknownMembership + `,"deleted":true`, "", ""},
		"another prefix":              {"userGroup.x", unknownUser, "", ""},
		"a user in an organization's": {"organization.x", unknownUser, "", ""},
		"no dot":                      {"user", unknownUser, "", ""},
		"other case":                  {"User.x", unknownUser, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			g := NewWithT(t)
			event := decoded(g, tc.eventType, `{`+tc.data+`}`)
			g.Expect(event.Mirrored()).To(Equal(tc.want != "" || tc.wantRecheck != ""))
			g.Expect(event.Recheck).To(Equal(tc.wantRecheck))
			g.Expect(event.UpdateOnly).To(Equal(tc.want != ""))
			object := event.Object(source)
			if tc.want == "" {
				g.Expect(object).To(BeNil(), "nothing that could be stored")
				return
			}
			g.Expect(object.ID).To(Equal(tc.want))
			g.Expect(object.UpdateOnly).To(BeTrue())
		})
	}
	t.Run("data that is no object", func(t *testing.T) {
		for _, data := range []string{"null", "1", `"` + userID + `"`, "[]"} {
			g := NewWithT(t)
			g.Expect(decoded(g, "user.x", data).Mirrored()).To(BeFalse(), data)
		}
	})
	t.Run("a known type creates", func(t *testing.T) {
		for eventType, data := range map[string]string{
			"user.created": unknownUser, "organization.updated": unknownOrganization, "organizationMembership.created": unknownMembership,
		} {
			g := NewWithT(t)
			event := decoded(g, eventType, `{`+data+`}`)
			g.Expect(event.UpdateOnly).To(BeFalse())
			g.Expect(event.Object(source).UpdateOnly).To(BeFalse())
		}
	})
}

func TestRequestResync_isTheSameForEachDelivery(t *testing.T) {
	g := NewWithT(t)
	for range 2 {
		o := decoded(g, "organization.x", fmt.Sprintf(`{%s}`, unknownOrganization)).Object(source)
		o.RequestResync()
		g.Expect(o.Meta.Annotations).To(Equal(map[string]string{
			clerkv1alpha1.AnnotationResyncRequestedAt: "2024-05-28T08:00:00Z",
		}))
	}
}
