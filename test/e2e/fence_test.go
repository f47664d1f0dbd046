// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"testing"

	. "github.com/onsi/gomega"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	clerkv1alpha1 "github.com/clerk-operator/clerk-operator/api/v1alpha1"
	"github.com/clerk-operator/clerk-operator/internal/clerk"
	"github.com/clerk-operator/clerk-operator/internal/tenant"
	"github.com/clerk-operator/clerk-operator/test/installation"
	"github.com/clerk-operator/clerk-operator/test/payload"
)

// Who refuses a request: RBAC, or an admission policy by its name in config/policy.
const (
	byRBAC         = "RBAC"
	byWrites       = "restrict-writes"
	byBindings     = "restrict-bindings"
	byNamespaces   = "restrict-namespaces"
	bySecrets      = "restrict-secrets"
	byMirror       = "protect-mirror"
	byTenants      = "protect-tenants"
	byProtectedNS  = "protect-namespaces"
	byPodSecurity  = "PodSecurity"
	clusterRoleRef = "ClusterRole"
)

// refuser says who refused a request; empty where nobody did, and the error where it is none of the known refusals.
func refuser(err error) string {
	switch {
	case err == nil:
		return ""
	case !apierrors.IsForbidden(err):
		return err.Error()
	case strings.Contains(err.Error(), "ValidatingAdmissionPolicy '"):
		_, name, _ := strings.Cut(err.Error(), "ValidatingAdmissionPolicy '")
		name, _, _ = strings.Cut(name, "'")
		return strings.TrimPrefix(name, "clerk-operator-")
	case strings.Contains(err.Error(), "violates PodSecurity"):
		return byPodSecurity
	case strings.Contains(err.Error(), "cannot "), strings.Contains(err.Error(), "is attempting to grant RBAC permissions"):
		return byRBAC
	}
	return err.Error()
}

// attempt is one request, and who has to refuse it: several are separated by |, and nobody is the empty string.
type attempt struct {
	about   string
	do      func(ctx context.Context, c client.Client) error
	refuser string
}

// expectAnswers makes requests and compares the API server's answers.
func (w *world) expectAnswers(c client.Client, attempts []attempt) {
	w.t.Helper()
	for _, a := range attempts {
		err := a.do(w.t.Context(), c)
		// Not fatal: that one attempt succeeds must not hide what happens to the others.
		if got := refuser(err); !slices.Contains(strings.Split(a.refuser, "|"), got) {
			w.t.Errorf("%s: refused by %q, want %q: %v", a.about, got, a.refuser, err)
		}
	}
}

// clientOf is a client with a configuration's rights.
func (w *world) clientOf(config *rest.Config) client.Client {
	w.t.Helper()
	c, err := client.New(config, client.Options{Scheme: suite.client.Scheme()})
	w.Expect(err).NotTo(HaveOccurred())
	return c
}

// asOperator has the credentials of the operator's pod.
func (w *world) asOperator() client.Client {
	w.t.Helper()
	config, err := suite.cp.ServiceAccountConfig(w.t.Context(), suite.in.Namespace, suite.in.ServiceAccount)
	w.Expect(err).NotTo(HaveOccurred())
	return w.clientOf(config)
}

// as has the rights of somebody who is authenticated.
func (w *world) as(name string) client.Client {
	w.t.Helper()
	config := suite.cp.Config()
	config.Impersonate = rest.ImpersonationConfig{UserName: name, Groups: []string{"system:authenticated"}}
	return w.clientOf(config)
}

func create(o client.Object) func(context.Context, client.Client) error {
	return func(ctx context.Context, c client.Client) error {
		return c.Create(ctx, o.DeepCopyObject().(client.Object))
	}
}

func remove(o client.Object) func(context.Context, client.Client) error {
	return func(ctx context.Context, c client.Client) error {
		return c.Delete(ctx, o.DeepCopyObject().(client.Object))
	}
}

func removeAll(o client.Object, namespace string) func(context.Context, client.Client) error {
	return func(ctx context.Context, c client.Client) error {
		return c.DeleteAllOf(ctx, o.DeepCopyObject().(client.Object), client.InNamespace(namespace))
	}
}

func read(o client.Object) func(context.Context, client.Client) error {
	return func(ctx context.Context, c client.Client) error {
		return c.Get(ctx, client.ObjectKeyFromObject(o), o.DeepCopyObject().(client.Object))
	}
}

func list(o client.ObjectList, namespace string) func(context.Context, client.Client) error {
	return func(ctx context.Context, c client.Client) error {
		return c.List(ctx, o.DeepCopyObject().(client.ObjectList), client.InNamespace(namespace))
	}
}

