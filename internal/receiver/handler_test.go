// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package receiver_test

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr/funcr"
	. "github.com/onsi/gomega"
	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"

	clerkv1alpha1 "github.com/clerk-operator/clerk-operator/api/v1alpha1"
	"github.com/clerk-operator/clerk-operator/internal/clerk"
	"github.com/clerk-operator/clerk-operator/internal/delivery"
	"github.com/clerk-operator/clerk-operator/internal/instance"
	"github.com/clerk-operator/clerk-operator/internal/mirror"
	"github.com/clerk-operator/clerk-operator/internal/receiver"
	"github.com/clerk-operator/clerk-operator/test/controlplane"
	"github.com/clerk-operator/clerk-operator/test/installation"
	"github.com/clerk-operator/clerk-operator/test/payload"
)

const (
	oldSecret = "whsec_cmVjZWl2ZXItdGVzdC1vbGQtc2lnbmluZy1rZXk="
	newSecret = "whsec_cmVjZWl2ZXItdGVzdC1uZXctc2lnbmluZy1rZXk="
	pinned    = "ins_2g7np7Hrk0SN6kj5EDMLDaKNL0S"
)

// env is a control plane with the CRDs and three instances: default with two secrets, pinned, and broken without any.
// The first test that needs it starts it: fuzzing, which runs this program many times, does not.
var env struct {
	once   sync.Once
	err    error
	client client.Client
	cp     *controlplane.ControlPlane
}

func TestMain(m *testing.M) {
	code := m.Run()
	if env.cp != nil {
		if err := env.cp.Stop(); err != nil {
			fmt.Fprintln(os.Stderr, "stopping the control plane:", err)
			code = 1
		}
	}
	os.Exit(code)
}

// api returns the client of the control plane.
func api(t *testing.T) client.Client {
	t.Helper()
	env.once.Do(func() { env.err = startSuite(context.WithoutCancel(t.Context())) })
	if env.err != nil {
		t.Fatal("starting the control plane: ", env.err)
	}
	return env.client
}

func startSuite(ctx context.Context) (err error) {
	if env.cp, err = controlplane.Start(ctx, controlplane.Options{}); err != nil {
		return err
	}
	in, err := installation.Install(ctx, env.cp, "../..")
	if err != nil {
		return err
	}
	env.client = in.Client
	secret := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: installation.Namespace, Name: "clerk-webhook"},
		StringData: map[string]string{"old": oldSecret, "new": newSecret + "\n", "quoted": `"` + oldSecret + `"`},
	}
	if err := in.Client.Create(ctx, secret); err != nil {
		return err
	}
	for name, keys := range map[string][]string{"default": {"old", "new"}, "pinned": {"new", "absent"}, "broken": {"quoted", "absent"}} {
		config := &clerkv1alpha1.ClerkInstance{ObjectMeta: metav1.ObjectMeta{Name: name}}
		if name == "pinned" {
			config.Spec.InstanceID = pinned
		}
		for _, key := range keys {
			config.Spec.Webhook.SigningSecrets = append(config.Spec.Webhook.SigningSecrets,
				clerkv1alpha1.SecretKeyReference{Name: "clerk-webhook", Key: key})
		}
		if err := in.Client.Create(ctx, config); err != nil {
			return err
		}
	}
	return nil
}

// edge is a handler behind a real HTTP server, and everything that it said.
type edge struct {
	*httptest.Server
	log      strings.Builder
	registry *prometheus.Registry
	report   *receiver.Report
}

func newEdge(t *testing.T, environment string, c client.Client) *edge {
	t.Helper()
	return newEdgeWithCache(t, environment, c, c)
}

