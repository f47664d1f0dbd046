// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package access_test

import (
	"math/rand/v2"
	"testing"
	"time"

	. "github.com/onsi/gomega"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	clerkv1alpha1 "github.com/clerk-operator/clerk-operator/api/v1alpha1"
	"github.com/clerk-operator/clerk-operator/internal/access"
)

var (
	start    = time.Date(2024, 5, 28, 8, 0, 0, 0, time.UTC)
	deleting = &metav1.Time{Time: start}
)

// request is one that grants the ClusterRole edit.
func request() access.Request {
	mirrored := clerkv1alpha1.Mirrored{InstanceName: "default"}
	return access.Request{
		Membership: &clerkv1alpha1.ClerkOrganizationMembership{Spec: clerkv1alpha1.ClerkOrganizationMembershipSpec{
			Mirrored: mirrored, MembershipID: "orgmem_M", OrganizationID: "org_O", UserID: "user_U", Role: "org:member",
		}},
		User: &clerkv1alpha1.ClerkUser{Spec: clerkv1alpha1.ClerkUserSpec{
			Mirrored: mirrored, UserID: "user_U", Email: "amalia@example.com", Username: "amalia", FirstName: "Amalia",
			Banned: new(false),
		}},
		Organization: &clerkv1alpha1.ClerkOrganization{Spec: clerkv1alpha1.ClerkOrganizationSpec{
			Mirrored: mirrored, OrganizationID: "org_O", Name: "Acme", Slug: "acme-slug",
		}},
		Class: class(
			clerkv1alpha1.ClerkTenantClassAccess{Role: "org:admin", ClusterRoles: []string{"admin"}},
			clerkv1alpha1.ClerkTenantClassAccess{Role: "org:member", ClusterRoles: []string{"edit"}},
		),
	}
}

func class(entries ...clerkv1alpha1.ClerkTenantClassAccess) *clerkv1alpha1.ClerkTenantClass {
	return &clerkv1alpha1.ClerkTenantClass{
		ObjectMeta: metav1.ObjectMeta{Name: "standard"},
		Spec:       clerkv1alpha1.ClerkTenantClassSpec{Access: entries},
	}
}

// obstacles stand between a member and access, the one that is reported first first. Where a reason has several
// causes they are neighbours.
var obstacles = []struct {
	name       string
	put        func(*access.Request)
	wantReason string
}{
	{"membership is being deleted", func(r *access.Request) { r.Membership.DeletionTimestamp = deleting }, clerkv1alpha1.ReasonDeleting},
	{"superseded", func(r *access.Request) { r.Superseded = true }, clerkv1alpha1.ReasonSuperseded},
	{"no user", func(r *access.Request) { r.User = nil }, clerkv1alpha1.ReasonWaitingForUser},
	{"user of another ID", onUser(func(u *clerkv1alpha1.ClerkUser) { u.Spec.UserID = "user_u" }), clerkv1alpha1.ReasonWaitingForUser},
	{"user of another instance", onUser(func(u *clerkv1alpha1.ClerkUser) { u.Spec.InstanceName = "other" }), clerkv1alpha1.ReasonWaitingForUser},
	{"no organization", func(r *access.Request) { r.Organization = nil }, clerkv1alpha1.ReasonWaitingForOrganization},
	{"organization of another ID", onOrganization(func(o *clerkv1alpha1.ClerkOrganization) { o.Spec.OrganizationID = "org_o" }), clerkv1alpha1.ReasonWaitingForOrganization},
	{"organization of another instance", onOrganization(func(o *clerkv1alpha1.ClerkOrganization) { o.Spec.InstanceName = "another" }), clerkv1alpha1.ReasonWaitingForOrganization},
	{"user is being deleted", onUser(func(u *clerkv1alpha1.ClerkUser) { u.DeletionTimestamp = deleting }), clerkv1alpha1.ReasonUserDeleting},
	{"organization is being deleted", onOrganization(func(o *clerkv1alpha1.ClerkOrganization) { o.DeletionTimestamp = deleting }), clerkv1alpha1.ReasonOrganizationDeleting},
	{"user is banned", onUser(func(u *clerkv1alpha1.ClerkUser) { u.Spec.Banned = new(true) }), clerkv1alpha1.ReasonUserSuspended},
	{"user's object does not say whether it is banned", onUser(func(u *clerkv1alpha1.ClerkUser) { u.Spec.Banned = nil }), clerkv1alpha1.ReasonUserSuspended},
	{"user is deprovisioned", onUser(func(u *clerkv1alpha1.ClerkUser) { u.Spec.Deprovisioned = new(true) }), clerkv1alpha1.ReasonUserSuspended},
	{"suspended tenant", func(r *access.Request) { r.Suspended = true }, clerkv1alpha1.ReasonTenantSuspended},
	{"no class", func(r *access.Request) { r.Class = nil }, clerkv1alpha1.ReasonNoTenantClass},
	{"role is not in the class", func(r *access.Request) { r.Membership.Spec.Role = "org:guest" }, clerkv1alpha1.ReasonRoleNotMapped},
	{"no role", func(r *access.Request) { r.Membership.Spec.Role = "" }, clerkv1alpha1.ReasonRoleNotMapped},
}