// merge is a JSON merge patch.
func merge(o client.Object, patch string) func(context.Context, client.Client) error {
	return func(ctx context.Context, c client.Client) error {
		return c.Patch(ctx, o.DeepCopyObject().(client.Object), client.RawPatch(types.MergePatchType, []byte(patch)))
	}
}

// mergeStatus is a JSON merge patch by way of the status.
func mergeStatus(o client.Object, patch string) func(context.Context, client.Client) error {
	return func(ctx context.Context, c client.Client) error {
		return c.Status().
			Patch(ctx, o.DeepCopyObject().(client.Object), client.RawPatch(types.MergePatchType, []byte(patch)))
	}
}

func metaOf(namespace, name string, labels map[string]string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Namespace: namespace, Name: name, Labels: labels}
}

func secretObject(namespace, name string, labels map[string]string) *corev1.Secret {
	return &corev1.Secret{ObjectMeta: metaOf(namespace, name, labels), StringData: map[string]string{"key": "value"}}
}

// managed are the labels of what the operator makes for an organization of the ClerkInstance default.
func managed(organizationID string) map[string]string {
	return map[string]string{
		clerkv1alpha1.LabelManagedBy: clerkv1alpha1.ManagedBy, clerkv1alpha1.LabelOrganizationID: organizationID,
		clerkv1alpha1.LabelInstance: clerkv1alpha1.DefaultInstanceName,
	}
}

// bindingOf binds a ClusterRole to one subject.
func bindingOf(namespace, name, clusterRole string, subject rbacv1.Subject) *rbacv1.RoleBinding {
	binding := bindingObject(namespace, name)
	binding.RoleRef = rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: clusterRoleRef, Name: clusterRole}
	binding.Subjects = []rbacv1.Subject{subject}
	return binding
}

func userSubject(name string) rbacv1.Subject {
	return rbacv1.Subject{APIGroup: rbacv1.GroupName, Kind: rbacv1.UserKind, Name: name}
}

// limited makes a class whose tenants have everything that a class can limit.
func limited(shared string) func(*clerkv1alpha1.ClerkTenantClass) {
	return func(class *clerkv1alpha1.ClerkTenantClass) {
		class.Spec.Quota = &corev1.ResourceQuotaSpec{Hard: corev1.ResourceList{"pods": resource.MustParse("10")}}
		class.Spec.Limits = &corev1.LimitRangeSpec{Limits: []corev1.LimitRangeItem{{
			Type: corev1.LimitTypeContainer, Max: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("1")},
		}}}
		class.Spec.NetworkPolicies = []clerkv1alpha1.ClerkTenantClassNetworkPolicy{{
			Name: "web", Spec: &networkingv1.NetworkPolicySpec{Egress: []networkingv1.NetworkPolicyEgressRule{{
				Ports: []networkingv1.NetworkPolicyPort{{Port: new(intstr.FromInt32(443))}},
			}}},
		}}
		if shared != "" {
			class.Spec.Secrets = []clerkv1alpha1.ClerkTenantClassSecret{{Name: shared}}
		}
	}
}

// share makes a Secret in the operator's namespace that classes may copy.
func (w *world) share() *corev1.Secret {
	w.t.Helper()
	secret := secretObject(installation.Namespace, newName(), map[string]string{clerkv1alpha1.LabelShare: "true"})
	w.create(secret)
	return secret
}

// born is a namespace as the operator makes one, with a level of pod security.
func born(organizationID, level string) *corev1.Namespace {
	namespace := namespaceObject(newName())
	namespace.Labels = managed(organizationID)
	namespace.Annotations = map[string]string{clerkv1alpha1.AnnotationOwnerUID: "somebody"}
	if level != "" {
		namespace.Labels["pod-security.kubernetes.io/enforce"] = level
	}
	return namespace
}

// foreign makes a namespace that is no tenant's.
func (w *world) foreign(labels map[string]string) *corev1.Namespace {
	w.t.Helper()
	namespace := namespaceObject(newName())
	namespace.Labels = labels
	w.create(namespace)
	return namespace
}

