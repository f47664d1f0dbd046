// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"crypto/tls"
	"crypto/x509"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	. "github.com/onsi/gomega"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/util/cert"

	clerkv1alpha1 "github.com/clerk-operator/clerk-operator/api/v1alpha1"
	"github.com/clerk-operator/clerk-operator/internal/delivery"
	"github.com/clerk-operator/clerk-operator/test/installation"
	"github.com/clerk-operator/clerk-operator/test/payload"
)

func TestInstance_decidesOnUsernamesAndProfiles(t *testing.T) {
	w := newWorld(t)
	w.ownInstance(func(instance *clerkv1alpha1.ClerkInstance) {
		instance.Spec.Access.UsernamePrefix = "oidc#"
		instance.Spec.Users.Profile = clerkv1alpha1.UserProfileMinimal
	})
	o, namespace := w.tenant("prefix")
	ada := w.user()
	w.join(ada, o, "org:admin")

	w.Eventually(w.bindings(namespace)).Should(Equal(map[string][]string{"admin": {"oidc#" + ada.ID}}))
	spec := get(w, w.userObject(ada.ID)).Spec
	w.Expect([]string{spec.UserID, spec.Email, spec.FirstName, spec.LastName}).To(Equal([]string{ada.ID, "", "", ""}))
}

func TestInstances_cannotReachIntoEachOther(t *testing.T) {
	w, other := newWorld(t), newWorld(t)
	instance := other.ownInstance()
	o, namespace := w.tenant("mine")
	ada := w.memberOf(o, namespace)
	grace, mallory := w.user(), other.user()
	lookalike := grace
	lookalike.ID = "user_" + strings.ToLower(grace.ID[5:])

	other.happen("organizationMembership.created", other.newMembership(mallory, o, "org:admin").Data())
	other.happen("organizationMembership.created", other.newMembership(grace, o, "org:admin").Data())
	for _, event := range []delivery.Event{
		other.updateUser(&ada, func(u *payload.User) { u.Banned = true }),
		other.event("user.updated", lookalike.Data()),
		other.event("organization.updated", o.Data()),
	} {
		w.Expect(other.deliver(event)).To(Equal("ignored"), event.Type)
	}
	other.deliver(other.event("user.deleted", payload.Deleted("user", ada.ID)))
	other.deliver(other.event("organization.deleted", payload.Deleted("organization", o.ID)))

	w.Eventually(stored(w, instance)).Should(HaveField("Status.Failures", And(
		WithTransform(func(failures []clerkv1alpha1.DeliveryFailure) int { return len(failures) }, BeNumerically(">=", 3)),
		HaveEach(HaveField("Reason", "NameTaken")),
	)))
	w.Consistently(func(g Gomega) {
		g.Expect(w.levelOf(ada.ID, namespace)).To(Equal(admin))
		g.Expect(w.levelOf(mallory.ID, namespace)).To(Equal(none))
		g.Expect(w.levelOf(grace.ID, namespace)).To(Equal(none))
	}).Should(Succeed())
}

func TestInstances_rememberTheirOwnDeletions(t *testing.T) {
	w, other := newWorld(t), newWorld(t)
	other.ownInstance()
	u := w.user()
	late := w.updateUser(&u, func(*payload.User) {})
	deletion := payload.Deleted("user", u.ID)
	other.deliver(other.event("user.deleted", deletion))
	w.Expect(w.gone(w.userObject(u.ID))()).To(BeFalse(), "it is not the other instance's user")

	w.deliver(w.event("user.deleted", deletion))
	w.Eventually(w.gone(w.userObject(u.ID))).Should(BeTrue())
	w.Eventually(w.tombstones(u.ID)).Should(ConsistOf(beReady(metav1.ConditionTrue, clerkv1alpha1.ReasonRecorded)))
	w.Expect(w.deliver(late)).To(Equal("stale"))
	w.Expect(w.gone(w.userObject(u.ID))()).To(BeTrue())

	other.deliver(other.event("user.created", u.Data()))
	other.deliver(other.event("user.deleted", deletion))
	w.Eventually(w.gone(w.userObject(u.ID))).Should(BeTrue())
	w.Expect(w.deliver(late)).To(Equal("stale"), "another instance that pretends the same does not make it forgotten")
}

