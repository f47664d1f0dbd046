// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package controlplane

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	. "github.com/onsi/gomega"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/resourceversion"
	"k8s.io/client-go/kubernetes"
	corev1client "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/rest"
)

// timeout bounds each wait for the control plane: many times what any of them takes.
const timeout = 90 * time.Second

// TestControlPlane runs its subtests, one after the other, on one control plane: starting it is what takes the time.
func TestControlPlane(t *testing.T) {
	g := NewWithT(t)
	begin := time.Now()
	cp, err := Start(t.Context(), Options{ControllerManager: true})
	g.Expect(err).NotTo(HaveOccurred())
	t.Cleanup(func() {
		if t.Failed() {
			cp.Keep()
			t.Logf("the logs are in %s", cp.Dir())
		}
		if err := cp.Stop(); err != nil {
			t.Errorf("stopping after the test: %v", err)
		}
	})
	t.Logf("started in %s", time.Since(begin).Round(10*time.Millisecond))

	t.Run("admin", func(t *testing.T) { testAdmin(t, cp) })
	t.Run("kubectl", func(t *testing.T) { testKubectl(t, cp) })
	t.Run("service account", func(t *testing.T) { testServiceAccount(t, cp) })
	t.Run("aggregated role", func(t *testing.T) { testAggregatedRole(t, cp) })
	t.Run("quota", func(t *testing.T) { testQuota(t, cp) })
	t.Run("garbage collection", func(t *testing.T) { testGarbageCollection(t, cp) })
	t.Run("namespace", func(t *testing.T) { testNamespace(t, cp) })
	t.Run("API server killed", func(t *testing.T) {
		testAPIServerAway(t, cp, func(context.Context) error { return cp.KillAPIServer() })
	})
	t.Run("API server stopped", func(t *testing.T) { testAPIServerAway(t, cp, cp.StopAPIServer) })
	t.Run("etcd restored", func(t *testing.T) { testRestore(t, cp) })
	// The last one, since nothing is left after it.
	t.Run("stop", func(t *testing.T) { testStop(t, cp) })
}

func clientFor(t *testing.T, cfg *rest.Config) kubernetes.Interface {
	t.Helper()
	client, err := kubernetes.NewForConfig(cfg)
	NewWithT(t).Expect(err).NotTo(HaveOccurred())
	return client
}

// whoAmI returns who the API server takes the user of cfg for.
func whoAmI(t *testing.T, cfg *rest.Config) authenticationv1.UserInfo {
	t.Helper()
	review, err := clientFor(t, cfg).AuthenticationV1().SelfSubjectReviews().
		Create(t.Context(), &authenticationv1.SelfSubjectReview{}, metav1.CreateOptions{})
	NewWithT(t).Expect(err).NotTo(HaveOccurred())
	return review.Status.UserInfo
}

// createNamespace creates a namespace that has its service account "default", as one in a real cluster soon has.
func createNamespace(t *testing.T, client kubernetes.Interface, name string) {
	t.Helper()
	g := NewWithT(t)
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}
	_, err := client.CoreV1().Namespaces().Create(t.Context(), namespace, metav1.CreateOptions{})
	g.Expect(err).NotTo(HaveOccurred())
	g.Eventually(func() error {
		_, err := client.CoreV1().ServiceAccounts(name).Get(t.Context(), "default", metav1.GetOptions{})
		return err
	}).WithTimeout(timeout).Should(Succeed())
}

func testAdmin(t *testing.T, cp *ControlPlane) {
	g := NewWithT(t)
	cfg := cp.Config()
	g.Expect(cfg.QPS).To(BeEquivalentTo(-1))
	user := whoAmI(t, cfg)
	g.Expect(user.Username).To(Equal("admin"))
	g.Expect(user.Groups).To(ContainElement("system:masters"))

	cfg.BearerToken = "changed"
	cfg.CAData[0]++
	g.Expect(whoAmI(t, cp.Config()).Username).To(Equal("admin"), "a changed configuration is the caller's own")
}

