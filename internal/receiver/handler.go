// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package receiver

import (
	"context"
	"errors"
	"io"
	"net/http"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	svix "github.com/svix/svix-webhooks/go"
	"golang.org/x/time/rate"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/clock"

	clerkv1alpha1 "github.com/clerk-operator/clerk-operator/api/v1alpha1"
	"github.com/clerk-operator/clerk-operator/internal/clerk"
	"github.com/clerk-operator/clerk-operator/internal/httpserver"
	"github.com/clerk-operator/clerk-operator/internal/instance"
	"github.com/clerk-operator/clerk-operator/internal/mirror"
)

// Handler serves Clerk's deliveries.
type Handler struct {
	instances *instance.Resolver
	mirror    *mirror.Mirror
	report    *Report
	clock     clock.PassiveClock
	log       logr.Logger
	metrics   *metrics

	bodies *bodies
	slots  *slots
	phase  atomic.Int32
	// verifying holds as many as there are processors: more would only need more memory.
	verifying chan struct{}
	// Strangers and outages must not fill the log: each of these says so once in a while.
	sayUnverified, sayCut, sayNotConfigured, sayUnavailable rate.Sometimes
}

// The phases of a handler. Only one that is serving reads anything of a delivery.
const (
	serving int32 = iota
	starting
	draining
)

// NewHandler returns a handler that registers its metrics in registry.
func NewHandler(
	instances *instance.Resolver, m *mirror.Mirror, report *Report, limits Limits, c clock.PassiveClock, log logr.Logger,
	registry prometheus.Registerer,
) *Handler {
	metrics := newMetrics(registry)
	return &Handler{
		instances: instances,
		mirror:    m,
		report:    report,
		clock:     c,
		log:       log,
		metrics:   metrics,
		bodies:    &bodies{budget: limits.UnverifiedBytes, timeout: limits.BodyTimeout, held: metrics.unverified},
		slots:     newSlots(maxSlots),
		verifying: make(chan struct{}, runtime.GOMAXPROCS(0)),

		sayUnverified:    rate.Sometimes{First: 1, Interval: quietInterval},
		sayCut:           rate.Sometimes{First: 1, Interval: quietInterval},
		sayNotConfigured: rate.Sometimes{First: 1, Interval: quietInterval},
		sayUnavailable:   rate.Sometimes{First: 1, Interval: quietInterval},
	}
}

// outcome is what a request comes to. The result is the answer's body and, with the event's type, a metric's label.
type outcome struct {
	code     int
	result   string
	instance string
	event    string
}

// Results of requests that are not the mirror's.
const (
	resultIgnored       = "ignored"
	resultForeign       = "foreign_instance"
	resultSensitive     = "sensitive"
	resultNotMember     = "not_a_member"
	resultNoPayer       = "no_payer"
	resultResync        = "resync_requested"
	resultUnusable      = "unusable"
	resultInvalid       = "invalid"
	resultUnverified    = "unverified"
	resultNotFound      = "not_found"
	resultNotPost       = "method_not_allowed"
	resultTooLarge      = "too_large"
	resultTooSlow       = "too_slow"
	resultCut           = "cut"
	resultNotConfigured = "not_configured"
	resultUnavailable   = "unavailable"
	resultPanic         = "panic"
)

// Reasons why an event that is acknowledged cannot be used, beside those of packages clerk and mirror.
const (
	// reasonPayerNotMirrored says that the payer of a subscription is still not mirrored.
	reasonPayerNotMirrored = "PayerNotMirrored"
	// reasonUnknownEventType says that Clerk has an event type that this version does not know, so that something may be
	// missing here.
	reasonUnknownEventType = "UnknownEventType"
)