func TestFence_whoeverHasTheOperatorsCredentialsStaysInside(t *testing.T) {
	w := newWorld(t)
	o, name := w.tenant("fenced")
	other, _ := w.tenant("other")
	labels := managed(o.ID)
	clerkUser := userSubject("clerk:user_2mallory")
	foreign := w.foreign(nil)
	pretender := w.foreign(managed(o.ID))
	own := secretObject(name, "own", nil)
	w.create(own)
	system := secretObject("kube-system", newName(), nil)
	w.create(system)
	class := &clerkv1alpha1.ClerkTenantClass{ObjectMeta: metav1.ObjectMeta{Name: get(w, w.organizationObject(o.ID)).Status.TenantClass}}
	adoptable := namespaceObject(newName())
	adoptable.Annotations = map[string]string{clerkv1alpha1.AnnotationAdoptBy: w.key(other)}
	w.create(adoptable)
	staged := namespaceObject(newName())
	staged.Annotations = map[string]string{clerkv1alpha1.AnnotationAdoptBy: "staging/" + o.ID}
	w.create(staged)
	ofNoInstance := born(o.ID, "restricted")
	delete(ofNoInstance.Labels, clerkv1alpha1.LabelInstance)
	unowned := namespaceObject(newName())
	anonymous := namespaceObject(newName())
	anonymous.Annotations = map[string]string{clerkv1alpha1.AnnotationOwnerUID: "somebody"}
	platform := namespaceObject("kube-" + newName())
	platform.Labels, platform.Annotations = labels, anonymous.Annotations
	token := secretObject(name, "clerk-token", labels)
	token.Type, token.StringData = corev1.SecretTypeServiceAccountToken, nil
	token.Annotations = map[string]string{corev1.ServiceAccountNameKey: "default"}

	tenantLabels := `{"metadata":{"labels":{"app.kubernetes.io/managed-by":"clerk-operator","clerk-operator.dev/instance":"default",` +
		`"clerk-operator.dev/organization-id":"` + o.ID + `"},"annotations":{"clerk-operator.dev/owner-uid":"x"}}}`
	const nothing = `{}`
	held := bindingOf(name, "clerk-held", "clerk-operator-viewer", userSubject("clerk:user_2grace"))
	w.create(held)
	w.expectAnswers(w.asOperator(), []attempt{
		{"cluster-admin in a tenant", create(bindingOf(name, "clerk-cluster-admin", "cluster-admin", clerkUser)), byRBAC},
		{"cluster-admin in the cluster", create(&rbacv1.ClusterRoleBinding{
			ObjectMeta: metav1.ObjectMeta{Name: "clerk-admin"}, Subjects: []rbacv1.Subject{clerkUser},
			RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: clusterRoleRef, Name: "cluster-admin"},
		}), byRBAC},
		{"a binding in kube-system", create(bindingOf("kube-system", "clerk-admin", "admin", clerkUser)), byWrites},
		{"a binding in default", create(bindingOf("default", "clerk-admin", "admin", clerkUser)), byWrites},
		{"a binding in a foreign namespace", create(bindingOf(foreign.Name, "clerk-admin", "admin", clerkUser)), byWrites},
		{"a binding in one that has the labels", create(bindingOf(pretender.Name, "clerk-admin", "admin", clerkUser)), byWrites},
		{"a Secret in kube-system", create(secretObject("kube-system", newName(), labels)), byWrites},
		{"a Secret in default", create(secretObject("default", newName(), labels)), byWrites},
		{"a binding at home", create(bindingOf(installation.Namespace, "clerk-admin", "admin", clerkUser)), byBindings},
		{"a quota in default", create(&corev1.ResourceQuota{ObjectMeta: metaOf("default", "clerk-quota", labels)}), byWrites},

		{"a Group in a tenant", create(bindingOf(name, "clerk-x", "admin",
			rbacv1.Subject{APIGroup: rbacv1.GroupName, Kind: rbacv1.GroupKind, Name: "system:authenticated"})), byBindings},
		{"a ServiceAccount in a tenant", create(bindingOf(name, "clerk-x", "admin",
			rbacv1.Subject{Kind: rbacv1.ServiceAccountKind, Namespace: "default", Name: "default"})), byBindings},
		{"a system user in a tenant", create(bindingOf(name, "clerk-x", "admin", userSubject("system:user_2x"))), byBindings},
		{"somebody who is not Clerk's in a tenant", create(bindingOf(name, "clerk-x", "admin", userSubject("mallory"))), byBindings},
		{"a ClusterRole whose rights it has, in a tenant", create(bindingOf(name, "clerk-x", "clerk-operator-viewer", clerkUser)), byBindings},
		{"its own ClusterRole in a tenant", create(bindingOf(name, "clerk-x", "clerk-operator-manager-role", clerkUser)), byBindings},
		{"one more user of a ClusterRole that it may not bind", merge(held,
			`{"subjects":[{"apiGroup":"rbac.authorization.k8s.io","kind":"User","name":"clerk:user_2mallory"}]}`), byBindings},
		{"a binding under another name", create(bindingOf(name, "team", "admin", clerkUser)), byBindings},

		{"making default a tenant", merge(namespaceObject("default"), tenantLabels), byNamespaces},
		{"making kube-system a tenant", merge(namespaceObject("kube-system"), tenantLabels), byNamespaces},
		{"making a foreign namespace a tenant", merge(foreign, tenantLabels), byNamespaces},
		{"its own namespace", merge(namespaceObject(installation.Namespace), tenantLabels), byNamespaces},
		{"making one that has the labels a tenant", merge(pretender, tenantLabels), byNamespaces},
		{"a foreign namespace", merge(foreign, `{"metadata":{"labels":{"pod-security.kubernetes.io/enforce":"privileged"}}}`), byNamespaces},
		{"a namespace without an owner", create(unowned), byNamespaces},
		{"a namespace without an organization", create(anonymous), byNamespaces},
		{"a namespace of the platform's", create(platform), byNamespaces},
		{"a namespace for privileged pods", create(born(o.ID, "privileged")), byNamespaces},
		{"a namespace without pod security", create(born(o.ID, "")), byNamespaces},
		{"privileged pods in a tenant", merge(namespaceObject(name), `{"metadata":{"labels":{"pod-security.kubernetes.io/enforce":"privileged"}}}`), byNamespaces},
		{"no pod security in a tenant", merge(namespaceObject(name), `{"metadata":{"labels":{"pod-security.kubernetes.io/enforce":null}}}`), byNamespaces},
		{"adopting what another may adopt", merge(adoptable, tenantLabels), byNamespaces},
		{"adopting what another instance's may adopt", merge(staged, tenantLabels), byNamespaces},
		{"a namespace of no instance", create(ofNoInstance), byNamespaces},
		{"giving a tenant to another instance", merge(namespaceObject(name), `{"metadata":{"labels":{"clerk-operator.dev/instance":"staging"}}}`), byNamespaces},
		{"leaving a tenant without its instance", merge(namespaceObject(name), `{"metadata":{"labels":{"clerk-operator.dev/instance":null}}}`), byNamespaces},
		{"deleting a foreign namespace", remove(foreign), byNamespaces},
		{"deleting one that has the labels", remove(pretender), byNamespaces},
		{"giving a tenant to another organization", merge(namespaceObject(name),
			`{"metadata":{"labels":{"clerk-operator.dev/organization-id":"`+other.ID+`"}}}`), byNamespaces},
		{"leaving a tenant without its organization", merge(namespaceObject(name), `{"metadata":{"labels":null}}`), byNamespaces},

		{"reading a tenant's own Secret", read(own), byRBAC},
		{"reading a Secret of kube-system", read(system), byRBAC},
		{"listing a tenant's Secrets", list(&corev1.SecretList{}, name), byRBAC},
		{"listing every Secret", list(&corev1.SecretList{}, ""), byRBAC},
		{"a patch of nothing to a tenant's own Secret", merge(own, nothing), bySecrets},
		{"labelling a tenant's own Secret", merge(own, tenantLabels), bySecrets},
		{"a patch of nothing to a Secret of kube-system", merge(system, nothing), byWrites + "|" + bySecrets},
		{"a patch of nothing to a Secret of its own namespace", merge(secretObject(installation.Namespace, "clerk-webhook", nil), nothing), bySecrets},
		{"deleting a tenant's own Secret", remove(own), bySecrets},
		{"a Secret without the label", create(secretObject(name, "unlabelled", nil)), bySecrets},
		{"the token of a tenant's ServiceAccount", create(token), bySecrets},

		{"a class", create(&clerkv1alpha1.ClerkTenantClass{
			ObjectMeta: metav1.ObjectMeta{Name: newName()},
			Spec: clerkv1alpha1.ClerkTenantClassSpec{
				Selector: &clerkv1alpha1.ClerkTenantClassSelector{}, Namespace: clerkv1alpha1.ClerkTenantClassNamespace{Prefix: "x-"},
			},
		}), byRBAC},
		{"changing a class", merge(class, `{"spec":{"priority":7}}`), byRBAC},
		{"deleting a class", remove(class), byRBAC},
		{"running something in a tenant", create(&corev1.Pod{ObjectMeta: metaOf(name, "miner", nil)}), byRBAC},
		{"running something at home", create(&corev1.Pod{ObjectMeta: metaOf(installation.Namespace, "miner", nil)}), byRBAC},
		{"the fences themselves", merge(policyObject(byWrites), `{"spec":{"failurePolicy":"Ignore"}}`), byRBAC},
	})
	w.Expect(w.bindings(name)()).To(Equal(map[string][]string{"clerk-operator-viewer": {"clerk:user_2grace"}}))
	w.Expect(get(w, own).Labels).To(BeEmpty())
}

