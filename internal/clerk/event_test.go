// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package clerk_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	. "github.com/onsi/gomega"

	clerkv1alpha1 "github.com/clerk-operator/clerk-operator/api/v1alpha1"
	clerkv1alpha1ac "github.com/clerk-operator/clerk-operator/api/v1alpha1/applyconfiguration/api/v1alpha1"
	"github.com/clerk-operator/clerk-operator/internal/clerk"
)

const (
	userID         = "user_2g7np7Hrk0SN6kj5EDMLDaKNL0S"
	organizationID = "org_2g7npKLq8vT0NmEYw5uZxRfAbCd"
	membershipID   = "orgmem_2g7npZyX3wV4uT5sR6qP7oN8mL9"
)

var source = clerk.Source{InstanceName: "default", Profile: clerkv1alpha1.UserProfileFull}

// envelope is an event whose time is 2024-05-28T08:00:00Z.
func envelope(eventType, data string) []byte {
	return fmt.Appendf(nil, `{"object":"event","type":%q,"timestamp":1716883200,"instance_id":"ins_1","data":%s}`,
		eventType, data)
}

func userSpec(g Gomega, data string) *clerkv1alpha1ac.ClerkUserSpecApplyConfiguration {
	event, err := clerk.Decode(envelope("user.updated", data))
	g.Expect(err).NotTo(HaveOccurred())
	return event.Object(source).Apply.(*clerkv1alpha1ac.ClerkUserApplyConfiguration).Spec
}

func organizationSpec(g Gomega, data string) *clerkv1alpha1ac.ClerkOrganizationSpecApplyConfiguration {
	event, err := clerk.Decode(envelope("organization.updated", data))
	g.Expect(err).NotTo(HaveOccurred())
	return event.Object(source).Apply.(*clerkv1alpha1ac.ClerkOrganizationApplyConfiguration).Spec
}

func membershipSpec(g Gomega, data string) *clerkv1alpha1ac.ClerkOrganizationMembershipSpecApplyConfiguration {
	event, err := clerk.Decode(envelope("organizationMembership.updated", data))
	g.Expect(err).NotTo(HaveOccurred())
	return event.Object(source).Apply.(*clerkv1alpha1ac.ClerkOrganizationMembershipApplyConfiguration).Spec
}

func TestDecode_refusesWhatIsNotAnObject(t *testing.T) {
	for name, body := range map[string]string{
		"nothing":             "",
		"white space":         " \r\n\t",
		"null":                "null",
		"array":               `[{"type":"user.created"}]`,
		"string":              `"user.created"`,
		"number":              "1",
		"byte order mark":     "\ufeff" + `{"type":"user.created"}`,
		"cut off":             `{"type":"user.created","data":{"id":"user_1"`,
		"two objects":         `{"type":"user.created"}{}`,
		"form":                "type=user.created",
		"single quotes":       `{'type':'user.created'}`,
		"comment":             `{/**/}`,
		"nul byte":            "{}\x00",
		"broken far inside":   `{"type":"user.created","data":{"id":"user_1","public_metadata":{"a":}}}`,
		"nested beyond limit": `{"data":` + strings.Repeat("[", 20_000) + strings.Repeat("]", 20_000) + "}",
	} {
		t.Run(name, func(t *testing.T) {
			g := NewWithT(t)
			event, err := clerk.Decode([]byte(body))
			g.Expect(err).To(MatchError(clerk.ErrNotAnObject))
			g.Expect(event).To(BeNil())
		})
	}
}

func TestDecode_ignoresWhatIsNotMirrored(t *testing.T) {
	data := `,"timestamp":1716883200,"data":{"id":"` + userID + `"}}`
	for name, tc := range map[string]struct{ body, wantType string }{
		"empty object":     {`{}`, ""},
		"no type":          {`{"object":"event"` + data, ""},
		"null type":        {`{"type":null` + data, ""},
		"type is a number": {`{"type":1` + data, ""},
		"type is an array": {`{"type":["user.created"]` + data, ""},
		"unknown type":     {`{"type":"user.teleported"` + data, "user.teleported"},
		"other case":       {`{"type":"User.Created"` + data, "User.Created"},
		"white space":      {`{"type":"user.created\n"` + data, "user.created\n"},
		"session":          {`{"type":"session.created"` + data, "session.created"},
		"mail":             {`{"type":"email.created"` + data, "email.created"},
	} {
		t.Run(name, func(t *testing.T) {
			g := NewWithT(t)
			event, err := clerk.Decode([]byte(tc.body))
			g.Expect(err).NotTo(HaveOccurred())
			g.Expect(event.Type).To(Equal(tc.wantType))
			g.Expect(event.Mirrored()).To(BeFalse())
			g.Expect(event.Object(source)).To(BeNil())
		})
	}
}

