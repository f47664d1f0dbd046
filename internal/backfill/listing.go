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
	kind    clerk.Kind
	objects []*clerk.Object
	// entries are all that are listed, those that cannot be used included. nameless says that some have no ID.
	entries  []clerkapi.Entry
	nameless bool
	// from is the offset that was asked for; total is the listing's.
	from, total int
	// byCursor says that the next page follows the last ID of this one.
	byCursor bool
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
	b := newBatch(clerk.KindOrganization, page, from)
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
	b := newBatch(clerk.KindMembership, page, from)
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
	b := newBatch(clerk.KindUser, page, int(run.Progress.Offset))
	b.last = len(page.Entries) < clerkapi.PageSize
	if b.byCursor = run.full(); b.byCursor && !b.last {
		b.dropRepeated()
	}
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

func newBatch[T any](kind clerk.Kind, page clerkapi.Page[T], from int) batch {
	return batch{
		kind: kind, entries: page.Entries, from: from, total: page.Total, readAt: page.ReadAt,
		nameless: slices.ContainsFunc(page.Entries, func(e clerkapi.Entry) bool { return e.ID == "" }),
	}
}

// dropRepeated leaves out what the next page by cursor lists again: the entries after the last one that has an ID. Where
// none has one, there is nothing that a next page could follow.
func (b *batch) dropRepeated() {
	for i, entry := range slices.Backward(b.entries) {
		if entry.ID != "" {
			b.entries = b.entries[:i+1]
			return
		}
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
	if page.total >= 0 {
		run.totals[run.Progress.Stage] = int64(page.total)
		page.last = page.last || page.from+len(page.entries) >= page.total
	}
	switch {
	case len(page.entries) == 0 && !page.last:
		return ErrListingEnds
	case run.shifted(page):
		run.steppedBack++
		run.rereads = true
		run.Progress.Offset = max(0, run.Progress.Offset-clerkapi.PageSize)
		return nil
	case len(page.entries) > 0 && !run.bringsNew(page):
		if err := run.expectEnd(&page); err != nil {
			return err
		}
	}
	if err := s.store(ctx, run, page); err != nil {
		return err
	}
	run.advance(ctx, page)
	run.listedAt = s.clock.Now()
	return nil
}

// expectEnd returns ErrListingRepeats for a page that brings no new ID, but for one that is read again. An entry without an ID
// may be new or not: a page that has one is read, and there is an end to such pages.
func (r *Run) expectEnd(page *batch) error {
	switch {
	case page.nameless:
		r.blankPages++
		r.incomplete.Insert(page.kind)
		page.last = page.last || page.byCursor || r.blankPages > maxBlankPages
	case r.Progress.Offset > 0 && !r.rereads:
		return ErrListingRepeats
	}
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

const (
	// maxStepsBack is how often a sync reads rows again that moved under it before it lets them be.
	maxStepsBack = 20
	// maxBlankPages is how many pages without any new ID a sync reads before it takes a listing for read.
	maxBlankPages = 20
)

// shifted says whether a page does not begin with the row that it should begin with, since rows before it went: one that
// has not been read is now where it was. A row without an ID does not tell.
func (r *Run) shifted(page batch) bool {
	if !r.full() || page.total < 0 || page.from == 0 || r.Interrupted() || r.steppedBack >= maxStepsBack {
		return false
	}
	if len(page.entries) == 0 {
		return true
	}
	first := page.entries[0].ID
	return first != "" && !r.seen[page.kind].Has(first)
}

func (r *Run) bringsNew(page batch) bool {
	return slices.ContainsFunc(page.entries, func(e clerkapi.Entry) bool { return e.ID != "" && !r.seen[page.kind].Has(e.ID) })
}

// advance notes a page that is stored. An entry that cannot be used is listed all the same: what it names is there.
func (r *Run) advance(ctx context.Context, page batch) {
	p := &r.Progress
	for i, entry := range page.entries {
		switch {
		case entry.ID != "":
			r.seen[page.kind].Insert(entry.ID)
		case page.from+i < r.read: // it was read before, as the first row of most pages
			continue
		default:
			r.incomplete.Insert(page.kind)
		}
		if entry.Reason != "" && page.kind == clerk.KindMembership {
			r.unclear.Insert(entry.ID)
		}
		r.SkipInvalid(ctx, page.kind, page.entries[i:i+1])
		if entry.ID != "" && page.byCursor {
			p.After = entry.ID
		}
	}
	r.count(int64(page.from+len(page.entries)) - p.Offset)
	r.read, r.rereads = max(r.read, int(p.Offset)), false
	if page.last {
		p.Stage = stages[slices.Index(stages, p.Stage)+1]
		p.Offset, p.After = 0, ""
		r.read = 0
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
			if wanted, err := s.wanted(ctx, run, o); err != nil || !wanted {
				return err
			}
			return s.storeOne(ctx, run, o, page.readAt)
		})
	}
	return group.Wait()
}

// wanted reports whether an object is to be mirrored: where only members are, a user has to be one. A new ban is not left out
// because the cache is behind.
func (s *Syncer) wanted(ctx context.Context, run *Run, o *clerk.Object) (bool, error) {
	member, err := s.isMember(ctx, run, o.Kind, o.ID)
	if err != nil || member || !o.Suspended() || run.known(o.UpdatedAt) {
		return member, err
	}
	return run.listed.HasMember(ctx, o.ID)
}

// isMember reports whether the cache or the run knows a user as a member, where only members are mirrored. It is true for
// anything else.
func (s *Syncer) isMember(ctx context.Context, run *Run, kind clerk.Kind, id string) (bool, error) {
	if kind != clerk.KindUser || run.config.UserMirror() == clerkv1alpha1.UserMirrorAll || run.members.Has(id) {
		return true, nil
	}
	return s.mirror.HasMembership(ctx, run.config.Name, id)
}

// storeOne writes an object that differs from what is stored. One that changed a moment ago waits for its webhook first.
func (s *Syncer) storeOne(ctx context.Context, run *Run, o *clerk.Object, readAt time.Time) error {
	for _, field := range o.Dropped {
		run.skip(ctx, skippedEntry(o.Kind, o.ID, clerk.NotStored(field)))
	}
	difference, err := s.compare(ctx, run, o)
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

// compare compares an object with what is stored. Of a row that an incremental sync lists because it is on the same page, and
// that did not change since the last sync, what the cache holds will do: it is no reason to list everything that is stored.
func (s *Syncer) compare(ctx context.Context, run *Run, o *clerk.Object) (mirror.Difference, error) {
	if run.known(o.UpdatedAt) {
		return s.mirror.CompareCached(ctx, o)
	}
	return s.mirror.Compare(ctx, o, run.listed)
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

// apply writes an object. What the cluster cannot hold is counted and left out; what is on its way out here is left out.
func (s *Syncer) apply(ctx context.Context, run *Run, o *clerk.Object, difference mirror.Difference) error {
	result, err := s.mirror.Apply(ctx, o)
	switch {
	case errors.Is(err, mirror.ErrTerminating):
	case err != nil:
		return run.pass(ctx, o.Kind, o.ID, err)
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
	stored, err := s.mirror.GetLive(ctx, o.Kind, o.InstanceName, o.ID)
	if err != nil || stored == nil || !stored.GetMirrored().UpdatedAt.After(o.EventTime.Add(settleTime)) {
		return err
	}
	log.FromContext(ctx).Info("A stored state is newer than Clerk's clock, so what Clerk says is refused; see docs/operations.md", "id", o.ID)
	run.skip(ctx, skippedEntry(o.Kind, o.ID, reasonNewerStored))
	return nil
}