func TestFence_whatTheOperatorNeedsWorks(t *testing.T) {
	w := newWorld(t)
	o, name := w.tenant("needs")
	labels := managed(o.ID)
	c := w.asOperator()
	made := secretObject(name, "made", labels)
	fresh := born(payload.NewID("org"), "restricted")
	grace := bindingOf(name, "clerk-probe", "edit", userSubject("clerk:user_2grace"))
	grace.Labels = map[string]string{clerkv1alpha1.LabelManagedBy: clerkv1alpha1.ManagedBy} // the manager leaves it alone
	held := bindingOf(name, "clerk-held", "clerk-operator-viewer", userSubject("clerk:user_2grace"))
	held.Finalizers = []string{"example.com/keep"}
	w.create(held)
	const annotated = `{"metadata":{"annotations":{"example.com/probe":"x"}}}`
	isolation := &networkingv1.NetworkPolicy{ObjectMeta: metaOf(name, "clerk-probe", map[string]string{
		clerkv1alpha1.LabelManagedBy: clerkv1alpha1.ManagedBy,
	})}
	limits := &corev1.LimitRange{ObjectMeta: *isolation.ObjectMeta.DeepCopy()}
	quota := &corev1.ResourceQuota{ObjectMeta: *isolation.ObjectMeta.DeepCopy()}
	w.expectAnswers(c, []attempt{
		{"a binding of a user of Clerk", create(grace), ""},
		{"changing it", merge(grace, annotated), ""},
		{"deleting it", remove(grace), ""},
		{"taking the finalizers off a binding of a ClusterRole that it may not bind", merge(held, `{"metadata":{"finalizers":null}}`), ""},
		{"deleting it", remove(held), ""},
		{"a Secret that it makes", create(made), ""},
		{"changing it", merge(made, annotated), ""},
		{"deleting it", remove(made), ""},
		{"a namespace of an organization", create(fresh), ""},
		{"labelling it", merge(fresh, `{"metadata":{"labels":{"team":"a"}}}`), ""},
		{"deleting it", remove(fresh), ""},
		{"a quota", create(quota), ""},
		{"deleting it", remove(quota), ""},
		{"a limit", create(limits), ""},
		{"deleting it", remove(limits), ""},
		{"a network policy", create(isolation), ""},
		{"deleting it", remove(isolation), ""},
		{"reading a Secret at home", read(secretObject(installation.Namespace, "clerk-webhook", nil)), ""},
		{"annotating an organization", merge(w.organizationObject(o.ID), annotated), ""},
	})
}

