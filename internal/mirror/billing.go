// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package mirror

import (
	"context"
	"errors"
	"fmt"

	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	clerkv1alpha1 "github.com/clerk-operator/clerk-operator/api/v1alpha1"
	clerkv1alpha1ac "github.com/clerk-operator/clerk-operator/api/v1alpha1/applyconfiguration/api/v1alpha1"
	"github.com/clerk-operator/clerk-operator/internal/clerk"
)

// BillingFieldOwner owns spec.billing of users and organizations, and nothing else.
const BillingFieldOwner = "clerk-operator/billing"

// ErrNoPayer says that the user or the organization that a subscription belongs to is not mirrored, at least not yet.
var ErrNoPayer = errors.New("the payer is not mirrored")

// payer is an object that can have a plan.
type payer interface {
	Object
	GetBilling() *clerkv1alpha1.Billing
}

// ApplyBilling adds what an event says of a payer's plan to what is known of it. It changes spec.billing and nothing
// else, and creates nothing. The API server does not guard the order here, as it does for Apply: what is stored is merged
// from what was read, and is written only to exactly that. What is listed, nil for nothing, confirms what the cache holds.
func (m *Mirror) ApplyBilling(
	ctx context.Context, instanceName string, s *clerk.Subscription, listed *Listed,
) (Result, error) {
	if dead, err := m.isDeleted(ctx, listed, instanceName, s.PayerID); err != nil || dead {
		return Stale, err
	}
	return m.onLatest(ctx, listed, s.PayerKind, instanceName, s.PayerID, func(stored Object) (Result, error) {
		return m.mergeBilling(ctx, s, stored)
	})
}

// mergeBilling merges into an object as it was read. A conflict says that it is no longer so.
func (m *Mirror) mergeBilling(ctx context.Context, s *clerk.Subscription, object Object) (Result, error) {
	stored, ok := object.(payer)
	switch {
	case !ok: // as for an object that is none at all
		return "", fmt.Errorf("applying the plan of %s: %w", s.PayerID, ErrNoPayer)
	case stored.GetClerkID() != s.PayerID:
		return "", nameTaken(s.PayerID)
	case !stored.GetDeletionTimestamp().IsZero():
		// What is written to it goes with it; if Clerk still has the payer, it comes back.
		return "", fmt.Errorf("applying the plan of %s, which is being deleted: %w", s.PayerID, ErrNoPayer)
	}
	merged := clerk.MergeBilling(stored.GetBilling(), s)
	if equality.Semantic.DeepEqual(*stored.GetBilling(), merged) {
		return Unchanged, nil
	}
	err := m.client.Apply(ctx, billingOf(stored, &merged), client.FieldOwner(BillingFieldOwner), client.ForceOwnership)
	switch {
	case refusesState(err):
		return "", &RefusedError{Reason: ReasonInvalid, cause: err}
	case apierrors.IsConflict(err):
		return "", err
	case err != nil:
		return "", fmt.Errorf("applying the plan of %s: %w", s.PayerID, err)
	}
	return Applied, nil
}

// billingOf is an object with its plan and nothing else; the UID and the resource version make it exactly the one that
// was read.
func billingOf(stored payer, billing *clerkv1alpha1.Billing) runtime.ApplyConfiguration {
	name, uid, version := stored.GetName(), stored.GetUID(), stored.GetResourceVersion()
	if _, ok := stored.(*clerkv1alpha1.ClerkUser); ok {
		return clerkv1alpha1ac.ClerkUser(name).WithUID(uid).WithResourceVersion(version).
			WithSpec(clerkv1alpha1ac.ClerkUserSpec().WithBilling(clerk.Billing(billing)))
	}
	return clerkv1alpha1ac.ClerkOrganization(name).WithUID(uid).WithResourceVersion(version).
		WithSpec(clerkv1alpha1ac.ClerkOrganizationSpec().WithBilling(clerk.Billing(billing)))
}
