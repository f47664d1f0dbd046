// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package rollback

import (
	"io"
	"net/http"
)

// Wrap returns a transport after whose broken connections and ended watches the API server is asked at once: it may have been
// restored in between. It has the form of a transport.WrapperFunc.
func (d *Detector) Wrap(next http.RoundTripper) http.RoundTripper {
	return &transport{next: next, broken: d.suspect}
}

type transport struct {
	next   http.RoundTripper
	broken func()
}

// WrappedRoundTripper lets others close idle connections.
func (t *transport) WrappedRoundTripper() http.RoundTripper { return t.next }

// RoundTrip makes a request.
func (t *transport) RoundTrip(request *http.Request) (*http.Response, error) {
	response, err := t.next.RoundTrip(request)
	if err != nil {
		t.broken()
		return nil, err
	}
	if request.URL.Query().Has("watch") {
		response.Body = &watch{ReadCloser: response.Body, ended: t.broken}
	}
	return response, nil
}

// watch is the body of an answer to a watch.
type watch struct {
	io.ReadCloser
	ended func()
}

func (w *watch) Read(p []byte) (int, error) {
	n, err := w.ReadCloser.Read(p)
	if err != nil {
		w.ended()
	}
	return n, err
}
