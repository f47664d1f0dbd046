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
	"unicode"

	. "github.com/onsi/gomega"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/util/cert"
	"sigs.k8s.io/controller-runtime/pkg/client"

	clerkv1alpha1 "github.com/clerk-operator/clerk-operator/api/v1alpha1"
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

// Who has one instance's signing secret can name any ID, and speaks of that instance's own objects only.
func TestInstances_cannotReachIntoEachOther(t *testing.T) {
	w, other := newWorld(t), newWorld(t)
	other.ownInstance()
	o, namespace := w.tenant("mine")
	ada := w.memberOf(o, namespace)
	grace, mallory := w.user(), other.user()
	ours := []client.Object{w.organizationObject(o.ID), w.userObject(ada.ID), w.userObject(grace.ID)}
	w.Eventually(stored(w, w.userObject(ada.ID))).Should(HaveField("Status.Organizations", HaveValue(BeEquivalentTo(1))))
	before := w.versions(namespace, ours...)

	other.happen("user.created", grace.Data())
	other.happen("organizationMembership.created", other.newMembership(mallory, o, "org:admin").Data())
	other.happen("organizationMembership.created", other.newMembership(grace, o, "org:admin").Data())
	banned := other.updateUser(&ada, func(u *payload.User) { u.Banned = true })
	other.Expect(other.deliver(banned)).To(Equal("applied"))
	theirs := other.provisioned(o.ID) // the class names no instance
	w.Expect(theirs).NotTo(Equal(namespace))
	other.Eventually(other.level(mallory.ID, theirs)).Should(Equal(admin))
	other.happen("user.deleted", payload.Deleted("user", ada.ID))
	other.happen("organization.deleted", payload.Deleted("organization", o.ID))
	other.Eventually(other.gone(namespaceObject(theirs))).Should(BeTrue())

	w.Consistently(func(g Gomega) {
		g.Expect(w.levelOf(ada.ID, namespace)).To(Equal(admin))
		g.Expect(w.levelOf(mallory.ID, namespace)).To(Equal(none))
		g.Expect(w.levelOf(grace.ID, namespace)).To(Equal(none))
	}).Should(Succeed())
	w.Expect(w.versions(namespace, ours...)).To(Equal(before))

	lookalike := grace
	lookalike.ID = "user_" + flipCase(grace.ID[5:])
	w.Expect(w.deliver(w.event("user.created", lookalike.Data()))).To(Equal("ignored"), "an ID that differs in case only")
	w.Eventually(stored(w, &clerkv1alpha1.ClerkInstance{ObjectMeta: metav1.ObjectMeta{Name: w.instanceName}})).
		Should(HaveField("Status.Failures", ContainElement(HaveField("Reason", "NameTaken"))))
}

func flipCase(id string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsUpper(r) {
			return unicode.ToLower(r)
		}
		return unicode.ToUpper(r)
	}, id)
}

func TestInstances_rememberTheirOwnDeletions(t *testing.T) {
	w, other := newWorld(t), newWorld(t)
	other.ownInstance()
	u := w.user()
	late := w.updateUser(&u, func(*payload.User) {})
	deletion := payload.Deleted("user", u.ID)
	other.deliver(other.event("user.deleted", deletion))
	w.Expect(w.gone(w.userObject(u.ID))()).To(BeFalse(), "it is not the other instance's user")
	w.Expect(w.tombstones(u.ID)()).To(BeEmpty())
	w.Expect(other.tombstones(u.ID)()).To(HaveLen(1))

	w.deliver(w.event("user.deleted", deletion))
	w.Eventually(w.gone(w.userObject(u.ID))).Should(BeTrue())
	w.Eventually(w.tombstones(u.ID)).Should(ConsistOf(beReady(metav1.ConditionTrue, clerkv1alpha1.ReasonRecorded)))
	w.Expect(w.deliver(late)).To(Equal("stale"))
	w.Expect(w.gone(w.userObject(u.ID))()).To(BeTrue())

	again := w.user()
	other.happen("user.created", again.Data())
	w.Expect(w.kubectl("get", "clerkusers")).To(And(
		ContainSubstring("\n"+w.userObject(again.ID).Name+" "), ContainSubstring("\n"+other.userObject(again.ID).Name+" ")))
}

// A namespace whose ClerkOrganization is not there, as in a restore, waits for the organization of its own instance.
func TestInstances_cannotTakeAnothersNamespace(t *testing.T) {
	w, staging := newWorld(t), newWorld(t)
	staging.ownInstance()
	o, namespace := w.tenant("production")
	u := w.memberOf(o, namespace)
	before := get(w, namespaceObject(namespace))
	restart := w.withoutManager()
	w.lose(w.organizationObject(o.ID))
	restart()

	mallory := staging.user()
	staging.happen("organization.created", o.Data())
	staging.join(mallory, o, "org:admin")
	theirs := staging.provisioned(o.ID)
	staging.Eventually(staging.level(mallory.ID, theirs)).Should(Equal(admin))
	w.Expect(theirs).NotTo(Equal(namespace))
	w.Expect(w.levelOf(mallory.ID, namespace)).To(Equal(none))
	w.Expect(get(w, namespaceObject(namespace))).To(And(
		HaveField("Labels", before.Labels), HaveField("Annotations", before.Annotations)))

	w.happen("organization.updated", o.Data())
	w.Expect(w.provisioned(o.ID)).To(Equal(namespace))
	w.Eventually(w.level(u.ID, namespace)).Should(Equal(admin))
	w.Expect(w.levelOf(mallory.ID, namespace)).To(Equal(none))
}