func onUser(put func(*clerkv1alpha1.ClerkUser)) func(*access.Request) {
	return func(r *access.Request) {
		if r.User != nil {
			put(r.User)
		}
	}
}

func onOrganization(put func(*clerkv1alpha1.ClerkOrganization)) func(*access.Request) {
	return func(r *access.Request) {
		if r.Organization != nil {
			put(r.Organization)
		}
	}
}

func TestDecide_grantsWhatTheClassMapsTheRoleTo(t *testing.T) {
	g := NewWithT(t)
	r := request()
	g.Expect(access.Decide(r)).To(Equal(access.Decision{ClusterRoles: []string{"edit"}}))
	g.Expect(access.Decide(r).Granted()).To(BeTrue())
	r.User.Spec.Deprovisioned = new(false)
	g.Expect(access.Decide(r).Granted()).To(BeTrue())
}

func TestDecide_everyObstacleHasItsReason(t *testing.T) {
	for _, tc := range obstacles {
		t.Run(tc.name, func(t *testing.T) {
			g := NewWithT(t)
			r := request()
			tc.put(&r)
			got := access.Decide(r)
			g.Expect(got.Reason).To(Equal(tc.wantReason))
			g.Expect(got.Granted()).To(BeFalse())
			g.Expect(got.ClusterRoles).To(BeEmpty())
			g.Expect(got.Message).NotTo(BeEmpty())
			for _, personal := range []string{"amalia", "Amalia", "example.com", "Acme", "acme-slug"} {
				g.Expect(got.Message).NotTo(ContainSubstring(personal))
			}
		})
	}
}

func TestDecide_theFirstObstacleIsTheReason(t *testing.T) {
	for i, first := range obstacles {
		for _, second := range obstacles[i+1:] {
			t.Run(first.name+", "+second.name, func(t *testing.T) {
				g := NewWithT(t)
				r := request()
				// The later one first: what is set to nil afterwards can still be told from what is wrong with it.
				second.put(&r)
				first.put(&r)
				g.Expect(access.Decide(r).Reason).To(Equal(first.wantReason))
			})
		}
	}
}