func testKubectl(t *testing.T, cp *ControlPlane) {
	g := NewWithT(t)
	info, err := os.Stat(cp.Kubeconfig())
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(info.Mode().Perm()).To(Equal(os.FileMode(0o600)))

	output, err := cp.Kubectl(t.Context(), "auth", "whoami", "--output=jsonpath={.status.userInfo.username}").CombinedOutput()
	g.Expect(err).NotTo(HaveOccurred(), string(output))
	g.Expect(string(output)).To(Equal("admin"))
}

func testServiceAccount(t *testing.T, cp *ControlPlane) {
	g := NewWithT(t)
	admin := clientFor(t, cp.Config())
	createNamespace(t, admin, "accounts")
	_, err := admin.RbacV1().Roles("accounts").Create(t.Context(), &rbacv1.Role{
		ObjectMeta: metav1.ObjectMeta{Name: "reader"},
		Rules:      []rbacv1.PolicyRule{{APIGroups: []string{""}, Resources: []string{"configmaps"}, Verbs: []string{"list"}}},
	}, metav1.CreateOptions{})
	g.Expect(err).NotTo(HaveOccurred())
	_, err = admin.RbacV1().RoleBindings("accounts").Create(t.Context(), &rbacv1.RoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "reader"},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: "reader"},
		Subjects:   []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Namespace: "accounts", Name: "default"}},
	}, metav1.CreateOptions{})
	g.Expect(err).NotTo(HaveOccurred())

	cfg, err := cp.ServiceAccountConfig(t.Context(), "accounts", "default")
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(cfg.QPS).To(BeEquivalentTo(-1))
	user := whoAmI(t, cfg)
	g.Expect(user.Username).To(Equal("system:serviceaccount:accounts:default"))
	g.Expect(user.Groups).NotTo(ContainElement("system:masters"))
	account := clientFor(t, cfg)
	g.Eventually(func() error {
		_, err := account.CoreV1().ConfigMaps("accounts").List(t.Context(), metav1.ListOptions{})
		return err
	}).WithTimeout(timeout).Should(Succeed())
	_, err = account.CoreV1().Secrets("accounts").List(t.Context(), metav1.ListOptions{})
	g.Expect(apierrors.IsForbidden(err)).To(BeTrue(), "listing secrets: %v", err)

	_, err = cp.ServiceAccountConfig(t.Context(), "accounts", "missing")
	g.Expect(err).To(MatchError(ContainSubstring("requesting a token for service account accounts/missing: ")))
}

func testAggregatedRole(t *testing.T, cp *ControlPlane) {
	g := NewWithT(t)
	client := clientFor(t, cp.Config())
	for _, name := range []string{"admin", "edit", "view"} {
		g.Eventually(func() ([]rbacv1.PolicyRule, error) {
			role, err := client.RbacV1().ClusterRoles().Get(t.Context(), name, metav1.GetOptions{})
			return role.Rules, err
		}).WithTimeout(timeout).ShouldNot(BeEmpty(), name)
	}
}

func testQuota(t *testing.T, cp *ControlPlane) {
	g := NewWithT(t)
	client := clientFor(t, cp.Config())
	createNamespace(t, client, "quota")
	quotas := client.CoreV1().ResourceQuotas("quota")
	_, err := quotas.Create(t.Context(), &corev1.ResourceQuota{
		ObjectMeta: metav1.ObjectMeta{Name: "no-secrets"},
		Spec:       corev1.ResourceQuotaSpec{Hard: corev1.ResourceList{corev1.ResourceSecrets: resource.MustParse("0")}},
	}, metav1.CreateOptions{})
	g.Expect(err).NotTo(HaveOccurred())
	g.Eventually(func() (corev1.ResourceList, error) {
		quota, err := quotas.Get(t.Context(), "no-secrets", metav1.GetOptions{})
		return quota.Status.Used, err
	}).WithTimeout(timeout).Should(HaveKey(corev1.ResourceSecrets))
	_, err = client.CoreV1().Secrets("quota").
		Create(t.Context(), &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "one"}}, metav1.CreateOptions{})
	g.Expect(err).To(MatchError(ContainSubstring("exceeded quota: no-secrets")))
}

