// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package tenant_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	. "github.com/onsi/gomega"
	"k8s.io/apimachinery/pkg/api/validate/content"
	rbacv1ac "k8s.io/client-go/applyconfigurations/rbac/v1"
	"sigs.k8s.io/yaml"

	"github.com/clerk-operator/clerk-operator/internal/tenant"
)

func users(count int) []string {
	ids := make([]string, count)
	for i := range ids {
		ids[i] = fmt.Sprintf("user_%027d", i)
	}
	return ids
}

func bind(grants tenant.Grants) []*rbacv1ac.RoleBindingApplyConfiguration {
	return tenant.RoleBindings("org-acme", organization(), "clerk:", grants)
}

// rendered are the bindings as they are applied, by name.
func rendered(g Gomega, bindings []*rbacv1ac.RoleBindingApplyConfiguration) map[string]string {
	byName := map[string]string{}
	for _, binding := range bindings {
		encoded, err := yaml.Marshal(binding)
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(byName).NotTo(HaveKey(*binding.Name))
		byName[*binding.Name] = string(encoded)
	}
	return byName
}

func TestRoleBindings_nobodyIsLeftOutOrBoundTwice(t *testing.T) {
	for count, want := range map[int]struct{ atLeast, atMost int }{
		0: {0, 0}, 1: {1, 1}, 499: {1, 1}, 500: {1, 1}, 501: {16, 16}, 5000: {16, 16},
		// About 560 share the first digit of their digest: some of the 16 shards are split again.
		9000: {31, 256},
	} {
		t.Run(fmt.Sprint(count), func(t *testing.T) {
			g := NewWithT(t)
			bindings := bind(tenant.Grants{"edit": users(count)})
			g.Expect(len(bindings)).To(And(BeNumerically(">=", want.atLeast), BeNumerically("<=", want.atMost)))
			bound := make([]string, 0, count)
			for _, binding := range bindings {
				g.Expect(len(binding.Subjects)).To(And(BeNumerically(">", 0), BeNumerically("<=", tenant.MaxSubjects)))
				g.Expect(*binding.Namespace).To(Equal("org-acme"))
				g.Expect(*binding.RoleRef.Kind).To(Equal("ClusterRole"))
				g.Expect(*binding.RoleRef.Name).To(Equal("edit"))
				g.Expect(binding.Labels).To(Equal(ownLabels))
				for _, subject := range binding.Subjects {
					g.Expect(*subject.Kind).To(Equal("User"))
					g.Expect(*subject.APIGroup).To(Equal("rbac.authorization.k8s.io"))
					g.Expect(*subject.Name).To(HavePrefix("clerk:"))
					bound = append(bound, strings.TrimPrefix(*subject.Name, "clerk:"))
				}
			}
			slices.Sort(bound)
			g.Expect(slices.Equal(bound, users(count))).To(BeTrue())
			g.Expect(slices.IsSortedFunc(bindings, func(a, b *rbacv1ac.RoleBindingApplyConfiguration) int {
				return strings.Compare(*a.Name, *b.Name)
			})).To(BeTrue())
		})
	}
}

func TestRoleBindings_doNotDependOnTheOrderOfMembers(t *testing.T) {
	g := NewWithT(t)
	want := bind(tenant.Grants{"edit": users(700), "view": users(3)})
	for range 5 {
		edit, view := users(700), users(3)
		rand.Shuffle(len(edit), func(i, j int) { edit[i], edit[j] = edit[j], edit[i] })
		rand.Shuffle(len(view), func(i, j int) { view[i], view[j] = view[j], view[i] })
		// Named twice is bound once, and does not count towards a split.
		view = append(view, slices.Repeat(view, 300)...)
		given := slices.Clone(edit)
		g.Expect(bind(tenant.Grants{"edit": edit, "view": view})).To(Equal(want))
		g.Expect(edit).To(Equal(given), "the caller's members must not be changed")
	}
}

func TestRoleBindings_oneMemberMoreChangesOneBinding(t *testing.T) {
	for _, count := range []int{10, 499, 501, 3000} {
		t.Run(fmt.Sprint(count), func(t *testing.T) {
			g := NewWithT(t)
			before := rendered(g, bind(tenant.Grants{"edit": users(count), "view": users(10)}))
			after := rendered(g, bind(tenant.Grants{"edit": users(count + 1), "view": users(10)}))
			g.Expect(after).To(HaveLen(len(before)))
			changed := 0
			for name := range after {
				if after[name] != before[name] {
					changed++
				}
			}
			g.Expect(changed).To(Equal(1))
		})
	}
}

func TestRoleBindings_haveNamesOfTheirOwn(t *testing.T) {
	r := func(length int) string { return strings.Repeat("r", length) }
	// What a role's binding is named when the role's name is cut may be a role's name too.
	cut := *bind(tenant.Grants{strings.Repeat("x", 253): users(1)})[0].Name
	for name, roles := range map[string][]string{
		"short": {
			"admin", "0.admin", "admin-0", "0-admin", "-admin", ".admin", "0..admin", "0.0.admin", "a.admin", "clerk-admin",
			"clerk.0.admin", "Admin", "system:aggregate-to-admin", "admin.0", "00.admin",
		},
		"long":           {r(171), r(172), r(181), r(182), r(183), r(253), r(300), r(300) + "s", "0." + r(200)},
		"like another's": {strings.Repeat("x", 253), strings.TrimPrefix(cut, "clerk-")},
		"not ASCII":      {strings.Repeat("ä", 100), strings.Repeat("ä", 101), r(170) + strings.Repeat("é", 40)},
	} {
		t.Run(name, func(t *testing.T) {
			g := NewWithT(t)
			owner := map[string]string{}
			for _, role := range roles {
				// One binding, shards of one digit, and shards of one and two digits.
				for _, count := range []int{1, 501, 9000} {
					for _, binding := range bind(tenant.Grants{role: users(count)}) {
						name := *binding.Name
						g.Expect(owner[name]).To(Or(BeEmpty(), Equal(role)), "%q has the name of another role's", name)
						owner[name] = role
						g.Expect(name).To(HavePrefix("clerk"))
						g.Expect(len(name)).To(BeNumerically("<=", 253))
						g.Expect(content.IsPathSegmentName(name)).To(BeEmpty())
						g.Expect(utf8.ValidString(name)).To(BeTrue(), "%q", name)
						g.Expect(*binding.RoleRef.Name).To(Equal(role))
					}
				}
			}
		})
	}
}

func TestRoleBindings_nameUsersByTheInstancesPrefix(t *testing.T) {
	g := NewWithT(t)
	bindings := tenant.RoleBindings("org-acme", organization(), "oidc#user_x:", tenant.Grants{"edit": {"user_A"}})
	g.Expect(*bindings[0].Subjects[0].Name).To(Equal("oidc#user_x:user_A"))
}
