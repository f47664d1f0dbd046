// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"fmt"
	"testing"
	"time"

	. "github.com/onsi/gomega"
	"github.com/onsi/gomega/types"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	clerkv1alpha1 "github.com/clerk-operator/clerk-operator/api/v1alpha1"
	"github.com/clerk-operator/clerk-operator/test/payload"
)

// forUsers makes a class select one user.
func (w *world) forUser(id string, change ...func(*clerkv1alpha1.ClerkTenantClass)) *clerkv1alpha1.ClerkTenantClass {
	w.t.Helper()
	return w.class(nil, append([]func(*clerkv1alpha1.ClerkTenantClass){func(class *clerkv1alpha1.ClerkTenantClass) {
		limited("")(class)
		class.Spec.AppliesTo = clerkv1alpha1.TenantsUsers
		class.Spec.Selector.Expression = fmt.Sprintf("user.userID == %q", id)
		class.Spec.Access = []clerkv1alpha1.ClerkTenantClassAccess{{Role: clerkv1alpha1.RoleOwner, ClusterRoles: []string{"edit"}}}
	}}, change...)...)
}

// personal waits for a user to have a namespace of the user's own, and returns its name.
func (w *world) personal(id string) string {
	w.t.Helper()
	w.Eventually(stored(w, w.userObject(id))).Should(
		haveCondition(clerkv1alpha1.ConditionNamespaceReady, metav1.ConditionTrue, clerkv1alpha1.ReasonProvisioned))
	return get(w, w.userObject(id)).Status.Namespace.Name
}

func TestPersonal_aUserHasANamespaceAlone(t *testing.T) {
	w := newWorld(t)
	u, other := w.user(), w.user()
	class := w.forUser(u.ID)
	name := w.personal(u.ID)
	w.Eventually(w.level(u.ID, name)).Should(Equal(edit))
	w.Expect(w.levelOf(other.ID, name)).To(Equal(none))
	w.Expect(get(w, w.userObject(other.ID)).Status.Namespace.Name).To(BeEmpty())
	w.Expect(get(w, namespaceObject(name)).Labels).To(And(
		HaveKeyWithValue(clerkv1alpha1.LabelUserID, u.ID), Not(HaveKey(clerkv1alpha1.LabelOrganizationID)),
		HaveKeyWithValue("pod-security.kubernetes.io/enforce", "restricted")))
	w.Expect(w.guardrails(name)).To(HaveLen(len(w.guardrailsOf(class))))
	w.Expect(text(w.secretOf(name))).To(And(HaveKeyWithValue("CLERK_USER_ID", u.ID), Not(HaveKey("CLERK_ORGANIZATION_ID"))))
	w.Eventually(stored(w, class)).Should(HaveField("Status.Tenants", HaveValue(BeEquivalentTo(1))))

	w.Expect(w.deliver(w.updateUser(&u, func(u *payload.User) { u.Banned = true }))).To(Equal("applied"))
	w.Eventually(w.level(u.ID, name)).Should(Equal(none))
	w.Eventually(stored(w, w.userObject(u.ID))).Should(beReady(metav1.ConditionTrue, clerkv1alpha1.ReasonSuspended))
	w.Expect(w.deliver(w.updateUser(&u, func(u *payload.User) { u.Banned = false }))).To(Equal("applied"))
	w.Eventually(w.level(u.ID, name)).Should(Equal(edit))

	w.happen("user.deleted", payload.Deleted("user", u.ID))
	w.Eventually(w.gone(namespaceObject(name))).Should(BeTrue())
	w.Eventually(w.gone(w.userObject(u.ID))).Should(BeTrue())
}

// guardrailsOf are the managed objects that a class of forUser leads to.
func (w *world) guardrailsOf(class *clerkv1alpha1.ClerkTenantClass) []string {
	names := []string{"Secret", "RoleBinding", "isolation"}
	if class.Spec.Quota != nil {
		names = append(names, "ResourceQuota")
	}
	if class.Spec.Limits != nil {
		names = append(names, "LimitRange")
	}
	for _, policy := range class.Spec.NetworkPolicies {
		names = append(names, policy.Name)
	}
	return names
}

func TestPersonal_theNamespaceOutlivesTheGrace(t *testing.T) {
	w := newWorld(t)
	u := w.user()
	o, shared := w.tenant("beside-personal")
	w.join(u, o, "org:member")
	w.forUser(u.ID, func(class *clerkv1alpha1.ClerkTenantClass) {
		class.Spec.Deletion.GracePeriod = &metav1.Duration{Duration: 72 * time.Hour}
	})
	name := w.personal(u.ID)
	w.Eventually(w.level(u.ID, shared)).Should(Equal(edit))

	w.happen("user.deleted", payload.Deleted("user", u.ID))
	w.Eventually(w.level(u.ID, shared)).Should(Equal(none))
	w.Eventually(w.level(u.ID, name)).Should(Equal(none))
	w.Eventually(stored(w, w.userObject(u.ID))).Should(And(
		HaveField("DeletionTimestamp", Not(BeNil())), beReady(metav1.ConditionFalse, clerkv1alpha1.ReasonDeleting)))
	w.Consistently(stored(w, namespaceObject(name))).Should(HaveField("DeletionTimestamp", BeNil()))
	w.annotate(w.userObject(u.ID), clerkv1alpha1.AnnotationRetain, "true")
	w.Eventually(w.gone(w.userObject(u.ID))).Should(BeTrue())
	w.Expect(get(w, namespaceObject(name)).DeletionTimestamp).To(BeNil())
}

