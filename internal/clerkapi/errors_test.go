// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package clerkapi

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	. "github.com/onsi/gomega"
)

// clerksError is an error in Clerk's shape that says of somebody what must not get into a log.
func clerksError(code string) string {
	return fmt.Sprintf(`{"errors":[{"code":%q,"message":"canary jane@example.com","long_message":"canary Jane %s",
		"meta":{"identifier":"canary +15555550100"}},{"code":"second_canary"}],"clerk_trace_id":"trace1"}`, code, secretKey)
}

func TestError_tellsWhatHappened(t *testing.T) {
	for name, tc := range map[string]struct {
		answer       answer
		want         Error
		wantNotFound bool
		wantMessage  string
	}{
		"key refused": {
			answer{status: 401, body: clerksError("authentication_invalid")},
			Error{StatusCode: 401, Code: "authentication_invalid", TraceID: "trace1"}, false,
			"GetUser failed with 401 authentication_invalid (trace trace1)",
		},
		"forbidden": {
			answer{status: 403, body: clerksError("forbidden")}, Error{StatusCode: 403, Code: "forbidden", TraceID: "trace1"}, false,
			"GetUser failed with 403 forbidden (trace trace1)",
		},
		"not found": {
			answer{status: 404, body: clerksError("resource_not_found")},
			Error{StatusCode: 404, Code: "resource_not_found", TraceID: "trace1"}, true,
			"GetUser failed with 404 resource_not_found (trace trace1)",
		},
		"gone is not not found": {answer{status: 410, body: clerksError("resource_not_found")}, Error{StatusCode: 410, Code: "resource_not_found", TraceID: "trace1"}, false, "GetUser failed with 410 resource_not_found (trace trace1)"},
		"rejected": {
			answer{status: 422, body: clerksError("form_param_value_invalid")},
			Error{StatusCode: 422, Code: "form_param_value_invalid", TraceID: "trace1"}, false,
			"GetUser failed with 422 form_param_value_invalid (trace trace1)",
		},
		"too many requests": {
			answer{status: 429, header: map[string]string{"Retry-After": "30"}, body: clerksError("too_many_requests")},
			Error{StatusCode: 429, Code: "too_many_requests", TraceID: "trace1", RetryAfter: 30 * time.Second}, false,
			"GetUser failed with 429 too_many_requests (trace trace1)",
		},
		"failed, nothing said":     {answer{status: 500}, Error{StatusCode: 500}, false, "GetUser failed with 500"},
		"not there, for long":      {answer{status: 503, header: map[string]string{"Retry-After": "3600"}}, Error{StatusCode: 503, RetryAfter: time.Hour}, false, "GetUser failed with 503"},
		"a success that is none":   {answer{status: 206, body: `{"id":"` + userID + `"}`}, Error{StatusCode: 206}, false, "GetUser failed with 206"},
		"code and trace are words": {answer{status: 400, body: `{"errors":[{"code":"canary jane@example.com"}],"clerk_trace_id":"canary\n"}`}, Error{StatusCode: 400}, false, "GetUser failed with 400"},
		"a long code":              {answer{status: 400, body: clerksError(strings.Repeat("canary", 11))}, Error{StatusCode: 400, TraceID: "trace1"}, false, "GetUser failed with 400 (trace trace1)"},
	} {
		t.Run(name, func(t *testing.T) {
			g := NewWithT(t)
			s := newStub(t, tc.answer)
			_, _, err := s.client.User(t.Context(), userID)
			var got *Error
			g.Expect(errors.As(err, &got)).To(BeTrue())
			tc.want.Operation = "GetUser"
			g.Expect(*got).To(Equal(tc.want))
			g.Expect(IsNotFound(err)).To(Equal(tc.wantNotFound))
			g.Expect(IsNotFound(fmt.Errorf("wrapped: %w", err))).To(Equal(tc.wantNotFound))
			g.Expect(err).To(MatchError(tc.wantMessage))
			expectNothingPrivate(g, s, err)
		})
	}
}

// Whoever answers 404 and is not Clerk knows nothing of what there is.
func TestIsNotFound_isClerksWordOnly(t *testing.T) {
	for name, body := range map[string]string{
		"a gateway's page":       "<html>canary</html>",
		"nothing said":           "",
		"another API's words":    `{"message":"canary","code":"not_found"}`,
		"no errors":              `{"errors":[],"clerk_trace_id":"t"}`,
		"null errors":            `{"errors":null}`,
		"errors of another type": `{"errors":["canary"]}`,
		"truncated":              clerksError("resource_not_found")[:60],
		"no code":                `{"errors":[{}]}`,
		"a code that is no word": `{"errors":[{"code":"Not Found"}]}`,
		"as JSON:API tells it":   `{"errors":[{"status":"404","title":"Not Found"}]}`,
	} {
		t.Run(name, func(t *testing.T) {
			g := NewWithT(t)
			s := newStub(t, answer{status: 404, body: body})
			_, _, err := s.client.User(t.Context(), userID)
			g.Expect(err).To(Equal(&Error{Operation: "GetUser", StatusCode: 404}))
			g.Expect(IsNotFound(err)).To(BeFalse())
			expectNothingPrivate(g, s, err)
		})
	}
	g := NewWithT(t)
	g.Expect(IsNotFound(nil)).To(BeFalse())
	g.Expect(IsNotFound(errors.New("not found"))).To(BeFalse())
}

