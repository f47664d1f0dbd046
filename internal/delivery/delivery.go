// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package delivery makes, signs and posts webhook deliveries as Svix does for Clerk: for people who try the receiver by
// hand, for the demo, for tests and for benchmarks. The operator itself does not use it.
package delivery

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	svix "github.com/svix/svix-webhooks/go"
)

// Event is the body of a delivery: the envelope that Clerk puts around an object.
type Event struct {
	Type string
	// InstanceID is the Clerk instance that made the event (ins_…); it may be empty.
	InstanceID string
	// Time is when the event was made; zero is now.
	Time time.Time
	// Data is the object, as JSON or as something that encodes to it.
	Data any
}

// Body returns the event as Clerk sends it.
func (e Event) Body() ([]byte, error) {
	at := e.Time
	if at.IsZero() {
		at = time.Now()
	}
	envelope := map[string]any{"object": "event", "type": e.Type, "timestamp": at.UnixMilli(), "data": e.Data}
	if e.InstanceID != "" {
		envelope["instance_id"] = e.InstanceID
	}
	body, err := json.Marshal(envelope)
	if err != nil {
		return nil, fmt.Errorf("encoding the event: %w", err)
	}
	return body, nil
}

// Message is a delivery: the same message ID at every attempt.
type Message struct {
	ID   string
	Body []byte
}

// NewMessage returns a message with a new ID.
func NewMessage(body []byte) Message {
	return Message{ID: "msg_" + rand.Text(), Body: body}
}

// Sign returns the headers of an attempt at a message at a time.
func Sign(secret string, m Message, at time.Time) (http.Header, error) {
	signer, err := svix.NewWebhook(secret)
	if err != nil {
		return nil, fmt.Errorf("reading the signing secret: %w", err)
	}
	signature, err := signer.Sign(m.ID, at, m.Body)
	if err != nil {
		return nil, fmt.Errorf("signing: %w", err)
	}
	header := http.Header{}
	header.Set("Content-Type", "application/json")
	header.Set("User-Agent", "Svix-Webhooks/clerk-operator-test")
	header.Set("svix-id", m.ID)
	header.Set("svix-timestamp", strconv.FormatInt(at.Unix(), 10))
	header.Set("svix-signature", signature)
	return header, nil
}

// Answer is what a receiver answered.
type Answer struct {
	Code   int
	Header http.Header
	Body   string
}

// Delivered says whether Svix would count the attempt as a success.
func (a Answer) Delivered() bool { return a.Code >= 200 && a.Code < 300 }

// Sender posts messages to one URL.
type Sender struct {
	// Client posts; it must not follow redirects, as Svix does not. Nil is a client of 15 s.
	Client *http.Client
	URL    string
	Secret string
}

// Post makes one attempt at a message, signed now.
func (s Sender) Post(ctx context.Context, m Message) (Answer, error) {
	header, err := Sign(s.Secret, m, time.Now())
	if err != nil {
		return Answer{}, err
	}
	return s.PostWith(ctx, m, header)
}

// PostWith makes one attempt at a message with the given headers.
func (s Sender) PostWith(ctx context.Context, m Message, header http.Header) (Answer, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, s.URL, bytes.NewReader(m.Body))
	if err != nil {
		return Answer{}, fmt.Errorf("building the request: %w", err)
	}
	request.Header = header
	client := s.Client
	if client == nil {
		client = &http.Client{Timeout: 15 * time.Second, CheckRedirect: func(*http.Request, []*http.Request) error {
			return http.ErrUseLastResponse
		}}
	}
	response, err := client.Do(request)
	if err != nil {
		return Answer{}, fmt.Errorf("posting: %w", err)
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(response.Body, 1<<20))
	if err != nil {
		return Answer{}, fmt.Errorf("reading the answer: %w", err)
	}
	return Answer{Code: response.StatusCode, Header: response.Header, Body: string(body)}, nil
}

// Deliver posts a message until it is delivered or the context ends, as Svix does, with the pause in between.
func (s Sender) Deliver(ctx context.Context, m Message, pause time.Duration) (Answer, error) {
	for {
		answer, err := s.Post(ctx, m)
		if err == nil && answer.Delivered() {
			return answer, nil
		}
		select {
		case <-ctx.Done():
			return answer, fmt.Errorf("not delivered (last code %d): %w", answer.Code, context.Cause(ctx))
		case <-time.After(pause):
		}
	}
}
