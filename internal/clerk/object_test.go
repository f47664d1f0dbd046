// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package clerk_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	. "github.com/onsi/gomega"
	"github.com/onsi/gomega/types"
	"sigs.k8s.io/yaml"

	clerkv1alpha1 "github.com/clerk-operator/clerk-operator/api/v1alpha1"
	"github.com/clerk-operator/clerk-operator/internal/clerk"
)

var update = flag.Bool("update", false, "write the golden files instead of comparing with them")

// fixtures are deliveries by the name of their file.
func fixtures(tb testing.TB) map[string][]byte {
	tb.Helper()
	g := NewWithT(tb)
	paths, err := filepath.Glob("testdata/events/*.json")
	g.Expect(err).NotTo(HaveOccurred())
	bodies := map[string][]byte{}
	for _, path := range paths {
		body, err := os.ReadFile(path)
		g.Expect(err).NotTo(HaveOccurred())
		bodies[strings.TrimSuffix(filepath.Base(path), ".json")] = body
	}
	g.Expect(bodies).To(HaveLen(14))
	return bodies
}

func encodeTo(want string) types.GomegaMatcher {
	return WithTransform(func(value any) (string, error) {
		encoded, err := json.Marshal(value)
		return string(encoded), err
	}, MatchJSON(want))
}

func TestFixtures_renderTheirGoldenObject(t *testing.T) {
	// What a fixture without a golden file stands for: a deletion, or nothing at all.
	wantDeleted := map[string]string{
		"user.deleted":                   userID,
		"organization.deleted":           organizationID,
		"organizationMembership.deleted": membershipID,
		"email.created":                  "",
		"unknown":                        "",
	}
	for name, body := range fixtures(t) {
		t.Run(name, func(t *testing.T) {
			g := NewWithT(t)
			event, err := clerk.Decode(body)
			g.Expect(err).NotTo(HaveOccurred())
			g.Expect(event.InstanceID).To(Equal("ins_2g7np7Hrk0SN6kj5EDMLDaKNL0S"))
			g.Expect(event.Time).To(BeTemporally("~", time.Date(2024, 5, 28, 8, 0, 0, 0, time.UTC), time.Hour))
			object := event.Object(source)
			if deleted, ok := wantDeleted[name]; ok {
				g.Expect(object).To(BeNil())
				g.Expect(event.Deleted).To(Equal(deleted))
				g.Expect(event.Mirrored()).To(Equal(deleted != ""))
				return
			}
			g.Expect(event.Type).To(Equal(name))
			g.Expect(event.Mirrored()).To(BeTrue())
			rendered, err := yaml.Marshal(render(event))
			g.Expect(err).NotTo(HaveOccurred())
			golden := filepath.Join("testdata", "golden", name+".yaml")
			if *update {
				g.Expect(os.WriteFile(golden, rendered, 0o600)).To(Succeed())
			}
			want, err := os.ReadFile(golden)
			g.Expect(err).NotTo(HaveOccurred())
			g.Expect(string(rendered)).To(Equal(string(want)))
		})
	}
}

// render returns what is applied of an event.
func render(event *clerk.Event) any {
	if event.Subscription != nil {
		billing := clerk.MergeBilling(&clerkv1alpha1.Billing{}, event.Subscription)
		return clerk.Billing(&billing)
	}
	if object := event.Object(source); object != nil {
		return object.Apply
	}
	return nil
}

// private are the fields whose content, however deep, must not reach the cluster nor stay in memory.
var private = map[string]bool{
	"event_attributes": true, "private_metadata": true, "unsafe_metadata": true, "phone_numbers": true,
	"web3_wallets": true, "passkeys": true, "external_accounts": true, "enterprise_accounts": true, "scim": true,
	"image_url": true, "profile_image_url": true, "locale": true, "identifier": true, "verification": true,
	"linked_to": true, "otp_code": true, "body": true, "body_plain": true, "subject": true, "to_email_address": true,
	"email": true, "organization_name": true, "payer_id": true, "latest_payment_id": true, "payment_source_id": true, "amount": true,
}

// leaves collects the strings and numbers under private fields. Words of the schema and short values are everywhere.
func leaves(value any, within bool, into map[string]bool) {
	switch value := value.(type) {
	case map[string]any:
		for key, child := range value {
			if key != "object" && key != "status" && key != "strategy" {
				leaves(child, within || private[key], into)
			}
		}
	case []any:
		for _, child := range value {
			leaves(child, within, into)
		}
	case string:
		if within && len(value) > 4 {
			into[value] = true
		}
	case json.Number:
		if within && len(value) > 4 {
			into[string(value)] = true
		}
	}
}

