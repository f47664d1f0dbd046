// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package instance finds the configuration of a Clerk application: its ClerkInstance, or what stands for it in a first
// run without any, and the signing secrets that verify its deliveries.
package instance

import (
	"context"
	"errors"
	"fmt"
	"strings"

	svix "github.com/svix/svix-webhooks/go"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	clerkv1alpha1 "github.com/clerk-operator/clerk-operator/api/v1alpha1"
)

var (
	// ErrNotFound says that no ClerkInstance has the name.
	ErrNotFound = errors.New("no ClerkInstance has this name")
	// ErrNotConfigured says that the default instance is asked for and nothing at all is configured: there is no
	// ClerkInstance and CLERK_WEBHOOK_SECRET is not set.
	ErrNotConfigured = errors.New("there is no ClerkInstance and CLERK_WEBHOOK_SECRET is not set")
)

// Resolver finds instances. It only reads, from the manager's cache.
type Resolver struct {
	reader    client.Reader
	namespace string
	// environment is CLERK_WEBHOOK_SECRET: signing secrets separated by white space.
	environment string
}

// NewResolver returns a resolver that reads ClerkInstances, and Secrets in the operator's namespace. The environment
// holds the signing secrets of the default instance for as long as there is no ClerkInstance at all.
func NewResolver(reader client.Reader, namespace, environment string) *Resolver {
	return &Resolver{reader: reader, namespace: namespace, environment: environment}
}

// Get returns the instance with the name. Without any ClerkInstance in the cluster the default instance is one with
// every field at its default, if the environment holds its secret. The errors are ErrNotFound, ErrNotConfigured, or
// those of the reader.
func (r *Resolver) Get(ctx context.Context, name string) (*clerkv1alpha1.ClerkInstance, error) {
	var instance clerkv1alpha1.ClerkInstance
	err := r.reader.Get(ctx, client.ObjectKey{Name: name}, &instance)
	if err == nil {
		return &instance, nil
	}
	if !apierrors.IsNotFound(err) {
		return nil, fmt.Errorf("reading ClerkInstance %q: %w", name, err)
	}
	if name != clerkv1alpha1.DefaultInstanceName {
		return nil, ErrNotFound
	}
	var all clerkv1alpha1.ClerkInstanceList
	if err := r.reader.List(ctx, &all, client.Limit(1)); err != nil {
		return nil, fmt.Errorf("listing ClerkInstances: %w", err)
	}
	switch {
	case len(all.Items) > 0:
		return nil, ErrNotFound
	case strings.TrimSpace(r.environment) == "":
		return nil, ErrNotConfigured
	}
	return &clerkv1alpha1.ClerkInstance{ObjectMeta: metav1.ObjectMeta{Name: name}}, nil
}

// Problem is a signing secret that cannot be used.
type Problem struct {
	// Source says where the secret is: a Secret and its key, or the environment variable.
	Source string
	// Reason says in a sentence what is wrong with it, and never shows any of it.
	Reason string
}

func (p Problem) String() string { return p.Source + ": " + p.Reason }

// Describe puts problems into one sentence.
func Describe(problems []Problem) string {
	described := make([]string, 0, len(problems))
	for _, problem := range problems {
		described = append(described, problem.String())
	}
	return strings.Join(described, "; ")
}

// Verifiers returns one verifier for each usable signing secret of an instance that Get returned, and what is wrong
// with the others. The error is the reader's.
func (r *Resolver) Verifiers(
	ctx context.Context, instance *clerkv1alpha1.ClerkInstance,
) (verifiers []*svix.Webhook, problems []Problem, err error) {
	collect := func(source, secret string) {
		verifier, reason := newVerifier(secret)
		if verifier == nil {
			problems = append(problems, Problem{Source: source, Reason: reason})
			return
		}
		verifiers = append(verifiers, verifier)
	}
	if implicit := instance.UID == ""; implicit {
		for secret := range strings.FieldsSeq(r.environment) {
			collect("CLERK_WEBHOOK_SECRET", secret)
		}
		return verifiers, problems, nil
	}
	for _, ref := range instance.Spec.Webhook.SigningSecrets {
		source := fmt.Sprintf("key %q of Secret %s/%s", ref.Key, r.namespace, ref.Name)
		var secret corev1.Secret
		err := r.reader.Get(ctx, client.ObjectKey{Namespace: r.namespace, Name: ref.Name}, &secret)
		if apierrors.IsNotFound(err) {
			problems = append(problems, Problem{Source: source, Reason: "the Secret does not exist"})
			continue
		}
		if err != nil {
			return nil, nil, fmt.Errorf("reading Secret %s/%s: %w", r.namespace, ref.Name, err)
		}
		value, ok := secret.Data[ref.Key]
		if !ok {
			problems = append(problems, Problem{Source: source, Reason: "the Secret has no such key"})
			continue
		}
		collect(source, string(value))
	}
	return verifiers, problems, nil
}