// answers are constant, and without anything of the request, since Clerk's dashboard keeps them.
var answers = map[string]string{
	string(mirror.Applied):   `{"result":"applied"}`,
	string(mirror.Unchanged): `{"result":"unchanged"}`,
	string(mirror.Stale):     `{"result":"stale"}`,
	resultIgnored:            `{"result":"ignored"}`,
	resultForeign:            `{"result":"ignored","reason":"the event is of another Clerk instance"}`,
	resultSensitive:          `{"result":"ignored","reason":"do not subscribe to this event type"}`,
	resultNotMember:          `{"result":"ignored","reason":"the user is a member of no organization"}`,
	resultNoPayer:            `{"error":"the payer is not mirrored yet"}`,
	resultResync:             `{"result":"ignored","reason":"the event type is unknown; a resync is requested"}`,
	resultUnusable:           `{"result":"ignored","reason":"the event cannot be used"}`,
	resultInvalid:            `{"error":"the body is not a JSON object"}`,
	resultUnverified:         `{"error":"the signature headers are missing or do not verify"}`,
	resultNotFound:           `{"error":"there is no such webhook"}`,
	resultNotPost:            `{"error":"use POST"}`,
	resultTooLarge:           `{"error":"the body is larger than 1 MiB"}`,
	resultTooSlow:            `{"error":"the body did not arrive within 2 seconds"}`,
	resultCut:                `{"error":"too many bodies arrive; try again later"}`,
	resultNotConfigured:      `{"error":"no usable signing secret is configured"}`,
	resultUnavailable:        `{"error":"try again later"}`,
	resultPanic:              `{"error":"internal error"}`,
}

// ServeHTTP answers one request.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	start := h.clock.Now()
	h.metrics.inFlight.Inc()
	defer h.metrics.inFlight.Dec()
	out := h.guarded(w, r)

	h.metrics.requests.WithLabelValues(out.instance, typeLabel(out.event), out.result, strconv.Itoa(out.code)).Inc()
	h.metrics.duration.WithLabelValues(out.result).Observe(h.clock.Since(start).Seconds())
	h.answer(w, r, out)
}

// answer writes the answer. A refused sender's connection ends with it: net/http would else wait for what it may still
// send.
func (h *Handler) answer(w http.ResponseWriter, r *http.Request, out outcome) {
	header := w.Header()
	header.Set("Content-Type", "application/json")
	header.Set("Cache-Control", "no-store")
	switch out.code {
	case http.StatusMethodNotAllowed:
		header.Set("Allow", http.MethodPost)
	case http.StatusServiceUnavailable:
		header.Set("Retry-After", retryAfter)
	}
	if out.code != http.StatusOK {
		header.Set("Connection", "close")
		// It may hold much, and net/http has no more use for it.
		r.Header = nil
		// A test's recorder has no deadline, and no connection.
		_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(drainTimeout))
	}
	w.WriteHeader(out.code)
	_, _ = io.WriteString(w, answers[out.result]+"\n") // a sender that is gone needs no answer
}

// guarded keeps a bug in one request from being more than that. What panicked is not logged with the value, which may
// hold some of the body.
func (h *Handler) guarded(w http.ResponseWriter, r *http.Request) (out outcome) {
	defer func() {
		if recover() != nil {
			h.log.Error(errors.New("panic"), "Serving a delivery failed; please report this", "stack", string(debug.Stack()))
			out = outcome{code: http.StatusInternalServerError, result: resultPanic}
		}
	}()
	return h.serve(w, r)
}

func (h *Handler) serve(w http.ResponseWriter, r *http.Request) outcome {
	name, ok := instanceName(r.URL.Path)
	switch {
	case !ok:
		return outcome{code: http.StatusNotFound, result: resultNotFound}
	case r.Method != http.MethodPost:
		return outcome{code: http.StatusMethodNotAllowed, result: resultNotPost}
	case h.phase.Load() != serving:
		return outcome{code: http.StatusServiceUnavailable, result: resultUnavailable}
	}
	config, err := h.instances.Get(r.Context(), name)
	switch {
	case errors.Is(err, instance.ErrNotFound):
		return outcome{code: http.StatusNotFound, result: resultNotFound}
	case errors.Is(err, instance.ErrNotConfigured):
		return h.notConfigured(name, err.Error())
	case err != nil:
		// The name is from the path and not known to be an instance's: it must not become a label.
		return h.unavailable("", "", err)
	}
	return h.receive(w, r, config)
}