func TestFixtures_privateDataIsDropped(t *testing.T) {
	wantSeen := map[string][]string{
		"user.created": {
			"203.0.113.77", "cus_private0001", "73912046", "unsafe-cluster-admin", "+15555550142", "8dqk27xw",
			"nonce-5c1f00d5", "amalia.private@example.com", "scim-external-0815",
		},
		"user.updated":                   {"chargeback-fraud-suspected", "+4915550100"},
		"organization.created":           {"contract-2024-0042", "0.314159"},
		"organization.updated":           {"contract-2025-0043"},
		"organizationMembership.created": {"band-private-seven", "contract-2024-0042", "bao@example.com"},
		"email.created":                  {"424242", "203.0.113.82"},
		"subscription.created":           {"accounts.payable@example.com", "Private Payer GmbH", "cps_private0001", "200042"},
		"subscriptionItem.canceled":      {"payer.person@example.com", "999042"},
		"unknown":                        {"424242", "private-destination"},
	}
	for name, body := range fixtures(t) {
		t.Run(name, func(t *testing.T) {
			g := NewWithT(t)
			var raw any
			decoder := json.NewDecoder(bytes.NewReader(body))
			decoder.UseNumber()
			g.Expect(decoder.Decode(&raw)).To(Succeed())
			found := map[string]bool{}
			leaves(raw, false, found)
			for _, value := range wantSeen[name] {
				g.Expect(found).To(HaveKey(value), "the fixture lost what this test looks for")
			}

			event, err := clerk.Decode(body)
			g.Expect(err).NotTo(HaveOccurred())
			inMemory, err := json.Marshal(event)
			g.Expect(err).NotTo(HaveOccurred())
			stored, err := json.Marshal(render(event))
			g.Expect(err).NotTo(HaveOccurred())
			if event.Mirrored() {
				// Other addresses of the user are unproven claims, and the organization's own data is not the member's.
				for _, value := range []string{"someone.else@", "Bao-First", "Bao-Last", "bao-username", "public-team", "Payer-"} {
					g.Expect(string(stored)).NotTo(ContainSubstring(value))
				}
			}
			for value := range found {
				g.Expect(string(inMemory)).NotTo(ContainSubstring(value))
				g.Expect(string(stored)).NotTo(ContainSubstring(value))
			}
		})
	}
}

func TestObject_minimalProfileStoresIDsAndStatesOnly(t *testing.T) {
	for _, name := range []string{"user.created", "user.updated"} {
		t.Run(name, func(t *testing.T) {
			g := NewWithT(t)
			event, err := clerk.Decode(fixtures(t)[name])
			g.Expect(err).NotTo(HaveOccurred())
			minimal := event.Object(clerk.Source{InstanceName: "default", Profile: clerkv1alpha1.UserProfileMinimal})
			var full, got struct{ Spec map[string]any }
			recode(g, event.Object(source).Apply, &full)
			recode(g, minimal.Apply, &got)
			for _, key := range []string{
				"externalID", "username", "email", "emailVerified", "firstName", "lastName", "publicMetadata",
			} {
				delete(full.Spec, key)
			}
			g.Expect(got.Spec).To(Equal(full.Spec))
			g.Expect(got.Spec).To(HaveLen(7))
		})
	}

	t.Run("nothing is dropped where nothing is stored", func(t *testing.T) {
		g := NewWithT(t)
		event, err := clerk.Decode(envelope("user.created", `{"id":"`+userID+`","public_metadata":[]}`))
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(event.Object(source).Dropped).To(Equal([]string{"publicMetadata"}))
		g.Expect(event.Object(clerk.Source{Profile: clerkv1alpha1.UserProfileMinimal}).Dropped).To(BeEmpty())
	})
}

func recode(g Gomega, from, into any) {
	encoded, err := json.Marshal(from)
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(json.Unmarshal(encoded, into)).To(Succeed())
}