func TestDecode_readsTheEnvelope(t *testing.T) {
	g := NewWithT(t)
	// White space around the object and fields that nobody has heard of are none of our business.
	event, err := clerk.Decode([]byte("\r\n\t " + string(envelope("user.deleted", `{"new":[{}],"id":"`+userID+`"}`)) + "\n"))
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(*event).To(Equal(clerk.Event{
		Type:       "user.deleted",
		InstanceID: "ins_1",
		Time:       time.Date(2024, 5, 28, 8, 0, 0, 0, time.UTC),
		Deleted:    userID,
	}))

	event, err = clerk.Decode([]byte(`{"type":"user.deleted","instance_id":7,"data":{"id":"` + userID + `"}}`))
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(event.InstanceID).To(BeEmpty())
}

func TestDecode_eventTime(t *testing.T) {
	at := time.Date(2024, 5, 28, 8, 0, 0, 0, time.UTC)
	for name, tc := range map[string]struct {
		timestamp string
		want      time.Time
	}{
		"seconds":                    {"1716883200", at},
		"milliseconds":               {"1716883200000", at},
		"milliseconds keep theirs":   {"1716883200123", at.Add(123 * time.Millisecond)},
		"fraction of a second":       {"1716883200.5", at.Add(500 * time.Millisecond)},
		"fraction of a millisecond":  {"1716883200123.25", at.Add(123250 * time.Microsecond)},
		"exponent":                   {"1.7168832e9", at},
		"seconds in a string":        {`"1716883200"`, at},
		"milliseconds in a string":   {`"1716883200000"`, at},
		"first second":               {"1", time.Unix(1, 0).UTC()},
		"first that is milliseconds": {"100000000000", time.UnixMilli(100000000000).UTC()},
		"last that is believed":      {"4102444799999", time.UnixMilli(4102444799999).UTC()},
		"last second":                {"4102444799", time.Unix(4102444799, 0).UTC()},

		"year 2100 in seconds":      {"4102444800", time.Time{}},
		"year 2100 in milliseconds": {"4102444800000", time.Time{}},
		"microseconds":              {"1716883200000000", time.Time{}},
		"year 5138 in seconds":      {"99999999999", time.Time{}},
		"zero":                      {"0", time.Time{}},
		"negative":                  {"-1716883200", time.Time{}},
		"very large":                {"1e308", time.Time{}},
		"no float":                  {"1e999", time.Time{}},
		"null":                      {"null", time.Time{}},
		"bool":                      {"true", time.Time{}},
		"object":                    {`{"seconds":1716883200}`, time.Time{}},
		"array":                     {"[1716883200]", time.Time{}},
		"date in a string":          {`"2024-05-28T08:00:00Z"`, time.Time{}},
		"empty string":              {`""`, time.Time{}},
		"not a number":              {`"NaN"`, time.Time{}},
		"infinite":                  {`"Inf"`, time.Time{}},
	} {
		t.Run(name, func(t *testing.T) {
			g := NewWithT(t)
			event, err := clerk.Decode(
				[]byte(`{"type":"user.deleted","timestamp":` + tc.timestamp + `,"data":{"id":"` + userID + `"}}`))
			g.Expect(err).NotTo(HaveOccurred())
			g.Expect(event.Time).To(Equal(tc.want))
			g.Expect(event.Deleted).To(Equal(userID))
		})
	}
}