// receive takes a request for a known instance as far as a verified delivery.
func (h *Handler) receive(w http.ResponseWriter, r *http.Request, config *clerkv1alpha1.ClerkInstance) outcome {
	verifiers, problems, err := h.instances.Verifiers(r.Context(), config)
	if err != nil {
		return h.unavailable(config.Name, "", err)
	}
	if len(verifiers) == 0 {
		return h.notConfigured(config.Name, instance.Describe(problems))
	}
	content, received, err := h.readVerified(w, r, verifiers)
	if err != nil {
		return h.refuse(config.Name, err)
	}
	return h.deliver(r.Context(), config, received, content)
}

// readVerified returns the body of a request, and what its headers say, when both are proven to be Clerk's. What can be
// told without the body is told before a stranger may take the time to send one.
func (h *Handler) readVerified(w http.ResponseWriter, r *http.Request, verifiers []*svix.Webhook) ([]byte, delivery, error) {
	if r.ContentLength > maxBody {
		return nil, delivery{}, errTooLarge
	}
	claimed, err := readAttempt(r.Header, h.clock.Now())
	if err != nil {
		return nil, delivery{}, err
	}
	// The others may hold much, and are not needed while the body arrives.
	r.Header = claimed.signed
	var content []byte
	err = h.bodies.read(w, r, func(body []byte) error {
		// What a body is verified with is several times as large.
		h.verifying <- struct{}{}
		defer func() { <-h.verifying }()
		content = body
		return claimed.verify(body, verifiers)
	})
	return content, claimed.delivery, err
}

// deliver processes a verified delivery, when there is a slot for it.
func (h *Handler) deliver(
	ctx context.Context, config *clerkv1alpha1.ClerkInstance, received delivery, content []byte,
) outcome {
	ctx, cancel := context.WithTimeout(ctx, processTimeout)
	defer cancel()
	release, err := h.slots.acquire(ctx, config.Name, len(content))
	if err != nil {
		return h.unavailable(config.Name, "", err)
	}
	defer release()
	httpserver.Keep(ctx)
	event, err := clerk.Decode(content)
	if errors.Is(err, clerk.ErrNotAnObject) {
		return outcome{code: http.StatusBadRequest, result: resultInvalid, instance: config.Name}
	}
	log := h.log.WithValues("instance", config.Name, "messageID", received.messageID, "type", typeForPeople(event.Type))
	return h.process(logr.NewContext(ctx, log), config, received, event, err)
}

// process does what a verified event asks for. undecodable is why it cannot be told what that is.
func (h *Handler) process(
	ctx context.Context, config *clerkv1alpha1.ClerkInstance, received delivery, event *clerk.Event, undecodable error,
) outcome {
	log := logr.FromContextOrDiscard(ctx)
	out := outcome{code: http.StatusOK, instance: config.Name, event: event.Type}
	if pinned := config.PinnedInstanceID(); pinned != "" && event.InstanceID != pinned {
		log.Info("Ignored an event of another Clerk instance; check spec.instanceID and where the endpoint's secret is from")
		out.result = resultForeign
		return out
	}
	h.noteEvent(config.Name, event)
	switch {
	case undecodable != nil:
		return h.unusable(ctx, out, received, event, undecodable)
	case sensitive[event.Type]:
		log.Info("Ignored an event that carries messages and one-time codes; unsubscribe the endpoint from it in Clerk")
		out.result = resultSensitive
		return out
	case !event.Mirrored():
		log.Info("Ignored an event of a type that is not mirrored")
		out.result = resultIgnored
		return out
	}
	result, err := h.store(ctx, config, received, event)
	var refused *mirror.RefusedError
	switch {
	case errors.As(err, &refused):
		return h.unusable(ctx, out, received, event, err)
	case errors.Is(err, mirror.ErrNoPayer):
		return h.noPayer(ctx, out, received, event, err)
	case err != nil:
		return h.unavailable(config.Name, event.Type, err)
	}
	log.V(1).Info("Processed an event", "result", result)
	out.result = result
	return out
}

