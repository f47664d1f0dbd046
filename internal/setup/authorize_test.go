// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package setup

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/go-logr/logr"
	. "github.com/onsi/gomega"
	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/metrics/filters"
)

// reviewer is what the filter asks an API server for: the token good is valid, and no other.
type reviewer struct {
	asked atomic.Int64
}

func (v *reviewer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	if strings.HasSuffix(r.URL.Path, "/subjectaccessreviews") {
		_ = json.NewEncoder(w).Encode(&authorizationv1.SubjectAccessReview{Status: authorizationv1.SubjectAccessReviewStatus{Allowed: true}})
		return
	}
	v.asked.Add(1)
	var review authenticationv1.TokenReview
	if err := json.NewDecoder(r.Body).Decode(&review); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	review.Status.Authenticated = review.Spec.Token == "good"
	review.Status.User.Username = "prometheus"
	_ = json.NewEncoder(w).Encode(&review)
}

// port is the authorizer with controller-runtime's filter, which asks a reviewer.
type port struct {
	*WithT
	t          *testing.T
	reviewer   *reviewer
	authorizer *authorizer
}

func newPort(t *testing.T) *port {
	t.Helper()
	p := &port{WithT: NewWithT(t), t: t, reviewer: &reviewer{}}
	server := httptest.NewServer(p.reviewer)
	t.Cleanup(server.Close)
	config := &rest.Config{Host: server.URL, QPS: -1}
	filter, err := filters.WithAuthenticationAndAuthorization(config, server.Client())
	p.Expect(err).NotTo(HaveOccurred())
	p.authorizer, err = newAuthorizer(filter, logr.Discard(), http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	p.Expect(err).NotTo(HaveOccurred())
	return p
}

func (p *port) get(source string, header http.Header) *httptest.ResponseRecorder {
	p.t.Helper()
	request := httptest.NewRequestWithContext(p.t.Context(), http.MethodGet, "/metrics", nil)
	request.Header, request.RemoteAddr = header, source+":1234"
	recorder := httptest.NewRecorder()
	p.authorizer.ServeHTTP(recorder, request)
	return recorder
}

func bearer(token string) http.Header { return http.Header{"Authorization": {"Bearer " + token}} }

const (
	scraper  = "10.0.0.1"
	stranger = "10.0.0.2"
)

func TestAuthorizer_asksAboutFewUnknownTokens(t *testing.T) {
	p := newPort(t)
	first := p.get(scraper, bearer("good"))
	p.Expect(first.Code).To(Equal(http.StatusOK))
	p.Expect(first.Header()).NotTo(HaveKey("Connection"))
	p.Expect(p.get(stranger, http.Header{}).Header()).To(HaveKeyWithValue("Connection", []string{"close"}))
	codes := map[int]int{}
	var last *httptest.ResponseRecorder
	const requests = 50 * perSourceAtOnce
	for i := range requests {
		last = p.get(stranger, bearer("token-"+strconv.Itoa(i)))
		codes[last.Code]++
	}
	p.Expect(last.Code).To(Equal(http.StatusTooManyRequests))
	p.Expect(last.Header()).To(And(HaveKeyWithValue("Retry-After", []string{"1"}), HaveKeyWithValue("Connection", []string{"close"})))
	p.Expect(codes[http.StatusTooManyRequests]).To(BeNumerically(">", requests/2))
	p.Expect(p.reviewer.asked.Load()).To(BeNumerically("<", requests/2))
	p.Expect(codes).To(HaveLen(2), "no other answers than 429 and the filter's")

	p.Expect(p.get(scraper, bearer("good")).Code).To(Equal(http.StatusOK), "who was let through does not wait for strangers")
	p.Expect(p.get(stranger, bearer("good")).Code).To(Equal(http.StatusOK), "wherever it asks from")
	p.Expect(p.get(scraper, bearer("new")).Code).NotTo(Equal(http.StatusTooManyRequests), "nor who comes from elsewhere")
}

func TestAuthorizer_asksAboutFewUnknownTokensOfManySources(t *testing.T) {
	p := newPort(t)
	const sources = 500
	for i := range sources {
		p.get("10.1.0."+strconv.Itoa(i), bearer("token-"+strconv.Itoa(i)))
	}
	p.Expect(p.reviewer.asked.Load()).To(And(BeNumerically(">=", unknownAtOnce), BeNumerically("<", sources/2)))
}

func TestAuthorizer_takesTokensFromOneHeader(t *testing.T) {
	p := newPort(t)
	for i := range 10 * perSourceAtOnce {
		for _, token := range []string{strconv.Itoa(i), "Z29vZA"} {
			answer := p.get(stranger, http.Header{
				"Connection": {"Upgrade"}, "Upgrade": {"websocket"},
				"Sec-Websocket-Protocol": {"base64url.bearer.authorization.k8s.io." + token + ", v4"},
			})
			p.Expect(answer.Code).To(Equal(http.StatusUnauthorized))
		}
	}
	p.Expect(p.reviewer.asked.Load()).To(BeZero())
}

func TestAuthorizer_forgetsATokenThatIsRefused(t *testing.T) {
	p := newPort(t)
	p.Expect(p.get(scraper, bearer("good")).Code).To(Equal(http.StatusOK))
	_, known := p.authorizer.known.Get(digest("Bearer good"))
	p.Expect(known).To(BeTrue())
	// The filter itself believes a token for a minute, so one that it has not seen takes the place of a revoked one.
	p.authorizer.known.Add(digest("Bearer revoked"), true)
	p.Expect(p.get(scraper, bearer("revoked")).Code).NotTo(Equal(http.StatusOK))
	_, known = p.authorizer.known.Get(digest("Bearer revoked"))
	p.Expect(known).To(BeFalse())
}