func TestDecide_roles(t *testing.T) {
	entry := func(role string, clusterRoles ...string) clerkv1alpha1.ClerkTenantClassAccess {
		return clerkv1alpha1.ClerkTenantClassAccess{Role: role, ClusterRoles: clusterRoles}
	}
	for name, tc := range map[string]struct {
		role    string
		entries []clerkv1alpha1.ClerkTenantClassAccess
		want    []string
	}{
		"both with org:":         {"org:admin", []clerkv1alpha1.ClerkTenantClassAccess{entry("org:admin", "a")}, []string{"a"}},
		"neither with org:":      {"admin", []clerkv1alpha1.ClerkTenantClassAccess{entry("admin", "a")}, []string{"a"}},
		"only the member's":      {"org:admin", []clerkv1alpha1.ClerkTenantClassAccess{entry("admin", "a")}, []string{"a"}},
		"only the class's":       {"admin", []clerkv1alpha1.ClerkTenantClassAccess{entry("org:admin", "a")}, []string{"a"}},
		"legacy key":             {"basic_member", []clerkv1alpha1.ClerkTenantClassAccess{entry("basic_member", "v")}, []string{"v"}},
		"one of several":         {"org:b", []clerkv1alpha1.ClerkTenantClassAccess{entry("org:a", "a"), entry("org:b", "b")}, []string{"b"}},
		"several are merged":     {"org:a", []clerkv1alpha1.ClerkTenantClassAccess{entry("org:a", "x"), entry("a", "y")}, []string{"x", "y"}},
		"sorted and only once":   {"a", []clerkv1alpha1.ClerkTenantClassAccess{entry("a", "z", "b"), entry("org:a", "b", "a", "z")}, []string{"a", "b", "z"}},
		"two prefixes":           {"org:org:admin", []clerkv1alpha1.ClerkTenantClassAccess{entry("org:admin", "a")}, nil},
		"other case":             {"org:Admin", []clerkv1alpha1.ClerkTenantClassAccess{entry("org:admin", "a")}, nil},
		"longer":                 {"org:administrator", []clerkv1alpha1.ClerkTenantClassAccess{entry("org:admin", "a")}, nil},
		"shorter":                {"org:adm", []clerkv1alpha1.ClerkTenantClassAccess{entry("org:admin", "a")}, nil},
		"white space":            {"org:admin ", []clerkv1alpha1.ClerkTenantClassAccess{entry("org:admin", "a")}, nil},
		"another prefix":         {"sys:admin", []clerkv1alpha1.ClerkTenantClassAccess{entry("admin", "a")}, nil},
		"no role, no entry":      {"", nil, nil},
		"no role, empty entry":   {"", []clerkv1alpha1.ClerkTenantClassAccess{entry("", "a")}, nil},
		"no role, only prefix":   {"", []clerkv1alpha1.ClerkTenantClassAccess{entry("org:", "a")}, nil},
		"entry without anything": {"a", []clerkv1alpha1.ClerkTenantClassAccess{entry("a")}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			g := NewWithT(t)
			r := request()
			r.Membership.Spec.Role = tc.role
			r.Class = class(tc.entries...)
			before := r.Class.DeepCopy()
			got := access.Decide(r)
			g.Expect(got.ClusterRoles).To(Equal(tc.want))
			g.Expect(r.Class).To(Equal(before), "the class comes from a cache and must not be changed")
			if tc.want == nil {
				g.Expect(got.Reason).To(Equal(clerkv1alpha1.ReasonRoleNotMapped))
			}
		})
	}
}

func TestCurrent_theNewestMembershipOfEachUserCounts(t *testing.T) {
	membership := func(id, user string, created *time.Duration, updated time.Duration) *clerkv1alpha1.ClerkOrganizationMembership {
		m := &clerkv1alpha1.ClerkOrganizationMembership{Spec: clerkv1alpha1.ClerkOrganizationMembershipSpec{
			MembershipID: id, UserID: user,
		}}
		if created != nil {
			m.Spec.CreatedAt = new(clerkv1alpha1.NewTimestamp(start.Add(*created)))
		}
		m.Spec.UpdatedAt = clerkv1alpha1.NewTimestamp(start.Add(updated))
		return m
	}
	at := func(minutes int) *time.Duration { return new(time.Duration(minutes) * time.Minute) }
	for name, tc := range map[string]struct {
		memberships []*clerkv1alpha1.ClerkOrganizationMembership
		want        map[string]string
	}{
		"none": {nil, map[string]string{}},
		"one of each": {[]*clerkv1alpha1.ClerkOrganizationMembership{
			membership("orgmem_a", "user_a", at(1), time.Hour), membership("orgmem_b", "user_b", at(2), time.Hour),
		}, map[string]string{"user_a": "orgmem_a", "user_b": "orgmem_b"}},
		"created later, updated earlier": {[]*clerkv1alpha1.ClerkOrganizationMembership{
			membership("orgmem_a", "user_a", at(1), 2*time.Hour), membership("orgmem_b", "user_a", at(2), time.Hour),
			membership("orgmem_c", "user_a", at(0), 3*time.Hour),
		}, map[string]string{"user_a": "orgmem_b"}},
		"created together, updated later": {[]*clerkv1alpha1.ClerkOrganizationMembership{
			membership("orgmem_c", "user_a", at(1), time.Hour), membership("orgmem_b", "user_a", at(1), 2*time.Hour),
			membership("orgmem_d", "user_a", at(1), 0),
		}, map[string]string{"user_a": "orgmem_b"}},
		"all the same, last by ID": {[]*clerkv1alpha1.ClerkOrganizationMembership{
			membership("orgmem_b", "user_a", at(1), time.Hour), membership("orgmem_c", "user_a", at(1), time.Hour),
			membership("orgmem_a", "user_a", at(1), time.Hour),
		}, map[string]string{"user_a": "orgmem_c"}},
		"without createdAt its update stands for it": {[]*clerkv1alpha1.ClerkOrganizationMembership{
			membership("orgmem_a", "user_a", nil, 3*time.Minute), membership("orgmem_b", "user_a", at(2), time.Hour),
			membership("orgmem_c", "user_a", nil, time.Minute),
		}, map[string]string{"user_a": "orgmem_a"}},
		"none has createdAt": {[]*clerkv1alpha1.ClerkOrganizationMembership{
			membership("orgmem_b", "user_a", nil, time.Minute), membership("orgmem_a", "user_a", nil, 2*time.Minute),
		}, map[string]string{"user_a": "orgmem_a"}},
	} {
		t.Run(name, func(t *testing.T) {
			for range 20 {
				g := NewWithT(t)
				rand.Shuffle(len(tc.memberships), func(i, j int) {
					tc.memberships[i], tc.memberships[j] = tc.memberships[j], tc.memberships[i]
				})
				got := map[string]string{}
				for user, m := range access.Current(tc.memberships) {
					got[user] = m.Spec.MembershipID
				}
				g.Expect(got).To(Equal(tc.want))
			}
		})
	}
}

