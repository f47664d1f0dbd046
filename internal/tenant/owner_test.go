// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package tenant_test

import (
	"testing"

	. "github.com/onsi/gomega"

	clerkv1alpha1 "github.com/clerk-operator/clerk-operator/api/v1alpha1"
	"github.com/clerk-operator/clerk-operator/internal/tenant"
)

func TestOwner_ofAUserAlone(t *testing.T) {
	g := NewWithT(t)
	g.Expect(tenant.KindOf(user())).To(Equal(clerkv1alpha1.TenantsUsers))
	g.Expect(tenant.Labels(user())).To(And(
		HaveKeyWithValue(clerkv1alpha1.LabelUserID, user().Spec.UserID), Not(HaveKey(clerkv1alpha1.LabelOrganizationID))))
	name := tenant.NamespaceName("own-", user())
	g.Expect(name).To(MatchRegexp("^own-2g7np7hrk0sn6kj5edmldaknl0s-[a-z2-7]{5}$"), "nothing of the user but the ID")
	g.Expect(tenant.CanBeNamed(name, user())).To(BeTrue())
	g.Expect(tenant.CanBeNamed(name, organization())).To(BeFalse())
}

// An ID is an owner's only together with its instance.
func TestOwner_isAnIDOfAnInstance(t *testing.T) {
	g := NewWithT(t)
	mine, theirs, others := organization(), organization(), organization()
	theirs.Spec.InstanceName, others.Spec.InstanceName = "staging", "other"
	g.Expect(tenant.Key(mine)).To(Equal("default/" + organizationID))
	names := map[string]*clerkv1alpha1.ClerkOrganization{}
	for _, o := range []*clerkv1alpha1.ClerkOrganization{mine, theirs, others} {
		names[tenant.NamespaceName("org-", o)] = o
		g.Expect(tenant.Labels(o)).To(HaveKeyWithValue(clerkv1alpha1.LabelInstance, o.Spec.InstanceName))
	}
	g.Expect(names).To(HaveLen(3))
	for name, of := range names {
		for _, o := range []*clerkv1alpha1.ClerkOrganization{mine, theirs, others} {
			g.Expect(tenant.CanBeNamed(name, o)).To(Equal(o == of), name)
		}
	}
}

func TestSelectors_classesAreForOneKind(t *testing.T) {
	g, s := NewWithT(t), selectors(t)
	forUsers, forOrganizations := selecting("user.publicMetadata.plan == 'pro'"), selecting("organization.publicMetadata.plan == 'pro'")
	forUsers.Name, forUsers.Spec.AppliesTo = "users", clerkv1alpha1.TenantsUsers
	classes := []clerkv1alpha1.ClerkTenantClass{forUsers, forOrganizations}
	g.Expect(s.Select(classes, user()).Name).To(Equal("users"))
	g.Expect(s.Select(classes, organization()).Name).To(Equal("standard"))
	g.Expect(s.Select(classes[1:], user())).To(BeNil())

	confused := selecting("organization.publicMetadata.plan == 'pro'")
	confused.Spec.AppliesTo = clerkv1alpha1.TenantsUsers
	g.Expect(s.Check(&confused)).To(MatchError(ContainSubstring("undeclared reference to 'organization'")))
	for _, secret := range []string{"user.email == ''", "user.username == ''", "user.firstName == ''"} {
		c := selecting(secret)
		c.Spec.AppliesTo = clerkv1alpha1.TenantsUsers
		_, err := s.Selects(&c, user())
		g.Expect(err).To(MatchError(ContainSubstring("key that is not there")), "the user can change it")
	}
}

// What an expression failed on can be a value out of metadata.
func TestSelectors_explainWithoutValues(t *testing.T) {
	g, s := NewWithT(t), selectors(t)
	for expression, want := range map[string]string{
		"organization.publicMetadata.tier == 'gold'": "a key that is not there",
		"organization.publicMetadata.plan > 5":       "another type",
		"int(organization.publicMetadata.plan) == 1": "its evaluation fails",
		"organization.publicMetadata.plan":           "no bool",
		"organization.publicMetadata.plan = 'pro'":   "not valid",
		"[1,2,3,4,5,6,7,8,9].all(a, [1,2,3,4,5,6,7,8,9].all(b, [1,2,3,4,5,6,7,8,9].all(c, [1,2,3,4,5,6,7,8,9].all(d, " +
			"[1,2,3,4,5,6,7,8,9].all(e, [1,2,3,4,5,6,7,8,9].all(f, a+b+c+d+e+f > 0))))))": "costs too much",
	} {
		class := selecting(expression)
		selects, err := s.Selects(&class, organization())
		g.Expect(selects).To(BeFalse())
		g.Expect(err).To(MatchError(ContainSubstring(want)), expression)
		g.Expect(err.Error()).NotTo(ContainSubstring("pro"))
	}
}

// What is remembered of an owner is for exactly this version of it, and of the classes.
func TestSelectors_rememberUntilSomethingChanges(t *testing.T) {
	g, s := NewWithT(t), selectors(t)
	pro, free := selecting("organization.plan == 'pro'"), selecting("organization.plan == 'free'")
	pro.Name, pro.UID, free.Name, free.UID = "pro", "1", "free", "2"
	classes := []clerkv1alpha1.ClerkTenantClass{pro, free}
	o := organization()
	o.ResourceVersion, o.Spec.Billing.Plan = "1", "pro"
	for range 2 {
		g.Expect(s.Select(classes, o)).To(HaveField("Name", "pro"))
	}
	o.Spec.Billing.Plan = "free"
	g.Expect(s.Select(classes, o)).To(HaveField("Name", "pro"), "without another version it is the same object")
	o.ResourceVersion = "2"
	g.Expect(s.Select(classes, o)).To(HaveField("Name", "free"))
	classes[1].Spec.Selector.Expression, classes[1].Generation = "false", 2
	g.Expect(s.Select(classes, o)).To(BeNil())
	g.Expect(s.Select(classes[:1], o)).To(BeNil())
	o.UID = "another"
	o.Spec.Billing.Plan = "pro"
	g.Expect(s.Select(classes, o)).To(HaveField("Name", "pro"))
}