func TestDecode_refusesUnusableEvents(t *testing.T) {
	member := func(organization, user string) string {
		return fmt.Sprintf(`{"id":%q,"organization":%s,"public_user_data":%s}`, membershipID, organization, user)
	}
	organization, user := `{"id":"`+organizationID+`"}`, `{"user_id":"`+userID+`"}`
	for name, tc := range map[string]struct{ eventType, data, wantReason string }{
		"data is null":              {"user.created", "null", "NoData"},
		"data is a string":          {"user.created", `"` + userID + `"`, "MalformedData"},
		"data is a number":          {"organization.created", "1", "MalformedData"},
		"data is an array":          {"user.deleted", `[{"id":"` + userID + `"}]`, "MalformedData"},
		"data is a bool":            {"organizationMembership.deleted", "true", "MalformedData"},
		"no id":                     {"user.created", `{"object":"user"}`, "NoID"},
		"null id":                   {"organization.updated", `{"id":null}`, "NoID"},
		"empty id":                  {"organizationMembership.created", `{"id":""}`, "NoID"},
		"id is a number":            {"user.updated", `{"id":17}`, "NoID"},
		"id is an object":           {"user.updated", `{"id":{"id":"` + userID + `"}}`, "NoID"},
		"deletion without an id":    {"user.deleted", `{"object":"user","deleted":true}`, "NoID"},
		"id of an organization":     {"user.created", `{"id":"` + organizationID + `"}`, "InvalidID"},
		"id of a user":              {"organization.created", `{"id":"` + userID + `"}`, "InvalidID"},
		"id of a membership":        {"organization.deleted", `{"id":"` + membershipID + `"}`, "InvalidID"},
		"deletion of another kind":  {"user.deleted", `{"id":"` + organizationID + `"}`, "InvalidID"},
		"id of a kind not mirrored": {"user.created", `{"id":"sess_2g7np7Hrk0SN6kj5"}`, "InvalidID"},
		"id is a path":              {"user.created", `{"id":"../x"}`, "InvalidID"},
		"id with a path":            {"user.created", `{"id":"user_a/b"}`, "InvalidID"},
		"deleted id with a path":    {"user.deleted", `{"id":"user_../../x"}`, "InvalidID"},
		"id with a trailing newline": {
			"user.created", `{"id":"` + userID + `\n"}`, "InvalidID"},
		"id of 80 characters":              {"user.created", `{"id":"user_` + strings.Repeat("a", 75) + `"}`, "InvalidID"},
		"membership without organization":  {"organizationMembership.created", `{"id":"` + membershipID + `"}`, "NoOrganization"},
		"membership of null organization":  {"organizationMembership.created", member("null", user), "NoOrganization"},
		"membership of a string":           {"organizationMembership.created", member(`"`+organizationID+`"`, user), "NoOrganization"},
		"membership of a bad organization": {"organizationMembership.created", member(`{"id":"org_a/b"}`, user), "NoOrganization"},
		"membership of a user in a user":   {"organizationMembership.created", member(`{"id":"`+userID+`"}`, user), "NoOrganization"},
		"membership of nobody":             {"organizationMembership.updated", member(organization, "null"), "NoUser"},
		"membership of a bad user":         {"organizationMembership.updated", member(organization, `{"user_id":"user_ "}`), "NoUser"},
		"membership of an organization":    {"organizationMembership.updated", member(organization, `{"user_id":"`+organizationID+`"}`), "NoUser"},
	} {
		t.Run(name, func(t *testing.T) {
			g := NewWithT(t)
			event, err := clerk.Decode(envelope(tc.eventType, tc.data))
			var unusable *clerk.UnusableError
			g.Expect(errors.As(err, &unusable)).To(BeTrue(), "error is %v", err)
			g.Expect(unusable.Reason).To(Equal(tc.wantReason))
			g.Expect(event.Type).To(Equal(tc.eventType))
			g.Expect(event.InstanceID).To(Equal("ins_1"))
			g.Expect(event.Mirrored()).To(BeFalse())
		})
	}

	t.Run("no data", func(t *testing.T) {
		for _, eventType := range []string{
			"user.created", "user.deleted", "organization.updated", "organizationMembership.deleted",
		} {
			_, err := clerk.Decode([]byte(`{"type":"` + eventType + `","timestamp":1716883200}`))
			NewWithT(t).Expect(err).To(MatchError(&clerk.UnusableError{Reason: "NoData"}), eventType)
		}
	})
	t.Run("no time at all", func(t *testing.T) {
		for eventType, data := range map[string]string{
			"user.created":                   `{"id":"` + userID + `"}`,
			"organization.created":           `{"id":"` + organizationID + `","created_at":-1,"updated_at":"soon"}`,
			"organizationMembership.created": member(organization, user),
		} {
			_, err := clerk.Decode([]byte(`{"type":"` + eventType + `","timestamp":0,"data":` + data + `}`))
			NewWithT(t).Expect(err).To(MatchError(&clerk.UnusableError{Reason: "NoTime"}), eventType)
		}
	})
}

