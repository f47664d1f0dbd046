// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	. "github.com/onsi/gomega"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/controller-runtime/pkg/client"

	clerkv1alpha1 "github.com/clerk-operator/clerk-operator/api/v1alpha1"
	"github.com/clerk-operator/clerk-operator/test/installation"
)

// installed are the resourceVersions of everything in config/default.
func (w *world) installed() map[string]string {
	w.t.Helper()
	var list struct {
		Items []metav1.PartialObjectMetadata
	}
	w.Expect(json.Unmarshal([]byte(w.kubectl("get", "-k", "config/default", "-o", "json")), &list)).To(Succeed())
	versions := map[string]string{}
	for _, item := range list.Items {
		versions[item.Kind+" "+item.Namespace+"/"+item.Name] = item.ResourceVersion
	}
	return versions
}

func TestInstall_againChangesNothing(t *testing.T) {
	w := newWorld(t)
	for _, mode := range []string{"--server-side=true", "--server-side=false", "--server-side=true"} {
		w.kubectl("apply", mode, "-k", "config/default")
		before := w.installed()
		w.Expect(before).To(And(
			HaveKey("Deployment clerk-operator-system/clerk-operator-controller-manager"),
			HaveKey("CustomResourceDefinition /clerkusers.clerk-operator.dev"),
		))
		w.kubectl("apply", mode, "-k", "config/default")
		w.Expect(w.installed()).To(Equal(before), mode)
	}
}

func TestInstall_thePodIsAdmittedToItsNamespace(t *testing.T) {
	w := newWorld(t)
	deployment := get(w, &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{
		Namespace: installation.Namespace, Name: "clerk-operator-controller-manager",
	}})
	w.Expect(get(w, namespaceObject(installation.Namespace)).Labels).
		To(HaveKeyWithValue("pod-security.kubernetes.io/enforce", "restricted"))
	w.Expect(deployment.Spec.Replicas).To(HaveValue(BeEquivalentTo(2)))
	pod := &corev1.Pod{ObjectMeta: deployment.Spec.Template.ObjectMeta, Spec: deployment.Spec.Template.Spec}
	pod.Namespace, pod.Name = installation.Namespace, "admitted"
	w.Expect(suite.client.Create(t.Context(), pod, client.DryRunAll)).To(Succeed())
}

func TestInstall_theSamplesAreAccepted(t *testing.T) {
	w := newWorld(t)
	// The sample's class is for every organization, also for those that other tests left without one.
	class := &clerkv1alpha1.ClerkTenantClass{ObjectMeta: metav1.ObjectMeta{Name: "standard"}}
	t.Cleanup(func() { w.Expect(suite.client.Delete(contextAfter(t), class)).To(Succeed()) })
	w.kubectl("apply", "-k", "config/samples")
	w.kubectl("apply", "-f", "config/samples/ingress.yaml")
	w.Eventually(stored(w, class)).Should(beReady(metav1.ConditionTrue, clerkv1alpha1.ReasonAccepted))
	instance := &clerkv1alpha1.ClerkInstance{ObjectMeta: metav1.ObjectMeta{Name: "default"}}
	w.Eventually(stored(w, instance)).Should(beReady(metav1.ConditionTrue, clerkv1alpha1.ReasonReceiving))
	w.Expect(w.kubectl("apply", "-k", "config/samples")).NotTo(ContainSubstring("configured"))
}

func TestInstall_overlaysBuild(t *testing.T) {
	w := newWorld(t)
	overlay := t.TempDir()
	config := w.configFolder(overlay)
	component, err := os.ReadFile(filepath.Join(suite.root, "config", "components", "bindable-roles", "kustomization.yaml"))
	w.Expect(err).NotTo(HaveOccurred())
	w.write(filepath.Join(overlay, "bindable-roles", "kustomization.yaml"),
		strings.ReplaceAll(string(component), "tenant-developer", "my-developer"))
	w.write(filepath.Join(overlay, "kustomization.yaml"), `
resources: [`+config+`/default, `+config+`/prometheus]
components: [bindable-roles, `+config+`/components/network-policy]
images: [{name: ghcr.io/clerk-operator/clerk-operator, newTag: v9.9.9}]
`)

	built := w.objects(w.kubectl("kustomize", overlay))
	var role rbacv1.ClusterRole
	w.Expect(runtime.DefaultUnstructuredConverter.FromUnstructured(
		built["ClusterRole clerk-operator-manager-role"], &role)).To(Succeed())
	for _, names := range [][]string{{"admin", "edit", "view"}, {"my-developer"}} {
		w.Expect(role.Rules).To(ContainElement(rbacv1.PolicyRule{
			APIGroups: []string{rbacv1.GroupName}, Resources: []string{"clusterroles"}, ResourceNames: names, Verbs: []string{"bind"},
		}))
	}
	w.Expect(built).To(And(
		HaveKey("NetworkPolicy clerk-operator-controller-manager"), HaveKey("ServiceMonitor clerk-operator-controller-manager"),
	))
	var deployment appsv1.Deployment
	w.Expect(runtime.DefaultUnstructuredConverter.FromUnstructured(
		built["Deployment clerk-operator-controller-manager"], &deployment)).To(Succeed())
	w.Expect(deployment.Spec.Template.Spec.Containers[0].Image).To(Equal("ghcr.io/clerk-operator/clerk-operator:v9.9.9"))
}

// objects are those of a built kustomization, by kind and name.
func (w *world) objects(built string) map[string]map[string]any {
	w.t.Helper()
	decoder := yaml.NewYAMLOrJSONDecoder(strings.NewReader(built), 4096)
	objects := map[string]map[string]any{}
	for {
		var object unstructured.Unstructured
		err := decoder.Decode(&object)
		if errors.Is(err, io.EOF) {
			return objects
		}
		w.Expect(err).NotTo(HaveOccurred())
		objects[object.GetKind()+" "+object.GetName()] = object.Object
	}
}

func (w *world) write(path, content string) {
	w.t.Helper()
	w.Expect(os.MkdirAll(filepath.Dir(path), 0o700)).To(Succeed())
	w.Expect(os.WriteFile(path, []byte(content), 0o600)).To(Succeed())
}
