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

func TestStatusCodes_areTheContract(t *testing.T) {
	w := newWorld(t)
	const path = clerkv1alpha1.WebhookPath
	unconfigured := w.instanceWithoutSecret()
	u := w.newUser()
	m := w.message(w.event("user.created", u.Data()))
	signed := func(m delivery.Message, secret string, age time.Duration) http.Header {
		header, err := delivery.Sign(secret, m, time.Now().Add(-age))
		w.Expect(err).NotTo(HaveOccurred())
		return header
	}
	good := signed(m, signingSecret, 0)
	post := func(change func(*request)) request {
		r := request{method: http.MethodPost, path: path, header: good.Clone(), body: m.Body}
		change(&r)
		return r
	}
	body := func(body string) request {
		m := delivery.NewMessage([]byte(body))
		return request{method: http.MethodPost, path: path, header: signed(m, signingSecret, 0), body: m.Body}
	}
	header := func(key string, values ...string) request {
		return post(func(r *request) {
			r.header.Del(key)
			for _, value := range values {
				r.header.Add(key, value)
			}
		})
	}
	aged := func(age time.Duration) request {
		return post(func(r *request) { r.header = signed(m, signingSecret, age) })
	}
	at := func(path string) request { return post(func(r *request) { r.path = path }) }
	method := func(method string) request { return post(func(r *request) { r.method = method }) }
	for _, tc := range []struct {
		about   string
		request request
		want    int
	}{
		{"as Svix sends it", post(func(*request) {}), 200},
		{"under the instance's name", at(path + "/default"), 200},
		{"a slash at the end", at(path + "/"), 200},
		{"a query", at(path + "?x=" + u.Email), 200},
		{"almost five minutes old", aged(290 * time.Second), 200},
		{"webhook- headers", post(func(r *request) { r.header = rename(good) }), 200},
		{"several signatures", header("svix-signature", "v1,AAAA "+good.Get("svix-signature")+" v1a,BBBB"), 200},

		{"no ID", header("svix-id"), 400},
		{"no timestamp", header("svix-timestamp"), 400},
		{"no signature", header("svix-signature"), 400},
		{"no headers", post(func(r *request) { r.header = http.Header{} }), 400},
		{"two IDs", header("svix-id", m.ID, m.ID), 400},
		{"two signatures in two headers", header("svix-signature", "v1,AAAA", good.Get("svix-signature")), 400},
		{"headers of two families", post(func(r *request) { r.header = mix(good) }), 400},
		{"a timestamp that is no number", header("svix-timestamp", "soon"), 400},
		{"a fractional timestamp", header("svix-timestamp", good.Get("svix-timestamp")+".5"), 400},
		{"another signature scheme", header("svix-signature", "v2"+strings.TrimPrefix(good.Get("svix-signature"), "v1")), 400},
		{"an empty signature", header("svix-signature", "v1,"), 400},
		{"another message's ID", header("svix-id", "msg_another"), 400},
		{"forged", post(func(r *request) { r.header = signed(m, newSigningSecret(), 0) }), 400},
		{"a changed body", post(func(r *request) { r.body = bytes.Replace(m.Body, []byte("false"), []byte("true "), 1) }), 400},
		{"too old", aged(310 * time.Second), 400},
		{"too new", aged(-310 * time.Second), 400},
		{"no JSON", body("user.created " + u.Email), 400},
		{"no JSON object", body(`["` + u.Email + `"]`), 400},
		{"nothing", body(""), 400},

		{"another path", at("/"), 404},
		{"another instance", at(path + "/" + newName()), 404},
		{"below an instance", at(path + "/default/x"), 404},
		{"two slashes", at("/" + path), 404},
		{"two slashes within", at("/webhooks//clerk"), 404},
		{"a path that leads back", at(path + "/../clerk"), 404},
		{"an escaped path that leads back", at(path + "/%2e%2e/clerk"), 404},
		{"another case", at("/Webhooks/Clerk"), 404},

		{"GET", method(http.MethodGet), 405},
		{"HEAD", method(http.MethodHead), 405},
		{"PUT", method(http.MethodPut), 405},
		{"OPTIONS", method(http.MethodOptions), 405},

		{"more than 1 MiB", post(func(r *request) { r.body = bytes.Repeat([]byte(" "), 1<<20+1) }), 413},
		{"no secret", at(path + "/" + unconfigured), 500},
	} {
		t.Run(tc.about, func(t *testing.T) { tc.request.wantAnswer(t, tc.want, u.ID, u.Email) })
	}
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
