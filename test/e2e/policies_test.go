// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"testing"

	. "github.com/onsi/gomega"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	clerkv1alpha1 "github.com/clerk-operator/clerk-operator/api/v1alpha1"
	"github.com/clerk-operator/clerk-operator/internal/policy"
	"github.com/clerk-operator/clerk-operator/test/payload"
)

// probeOften makes a manager notice soon what happens to the policies.
const probeOften = "--probe-interval=200ms"

// waysToBreak are what may happen to a policy while the operator runs, as arguments of kubectl, and the policy.
var waysToBreak = []struct {
	about, policy string
	kubectl       []string
}{
	{"its binding is deleted", policy.RestrictWrites, []string{"delete", "validatingadmissionpolicybinding", policy.RestrictWrites}},
	{
		"its binding is for no namespace", policy.ProtectTenants,
		[]string{
			"patch", "validatingadmissionpolicybinding", policy.ProtectTenants, "--type=merge", "-p",
			`{"spec":{"matchResources":{"namespaceSelector":{"matchLabels":{"of":"nothing"}}}}}`,
		},
	},
	{"it is deleted", policy.ProtectNamespaces, []string{"delete", "validatingadmissionpolicy", policy.ProtectNamespaces}},
	{
		"it only audits", policy.ProtectMirror,
		[]string{"patch", "validatingadmissionpolicybinding", policy.ProtectMirror, "--type=merge", "-p", `{"spec":{"validationActions":["Audit"]}}`},
	},
	{
		"it is for another account", policy.RestrictSecrets,
		[]string{
			"patch", "validatingadmissionpolicy", policy.RestrictSecrets, "--type=json", "-p",
			`[{"op":"replace","path":"/spec/matchConditions/0/expression","value":"request.userInfo.username == 'system:serviceaccount:a:b'"}]`,
		},
	},
	{
		"it lost a rule", policy.RestrictBindings,
		[]string{
			"patch", "validatingadmissionpolicy", policy.RestrictBindings, "--type=json", "-p",
			`[{"op":"test","path":"/spec/validations/3/reason","value":"Forbidden"},{"op":"remove","path":"/spec/validations/3"}]`,
		},
	},
}

// mend puts every policy back.
func (w *world) mend() {
	w.t.Helper()
	w.kubectl("apply", "--server-side", "--force-conflicts", "-k", "config/policy")
	w.kubectl("replace", "-k", "config/policy")
}

// wantEnforced waits for ClerkInstances and classes to say whether the policies are in force.
func (w *world) wantEnforced(status metav1.ConditionStatus, reason string, class *clerkv1alpha1.ClerkTenantClass) {
	w.t.Helper()
	instance := &clerkv1alpha1.ClerkInstance{ObjectMeta: metav1.ObjectMeta{Name: w.instanceName}}
	want := haveCondition(clerkv1alpha1.ConditionPoliciesEnforced, status, reason)
	w.Eventually(stored(w, instance)).Should(want)
	w.Eventually(stored(w, class)).Should(want)
}

// beWithheld matches an organization that is given nothing new.
var beWithheld = haveCondition(clerkv1alpha1.ConditionNamespaceReady, metav1.ConditionFalse, clerkv1alpha1.ReasonPoliciesNotEnforced)

