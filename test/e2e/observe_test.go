// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"testing"

	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	clerkv1alpha1 "github.com/clerk-operator/clerk-operator/api/v1alpha1"
	"github.com/clerk-operator/clerk-operator/test/installation"
	"github.com/clerk-operator/clerk-operator/test/payload"
)

func observing(i *clerkv1alpha1.ClerkInstance) { i.Spec.Mode = clerkv1alpha1.ModeObserve }

func TestObserve_tellsWhatItWouldDoAndDoesNothing(t *testing.T) {
	w := newWorld(t)
	instance := w.ownInstance(observing)
	o := w.newOrganization("observed")
	w.class([]string{o.ID}, limited(""))
	u := w.user()
	w.join(u, o, "org:admin")
	w.happen("organization.created", o.Data())

	w.Eventually(stored(w, w.organizationObject(o.ID))).Should(And(
		beReady(metav1.ConditionFalse, clerkv1alpha1.ReasonObserving),
		HaveField("Status.Plan.Changes", ContainElements(
			MatchRegexp("^create Namespace e2e-observed-"),
			MatchRegexp("^create ResourceQuota .*/clerk-quota$"),
			MatchRegexp("^create NetworkPolicy .*/clerk-isolation$"),
			MatchRegexp("^create Secret .*/clerk-organization$"),
			MatchRegexp(`^create RoleBinding .*/clerk-admin \(1 subjects\)$`))),
		HaveField("Status.Plan.Create", HaveValue(BeNumerically(">=", 5))),
		HaveField("Status.Namespace.Name", BeEmpty())))
	w.Consistently(func() (int, error) {
		var list corev1.NamespaceList
		err := suite.client.List(t.Context(), &list, client.MatchingLabels{clerkv1alpha1.LabelOrganizationID: o.ID})
		return len(list.Items), err
	}).Should(BeZero())
	m := w.manager(installation.ManagerOptions{Name: "planned", Metrics: true, Args: []string{leaderElection}})
	reader := w.reader()
	w.Eventually(func() string { return w.scrape(m.Metrics, reader) }).Should(MatchRegexp(
		`clerk_operator_planned_changes\{action="create",instance="` + instance.Name + `"\} [1-9]`))

	changeByHand(w, instance, func(i *clerkv1alpha1.ClerkInstance) { i.Spec.Mode = clerkv1alpha1.ModeEnforce })
	namespace := w.provisioned(o.ID)
	w.Eventually(w.level(u.ID, namespace)).Should(Equal(admin))
	w.Expect(get(w, w.organizationObject(o.ID)).Status.Plan).To(BeZero())
}

func TestObserve_leavesTenantsAsTheyAre(t *testing.T) {
	w := newWorld(t)
	instance := w.ownInstance()
	o, namespace := w.tenant("left-alone")
	u := w.memberOf(o, namespace)
	changeByHand(w, instance, observing)
	w.Eventually(stored(w, w.organizationObject(o.ID))).Should(And(
		beReady(metav1.ConditionFalse, clerkv1alpha1.ReasonObserving),
		HaveField("Status.Plan.Changes", BeEmpty()), HaveField("Status.Namespace.Name", namespace)))
	before := w.versions(namespace)

	w.Expect(w.deliver(w.updateUser(&u, func(u *payload.User) { u.Banned = true }))).To(Equal("applied"))
	w.Eventually(stored(w, w.organizationObject(o.ID))).Should(HaveField("Status.Plan.Changes",
		ConsistOf("delete RoleBinding "+namespace+"/clerk-admin")))
	w.happen("organization.deleted", payload.Deleted("organization", o.ID))
	w.Eventually(stored(w, w.organizationObject(o.ID))).Should(And(
		HaveField("DeletionTimestamp", Not(BeNil())),
		HaveField("Status.Plan.Changes", ConsistOf(
			"delete RoleBinding "+namespace+"/clerk-admin", "delete Namespace "+namespace))))
	w.Consistently(func() map[string]string { return w.versions(namespace) }).Should(Equal(before))

	changeByHand(w, instance, func(i *clerkv1alpha1.ClerkInstance) { i.Spec.Mode = clerkv1alpha1.ModeEnforce })
	w.Eventually(w.gone(namespaceObject(namespace))).Should(BeTrue())
	w.Eventually(w.gone(w.organizationObject(o.ID))).Should(BeTrue())
}

// To delete an object here is a decision about this cluster. It must not be held for as long as the mode is, while its events
// are refused, and what it gave must not stay with nothing left that would take it away.
func TestObserve_letsGoWhatIsDeletedHere(t *testing.T) {
	w := newWorld(t)
	instance := w.ownInstance()
	o, namespace := w.tenant("observed-by-hand")
	ada, grace := w.memberOf(o, namespace), w.memberOf(o, namespace)
	changeByHand(w, instance, observing)
	w.Eventually(stored(w, w.organizationObject(o.ID))).Should(beReady(metav1.ConditionFalse, clerkv1alpha1.ReasonObserving))

	w.kubectl("delete", "clerkuser", w.userObject(ada.ID).Name, "--timeout=60s")
	w.Expect(w.levelOf(ada.ID, namespace)).To(Equal(admin), "nothing is changed in the organization's namespace")
	w.happen("user.updated", ada.Data())
	w.kubectl("delete", "clerkorganization", w.organizationObject(o.ID).Name, "--timeout=60s")
	w.Eventually(w.level(grace.ID, namespace)).Should(Equal(none))
	w.Consistently(stored(w, namespaceObject(namespace))).Should(HaveField("DeletionTimestamp", BeNil()))
	w.happen("organization.updated", o.Data())
	changeByHand(w, instance, func(i *clerkv1alpha1.ClerkInstance) { i.Spec.Mode = clerkv1alpha1.ModeEnforce })
	w.Expect(w.provisioned(o.ID)).To(Equal(namespace))
	w.Eventually(w.level(grace.ID, namespace)).Should(Equal(admin))
}