func TestPersonal_withoutAClassThereIsNone(t *testing.T) {
	w := newWorld(t)
	u := w.user()
	class := w.forUser(u.ID)
	name := w.personal(u.ID)
	w.Eventually(w.level(u.ID, name)).Should(Equal(edit))
	w.Expect(suite.client.Delete(t.Context(), class)).To(Succeed())
	w.Eventually(w.level(u.ID, name)).Should(Equal(none))
	w.Eventually(stored(w, w.userObject(u.ID))).Should(And(
		beReady(metav1.ConditionTrue, clerkv1alpha1.ReasonActive),
		haveCondition(clerkv1alpha1.ConditionAccessReady, metav1.ConditionFalse, clerkv1alpha1.ReasonNoTenantClass)))
	w.Expect(get(w, namespaceObject(name)).DeletionTimestamp).To(BeNil())
}

func TestPersonal_anExpressionThatCannotTellIsToldOf(t *testing.T) {
	w := newWorld(t)
	u := w.user()
	class := w.forUser(u.ID, func(class *clerkv1alpha1.ClerkTenantClass) {
		class.Spec.Selector.Expression += " && user.publicMetadata.tier == 'gold'"
	})
	told := func(object string) types.GomegaMatcher {
		return HaveField("Status.Conditions", ContainElement(HaveField("Message", And(
			ContainSubstring(object), ContainSubstring("it reads a key that is not there")))))
	}
	w.Eventually(stored(w, w.userObject(u.ID))).Should(And(
		beReady(metav1.ConditionTrue, clerkv1alpha1.ReasonActive), told("ClerkTenantClass "+class.Name),
		haveCondition(clerkv1alpha1.ConditionNamespaceReady, metav1.ConditionFalse, clerkv1alpha1.ReasonNoTenantClass)))
	w.Eventually(stored(w, class)).Should(told(u.ID))

	w.Expect(w.deliver(w.updateUser(&u, func(u *payload.User) { u.PublicMetadata = map[string]any{"tier": "silver"} }))).To(Equal("applied"))
	w.Eventually(stored(w, w.userObject(u.ID))).Should(HaveField("Status.Conditions", HaveLen(1)))
	w.Eventually(stored(w, class)).Should(HaveField("Status.Conditions", ContainElement(HaveField("Message", "the class can be used"))))
}

func TestPersonal_aUserDeletedByHandComesBackToTheNamespace(t *testing.T) {
	w := newWorld(t)
	u := w.user()
	w.forUser(u.ID)
	name := w.personal(u.ID)
	w.Eventually(w.level(u.ID, name)).Should(Equal(edit))
	uid := get(w, namespaceObject(name)).UID

	w.Expect(suite.client.Delete(t.Context(), w.userObject(u.ID))).To(Succeed())
	w.Eventually(w.gone(w.userObject(u.ID))).Should(BeTrue())
	w.Eventually(w.level(u.ID, name)).Should(Equal(none))
	w.Consistently(stored(w, namespaceObject(name))).Should(HaveField("DeletionTimestamp", BeNil()), "it is not deleted in Clerk")
	w.happen("user.updated", u.Data())
	w.Expect(w.personal(u.ID)).To(Equal(name))
	w.Eventually(w.level(u.ID, name)).Should(Equal(edit))
	w.Expect(get(w, namespaceObject(name)).UID).To(Equal(uid))
}

func TestPersonal_whoIsBannedIsMadeNone(t *testing.T) {
	w := newWorld(t)
	u := w.newUser()
	u.Banned = true
	w.happen("user.created", u.Data())
	class := w.forUser(u.ID, func(class *clerkv1alpha1.ClerkTenantClass) { class.Spec.MaxTenants = new(int32(1)) })
	w.Eventually(stored(w, w.userObject(u.ID))).Should(beReady(metav1.ConditionTrue, clerkv1alpha1.ReasonSuspended))
	w.Consistently(stored(w, w.userObject(u.ID))).Should(HaveField("Status.Namespace.Name", BeEmpty()))
	w.Expect(w.deliver(w.updateUser(&u, func(u *payload.User) { u.Banned = false }))).To(Equal("applied"))
	w.personal(u.ID)
	w.Eventually(stored(w, class)).Should(HaveField("Status.Tenants", HaveValue(BeEquivalentTo(1))))
}

// What is wrong with the namespace is told, and told once: a status that says the same is not written.
func TestPersonal_aFailureIsToldOnce(t *testing.T) {
	w := newWorld(t)
	u := w.user()
	w.forUser(u.ID, func(class *clerkv1alpha1.ClerkTenantClass) {
		class.Spec.Secrets = []clerkv1alpha1.ClerkTenantClassSecret{{Name: "not-there"}}
	})
	w.Eventually(stored(w, w.userObject(u.ID))).Should(beReady(metav1.ConditionFalse, clerkv1alpha1.ReasonSecretNotShared))
	before := get(w, w.userObject(u.ID)).Status
	w.annotate(w.userObject(u.ID), "example.com/look", "again")
	w.Consistently(stored(w, w.userObject(u.ID))).Should(HaveField("Status", before))
}
