// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package receiver_test

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/clerk-operator/clerk-operator/internal/delivery"
	"github.com/clerk-operator/clerk-operator/internal/instance"
	"github.com/clerk-operator/clerk-operator/internal/mirror"
	"github.com/clerk-operator/clerk-operator/internal/receiver"
	"github.com/clerk-operator/clerk-operator/internal/setup"
	"github.com/clerk-operator/clerk-operator/test/installation"
	"github.com/clerk-operator/clerk-operator/test/payload"
)

// FuzzHandler posts anything, signed or not: the answer is one of the contract's, nothing unsigned is accepted,
// and nothing panics. The API server is a fake, since a million requests would only measure the real one.
func FuzzHandler(f *testing.F) {
	user, err := delivery.Event{Type: "user.created", Data: payload.User{ID: "user_1", Email: "a@example.com"}.Data()}.Body()
	if err != nil {
		f.Fatal(err)
	}
	deleted, err := delivery.Event{Type: "organization.deleted", Data: payload.Deleted("organization", "org_1")}.Body()
	if err != nil {
		f.Fatal(err)
	}
	for _, body := range [][]byte{user, deleted, []byte(`{}`), []byte(`[]`), nil, []byte(`{"type":"user.created","data":{"id":"../x"}}`)} {
		f.Add("/webhooks/clerk", "msg_1", "", "", true, body)
		f.Add("/webhooks/clerk/other", "msg_1", "1614265330", "v1,AAAA", false, body)
	}
	c := fake.NewClientBuilder().WithScheme(setup.Scheme()).Build()
	handler := receiver.NewHandler(instance.NewResolver(c, installation.Namespace, oldSecret), mirror.New(c, c),
		receiver.NewReport(c, logr.Discard()), receiver.DefaultLimits(), clock.RealClock{}, logr.Discard(), prometheus.NewRegistry())
	allowed := map[int]bool{200: true, 400: true, 404: true, 413: true, 503: true}
	f.Fuzz(func(t *testing.T, path, id, timestamp, signature string, signed bool, body []byte) {
		request := httptest.NewRequest(http.MethodPost, "/", bytes.NewReader(body))
		request.URL.Path = path
		request.Header = http.Header{"Svix-Id": {id}, "Svix-Timestamp": {timestamp}, "Svix-Signature": {signature}}
		if signed {
			header, err := delivery.Sign(oldSecret, delivery.Message{ID: id, Body: body}, time.Now())
			if err != nil {
				t.Fatal(err)
			}
			request.Header = header
		}
		recorder := httptest.NewRecorder()
		handler.ServeHTTP(recorder, request)
		if !allowed[recorder.Code] {
			t.Errorf("code %d: %s", recorder.Code, recorder.Body)
		}
		if !signed && recorder.Code == http.StatusOK {
			t.Error("an unsigned request was accepted")
		}
	})
}