func (h *Handler) store(
	ctx context.Context, config *clerkv1alpha1.ClerkInstance, received delivery, event *clerk.Event,
) (string, error) {
	at := event.Time
	if at.IsZero() {
		at = received.sentAt
	}
	switch {
	case event.Deleted != "":
		result, err := h.mirror.Delete(ctx, config.Name, event.Deleted, at)
		return string(result), err
	case event.Recheck != "":
		return h.recheck(ctx, config, event.Recheck, at)
	}
	if userID := userOf(event); userID != "" && config.UserMirror() == clerkv1alpha1.UserMirrorMembers {
		if wanted, err := h.isWanted(ctx, config, userID, event); err != nil || !wanted {
			return resultNotMember, err
		}
	}
	if event.Subscription != nil {
		return h.storeBilling(ctx, config, received, event)
	}
	return h.storeObject(ctx, config, received, event)
}

// storeBilling merges a subscription into what is known of its payer, without the items that cannot be used.
func (h *Handler) storeBilling(
	ctx context.Context, config *clerkv1alpha1.ClerkInstance, received delivery, event *clerk.Event,
) (string, error) {
	result, err := h.mirror.ApplyBilling(ctx, config.Name, event.Subscription, nil)
	if invalid := event.Subscription.Invalid; err == nil && result != mirror.Stale && len(invalid) > 0 {
		logr.FromContextOrDiscard(ctx).Info("Left out items of a subscription that cannot be used", "items", len(invalid))
		h.failed(config.Name, received, event.Type, clerk.KindSubscriptionItem, invalid)
	}
	return string(result), err
}

// storeObject mirrors a user, an organization or a membership, without what the cluster cannot hold.
func (h *Handler) storeObject(
	ctx context.Context, config *clerkv1alpha1.ClerkInstance, received delivery, event *clerk.Event,
) (string, error) {
	source := clerk.Source{InstanceName: config.Name, Profile: config.UserProfile()}
	object := event.Object(source)
	if len(object.Dropped) > 0 {
		logr.FromContextOrDiscard(ctx).Info("Left out what the cluster could not hold", "id", object.ID, "fields", object.Dropped)
	}
	result, err := h.apply(ctx, config, event, object)
	if err != nil || result == mirror.Stale || result == mirror.Ignored {
		return string(result), err
	}
	h.failed(config.Name, received, event.Type, object.Kind, dropped(object))
	if event.Membership != nil {
		var parts []clerk.Invalid
		parts, err = h.storeOrganization(ctx, event.Membership.OrganizationObject(source))
		h.failed(config.Name, received, event.Type, clerk.KindOrganization, parts)
	}
	return string(result), err
}

// apply stores an object. What an event of an unknown type carries is also read from Clerk again where there is a Backend
// API: what the type says beyond the state is not known.
func (h *Handler) apply(
	ctx context.Context, config *clerkv1alpha1.ClerkInstance, event *clerk.Event, object *clerk.Object,
) (mirror.Result, error) {
	rechecks := event.UpdateOnly && config.HasBackendAPI()
	if rechecks {
		object.RequestResync()
	}
	result, err := h.mirror.Apply(ctx, object)
	if err == nil && rechecks && result == mirror.Ignored {
		// There is nothing to mark. A failure makes the next sync a full one, which reads what is missing here.
		err = &mirror.RefusedError{Reason: reasonUnknownEventType}
	}
	return result, err
}

// recheck has a membership read from Clerk that an event of an unknown type is about.
func (h *Handler) recheck(
	ctx context.Context, config *clerkv1alpha1.ClerkInstance, membershipID string, at time.Time,
) (string, error) {
	result := mirror.Ignored
	if config.HasBackendAPI() {
		var err error
		if result, err = h.mirror.RequestResync(ctx, config.Name, membershipID, at); err != nil {
			return "", err
		}
	}
	switch result {
	case mirror.Applied, mirror.Unchanged:
		return resultResync, nil
	case mirror.Stale:
		return string(result), nil
	case mirror.Ignored:
	}
	return "", &mirror.RefusedError{Reason: reasonUnknownEventType}
}