func TestObject_primaryEmail(t *testing.T) {
	const (
		other    = `{"id":"idn_1","email_address":"other@example.com","verification":{"status":"verified"}}`
		verified = `{"id":"idn_2","email_address":"primary@example.com","verification":{"status":"verified"}}`
	)
	status := func(verification string) string {
		return `{"id":"idn_2","email_address":"primary@example.com","verification":` + verification + `}`
	}
	for name, tc := range map[string]struct {
		primary, addresses string
		wantEmail          string
		wantVerified       bool
	}{
		"not the first":                {`"idn_2"`, other + "," + verified, "primary@example.com", true},
		"the first":                    {`"idn_2"`, verified + "," + other, "primary@example.com", true},
		"unverified beside a verified": {`"idn_2"`, other + "," + status(`{"status":"unverified"}`), "primary@example.com", false},
		"verification is null":         {`"idn_2"`, status("null"), "primary@example.com", false},
		"verification has no status":   {`"idn_2"`, status(`{"strategy":"admin"}`), "primary@example.com", false},
		"verification is a string":     {`"idn_2"`, status(`"verified"`), "primary@example.com", false},
		"status of another type":       {`"idn_2"`, status(`{"status":true}`), "primary@example.com", false},
		"status in other case":         {`"idn_2"`, status(`{"status":"Verified"}`), "primary@example.com", false},
		"expired":                      {`"idn_2"`, status(`{"status":"expired"}`), "primary@example.com", false},
		"not in the list":              {`"idn_3"`, other + "," + verified, "", false},
		"list is empty":                {`"idn_2"`, "", "", false},
		"no primary":                   {"null", other, "", false},
		"no primary, address has none": {`""`, `{"id":"","email_address":"other@example.com","verification":{"status":"verified"}}`, "", false},
		"odd elements":                 {`"idn_2"`, `null,"x",7,[],` + verified, "primary@example.com", true},
		"address of another type":      {`"idn_2"`, `{"id":"idn_2","email_address":7,"verification":{"status":"verified"}}`, "", false},
		"only white space":             {`"idn_2"`, `{"id":"idn_2","email_address":" \n","verification":{"status":"verified"}}`, "", false},
	} {
		t.Run(name, func(t *testing.T) {
			g := NewWithT(t)
			spec := userSpec(g, fmt.Sprintf(`{"id":%q,"primary_email_address_id":%s,"email_addresses":[%s]}`,
				userID, tc.primary, tc.addresses))
			if tc.wantEmail == "" {
				g.Expect(spec.Email).To(BeNil())
				g.Expect(spec.EmailVerified).To(BeNil())
				return
			}
			g.Expect(spec.Email).To(HaveValue(Equal(tc.wantEmail)))
			g.Expect(spec.EmailVerified).To(HaveValue(Equal(tc.wantVerified)))
		})
	}
}

func TestObject_stringsAreCleanedAndCut(t *testing.T) {
	g := NewWithT(t)
	long := strings.Repeat("é", 10<<10)
	user := userSpec(g, fmt.Sprintf(`{"id":%q,"first_name":"a\u202eb\nc","last_name":%q,"username":"\u200b","external_id":%q,
		"primary_email_address_id":"1","email_addresses":[{"id":"1","email_address":%q}]}`, userID, long, long, long))
	g.Expect(user.FirstName).To(HaveValue(Equal("a b c")))
	g.Expect(user.LastName).To(HaveValue(HaveLen(2 * 256)))
	g.Expect(user.ExternalID).To(HaveValue(HaveLen(2 * 256)))
	g.Expect(user.Email).To(HaveValue(HaveLen(2 * 320)))
	g.Expect(user.Username).To(BeNil(), "the CRD does not accept an empty string")

	organization := organizationSpec(g, fmt.Sprintf(
		`{"id":%q,"name":%q,"slug":"a\u001b[2Jb","created_by":"../x","max_allowed_memberships":-1}`, organizationID, long))
	g.Expect(organization.Name).To(HaveValue(HaveLen(2 * 256)))
	g.Expect(organization.Slug).To(HaveValue(Equal("a [2Jb")))
	g.Expect(organization.CreatedBy).To(BeNil())
	g.Expect(organization.MaxAllowedMemberships).To(BeNil())
}

// A role decides access, so unlike a name it is stored as it was sent or not at all: never tidied into another one.
func TestObject_roleIsNeverMadeIntoAnother(t *testing.T) {
	for name, tc := range map[string]struct {
		role string
		want types.GomegaMatcher
	}{
		"exact":                   {"org:admin", HaveValue(Equal("org:admin"))},
		"legacy":                  {"basic_member", HaveValue(Equal("basic_member"))},
		"longest":                 {strings.Repeat("a", 128), HaveValue(Equal(strings.Repeat("a", 128)))},
		"empty":                   {"", BeNil()},
		"trailing newline":        {"org:admin\n", BeNil()},
		"leading space":           {" org:admin", BeNil()},
		"zero width":              {"org:admin\u200b", BeNil()},
		"right to left":           {"\u202eorg:admin", BeNil()},
		"longer than can be held": {strings.Repeat("a", 128) + "-readonly", BeNil()},
	} {
		t.Run(name, func(t *testing.T) {
			g := NewWithT(t)
			role, err := json.Marshal(tc.role)
			g.Expect(err).NotTo(HaveOccurred())
			spec := membershipSpec(g, fmt.Sprintf(`{"id":%q,"role":%s,"organization":{"id":%q},"public_user_data":{"user_id":%q}}`,
				membershipID, role, organizationID, userID))
			g.Expect(spec.Role).To(tc.want)
		})
	}
}

