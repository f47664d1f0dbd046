// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package controller_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr"
	. "github.com/onsi/gomega"
	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	clerkv1alpha1 "github.com/clerk-operator/clerk-operator/api/v1alpha1"
	"github.com/clerk-operator/clerk-operator/internal/clerk"
	"github.com/clerk-operator/clerk-operator/internal/mirror"
	"github.com/clerk-operator/clerk-operator/internal/options"
	"github.com/clerk-operator/clerk-operator/internal/setup"
	"github.com/clerk-operator/clerk-operator/test/controlplane"
	"github.com/clerk-operator/clerk-operator/test/installation"
	"github.com/clerk-operator/clerk-operator/test/payload"
)

const (
	signingSecret = "whsec_Y29udHJvbGxlci1zdWl0ZS1zaWduaW5nLWtleQ=="
	timeout       = time.Minute
	polling       = 50 * time.Millisecond
)

// suite is one control plane with the operator installed as its users install it, and one manager under its own
// service account. Tests use IDs of their own, so that they do not meet.
var suite struct {
	client client.Client
	mirror *mirror.Mirror
	cp     *controlplane.ControlPlane
}

func TestMain(m *testing.M) {
	os.Exit(runSuite(m))
}

func runSuite(m *testing.M) int {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	stop, err := startSuite(ctx)
	if err != nil {
		fmt.Fprintln(os.Stderr, "starting the suite:", err)
		return 1
	}
	code := m.Run()
	if code != 0 {
		suite.cp.Keep()
		fmt.Fprintln(os.Stderr, "logs are kept in", suite.cp.Dir())
	}
	cancel()
	if err := stop(); err != nil {
		fmt.Fprintln(os.Stderr, "stopping the suite:", err)
		return 1
	}
	return code
}

func startSuite(ctx context.Context) (stop func() error, err error) {
	ctrl.SetLogger(logr.Discard())
	if suite.cp, err = controlplane.Start(ctx, controlplane.Options{ControllerManager: true}); err != nil {
		return nil, err
	}
	in, err := installation.Install(ctx, suite.cp, "../..")
	if err != nil {
		return nil, err
	}
	if err := in.SetSigningSecret(ctx, signingSecret); err != nil {
		return nil, err
	}
	suite.client = in.Client
	suite.mirror = mirror.New(in.Client, in.Client)
	config := &clerkv1alpha1.ClerkInstance{ObjectMeta: metav1.ObjectMeta{Name: "default"}}
	config.Spec.Webhook.SigningSecrets = []clerkv1alpha1.SecretKeyReference{{Name: "clerk-webhook", Key: "signing-secret"}}
	if err := in.Client.Create(ctx, config); err != nil {
		return nil, err
	}
	account, err := suite.cp.ServiceAccountConfig(ctx, installation.Namespace, installation.ServiceAccount)
	if err != nil {
		return nil, err
	}
	mgr, _, err := setup.Manager(ctx, account, &options.Options{
		ReceiverBindAddress:    "127.0.0.1:0",
		MetricsBindAddress:     "0",
		HealthProbeBindAddress: "0",
		Namespace:              installation.Namespace,
		ProbeInterval:          time.Second,
		RequirePolicies:        true,
	}, prometheus.NewRegistry())
	if err != nil {
		return nil, err
	}
	ended := make(chan error, 1)
	go func() { ended <- mgr.Start(ctx) }()
	return func() error {
		if err := <-ended; err != nil {
			return err
		}
		return suite.cp.Stop()
	}, nil
}

// world is what one test knows of Clerk: an organization and the time, which moves on with every event.
type world struct {
	*WithT
	t   *testing.T
	now time.Time
	org payload.Organization
	// instance is the ClerkInstance that the events come from.
	instance string
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{WithT: NewWithT(t), t: t, instance: "default", now: time.Now().Add(-time.Hour).Truncate(time.Millisecond)}
	w.SetDefaultEventuallyTimeout(timeout)
	w.SetDefaultEventuallyPollingInterval(polling)
	w.org = payload.Organization{ID: payload.NewID("org"), Name: "Acme", Slug: "acme", CreatedAt: w.tick(), UpdatedAt: w.now}
	return w
}

func (w *world) tick() time.Time {
	w.now = w.now.Add(time.Second)
	return w.now
}

// happen is an event of Clerk, written by the mirror as the receiver writes it.
func (w *world) happen(eventType string, data map[string]any) mirror.Result {
	w.t.Helper()
	body, err := json.Marshal(map[string]any{"type": eventType, "timestamp": w.tick().UnixMilli(), "data": data})
	w.Expect(err).NotTo(HaveOccurred())
	event, err := clerk.Decode(body)
	w.Expect(err).NotTo(HaveOccurred())
	var result mirror.Result
	if event.Deleted != "" {
		result, err = suite.mirror.Delete(w.t.Context(), w.instance, event.Deleted, event.Time)
	} else {
		result, err = suite.mirror.Apply(w.t.Context(), event.Object(clerk.Source{InstanceName: w.instance}))
	}
	w.Expect(err).NotTo(HaveOccurred())
	return result
}

// user signs somebody up.
func (w *world) user() payload.User {
	w.t.Helper()
	u := payload.User{ID: payload.NewID("user"), Email: "someone@example.com", CreatedAt: w.tick(), UpdatedAt: w.now}
	w.happen("user.created", u.Data())
	return u
}

