// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package setup

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr"
	. "github.com/onsi/gomega"
)

// answers are what requests get: these codes, one after the other, of which 0 is no response. It notes their paths.
type answers struct {
	codes []int
	asked []string
	// then is called when there is no code left.
	then func()
}

var errAway = errors.New("connection refused")

func (a *answers) RoundTrip(r *http.Request) (*http.Response, error) {
	a.asked = append(a.asked, r.URL.Path)
	if len(a.codes) == 0 {
		a.then()
		return nil, errAway
	}
	code := a.codes[0]
	a.codes = a.codes[1:]
	if code == 0 {
		return nil, errAway
	}
	return &http.Response{StatusCode: code, Status: http.StatusText(code), Body: io.NopCloser(strings.NewReader(""))}, nil
}

// get makes one request of an informer by a patient transport.
func (a *answers) get(ctx context.Context, t *testing.T) (code int, err error) {
	t.Helper()
	transport := newPatientTransport(a, &url.URL{Scheme: "https", Host: "api", Path: "/readyz"}, logr.Discard())
	transport.interval = time.Millisecond
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://api/list", http.NoBody)
	NewWithT(t).Expect(err).NotTo(HaveOccurred())
	response, err := transport.RoundTrip(request)
	if err != nil {
		return 0, err
	}
	return response.StatusCode, response.Body.Close()
}

func TestPatientTransport(t *testing.T) {
	for name, test := range map[string]struct {
		codes []int
		want  int
		asked string
	}{
		"there at once":       {codes: []int{200}, want: 200, asked: "/list"},
		"away":                {codes: []int{0, 0, 0, 200, 200}, want: 200, asked: "/list /readyz /readyz /readyz /list"},
		"away again":          {codes: []int{0, 200, 0, 200, 200}, want: 200, asked: "/list /readyz /list /readyz /list"},
		"not ready yet":       {codes: []int{503, 500, 429, 503, 200, 200}, want: 200, asked: "/list /readyz /readyz /readyz /readyz /list"},
		"away behind a proxy": {codes: []int{502, 502, 200, 200}, want: 200, asked: "/list /readyz /readyz /list"},
		"it is reachable and never ready": {
			codes: append(append([]int{0}, slices.Repeat([]int{500}, maxUnready)...), 200), want: 200,
			asked: "/list" + strings.Repeat(" /readyz", maxUnready) + " /list",
		},
		"one that comes and goes is waited for": {
			codes: append(append([]int{0, 500, 0}, slices.Repeat([]int{500}, maxUnready)...), 200), want: 200,
			asked: "/list" + strings.Repeat(" /readyz", maxUnready+2) + " /list",
		},
		"only this kind is not served":            {codes: []int{503, 200, 503}, want: 503, asked: "/list /readyz /list"},
		"it does not say whether it is ready":     {codes: []int{0, 403, 200}, want: 200, asked: "/list /readyz /list"},
		"no right, which the informer should see": {codes: []int{0, 200, 403}, want: 403, asked: "/list /readyz /list"},
		"no CRD":                    {codes: []int{404}, want: 404, asked: "/list"},
		"it cannot, and needs rest": {codes: []int{500}, want: 500, asked: "/list"},
		"it is too slow":            {codes: []int{504}, want: 504, asked: "/list"},
	} {
		t.Run(name, func(t *testing.T) {
			g := NewWithT(t)
			server := &answers{codes: test.codes}
			code, err := server.get(t.Context(), t)
			g.Expect(err).NotTo(HaveOccurred())
			g.Expect(code).To(Equal(test.want))
			g.Expect(strings.Join(server.asked, " ")).To(Equal(test.asked))
		})
	}
}

func TestPatientTransport_endsWithTheRequest(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	server := &answers{codes: []int{0, 0}, then: cancel}
	_, err := server.get(ctx, t)
	NewWithT(t).Expect(err).To(MatchError(errAway))
}