func TestFence_aTenantsAdministratorIsLimited(t *testing.T) {
	w := newWorld(t)
	shared := w.share()
	o, name := w.tenant("limited", limited(shared.Name))
	u := w.memberOf(o, name)
	_, other := w.tenant("neighbour")
	labels := managed(o.ID)
	quota := &corev1.ResourceQuota{ObjectMeta: metaOf(name, tenant.QuotaName, nil)}
	limits := &corev1.LimitRange{ObjectMeta: metaOf(name, tenant.LimitsName, nil)}
	isolation := &networkingv1.NetworkPolicy{ObjectMeta: metaOf(name, tenant.IsolationName, nil)}
	web := &networkingv1.NetworkPolicy{ObjectMeta: metaOf(name, "clerk-web", nil)}
	binding := bindingObject(name, "clerk-admin")
	about, copied := secretObject(name, tenant.SecretName, nil), secretObject(name, shared.Name, nil)
	namespace := namespaceObject(name)
	deployment := &appsv1.Deployment{ObjectMeta: metaOf(name, "app", nil)}
	deployment.Spec.Selector = &metav1.LabelSelector{MatchLabels: map[string]string{"app": "app"}}
	deployment.Spec.Template.Labels = deployment.Spec.Selector.MatchLabels
	deployment.Spec.Template.Spec.Containers = []corev1.Container{{Name: "app", Image: "example.com/app"}}
	config := &corev1.ConfigMap{ObjectMeta: metaOf(name, "app", nil)}
	privileged := &corev1.Pod{ObjectMeta: metaOf(name, "privileged", nil)}
	privileged.Spec.HostPID = true
	privileged.Spec.Containers = deployment.Spec.Template.Spec.Containers
	ownBinding := bindingOf(name, "team", "view", userSubject("contractor"))
	ownSecret := secretObject(name, "own", nil)
	const relabel = `{"metadata":{"labels":{"app.kubernetes.io/managed-by":null}}}`
	const dropFinalizers = `{"metadata":{"finalizers":null,"annotations":{"example.com/x":"x"}}}`
	before := w.guardrails(name)

	w.expectAnswers(w.as(clerkv1alpha1.DefaultUsernamePrefix+u.ID), []attempt{
		{"a Deployment", create(deployment), ""},
		{"a ConfigMap", create(config), ""},
		{"a Secret", create(ownSecret), ""},
		{"its own binding", create(ownBinding), ""},
		{"reading its Secret clerk-organization", read(about), ""},
		{"reading its quota", read(quota), ""},
		{"reading its namespace", read(namespace), ""},

		{"reading a neighbour's ConfigMaps", list(&corev1.ConfigMapList{}, other), byRBAC},
		{"reading a neighbour's Secret", read(secretObject(other, tenant.SecretName, nil)), byRBAC},
		{"reading the operator's Secrets", list(&corev1.SecretList{}, installation.Namespace), byRBAC},
		{"reading the source of its copy", read(shared), byRBAC},
		{"a privileged pod", create(privileged), byPodSecurity},

		{"changing the quota", merge(quota, `{"spec":{"hard":{"pods":"99"}}}`), byRBAC},
		{"deleting the quota", remove(quota), byRBAC},
		{"deleting the limits", remove(limits), byRBAC},
		{"changing the isolation", merge(isolation, `{"spec":{"egress":[{}]}}`), byTenants},
		{"unlabelling the isolation", merge(isolation, relabel), byTenants},
		{"deleting the isolation", remove(isolation), byTenants},
		{"deleting a policy of the class", remove(web), byTenants},
		{"deleting all policies", removeAll(&networkingv1.NetworkPolicy{}, name), byTenants},
		{"changing a binding", merge(binding, `{"subjects":[]}`), byTenants},
		{"a finalizer on a binding", merge(binding, `{"metadata":{"finalizers":["example.com/keep"]}}`), byTenants},
		{"unlabelling a binding", merge(binding, relabel), byTenants},
		{"deleting a binding", remove(binding), byTenants},
		{"changing clerk-organization", merge(about, `{"stringData":{"CLERK_ORGANIZATION_ID":"org_other"}}`), byTenants},
		{"unlabelling clerk-organization", merge(about, relabel), byTenants},
		{"deleting clerk-organization", remove(about), byTenants},
		{"changing a copied Secret", merge(copied, `{"immutable":true}`), byTenants},
		{"deleting a copied Secret", remove(copied), byTenants},
		{"a Secret that looks managed", create(secretObject(name, "managed", labels)), byTenants},
		{"a binding that looks managed", create(func() client.Object {
			b := bindingOf(name, "clerk-view", "view", userSubject("contractor"))
			b.Labels = labels
			return b
		}()), byTenants},
		{"making an own Secret look managed", merge(ownSecret, `{"metadata":{"labels":{"app.kubernetes.io/managed-by":"clerk-operator"}}}`), byTenants},
		{"relabelling the namespace", merge(namespace, `{"metadata":{"labels":{"pod-security.kubernetes.io/enforce":"privileged"}}}`), byRBAC},
		{"annotating the namespace", merge(namespace, `{"metadata":{"annotations":{"clerk-operator.dev/owner-uid":"x"}}}`), byRBAC},
		{"deleting the namespace", remove(namespace), byRBAC},

		{"making a membership", create(&clerkv1alpha1.ClerkOrganizationMembership{ObjectMeta: metav1.ObjectMeta{Name: "orgmem-x"}}), byRBAC},
		{"changing a user", merge(w.userObject(u.ID), dropFinalizers), byRBAC},
		{"deleting its organization", remove(w.organizationObject(o.ID)), byRBAC},
		{"retaining its organization", merge(w.organizationObject(o.ID), `{"metadata":{"annotations":{"clerk-operator.dev/retain":"true"}}}`), byRBAC},
		{"a tombstone", create(&clerkv1alpha1.ClerkTombstone{ObjectMeta: metav1.ObjectMeta{Name: "org-x"}}), byRBAC},
		{"another class", create(&clerkv1alpha1.ClerkTenantClass{ObjectMeta: metav1.ObjectMeta{Name: newName()}}), byRBAC},
	})
	w.Expect(w.guardrails(name)).To(Equal(before))
}

