// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package receiver

import (
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	. "github.com/onsi/gomega"
	svix "github.com/svix/svix-webhooks/go"
)

// Svix's own published vector.
const (
	vectorSecret    = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
	vectorID        = "msg_p5jXN8AQM9LWM0D4loKWxJek"
	vectorTimestamp = 1614265330
	vectorBody      = `{"test": 2432232314}`
	vectorSignature = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
	vectorEd25519   = "v1a,hnO3f9T8Ytu9HwrXslvumlUpqtNVqkhqw/enGzPCXe5BdqzCInXqYXFymVJaA7AZdpXwVLPo3mNl8EM+m7TBAg=="
)

func verifier(g Gomega, secret string) *svix.Webhook {
	v, err := svix.NewWebhook(secret)
	g.Expect(err).NotTo(HaveOccurred())
	return v
}

func headers(pairs ...string) http.Header {
	header := http.Header{}
	for i := 0; i < len(pairs); i += 2 {
		header.Add(pairs[i], pairs[i+1])
	}
	return header
}

func TestVerify(t *testing.T) {
	timestamp := strconv.Itoa(vectorTimestamp)
	family := func(prefix, id, timestamp, signature string) []string {
		return []string{prefix + "-id", id, prefix + "-timestamp", timestamp, prefix + "-signature", signature}
	}
	good := family("svix", vectorID, timestamp, vectorSignature)
	for name, tc := range map[string]struct {
		header []string
		body   string
		secret []string
		now    int64
		want   error
	}{
		"svix headers":                    {header: good},
		"webhook headers":                 {header: family("webhook", vectorID, timestamp, vectorSignature)},
		"both families":                   {header: append(family("webhook", "x", "1", "v1,AAAA"), good...)},
		"one of several signatures":       {header: family("svix", vectorID, timestamp, "v1,AAAA v2,AAAA v1 "+vectorSignature)},
		"one of several secrets":          {header: good, secret: []string{"whsec_c29tZXRoaW5nIGVsc2UgZW50aXJlbHk=", vectorSecret}},
		"five minutes old":                {header: good, now: vectorTimestamp + 300},
		"five minutes ahead":              {header: good, now: vectorTimestamp - 300},
		"no headers":                      {want: errMissingHeaders},
		"no id":                           {header: good[2:], want: errMissingHeaders},
		"no timestamp":                    {header: append(good[:2:2], good[4:]...), want: errMissingHeaders},
		"no signature":                    {header: good[:4], want: errMissingHeaders},
		"empty signature":                 {header: family("svix", vectorID, timestamp, ""), want: errMissingHeaders},
		"families mixed":                  {header: append(good[:2:2], family("webhook", vectorID, timestamp, vectorSignature)[2:]...), want: errMissingHeaders},
		"two ids":                         {header: append(good, "svix-id", "msg_other"), want: errMalformedHeaders},
		"two signature lines":             {header: append([]string{"svix-signature", "v1,AAAA"}, good...), want: errMalformedHeaders},
		"fractional timestamp":            {header: family("svix", vectorID, timestamp+".5", vectorSignature), want: errMalformedHeaders},
		"signed timestamp":                {header: family("svix", vectorID, "+"+timestamp, vectorSignature), want: errMalformedHeaders},
		"negative timestamp":              {header: family("svix", vectorID, "-"+timestamp, vectorSignature), want: errMalformedHeaders},
		"timestamp that overflows":        {header: family("svix", vectorID, "99999999999999999999", vectorSignature), want: errMalformedHeaders},
		"timestamp in words":              {header: family("svix", vectorID, "now", vectorSignature), want: errMalformedHeaders},
		"id with a line break":            {header: family("svix", "msg_a\nb", timestamp, vectorSignature), want: errMalformedHeaders},
		"endless id":                      {header: family("svix", strings.Repeat("x", 129), timestamp, vectorSignature), want: errMalformedHeaders},
		"timestamp in milliseconds":       {header: family("svix", vectorID, timestamp+"000", vectorSignature), want: errMalformedHeaders},
		"too old":                         {header: good, now: vectorTimestamp + 301, want: errTooOld},
		"too new":                         {header: good, now: vectorTimestamp - 301, want: errTooNew},
		"another id":                      {header: family("svix", "msg_other", timestamp, vectorSignature), want: errNoMatch},
		"another timestamp":               {header: family("svix", vectorID, strconv.Itoa(vectorTimestamp+1), vectorSignature), want: errNoMatch},
		"another body":                    {header: good, body: vectorBody + " ", want: errNoMatch},
		"another secret":                  {header: good, secret: []string{"whsec_c29tZXRoaW5nIGVsc2UgZW50aXJlbHk="}, want: errNoMatch},
		"no secret":                       {header: good, secret: []string{}, want: errNoMatch},
		"truncated signature":             {header: family("svix", vectorID, timestamp, vectorSignature[:10]), want: errNoMatch},
		"version without signature":       {header: family("svix", vectorID, timestamp, "v1,"), want: errNoMatch},
		"signature without version":       {header: family("svix", vectorID, timestamp, vectorSignature[3:]), want: errNoMatch},
		"ed25519 signature":               {header: family("svix", vectorID, timestamp, vectorEd25519), want: errNoMatch},
		"v1 signature under another name": {header: family("svix", vectorID, timestamp, "v2"+vectorSignature[2:]), want: errNoMatch},
	} {
		t.Run(name, func(t *testing.T) {
			g := NewWithT(t)
			if tc.body == "" {
				tc.body = vectorBody
			}
			if tc.secret == nil {
				tc.secret = []string{vectorSecret}
			}
			if tc.now == 0 {
				tc.now = vectorTimestamp
			}
			var verifiers []*svix.Webhook
			for _, secret := range tc.secret {
				verifiers = append(verifiers, verifier(g, secret))
			}
			got, err := readAttempt(headers(tc.header...), time.Unix(tc.now, 0))
			if err == nil {
				err = got.verify([]byte(tc.body), verifiers)
			}
			if tc.want != nil {
				g.Expect(err).To(Equal(tc.want))
				return
			}
			g.Expect(err).NotTo(HaveOccurred())
			g.Expect(got.delivery).To(Equal(delivery{messageID: vectorID, sentAt: time.Unix(vectorTimestamp, 0)}))
		})
	}
}

func TestInstanceName(t *testing.T) {
	for path, want := range map[string]string{
		"/webhooks/clerk": "default", "/webhooks/clerk/": "default", "/webhooks/clerk/staging": "staging",
		"/webhooks/clerk/staging/": "staging", "/webhooks/clerkx": "", "/webhooks/clerk//": "", "/webhooks/clerk/a/b": "",
		"//webhooks/clerk": "", "/": "", "": "", "/webhooks/clerk/../clerk": "", "/webhooks": "",
	} {
		name, ok := instanceName(path)
		g := NewWithT(t)
		g.Expect(ok).To(Equal(want != ""), path)
		if ok {
			g.Expect(name).To(Equal(want), path)
		}
	}
}

func TestTypeLabels_areNotTheSendersToChoose(t *testing.T) {
	g := NewWithT(t)
	g.Expect(typeLabel("user.created")).To(Equal("user.created"))
	g.Expect(typeLabel("something\nelse")).To(Equal("other"))
	g.Expect(typeForPeople("a b\n<c>" + strings.Repeat("x", 100))).To(Equal("abc" + strings.Repeat("x", 61)))
}
