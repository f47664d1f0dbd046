// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package instance

import (
	"context"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	clerkv1alpha1 "github.com/clerk-operator/clerk-operator/api/v1alpha1"
)

// SecretKey returns the secret key of an instance's Backend API, or what is wrong with it. The error is the reader's.
func (r *Resolver) SecretKey(ctx context.Context, instance *clerkv1alpha1.ClerkInstance) (string, *Problem, error) {
	ref := instance.Spec.BackendAPI.SecretKeyRef
	problem := func(reason string) *Problem {
		return &Problem{Source: fmt.Sprintf("key %q of Secret %s/%s", ref.Key, r.namespace, ref.Name), Reason: reason}
	}
	var secret corev1.Secret
	err := r.reader.Get(ctx, client.ObjectKey{Namespace: r.namespace, Name: ref.Name}, &secret)
	if apierrors.IsNotFound(err) {
		return "", problem("the Secret does not exist"), nil
	}
	if err != nil {
		return "", nil, fmt.Errorf("reading Secret %s/%s: %w", r.namespace, ref.Name, err)
	}
	value, ok := secret.Data[ref.Key]
	if !ok {
		return "", problem("the Secret has no such key"), nil
	}
	key := strings.TrimSpace(string(value))
	if reason := misusedKey(key); reason != "" {
		return "", problem(reason), nil
	}
	return key, nil, nil
}

// misusedKey says what is wrong with a secret key that Clerk need not be asked about. It never shows any of it.
func misusedKey(key string) string {
	switch {
	case key == "":
		return "it is empty; copy the secret key (sk_live_… or sk_test_…) from Clerk's dashboard"
	case strings.ContainsAny(key, `"'`):
		return "it is in quotes; store the secret key (sk_live_… or sk_test_…) without them"
	case strings.HasPrefix(key, secretPrefix):
		return "it is a webhook's signing secret (whsec_…); the secret key begins with sk_live_ or sk_test_"
	case strings.HasPrefix(key, "pk_"):
		return "it is the publishable key (pk_…); the secret key begins with sk_live_ or sk_test_"
	case strings.ContainsFunc(key, func(c rune) bool { return c <= ' ' || c > '~' }):
		return "it has characters that no secret key has; copy it again from Clerk's dashboard"
	case !strings.HasPrefix(key, "sk_"):
		// What is no secret key of Clerk is nothing that Clerk, or whoever url names, should be sent.
		return "it is no secret key of Clerk, which begins with sk_live_ or sk_test_"
	}
	return ""
}
