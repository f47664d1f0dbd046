// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"crypto/tls"
	"io"
	"net/http"
	"os"
	"testing"
	"time"

	. "github.com/onsi/gomega"
	"github.com/onsi/gomega/types"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	clerkv1alpha1 "github.com/clerk-operator/clerk-operator/api/v1alpha1"
	"github.com/clerk-operator/clerk-operator/internal/delivery"
	"github.com/clerk-operator/clerk-operator/test/installation"
	"github.com/clerk-operator/clerk-operator/test/payload"
)

func TestAcknowledged_andNeitherStoredNorForgotten(t *testing.T) {
	w := newWorld(t)
	instance := w.ownInstance(func(instance *clerkv1alpha1.ClerkInstance) {
		instance.Spec.InstanceID = payload.NewID("ins")
	})
	manager := w.manager(installation.ManagerOptions{Name: "metrics", Metrics: true, Args: []string{leaderElection}})
	reader := w.reader()
	w.sender.URL = manager.URL + clerkv1alpha1.WebhookPath + "/" + instance.Name

	const canary = "424242-one-time-code"
	secretive := map[string]any{"id": "x_1", "otp_code": canary, "body": "Your code is " + canary}
	foreigner := w.newUser()
	foreigner.FirstName = canary
	foreign := w.event("user.created", foreigner.Data())
	foreign.InstanceID = payload.NewID("ins")
	nameless := w.event("user.created", foreigner.Data())
	nameless.InstanceID = ""
	broken := w.message(w.event("user.deleted", map[string]any{"object": "user", "deleted": true, "slug": canary}))
	for _, tc := range []struct {
		about       string
		message     delivery.Message
		wantResult  string
		wantCounted string
	}{
		{"an unknown type", w.message(w.event("spaceship.launched", secretive)), `ignored`, `result="ignored",type="other"`},
		{"a type that is not mirrored", w.message(w.event("session.created", secretive)), `ignored`, `result="ignored",type="session.created"`},
		{"an e-mail", w.message(w.event("email.created", secretive)), `ignored`, `result="sensitive",type="email.created"`},
		{"another instance", w.message(foreign), `ignored`, `result="foreign_instance",type="user.created"`},
		{"no instance at all", w.message(nameless), `ignored`, `result="foreign_instance",type="user.created"`},
		{"a deletion without an ID", broken, `ignored`, `result="unusable",type="user.deleted"`},
	} {
		w.Expect(w.attempt(tc.message)).To(Equal(tc.wantResult), tc.about)
		w.Expect(w.scrape(manager.Metrics, reader)).To(ContainSubstring(
			`clerk_operator_webhook_requests_total{code="200",instance="`+instance.Name+`",`+tc.wantCounted+`}`), tc.about)
	}

	w.Eventually(stored(w, instance)).Should(HaveField("Status.Failures", ConsistOf(And(
		HaveField("MessageID", broken.ID), HaveField("Type", "user.deleted"), HaveField("Reason", "NoID"),
	))))
	w.Expect(w.gone(w.userObject(foreigner.ID))()).To(BeTrue())
	log, err := os.ReadFile(manager.Process.LogPath())
	w.Expect(err).NotTo(HaveOccurred())
	for about, text := range map[string]string{
		"objects": w.kubectl("get", "clerk", "-o", "yaml"),
		"events":  w.kubectl("get", "events", "-A", "-o", "yaml"),
		"log":     string(log),
		"metrics": w.scrape(manager.Metrics, reader),
	} {
		w.Expect(text).NotTo(ContainSubstring(canary), about)
	}
}

func TestMetrics_areForThoseWhomTheAPIServerLets(t *testing.T) {
	w := newWorld(t)
	manager := w.manager(installation.ManagerOptions{Name: "metrics", Metrics: true, Args: []string{leaderElection}})
	w.Expect(w.scrape(manager.Metrics, w.reader())).To(And(
		ContainSubstring("clerk_operator_webhook_in_flight 0"), ContainSubstring("go_sched_goroutines_goroutines"),
	))
	for token, want := range map[string]types.GomegaMatcher{
		"":                 Equal(http.StatusUnauthorized),
		"made-up":          Or(Equal(http.StatusUnauthorized), Equal(http.StatusInternalServerError)), // controller-runtime says the latter
		w.serviceAccount(): Equal(http.StatusForbidden),
	} {
		code, body, err := w.readMetrics(manager.Metrics, token)
		w.Expect(err).NotTo(HaveOccurred())
		w.Expect(code).To(want)
		w.Expect(body).NotTo(ContainSubstring("clerk_operator"))
	}
}

// serviceAccount returns the token of a new service account.
func (w *world) serviceAccount(roles ...string) string {
	w.t.Helper()
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: metav1.NamespaceDefault, Name: newName()}}
	w.create(account)
	for _, role := range roles {
		w.create(&rbacv1.ClusterRoleBinding{
			ObjectMeta: metav1.ObjectMeta{Name: account.Name},
			RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: role},
			Subjects:   []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Namespace: account.Namespace, Name: account.Name}},
		})
	}
	config, err := suite.cp.ServiceAccountConfig(w.t.Context(), account.Namespace, account.Name)
	w.Expect(err).NotTo(HaveOccurred())
	return config.BearerToken
}

// reader returns the token of somebody who may read metrics, as Prometheus is to be.
func (w *world) reader() string {
	w.t.Helper()
	return w.serviceAccount("clerk-operator-metrics-reader")
}

// scrape reads the metrics, as soon as they are served, a moment after readiness, and the API server lets the token read.
func (w *world) scrape(url, token string) (metrics string) {
	w.t.Helper()
	w.Eventually(func() (code int, err error) {
		code, metrics, err = w.readMetrics(url, token)
		return code, err
	}).Should(Equal(http.StatusOK))
	return metrics
}

func (w *world) readMetrics(url, token string) (code int, body string, err error) {
	return w.fetch(url+"/metrics", token)
}

// fetch asks a port of a manager for a page, on a new connection.
func (w *world) fetch(page, token string) (code int, body string, err error) {
	request, err := http.NewRequestWithContext(w.t.Context(), http.MethodGet, page, http.NoBody)
	if err != nil {
		return 0, "", err
	}
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	client := &http.Client{
		Timeout: 10 * time.Second,
		// The manager makes its own certificate when it starts.
		Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true},
	}
	response, err := client.Do(request)
	if err != nil {
		return 0, "", err
	}
	defer func() { _ = response.Body.Close() }()
	read, err := io.ReadAll(response.Body)
	return response.StatusCode, string(read), err
}
