// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package backfill

import (
	"context"
	"errors"

	"sigs.k8s.io/controller-runtime/pkg/log"

	clerkv1alpha1 "github.com/clerk-operator/clerk-operator/api/v1alpha1"
	"github.com/clerk-operator/clerk-operator/internal/clerk"
	"github.com/clerk-operator/clerk-operator/internal/clerkapi"
	"github.com/clerk-operator/clerk-operator/internal/mirror"
)

// Refresh reads one mirrored object anew and stores what Clerk says of it: that it is gone only if that is proven and the
// secret key is the pinned instance's. It returns whether there was anything to say.
func (s *Syncer) Refresh(
	ctx context.Context, config *clerkv1alpha1.ClerkInstance, api *clerkapi.Client, o mirror.Object,
) (bool, error) {
	prover := newProver(api, false)
	verdict, present, err := prover.prove(ctx, o, source(config))
	if err == nil {
		err = prover.malformed() // of what is asked for alone there is nothing else to go on with
	}
	if err != nil {
		return false, err
	}
	switch {
	case present != nil:
		if err := s.storePresent(ctx, present); err != nil {
			return false, err
		}
		return true, s.refreshBilling(ctx, config, api, present)
	case verdict == unproven, verdict == unjudged, config.PinnedInstanceID() == "":
		return false, nil
	}
	if _, err := Verify(ctx, api, config.PinnedInstanceID()); err != nil {
		return false, err
	}
	_, err = s.mirror.Delete(ctx, config.Name, o.GetClerkID(), s.clock.Now())
	return true, ignoreRefused(err)
}

// refreshBilling reads the plan of a payer anew. One whose object is not there, or not any more, has none.
func (s *Syncer) refreshBilling(
	ctx context.Context, config *clerkv1alpha1.ClerkInstance, api *clerkapi.Client, o *clerk.Object,
) error {
	if o.Kind == clerk.KindMembership {
		return nil
	}
	subscription, err := api.Subscription(ctx, o.Kind, o.ID)
	if errors.Is(err, clerkapi.ErrMalformed) {
		log.FromContext(ctx).Info("Skipped the plan of a user or an organization, which Clerk describes in a way that cannot be used",
			"id", o.ID)
		return nil
	}
	if err != nil || subscription == nil {
		return err
	}
	_, err = s.mirror.ApplyBilling(ctx, config.Name, subscription, nil)
	if errors.Is(err, mirror.ErrNoPayer) {
		return nil
	}
	return ignoreRefused(err)
}

// FetchUser mirrors a user who is a member and is not mirrored. One who does not exist is left to the next sync.
func (s *Syncer) FetchUser(
	ctx context.Context, config *clerkv1alpha1.ClerkInstance, api *clerkapi.Client, userID string,
) error {
	user, readAt, err := api.User(ctx, userID)
	if clerkapi.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	from := source(config)
	from.EventTime = readAt
	present := user.Object(from)
	if err := s.storePresent(ctx, present); err != nil {
		return err
	}
	return s.refreshBilling(ctx, config, api, present)
}

// storePresent writes a state that was read for its own sake.
func (s *Syncer) storePresent(ctx context.Context, o *clerk.Object) error {
	difference, err := s.mirror.Compare(ctx, o, nil)
	if err != nil || difference == mirror.Same || difference == mirror.Dead {
		return err
	}
	_, err = s.mirror.Apply(ctx, o)
	if refused := new(mirror.RefusedError); errors.As(err, &refused) {
		log.FromContext(ctx).Info("The cluster cannot hold an object of Clerk", "id", o.ID, "reason", refused.Reason)
	}
	return ignoreRefused(err)
}

func source(config *clerkv1alpha1.ClerkInstance) clerk.Source {
	return clerk.Source{InstanceName: config.Name, Profile: config.UserProfile()}
}

// ignoreRefused passes every error but that the cluster cannot hold a state, which no retry mends.
func ignoreRefused(err error) error {
	if refused := new(mirror.RefusedError); errors.As(err, &refused) || errors.Is(err, mirror.ErrTerminating) {
		return nil
	}
	return err
}
