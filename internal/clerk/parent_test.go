// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package clerk_test

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	. "github.com/onsi/gomega"

	clerkv1alpha1 "github.com/clerk-operator/clerk-operator/api/v1alpha1"
	"github.com/clerk-operator/clerk-operator/internal/clerk"
)

func membershipOf(organization string) json.RawMessage {
	return fmt.Appendf(nil, `{"id":%q,"role":"org:admin","created_at":1716883300000,"updated_at":1716883400000,
		"organization":%s,"public_user_data":{"user_id":%q,"identifier":"jane@example.com"}}`, membershipID, organization, userID)
}

func TestOrganizationObject_isAStateOfItsOwnTime(t *testing.T) {
	g := NewWithT(t)
	membership, err := clerk.DecodeMembership(membershipOf(`{"id":"` + organizationID + `","name":"Acme","slug":"acme",
		"created_by":"` + userID + `","max_allowed_memberships":0,"public_metadata":{"plan":"pro"},"private_metadata":{"a":"canary"},
		"created_at":1716883100000,"updated_at":1716883200000}`))
	g.Expect(err).NotTo(HaveOccurred())
	updated := time.UnixMilli(1716883200000)
	object := membership.OrganizationObject(clerk.Source{InstanceName: "prod", EventTime: updated.Add(time.Hour)})
	g.Expect(object.Kind).To(Equal(clerk.KindOrganization))
	g.Expect(object.ID).To(Equal(organizationID))
	g.Expect(object.InstanceName).To(Equal("prod"))
	g.Expect(object.Parents).To(BeEmpty())
	g.Expect(object.UpdatedAt).To(BeTemporally("==", updated))
	g.Expect(object.EventTime).To(BeTemporally("==", updated), "whenever the membership's event was")
	var got clerkv1alpha1.ClerkOrganization
	recode(g, object.Apply, &got)
	g.Expect(got.Labels).To(HaveKeyWithValue(clerkv1alpha1.LabelOrganizationID, organizationID))
	g.Expect(got.Finalizers).To(ConsistOf(clerkv1alpha1.FinalizerOrganization))
	g.Expect(got.Spec.EventTime.Time).To(BeTemporally("==", updated))
	g.Expect(got.Spec.CreatedAt.Time).To(BeTemporally("==", time.UnixMilli(1716883100000)))
	g.Expect(got.Spec.Name).To(Equal("Acme"))
	g.Expect(got.Spec.Slug).To(Equal("acme"))
	g.Expect(got.Spec.CreatedBy).To(Equal(userID))
	g.Expect(got.Spec.MaxAllowedMemberships).To(HaveValue(BeEquivalentTo(0)))
	g.Expect(got.Spec.PublicMetadata.Raw).To(MatchJSON(`{"plan":"pro"}`))
	encoded, err := json.Marshal(object.Apply)
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(string(encoded)).NotTo(Or(ContainSubstring("canary"), ContainSubstring("jane")))

	of := membership.Object(clerk.Source{InstanceName: "prod", EventTime: updated.Add(time.Hour)})
	g.Expect(of.EventTime).To(BeTemporally("==", updated.Add(time.Hour)), "the membership's own is the event's")
}

// An envelope in whole seconds is older than the state in it; the organization's own event must be stored all the same.
func TestOrganizationObject_doesNotKeepItsOwnEventOut(t *testing.T) {
	g := NewWithT(t)
	organization := `{"id":"` + organizationID + `","name":"Acme","updated_at":1716883200123}`
	membership, err := clerk.DecodeMembership(membershipOf(organization))
	g.Expect(err).NotTo(HaveOccurred())
	object := membership.OrganizationObject(source)
	event, err := clerk.Decode(envelope("organization.updated", organization)) // of 1716883200
	g.Expect(err).NotTo(HaveOccurred())
	own := event.Object(source)
	g.Expect(own.UpdatedAt).To(BeTemporally("==", object.UpdatedAt))
	g.Expect(own.EventTime).NotTo(BeTemporally("<", object.EventTime))
}

func TestOrganizationObject_needsATime(t *testing.T) {
	for name, organization := range map[string]string{
		"none":           `{"id":"` + organizationID + `","name":"Acme"}`,
		"only its birth": `{"id":"` + organizationID + `","created_at":1716883100000}`,
		"null":           `{"id":"` + organizationID + `","created_at":1716883100000,"updated_at":null}`,
		"unbelievable":   `{"id":"` + organizationID + `","updated_at":9e15}`,
		"another type":   `{"id":"` + organizationID + `","updated_at":{"seconds":1716883200}}`,
		"no number":      `{"id":"` + organizationID + `","updated_at":"today"}`,
	} {
		t.Run(name, func(t *testing.T) {
			g := NewWithT(t)
			membership, err := clerk.DecodeMembership(membershipOf(organization))
			g.Expect(err).NotTo(HaveOccurred())
			g.Expect(membership.OrganizationObject(source)).To(BeNil())
		})
	}
}

