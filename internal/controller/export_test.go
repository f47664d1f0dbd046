// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	clerkv1alpha1 "github.com/clerk-operator/clerk-operator/api/v1alpha1"
)

// Adoptable is what an organization would adopt that looks like this in the cache.
func Adoptable(ctx context.Context, live client.Reader, cached *clerkv1alpha1.ClerkOrganization) (*corev1.Namespace, error) {
	return (&tenancy{base: base{live: live}}).adoptable(ctx, cached)
}

// IsCurrent says whether an organization and its instance are as the cache has them.
func IsCurrent(
	ctx context.Context, live client.Reader, cached *clerkv1alpha1.ClerkOrganization, config *clerkv1alpha1.ClerkInstance,
) (bool, error) {
	return (&tenancy{base: base{live: live}}).isCurrent(ctx, cached, config)
}
