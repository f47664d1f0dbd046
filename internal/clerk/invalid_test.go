// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package clerk_test

import (
	"encoding/json"
	"strings"
	"testing"

	. "github.com/onsi/gomega"

	"github.com/clerk-operator/clerk-operator/internal/clerk"
)

func TestDecode_namesItemsThatCannotBeUsed(t *testing.T) {
	for name, tc := range map[string]struct {
		items string
		want  []clerk.Invalid
	}{
		"none":                {`{` + itemData + `}`, nil},
		"no object":           {`7,null,{` + itemData + `}`, []clerk.Invalid{{Reason: "NoID"}, {Reason: "NoID"}}},
		"an ID that is none":  {`{"id":"a/b"},{` + itemData + `}`, []clerk.Invalid{{Reason: "InvalidID"}}},
		"an ID that is long":  {`{` + itemData + `},{"id":"` + strings.Repeat("a", 64) + `"}`, []clerk.Invalid{{Reason: "InvalidID"}}},
		"of a payer's e-mail": {`{` + itemData + `},{"id":"jane@example.com"}`, []clerk.Invalid{{Reason: "InvalidID"}}},
	} {
		t.Run(name, func(t *testing.T) {
			g := NewWithT(t)
			event, err := clerk.Decode(envelope("subscription.updated", `{`+payerData+`,"items":[`+tc.items+`]}`))
			g.Expect(err).NotTo(HaveOccurred())
			g.Expect(event.Subscription.Items).To(HaveExactElements(HaveField("ItemID", "csub_item_1")))
			g.Expect(event.Subscription.Invalid).To(Equal(tc.want))
		})
	}
	t.Run("with an ID and no time", func(t *testing.T) {
		g := NewWithT(t)
		event, err := clerk.Decode([]byte(`{"type":"subscription.updated","data":{` + payerData + `,"items":[{"id":"csub_item_0"},{` + itemData + `}]}}`))
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(event.Subscription.Invalid).To(Equal([]clerk.Invalid{{ID: "csub_item_0", Reason: "NoTime"}}))
	})
}

func TestSubject(t *testing.T) {
	for name, tc := range map[string]struct {
		event, data  string
		wantKind     clerk.Kind
		wantID       string
		wantUnusable bool
	}{
		"a user":                       {"user.updated", `{"id":"` + userID + `"}`, clerk.KindUser, userID, false},
		"an organization":              {"organization.created", `{"id":"` + organizationID + `"}`, clerk.KindOrganization, organizationID, false},
		"a membership without a user":  {"organizationMembership.updated", `{"id":"` + membershipID + `","organization":{"id":"` + organizationID + `"}}`, clerk.KindMembership, membershipID, true},
		"a membership of nothing":      {"organizationMembership.deleted", `{"id":"` + membershipID + `"}`, clerk.KindMembership, membershipID, false},
		"a user's ID in another place": {"organization.updated", `{"id":"` + userID + `"}`, clerk.KindOrganization, "", true},
		"no ID":                        {"user.deleted", `{"id":"jane@example.com"}`, clerk.KindUser, "", true},
		"no data":                      {"user.deleted", `null`, clerk.KindUser, "", true},
		"who pays":                     {"subscriptionItem.active", `{` + payerData + `,` + itemData + `}`, clerk.KindOrganization, organizationID, false},
		"an item without a payer":      {"subscriptionItem.active", `{` + itemData + `}`, clerk.KindSubscriptionItem, "csub_item_1", true},
		"a subscription without one":   {"subscription.active", `{"id":"csub_1"}`, clerk.KindSubscription, "csub_1", true},
		"a type that is not mirrored":  {"session.created", `{"id":"` + userID + `"}`, "", "", false},
	} {
		t.Run(name, func(t *testing.T) {
			g := NewWithT(t)
			event, err := clerk.Decode(envelope(tc.event, tc.data))
			g.Expect(err != nil).To(Equal(tc.wantUnusable))
			kind, id := event.Subject()
			g.Expect(kind).To(Equal(tc.wantKind))
			g.Expect(id).To(Equal(tc.wantID))
			g.Expect(kind.ObjectKind() != "").To(Equal(kind != ""), "the status has a word for it")
		})
	}
	t.Run("an object without a time", func(t *testing.T) {
		g := NewWithT(t)
		event, err := clerk.Decode([]byte(`{"type":"user.updated","data":{"id":"` + userID + `"}}`))
		g.Expect(err).To(MatchError(&clerk.UnusableError{Reason: "NoTime"}))
		_, id := event.Subject()
		g.Expect(id).To(Equal(userID))
	})
}

func TestDecodeRole(t *testing.T) {
	for data, tc := range map[string]struct{ wantKey, wantReason string }{
		`{"id":"role_1","key":"org:admin"}`:          {"org:admin", ""},
		`{"key":"` + strings.Repeat("x", 256) + `"}`: {strings.Repeat("x", 256), ""},
		`{"key":"` + strings.Repeat("x", 257) + `"}`: {"", "InvalidKey"},
		`{"id":"role_1"}`:                            {"", "NoKey"},
		`{"key":7}`:                                  {"", "NoKey"},
		`7`:                                          {"", "MalformedData"},
		`null`:                                       {"", "NoData"},
	} {
		g := NewWithT(t)
		key, err := clerk.DecodeRole(json.RawMessage(data))
		g.Expect(key).To(Equal(tc.wantKey), data)
		if tc.wantReason == "" {
			g.Expect(err).NotTo(HaveOccurred(), data)
			continue
		}
		g.Expect(clerk.ReasonOf(err)).To(Equal(tc.wantReason), data)
	}
}

func TestNotStored(t *testing.T) {
	g := NewWithT(t)
	g.Expect(clerk.NotStored("publicMetadata")).To(Equal("PublicMetadataNotStored"))
	g.Expect(clerk.NotStored("role")).To(Equal("RoleNotStored"))
	g.Expect(clerk.IsNotStored("RoleNotStored")).To(BeTrue())
	g.Expect(clerk.IsNotStored("NoUser")).To(BeFalse())
}
