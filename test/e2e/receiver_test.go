// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"bytes"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	clerkv1alpha1 "github.com/clerk-operator/clerk-operator/api/v1alpha1"
	"github.com/clerk-operator/clerk-operator/internal/delivery"
	"github.com/clerk-operator/clerk-operator/test/installation"
	"github.com/clerk-operator/clerk-operator/test/payload"
)

// request is one that somebody on the internet makes.
type request struct {
	method, path string
	header       http.Header
	body         []byte
}

// answers are everything that the receiver may say, by status code: nothing of a request is among it.
var answers = map[int][]string{
	http.StatusOK:                    {`{"result":"applied"}`, `{"result":"unchanged"}`},
	http.StatusBadRequest:            {`{"error":"the body is not a JSON object"}`, `{"error":"the signature headers are missing or do not verify"}`},
	http.StatusNotFound:              {`{"error":"there is no such webhook"}`},
	http.StatusMethodNotAllowed:      {`{"error":"use POST"}`},
	http.StatusRequestEntityTooLarge: {`{"error":"the body is larger than 1 MiB"}`},
	http.StatusInternalServerError:   {`{"error":"no usable signing secret is configured"}`},
}

// proper is a signed delivery of a new user, which the tests spoil in many ways.
type proper struct {
	delivery.Message
	user   payload.User
	header http.Header
}

func (w *world) proper() proper {
	w.t.Helper()
	u := w.newUser()
	m := w.message(w.event("user.created", u.Data()))
	return proper{Message: m, user: u, header: w.signed(m, signingSecret, 0)}
}

// signed are the headers of an attempt that was made some time ago.
func (w *world) signed(m delivery.Message, secret string, age time.Duration) http.Header {
	w.t.Helper()
	header, err := delivery.Sign(secret, m, time.Now().Add(-age))
	w.Expect(err).NotTo(HaveOccurred())
	return header
}

func (p proper) with(change func(*request)) request {
	r := request{method: http.MethodPost, path: clerkv1alpha1.WebhookPath, header: p.header.Clone(), body: p.Body}
	change(&r)
	return r
}

func (p proper) at(path string) request { return p.with(func(r *request) { r.path = path }) }

func (p proper) method(method string) request { return p.with(func(r *request) { r.method = method }) }

func (p proper) headers(header http.Header) request {
	return p.with(func(r *request) { r.header = header })
}

// set replaces one header by any number of values.
func (p proper) set(key string, values ...string) request {
	return p.with(func(r *request) {
		r.header.Del(key)
		for _, value := range values {
			r.header.Add(key, value)
		}
	})
}

func TestStatusCodes_ofWhatIsVerified(t *testing.T) {
	w := newWorld(t)
	p := w.proper()
	const path = clerkv1alpha1.WebhookPath
	signature := p.header.Get("svix-signature")
	for _, tc := range []struct {
		about   string
		request request
	}{
		{"as Svix sends it", p.at(path)},
		{"under the instance's name", p.at(path + "/default")},
		{"a slash at the end", p.at(path + "/")},
		{"a query", p.at(path + "?x=" + p.user.Email)},
		{"almost five minutes old", p.headers(w.signed(p.Message, signingSecret, 290*time.Second))},
		{"webhook- headers", p.headers(rename(p.header))},
		{"several signatures", p.set("svix-signature", "v1,AAAA "+signature+" v1a,BBBB")},
	} {
		t.Run(tc.about, func(t *testing.T) { tc.request.wantAnswer(t, http.StatusOK, p.user.ID, p.user.Email) })
	}
}