// join makes a user a member of the world's organization.
func (w *world) join(u payload.User, role string) payload.Membership {
	w.t.Helper()
	m := payload.Membership{
		ID: payload.NewID("orgmem"), Role: role, UserID: u.ID, Organization: w.org, CreatedAt: w.tick(), UpdatedAt: w.now,
	}
	w.happen("organizationMembership.created", m.Data())
	return m
}

// class makes a class for the world's organization alone.
func (w *world) class(change ...func(*clerkv1alpha1.ClerkTenantClass)) *clerkv1alpha1.ClerkTenantClass {
	w.t.Helper()
	class := &clerkv1alpha1.ClerkTenantClass{ObjectMeta: metav1.ObjectMeta{Name: "class-" + clerk.ObjectName("default", w.org.ID)}}
	class.Spec.Selector = &clerkv1alpha1.ClerkTenantClassSelector{OrganizationIDs: []string{w.org.ID}}
	class.Spec.Namespace.Prefix = "t-"
	class.Spec.Deletion.GracePeriod = &metav1.Duration{}
	class.Spec.Access = []clerkv1alpha1.ClerkTenantClassAccess{
		{Role: "org:admin", ClusterRoles: []string{"admin"}},
		{Role: "org:member", ClusterRoles: []string{"edit"}},
	}
	for _, f := range change {
		f(class)
	}
	w.Expect(suite.client.Create(w.t.Context(), class)).To(Succeed())
	w.t.Cleanup(func() {
		_ = suite.client.Delete(context.WithoutCancel(w.t.Context()), class) // the test may have deleted it itself
	})
	return class
}

// tenant creates the world's organization and waits for it to be ready.
func (w *world) tenant() *clerkv1alpha1.ClerkOrganization {
	w.t.Helper()
	w.happen("organization.created", w.org.Data())
	w.eventuallyReady(&clerkv1alpha1.ClerkOrganization{}, w.org.ID, metav1.ConditionTrue, clerkv1alpha1.ReasonProvisioned)
	return w.organization()
}

func (w *world) organization() *clerkv1alpha1.ClerkOrganization {
	w.t.Helper()
	organization := &clerkv1alpha1.ClerkOrganization{}
	w.get(organization, w.org.ID)
	return organization
}

func (w *world) get(o client.Object, id string) {
	w.t.Helper()
	w.Expect(suite.client.Get(w.t.Context(), client.ObjectKey{Name: clerk.ObjectName(w.instance, id)}, o)).To(Succeed())
}

type conditioned interface {
	client.Object
	GetConditions() *[]metav1.Condition
}

// eventuallyReady waits for an object's Ready to have a status and a reason.
func (w *world) eventuallyReady(o conditioned, id string, status metav1.ConditionStatus, reason string) {
	w.t.Helper()
	w.Eventually(func(g Gomega) {
		g.Expect(suite.client.Get(w.t.Context(), client.ObjectKey{Name: clerk.ObjectName(w.instance, id)}, o)).To(Succeed())
		ready := meta.FindStatusCondition(*o.GetConditions(), clerkv1alpha1.ConditionReady)
		g.Expect(ready).NotTo(BeNil())
		g.Expect([]any{ready.Status, ready.Reason}).To(Equal([]any{status, reason}), ready.Message)
		g.Expect(ready.ObservedGeneration).To(Equal(o.GetGeneration()))
	}).Should(Succeed())
}

func (w *world) eventuallyGone(o client.Object, key client.ObjectKey) {
	w.t.Helper()
	w.Eventually(func() error {
		return suite.client.Get(w.t.Context(), key, o)
	}).Should(MatchError(ContainSubstring("not found")))
}

// holders are the users that hold each ClusterRole in a namespace through the operator's bindings.
func (w *world) holders(namespace string) map[string][]string {
	w.t.Helper()
	var bindings rbacv1.RoleBindingList
	w.Expect(suite.client.List(w.t.Context(), &bindings, client.InNamespace(namespace),
		client.MatchingLabels{clerkv1alpha1.LabelManagedBy: clerkv1alpha1.ManagedBy})).To(Succeed())
	holders := map[string][]string{}
	for _, binding := range bindings.Items {
		for _, subject := range binding.Subjects {
			holders[binding.RoleRef.Name] = append(holders[binding.RoleRef.Name], strings.TrimPrefix(subject.Name, "clerk:"))
		}
	}
	return holders
}

// eventuallyHold waits for exactly these users to hold each ClusterRole.
func (w *world) eventuallyHold(namespace string, want map[string][]string) {
	w.t.Helper()
	w.Eventually(func(g Gomega) {
		holders := w.holders(namespace)
		g.Expect(holders).To(HaveLen(len(want)))
		for role, users := range want {
			g.Expect(holders[role]).To(ConsistOf(users), role)
		}
	}).Should(Succeed())
}

func (w *world) namespace(name string) *corev1.Namespace {
	w.t.Helper()
	namespace := &corev1.Namespace{}
	w.Expect(suite.client.Get(w.t.Context(), client.ObjectKey{Name: name}, namespace)).To(Succeed())
	return namespace
}