// grant binds a new ClusterRole with rules to a user in the whole cluster.
func (w *world) grant(user string, rules ...rbacv1.PolicyRule) {
	w.t.Helper()
	role := &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: newName()}, Rules: rules}
	w.create(role)
	w.create(&rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: role.Name}, Subjects: []rbacv1.Subject{userSubject(user)},
		RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: clusterRoleRef, Name: role.Name},
	})
}

// allVerbs are those of requests; mirror and manage are none, and * would be all of them.
var allVerbs = []string{"get", "list", "watch", "create", "update", "patch", "delete", "deletecollection"}

func TestFence_theMirrorIsTheOperatorsAlone(t *testing.T) {
	w := newWorld(t)
	o, name := w.tenant("mirrored")
	u := w.user()
	m := w.join(u, o, "org:guest")
	w.Eventually(w.level(u.ID, name)).Should(Equal(view))
	w.happen("organizationMembership.deleted", m.Data())
	w.Eventually(w.gone(w.membershipObject(m.ID))).Should(BeTrue())
	tombstone := &clerkv1alpha1.ClerkTombstone{ObjectMeta: metav1.ObjectMeta{Name: clerk.ObjectName(w.instanceName, m.ID)}}
	organization := w.organizationObject(o.ID)
	fabricated := get(w, w.userObject(u.ID))
	fabricated.ObjectMeta = metav1.ObjectMeta{Name: "user-2fabricated"}
	fabricated.Spec.UserID = "user_2fabricated"

	platform := "platform-" + newName()
	w.grant(platform, rbacv1.PolicyRule{APIGroups: []string{"clerk-operator.dev"}, Resources: []string{"*"}, Verbs: allVerbs})
	w.Eventually(func() error { return read(organization)(t.Context(), w.as(platform)) }).Should(Succeed())
	w.expectAnswers(w.as(platform), []attempt{
		{"retaining", merge(organization, `{"metadata":{"annotations":{"clerk-operator.dev/retain":"true"}}}`), ""},
		{"not retaining", merge(organization, `{"metadata":{"annotations":{"clerk-operator.dev/retain":null}}}`), ""},
		{"a resync", merge(organization, `{"metadata":{"annotations":{"clerk-operator.dev/resync-requested-at":"now"}}}`), ""},
		{"the spec", merge(organization, `{"spec":{"slug":"mine"}}`), byMirror},
		{"the labels", merge(organization, `{"metadata":{"labels":{"team":"a"}}}`), byMirror},
		{"the finalizers", merge(organization, `{"metadata":{"finalizers":null}}`), byMirror},
		{"an owner, whose end would be its own", merge(organization,
			`{"metadata":{"ownerReferences":[{"apiVersion":"v1","kind":"Namespace","name":"x","uid":"x"}]}}`), byMirror},
		{"the status", mergeStatus(organization, `{"status":{"namespace":{"name":"kube-system","uid":"x"}}}`), byMirror},
		{"an annotation by the status", mergeStatus(organization, `{"metadata":{"annotations":{"x":"y"}}}`), byMirror},
		{"deleting", remove(organization), byMirror},
		{"deleting all", removeAll(&clerkv1alpha1.ClerkOrganization{}, ""), byMirror},
		{"a user", create(fabricated), byMirror},
		{"a ban lifted", merge(w.userObject(u.ID), `{"spec":{"banned":true}}`), byMirror},
		{"deleting a user", remove(w.userObject(u.ID)), byMirror},
		{"forgetting a deletion", remove(tombstone), byMirror},
		{"antedating a deletion", merge(tombstone, `{"metadata":{"labels":{"x":"y"}}}`), byMirror},
	})

	// Who has the verb may break the glass.
	glass := "glass-" + newName()
	w.grant(glass, rbacv1.PolicyRule{
		APIGroups: []string{"clerk-operator.dev"}, Resources: []string{"*"}, Verbs: append([]string{"mirror"}, allVerbs...),
	})
	w.Eventually(func() error { return remove(tombstone)(t.Context(), w.as(glass)) }).Should(Succeed())
	w.Expect(w.kubectl("annotate", "clerkorganization", clerk.ObjectName(w.instanceName, o.ID), "clerk-operator.dev/retain=false")).NotTo(BeEmpty())
	w.expectAnswers(suite.client, []attempt{{"a cluster administrator", remove(w.userObject(u.ID)), ""}})
}

