// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package clerk_test

import (
	"strings"
	"testing"

	. "github.com/onsi/gomega"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/clerk-operator/clerk-operator/internal/clerk"
)

func TestKindOf_letsOnlyExactIDsThrough(t *testing.T) {
	for id, want := range map[string]clerk.Kind{
		userID:                              clerk.KindUser,
		organizationID:                      clerk.KindOrganization,
		membershipID:                        clerk.KindMembership,
		"user_a":                            clerk.KindUser,
		"user_" + strings.Repeat("a", 58):   clerk.KindUser,
		"user_" + strings.Repeat("a", 59):   "",
		"orgmem_" + strings.Repeat("Z", 56): clerk.KindMembership,

		"":                   "",
		"user":               "",
		"user_":              "",
		"_user":              "",
		"org_mem_1":          "",
		"USER_1":             "",
		"user-1":             "",
		"user_1 ":            "",
		" user_1":            "",
		"user_1\n":           "",
		"user_1\nuser_2":     "",
		"user_1\x00":         "",
		"user_ä":             "",
		"user_\u0661":        "",
		"user_a/b":           "",
		"user_a.b":           "",
		"user_a-b":           "",
		"user_a_b":           "",
		"user_a:b":           "",
		"user_a,b":           "",
		"user_*":             "",
		"../x":               "",
		"xuser_1":            "",
		"sess_1":             "",
		"system:masters":     "",
		"user_1\u200b":       "",
		"org_1;DROP TABLE x": "",
	} {
		t.Run(id, func(t *testing.T) {
			g := NewWithT(t)
			kind, ok := clerk.KindOf(id)
			g.Expect(kind).To(Equal(want))
			g.Expect(ok).To(Equal(want != ""))
			if ok {
				g.Expect(validation.IsDNS1123Subdomain(clerk.ObjectName("default", id))).To(BeEmpty())
				g.Expect(validation.IsValidLabelValue(id)).To(BeEmpty())
			}
		})
	}
}

func TestObjectName_foldsCaseAndUnderscore(t *testing.T) {
	g := NewWithT(t)
	g.Expect(clerk.ObjectName("default", userID)).To(Equal("user-2g7np7hrk0sn6kj5edmldaknl0s"))
	g.Expect(clerk.ObjectName("default", membershipID)).To(Equal("orgmem-2g7npzyx3wv4ut5sr6qp7on8ml9"))
	g.Expect(clerk.ObjectName("staging", membershipID)).To(Equal("staging.orgmem-2g7npzyx3wv4ut5sr6qp7on8ml9"))
}
