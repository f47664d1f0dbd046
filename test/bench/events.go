// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/client"

	clerkv1alpha1 "github.com/clerk-operator/clerk-operator/api/v1alpha1"
	"github.com/clerk-operator/clerk-operator/internal/clerk"
	"github.com/clerk-operator/clerk-operator/internal/delivery"
	"github.com/clerk-operator/clerk-operator/internal/mirror"
	"github.com/clerk-operator/clerk-operator/test/payload"
)

// source is what the ClerkInstance of the sample makes of an event.
var source = clerk.Source{InstanceName: clerkv1alpha1.DefaultInstanceName, Profile: clerkv1alpha1.UserProfileFull}

// history is a Clerk application as a scenario plays it, at a time that moves on with every event.
type history struct {
	now time.Time
}

func newHistory() *history {
	return &history{now: time.Now().Add(-24 * time.Hour).Truncate(time.Millisecond)}
}

// tick lets a little time pass in Clerk.
func (h *history) tick() time.Time {
	h.now = h.now.Add(time.Millisecond)
	return h.now
}

// newUser is somebody who signs up.
func (h *history) newUser() payload.User {
	return payload.User{
		ID: payload.NewID("user"), Email: "someone@example.com", Username: "someone", FirstName: "Some", LastName: "One",
		CreatedAt: h.tick(), UpdatedAt: h.now, PublicMetadata: map[string]any{"plan": "free"},
	}
}

// message is the delivery of something that happens now.
func (h *history) message(eventType string, data map[string]any) (delivery.Message, error) {
	body, err := delivery.Event{Type: eventType, Time: h.tick(), Data: data}.Body()
	return delivery.NewMessage(body), err
}

// desired is what a message asks for, as the operator decodes it.
func desired(m delivery.Message) (*clerk.Object, error) {
	event, err := clerk.Decode(m.Body)
	if err != nil {
		return nil, fmt.Errorf("decoding an event: %w", err)
	}
	return event.Object(source), nil
}

// applyRaw makes the one write that a message comes to.
func applyRaw(ctx context.Context, c client.Writer, o *clerk.Object) error {
	if err := c.Apply(ctx, o.Apply, client.FieldOwner(mirror.FieldOwner), client.ForceOwnership); err != nil {
		return fmt.Errorf("applying %s: %w", o.ID, err)
	}
	return nil
}

// applyAll makes the writes of messages with the raw client, where nobody takes the time.
func applyAll(ctx context.Context, c client.Writer, messages []delivery.Message) error {
	const atOnce = 16
	return drive(ctx, len(messages), atOnce, func(ctx context.Context, i int) error {
		o, err := desired(messages[i])
		if err != nil {
			return err
		}
		return applyRaw(ctx, c, o)
	})
}

// signed is a message with the headers of an attempt at it.
type signed struct {
	delivery.Message
	header http.Header
}

// sign signs messages as of now.
func sign(messages []delivery.Message) ([]signed, error) {
	result := make([]signed, 0, len(messages))
	for _, m := range messages {
		header, err := delivery.Sign(signingSecret, m, time.Now())
		if err != nil {
			return nil, err
		}
		result = append(result, signed{m, header})
	}
	return result, nil
}

// newSender returns a sender to the running manager that keeps its connections.
func (w *world) newSender(atOnce int) delivery.Sender {
	return w.newSenderOver(&http.Transport{MaxIdleConnsPerHost: atOnce, MaxIdleConns: atOnce})
}

func (w *world) newSenderOver(transport *http.Transport) delivery.Sender {
	return delivery.Sender{
		Client: &http.Client{Transport: transport, Timeout: 15 * time.Second},
		URL:    w.manager.URL + clerkv1alpha1.WebhookPath, Secret: signingSecret,
	}
}

// post makes one attempt at a message, which must be acknowledged with the result.
func post(ctx context.Context, sender delivery.Sender, m signed, want mirror.Result) error {
	answer, err := sender.PostWith(ctx, m.Message, m.header)
	if err != nil {
		return err
	}
	if body := answerOf(want); answer.Code != http.StatusOK || answer.Body != body {
		return fmt.Errorf("a delivery was answered with %d %s, want %s", answer.Code, answer.Body, body)
	}
	return nil
}

// answerOf is the body of the answer to a delivery with a result.
func answerOf(result mirror.Result) string { return `{"result":"` + string(result) + `"}` + "\n" }
