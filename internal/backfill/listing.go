// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package backfill

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"
	"k8s.io/apimachinery/pkg/util/sets"
	"sigs.k8s.io/controller-runtime/pkg/log"

	clerkv1alpha1 "github.com/clerk-operator/clerk-operator/api/v1alpha1"
	"github.com/clerk-operator/clerk-operator/internal/clerk"
	"github.com/clerk-operator/clerk-operator/internal/clerkapi"
	"github.com/clerk-operator/clerk-operator/internal/mirror"
)

// writers is how many objects of a page are written side by side.
const writers = 8

// batch is a page of a listing in the terms of the mirror.
type batch struct {
	objects []*clerk.Object
	// from is the offset that was asked for; listed and total are the page's.
	from, listed, total int
	// unusable is how many of those that are listed cannot be mirrored.
	unusable int
	// last says that the listing ends here, whatever its total.
	last   bool
	readAt time.Time
}

// listing is how one stage's next page is read.
type listing func(ctx context.Context, run *Run) (batch, error)

var listings = map[clerkv1alpha1.ClerkInstanceSyncStage]listing{
	clerkv1alpha1.SyncOrganizations: listOrganizations,
	clerkv1alpha1.SyncMemberships:   listMemberships,
	clerkv1alpha1.SyncUsers:         listUsers,
}

// stages is what follows what. Memberships come before users, since where only members are mirrored they decide on them.
var stages = []clerkv1alpha1.ClerkInstanceSyncStage{
	clerkv1alpha1.SyncOrganizations, clerkv1alpha1.SyncMemberships, clerkv1alpha1.SyncUsers, clerkv1alpha1.SyncDeletions,
}

// order is oldest first where everything is read: then what is made meanwhile is at the end and moves nothing.
func (r *Run) order() clerkapi.Order {
	if r.full() {
		return clerkapi.OldestFirst
	}
	return clerkapi.NewestFirst
}

// from is where the next page by offset begins: with the last row of the page before, which tells whether rows that came
// before it went meanwhile and all others moved up.
func (r *Run) from() int { return max(0, int(r.Progress.Offset)-1) }

func listOrganizations(ctx context.Context, run *Run) (batch, error) {
	from := run.from()
	page, err := run.api.Organizations(ctx, run.order(), from)
	if clerkapi.IsOrganizationsOff(err) {
		return batch{last: true}, nil
	}
	if err != nil {
		return batch{}, err
	}
	b := newBatch(page, from)
	for _, organization := range page.Items {
		b.objects = append(b.objects, organization.Object(run.source(page.ReadAt)))
		b.last = b.last || run.known(organization.CreatedAt.Time)
	}
	return b, nil
}

func listMemberships(ctx context.Context, run *Run) (batch, error) {
	from := run.from()
	page, err := run.api.Memberships(ctx, run.order(), from)
	if clerkapi.IsOrganizationsOff(err) {
		return batch{last: true}, nil
	}
	if err != nil {
		return batch{}, err
	}
	b := newBatch(page, from)
	for _, membership := range page.Items {
		b.objects = append(b.objects, membership.Object(run.source(page.ReadAt)))
		b.last = b.last || run.known(membership.CreatedAt.Time)
		run.members.Insert(membership.PublicUserData.UserID)
	}
	return b, nil
}

func listUsers(ctx context.Context, run *Run) (batch, error) {
	var page clerkapi.Page[*clerk.User]
	var err error
	if run.full() {
		page, err = run.api.UsersAfter(ctx, run.Progress.After)
		if run.Progress.After != "" && !run.restarted && isGone(err) {
			// The user that the last page ended with is gone: from the beginning, then, once.
			run.restarted = true
			run.Progress.Done -= run.Progress.Offset
			run.Progress.After, run.Progress.Offset = "", 0
			run.seen[clerk.KindUser] = sets.New[string]()
			page, err = run.api.UsersAfter(ctx, "")
		}
	} else {
		page, err = run.api.Users(ctx, clerkapi.LastModifiedFirst, int(run.Progress.Offset))
	}
	if err != nil {
		return batch{}, err
	}
	b := newBatch(page, int(run.Progress.Offset))
	b.last = page.Listed < clerkapi.PageSize
	for _, user := range page.Items {
		b.objects = append(b.objects, user.Object(run.source(page.ReadAt)))
		b.last = b.last || run.known(user.UpdatedAt.Time)
	}
	return b, nil
}

