// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"fmt"
	"regexp"
	"strings"
	"testing"

	. "github.com/onsi/gomega"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	clerkv1alpha1 "github.com/clerk-operator/clerk-operator/api/v1alpha1"
	"github.com/clerk-operator/clerk-operator/internal/clerk"
	"github.com/clerk-operator/clerk-operator/internal/tenant"
	"github.com/clerk-operator/clerk-operator/test/payload"
)

func policyObject(name string) *admissionregistrationv1.ValidatingAdmissionPolicy {
	return &admissionregistrationv1.ValidatingAdmissionPolicy{ObjectMeta: metav1.ObjectMeta{Name: "clerk-operator-" + name}}
}

// guardrails are all managed objects of a tenant: their UIDs and resourceVersions, or of a quota, whose status changes
// with what is in use, its spec.
func (w *world) guardrails(namespace string) map[string]string {
	w.t.Helper()
	states := map[string]string{}
	for _, list := range []client.ObjectList{
		&corev1.ResourceQuotaList{}, &corev1.LimitRangeList{}, &networkingv1.NetworkPolicyList{}, &corev1.SecretList{},
		&rbacv1.RoleBindingList{},
	} {
		w.Expect(suite.client.List(w.t.Context(), list, client.InNamespace(namespace),
			client.MatchingLabels{clerkv1alpha1.LabelManagedBy: clerkv1alpha1.ManagedBy})).To(Succeed())
		w.Expect(meta.EachListItem(list, func(item runtime.Object) error {
			o := item.(client.Object)
			state := string(o.GetUID()) + " " + o.GetResourceVersion()
			if quota, ok := o.(*corev1.ResourceQuota); ok {
				state = fmt.Sprint(quota.UID, quota.Spec.Hard)
			}
			states[fmt.Sprintf("%T %s", o, o.GetName())] = state
			return nil
		})).To(Succeed())
	}
	return states
}

// classOf reads the class that an organization is a tenant of.
func (w *world) classOf(organizationID string) *clerkv1alpha1.ClerkTenantClass {
	w.t.Helper()
	name := get(w, w.organizationObject(organizationID)).Status.TenantClass
	return get(w, &clerkv1alpha1.ClerkTenantClass{ObjectMeta: metav1.ObjectMeta{Name: name}})
}

func TestTenantGuardrails_driftIsRepairedAndNothingElseIsWritten(t *testing.T) {
	w := newWorld(t)
	shared := w.share()
	o, name := w.tenant("guarded", limited(shared.Name))
	w.memberOf(o, name)
	quota := &corev1.ResourceQuota{ObjectMeta: metaOf(name, tenant.QuotaName, nil)}
	limits := &corev1.LimitRange{ObjectMeta: metaOf(name, tenant.LimitsName, nil)}
	isolation := &networkingv1.NetworkPolicy{ObjectMeta: metaOf(name, tenant.IsolationName, nil)}
	web := &networkingv1.NetworkPolicy{ObjectMeta: metaOf(name, "clerk-web", nil)}
	w.Expect(w.guardrails(name)).To(And(HaveLen(7), HaveKey("*v1.Secret "+shared.Name)))
	w.Expect(get(w, secretObject(name, shared.Name, nil)).Data).To(Equal(map[string][]byte{"key": []byte("value")}))
	w.Expect(get(w, isolation).Spec.PolicyTypes).To(ConsistOf(networkingv1.PolicyTypeIngress, networkingv1.PolicyTypeEgress))

	specs := func(o client.Object) func() (any, error) {
		return func() (any, error) {
			o := o.DeepCopyObject().(client.Object)
			err := suite.client.Get(t.Context(), client.ObjectKeyFromObject(o), o)
			switch o := o.(type) {
			case *corev1.ResourceQuota:
				// Quantities are compared as they are written.
				return []any{fmt.Sprint(o.Spec.Hard), o.Labels}, err
			case *corev1.LimitRange:
				return []any{fmt.Sprint(o.Spec.Limits), o.Labels}, err
			case *networkingv1.NetworkPolicy:
				return []any{o.Spec, o.Labels}, err
			}
			return nil, err
		}
	}
	unlabel := client.RawPatch(types.MergePatchType, []byte(`{"metadata":{"labels":null}}`))
	for _, tc := range []struct {
		object client.Object
		change string
	}{
		{quota, `{"spec":{"hard":{"pods":"99"}}}`},
		{limits, `{"spec":{"limits":[]}}`},
		{isolation, `{"spec":{"egress":[{}]}}`},
		{web, `{"spec":{"podSelector":{"matchLabels":{"a":"b"}}}}`},
	} {
		about := fmt.Sprintf("%T %s", tc.object, tc.object.GetName())
		want, err := specs(tc.object)()
		w.Expect(err).NotTo(HaveOccurred())
		others := w.guardrails(name)
		delete(others, about)
		for _, drift := range []func() error{
			func() error {
				return suite.client.Patch(t.Context(), tc.object.DeepCopyObject().(client.Object),
					client.RawPatch(types.MergePatchType, []byte(tc.change)))
			},
			func() error {
				return suite.client.Patch(t.Context(), tc.object.DeepCopyObject().(client.Object), unlabel)
			},
			func() error { return suite.client.Delete(t.Context(), tc.object.DeepCopyObject().(client.Object)) },
		} {
			w.Expect(drift()).To(Succeed(), about)
			w.Eventually(func() (any, error) {
				if _, err := stored(w, tc.object)(); err != nil {
					return nil, client.IgnoreNotFound(err)
				}
				return specs(tc.object)()
			}).Should(Equal(want), about)
		}
		now := w.guardrails(name)
		w.Expect(now).To(HaveKey(about))
		delete(now, about)
		w.Expect(now).To(Equal(others), about)
	}
}

