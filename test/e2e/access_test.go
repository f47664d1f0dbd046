// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"testing"

	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	clerkv1alpha1 "github.com/clerk-operator/clerk-operator/api/v1alpha1"
	"github.com/clerk-operator/clerk-operator/internal/delivery"
	"github.com/clerk-operator/clerk-operator/internal/tenant"
	"github.com/clerk-operator/clerk-operator/test/payload"
)

func TestTenant_hasEverythingThatItsClassAndInstanceSay(t *testing.T) {
	w := newWorld(t)
	instance := w.ownInstance(func(instance *clerkv1alpha1.ClerkInstance) {
		instance.Spec.InstanceID = payload.NewID("ins")
		instance.Spec.TenantEnvironment.PublishableKey = "pk_test_Y2xlcmsuZXhhbXBsZS5jb20k"
		instance.Spec.TenantEnvironment.FrontendAPIURL = "https://clerk.example.com"
	})
	o := w.newOrganization("acme")
	o.PublicMetadata = map[string]any{"plan": "pro"}
	w.class([]string{o.ID}, func(class *clerkv1alpha1.ClerkTenantClass) {
		class.Spec.Namespace.Labels = map[string]clerkv1alpha1.LabelValue{"team": "platform"}
		class.Spec.Namespace.Annotations = map[string]clerkv1alpha1.AnnotationValue{"example.com/contact": "a platform team"}
		class.Spec.Namespace.PodSecurity = clerkv1alpha1.PodSecurityBaseline
	})
	w.happen("organization.created", o.Data())
	ada := w.user()
	w.join(ada, o, "org:admin")

	name := w.provisioned(o.ID)
	w.Expect(name).To(Equal(tenant.NamespaceName("e2e-", get(w, w.organizationObject(o.ID)))))
	w.Expect(name).To(HavePrefix("e2e-acme-"))
	namespace := get(w, namespaceObject(name))
	w.Expect(namespace.Annotations).To(HaveKeyWithValue("example.com/contact", "a platform team"))
	w.Expect(namespace.Labels).To(Equal(map[string]string{
		"team":                               "platform",
		"kubernetes.io/metadata.name":        name,
		"app.kubernetes.io/managed-by":       "clerk-operator",
		"clerk-operator.dev/instance":        instance.Name,
		"clerk-operator.dev/organization-id": o.ID,
		"pod-security.kubernetes.io/enforce": "baseline",
		"pod-security.kubernetes.io/audit":   "baseline",
		"pod-security.kubernetes.io/warn":    "baseline",
	}))
	w.Expect(text(w.secretOf(name))).To(Equal(map[string]string{
		"CLERK_ORGANIZATION_ID":              o.ID,
		"CLERK_ORGANIZATION_SLUG":            "acme",
		"CLERK_ORGANIZATION_NAME":            "Acme Inc.",
		"CLERK_ORGANIZATION_PUBLIC_METADATA": `{"plan":"pro"}`,
		"CLERK_INSTANCE_ID":                  w.instanceID,
		"CLERK_PUBLISHABLE_KEY":              "pk_test_Y2xlcmsuZXhhbXBsZS5jb20k",
		"CLERK_FRONTEND_API_URL":             "https://clerk.example.com",
		"CLERK_JWKS_URL":                     "https://clerk.example.com/.well-known/jwks.json",
	}))
	w.Eventually(w.bindings(name)).Should(Equal(map[string][]string{"admin": {"clerk:" + ada.ID}}))
	w.Eventually(w.reasonsTold(o.ID)).Should(ContainElement(clerkv1alpha1.ReasonProvisioned))
}

// text is a Secret's data.
func text(secret *corev1.Secret) map[string]string {
	data := make(map[string]string, len(secret.Data))
	for key, value := range secret.Data {
		data[key] = string(value)
	}
	return data
}