func TestIsOrganizationsOff(t *testing.T) {
	const off = "organization_not_enabled_in_instance"
	for name, tc := range map[string]struct {
		err  error
		want bool
	}{
		"Clerk's word":   {&Error{StatusCode: 403, Code: off}, true},
		"wrapped":        {fmt.Errorf("wrapped: %w", &Error{StatusCode: 403, Code: off}), true},
		"another code":   {&Error{StatusCode: 403, Code: "forbidden"}, false},
		"no code":        {&Error{StatusCode: 403}, false},
		"another status": {&Error{StatusCode: 404, Code: off}, false},
		"nothing":        {nil, false},
		"another error":  {errors.New(off), false},
	} {
		t.Run(name, func(t *testing.T) {
			NewWithT(t).Expect(IsOrganizationsOff(tc.err)).To(Equal(tc.want))
		})
	}
}

// expectNothingPrivate expects an error to hold nothing of the answer, of the request's URL or of the key.
func expectNothingPrivate(g Gomega, s *stub, err error) {
	for _, text := range []string{err.Error(), fmt.Sprintf("%+v", err), fmt.Sprintf("%#v", err)} {
		for _, private := range []string{"canary", "jane", "Jane", "555", secretKey, "sk_", "Bearer", s.URL, "http://", "/v1", userID} {
			g.Expect(text).NotTo(ContainSubstring(private))
		}
	}
}

func TestError_showsNothingOfAnAnswerThatCannotBeRead(t *testing.T) {
	for name, body := range map[string]string{
		"no JSON":        "canary jane@example.com",
		"bad JSON":       `{"id":"` + userID + `",canary}`,
		"wrong type":     `{"id":{"canary":"jane@example.com"},"total_count":"canary"}`,
		"wrong number":   `{"id":"` + userID + `","created_at":canary}`,
		"a list instead": `["canary"]`,
	} {
		t.Run(name, func(t *testing.T) {
			g := NewWithT(t)
			s := newStub(t, answer{body: body})
			for _, operation := range []string{"GetUser", "ListOrganizations", "CountUsers"} {
				err := reads[operation](t.Context(), s.client)
				g.Expect(err).To(MatchError(ErrMalformed))
				g.Expect(err.Error()).To(HavePrefix(operation))
				expectNothingPrivate(g, s, err)
			}
		})
	}
}

// What a condition says must be the same for the same failure, or every attempt would be news.
func TestSummary_isTheSameForTheSameFailure(t *testing.T) {
	for want, err := range map[string]*Error{
		"GetUser got no answer":                                  {Operation: "GetUser", cause: errors.New("read tcp 127.0.0.1:43210: reset"), TraceID: "trace1"},
		"GetUser got an answer that is not what Clerk documents": {Operation: "GetUser", StatusCode: 200, cause: ErrMalformed},
		"GetUser failed with 500":                                {Operation: "GetUser", StatusCode: 500, TraceID: "trace1", RetryAfter: time.Minute},
		"GetUser failed with 404 resource_not_found":             {Operation: "GetUser", StatusCode: 404, Code: "resource_not_found", TraceID: "trace1"},
	} {
		NewWithT(t).Expect(err.Summary()).To(Equal(want))
		NewWithT(t).Expect(err.Error()).To(HavePrefix(want))
	}
}

func TestError_ofANetworkThatFails(t *testing.T) {
	g := NewWithT(t)
	s := newStub(t, answer{body: instanceBody})
	s.Close()
	_, _, err := s.client.User(t.Context(), userID)
	g.Expect(err).To(HaveField("StatusCode", 0))
	g.Expect(err).To(HaveField("Operation", "GetUser"))
	g.Expect(err).To(MatchError(ContainSubstring("connection refused")))
	g.Expect(IsNotFound(err)).To(BeFalse())
	expectNothingPrivate(g, s, err)
	g.Expect(labels(g, s)).To(Equal(map[string]float64{"test GetUser 0": attempts}))
}

func TestError_ofAnAnswerThatNeverComes(t *testing.T) {
	g := NewWithT(t)
	s := newStub(t, answer{body: instanceBody})
	s.Config.Handler = http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	_, _, err := s.client.User(t.Context(), userID)
	g.Expect(err).To(HaveField("StatusCode", 0))
	expectNothingPrivate(g, s, err)
}
