// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"fmt"
	"net/http/httptest"
	"time"

	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	clerkv1alpha1 "github.com/clerk-operator/clerk-operator/api/v1alpha1"
	"github.com/clerk-operator/clerk-operator/test/clerkfake"
	"github.com/clerk-operator/clerk-operator/test/installation"
	"github.com/clerk-operator/clerk-operator/test/payload"
)

// backed is a world whose instance has a Backend API, which a stand-in for Clerk serves.
type backed struct {
	*world
	clerk    *clerkfake.Clerk
	instance *clerkv1alpha1.ClerkInstance
	// secret is the Secret of the secret key.
	secret *corev1.Secret
}

// backedBy gives a world an instance of its own, with Clerk behind it. The key is a production instance's, whose budget
// is larger. fill is what is in Clerk before the operator learns of it.
func (w *world) backedBy(fill func(*clerkfake.Clerk), change ...func(*clerkv1alpha1.ClerkInstance)) *backed {
	w.t.Helper()
	b := &backed{world: w, clerk: clerkfake.New(clerkfake.Config{
		InstanceID: payload.NewID("ins"), SecretKey: "sk_live_" + newName(), EnvironmentType: "production",
	})}
	if fill != nil {
		b.clerk.Quietly(func() { fill(b.clerk) })
	}
	server := httptest.NewServer(b.clerk)
	w.t.Cleanup(server.Close)
	b.secret = &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: installation.Namespace, Name: newName()},
		StringData: map[string]string{"secret-key": b.clerk.SecretKey()},
	}
	w.create(b.secret)
	b.instance = w.ownInstance(append([]func(*clerkv1alpha1.ClerkInstance){func(i *clerkv1alpha1.ClerkInstance) {
		i.Spec.BackendAPI.URL = server.URL
		i.Spec.BackendAPI.SecretKeyRef = clerkv1alpha1.SecretKeyReference{Name: b.secret.Name, Key: "secret-key"}
	}}, change...)...)
	return b
}

// synced waits until the first full sync has succeeded.
func (b *backed) synced() *clerkv1alpha1.ClerkInstance {
	b.t.Helper()
	b.Eventually(stored(b.world, b.instance)).Should(SatisfyAll(
		haveCondition(clerkv1alpha1.ConditionSynced, metav1.ConditionTrue, clerkv1alpha1.ReasonSynced),
		HaveField("Status.Sync.LastFullTime", Not(BeNil())),
	))
	return get(b.world, b.instance)
}

// request asks for a full sync, and returns the request.
func (b *backed) request() string {
	b.t.Helper()
	request := fmt.Sprint(time.Now().UnixNano())
	b.annotate(b.instance, clerkv1alpha1.AnnotationResyncRequestedAt, request)
	return request
}

// resync asks for a full sync, waits until it has succeeded, and returns the instance.
func (b *backed) resync() *clerkv1alpha1.ClerkInstance {
	b.t.Helper()
	request := b.request()
	b.Eventually(stored(b.world, b.instance)).Should(HaveField("Status.Sync.LastRequest", request))
	return get(b.world, b.instance)
}

func (w *world) annotate(o client.Object, key, value string) {
	w.t.Helper()
	patch := fmt.Sprintf(`{"metadata":{"annotations":{%q:%q}}}`, key, value)
	w.Expect(suite.client.Patch(w.t.Context(), o.DeepCopyObject().(client.Object),
		client.RawPatch("application/merge-patch+json", []byte(patch)))).To(Succeed())
}