// known says whether an incremental sync has come to what the last sync has read.
func (r *Run) known(changed time.Time) bool {
	return !r.full() && changed.Before(r.since)
}

func newBatch[T any](page clerkapi.Page[T], from int) batch {
	return batch{
		from: from, listed: page.Listed, total: page.Total, unusable: page.Listed - len(page.Items), readAt: page.ReadAt,
	}
}

// isGone says whether Clerk does not know what a listing is to go on from.
func isGone(err error) bool {
	e, ok := errors.AsType[*clerkapi.Error](err)
	return ok && (e.StatusCode == http.StatusNotFound || e.StatusCode == http.StatusUnprocessableEntity)
}

// list reads a stage's next page and stores it.
func (s *Syncer) list(ctx context.Context, run *Run, read listing) error {
	if !run.counted {
		run.counted = true
		run.totals[clerkv1alpha1.SyncUsers] = countUsers(ctx, run.api)
	}
	page, err := read(ctx, run)
	if err != nil {
		return err
	}
	end := page.last
	if page.total >= 0 {
		run.totals[run.Progress.Stage] = int64(page.total)
		end = end || page.from+page.listed >= page.total
	}
	switch {
	case page.listed > 0 && len(page.objects) == 0:
		return clerkapi.ErrMalformed
	case page.listed == 0 && !end:
		return ErrListingEnds
	case run.shifted(page):
		run.steppedBack++
		run.Progress.Offset = max(0, run.Progress.Offset-clerkapi.PageSize)
		return nil
	case run.Progress.Offset > 0 && len(page.objects) > 0 && !run.bringsNew(page.objects):
		return ErrListingRepeats
	}
	if err := s.store(ctx, run, page); err != nil {
		return err
	}
	run.advance(page, end)
	run.listedAt = s.clock.Now()
	return nil
}

// maxCounting is how long a sync waits for the number of users.
const maxCounting = 5 * time.Second

// countUsers returns how many users there are; 0 where Clerk does not tell, since it is for the percentage only.
func countUsers(ctx context.Context, api *clerkapi.Client) int64 {
	ctx, cancel := context.WithTimeout(ctx, maxCounting)
	defer cancel()
	n, err := api.CountUsers(ctx)
	if err != nil {
		return 0
	}
	return int64(n)
}

// maxStepsBack is how often a sync reads rows again that moved under it before it lets them be.
const maxStepsBack = 20

// shifted says whether a page does not begin with the row that it should begin with, since rows before it went: one that
// has not been read is now where it was.
func (r *Run) shifted(page batch) bool {
	if !r.full() || page.total < 0 || page.from == 0 || r.Interrupted() || r.steppedBack >= maxStepsBack {
		return false
	}
	return len(page.objects) == 0 || !r.seen[page.objects[0].Kind].Has(page.objects[0].ID)
}

func (r *Run) bringsNew(objects []*clerk.Object) bool {
	return slices.ContainsFunc(objects, func(o *clerk.Object) bool { return !r.seen[o.Kind].Has(o.ID) })
}

// advance notes a page that is stored.
func (r *Run) advance(page batch, end bool) {
	for _, o := range page.objects {
		r.seen[o.Kind].Insert(o.ID)
	}
	p := &r.Progress
	r.count(int64(page.from+page.listed) - p.Offset)
	r.outcome.Refused += page.unusable
	if p.Stage == clerkv1alpha1.SyncUsers && len(page.objects) > 0 {
		p.After = page.objects[len(page.objects)-1].ID
	}
	if end {
		p.Stage = stages[slices.Index(stages, p.Stage)+1]
		p.Offset, p.After = 0, ""
	}
}