func TestPolicies_whileOneDoesNotHoldNothingNewIsGiven(t *testing.T) {
	w := newWorld(t)
	w.ownCluster(probeOften)
	tenant, namespace := w.tenant("tenant")
	class := w.classOf(tenant.ID)
	w.wantEnforced(metav1.ConditionTrue, clerkv1alpha1.ReasonEnforced, class)
	for _, way := range waysToBreak {
		leaver := w.user()
		membership := w.join(leaver, tenant, "org:admin")
		w.Eventually(w.level(leaver.ID, namespace)).Should(Equal(admin))

		w.kubectl(way.kubectl...)
		w.wantEnforced(metav1.ConditionFalse, clerkv1alpha1.ReasonNotEnforced, class)
		w.Expect(w.kubectl("get", "clerkinstances", "-o", "yaml")).To(ContainSubstring(way.policy+" does not refuse"), way.about)
		w.Eventually(w.told(class)).Should(ContainElement(ContainSubstring(clerkv1alpha1.ReasonNotEnforced)), way.about)

		existing := namespaceObject(newName())
		w.create(existing)
		adopting := w.adopting(existing.Name)
		w.annotate(existing, clerkv1alpha1.AnnotationAdoptBy, w.key(adopting))
		founded := w.newOrganization("founded")
		ids := []string{adopting.ID, founded.ID}
		w.class(ids)
		w.happen("organization.created", founded.Data())
		joiner := w.user()
		w.join(joiner, tenant, "org:admin")
		w.happen("organizationMembership.deleted", membership.Data())
		w.Eventually(w.level(leaver.ID, namespace)).Should(Equal(none), way.about)
		for _, id := range ids {
			w.Eventually(stored(w, w.organizationObject(id))).Should(beWithheld, way.about)
		}
		w.Consistently(func(g Gomega) {
			g.Expect(w.namespacesOf(ids)()).To(BeEmpty(), way.about)
			g.Expect(w.levelOf(joiner.ID, namespace)).To(Equal(none), way.about)
		}).Should(Succeed())

		w.mend()
		w.wantEnforced(metav1.ConditionTrue, clerkv1alpha1.ReasonEnforced, class)
		w.Expect(w.provisioned(founded.ID)).NotTo(BeEmpty())
		w.Expect(w.provisioned(adopting.ID)).To(Equal(existing.Name))
		w.Eventually(w.level(joiner.ID, namespace)).Should(Equal(admin), way.about)
	}
}

// TestPolicies_whileOneDoesNotHoldNoNamespaceIsRecognised has owners come back whose status records no namespace.
func TestPolicies_whileOneDoesNotHoldNoNamespaceIsRecognised(t *testing.T) {
	w := newWorld(t)
	w.ownCluster(probeOften)
	kept, keptNamespace := w.tenant("kept")
	member := w.memberOf(kept, keptNamespace)
	going, goingNamespace := w.tenant("going")
	w.memberOf(going, goingNamespace)
	class := w.classOf(kept.ID)
	w.kubectl(waysToBreak[0].kubectl...)
	w.wantEnforced(metav1.ConditionFalse, clerkv1alpha1.ReasonNotEnforced, class)
	for _, o := range []payload.Organization{kept, going} {
		w.deleteByHand("clerkorganizations", o.ID)
		w.Eventually(w.gone(w.organizationObject(o.ID))).Should(BeTrue())
		o.UpdatedAt = w.tick()
		w.happen("organization.updated", o.Data())
		w.Eventually(stored(w, w.organizationObject(o.ID))).Should(beWithheld)
	}
	w.happen("organization.deleted", payload.Deleted("organization", going.ID))
	w.Eventually(stored(w, w.organizationObject(going.ID))).
		Should(beReady(metav1.ConditionFalse, clerkv1alpha1.ReasonPoliciesNotEnforced))
	w.Consistently(func(g Gomega) {
		g.Expect(get(w, namespaceObject(goingNamespace)).DeletionTimestamp).To(BeNil())
		g.Expect(w.levelOf(member.ID, keptNamespace)).To(Equal(none))
	}).Should(Succeed())

	// The next leader finds them so.
	restart := w.withoutManager()
	restart()
	w.Consistently(stored(w, w.organizationObject(kept.ID))).Should(beWithheld)
	w.mend()
	w.wantEnforced(metav1.ConditionTrue, clerkv1alpha1.ReasonEnforced, class)
	w.Expect(w.provisioned(kept.ID)).To(Equal(keptNamespace))
	w.Eventually(w.level(member.ID, keptNamespace)).Should(Equal(admin))
	w.Eventually(w.gone(namespaceObject(goingNamespace)), 2*timeout).Should(BeTrue())
}

func TestPolicies_neededOnlyWhereTheyAreRequired(t *testing.T) {
	w := newWorld(t)
	w.ownCluster(probeOften, "--require-policies=false")
	w.kubectl("delete", "-k", "config/policy")
	o, namespace := w.tenant("unfenced")
	w.memberOf(o, namespace)
	class := w.classOf(o.ID)
	w.wantEnforced(metav1.ConditionFalse, clerkv1alpha1.ReasonNotEnforced, class)
	w.Expect(w.kubectl("get", "clerkinstances", "-o", "yaml")).To(ContainSubstring("by --require-policies=false"))
	w.mend()
	w.wantEnforced(metav1.ConditionTrue, clerkv1alpha1.ReasonEnforced, class)
	w.Expect(suite.client.Get(t.Context(), client.ObjectKey{Name: namespace}, namespaceObject(namespace))).To(Succeed())
}