func TestObject_versionFallsBackToTheNextBestTime(t *testing.T) {
	created, updated, event := time.UnixMilli(1716883100000), time.UnixMilli(1716883150000), time.UnixMilli(1716883200000)
	for name, tc := range map[string]struct {
		timestamp, times             string
		wantUpdatedAt, wantEventTime time.Time
		wantNoCreatedAt              bool
	}{
		"all there":                   {"1716883200", `"created_at":1716883100000,"updated_at":1716883150000`, updated, event, false},
		"seconds":                     {"1716883200", `"created_at":1716883100,"updated_at":1716883150`, updated, event, false},
		"no updated_at":               {"1716883200", `"created_at":1716883100000`, event, event, false},
		"null updated_at":             {"1716883200", `"created_at":1716883100000,"updated_at":null`, event, event, false},
		"unbelievable updated_at":     {"1716883200", `"created_at":1716883100000,"updated_at":9e15`, event, event, false},
		"no times but the event's":    {"1716883200", `"updated_at":0`, event, event, true},
		"no event time":               {"null", `"created_at":1716883100000,"updated_at":1716883150000`, updated, updated, false},
		"nothing but when it was new": {"null", `"created_at":1716883100000`, created, created, false},
	} {
		t.Run(name, func(t *testing.T) {
			for eventType, data := range map[string]string{
				"user.created":         `"id":"` + userID + `",`,
				"organization.created": `"id":"` + organizationID + `",`,
				"organizationMembership.created": `"id":"` + membershipID + `","organization":{"id":"` + organizationID +
					`","updated_at":1},"public_user_data":{"user_id":"` + userID + `"},`,
			} {
				g := NewWithT(t)
				decoded, err := clerk.Decode(
					[]byte(`{"type":"` + eventType + `","timestamp":` + tc.timestamp + `,"data":{` + data + tc.times + `}}`))
				g.Expect(err).NotTo(HaveOccurred(), eventType)
				object := decoded.Object(source)
				g.Expect(object.UpdatedAt).To(BeTemporally("==", tc.wantUpdatedAt), eventType)
				g.Expect(object.EventTime).To(BeTemporally("==", tc.wantEventTime), eventType)
				var got struct{ Spec clerkv1alpha1.Mirrored }
				recode(g, object.Apply, &got)
				g.Expect(got.Spec.UpdatedAt.Time).To(BeTemporally("==", tc.wantUpdatedAt), eventType)
				g.Expect(got.Spec.EventTime.Time).To(BeTemporally("==", tc.wantEventTime), eventType)
				if tc.wantNoCreatedAt {
					g.Expect(got.Spec.CreatedAt).To(BeNil(), eventType)
					continue
				}
				g.Expect(got.Spec.CreatedAt.Time).To(BeTemporally("==", created), eventType)
			}
		})
	}
}

// The same state must be the same bytes, or a repeated delivery would be a write.
func TestObject_isTheSameWhateverTheOrderOfKeys(t *testing.T) {
	g := NewWithT(t)
	encode := func(data string) string {
		event, err := clerk.Decode(envelope("user.updated", data))
		g.Expect(err).NotTo(HaveOccurred())
		encoded, err := json.Marshal(event.Object(source).Apply)
		g.Expect(err).NotTo(HaveOccurred())
		return string(encoded)
	}
	g.Expect(encode(`{"public_metadata":{"b":[1,2],"a":{"d":1.5,"c":9007199254740993}},"first_name":"A","id":"` + userID + `"}`)).
		To(Equal(encode(`{"id":"` + userID + `", "first_name":"\u0041",
			"public_metadata" : { "a" : {"c":9007199254740993,"d" : 1.5 }, "b":[ 1, 2 ] } }`)))
}

func TestObject_namesTheObjectsItCannotOutlive(t *testing.T) {
	g := NewWithT(t)
	bodies := fixtures(t)
	for name, want := range map[string]clerk.Object{
		"user.created":         {Kind: clerk.KindUser, ID: userID},
		"organization.created": {Kind: clerk.KindOrganization, ID: organizationID},
		"organizationMembership.created": {
			Kind: clerk.KindMembership, ID: membershipID, Parents: []string{organizationID, "user_2h8op3Isl1QR7tKu5FGNfaLKEoU"},
		},
	} {
		event, err := clerk.Decode(bodies[name])
		g.Expect(err).NotTo(HaveOccurred())
		object := event.Object(clerk.Source{InstanceName: "prod"})
		g.Expect(object.Kind).To(Equal(want.Kind))
		g.Expect(object.ID).To(Equal(want.ID))
		g.Expect(object.Parents).To(Equal(want.Parents))
		g.Expect(object.InstanceName).To(Equal("prod"))
		// The mirror reads the API server's answer from Meta, so it must be the applied object's own.
		object.Meta.WithResourceVersion("42")
		var got struct {
			Metadata struct{ ResourceVersion string }
		}
		recode(g, object.Apply, &got)
		g.Expect(got.Metadata.ResourceVersion).To(Equal("42"))
	}
}