// userOf returns the user that an event is about or, where it is about a subscription, who pays for it; empty for none.
func userOf(event *clerk.Event) string {
	switch {
	case event.User != nil:
		return event.User.ID
	case event.Subscription != nil && event.Subscription.PayerKind == clerk.KindUser:
		return event.Subscription.PayerID
	}
	return ""
}

// isWanted reports whether a user is mirrored where only members are. A user whose membership comes later is read from the
// Backend API then. An event that takes access away is not dropped because the cache is behind.
func (h *Handler) isWanted(
	ctx context.Context, config *clerkv1alpha1.ClerkInstance, userID string, event *clerk.Event,
) (bool, error) {
	mirrored, err := h.mirror.Get(ctx, clerk.KindUser, config.Name, userID)
	if err != nil || mirrored != nil {
		return mirrored != nil, err
	}
	member, err := h.mirror.HasMembership(ctx, config.Name, userID)
	if err != nil || member || event.User == nil || !event.Object(clerk.Source{InstanceName: config.Name}).Suspended() {
		return member, err
	}
	return h.mirror.IsMember(ctx, config.Name, userID)
}

// storeOrganization mirrors an unknown organization from a membership's event: its own event may never arrive. A stale
// event is not believed about it, as the organization may be gone, too. That it cannot be stored is no reason to refuse
// the membership, and is returned, as is what of it cannot be.
func (h *Handler) storeOrganization(ctx context.Context, organization *clerk.Object) ([]clerk.Invalid, error) {
	if organization == nil {
		return nil, nil
	}
	result, err := h.mirror.ApplyIfMissing(ctx, organization)
	if refused := new(mirror.RefusedError); errors.As(err, &refused) {
		return []clerk.Invalid{{ID: organization.ID, Reason: refused.Reason}}, nil
	}
	if err != nil || result != mirror.Applied {
		return nil, err
	}
	return dropped(organization), nil
}

// noteEvent records that an event arrived, and how late.
func (h *Handler) noteEvent(instanceName string, event *clerk.Event) {
	now := h.clock.Now()
	h.metrics.lastEvent.WithLabelValues(instanceName).Set(float64(now.UnixMilli()) / 1000)
	if !event.Time.IsZero() {
		h.metrics.lag.WithLabelValues(instanceName).Observe(max(0, now.Sub(event.Time).Seconds()))
		h.report.Event(instanceName, event.Time)
	}
}

// noPayer asks for an event to be sent again that came before its payer did, as those of a new organization may. Who is
// still not there after a while may never be, and an endpoint must not fail for that.
func (h *Handler) noPayer(ctx context.Context, out outcome, received delivery, event *clerk.Event, err error) outcome {
	if h.clock.Since(event.Time) >= payerPatience {
		return h.unusable(ctx, out, received, event, err)
	}
	logr.FromContextOrDiscard(ctx).V(1).Info("Asked for an event to be sent again, since its payer is not mirrored")
	out.code, out.result = http.StatusServiceUnavailable, resultNoPayer
	return out
}

// unusable acknowledges what no retry can mend, and leaves a trace of it.
func (h *Handler) unusable(ctx context.Context, out outcome, received delivery, event *clerk.Event, err error) outcome {
	reason := clerk.ReasonOf(err)
	var refused *mirror.RefusedError
	switch {
	case errors.Is(err, mirror.ErrNoPayer):
		reason = reasonPayerNotMirrored
	case errors.As(err, &refused):
		reason = refused.Reason
	}
	kind, id := event.Subject()
	logr.FromContextOrDiscard(ctx).Info("Acknowledged an event that cannot be used", "id", id, "reason", reason)
	h.failed(out.instance, received, out.event, kind, []clerk.Invalid{{ID: id, Reason: reason}})
	out.result = resultUnusable
	return out
}

// maxNamed is how many parts of one event are named: one event must not fill the list of all.
const maxNamed = 5

