// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package instance

import (
	"context"
	"testing"

	. "github.com/onsi/gomega"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	clerkv1alpha1 "github.com/clerk-operator/clerk-operator/api/v1alpha1"
)

// backendKey is in the form of a secret key of Clerk.
const backendKey = "sk_live_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

func withBackend(ref clerkv1alpha1.SecretKeyReference) *clerkv1alpha1.ClerkInstance {
	instance := clerkInstance("default")
	instance.Spec.BackendAPI.SecretKeyRef = ref
	return instance
}

func TestSecretKey_isTakenAsClerkShowsIt(t *testing.T) {
	for name, stored := range map[string]string{
		"as Clerk shows it": backendKey, "trailing newline": backendKey + "\n", "Windows newline": backendKey + "\r\n",
		"white space around": " \t" + backendKey + " \n",
	} {
		t.Run(name, func(t *testing.T) {
			g := NewWithT(t)
			c := newFake(g, secret(namespace, "clerk-api", map[string]string{"key": stored, "other": "sk_live_other"})).Build()
			key, problem, err := NewResolver(c, namespace, "").SecretKey(t.Context(), withBackend(ref("clerk-api", "key")))
			g.Expect(err).NotTo(HaveOccurred())
			g.Expect(problem).To(BeNil())
			g.Expect(key).To(Equal(backendKey))
		})
	}
}

func TestSecretKey_saysWhatIsWrongWithoutTheKey(t *testing.T) {
	values := map[string]string{
		"empty": "", "blank": " \r\n\t", "quoted": `"` + backendKey + `"`, "singly quoted": "'" + backendKey + "'\n",
		"half quoted": backendKey + `"`, "webhook": secretOne, "publishable": "pk_live_Y2xlcmsuZXhhbXBsZS5jb20k",
		"blank inside": backendKey[:20] + " " + backendKey[20:], "two lines": backendKey + "\n" + backendKey,
		"tab inside": backendKey[:20] + "\t" + backendKey[20:], "control": backendKey + "\x00x", "byte order mark": "\ufeff" + backendKey,
		"platform": "ak_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "prefixed": "Bearer_" + backendKey, "upper": "SK_LIVE_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
		"dots": "sk_live_…", "not text": backendKey + "\xff", "deleted": backendKey + "\x7f",
	}
	for name, tc := range map[string]struct {
		ref        clerkv1alpha1.SecretKeyReference
		wantReason string
	}{
		"no Secret":                 {ref("absent", "empty"), "the Secret does not exist"},
		"Secret elsewhere":          {ref("elsewhere", "key"), "the Secret does not exist"},
		"no such key":               {ref("clerk-api", "key"), "the Secret has no such key"},
		"no such key but for case":  {ref("clerk-api", "Empty"), "the Secret has no such key"},
		"nothing":                   {ref("clerk-api", "empty"), "it is empty"},
		"white space":               {ref("clerk-api", "blank"), "it is empty"},
		"in quotes":                 {ref("clerk-api", "quoted"), "in quotes"},
		"in single quotes":          {ref("clerk-api", "singly quoted"), "in quotes"},
		"half in quotes":            {ref("clerk-api", "half quoted"), "in quotes"},
		"a webhook's secret":        {ref("clerk-api", "webhook"), "webhook's signing secret"},
		"the publishable key":       {ref("clerk-api", "publishable"), "publishable key"},
		"a blank within":            {ref("clerk-api", "blank inside"), "characters that no secret key has"},
		"two keys":                  {ref("clerk-api", "two lines"), "characters that no secret key has"},
		"a tab within":              {ref("clerk-api", "tab inside"), "characters that no secret key has"},
		"a control character":       {ref("clerk-api", "control"), "characters that no secret key has"},
		"a delete character":        {ref("clerk-api", "deleted"), "characters that no secret key has"},
		"a byte order mark":         {ref("clerk-api", "byte order mark"), "characters that no secret key has"},
		"as the dashboard hides it": {ref("clerk-api", "dots"), "characters that no secret key has"},
		"another kind of key":       {ref("clerk-api", "platform"), "no secret key of Clerk"},
		"more than the key":         {ref("clerk-api", "prefixed"), "no secret key of Clerk"},
		"another case":              {ref("clerk-api", "upper"), "no secret key of Clerk"},
		"bytes that are no text":    {ref("clerk-api", "not text"), "characters that no secret key has"},
	} {
		t.Run(name, func(t *testing.T) {
			g := NewWithT(t)
			c := newFake(g, secret(namespace, "clerk-api", values), secret("elsewhere", "elsewhere", map[string]string{"key": backendKey})).Build()
			key, problem, err := NewResolver(c, namespace, "").SecretKey(t.Context(), withBackend(tc.ref))
			g.Expect(err).NotTo(HaveOccurred())
			g.Expect(key).To(BeEmpty())
			g.Expect(problem).NotTo(BeNil())
			g.Expect(problem.Source).To(Equal(`key "` + tc.ref.Key + `" of Secret clerk-operator-system/` + tc.ref.Name))
			g.Expect(problem.Reason).To(ContainSubstring(tc.wantReason))
			expectNothingOf(g, backendKey, problem.Reason)
			expectNothingOf(g, secretOne, problem.Reason)
			g.Expect(problem.Reason).NotTo(ContainSubstring("Y2xl"))
		})
	}
}

// An outage must not look like a missing key: somebody would be told to put it where it is.
func TestSecretKey_passesTheReadersErrorsOn(t *testing.T) {
	g := NewWithT(t)
	c := newFake(g, secret(namespace, "clerk-api", map[string]string{"key": backendKey})).WithInterceptorFuncs(interceptor.Funcs{
		Get: func(context.Context, client.WithWatch, client.ObjectKey, client.Object, ...client.GetOption) error {
			return errUnavailable
		},
	}).Build()
	key, problem, err := NewResolver(c, namespace, "").SecretKey(t.Context(), withBackend(ref("clerk-api", "key")))
	g.Expect(err).To(MatchError(errUnavailable))
	g.Expect(err).To(MatchError(ContainSubstring("reading Secret clerk-operator-system/clerk-api")))
	g.Expect(key).To(BeEmpty())
	g.Expect(problem).To(BeNil())
}