func testGarbageCollection(t *testing.T, cp *ControlPlane) {
	g := NewWithT(t)
	client := clientFor(t, cp.Config())
	createNamespace(t, client, "garbage")
	configMaps := client.CoreV1().ConfigMaps("garbage")
	owner, err := configMaps.Create(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "owner"}}, metav1.CreateOptions{})
	g.Expect(err).NotTo(HaveOccurred())
	_, err = configMaps.Create(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{
		Name:            "owned",
		OwnerReferences: []metav1.OwnerReference{{APIVersion: "v1", Kind: "ConfigMap", Name: owner.Name, UID: owner.UID}},
	}}, metav1.CreateOptions{})
	g.Expect(err).NotTo(HaveOccurred())

	g.Expect(configMaps.Delete(t.Context(), "owner", metav1.DeleteOptions{})).To(Succeed())
	begin := time.Now()
	g.Eventually(func() bool {
		_, err := configMaps.Get(t.Context(), "owned", metav1.GetOptions{})
		return apierrors.IsNotFound(err)
	}).WithTimeout(timeout).Should(BeTrue())
	t.Logf("collected within %s", time.Since(begin).Round(10*time.Millisecond))
}

func testNamespace(t *testing.T, cp *ControlPlane) {
	g := NewWithT(t)
	client := clientFor(t, cp.Config())
	createNamespace(t, client, "temporary")
	for _, name := range []string{"one", "two", "three"} {
		object := metav1.ObjectMeta{Name: name}
		_, err := client.CoreV1().ConfigMaps("temporary").Create(t.Context(), &corev1.ConfigMap{ObjectMeta: object}, metav1.CreateOptions{})
		g.Expect(err).NotTo(HaveOccurred())
		_, err = client.CoreV1().Secrets("temporary").Create(t.Context(), &corev1.Secret{ObjectMeta: object}, metav1.CreateOptions{})
		g.Expect(err).NotTo(HaveOccurred())
	}

	g.Expect(client.CoreV1().Namespaces().Delete(t.Context(), "temporary", metav1.DeleteOptions{})).To(Succeed())
	begin := time.Now()
	g.Eventually(func() bool {
		_, err := client.CoreV1().Namespaces().Get(t.Context(), "temporary", metav1.GetOptions{})
		return apierrors.IsNotFound(err)
	}).WithTimeout(timeout).Should(BeTrue())
	t.Logf("terminated within %s", time.Since(begin).Round(10*time.Millisecond))
}

// testAPIServerAway takes the API server away while a client watches, and brings it back.
func testAPIServerAway(t *testing.T, cp *ControlPlane, takeAway func(context.Context) error) {
	g := NewWithT(t)
	client := clientFor(t, cp.Config())
	configMaps := client.CoreV1().ConfigMaps(metav1.NamespaceDefault)
	created, err := configMaps.Create(t.Context(),
		&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{GenerateName: "kept-"}}, metav1.CreateOptions{})
	g.Expect(err).NotTo(HaveOccurred())
	watch, err := configMaps.Watch(t.Context(), metav1.ListOptions{})
	g.Expect(err).NotTo(HaveOccurred())
	t.Cleanup(watch.Stop)
	account, err := cp.ServiceAccountConfig(t.Context(), metav1.NamespaceDefault, "default")
	g.Expect(err).NotTo(HaveOccurred())

	begin := time.Now()
	g.Expect(takeAway(t.Context())).To(Succeed())
	t.Logf("gone after %s", time.Since(begin).Round(10*time.Millisecond))
	_, err = configMaps.Get(t.Context(), created.Name, metav1.GetOptions{})
	g.Expect(err).To(HaveOccurred())
	g.Expect(takeAway(t.Context())).To(Succeed(), "taking it away again")

	begin = time.Now()
	g.Expect(cp.StartAPIServer(t.Context())).To(Succeed())
	t.Logf("back after %s", time.Since(begin).Round(10*time.Millisecond))
	kept, err := configMaps.Get(t.Context(), created.Name, metav1.GetOptions{})
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(kept.UID).To(Equal(created.UID))
	g.Expect(whoAmI(t, account).Username).To(Equal("system:serviceaccount:default:default"), "earlier tokens stay valid")
	g.Expect(cp.StartAPIServer(t.Context())).To(Succeed(), "starting what runs")
}

