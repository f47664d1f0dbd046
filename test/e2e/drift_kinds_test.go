// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"fmt"
	"maps"
	"testing"
	"time"

	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	clerkv1alpha1 "github.com/clerk-operator/clerk-operator/api/v1alpha1"
	"github.com/clerk-operator/clerk-operator/internal/clerk"
	"github.com/clerk-operator/clerk-operator/internal/tenant"
)

// guarded makes a tenant that has an object of every kind, and a member.
func (w *world) guarded(slug, shared string) (organizationID, namespace string) {
	w.t.Helper()
	o, name := w.tenant(slug, limited(shared), func(class *clerkv1alpha1.ClerkTenantClass) {
		class.Spec.Namespace.Annotations = map[string]clerkv1alpha1.AnnotationValue{"example.com/contact": "platform"}
		class.Spec.Namespace.Labels = map[string]clerkv1alpha1.LabelValue{"team": "platform"}
	})
	w.memberOf(o, name)
	w.provisioned(o.ID)
	return o.ID, name
}

// asManaged is what of an object is the operator's, to be compared: quantities as they are written, and nothing that
// changes when an object is made again.
func asManaged(o client.Object) string {
	var content any
	switch o := o.(type) {
	case *corev1.Namespace:
		content = o.Annotations
	case *rbacv1.RoleBinding:
		content = []any{o.RoleRef, o.Subjects}
	case *corev1.ResourceQuota:
		content = o.Spec.Hard
	case *corev1.LimitRange:
		content = o.Spec.Limits
	case *networkingv1.NetworkPolicy:
		content = []any{o.Spec.PodSelector, o.Spec.PolicyTypes, fmt.Sprintf("%+v %+v", o.Spec.Ingress, len(o.Spec.Egress))}
	case *corev1.Secret:
		content = text(o)
	}
	return fmt.Sprintf("%v %v", o.GetLabels(), content)
}

// managedAs reads an object for Eventually; "" is one that is not there.
func (w *world) managedAs(key client.Object) func() (string, error) {
	return func() (string, error) {
		o, err := stored(w, key)()
		if err != nil || !o.GetDeletionTimestamp().IsZero() {
			return "", client.IgnoreNotFound(err)
		}
		return asManaged(o), nil
	}
}

// everythingOf are the versions of all that a tenant has.
func (w *world) everythingOf(organizationID, namespace string) map[string]string {
	w.t.Helper()
	all := w.guardrails(namespace)
	maps.Copy(all, w.versions(namespace, w.organizationObject(organizationID)))
	return all
}

// driftPatches are merge patches by the kind of what they are to change. Every object's labels are taken away, too.
func driftPatches(namespace string) map[client.Object][]string {
	policy := func(name string) client.Object {
		return &networkingv1.NetworkPolicy{ObjectMeta: metaOf(namespace, name, nil)}
	}
	return map[client.Object][]string{
		namespaceObject(namespace): {
			`{"metadata":{"labels":{"team":"mine","pod-security.kubernetes.io/enforce":null}}}`,
			`{"metadata":{"annotations":{"example.com/contact":"nobody"}}}`, `{"metadata":{"annotations":{"example.com/contact":null}}}`,
		},
		bindingObject(namespace, "clerk-admin"): {
			`{"subjects":[{"kind":"User","apiGroup":"rbac.authorization.k8s.io","name":"mallory"}]}`, `{"subjects":null}`,
		},
		&corev1.ResourceQuota{ObjectMeta: metaOf(namespace, tenant.QuotaName, nil)}: {
			`{"spec":{"hard":{"pods":"99"}}}`, `{"spec":{"hard":null}}`, `{"spec":{"hard":{"services":"1"}}}`,
		},
		&corev1.LimitRange{ObjectMeta: metaOf(namespace, tenant.LimitsName, nil)}: {`{"spec":{"limits":[]}}`},
		policy(tenant.IsolationName): {`{"spec":{"egress":[{}]}}`, `{"spec":{"podSelector":{"matchLabels":{"a":"b"}}}}`},
		policy("clerk-web"):          {`{"spec":{"policyTypes":["Ingress"]}}`, `{"spec":{"egress":[{},{}]}}`, `{"spec":{"ingress":[{}]}}`},
	}
}