func TestUserID_isTheInverseOfUsername(t *testing.T) {
	const id = "user_2g7np7Hrk0SN6kj5EDMLDaKNL0S"
	for _, prefix := range []string{
		"clerk:", "", "user_", "user_user_", "user_x", "oidc#user_x:", "https://clerk.example.com#", "oidc:org_1/user:", "ä:", "_", "super",
	} {
		t.Run(prefix, func(t *testing.T) {
			g := NewWithT(t)
			g.Expect(access.Username(prefix, id)).To(Equal(prefix + id))
			got, ok := access.UserID(access.Username(prefix, id))
			g.Expect(ok).To(BeTrue())
			g.Expect(got).To(Equal(id))
		})
	}
	for _, username := range []string{"", "clerk:", "clerk:org_1", "user", "system:serviceaccount:default:default", "clerk:USER_1"} {
		t.Run("none in "+username, func(t *testing.T) {
			g := NewWithT(t)
			got, ok := access.UserID(username)
			g.Expect(ok).To(BeFalse())
			g.Expect(got).To(BeEmpty())
		})
	}
}

func TestDecideOwner(t *testing.T) {
	owners := class(clerkv1alpha1.ClerkTenantClassAccess{Role: clerkv1alpha1.RoleOwner, ClusterRoles: []string{"view", "edit", "view"}})
	for name, tc := range map[string]struct {
		change    func(*clerkv1alpha1.ClerkUser)
		class     *clerkv1alpha1.ClerkTenantClass
		suspended bool
		want      string
	}{
		"granted":          {nil, owners, false, ""},
		"no class":         {nil, nil, false, clerkv1alpha1.ReasonNoTenantClass},
		"no owner's role":  {nil, class(clerkv1alpha1.ClerkTenantClassAccess{Role: "org:admin", ClusterRoles: []string{"admin"}}), false, clerkv1alpha1.ReasonRoleNotMapped},
		"suspended tenant": {nil, owners, true, clerkv1alpha1.ReasonTenantSuspended},
		"banned":           {func(u *clerkv1alpha1.ClerkUser) { u.Spec.Banned = new(true) }, owners, false, clerkv1alpha1.ReasonUserSuspended},
		"deprovisioned":    {func(u *clerkv1alpha1.ClerkUser) { u.Spec.Deprovisioned = new(true) }, owners, false, clerkv1alpha1.ReasonUserSuspended},
		"being deleted":    {func(u *clerkv1alpha1.ClerkUser) { u.DeletionTimestamp = deleting }, owners, false, clerkv1alpha1.ReasonUserDeleting},
	} {
		t.Run(name, func(t *testing.T) {
			g, user := NewWithT(t), request().User
			if tc.change != nil {
				tc.change(user)
			}
			decision := access.DecideOwner(user, tc.class, tc.suspended)
			g.Expect(decision.Reason).To(Equal(tc.want))
			if tc.want == "" {
				g.Expect(decision.ClusterRoles).To(Equal([]string{"edit", "view"}))
			} else {
				g.Expect(decision.Granted()).To(BeFalse())
				g.Expect(decision.Message).NotTo(ContainSubstring("amalia"))
			}
		})
	}
}