func TestDecode_leavesOutFieldsOfAnUnexpectedType(t *testing.T) {
	t.Run("user", func(t *testing.T) {
		g := NewWithT(t)
		event, err := clerk.Decode(envelope("user.created", `{
			"external_id": 1, "username": ["x"], "first_name": {"x": "x"}, "last_name": false,
			"primary_email_address_id": 1, "email_addresses": {"id": "idn_1"}, "public_metadata": "x",
			"created_at": {}, "updated_at": [], "id": "`+userID+`"}`))
		g.Expect(err).NotTo(HaveOccurred())
		object := event.Object(source)
		g.Expect(object.Dropped).To(Equal([]string{"publicMetadata"}))
		g.Expect(object.Apply).To(encodeTo(`{
			"apiVersion": "clerk-operator.dev/v1alpha1", "kind": "ClerkUser",
			"metadata": {
				"name": "user-2g7np7hrk0sn6kj5edmldaknl0s",
				"finalizers": ["clerk-operator.dev/user-access"],
				"labels": {
					"app.kubernetes.io/managed-by": "clerk-operator",
					"clerk-operator.dev/instance": "default",
					"clerk-operator.dev/user-id": "` + userID + `"
				}
			},
			"spec": {
				"instanceName": "default", "userID": "` + userID + `", "deprovisioned": false,
				"updatedAt": "2024-05-28T08:00:00.000000Z", "eventTime": "2024-05-28T08:00:00.000000Z"
			}
		}`))
	})
	t.Run("organization", func(t *testing.T) {
		// Zero is Clerk's word for no limit, so it must not stand for a limit that could not be read.
		for _, limit := range []string{`"5"`, "5.5", "true", "[]", "{}", "1e99", "null"} {
			g := NewWithT(t)
			spec := organizationSpec(g, `{"max_allowed_memberships":`+limit+`,"name":1,"slug":{},"created_by":[],
				"public_metadata":[],"id":"`+organizationID+`"}`)
			g.Expect(spec.MaxAllowedMemberships).To(BeNil(), "limit is %s", limit)
			g.Expect([]any{spec.Name, spec.Slug, spec.CreatedBy, spec.PublicMetadata}).To(HaveEach(BeNil()))
		}
	})
	t.Run("membership", func(t *testing.T) {
		g := NewWithT(t)
		spec := membershipSpec(g, `{"role":{"key":"org:admin"},"organization":{"id":"`+organizationID+`","name":7},
			"public_user_data":{"user_id":"`+userID+`","first_name":[]},"id":"`+membershipID+`"}`)
		g.Expect(spec.Role).To(BeNil())
		g.Expect(spec.OrganizationID).To(HaveValue(Equal(organizationID)))
		g.Expect(spec.UserID).To(HaveValue(Equal(userID)))
	})
}

// What forbids access must not be lost because it cannot be read.
func TestDecode_anythingButAClearNoSuspends(t *testing.T) {
	for value, want := range map[string]bool{
		"true": true, `"false"`: true, `"true"`: true, `""`: true, "0": true, "1": true, "{}": true, "[]": true,
		"false": false,
	} {
		t.Run(value, func(t *testing.T) {
			g := NewWithT(t)
			banned := userSpec(g, fmt.Sprintf(`{"id":%q,"banned":%s}`, userID, value))
			g.Expect(banned.Banned).To(HaveValue(Equal(want)))
			g.Expect(banned.Deprovisioned).To(HaveValue(BeFalse()))
			deprovisioned := userSpec(g, fmt.Sprintf(`{"id":%q,"banned":false,"deprovisioned":%s}`, userID, value))
			g.Expect(deprovisioned.Banned).To(HaveValue(BeFalse()))
			g.Expect(deprovisioned.Deprovisioned).To(HaveValue(Equal(want)))
		})
	}
}