func TestDrift_ofEveryKindIsRepairedWithinSecondsAndWithoutATouchOfOthers(t *testing.T) {
	w := newWorld(t)
	shared := w.share()
	_, name := w.guarded("drifting", shared.Name)
	otherID, other := w.guarded("untouched", shared.Name)
	w.calm()
	others := w.everythingOf(otherID, other)
	var slowest time.Duration
	repaired := func(key client.Object, want, about string) {
		t.Helper()
		start := time.Now()
		w.Eventually(w.managedAs(key)).Should(Equal(want), "%T %s", key, about)
		slowest = max(slowest, time.Since(start))
	}
	for key, patches := range driftPatches(name) {
		want, err := w.managedAs(key)()
		w.Expect(err).NotTo(HaveOccurred())
		w.Expect(want).NotTo(BeEmpty())
		if _, isNamespace := key.(*corev1.Namespace); !isNamespace {
			patches = append(patches, `{"metadata":{"labels":null}}`)
		}
		for _, patch := range patches {
			w.Expect(suite.client.Patch(t.Context(), key.DeepCopyObject().(client.Object),
				client.RawPatch(types.MergePatchType, []byte(patch)))).To(Succeed(), patch)
			repaired(key, want, patch)
		}
		if _, isNamespace := key.(*corev1.Namespace); isNamespace {
			continue // that one is deleted in TestDrift_ofTheNamespaceIsRepaired, which takes a while
		}
		uid := get(w, key).GetUID()
		w.Expect(suite.client.Delete(t.Context(), key.DeepCopyObject().(client.Object))).To(Succeed())
		repaired(key, want, "was deleted")
		w.Expect(get(w, key).GetUID()).NotTo(Equal(uid))
	}
	t.Logf("the slowest repair took %s", slowest)
	w.calm()
	w.Expect(w.everythingOf(otherID, other)).To(Equal(others))
}

// A tenant's Secrets cannot be read, so that nobody sees what becomes of them: they are written again with the next change
// of what they should hold, when the namespace is made anew, and every ten hours.
func TestDrift_ofSecretsIsRepairedWithTheNextChange(t *testing.T) {
	w := newWorld(t)
	shared := w.share()
	otherID, other := w.guarded("untouched", shared.Name)
	o, name := w.tenant("secrets", limited(shared.Name))
	own, copied := secretObject(name, tenant.SecretName, nil), secretObject(name, shared.Name, nil)
	wantOwn, err := w.managedAs(own)()
	w.Expect(err).NotTo(HaveOccurred())
	wantCopy, err := w.managedAs(copied)()
	w.Expect(err).NotTo(HaveOccurred())
	w.calm()
	others := w.everythingOf(otherID, other)

	for i, drift := range []func(*corev1.Secret){
		func(s *corev1.Secret) { w.Expect(suite.client.Delete(t.Context(), s)).To(Succeed()) },
		func(s *corev1.Secret) {
			changeByHand(w, s, func(s *corev1.Secret) {
				for key := range s.Data {
					s.Data[key] = []byte("forged")
				}
			})
		},
	} {
		drift(own.DeepCopy())
		drift(copied.DeepCopy())
		// Reading the organization anew is no change: what is the same as it was is not written.
		w.kubectl("annotate", "clerkorganization", clerk.ObjectName(w.instanceName, o.ID), clerkv1alpha1.AnnotationResyncRequestedAt+"=now")
		o.PublicMetadata, o.UpdatedAt = map[string]any{"change": i}, w.tick()
		w.happen("organization.updated", o.Data())
		w.Eventually(w.managedAs(copied)).Should(Equal(wantCopy))
		w.Eventually(w.managedAs(own)).Should(ContainSubstring(`CLERK_ORGANIZATION_PUBLIC_METADATA:{"change":%d}`, i))
		changeByHand(w, own, func(s *corev1.Secret) { s.Data["CLERK_ORGANIZATION_PUBLIC_METADATA"] = []byte("{}") })
		w.Expect(w.managedAs(own)()).To(Equal(wantOwn))
	}
	// One without the operator's labels is outside of its fence, until it is gone.
	changeByHand(w, copied, func(s *corev1.Secret) { s.Labels = nil })
	o.PublicMetadata, o.UpdatedAt = nil, w.tick()
	w.happen("organization.updated", o.Data())
	w.Eventually(stored(w, w.organizationObject(o.ID))).Should(beReady(metav1.ConditionFalse, clerkv1alpha1.ReasonSecretRefused))
	w.Expect(suite.client.Delete(t.Context(), copied.DeepCopy())).To(Succeed())
	w.annotate(w.organizationObject(o.ID), "example.com/touched", "yes")
	w.Eventually(w.managedAs(copied)).Should(Equal(wantCopy))
	w.provisioned(o.ID)
	w.calm()
	w.Expect(w.everythingOf(otherID, other)).To(Equal(others))
}