// newEdgeWithCache returns a handler that reads from a cache what the API server may have in another state.
func newEdgeWithCache(t *testing.T, environment string, cached, live client.Client) *edge {
	t.Helper()
	e := &edge{registry: prometheus.NewRegistry()}
	log := funcr.New(func(prefix, args string) { e.log.WriteString(prefix + args + "\n") }, funcr.Options{Verbosity: 2})
	e.report = receiver.NewReport(cached, log)
	handler := receiver.NewHandler(instance.NewResolver(cached, installation.Namespace, environment),
		mirror.New(cached, live), e.report, receiver.DefaultLimits(), clock.RealClock{}, log, e.registry)
	e.Server = httptest.NewServer(handler)
	t.Cleanup(e.Close)
	return e
}

func (e *edge) sender(path, secret string) delivery.Sender {
	return delivery.Sender{URL: e.URL + path, Secret: secret}
}

func message(g Gomega, eventType, instanceID string, data any) delivery.Message {
	body, err := delivery.Event{Type: eventType, InstanceID: instanceID, Data: data}.Body()
	g.Expect(err).NotTo(HaveOccurred())
	return delivery.NewMessage(body)
}

func newUser() payload.User {
	now := time.Now()
	return payload.User{
		ID: payload.NewID("user"), Email: "private.person@example.com", FirstName: "Privateperson", CreatedAt: now, UpdatedAt: now,
	}
}

func TestHandler_statusCodes(t *testing.T) {
	e := newEdge(t, "", api(t))
	for name, tc := range map[string]struct {
		path, secret string
		body         string
		event        string
		instanceID   string
		data         any
		wantCode     int
		wantBody     string
	}{
		"applied":                           {event: "user.created", data: newUser().Data(), wantCode: 200, wantBody: `"applied"`},
		"with the other secret":             {secret: newSecret, event: "user.created", data: newUser().Data(), wantCode: 200, wantBody: `"applied"`},
		"by the name of the instance":       {path: "/webhooks/clerk/default", event: "user.created", data: newUser().Data(), wantCode: 200, wantBody: `"applied"`},
		"with a trailing slash":             {path: "/webhooks/clerk/", event: "user.created", data: newUser().Data(), wantCode: 200, wantBody: `"applied"`},
		"a pinned instance's own event":     {path: "/webhooks/clerk/pinned", secret: newSecret, event: "user.created", instanceID: pinned, data: newUser().Data(), wantCode: 200, wantBody: `"applied"`},
		"another instance's event":          {path: "/webhooks/clerk/pinned", secret: newSecret, event: "user.created", instanceID: "ins_123", data: newUser().Data(), wantCode: 200, wantBody: `"ignored"`},
		"no instance in a pinned one's":     {path: "/webhooks/clerk/pinned", secret: newSecret, event: "user.created", data: newUser().Data(), wantCode: 200, wantBody: `"ignored"`},
		"an unknown type":                   {event: "meteor.sighted", data: map[string]any{}, wantCode: 200, wantBody: `"ignored"`},
		"a type that is not mirrored":       {event: "session.created", data: map[string]any{}, wantCode: 200, wantBody: `"ignored"`},
		"a sensitive type":                  {event: "email.created", data: map[string]any{"otp_code": "424242"}, wantCode: 200, wantBody: `"ignored"`},
		"a deletion without an ID":          {event: "user.deleted", data: map[string]any{"deleted": true}, wantCode: 200, wantBody: `"ignored"`},
		"a membership without a user":       {event: "organizationMembership.created", data: map[string]any{"id": "orgmem_1"}, wantCode: 200, wantBody: `"ignored"`},
		"an object without a type":          {body: `{}`, wantCode: 200, wantBody: `"ignored"`},
		"forged":                            {secret: "whsec_Zm9yZ2VkLXNpZ25pbmctc2VjcmV0LWtleQ==", event: "user.created", data: newUser().Data(), wantCode: 400},
		"another instance's secret":         {path: "/webhooks/clerk/pinned", event: "user.created", data: newUser().Data(), wantCode: 400},
		"signed, and no JSON":               {body: `hello`, wantCode: 400},
		"signed, and empty":                 {body: ` `, wantCode: 400},
		"signed, and an array":              {body: `[{"type":"user.created"}]`, wantCode: 400},
		"signed, and null":                  {body: `null`, wantCode: 400},
		"unknown instance":                  {path: "/webhooks/clerk/nobody", event: "user.created", data: newUser().Data(), wantCode: 404},
		"another path":                      {path: "/elsewhere", event: "user.created", data: newUser().Data(), wantCode: 404},
		"a path that others would redirect": {path: "//webhooks//clerk", event: "user.created", data: newUser().Data(), wantCode: 404},
		"too large":                         {body: `{"type":"` + strings.Repeat("x", 1<<20) + `"}`, wantCode: 413},
		"no usable secret":                  {path: "/webhooks/clerk/broken", event: "user.created", data: newUser().Data(), wantCode: 500},
	} {
		t.Run(name, func(t *testing.T) {
			g := NewWithT(t)
			if tc.path == "" {
				tc.path = "/webhooks/clerk"
			}
			if tc.secret == "" {
				tc.secret = oldSecret
			}
			m := delivery.NewMessage([]byte(tc.body))
			if tc.body == "" {
				m = message(g, tc.event, tc.instanceID, tc.data)
			}
			answer, err := e.sender(tc.path, tc.secret).Post(t.Context(), m)
			g.Expect(err).NotTo(HaveOccurred())
			g.Expect(answer.Code).To(Equal(tc.wantCode), answer.Body)
			g.Expect(answer.Body).To(ContainSubstring(tc.wantBody))
			g.Expect(len(answer.Body)).To(BeNumerically("<", 200))
			g.Expect(answer.Header).NotTo(HaveKey("Webhook-Delivery"))
			g.Expect(answer.Header).NotTo(HaveKey("Location"))
			if user, ok := tc.data.(map[string]any); ok && tc.event == "user.created" {
				instanceName := cmp.Or(strings.TrimPrefix(strings.TrimPrefix(tc.path, clerkv1alpha1.WebhookPath), "/"), "default")
				err := api(t).Get(t.Context(), client.ObjectKey{Name: clerk.ObjectName(instanceName, user["id"].(string))}, &clerkv1alpha1.ClerkUser{})
				g.Expect(err == nil).To(Equal(tc.wantBody == `"applied"`), "stored if, and only if, it was applied")
			}
		})
	}
	g := NewWithT(t)
	for _, secret := range []string{"rivate", "424242", oldSecret, newSecret} {
		g.Expect(e.log.String()).NotTo(ContainSubstring(secret))
	}
}

