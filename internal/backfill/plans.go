// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package backfill

import (
	"context"
	"errors"
	"slices"

	"golang.org/x/sync/errgroup"
	"sigs.k8s.io/controller-runtime/pkg/log"

	clerkv1alpha1 "github.com/clerk-operator/clerk-operator/api/v1alpha1"
	"github.com/clerk-operator/clerk-operator/internal/clerk"
	"github.com/clerk-operator/clerk-operator/internal/clerkapi"
	"github.com/clerk-operator/clerk-operator/internal/mirror"
)

// readPlans reads a page of the items of all subscriptions, and at last stores what was too young to be judged. It comes
// after the deletions, which billing must not be able to hold up. Nothing is taken for gone here: an item that is not
// listed stays as it is.
func (s *Syncer) readPlans(ctx context.Context, run *Run) (Next, error) {
	if run.expectsPlans == nil {
		expected, err := s.arePlansTold(ctx, run)
		if err != nil {
			return Next{}, err
		}
		run.expectsPlans = &expected
	}
	if !run.plansListed {
		return Next{}, s.listPlans(ctx, run)
	}
	if wait := run.listedAt.Add(settleTime).Sub(s.clock.Now()); wait > 0 && len(run.youngPlans) > 0 {
		return Next{After: wait}, nil
	}
	for ; len(run.youngPlans) > 0; run.youngPlans = run.youngPlans[1:] {
		if err := s.storePlan(ctx, run, run.youngPlans[0]); err != nil {
			return Next{}, err
		}
	}
	return Next{Done: true}, nil
}

// arePlansTold says whether any plan was learned from an event. Where none was, the endpoint is not subscribed to those of
// Clerk Billing, and nothing that a sync reads of plans is missing there.
func (s *Syncer) arePlansTold(ctx context.Context, run *Run) (bool, error) {
	if !run.judging() {
		return false, nil
	}
	for _, kind := range []clerk.Kind{clerk.KindOrganization, clerk.KindUser} {
		objects, err := s.mirror.List(ctx, kind, run.config.Name)
		if err != nil {
			return false, err
		}
		if slices.ContainsFunc(objects, func(o mirror.Object) bool { return clerk.Told(mirror.BillingOf(o)) }) {
			return true, nil
		}
	}
	return false, nil
}

func (s *Syncer) listPlans(ctx context.Context, run *Run) error {
	page, err := run.api.SubscriptionItems(ctx, int(run.Progress.Offset))
	if clerkapi.IsBillingOff(err) {
		log.FromContext(ctx).V(1).Info("There are no plans to read", "answer", err.Error())
		run.plansListed = true
		return nil
	}
	if err != nil {
		return err
	}
	total := int64(page.Total)
	if total < run.totals[clerkv1alpha1.SyncPlans] && run.steppedBack < maxStepsBack {
		// Items went, and others moved up to where nothing is read any more.
		run.steppedBack++
		run.Progress.Offset = max(0, run.Progress.Offset-clerkapi.PageSize)
		run.totals[clerkv1alpha1.SyncPlans] = total
		return nil
	}
	run.totals[clerkv1alpha1.SyncPlans] = total
	if err := s.storePlans(ctx, run, page); err != nil {
		return err
	}
	run.count(int64(page.Listed))
	run.listedAt = s.clock.Now()
	run.plansListed = page.Listed == 0 || run.Progress.Offset >= total
	return nil
}

// storePlans merges a page into what is known of its payers. Those whose items changed a moment ago wait for the webhook.
func (s *Syncer) storePlans(ctx context.Context, run *Run, page clerkapi.Page[*clerk.Subscription]) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(writers)
	for _, subscription := range byPayer(page.Items) {
		isYoung := slices.ContainsFunc(subscription.Items, func(item clerkv1alpha1.BillingItem) bool {
			return item.UpdatedAt.After(page.ReadAt.Add(-settleTime))
		})
		if *run.expectsPlans && isYoung && !page.ReadAt.IsZero() {
			run.youngPlans = append(run.youngPlans, subscription)
			continue
		}
		group.Go(func() error { return s.storePlan(ctx, run, subscription) })
	}
	return group.Wait()
}

// byPayer returns one subscription for each payer, in the order in which they first appear.
func byPayer(items []*clerk.Subscription) []*clerk.Subscription {
	of := map[string]*clerk.Subscription{}
	var payers []*clerk.Subscription
	for _, item := range items {
		if known := of[item.PayerID]; known != nil {
			known.Items = append(known.Items, item.Items...)
			continue
		}
		of[item.PayerID] = item
		payers = append(payers, item)
	}
	return payers
}

// storePlan merges items into what is known of a payer. One that is not mirrored has nothing to merge into.
func (s *Syncer) storePlan(ctx context.Context, run *Run, subscription *clerk.Subscription) error {
	if wanted, err := s.wanted(ctx, run, subscription.PayerKind, subscription.PayerID); err != nil || !wanted {
		return err
	}
	result, err := s.mirror.ApplyBilling(ctx, run.config.Name, subscription)
	refused := new(mirror.RefusedError)
	switch {
	case errors.Is(err, mirror.ErrNoPayer):
	case errors.As(err, &refused):
		log.FromContext(ctx).Info("The cluster cannot hold a plan of Clerk", "id", subscription.PayerID, "reason", refused.Reason)
		run.mu.Lock()
		defer run.mu.Unlock()
		run.outcome.Refused++
	case err != nil:
		return err
	case result == mirror.Applied:
		s.wrotePlan(run, subscription)
	}
	return nil
}

// wrotePlan counts an object whose plan was written.
func (s *Syncer) wrotePlan(run *Run, of *clerk.Subscription) {
	run.mu.Lock()
	isNew := !run.planned.Has(of.PayerID)
	run.planned.Insert(of.PayerID)
	run.mu.Unlock()
	if isNew && *run.expectsPlans {
		s.wrote(run, of.PayerKind, Updated)
	}
}