// As docs/operations.md describes it.
func TestInstances_aTenantMovesByHand(t *testing.T) {
	w, target := newWorld(t), newWorld(t)
	instance := target.ownInstance()
	o, namespace := w.tenant("moving")
	w.memberOf(o, namespace)
	w.kubectl("annotate", "namespace", namespace, "clerk-operator.dev/adopt-by="+instance.Name+"/"+o.ID)
	w.kubectl("label", "--overwrite", "namespace", namespace, "clerk-operator.dev/instance="+instance.Name)
	w.Eventually(stored(w, w.organizationObject(o.ID))).Should(
		beReady(metav1.ConditionFalse, clerkv1alpha1.ReasonNamespaceConflict), "it is another's now")
	w.Eventually(w.bindings(namespace)).Should(BeEmpty(), "whose new owner may never come")

	grace := target.user()
	target.happen("organization.created", o.Data())
	target.join(grace, o, "org:member")
	target.Expect(target.provisioned(o.ID)).To(Equal(namespace))
	target.Eventually(target.bindings(namespace)).Should(Equal(map[string][]string{"edit": {"clerk:" + grace.ID}}),
		"who had access by the old instance has none")
	w.happen("organization.deleted", payload.Deleted("organization", o.ID))
	w.Eventually(w.gone(w.organizationObject(o.ID))).Should(BeTrue())
	w.Consistently(stored(w, namespaceObject(namespace))).Should(HaveField("DeletionTimestamp", BeNil()))
	target.Expect(target.bindings(namespace)()).To(Equal(map[string][]string{"edit": {"clerk:" + grace.ID}}))
}

// A namespace that is relabelled must not keep access that nothing takes away any more.
func TestInstances_aRelabelledTenantGivesNoAccess(t *testing.T) {
	w := newWorld(t)
	o, namespace := w.tenant("relabelled")
	u := w.memberOf(o, namespace)
	restart := w.withoutManager()
	w.kubectl("label", "--overwrite", "namespace", namespace, "clerk-operator.dev/instance=none")
	restart()
	w.Eventually(w.level(u.ID, namespace)).Should(Equal(none))
	w.happen("organization.deleted", payload.Deleted("organization", o.ID))
	w.Eventually(w.gone(w.organizationObject(o.ID))).Should(BeTrue())
	w.Consistently(stored(w, namespaceObject(namespace))).Should(HaveField("DeletionTimestamp", BeNil()))

	o, namespace = w.tenant("mended")
	u = w.memberOf(o, namespace)
	w.kubectl("label", "--overwrite", "namespace", namespace, "clerk-operator.dev/instance=typo")
	w.Eventually(w.level(u.ID, namespace)).Should(Equal(none))
	w.kubectl("label", "--overwrite", "namespace", namespace, "clerk-operator.dev/instance=default")
	w.Expect(w.provisioned(o.ID)).To(Equal(namespace))
	w.Eventually(w.level(u.ID, namespace)).Should(Equal(admin))
}

// A class that names no instance makes tenants for the holder of any instance's signing secret.
func TestClass_saysThatItIsForSeveralInstances(t *testing.T) {
	w, other := newWorld(t), newWorld(t)
	instance := other.ownInstance()
	o := w.newOrganization("scoped")
	open := w.class([]string{o.ID})
	scoped := w.class([]string{o.ID}, func(class *clerkv1alpha1.ClerkTenantClass) {
		class.Spec.Selector.InstanceNames = []string{instance.Name}
		class.Spec.Priority = new(int32(1))
	})
	w.Eventually(stored(w, open)).Should(And(
		haveCondition(clerkv1alpha1.ConditionInstancesSpecified, metav1.ConditionFalse, clerkv1alpha1.ReasonSeveralInstances),
		beReady(metav1.ConditionTrue, clerkv1alpha1.ReasonAccepted)))
	w.Eventually(w.told(open)).Should(ContainElement(HavePrefix("Warning SeveralInstances: ")))
	w.Eventually(stored(w, scoped)).Should(
		haveCondition(clerkv1alpha1.ConditionInstancesSpecified, metav1.ConditionTrue, clerkv1alpha1.ReasonSpecified))
	w.happen("organization.created", o.Data())
	other.happen("organization.created", o.Data())
	w.Eventually(stored(w, w.organizationObject(o.ID))).Should(HaveField("Status.TenantClass", open.Name))
	w.Eventually(stored(w, other.organizationObject(o.ID))).Should(HaveField("Status.TenantClass", scoped.Name))
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
