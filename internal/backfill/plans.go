// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package backfill

import (
	"context"
	"errors"

	"golang.org/x/sync/errgroup"
	"sigs.k8s.io/controller-runtime/pkg/log"

	clerkv1alpha1 "github.com/clerk-operator/clerk-operator/api/v1alpha1"
	"github.com/clerk-operator/clerk-operator/internal/clerk"
	"github.com/clerk-operator/clerk-operator/internal/clerkapi"
	"github.com/clerk-operator/clerk-operator/internal/mirror"
)

// plansCursor is where a listing of plans is.
type plansCursor struct {
	// first is the first item of the page before that tells of a plan, or cannot be used.
	first string
	// steppedBack is how often the listing shifted.
	steppedBack int
}

// readPlans reads a page of the items of all subscriptions. It comes after everything else, and what goes wrong with it is
// told and holds nothing up: users, organizations and memberships do not need it. Nothing is taken for gone here, an item
// that is not listed stays as it is.
func (s *Syncer) readPlans(ctx context.Context, run *Run) (Next, error) {
	end, err := s.listPlans(ctx, run)
	if ctx.Err() != nil {
		return Next{}, err
	}
	if of := new(clerkapi.Error); errors.As(err, &of) {
		run.outcome.PlansUnread = of.Summary()
		return Next{Done: true}, nil
	}
	for _, listing := range []error{ErrListingRepeats, ErrListingEnds, clerkapi.ErrMalformed} {
		if errors.Is(err, listing) {
			run.outcome.PlansUnread = listing.Error()
			return Next{Done: true}, nil
		}
	}
	return Next{Done: end}, err
}

// listPlans merges a page into what is known of its payers, and says whether it was the last one.
func (s *Syncer) listPlans(ctx context.Context, run *Run) (end bool, err error) {
	progress := &run.Progress
	page, err := run.api.SubscriptionItems(ctx, int(progress.Offset))
	if clerkapi.IsBillingOff(err) && progress.Offset == 0 {
		log.FromContext(ctx).V(1).Info("There are no plans to read", "answer", err.Error())
		return true, nil
	}
	if err != nil {
		return false, err
	}
	total, known := int64(page.Total), run.totals[clerkv1alpha1.SyncPlans]
	run.totals[clerkv1alpha1.SyncPlans] = total
	if total < known && progress.Offset > 0 && run.plans.steppedBack < maxStepsBack {
		// Items went, and others moved up to where nothing is read any more.
		run.plans.steppedBack++
		progress.Offset = max(0, progress.Offset-clerkapi.PageSize)
		run.plans.first = ""
		return false, nil
	}
	first := firstItem(page)
	switch {
	case len(page.Entries) == 0 && progress.Offset < total:
		return false, ErrListingEnds
	case first != "" && first == run.plans.first:
		return false, ErrListingRepeats
	}
	if err := s.storePlans(ctx, run, page.Items); err != nil {
		return false, err
	}
	run.plans.first = first
	run.SkipInvalid(ctx, clerk.KindSubscriptionItem, page.Entries)
	run.count(int64(len(page.Entries)))
	if first == "" && len(page.Items) == 0 {
		run.blankPages++
	}
	return progress.Offset >= total || run.blankPages > maxBlankPages, nil
}

// firstItem is what tells a page from the one before; empty when none of its items has a plan or just an ID. An item that
// can be used and has no plan says nothing, and there may be the same ones on a page again.
func firstItem(page clerkapi.Page[*clerk.Subscription]) string {
	usable := page.Items
	for _, entry := range page.Entries {
		if entry.Reason != "" {
			if entry.ID != "" {
				return entry.ID
			}
			continue
		}
		if len(usable[0].Items) > 0 {
			return usable[0].Items[0].ItemID
		}
		usable = usable[1:]
	}
	return ""
}

// storePlans merges items into what is known of their payers.
func (s *Syncer) storePlans(ctx context.Context, run *Run, items []*clerk.Subscription) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(writers)
	for _, subscription := range byPayer(items) {
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
	if wanted, err := s.isMember(ctx, run, subscription.PayerKind, subscription.PayerID); err != nil || !wanted {
		return err
	}
	result, err := s.mirror.ApplyBilling(ctx, run.config.Name, subscription, run.listed)
	switch {
	case errors.Is(err, mirror.ErrNoPayer):
	case err != nil:
		return run.pass(ctx, subscription.PayerKind, subscription.PayerID, err)
	case result == mirror.Applied:
		s.metrics.wrotePlan(run, subscription.PayerKind)
	}
	return nil
}