// failed counts an event, or parts of one, that cannot be used, and leaves a trace where people look.
func (h *Handler) failed(instanceName string, received delivery, eventType string, kind clerk.Kind, parts []clerk.Invalid) {
	for i, part := range parts {
		h.metrics.failures.WithLabelValues(instanceName, part.Reason).Inc()
		if i < maxNamed {
			h.name(instanceName, received, eventType, kind, part)
		}
	}
}

// dropped is what of an object the cluster cannot hold.
func dropped(o *clerk.Object) []clerk.Invalid {
	parts := make([]clerk.Invalid, len(o.Dropped))
	for i, field := range o.Dropped {
		parts[i] = clerk.Invalid{ID: o.ID, Reason: clerk.NotStored(field)}
	}
	return parts
}

// name reports what of a delivery could not be used. The kind is told where the ID names one of it.
func (h *Handler) name(instanceName string, received delivery, eventType string, kind clerk.Kind, invalid clerk.Invalid) {
	failure := clerkv1alpha1.DeliveryFailure{
		MessageID: received.messageID,
		Type:      typeForPeople(eventType),
		Reason:    invalid.Reason,
		Time:      metav1.NewTime(h.clock.Now()),
	}
	if invalid.ID != "" {
		failure.Kind, failure.ID = kind.ObjectKind(), invalid.ID
	}
	h.report.Failure(instanceName, failure)
}

// refuse answers what is not proven to be Clerk's.
func (h *Handler) refuse(instanceName string, err error) outcome {
	out := outcome{code: http.StatusBadRequest, result: resultInvalid, instance: instanceName}
	switch reason, isUnverified := errors.AsType[verificationError](err); {
	case isUnverified:
		out.result = resultUnverified
		h.metrics.verifications.WithLabelValues(instanceName, string(reason)).Inc()
		h.sayUnverified.Do(func() {
			h.log.Info("Refused a delivery that is not proven to be Clerk's", "instance", instanceName, "reason", string(reason))
		})
	case errors.Is(err, errTooLarge):
		out.code, out.result = http.StatusRequestEntityTooLarge, resultTooLarge
	case errors.Is(err, errTooSlow):
		out.code, out.result = http.StatusRequestTimeout, resultTooSlow
	case errors.Is(err, errCut):
		out.code, out.result = http.StatusServiceUnavailable, resultCut
		h.sayCut.Do(func() {
			h.log.Info("Cut the body that was arriving longest, since unverified bodies hold all the memory that they may",
				"instance", instanceName, "bytes", h.bodies.budget)
		})
	}
	return out
}

func (h *Handler) notConfigured(instanceName, why string) outcome {
	h.sayNotConfigured.Do(func() {
		h.log.Error(errors.New(why), "No usable signing secret; deliveries are answered with 500", "instance", instanceName)
	})
	return outcome{code: http.StatusInternalServerError, result: resultNotConfigured, instance: instanceName}
}

func (h *Handler) unavailable(instanceName, eventType string, err error) outcome {
	h.sayUnavailable.Do(func() {
		h.log.Error(err, "Could not store an event; the sender will try again", "instance", instanceName,
			"type", typeForPeople(eventType))
	})
	return outcome{
		code: http.StatusServiceUnavailable, result: resultUnavailable, instance: instanceName, event: eventType,
	}
}

// instanceName returns the instance that a path stands for.
func instanceName(path string) (string, bool) {
	rest, ok := strings.CutPrefix(path, clerkv1alpha1.WebhookPath)
	if !ok {
		return "", false
	}
	if rest = strings.TrimSuffix(rest, "/"); rest == "" {
		return clerkv1alpha1.DefaultInstanceName, true
	}
	name := strings.TrimPrefix(rest, "/")
	return name, len(name) == len(rest)-1 && name != "" && !strings.Contains(name, "/")
}

// typeForPeople bounds a type that the catalogue does not know, for logs and status.
func typeForPeople(eventType string) string {
	if catalogue[eventType] {
		return eventType
	}
	clean := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '.' || r == '_' || r == '-' {
			return r
		}
		return -1
	}, eventType)
	return clean[:min(len(clean), 64)]
}