func TestTenantGuardrails_followTheClass(t *testing.T) {
	w := newWorld(t)
	shared := w.share()
	o, name := w.tenant("unlisted", limited(shared.Name))
	own := &networkingv1.NetworkPolicy{ObjectMeta: metaOf(name, "own", nil)}
	w.Expect(suite.client.Create(t.Context(), own)).To(Succeed())
	full := w.guardrails(name)
	w.Expect(full).To(HaveLen(6))

	class := w.classOf(o.ID)
	listed := class.Spec.DeepCopy()
	changeByHand(w, class, func(class *clerkv1alpha1.ClerkTenantClass) {
		class.Spec.Quota, class.Spec.Limits, class.Spec.NetworkPolicies, class.Spec.Secrets = nil, nil, nil, nil
		class.Spec.NetworkIsolation = clerkv1alpha1.NetworkOpen
	})
	w.Eventually(func() map[string]string { return w.guardrails(name) }).
		Should(And(HaveLen(1), HaveKey("*v1.Secret "+tenant.SecretName)))
	w.Expect(get(w, own).Name).To(Equal("own"))
	w.Eventually(stored(w, w.organizationObject(o.ID))).Should(HaveField("Status.Secrets", BeEmpty()))

	changeByHand(w, class, func(class *clerkv1alpha1.ClerkTenantClass) { class.Spec = *listed })
	w.Eventually(func() map[string]string { return w.guardrails(name) }).Should(HaveLen(6))
	w.provisioned(o.ID)
}

var appliedGuardrail = regexp.MustCompile(`(?m)^apiserver_request_total\{.*resource="(?:resourcequotas|limitranges|networkpolicies)".*verb="APPLY".*\} \d+$`)

func TestTenantGuardrails_areNotAppliedAgain(t *testing.T) {
	w := newWorld(t)
	// What the API server fills in: the protocol of a port, the types of a policy, and the defaults of limits.
	o, name := w.tenant("defaults", limited(""), func(class *clerkv1alpha1.ClerkTenantClass) {
		class.Spec.Quota.Hard["requests.cpu"] = resource.MustParse("1500m")
		class.Spec.Quota.Hard["limits.memory"] = resource.MustParse("1024Mi")
		container := &class.Spec.Limits.Limits[0]
		container.Max["memory"] = resource.MustParse("1024Mi")
		container.Default = corev1.ResourceList{"memory": resource.MustParse("512Mi")}
		container.Min = corev1.ResourceList{"ephemeral-storage": resource.MustParse("1Mi")}
		class.Spec.Limits.Limits = append(class.Spec.Limits.Limits, corev1.LimitRangeItem{
			Type: corev1.LimitTypePod, Max: corev1.ResourceList{"cpu": resource.MustParse("4000m")},
		})
		class.Spec.NetworkPolicies = append(class.Spec.NetworkPolicies, clerkv1alpha1.ClerkTenantClassNetworkPolicy{
			Name: "in", Spec: &networkingv1.NetworkPolicySpec{Ingress: []networkingv1.NetworkPolicyIngressRule{{
				From: []networkingv1.NetworkPolicyPeer{
					{NamespaceSelector: &metav1.LabelSelector{}}, {IPBlock: &networkingv1.IPBlock{CIDR: "10.0.0.0/8"}},
				},
				Ports: []networkingv1.NetworkPolicyPort{{}},
			}}},
		})
	})
	open := func(class *clerkv1alpha1.ClerkTenantClass) { class.Spec.NetworkIsolation = clerkv1alpha1.NetworkOpen }
	w.tenant("before", open)
	w.calm()
	objects, requests := w.guardrails(name), appliedGuardrail.FindAllString(w.kubectl("get", "--raw", "/metrics"), -1)
	w.Expect(requests).NotTo(BeEmpty())
	for _, value := range []string{"a", "b"} {
		w.kubectl("annotate", "--overwrite", "clerkorganization", clerk.ObjectName(w.instanceName, o.ID), "example.com/touched="+value)
		// That the reconcile has begun is seen by another organization that was made after it.
		w.tenant("after-"+value, open)
	}
	w.calm()
	w.Expect(appliedGuardrail.FindAllString(w.kubectl("get", "--raw", "/metrics"), -1)).To(Equal(requests))
	w.Expect(w.guardrails(name)).To(Equal(objects))
}