// testRestore takes the data back to what they were.
func testRestore(t *testing.T, cp *ControlPlane) {
	g := NewWithT(t)
	client := clientFor(t, cp.Config())
	createNamespace(t, client, "restored")
	configMaps := client.CoreV1().ConfigMaps("restored")
	createConfigMaps(t, configMaps, "kept", "deleted")
	account, err := cp.ServiceAccountConfig(t.Context(), "restored", "default")
	g.Expect(err).NotTo(HaveOccurred())
	before := configMapsOf(t, configMaps)

	dir := filepath.Join(t.TempDir(), "backup")
	begin := time.Now()
	g.Expect(cp.Backup(t.Context(), dir)).To(Succeed())
	t.Logf("backed up in %s", time.Since(begin).Round(10*time.Millisecond))
	g.Expect(configMapsOf(t, configMaps).Items).To(Equal(before.Items))
	g.Expect(cp.Backup(t.Context(), dir)).To(MatchError(ContainSubstring("backing up etcd: copying ")), "a backup is not overwritten")

	for restore := range 2 {
		g.Expect(configMaps.Delete(t.Context(), "deleted", metav1.DeleteOptions{})).To(Succeed())
		// The restart writes something, too.
		for i := range 50 {
			createConfigMaps(t, configMaps, fmt.Sprint("late-", i))
		}
		createNamespace(t, client, "late")
		after := configMapsOf(t, configMaps)

		begin = time.Now()
		g.Expect(cp.Restore(t.Context(), dir)).To(Succeed(), "restore %d", restore)
		t.Logf("restored in %s", time.Since(begin).Round(10*time.Millisecond))
		restored := configMapsOf(t, configMaps)
		g.Expect(restored.Items).To(Equal(before.Items))
		g.Expect(resourceversion.CompareResourceVersion(restored.ResourceVersion, after.ResourceVersion)).To(BeNumerically("<", 0),
			"the revision goes back: from %s to %s", after.ResourceVersion, restored.ResourceVersion)
	}
	g.Expect(whoAmI(t, account).Username).To(Equal("system:serviceaccount:restored:default"), "earlier tokens stay valid")
	createNamespace(t, client, "late")

	g.Expect(cp.Restore(t.Context(), filepath.Join(dir, "missing"))).To(MatchError(ContainSubstring("restoring etcd: copying ")))
	_, err = client.CoreV1().Namespaces().Get(t.Context(), "late", metav1.GetOptions{})
	g.Expect(err).NotTo(HaveOccurred(), "what there was before a restore that fails is there")
}

func createConfigMaps(t *testing.T, configMaps corev1client.ConfigMapInterface, names ...string) {
	t.Helper()
	for _, name := range names {
		object := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name}}
		_, err := configMaps.Create(t.Context(), object, metav1.CreateOptions{})
		NewWithT(t).Expect(err).NotTo(HaveOccurred())
	}
}

func configMapsOf(t *testing.T, configMaps corev1client.ConfigMapInterface) *corev1.ConfigMapList {
	t.Helper()
	list, err := configMaps.List(t.Context(), metav1.ListOptions{})
	NewWithT(t).Expect(err).NotTo(HaveOccurred())
	return list
}

func testStop(t *testing.T, cp *ControlPlane) {
	g := NewWithT(t)
	g.Expect(processesOf(t, cp.Dir())).To(HaveLen(3))
	begin := time.Now()
	g.Expect(cp.Stop()).To(Succeed())
	t.Logf("stopped in %s", time.Since(begin).Round(10*time.Millisecond))
	g.Expect(processesOf(t, cp.Dir())).To(BeEmpty())
	g.Expect(cp.Dir()).NotTo(BeADirectory())
	g.Expect(cp.Stop()).To(Succeed(), "stopping again")
	g.Expect(cp.StartAPIServer(t.Context())).To(MatchError(ContainSubstring("the control plane has been stopped")))
	g.Expect(cp.Backup(t.Context(), t.TempDir())).To(MatchError(ContainSubstring("the control plane has been stopped")))
	g.Expect(cp.Restore(t.Context(), t.TempDir())).To(MatchError(ContainSubstring("the control plane has been stopped")))
}

