// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	. "github.com/onsi/gomega"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	clerkv1alpha1 "github.com/clerk-operator/clerk-operator/api/v1alpha1"
	"github.com/clerk-operator/clerk-operator/internal/tenant"
)

// A user is told of it once, however often the user is looked at.
func TestTellOfNoTenant_changesNothingTheSecondTime(t *testing.T) {
	g := NewWithT(t)
	class := &clerkv1alpha1.ClerkTenantClass{ObjectMeta: metav1.ObjectMeta{Name: "standard"}}
	c := &claim{passedOver: passedOver(class, errors.New("why"))}
	user := &clerkv1alpha1.ClerkUser{}
	tellOfNoTenant(user, c)
	g.Expect(passedOverBy(user)).To(Equal([]string{"standard"}))
	user.Status.Conditions[0].LastTransitionTime = metav1.NewTime(time.Now().Add(-time.Hour))
	before := user.DeepCopy()
	tellOfNoTenant(user, c)
	g.Expect(user).To(Equal(before))
	tellOfNoTenant(user, &claim{})
	g.Expect(user.Status.Conditions).To(BeEmpty())
}

// Who cannot be told apart by an expression is found among however many who can.
func TestUnevaluated_beginsWithThoseWhoWereTold(t *testing.T) {
	g := NewWithT(t)
	selectors, err := tenant.NewSelectors()
	g.Expect(err).NotTo(HaveOccurred())
	r := &ClerkTenantClassReconciler{base{selectors: selectors}}
	class := &clerkv1alpha1.ClerkTenantClass{ObjectMeta: metav1.ObjectMeta{Name: "standard"}}
	class.Spec.Selector = &clerkv1alpha1.ClerkTenantClassSelector{Expression: "organization.publicMetadata.tier == 'gold'"}
	owners := make([]owner, 0, 2*maxTried)
	for i := range 2 * maxTried {
		o := &clerkv1alpha1.ClerkOrganization{}
		o.Spec.OrganizationID = fmt.Sprintf("org_%03d", i)
		o.Spec.PublicMetadata = &apiextensionsv1.JSON{Raw: []byte(`{"tier":"gold"}`)}
		owners = append(owners, o)
	}
	last := owners[len(owners)-1].(*clerkv1alpha1.ClerkOrganization)
	last.Spec.PublicMetadata = nil
	g.Expect(r.unevaluated(class, owners)).To(BeEmpty(), "not all are tried")

	setCondition(last, clerkv1alpha1.ConditionNamespaceReady, metav1.ConditionFalse, clerkv1alpha1.ReasonNoTenantClass,
		noClass(&claim{passedOver: passedOver(class, errors.New("why"))}))
	g.Expect(passedOverBy(last)).To(Equal([]string{"standard"}))
	g.Expect(r.unevaluated(class, owners)).To(ContainSubstring("cannot be evaluated for " + last.Spec.OrganizationID))
}

// Those that the platform team holds, that are on their way out or that are another class's are no failures.
func TestTellOfTenants(t *testing.T) {
	g := NewWithT(t)
	class := &clerkv1alpha1.ClerkTenantClass{ObjectMeta: metav1.ObjectMeta{Name: "standard"}}
	tenantOf := func(id, class string, namespaceReady, accessReady string) *clerkv1alpha1.ClerkOrganization {
		o := &clerkv1alpha1.ClerkOrganization{}
		o.Spec.OrganizationID, o.Status.TenantClass = id, class
		for conditionType, reason := range map[string]string{
			clerkv1alpha1.ConditionNamespaceReady: namespaceReady, clerkv1alpha1.ConditionAccessReady: accessReady,
		} {
			status := metav1.ConditionFalse
			if reason == clerkv1alpha1.ReasonProvisioned {
				status = metav1.ConditionTrue
			}
			setCondition(o, conditionType, status, reason, "")
		}
		return o
	}
	const provisioned, refused = clerkv1alpha1.ReasonProvisioned, clerkv1alpha1.ReasonGuardrailRefused
	deleted := tenantOf("org_5", "standard", refused, refused)
	deleted.DeletionTimestamp = new(metav1.Now())
	well := []owner{
		tenantOf("org_1", "standard", provisioned, provisioned),
		tenantOf("org_2", "another", refused, refused),
		tenantOf("org_3", "standard", refused, clerkv1alpha1.ReasonTenantSuspended),
		deleted,
		&clerkv1alpha1.ClerkOrganization{},
	}
	tell := func(owners []owner) {
		countTenants(class, owners)
		tellOfTenants(class, owners)
	}
	tell(well)
	g.Expect(class.Status.Conditions).To(ConsistOf(And(
		HaveField("Type", clerkv1alpha1.ConditionTenantsReady), HaveField("Status", metav1.ConditionTrue))))

	class.Generation = 2
	tell(well)
	g.Expect(class.Status.Conditions).To(ConsistOf(And(
		HaveField("Status", metav1.ConditionUnknown), HaveField("Reason", clerkv1alpha1.ReasonRollingOut))), "nobody was looked at")
	tell(slices.Concat(well, []owner{
		tenantOf("org_9", "standard", refused, refused), tenantOf("org_8", "standard", refused, refused),
		tenantOf("org_7", "standard", refused, refused),
		tenantOf("org_6", "standard", provisioned, clerkv1alpha1.ReasonRoleNotBindable),
	}))
	g.Expect(class.Status.Conditions).To(ConsistOf(And(
		HaveField("Status", metav1.ConditionFalse), HaveField("Reason", clerkv1alpha1.ReasonTenantsNotReady),
		HaveField("Message", "not as the class wants it are 4 of its tenants, which say why: "+
			"org_6 (RoleNotBindable), org_7 (GuardrailRefused), org_8 (GuardrailRefused)"))))
}