func TestFence_onlyTheOperatorMakesTenants(t *testing.T) {
	w := newWorld(t)
	o, name := w.tenant("namespaces")
	editor := "editor-" + newName()
	w.grant(editor, rbacv1.PolicyRule{
		APIGroups: []string{""}, Resources: []string{"namespaces", "namespaces/status", "namespaces/finalize"}, Verbs: allVerbs,
	}, rbacv1.PolicyRule{APIGroups: []string{""}, Resources: []string{"resourcequotas", "limitranges"}, Verbs: allVerbs})
	foreign, own := w.foreign(nil), namespaceObject(newName())
	claimed := namespaceObject(newName())
	claimed.Labels = managed(o.ID)
	owned := namespaceObject(newName())
	owned.Annotations = map[string]string{clerkv1alpha1.AnnotationOwnerUID: string(get(w, w.organizationObject(o.ID)).UID)}
	namespace := namespaceObject(name)
	w.Eventually(func() error { return read(foreign)(t.Context(), w.as(editor)) }).Should(Succeed())

	label, err := json.Marshal(map[string]any{"metadata": map[string]any{"labels": managed(o.ID)}})
	w.Expect(err).NotTo(HaveOccurred())
	const annotate = `{"metadata":{"annotations":{"clerk-operator.dev/owner-uid":"x"}}}`
	const enforce = `{"metadata":{"labels":{"pod-security.kubernetes.io/enforce":"privileged"}}}`
	w.expectAnswers(w.as(editor), []attempt{
		{"a namespace", create(own), ""},
		{"its pod security", merge(own, enforce), ""},
		{"deleting it", remove(own), ""},
		{"a label of a tenant's that guards nothing", merge(namespace, `{"metadata":{"labels":{"team":"a"}}}`), ""},
		{"labelling a foreign namespace", merge(foreign, string(label)), byProtectedNS},
		{"annotating a foreign namespace", merge(foreign, annotate), byProtectedNS},
		{"labelling it as a user's", merge(foreign, `{"metadata":{"labels":{"clerk-operator.dev/user-id":"user_2x"}}}`), byProtectedNS},
		{"letting a foreign namespace be adopted", merge(foreign, `{"metadata":{"annotations":{"clerk-operator.dev/adopt-by":"`+w.key(o)+`"}}}`), byProtectedNS},
		{"labelling it by its status", mergeStatus(foreign, string(label)), byProtectedNS},
		{"a namespace with an organization", create(claimed), byProtectedNS},
		{"a namespace with an owner", create(owned), byProtectedNS},
		{"a tenant's pod security", merge(namespace, enforce), byProtectedNS},
		{"a tenant's pod security by its status", mergeStatus(namespace, enforce), byProtectedNS},
		{"a tenant's owner", merge(namespace, annotate), byProtectedNS},
		{"a tenant's instance", merge(namespace, `{"metadata":{"labels":{"clerk-operator.dev/instance":"staging"}}}`), byProtectedNS},
		{"a tenant's organization", merge(namespace, `{"metadata":{"labels":{"clerk-operator.dev/organization-id":null}}}`), byProtectedNS},
		{"deleting a tenant", remove(namespace), byProtectedNS},
		{"a quota that looks managed", create(&corev1.ResourceQuota{ObjectMeta: metaOf(name, "x", managed(o.ID))}), byTenants},
	})

	// Even those who may break the glass have to take the protection of a namespace away first.
	protect := `{"metadata":{"annotations":{"clerk-operator.dev/protected":"true"}}}`
	w.expectAnswers(suite.client, []attempt{
		{"protecting", merge(namespace, protect), ""},
		{"deleting what is protected", remove(namespace), byProtectedNS},
		{"not protecting", merge(namespace, strings.ReplaceAll(protect, `"true"`, "null")), ""},
		{"a cluster administrator's change", merge(namespace, enforce), ""},
	})
	w.Eventually(stored(w, namespace)).Should(HaveField("Labels",
		HaveKeyWithValue("pod-security.kubernetes.io/enforce", "restricted")))
}