func TestStatusCodes_ofWhatIsNotVerified(t *testing.T) {
	w := newWorld(t)
	p := w.proper()
	signature, timestamp := p.header.Get("svix-signature"), p.header.Get("svix-timestamp")
	body := func(body string) request {
		m := delivery.NewMessage([]byte(body))
		return p.with(func(r *request) { r.header, r.body = w.signed(m, signingSecret, 0), m.Body })
	}
	for _, tc := range []struct {
		about   string
		request request
	}{
		{"no ID", p.set("svix-id")},
		{"no timestamp", p.set("svix-timestamp")},
		{"no signature", p.set("svix-signature")},
		{"no headers", p.headers(http.Header{})},
		{"two IDs", p.set("svix-id", p.ID, p.ID)},
		{"two signatures in two headers", p.set("svix-signature", "v1,AAAA", signature)},
		{"headers of two families", p.headers(mix(p.header))},
		{"a timestamp that is no number", p.set("svix-timestamp", "soon")},
		{"a fractional timestamp", p.set("svix-timestamp", timestamp+".5")},
		{"another signature scheme", p.set("svix-signature", "v2"+strings.TrimPrefix(signature, "v1"))},
		{"an empty signature", p.set("svix-signature", "v1,")},
		{"another message's ID", p.set("svix-id", "msg_another")},
		{"forged", p.headers(w.signed(p.Message, newSigningSecret(), 0))},
		{"a changed body", p.with(func(r *request) { r.body = bytes.Replace(p.Body, []byte("false"), []byte("true "), 1) })},
		{"too old", p.headers(w.signed(p.Message, signingSecret, 310*time.Second))},
		{"too new", p.headers(w.signed(p.Message, signingSecret, -310*time.Second))},
		{"no JSON", body("user.created " + p.user.Email)},
		{"no JSON object", body(`["` + p.user.Email + `"]`)},
		{"nothing", body("")},
	} {
		t.Run(tc.about, func(t *testing.T) { tc.request.wantAnswer(t, http.StatusBadRequest, p.user.ID, p.user.Email) })
	}
	w.Expect(w.gone(w.userObject(p.user.ID))()).To(BeTrue())
}

func TestStatusCodes_ofWhatCannotBeReceived(t *testing.T) {
	w := newWorld(t)
	p := w.proper()
	const path = clerkv1alpha1.WebhookPath
	for _, tc := range []struct {
		about   string
		request request
		want    int
	}{
		{"another path", p.at("/"), 404},
		{"another instance", p.at(path + "/" + newName()), 404},
		{"below an instance", p.at(path + "/default/x"), 404},
		{"two slashes", p.at("/" + path), 404},
		{"two slashes within", p.at("/webhooks//clerk"), 404},
		{"a path that leads back", p.at(path + "/../clerk"), 404},
		{"an escaped path that leads back", p.at(path + "/%2e%2e/clerk"), 404},
		{"another case", p.at("/Webhooks/Clerk"), 404},
		{"GET", p.method(http.MethodGet), 405},
		{"HEAD", p.method(http.MethodHead), 405},
		{"PUT", p.method(http.MethodPut), 405},
		{"OPTIONS", p.method(http.MethodOptions), 405},
		{"more than 1 MiB", p.with(func(r *request) { r.body = bytes.Repeat([]byte(" "), 1<<20+1) }), 413},
		{"no usable secret", p.at(path + "/" + w.instanceWithoutSecret()), 500},
	} {
		t.Run(tc.about, func(t *testing.T) { tc.request.wantAnswer(t, tc.want, p.user.ID, p.user.Email) })
	}
	w.Expect(w.gone(w.userObject(p.user.ID))()).To(BeTrue())
}

// wantAnswer makes a request, and checks the answer's code and that it says nothing more than that.
func (r request) wantAnswer(t *testing.T, want int, secrets ...string) {
	t.Helper()
	g := NewWithT(t)
	sent, err := http.NewRequestWithContext(t.Context(), r.method, suite.manager.URL+r.path, bytes.NewReader(r.body))
	g.Expect(err).NotTo(HaveOccurred())
	sent.Header = r.header
	// A transport follows no redirects.
	answer, err := http.DefaultTransport.RoundTrip(sent)
	g.Expect(err).NotTo(HaveOccurred())
	defer func() { _ = answer.Body.Close() }()
	body, err := io.ReadAll(answer.Body)
	g.Expect(err).NotTo(HaveOccurred())

	g.Expect(answer.StatusCode).To(Equal(want), string(body))
	if r.method != http.MethodHead {
		g.Expect(answers[want]).To(ContainElement(strings.TrimSuffix(string(body), "\n")))
	}
	for key := range answer.Header {
		g.Expect(key).To(BeElementOf("Content-Type", "Content-Length", "Cache-Control", "Date", "Allow", "Connection"))
	}
	g.Expect(answer.Header.Get("Content-Type")).To(Equal("application/json"))
	if want == http.StatusMethodNotAllowed {
		g.Expect(answer.Header.Get("Allow")).To(Equal(http.MethodPost))
	}
	for _, secret := range secrets {
		g.Expect(string(body)).NotTo(ContainSubstring(secret))
	}
}