func TestHandler_methods(t *testing.T) {
	e := newEdge(t, "", api(t))
	for _, method := range []string{http.MethodGet, http.MethodHead, http.MethodPut, http.MethodDelete, http.MethodOptions} {
		g := NewWithT(t)
		request, err := http.NewRequestWithContext(t.Context(), method, e.URL+"/webhooks/clerk", http.NoBody)
		g.Expect(err).NotTo(HaveOccurred())
		response, err := http.DefaultClient.Do(request)
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(response.Body.Close()).To(Succeed())
		g.Expect(response.StatusCode).To(Equal(http.StatusMethodNotAllowed), method)
		g.Expect(response.Header.Get("Allow")).To(Equal(http.MethodPost))
	}
}

func TestHandler_duplicatesAndLateEvents(t *testing.T) {
	g := NewWithT(t)
	e := newEdge(t, "", api(t))
	sender := e.sender("/webhooks/clerk", oldSecret)
	user := newUser()
	created := message(g, "user.created", "", user.Data())
	older := user
	older.UpdatedAt = user.UpdatedAt.Add(-time.Minute)
	for _, step := range []struct {
		message delivery.Message
		want    string
	}{
		{created, "applied"}, {created, "unchanged"},
		{message(g, "user.updated", "", older.Data()), "stale"},
		{message(g, "user.deleted", "", payload.Deleted("user", user.ID)), "applied"},
		{message(g, "user.deleted", "", payload.Deleted("user", user.ID)), "unchanged"},
		{created, "stale"},
	} {
		answer, err := sender.Post(t.Context(), step.message)
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(answer.Body).To(Equal(`{"result":"` + step.want + `"}` + "\n"))
	}
	tombstone := &clerkv1alpha1.ClerkTombstone{}
	g.Expect(api(t).Get(t.Context(), client.ObjectKey{Name: clerk.ObjectName("default", user.ID)}, tombstone)).To(Succeed())
}

