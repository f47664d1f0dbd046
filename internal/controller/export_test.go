// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"context"
	"errors"

	"sigs.k8s.io/controller-runtime/pkg/client"

	clerkv1alpha1 "github.com/clerk-operator/clerk-operator/api/v1alpha1"
)

// IsCurrent says whether an organization and its instance are as the cache has them.
func IsCurrent(
	ctx context.Context, live client.Reader, cached *clerkv1alpha1.ClerkOrganization, config *clerkv1alpha1.ClerkInstance,
) (bool, error) {
	err := (&tenancy{base: base{live: live}}).ensureCurrent(ctx, cached, config)
	if errors.Is(err, errBehind) {
		return false, nil
	}
	return err == nil, err
}