// rename puts the headers of Svix's white-label family in place of Svix's own.
func rename(header http.Header) http.Header {
	renamed := http.Header{}
	for key, values := range header {
		renamed[strings.Replace(key, "Svix-", "Webhook-", 1)] = values
	}
	return renamed
}

// mix leaves the ID in one family and puts the rest into the other.
func mix(header http.Header) http.Header {
	mixed := rename(header)
	mixed.Set("svix-id", mixed.Get("webhook-id"))
	mixed.Del("webhook-id")
	return mixed
}

// instanceWithoutSecret makes a ClerkInstance whose Secret does not exist, and returns its name.
func (w *world) instanceWithoutSecret() string {
	w.t.Helper()
	instance := &clerkv1alpha1.ClerkInstance{ObjectMeta: metav1.ObjectMeta{Name: newName()}}
	instance.Spec.Webhook.SigningSecrets = []clerkv1alpha1.SecretKeyReference{{Name: instance.Name, Key: "signing-secret"}}
	w.create(instance)
	w.Eventually(stored(w, instance)).Should(And(
		beReady(metav1.ConditionFalse, clerkv1alpha1.ReasonNoUsableSigningSecret),
		haveCondition(clerkv1alpha1.ConditionSigningSecretsReady, metav1.ConditionFalse, clerkv1alpha1.ReasonSigningSecretUnusable),
	))
	return instance.Name
}

func TestSigningSecrets_rotateWithoutARestart(t *testing.T) {
	w := newWorld(t)
	instance := w.ownInstance(func(instance *clerkv1alpha1.ClerkInstance) {
		instance.Spec.Webhook.SigningSecrets = append(instance.Spec.Webhook.SigningSecrets,
			clerkv1alpha1.SecretKeyReference{Name: instance.Name, Key: "next"})
	})
	current, next, later := w.sender, w.sender, w.sender
	next.Secret, later.Secret = newSigningSecret(), newSigningSecret()
	m := w.message(w.event("user.created", w.newUser().Data()))
	codeOf := func(sender delivery.Sender) func() (int, error) {
		return func() (int, error) {
			answer, err := sender.Post(t.Context(), m)
			return answer.Code, err
		}
	}
	w.Expect(codeOf(current)()).To(Equal(200))
	w.Expect(codeOf(next)()).To(Equal(400))
	w.Eventually(stored(w, instance)).Should(And(
		beReady(metav1.ConditionTrue, clerkv1alpha1.ReasonReceiving),
		haveCondition(clerkv1alpha1.ConditionSigningSecretsReady, metav1.ConditionFalse, clerkv1alpha1.ReasonSigningSecretUnusable),
	))

	w.setSecret(instance.Name, map[string]string{"signing-secret": current.Secret, "next": next.Secret + "\n"})
	w.Eventually(codeOf(next)).Should(Equal(200))
	w.Expect(codeOf(current)()).To(Equal(200), "both verify for a while")
	w.Eventually(stored(w, instance)).Should(
		haveCondition(clerkv1alpha1.ConditionSigningSecretsReady, metav1.ConditionTrue, clerkv1alpha1.ReasonSigningSecretsUsable))

	w.setSecret(instance.Name, map[string]string{"signing-secret": later.Secret, "next": next.Secret})
	w.Eventually(codeOf(current)).Should(Equal(400))
	w.Expect(codeOf(next)()).To(Equal(200))
	w.Expect(codeOf(later)()).To(Equal(200))

	w.setSecret(instance.Name, map[string]string{"signing-secret": "whsec_", "next": "x"})
	w.Eventually(codeOf(later)).Should(Equal(500))
	w.Expect(codeOf(next)()).To(Equal(500))
	w.Expect(suite.manager.Process.Exited()).NotTo(BeClosed())
}

// setSecret replaces the data of a Secret in the operator's namespace.
func (w *world) setSecret(name string, data map[string]string) {
	w.t.Helper()
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: installation.Namespace, Name: name}, StringData: data}
	w.Expect(suite.client.Update(w.t.Context(), secret, client.FieldOwner("e2e"))).To(Succeed())
}