func TestHandler_environmentSecretServesOnlyAnEmptyCluster(t *testing.T) {
	g := NewWithT(t)
	e := newEdge(t, oldSecret, api(t)) // there are ClerkInstances, and default's secrets are its own
	answer, err := e.sender("/webhooks/clerk/staging", oldSecret).Post(t.Context(), message(g, "user.created", "", newUser().Data()))
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(answer.Code).To(Equal(http.StatusNotFound))
}

func TestHandler_apiServerUnavailable(t *testing.T) {
	g := NewWithT(t)
	broken, err := controlplane.Start(t.Context(), controlplane.Options{})
	g.Expect(err).NotTo(HaveOccurred())
	t.Cleanup(func() { g.Expect(broken.Stop()).To(Succeed()) })
	in, err := installation.Install(t.Context(), broken, "../..")
	g.Expect(err).NotTo(HaveOccurred())
	e := newEdge(t, oldSecret+" "+newSecret, in.Client)
	sender := e.sender("/webhooks/clerk", newSecret)
	user := newUser()
	created := message(g, "user.created", "", user.Data())

	g.Expect(broken.KillAPIServer()).To(Succeed())
	answer, err := sender.Post(t.Context(), created)
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(answer.Code).To(Equal(http.StatusServiceUnavailable))
	g.Expect(answer.Header.Get("Retry-After")).NotTo(BeEmpty())

	g.Expect(broken.StartAPIServer(t.Context())).To(Succeed())
	answer, err = sender.Deliver(t.Context(), created, 100*time.Millisecond)
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(answer.Code).To(Equal(http.StatusOK))
	g.Expect(in.Client.Get(t.Context(), client.ObjectKey{Name: clerk.ObjectName("default", user.ID)}, &clerkv1alpha1.ClerkUser{})).To(Succeed())
}

func TestReport_tellsOfEventsAndFailures(t *testing.T) {
	g := NewWithT(t)
	log := funcr.New(func(string, string) {}, funcr.Options{})
	report := receiver.NewReport(api(t), log)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- report.Start(ctx) }()
	at := time.Now().Truncate(time.Millisecond)
	report.Event("pinned", at)
	report.Event("pinned", at.Add(-time.Hour))
	report.Event("nobody", at)
	run := payload.NewID("msg")
	for i := range clerkv1alpha1.MaxFailures + 5 {
		report.Failure("pinned", clerkv1alpha1.DeliveryFailure{
			MessageID: fmt.Sprintf("%s_%d", run, i), Type: "user.deleted", Reason: "NoID", Time: metav1.NewTime(at),
		})
	}
	config := &clerkv1alpha1.ClerkInstance{}
	g.Eventually(func(g Gomega) {
		g.Expect(api(t).Get(t.Context(), client.ObjectKey{Name: "pinned"}, config)).To(Succeed())
		g.Expect(config.Status.Failures).To(HaveLen(clerkv1alpha1.MaxFailures))
		g.Expect(config.Status.Failures[0].MessageID).To(Equal(run+"_5"), "the oldest go first")
	}).WithTimeout(30 * time.Second).Should(Succeed())
	g.Expect(config.Status.LastEventTime.Time).To(BeTemporally("==", at))
	report.Failure("pinned", clerkv1alpha1.DeliveryFailure{MessageID: "msg_last", Reason: "NoID", Time: metav1.NewTime(at)})
	cancel()
	g.Expect(<-ended).To(Succeed())
	g.Expect(api(t).Get(t.Context(), client.ObjectKey{Name: "pinned"}, config)).To(Succeed())
	g.Expect(config.Status.Failures[clerkv1alpha1.MaxFailures-1].MessageID).To(Equal("msg_last"), "what is noted is written at the end")
}