func TestFence_aQuotasStatusIsOfKubernetesAlone(t *testing.T) {
	w := newWorld(t)
	_, name := w.tenant("counted", func(class *clerkv1alpha1.ClerkTenantClass) {
		class.Spec.Quota = &corev1.ResourceQuotaSpec{Hard: corev1.ResourceList{corev1.ResourceConfigMaps: resource.MustParse("10")}}
	})
	quota := &corev1.ResourceQuota{ObjectMeta: metaOf(name, tenant.QuotaName, nil)}
	own := &corev1.ResourceQuota{ObjectMeta: metaOf(name, "own", nil)}
	w.create(own)
	tool := "quota-tool-" + newName()
	w.grant(tool, rbacv1.PolicyRule{
		APIGroups: []string{""}, Resources: []string{"resourcequotas", "resourcequotas/status"}, Verbs: allVerbs,
	})
	w.Eventually(func() error { return read(quota)(t.Context(), w.as(tool)) }).Should(Succeed())
	const finalizers = `{"metadata":{"finalizers":["example.com/keep"]}}`
	w.expectAnswers(w.as(tool), []attempt{
		{"a finalizer", merge(quota, finalizers), byTenants},
		{"a finalizer by the status", mergeStatus(quota, finalizers), byTenants},
		{"no labels by the status", mergeStatus(quota, `{"metadata":{"labels":null}}`), byTenants},
		{"the status", mergeStatus(quota, `{"status":{"used":{"configmaps":"10"}}}`), byTenants},
		{"the status of a quota that is not the operator's", mergeStatus(own, finalizers), ""},
		{"no finalizer there", mergeStatus(own, `{"metadata":{"finalizers":null}}`), ""},
	})

	used := func() (string, error) {
		quota, err := stored(w, quota)()
		return quota.Status.Used.Name(corev1.ResourceConfigMaps, resource.DecimalSI).String(), err
	}
	config := &corev1.ConfigMap{ObjectMeta: metaOf(name, "counted", nil)}
	// The API server counts what is created, and kube-controller-manager what is deleted.
	w.Eventually(used).Should(Equal("0"))
	w.create(config)
	w.Eventually(used).Should(Equal("1"))
	w.Expect(suite.client.Delete(t.Context(), config)).To(Succeed())
	w.Eventually(used).Should(Equal("0"))
}