// decoders read an object of a listing, of which nothing but a reason may be told.
var decoders = map[clerk.Kind]func(json.RawMessage) (any, error){
	clerk.KindUser:         func(raw json.RawMessage) (any, error) { return clerk.DecodeUser(raw) },
	clerk.KindOrganization: func(raw json.RawMessage) (any, error) { return clerk.DecodeOrganization(raw) },
	clerk.KindMembership:   func(raw json.RawMessage) (any, error) { return clerk.DecodeMembership(raw) },
}

func TestDecodeOfAListing_refusesWhatCannotBeUsed(t *testing.T) {
	organization, user := `"organization":{"id":"`+organizationID+`"}`, `"public_user_data":{"user_id":"`+userID+`"}`
	all := []clerk.Kind{clerk.KindUser, clerk.KindOrganization, clerk.KindMembership}
	for name, tc := range map[string]struct {
		kinds      []clerk.Kind
		raw        string
		wantReason string
	}{
		"nothing":                  {all, ``, "NoData"},
		"null":                     {all, `null`, "NoData"},
		"a string":                 {all, `"jane@example.com"`, "MalformedData"},
		"an array":                 {all, `[{"id":"` + userID + `"}]`, "MalformedData"},
		"truncated":                {all, `{"id":"` + userID, "MalformedData"},
		"no ID":                    {all, `{"object":"user"}`, "NoID"},
		"a number for an ID":       {all, `{"id":1}`, "NoID"},
		"a path for an ID":         {all, `{"id":"../jane@example.com"}`, "InvalidID"},
		"a session":                {all, `{"id":"sess_x"}`, "InvalidID"},
		"an organization":          {[]clerk.Kind{clerk.KindUser, clerk.KindMembership}, `{"id":"` + organizationID + `"}`, "InvalidID"},
		"a user":                   {[]clerk.Kind{clerk.KindOrganization, clerk.KindMembership}, `{"id":"` + userID + `"}`, "InvalidID"},
		"a membership":             {[]clerk.Kind{clerk.KindUser, clerk.KindOrganization}, `{"id":"` + membershipID + `"}`, "InvalidID"},
		"of no organization":       {[]clerk.Kind{clerk.KindMembership}, `{"id":"` + membershipID + `",` + user + `}`, "NoOrganization"},
		"of null":                  {[]clerk.Kind{clerk.KindMembership}, `{"id":"` + membershipID + `","organization":null,` + user + `}`, "NoOrganization"},
		"of nobody":                {[]clerk.Kind{clerk.KindMembership}, `{"id":"` + membershipID + `",` + organization + `}`, "NoUser"},
		"of a user who is deleted": {[]clerk.Kind{clerk.KindMembership}, `{"id":"` + membershipID + `",` + organization + `,"public_user_data":null}`, "NoUser"},
	} {
		for _, kind := range tc.kinds {
			t.Run(name+" for "+string(kind), func(t *testing.T) {
				g := NewWithT(t)
				_, err := decoders[kind](json.RawMessage(tc.raw))
				g.Expect(err).To(BeAssignableToTypeOf(&clerk.UnusableError{}))
				g.Expect(err).To(HaveField("Reason", tc.wantReason))
				g.Expect(err.Error()).NotTo(ContainSubstring("jane"))
			})
		}
	}
}

func TestDecodeOfAListing_isLenient(t *testing.T) {
	g := NewWithT(t)
	user, err := clerk.DecodeUser(json.RawMessage(` {"id":"` + userID + `","first_name":17,"banned":"perhaps","new":{"a":[1]}}`))
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(user.FirstName).To(BeEmpty())
	g.Expect(user.Banned).To(HaveValue(BeEquivalentTo(true)))
	organization, err := clerk.DecodeOrganization(json.RawMessage(`{"id":"` + organizationID + `","name":["Acme"],"slug":"acme"}`))
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(organization.Slug).To(Equal("acme"))
	membership, err := clerk.DecodeMembership(membershipOf(`{"id":"` + organizationID + `","name":1}`))
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(membership.Role).To(Equal("org:admin"))
	g.Expect(membership.PublicUserData.UserID).To(Equal(userID))
}

// An object that a listing carries is the one that an event carries: else every sync would write what webhooks wrote.
func TestDecodeOfAListing_isTheStateOfAnEvent(t *testing.T) {
	for name, body := range fixtures(t) {
		var delivery struct {
			Data json.RawMessage `json:"data"`
		}
		g := NewWithT(t)
		g.Expect(json.Unmarshal(body, &delivery)).To(Succeed())
		event, err := clerk.Decode(body)
		g.Expect(err).NotTo(HaveOccurred())
		want := event.Object(source)
		if want == nil {
			continue
		}
		from := clerk.Source{InstanceName: source.InstanceName, Profile: source.Profile, EventTime: event.Time}
		decoded, err := decoders[want.Kind](delivery.Data)
		g.Expect(err).NotTo(HaveOccurred(), name)
		got := decoded.(interface {
			Object(source clerk.Source) *clerk.Object
		}).Object(from)
		encoded, err := json.Marshal(want.Apply)
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(got.Apply).To(encodeTo(string(encoded)), name)
		g.Expect(got.Parents).To(Equal(want.Parents))
	}
}
