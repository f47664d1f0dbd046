// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	. "github.com/onsi/gomega"
	svix "github.com/svix/svix-webhooks/go"
)

const secret = "whsec_a3ViZWN0bC1jbGVyay10ZXN0LXNlY3JldA=="

func TestSendTest_signsWhatItPosts(t *testing.T) {
	g := NewWithT(t)
	verifier, err := svix.NewWebhook(secret)
	g.Expect(err).NotTo(HaveOccurred())
	var body []byte
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ = io.ReadAll(r.Body)
		if verifier.Verify(body, r.Header) != nil {
			w.WriteHeader(http.StatusBadRequest)
		}
		_, _ = io.WriteString(w, "answer\n")
	}))
	t.Cleanup(server.Close)
	whole := filepath.Join(t.TempDir(), "event.json")
	g.Expect(os.WriteFile(whole, []byte(`{"type":"user.deleted","data":{"id":"user_1"}}`), 0o600)).To(Succeed())
	for name, tc := range map[string]struct {
		secret    string
		arguments []string
		stdin     string
		wantOut   string
		wantErr   string
		wantBody  []string
	}{
		"an object": {
			arguments: []string{"--type", "user.created", "--data", "-", "--instance-id", "ins_1"}, stdin: `{"id":"user_1"}`,
			wantOut: "200 answer\n", wantBody: []string{`"type":"user.created"`, `"data":{"id":"user_1"}`, `"instance_id":"ins_1"`, `"timestamp":`},
		},
		"a whole event": {arguments: []string{"--event", whole}, wantOut: "200 answer\n", wantBody: []string{`"type":"user.deleted"`}},
		"refused": {
			secret: "whsec_c29tZXRoaW5nIGVsc2UgZW50aXJlbHk=", arguments: []string{"--event", whole}, wantOut: "400 answer\n", wantErr: "answered 400",
		},
		"no secret":       {secret: " ", arguments: []string{"--event", whole}, wantErr: "CLERK_WEBHOOK_SECRET"},
		"a broken secret": {secret: "whsec_!", arguments: []string{"--event", whole}, wantErr: "signing secret"},
		"no type":         {arguments: []string{"--data", "-"}, wantErr: "--type"},
		"both ways":       {arguments: []string{"--data", "-", "--event", whole}, wantErr: "either"},
		"no JSON":         {arguments: []string{"--type", "user.created", "--data", "-"}, stdin: "hello", wantErr: "not JSON"},
		"no file":         {arguments: []string{"--event", whole + "x"}, wantErr: "no such file"},
	} {
		t.Run(name, func(t *testing.T) {
			g := NewWithT(t)
			if tc.secret == "" {
				tc.secret = secret
			}
			t.Setenv("CLERK_WEBHOOK_SECRET", tc.secret)
			var out strings.Builder
			err := run(t.Context(), append([]string{"send-test", "--url", server.URL}, tc.arguments...), strings.NewReader(tc.stdin), &out, io.Discard)
			if tc.wantErr == "" {
				g.Expect(err).NotTo(HaveOccurred())
			} else {
				g.Expect(err).To(MatchError(ContainSubstring(tc.wantErr)))
			}
			g.Expect(out.String()).To(Equal(tc.wantOut))
			for _, part := range tc.wantBody {
				g.Expect(string(body)).To(ContainSubstring(part))
			}
		})
	}
}

func TestRun_saysWhichCommandsThereAre(t *testing.T) {
	g := NewWithT(t)
	var usage strings.Builder
	g.Expect(run(t.Context(), []string{"nonsense"}, nil, io.Discard, &usage)).To(MatchError(ContainSubstring("send-test")))
	g.Expect(usage.String()).To(ContainSubstring("kubectl clerk send-test"))
}
