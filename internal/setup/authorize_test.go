// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package setup

import (
	"net/http"
	"net/http/httptest"
	"strconv"
	"testing"

	"github.com/go-logr/logr"
	. "github.com/onsi/gomega"
)

// TestAuthorizer shows whom the API server is asked about: strangers at a rate, and whom it has let through always.
func TestAuthorizer(t *testing.T) {
	g := NewWithT(t)
	asked := 0
	filter := func(_ logr.Logger, next http.Handler) (http.Handler, error) {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			asked++
			if r.Header.Get("Authorization") != "Bearer good" {
				w.WriteHeader(http.StatusUnauthorized)
				return
			}
			next.ServeHTTP(w, r)
		}), nil
	}
	a, err := newAuthorizer(filter, logr.Discard(), http.NotFoundHandler())
	g.Expect(err).NotTo(HaveOccurred())
	get := func(token string) *httptest.ResponseRecorder {
		request := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/metrics", nil)
		request.Header.Set("Authorization", "Bearer "+token)
		recorder := httptest.NewRecorder()
		a.ServeHTTP(recorder, request)
		return recorder
	}
	const served = http.StatusNotFound
	g.Expect(get("good").Code).To(Equal(served))
	refused := map[int]int{}
	var last *httptest.ResponseRecorder
	for i := range 10 * strangersAtOnce {
		last = get(strconv.Itoa(i))
		refused[last.Code]++
	}
	g.Expect(refused[http.StatusUnauthorized]).To(And(
		BeNumerically(">=", strangersAtOnce-1), BeNumerically("<", 5*strangersAtOnce)))
	g.Expect(refused[http.StatusTooManyRequests]).To(Equal(10*strangersAtOnce - refused[http.StatusUnauthorized]))
	g.Expect(last.Code).To(Equal(http.StatusTooManyRequests))
	g.Expect(last.Header()).To(And(HaveKeyWithValue("Retry-After", []string{"1"}), HaveKeyWithValue("Connection", []string{"close"})))
	g.Expect(asked).To(Equal(1 + refused[http.StatusUnauthorized]))
	g.Expect(get("good").Code).To(Equal(served), "whom the API server let through does not wait for strangers")
}