// reasonsTold are the reasons of the Kubernetes Events about an organization.
func (w *world) reasonsTold(organizationID string) func() ([]string, error) {
	return func() ([]string, error) {
		var list eventsv1.EventList
		err := suite.client.List(w.t.Context(), &list, client.InNamespace(metav1.NamespaceDefault))
		var reasons []string
		for i := range list.Items {
			if list.Items[i].Regarding.Name == w.organizationObject(organizationID).Name {
				reasons = append(reasons, list.Items[i].Reason)
			}
		}
		return reasons, err
	}
}

// updateUser changes a user in Clerk and returns the event that tells of it.
func (w *world) updateUser(u *payload.User, change func(*payload.User)) delivery.Event {
	change(u)
	u.UpdatedAt = w.tick()
	return w.event("user.updated", u.Data())
}

// updateRole changes a member's role in Clerk and returns the event that tells of it.
func (w *world) updateRole(m *payload.Membership, role string) delivery.Event {
	m.Role, m.UpdatedAt = role, w.tick()
	return w.event("organizationMembership.updated", m.Data())
}

func TestAccess_isWhatClerkSaysAndNowhereElse(t *testing.T) {
	w := newWorld(t)
	acme, home := w.tenant("acme")
	other, abroad := w.tenant("other")
	ada, grace, lin := w.user(), w.user(), w.user()
	w.join(ada, acme, "org:admin")
	graceIn := w.join(grace, acme, "org:member")
	w.join(lin, other, "org:guest")

	w.Eventually(w.level(ada.ID, home)).Should(Equal(admin))
	w.Eventually(w.level(grace.ID, home)).Should(Equal(edit))
	w.Eventually(w.level(lin.ID, abroad)).Should(Equal(view))
	w.Expect(w.elsewhere(ada.ID, home)).To(BeEmpty())
	w.Expect(w.elsewhere(grace.ID, home)).To(BeEmpty())
	w.Expect(w.elsewhere(lin.ID, abroad)).To(BeEmpty())
	w.Expect(w.tryKubectl("", "auth", "can-i", "create", "rolebindings", "-n", home, "--as=clerk:"+ada.ID)).To(Equal("yes\n"))

	rejoined := w.newMembership(grace, acme, "org:guest")
	for _, step := range []struct {
		happens    string
		event      delivery.Event
		ada, grace string
	}{
		{"a ban", w.updateUser(&grace, func(u *payload.User) { u.Banned = true }), admin, none},
		{"an unban", w.updateUser(&grace, func(u *payload.User) { u.Banned = false }), admin, edit},
		{"a deprovisioning", w.updateUser(&grace, func(u *payload.User) { u.Deprovisioned = true }), admin, none},
		{"a provisioning", w.updateUser(&grace, func(u *payload.User) { u.Deprovisioned = false }), admin, edit},
		{"a promotion", w.updateRole(&graceIn, "org:admin"), admin, admin},
		{"a role that the class does not know", w.updateRole(&graceIn, "org:billing"), admin, none},
		{"a role as older instances write it", w.updateRole(&graceIn, "member"), admin, edit},
		{"a member leaving", w.event("organizationMembership.deleted", graceIn.Data()), admin, none},
		{"the member joining again", w.event("organizationMembership.created", rejoined.Data()), admin, view},
		{"a user's deletion", w.event("user.deleted", payload.Deleted("user", ada.ID)), none, view},
		{"the organization's deletion", w.event("organization.deleted", payload.Deleted("organization", acme.ID)), none, none},
	} {
		w.Expect(w.deliver(step.event)).To(Equal("applied"), step.happens)
		w.Eventually(w.level(ada.ID, home)).Should(Equal(step.ada), step.happens)
		w.Eventually(w.level(grace.ID, home)).Should(Equal(step.grace), step.happens)
	}

	w.Eventually(w.gone(namespaceObject(home))).Should(BeTrue())
	w.Eventually(w.gone(w.organizationObject(acme.ID))).Should(BeTrue())
	w.Eventually(w.gone(w.membershipObject(rejoined.ID))).Should(BeTrue())
	w.Eventually(w.gone(w.userObject(ada.ID))).Should(BeTrue())
	w.Expect(w.gone(w.userObject(grace.ID))()).To(BeFalse())
	w.Expect(w.levelOf(lin.ID, abroad)).To(Equal(view), "another tenant")
}