// count notes how many rows of a listing were read.
func (r *Run) count(rows int64) {
	p := &r.Progress
	p.Offset += rows
	p.Done += rows
	p.Total = 0
	for _, n := range r.totals {
		p.Total += n
	}
	p.Total = max(p.Total, p.Done)
}

// store writes what of a page is not stored.
func (s *Syncer) store(ctx context.Context, run *Run, page batch) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(writers)
	for _, o := range page.objects {
		group.Go(func() error {
			if wanted, err := s.wanted(ctx, run, o.Kind, o.ID); err != nil || !wanted {
				return err
			}
			return s.storeOne(ctx, run, o, page.readAt)
		})
	}
	return group.Wait()
}

// wanted says whether an object is to be mirrored: where only members are, a user has to be one.
func (s *Syncer) wanted(ctx context.Context, run *Run, kind clerk.Kind, id string) (bool, error) {
	if kind != clerk.KindUser || run.config.UserMirror() == clerkv1alpha1.UserMirrorAll || run.members.Has(id) {
		return true, nil
	}
	return s.mirror.HasMembership(ctx, run.config.Name, id)
}

// storeOne writes an object that differs from what is stored. One that changed a moment ago waits for its webhook first.
func (s *Syncer) storeOne(ctx context.Context, run *Run, o *clerk.Object, readAt time.Time) error {
	difference, err := s.mirror.Compare(ctx, o)
	switch {
	case err != nil || difference == mirror.Same:
		return err
	case difference == mirror.Dead:
		return s.noteBuried(ctx, run, o)
	}
	if run.judging() && o.UpdatedAt.After(readAt.Add(-settleTime)) && !readAt.IsZero() {
		run.mu.Lock()
		defer run.mu.Unlock()
		run.young = append(run.young, o)
		return nil
	}
	return s.apply(ctx, run, o, difference)
}

// noteBuried counts an object that Clerk has although it was deleted here before the sync began.
func (s *Syncer) noteBuried(ctx context.Context, run *Run, o *clerk.Object) error {
	tombstone, err := s.mirror.Tombstone(ctx, o.InstanceName, o.ID)
	if err != nil || tombstone == nil || !tombstone.CreationTimestamp.Before(run.Progress.StartedAt) {
		return err
	}
	log.FromContext(ctx).Info("Clerk has what was deleted here; see docs/backfill.md", "id", o.ID)
	run.mu.Lock()
	defer run.mu.Unlock()
	run.outcome.Buried.Insert(o.ID)
	return nil
}

// apply writes an object. What the cluster cannot hold is counted and left out, and so is what is on its way out here.
func (s *Syncer) apply(ctx context.Context, run *Run, o *clerk.Object, difference mirror.Difference) error {
	result, err := s.mirror.Apply(ctx, o)
	refused := new(mirror.RefusedError)
	switch {
	case errors.As(err, &refused):
		log.FromContext(ctx).Info("The cluster cannot hold an object of Clerk", "id", o.ID, "reason", refused.Reason)
		run.mu.Lock()
		defer run.mu.Unlock()
		run.outcome.Refused++
	case errors.Is(err, mirror.ErrTerminating):
	case err != nil:
		return err
	case result == mirror.Stale:
		return s.noteAhead(ctx, run, o)
	case result == mirror.Applied && difference == mirror.Missing:
		s.wrote(run, o.Kind, Created)
	case result == mirror.Applied:
		s.wrote(run, o.Kind, Updated)
	}
	return nil
}

// noteAhead counts an object that is stored with a time that Clerk has not come to yet: nothing that is read can replace
// it. One that an event brought while it was read is not ahead.
func (s *Syncer) noteAhead(ctx context.Context, run *Run, o *clerk.Object) error {
	stored, err := s.mirror.Get(ctx, o.Kind, o.InstanceName, o.ID)
	if err != nil || stored == nil || !stored.GetMirrored().UpdatedAt.After(o.EventTime.Add(settleTime)) {
		return err
	}
	log.FromContext(ctx).Info("A stored state is newer than Clerk's clock, so what Clerk says is refused; see docs/operations.md", "id", o.ID)
	run.mu.Lock()
	defer run.mu.Unlock()
	run.outcome.Refused++
	return nil
}