func TestTenantGuardrails_nobodyHasAccessWithoutThem(t *testing.T) {
	w := newWorld(t)
	o := w.newOrganization("refused")
	class := w.class([]string{o.ID}, limited(""), func(class *clerkv1alpha1.ClerkTenantClass) {
		class.Spec.Limits.Limits[0].Min = corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("2")} // more than its max
	})
	u := w.user()
	w.join(u, o, "org:admin")
	w.happen("organization.created", o.Data())
	w.Eventually(stored(w, w.organizationObject(o.ID))).Should(And(
		beReady(metav1.ConditionFalse, clerkv1alpha1.ReasonGuardrailRefused),
		haveCondition(clerkv1alpha1.ConditionAccessReady, metav1.ConditionFalse, clerkv1alpha1.ReasonGuardrailRefused),
	))
	w.Eventually(stored(w, class)).Should(And(
		haveCondition(clerkv1alpha1.ConditionTenantsReady, metav1.ConditionFalse, clerkv1alpha1.ReasonTenantsNotReady),
		beReady(metav1.ConditionTrue, clerkv1alpha1.ReasonAccepted)))
	name := get(w, w.organizationObject(o.ID)).Status.Namespace.Name
	w.Consistently(w.bindings(name)).Should(BeEmpty())
	w.Expect(get(w, &corev1.ResourceQuota{ObjectMeta: metaOf(name, tenant.QuotaName, nil)}).Spec.Hard).To(HaveLen(1))

	changeByHand(w, class, func(class *clerkv1alpha1.ClerkTenantClass) { class.Spec.Limits.Limits[0].Min = nil })
	w.Eventually(w.level(u.ID, name)).Should(Equal(admin))
	w.provisioned(o.ID)
	w.Eventually(stored(w, class)).Should(
		haveCondition(clerkv1alpha1.ConditionTenantsReady, metav1.ConditionTrue, clerkv1alpha1.ReasonProvisioned))
}

func TestTenantSecrets_followTheirSource(t *testing.T) {
	w := newWorld(t)
	shared := w.share()
	private := secretObject(shared.Namespace, newName(), nil)
	w.create(private)
	o, name := w.tenant("copies", limited(shared.Name))
	u := w.memberOf(o, name)
	_, second := w.tenant("copies-too", limited(shared.Name))
	copied := func(namespace string) func() map[string]string {
		return func() map[string]string { return text(get(w, secretObject(namespace, shared.Name, nil))) }
	}
	changeByHand(w, shared, func(s *corev1.Secret) { s.Data = map[string][]byte{"key": []byte("new"), "more": []byte("x")} })
	for _, namespace := range []string{name, second} {
		w.Eventually(copied(namespace)).Should(Equal(map[string]string{"key": "new", "more": "x"}))
	}

	// One that is not shared keeps nothing else back, and nobody's access.
	changeByHand(w, w.classOf(o.ID), func(class *clerkv1alpha1.ClerkTenantClass) {
		class.Spec.Secrets = append(class.Spec.Secrets, clerkv1alpha1.ClerkTenantClassSecret{Name: private.Name})
	})
	notShared := And(beReady(metav1.ConditionFalse, clerkv1alpha1.ReasonSecretNotShared),
		haveCondition(clerkv1alpha1.ConditionNamespaceReady, metav1.ConditionFalse, clerkv1alpha1.ReasonSecretNotShared),
		haveCondition(clerkv1alpha1.ConditionAccessReady, metav1.ConditionTrue, clerkv1alpha1.ReasonProvisioned))
	w.Eventually(stored(w, w.organizationObject(o.ID))).Should(notShared)
	w.Expect(w.gone(secretObject(name, private.Name, nil))()).To(BeTrue())
	changeByHand(w, shared, func(s *corev1.Secret) { s.Data = map[string][]byte{"key": []byte("newer")} })
	w.Eventually(copied(name)).Should(Equal(map[string]string{"key": "newer"}))
	changeByHand(w, private, func(s *corev1.Secret) { s.Labels = map[string]string{clerkv1alpha1.LabelShare: "true"} })
	w.Eventually(w.gone(secretObject(name, private.Name, nil))).Should(BeFalse())
	w.provisioned(o.ID)

	changeByHand(w, shared, func(s *corev1.Secret) { s.Labels[clerkv1alpha1.LabelShare] = "false" })
	w.Eventually(stored(w, w.organizationObject(o.ID))).Should(notShared)
	for _, namespace := range []string{name, second} {
		w.Eventually(w.gone(secretObject(namespace, shared.Name, nil))).Should(BeTrue())
	}
	w.Expect(w.levelOf(u.ID, name)).To(Equal(admin))
}