func TestInstance_leavesEverythingAsItIsWhenItGoes(t *testing.T) {
	w := newWorld(t)
	instance := w.ownInstance()
	o, namespace := w.tenant("kept")
	ada, grace := w.memberOf(o, namespace), w.memberOf(o, namespace)

	w.Expect(suite.client.Delete(t.Context(), instance)).To(Succeed())
	w.Eventually(stored(w, w.organizationObject(o.ID))).Should(beReady(metav1.ConditionFalse, clerkv1alpha1.ReasonInstanceNotFound))
	w.Consistently(w.level(ada.ID, namespace)).Should(Equal(admin))
	answer, err := w.sender.Post(t.Context(), w.message(w.event("user.updated", ada.Data())))
	w.Expect(err).NotTo(HaveOccurred())
	w.Expect(answer.Code).To(Equal(http.StatusNotFound))
	w.kubectl("delete", "clerkuser", w.userObject(grace.ID).Name, "--timeout=60s")
	w.Eventually(w.level(grace.ID, namespace)).Should(Equal(none), "access can still be taken away by hand")
	w.Expect(w.levelOf(ada.ID, namespace)).To(Equal(admin))

	again := &clerkv1alpha1.ClerkInstance{ObjectMeta: metav1.ObjectMeta{Name: instance.Name}, Spec: instance.Spec}
	w.create(again)
	w.Expect(w.provisioned(o.ID)).To(Equal(namespace))
}

// It runs beside the others: what is told in status is up to a minute old.
func TestInstance_tellsWhatArrived(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	instance := w.ownInstance()
	o := w.newOrganization("counted")
	u := w.user()
	w.user()
	w.happen("organization.created", o.Data())
	w.join(u, o, "org:member")

	w.Eventually(stored(w, instance), 2*timeout).Should(HaveField("Status", And(
		HaveField("WebhookPath", "/webhooks/clerk/"+instance.Name),
		HaveField("Counts.Users", HaveValue(BeEquivalentTo(2))),
		HaveField("Counts.Organizations", HaveValue(BeEquivalentTo(1))),
		HaveField("Counts.Memberships", HaveValue(BeEquivalentTo(1))),
		HaveField("LastEventTime.Time", BeTemporally("==", w.now)),
	)))
}

func TestFirstRun_needsNoInstance(t *testing.T) {
	w := newWorld(t)
	w.withoutManager()
	// Other tests have deleted theirs.
	w.kubectl("delete", "clerkinstance", "--all")
	t.Cleanup(func() {
		out, err := suite.cp.Kubectl(contextAfter(t), "apply", "-f", suite.root+"/config/samples/clerkinstance.yaml").CombinedOutput()
		w.Expect(err).NotTo(HaveOccurred(), string(out))
	})
	first, second := newSigningSecret(), newSigningSecret()
	manager := w.manager(installation.ManagerOptions{
		Name: "first-run", Args: []string{leaderElection}, Env: []string{"CLERK_WEBHOOK_SECRET=" + first + " " + second},
	})
	w.sender.URL = manager.URL + clerkv1alpha1.WebhookPath
	answer, err := w.sender.Post(t.Context(), w.message(w.event("user.created", w.newUser().Data())))
	w.Expect(err).NotTo(HaveOccurred())
	w.Expect(answer.Code).To(Equal(http.StatusBadRequest), "the Secret of the instance that is gone")

	w.sender.Secret = first
	o, namespace := w.tenant("first")
	w.sender.Secret = second
	w.memberOf(o, namespace)
}

func TestReceiver_takesUpANewCertificate(t *testing.T) {
	w := newWorld(t)
	dir := t.TempDir()
	first := w.certificate(dir)
	manager := w.manager(installation.ManagerOptions{
		Name: "https", Args: []string{leaderElection, "--receiver-cert-dir=" + dir},
	})
	w.sender.URL = "https://" + addressOf(manager) + clerkv1alpha1.WebhookPath
	trusting := func(pool *x509.CertPool) *http.Client {
		return &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}, DisableKeepAlives: true}}
	}
	w.sender.Client = trusting(first)
	w.user()

	w.sender.Client = trusting(w.certificate(dir))
	m := w.message(w.event("user.created", w.newUser().Data()))
	w.Eventually(func() (int, error) {
		answer, err := w.sender.Post(t.Context(), m)
		return answer.Code, err
	}).Should(Equal(http.StatusOK))
	w.sender.Client = trusting(first)
	_, err := w.sender.Post(t.Context(), m)
	w.Expect(err).To(MatchError(ContainSubstring("certificate")))
}

// certificate puts a new certificate and its key into a folder, and returns who trusts it.
func (w *world) certificate(dir string) *x509.CertPool {
	w.t.Helper()
	certificate, key, err := cert.GenerateSelfSignedCertKey("127.0.0.1", nil, nil)
	w.Expect(err).NotTo(HaveOccurred())
	for name, content := range map[string][]byte{"tls.crt": certificate, "tls.key": key} {
		// Like kubelet, in one step.
		w.Expect(os.WriteFile(filepath.Join(dir, name+".new"), content, 0o600)).To(Succeed())
		w.Expect(os.Rename(filepath.Join(dir, name+".new"), filepath.Join(dir, name))).To(Succeed())
	}
	pool := x509.NewCertPool()
	w.Expect(pool.AppendCertsFromPEM(certificate)).To(BeTrue())
	return pool
}
