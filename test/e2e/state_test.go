// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"fmt"

	. "github.com/onsi/gomega"
	"github.com/onsi/gomega/types"
	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	clerkv1alpha1 "github.com/clerk-operator/clerk-operator/api/v1alpha1"
	"github.com/clerk-operator/clerk-operator/internal/tenant"
)

// stored reads an object anew at each call.
func stored[T client.Object](w *world, key T) func() (T, error) {
	return func() (T, error) {
		object := key.DeepCopyObject().(T)
		return object, suite.client.Get(w.t.Context(), client.ObjectKeyFromObject(key), object)
	}
}

// get reads an object that must be there.
func get[T client.Object](w *world, key T) T {
	w.t.Helper()
	object, err := stored(w, key)()
	w.Expect(err).NotTo(HaveOccurred())
	return object
}

// gone says whether there is no such object.
func (w *world) gone(key client.Object) func() (bool, error) {
	return func() (bool, error) {
		_, err := stored(w, key)()
		return apierrors.IsNotFound(err), client.IgnoreNotFound(err)
	}
}

// haveCondition matches an object with a condition of its present generation.
func haveCondition(conditionType string, status metav1.ConditionStatus, reason string) types.GomegaMatcher {
	return WithTransform(func(o interface {
		GetGeneration() int64
		GetConditions() *[]metav1.Condition
	}) []string {
		conditions := make([]string, 0, len(*o.GetConditions()))
		for _, c := range *o.GetConditions() {
			current := c.ObservedGeneration == o.GetGeneration()
			conditions = append(conditions, fmt.Sprintf("%s=%s %s %t", c.Type, c.Status, c.Reason, current))
		}
		return conditions
	}, ContainElement(fmt.Sprintf("%s=%s %s true", conditionType, status, reason)))
}

func beReady(status metav1.ConditionStatus, reason string) types.GomegaMatcher {
	return haveCondition(clerkv1alpha1.ConditionReady, status, reason)
}

// provisioned waits for an organization to be a tenant, and returns its namespace's name.
func (w *world) provisioned(organizationID string) string {
	w.t.Helper()
	w.Eventually(stored(w, w.organizationObject(organizationID))).
		Should(beReady(metav1.ConditionTrue, clerkv1alpha1.ReasonProvisioned))
	return get(w, w.organizationObject(organizationID)).Status.Namespace.Name
}

// What a user may do in a namespace, as the API server answers.
const (
	admin = "admin"
	edit  = "edit"
	view  = "view"
	none  = "none"
)

// levels are told apart by what the one below may not do, from the highest.
var levels = []struct{ level, verb, group, resource string }{
	{admin, "create", rbacv1.GroupName, "rolebindings"},
	{edit, "create", "apps", "deployments"},
	{view, "get", corev1.GroupName, "pods"},
}

// levelOf asks the API server what a Clerk user may do in a namespace; the empty one is all of them.
func (w *world) levelOf(userID, namespace string) (string, error) {
	for _, l := range levels {
		allowed, err := w.allowed(authorizationv1.SubjectAccessReviewSpec{
			User:   clerkv1alpha1.DefaultUsernamePrefix + userID,
			Groups: []string{"system:authenticated"},
			ResourceAttributes: &authorizationv1.ResourceAttributes{
				Namespace: namespace, Verb: l.verb, Group: l.group, Resource: l.resource,
			},
		})
		if err != nil {
			return "", err
		}
		if allowed {
			return l.level, nil
		}
	}
	return none, nil
}

func (w *world) allowed(spec authorizationv1.SubjectAccessReviewSpec) (bool, error) {
	review := &authorizationv1.SubjectAccessReview{Spec: spec}
	err := suite.client.Create(w.t.Context(), review)
	return review.Status.Allowed, err
}

// level is levelOf for Eventually.
func (w *world) level(userID, namespace string) func() (string, error) {
	return func() (string, error) { return w.levelOf(userID, namespace) }
}

// elsewhere returns the namespaces other than a user's own in which the user may do anything, "" for all of them.
func (w *world) elsewhere(userID, own string) []string {
	w.t.Helper()
	var places []string
	for _, namespace := range append(w.namespaces(), "") {
		level, err := w.levelOf(userID, namespace)
		w.Expect(err).NotTo(HaveOccurred())
		if namespace != own && level != none {
			places = append(places, namespace)
		}
	}
	return places
}

func (w *world) namespaces() []string {
	w.t.Helper()
	var list corev1.NamespaceList
	w.Expect(suite.client.List(w.t.Context(), &list)).To(Succeed())
	names := make([]string, 0, len(list.Items))
	for i := range list.Items {
		names = append(names, list.Items[i].Name)
	}
	return names
}

// secretOf reads the Secret clerk-organization of a tenant.
func (w *world) secretOf(namespace string) *corev1.Secret {
	w.t.Helper()
	return get(w, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: tenant.SecretName}})
}

// bindings are the subjects of a namespace's RoleBindings by the ClusterRole that they hold.
func (w *world) bindings(namespace string) func() (map[string][]string, error) {
	return func() (map[string][]string, error) {
		var list rbacv1.RoleBindingList
		err := suite.client.List(w.t.Context(), &list, client.InNamespace(namespace))
		holders := map[string][]string{}
		for _, binding := range list.Items {
			for _, subject := range binding.Subjects {
				holders[binding.RoleRef.Name] = append(holders[binding.RoleRef.Name], subject.Name)
			}
		}
		return holders, err
	}
}

// versions are the resourceVersions of objects and of everything that a tenant's namespace holds.
func (w *world) versions(namespace string, objects ...client.Object) map[string]string {
	w.t.Helper()
	var bindings rbacv1.RoleBindingList
	w.Expect(suite.client.List(w.t.Context(), &bindings, client.InNamespace(namespace))).To(Succeed())
	for i := range bindings.Items {
		objects = append(objects, &bindings.Items[i])
	}
	objects = append(objects, namespaceObject(namespace), w.secretOf(namespace))
	versions := make(map[string]string, len(objects))
	for _, o := range objects {
		versions[fmt.Sprintf("%T %s", o, o.GetName())] = get(w, o).GetResourceVersion()
	}
	return versions
}