// processesOf returns the command lines of all processes on this machine that work in the folder dir.
func processesOf(t *testing.T, dir string) []string {
	t.Helper()
	if runtime.GOOS != "linux" {
		t.Skip("looking at other processes takes /proc")
	}
	paths, err := filepath.Glob("/proc/[0-9]*/cmdline")
	NewWithT(t).Expect(err).NotTo(HaveOccurred())
	var found []string
	for _, path := range paths {
		// A process may end between the two looks.
		if line, err := os.ReadFile(path); err == nil && strings.Contains(string(line), dir) {
			found = append(found, strings.ReplaceAll(string(line), "\x00", " "))
		}
	}
	return found
}

func TestStartReportsWhyAProcessFailed(t *testing.T) {
	g := NewWithT(t)
	dir := t.TempDir()
	_, err := Start(t.Context(), Options{Dir: dir, APIServerArgs: []string{"--no-such-flag"}})
	g.Expect(err).To(MatchError(And(
		ContainSubstring("starting the control plane in "+dir),
		ContainSubstring("kube-apiserver ended by itself (exit status 1)"),
		ContainSubstring("unknown flag: --no-such-flag"),
	)))
	g.Expect(processesOf(t, dir)).To(BeEmpty())
	g.Expect(filepath.Join(dir, "logs", "etcd.log")).To(BeAnExistingFile())

	_, err = Start(t.Context(), Options{Dir: dir})
	g.Expect(err).To(MatchError(ContainSubstring("holds the data of an earlier control plane")))
}

func TestStartEndsWithItsContext(t *testing.T) {
	g := NewWithT(t)
	dir := t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := Start(ctx, Options{Dir: dir})
	g.Expect(err).To(MatchError(context.Canceled))
	g.Expect(processesOf(t, dir)).To(BeEmpty())
}

func TestStartWithoutBinaries(t *testing.T) {
	g := NewWithT(t)
	_, err := Start(t.Context(), Options{BinDir: t.TempDir()})
	g.Expect(err).To(MatchError(And(ContainSubstring("etcd"), ContainSubstring(`run "make controlplane"`))))

	t.Chdir(t.TempDir())
	_, err = Start(t.Context(), Options{})
	g.Expect(err).To(MatchError(ContainSubstring("run from inside the repository, or set Options.BinDir")))
}

func TestTakenPort(t *testing.T) {
	g := NewWithT(t)
	listener, err := net.Listen("tcp", loopback+":0")
	g.Expect(err).NotTo(HaveOccurred())
	t.Cleanup(func() { _ = listener.Close() })
	taken := listener.Addr().(*net.TCPAddr).Port

	c, err := newControlPlane(Options{Dir: t.TempDir()})
	g.Expect(err).NotTo(HaveOccurred())
	t.Cleanup(func() { g.Expect(c.Stop()).To(Succeed()) })
	picks := 0
	c.pickPort = func() (int, error) {
		picks++
		return taken, nil
	}
	g.Expect(c.startEtcd(t.Context())).To(MatchError(ContainSubstring("address already in use")))
	g.Expect(picks).To(Equal(startAttempts))

	picks = 0
	c.pickPort = func() (int, error) {
		if picks++; picks == 1 {
			return taken, nil
		}
		return freePort()
	}
	g.Expect(c.startEtcd(t.Context())).To(Succeed())
	g.Expect(picks).To(Equal(2))

	g.Expect(etcdReady(t.Context(), c.etcdURL, "other")).To(MatchError(ContainSubstring("where only other should be")),
		"the etcd of another control plane is not taken for this one's")
}

func TestStopReportsACrash(t *testing.T) {
	g := NewWithT(t)
	c, err := newControlPlane(Options{})
	g.Expect(err).NotTo(HaveOccurred())
	t.Cleanup(func() { _ = os.RemoveAll(c.Dir()) })
	g.Expect(c.startEtcd(t.Context())).To(Succeed())
	g.Expect(c.etcd.Kill()).To(Succeed())

	g.Expect(c.Stop()).To(MatchError(ContainSubstring("etcd ended by itself (signal: killed)")))
	g.Expect(c.Dir()).To(BeADirectory(), "the log is kept")
}
