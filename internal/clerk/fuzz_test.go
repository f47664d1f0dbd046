// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package clerk_test

import (
	"encoding/json"
	"testing"
	"unicode/utf8"

	. "github.com/onsi/gomega"
	"k8s.io/apimachinery/pkg/util/validation"

	clerkv1alpha1 "github.com/clerk-operator/clerk-operator/api/v1alpha1"
	"github.com/clerk-operator/clerk-operator/internal/clerk"
)

// stored is a mirrored object of any kind as the API server would read it.
type stored struct {
	Metadata struct {
		Name       string
		Labels     map[string]string
		Finalizers []string
	}
	Spec map[string]any
}

// limits are the CRDs' maxLength by field.
var limits = map[string]int{
	"instanceName": 63, "userID": 63, "organizationID": 63, "membershipID": 63, "createdBy": 63,
	"externalID": 256, "username": 256, "firstName": 256, "lastName": 256, "name": 256, "slug": 256,
	"email": 320, "role": 128, "createdAt": 27, "updatedAt": 27, "eventTime": 27,
}

func FuzzDecode(f *testing.F) {
	for _, body := range fixtures(f) {
		f.Add(body)
	}
	f.Add(envelope("user.created", `{"id":"user_1","first_name":"\u202e\ud800","public_metadata":{"a":1e400},"banned":0}`))
	f.Add(envelope("user.banned", `{`+unknownUser+`}`))
	f.Add(envelope("organizationMembership.removed", `{`+unknownMembership+`}`))
	f.Add([]byte("\ufeff{}"))
	f.Fuzz(func(t *testing.T, body []byte) {
		g := NewWithT(t)
		event, err := clerk.Decode(body)
		if err != nil {
			g.Expect(err).To(Or(MatchError(clerk.ErrNotAnObject), BeAssignableToTypeOf(&clerk.UnusableError{})))
			return
		}
		if event.Deleted != "" {
			_, ok := clerk.KindOf(event.Deleted)
			g.Expect(ok).To(BeTrue())
		}
		if event.Recheck != "" {
			kind, _ := clerk.KindOf(event.Recheck)
			g.Expect(kind).To(Equal(clerk.KindMembership))
			g.Expect(event.Object(source)).To(BeNil())
		}
		if event.Subscription != nil {
			expectStorableBilling(g, event.Subscription)
		}
		for _, profile := range []clerkv1alpha1.UserProfile{clerkv1alpha1.UserProfileFull, clerkv1alpha1.UserProfileMinimal} {
			if object := event.Object(clerk.Source{InstanceName: "default", Profile: profile}); object != nil {
				expectStorable(g, object)
			}
		}
	})
}

func expectStorableBilling(g Gomega, subscription *clerk.Subscription) {
	kind, ok := clerk.KindOf(subscription.PayerID)
	g.Expect(ok).To(BeTrue())
	g.Expect(kind).To(Equal(subscription.PayerKind))
	merged := clerk.MergeBilling(&clerkv1alpha1.Billing{}, subscription)
	g.Expect(len(merged.Items)).To(BeNumerically("<=", clerkv1alpha1.MaxBillingItems))
	for _, item := range merged.Items {
		g.Expect(item.ItemID).To(MatchRegexp(`^[A-Za-z0-9_-]{1,63}$`))
		g.Expect(utf8.RuneCountInString(item.Plan)).To(BeNumerically("<=", 128))
		g.Expect(item.Status).NotTo(BeEmpty())
		g.Expect(item.UpdatedAt.IsZero()).To(BeFalse())
		g.Expect(item.EventTime.IsZero()).To(BeFalse())
	}
	g.Expect(clerk.MergeBilling(&merged, subscription)).To(Equal(merged))
}

func expectStorable(g Gomega, object *clerk.Object) {
	encoded, err := json.Marshal(object.Apply)
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(len(encoded)).To(BeNumerically("<", 256<<10))
	var got stored
	g.Expect(json.Unmarshal(encoded, &got)).To(Succeed())

	g.Expect(got.Metadata.Name).To(Equal(clerk.ObjectName(object.InstanceName, object.ID)))
	g.Expect(validation.IsDNS1123Subdomain(got.Metadata.Name)).To(BeEmpty())
	g.Expect(got.Metadata.Labels).NotTo(BeEmpty())
	for key, value := range got.Metadata.Labels {
		g.Expect(validation.IsQualifiedName(key)).To(BeEmpty())
		g.Expect(validation.IsValidLabelValue(value)).To(BeEmpty())
	}
	for key, value := range got.Spec {
		if s, ok := value.(string); ok {
			g.Expect(limits).To(HaveKey(key))
			g.Expect(s).NotTo(BeEmpty(), key)
			g.Expect(utf8.RuneCountInString(s)).To(BeNumerically("<=", limits[key]), key)
		} else if key == "publicMetadata" {
			g.Expect(value).To(BeAssignableToTypeOf(map[string]any{}))
		}
	}
	g.Expect(got.Spec).To(HaveKey("updatedAt"))
	g.Expect(got.Spec).To(HaveKey("eventTime"))
	g.Expect(object.UpdatedAt.IsZero()).To(BeFalse())
	g.Expect(object.EventTime.IsZero()).To(BeFalse())
}