func TestTenantClass_hasSoManyPlaces(t *testing.T) {
	w := newWorld(t)
	organizations, ids := make([]payload.Organization, 5), make([]string, 5)
	for i := range organizations {
		organizations[i] = w.newOrganization(fmt.Sprint("place-", i))
		ids[i] = organizations[i].ID
	}
	for _, i := range []int{4, 2, 0, 3, 1} {
		w.happen("organization.created", organizations[i].Data())
	}
	for _, id := range ids {
		w.Eventually(stored(w, w.organizationObject(id))).Should(beReady(metav1.ConditionFalse, clerkv1alpha1.ReasonNoTenantClass))
	}
	class := w.class(ids, func(class *clerkv1alpha1.ClerkTenantClass) { class.Spec.MaxTenants = new(int32(3)) })
	expect := func(tenants, waiting []int) {
		t.Helper()
		for _, i := range tenants {
			w.provisioned(ids[i])
		}
		for _, i := range waiting {
			w.Eventually(stored(w, w.organizationObject(ids[i]))).Should(And(
				beReady(metav1.ConditionFalse, clerkv1alpha1.ReasonPending),
				HaveField("Status.PendingTenantClass", class.Name), HaveField("Status.Namespace.Name", BeEmpty())))
		}
		w.Eventually(stored(w, class)).Should(And(
			HaveField("Status.Tenants", HaveValue(BeEquivalentTo(len(tenants)))),
			HaveField("Status.Pending", HaveValue(BeEquivalentTo(len(waiting))))))
	}
	expect([]int{0, 1, 2}, []int{3, 4})
	w.happen("organization.deleted", payload.Deleted("organization", ids[1]))
	expect([]int{0, 2, 3}, []int{4})

	changeByHand(w, class, func(class *clerkv1alpha1.ClerkTenantClass) { class.Spec.MaxTenants = new(int32(1)) })
	w.Consistently(stored(w, w.organizationObject(ids[3]))).Should(beReady(metav1.ConditionTrue, clerkv1alpha1.ReasonProvisioned))
	changeByHand(w, class, func(class *clerkv1alpha1.ClerkTenantClass) { class.Spec.MaxTenants = nil })
	expect([]int{0, 2, 3, 4}, nil)
}

func TestTenantClass_selectsByExpression(t *testing.T) {
	w := newWorld(t)
	o := w.newOrganization("expression")
	o.PublicMetadata = map[string]any{"plan": "pro"}
	u := w.user()
	w.join(u, o, "org:admin")
	class := w.class([]string{o.ID}, func(class *clerkv1alpha1.ClerkTenantClass) {
		class.Spec.Selector.Expression = "organization.publicMetadata.plan = 'pro'"
	})
	w.happen("organization.created", o.Data())
	w.Eventually(stored(w, class)).Should(beReady(metav1.ConditionFalse, clerkv1alpha1.ReasonInvalidExpression))
	w.Eventually(stored(w, w.organizationObject(o.ID))).Should(beReady(metav1.ConditionFalse, clerkv1alpha1.ReasonNoTenantClass))

	changeByHand(w, class, func(class *clerkv1alpha1.ClerkTenantClass) {
		class.Spec.Selector.Expression = strings.Replace(class.Spec.Selector.Expression, "=", "==", 1)
	})
	name := w.provisioned(o.ID)
	w.Eventually(stored(w, class)).Should(beReady(metav1.ConditionTrue, clerkv1alpha1.ReasonAccepted))
	w.Eventually(w.level(u.ID, name)).Should(Equal(admin))

	o.PublicMetadata, o.UpdatedAt = map[string]any{"plan": "free"}, w.tick()
	w.happen("organization.updated", o.Data())
	w.Eventually(w.level(u.ID, name)).Should(Equal(none))
	w.Eventually(stored(w, w.organizationObject(o.ID))).Should(beReady(metav1.ConditionFalse, clerkv1alpha1.ReasonNoTenantClass))
	w.Expect(get(w, namespaceObject(name)).DeletionTimestamp).To(BeNil())
}
