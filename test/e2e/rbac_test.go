// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"slices"
	"testing"

	. "github.com/onsi/gomega"
	authorizationv1 "k8s.io/api/authorization/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/clerk-operator/clerk-operator/test/installation"
)

const managerUser = "system:serviceaccount:" + installation.Namespace + ":" + installation.ServiceAccount

// rulesOf is what `kubectl auth can-i --list` says of the manager's account in a namespace.
func (w *world) rulesOf(namespace string) authorizationv1.SubjectRulesReviewStatus {
	w.t.Helper()
	config := suite.cp.Config()
	config.Impersonate.UserName = managerUser
	asManager, err := kubernetes.NewForConfig(config)
	w.Expect(err).NotTo(HaveOccurred())
	review := &authorizationv1.SelfSubjectRulesReview{Spec: authorizationv1.SelfSubjectRulesReviewSpec{Namespace: namespace}}
	review, err = asManager.AuthorizationV1().SelfSubjectRulesReviews().Create(w.t.Context(), review, metav1.CreateOptions{})
	w.Expect(err).NotTo(HaveOccurred())
	w.Expect(review.Status.Incomplete).To(BeFalse(), review.Status.EvaluationError)
	return review.Status
}

func TestManagerAccount_holdsNothingThatItDoesNotNeed(t *testing.T) {
	w := newWorld(t)
	_, tenant := w.tenant("rules")
	for _, namespace := range []string{installation.Namespace, "default", "kube-system", tenant} {
		rules := w.rulesOf(namespace)
		for _, rule := range rules.ResourceRules {
			w.Expect(slices.Concat(rule.Verbs, rule.Resources, rule.APIGroups)).NotTo(ContainElement("*"), "%v", rule)
			w.Expect(rule.Verbs).NotTo(ContainElements("escalate"), "%v", rule)
			w.Expect(rule.Verbs).NotTo(ContainElements("impersonate"), "%v", rule)
			if slices.Contains(rule.Verbs, "bind") {
				w.Expect(rule.ResourceNames).To(ConsistOf("admin", "edit", "view"))
				w.Expect(rule.Resources).To(ConsistOf("clusterroles"))
			}
		}
		for _, rule := range rules.NonResourceRules {
			w.Expect(rule.Verbs).To(ConsistOf("get"), "%v", rule)
		}
	}
	// What kubectl makes of the same.
	listed := w.kubectl("auth", "can-i", "--list", "--as="+managerUser)
	w.Expect(listed).NotTo(MatchRegexp(`(?m)^\*|\[.*\*\]$|escalate|impersonate`))
}

func TestManagerAccount_isRefused(t *testing.T) {
	w := newWorld(t)
	_, tenant := w.tenant("refused")
	const own = installation.Namespace
	for _, tc := range []struct {
		namespace, group, resource, name string
		verbs                            []string
		want                             bool
	}{
		{own, "", "secrets", "", []string{"get", "list", "watch"}, true},
		// Which Secrets it may create, patch and delete the admission policies say; see TestFence.
		{"", "", "secrets", "", []string{"get", "list", "watch", "update", "deletecollection"}, false},
		{"default", "", "secrets", "", []string{"get", "list", "watch", "update"}, false},
		{"kube-system", "", "secrets", "", []string{"get", "list", "watch", "update"}, false},
		{tenant, "", "secrets", "", []string{"get", "list", "watch", "update"}, false},
		{tenant, "", "secrets", "registry-pull", []string{"create", "patch", "delete"}, true},
		{tenant, "", "secrets", "clerk-organization", []string{"get", "update"}, false},
		{own, "", "secrets", "clerk-webhook", []string{"update", "deletecollection"}, false},
		{tenant, "", "resourcequotas", "", []string{"update", "deletecollection"}, false},
		{tenant, "networking.k8s.io", "networkpolicies", "", []string{"update", "deletecollection"}, false},
		{"", "clerk-operator.dev", "clerkorganizations", "", []string{"mirror", "manage"}, true},
		{tenant, "", "pods", "", []string{"get", "list", "create", "delete"}, false},
		{tenant, "", "pods/exec", "", []string{"create"}, false},
		{tenant, "", "serviceaccounts/token", "", []string{"create"}, false},
		{own, "", "serviceaccounts/token", "", []string{"create"}, false},
		{"", rbacv1.GroupName, "clusterroles", "admin", []string{"bind"}, true},
		{"", rbacv1.GroupName, "clusterroles", "cluster-admin", []string{"bind", "escalate"}, false},
		{"", rbacv1.GroupName, "clusterroles", "", []string{"bind", "escalate", "create", "update", "patch", "delete"}, false},
		{tenant, rbacv1.GroupName, "roles", "", []string{"bind", "escalate", "create", "update", "patch"}, false},
		{"", rbacv1.GroupName, "clusterrolebindings", "", []string{"create", "update", "patch", "delete"}, false},
		{"", "", "users", "", []string{"impersonate"}, false},
		{"", "", "groups", "", []string{"impersonate"}, false},
		{"", "clerk-operator.dev", "clerkinstances", "", []string{"create", "update", "patch", "delete"}, false},
		{"", "clerk-operator.dev", "clerktenantclasses", "", []string{"create", "update", "patch", "delete"}, false},
		{"", "apiextensions.k8s.io", "customresourcedefinitions", "", []string{"create", "update", "patch", "delete"}, false},
		{"", "admissionregistration.k8s.io", "validatingadmissionpolicies", "", []string{"create", "update", "patch", "delete"}, false},
	} {
		for _, verb := range tc.verbs {
			allowed, err := w.allowed(authorizationv1.SubjectAccessReviewSpec{
				User:   managerUser,
				Groups: []string{"system:serviceaccounts", "system:serviceaccounts:" + own, "system:authenticated"},
				ResourceAttributes: &authorizationv1.ResourceAttributes{
					Namespace: tc.namespace, Verb: verb, Group: tc.group, Resource: tc.resource, Name: tc.name,
				},
			})
			w.Expect(err).NotTo(HaveOccurred())
			w.Expect(allowed).To(Equal(tc.want), "%s %s %q in %q", verb, tc.resource, tc.name, tc.namespace)
		}
	}
}
