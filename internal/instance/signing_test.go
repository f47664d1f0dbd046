// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package instance

import (
	"encoding/base64"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	. "github.com/onsi/gomega"
	svix "github.com/svix/svix-webhooks/go"
)

// secretOne and secretTwo are signing secrets that Svix publishes in its documentation.
const (
	secretOne = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
	secretTwo = "whsec_plJ3nmyCDGBKInavdOK15jsl"
)

// verifies says whether a verifier accepts a delivery that Svix signs now with the secret.
func verifies(g Gomega, verifier *svix.Webhook, secret string) bool {
	signer, err := svix.NewWebhook(secret)
	g.Expect(err).NotTo(HaveOccurred())
	now, body := time.Now(), []byte(`{"type":"user.created"}`)
	signature, err := signer.Sign("msg_p5jXN8AQM9LWM0D4loKWxJek", now, body)
	g.Expect(err).NotTo(HaveOccurred())
	header := http.Header{}
	header.Set("svix-id", "msg_p5jXN8AQM9LWM0D4loKWxJek")
	header.Set("svix-timestamp", strconv.FormatInt(now.Unix(), 10))
	header.Set("svix-signature", signature)
	return verifier.Verify(body, header) == nil
}

func TestNewVerifier_acceptsUsableSecrets(t *testing.T) {
	bare := strings.TrimPrefix(secretOne, "whsec_")
	for name, secret := range map[string]string{
		"as Clerk shows it":          secretOne,
		"without its prefix":         bare,
		"trailing newline":           secretOne + "\n",
		"Windows newline":            secretOne + "\r\n",
		"white space around":         " \t" + secretOne + " \n",
		"white space around, no pre": "\n" + bare + "\t",
	} {
		t.Run(name, func(t *testing.T) {
			g := NewWithT(t)
			verifier, reason := newVerifier(secret)
			g.Expect(reason).To(BeEmpty())
			g.Expect(verifies(g, verifier, secretOne)).To(BeTrue())
			g.Expect(verifies(g, verifier, secretTwo)).To(BeFalse())
		})
	}

	t.Run("key of 16 bytes", func(t *testing.T) {
		g := NewWithT(t)
		secret := "whsec_" + base64.StdEncoding.EncodeToString([]byte("0123456789abcdef"))
		verifier, reason := newVerifier(secret)
		g.Expect(reason).To(BeEmpty())
		g.Expect(verifies(g, verifier, secret)).To(BeTrue())
	})
	t.Run("the published vector", func(t *testing.T) {
		g := NewWithT(t)
		verifier, _ := newVerifier(secretOne)
		header := http.Header{}
		header.Set("svix-id", "msg_p5jXN8AQM9LWM0D4loKWxJek")
		header.Set("svix-timestamp", "1614265330")
		header.Set("svix-signature", "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=")
		g.Expect(verifier.VerifyIgnoringTimestamp([]byte(`{"test": 2432232314}`), header)).To(Succeed())
		g.Expect(verifier.VerifyIgnoringTimestamp([]byte(`{"test": 2432232315}`), header)).NotTo(Succeed())
	})
}

func TestNewVerifier_saysWhatIsWrongWithoutTheSecret(t *testing.T) {
	bare := strings.TrimPrefix(secretOne, "whsec_")
	for name, tc := range map[string]struct{ secret, wantReason string }{
		"nothing":           {"", "empty"},
		"white space":       {" \r\n\t", "empty"},
		"only the prefix":   {"whsec_", "empty"},
		"prefix, newline":   {"whsec_\n", "empty"},
		"double quotes":     {`"` + secretOne + `"`, "quotes"},
		"single quotes":     {`'` + secretOne + `'`, "quotes"},
		"quotes inside":     {`whsec_"` + bare + `"`, "quotes"},
		"one quote":         {secretOne + `"`, "quotes"},
		"prefix twice":      {"whsec_" + secretOne, "twice"},
		"an API key":        {"sk_live_" + bare, "base64"},
		"a public key":      {"whpk_" + bare, "base64"},
		"prefix in capital": {"WHSEC_" + bare, "base64"},
		"space inside":      {"whsec_ " + bare, "base64"},
		"two secrets":       {secretOne + " " + secretTwo, "base64"},
		"an assignment":     {"CLERK_WEBHOOK_SECRET=" + secretOne, "base64"},
		"cut off":           {secretOne[:len(secretOne)-1], "base64"},
		"not base64":        {"whsec_M*KQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "base64"},
		"base64 for URLs":   {"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLa-_", "base64"},
		"byte order mark":   {"\ufeff" + secretOne, "base64"},
		"key of 15 bytes":   {"whsec_" + base64.StdEncoding.EncodeToString([]byte("0123456789abcde")), "shorter than 16 bytes"},
		"key of 1 byte":     {"whsec_" + base64.StdEncoding.EncodeToString([]byte("0")), "shorter than 16 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			g := NewWithT(t)
			verifier, reason := newVerifier(tc.secret)
			g.Expect(verifier).To(BeNil())
			g.Expect(reason).To(ContainSubstring(tc.wantReason))
			expectNothingOf(g, tc.secret, reason)
		})
	}
}

// expectNothingOf expects that no four characters in a row of a secret's key appear where people read.
func expectNothingOf(g Gomega, secret, message string) {
	key := strings.Trim(secret, " \t\r\n\"'")
	for _, known := range []string{"CLERK_WEBHOOK_SECRET=", "whsec_", "sk_live_"} {
		key = strings.ReplaceAll(key, known, "")
	}
	for i := range len(key) - 3 {
		g.Expect(message).NotTo(ContainSubstring(key[i : i+4]))
	}
}
