// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package backfill

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"

	clerkv1alpha1 "github.com/clerk-operator/clerk-operator/api/v1alpha1"
	"github.com/clerk-operator/clerk-operator/internal/clerk"
	"github.com/clerk-operator/clerk-operator/internal/clerkapi"
	"github.com/clerk-operator/clerk-operator/internal/mirror"
)

const (
	// settleTime is how long a webhook may take before a sync that saw the change, too, counts it as lost.
	settleTime = 5 * time.Second
	// overlap is how far an incremental sync reads back beyond the last sync, for the sake of clocks that differ.
	overlap = 5 * time.Minute
)

var (
	// ErrWrongInstance says that the secret key is of another Clerk instance than the one that is mirrored.
	ErrWrongInstance = errors.New("the secret key is of another Clerk instance")
	// ErrListingRepeats says that a page brought nothing but what had been listed before.
	ErrListingRepeats = errors.New("a listing repeats a page")
	// ErrListingEnds says that a listing ended before the total that it told.
	ErrListingEnds = errors.New("a listing ends before its total")
)

// Syncer reads Clerk into the mirror.
type Syncer struct {
	writer  client.Writer
	mirror  *mirror.Mirror
	clock   clock.PassiveClock
	metrics *Metrics
}

// NewSyncer returns a syncer.
func NewSyncer(c client.Writer, m *mirror.Mirror, clk clock.PassiveClock, metrics *Metrics) *Syncer {
	return &Syncer{writer: c, mirror: m, clock: clk, metrics: metrics}
}

// Verify returns the Clerk instance that a client's secret key is of. The error is ErrWrongInstance when it is not the
// pinned one, or the client's.
func Verify(ctx context.Context, api *clerkapi.Client, pinned string) (string, error) {
	instance, err := api.Instance(ctx)
	if err != nil {
		return "", err
	}
	if pinned != "" && instance.ID != pinned {
		return "", fmt.Errorf("%w: it is of %s and not of %s", ErrWrongInstance, instance.ID, pinned)
	}
	return instance.ID, nil
}

// recognizable is how many mirrored objects are asked for before an unknown instance is believed.
const recognizable = 5

// Recognize checks that a Clerk instance which nobody named is the one that is mirrored already: at least one of some
// mirrored objects must be known there. The error is ErrWrongInstance, the client's or the API server's.
func (s *Syncer) Recognize(ctx context.Context, config *clerkv1alpha1.ClerkInstance, api *clerkapi.Client) error {
	asked := 0
	var malformed error
	for _, kind := range []clerk.Kind{clerk.KindOrganization, clerk.KindUser} {
		objects, err := s.mirror.List(ctx, kind, config.Name)
		if err != nil {
			return err
		}
		for _, o := range objects[:min(len(objects), recognizable)] {
			asked++
			prover := newProver(api, false)
			verdict, _, err := prover.prove(ctx, o, source(config))
			if err != nil {
				return err
			}
			if verdict == alive {
				return nil
			}
			malformed = cmp.Or(malformed, prover.malformed())
		}
	}
	switch {
	case malformed != nil:
		return malformed
	case asked > 0:
		return fmt.Errorf("%w: it knows nothing of what is mirrored", ErrWrongInstance)
	}
	return nil
}

// Run is one sync of one instance, as far as this process has taken it. It is not safe for concurrent use.
type Run struct {
	// Progress is how far it is: what another process needs to take it up.
	Progress clerkv1alpha1.ClerkInstanceSyncProgress

	config   *clerkv1alpha1.ClerkInstance
	api      *clerkapi.Client
	pinned   string
	initial  bool
	since    time.Time
	totals   map[clerkv1alpha1.ClerkInstanceSyncStage]int64
	listedAt time.Time
	// counted and restarted say that users were counted, and that their listing was begun anew; steppedBack is how often
	// a listing shifted under the sync, and rereads says that the next page may bring nothing new for that.
	counted, restarted, rereads bool
	steppedBack                 int
	// read is how many rows of the stage's listing were read, however far the sync stepped back; blankPages is how many
	// pages had no new ID and an entry without one.
	read, blankPages int

	// listed is what the API server stores, which what the run does not write is confirmed with.
	listed  *mirror.Listed
	seen    map[clerk.Kind]sets.Set[string]
	members sets.Set[string]
	young   []*clerk.Object
	deaths  *deaths
	// incomplete are the kinds of which an entry without an ID was listed, which may be any object; unclear are the
	// memberships that were listed in a way that does not tell whose they are.
	incomplete sets.Set[clerk.Kind]
	unclear    sets.Set[string]

	// readsPlans says that an incremental sync reads plans, too; plans is how far their listing is.
	readsPlans bool
	plans      plansCursor

	mu       sync.Mutex // guards what follows, which a page's objects are counted in side by side
	outcome  Outcome
	skipped  sets.Set[clerkv1alpha1.SkippedEntry]
	rejected sets.Set[string]
}

// Outcome is what a run has come to.
type Outcome struct {
	// Written counts the objects that were written or deleted, by kind. Plans do not count.
	Written map[clerk.Kind]int
	// Skipped counts the entries of Clerk's listings that are not stored, or not in full, and SkippedEntries names the first
	// of them.
	Skipped        int
	SkippedEntries []clerkv1alpha1.SkippedEntry
	// Buried are the IDs that Clerk lists and that were deleted here before.
	Buried sets.Set[string]
	// PlansUnread says why not all plans could be read; empty when they could.
	PlansUnread string
	// Unlisted counts the objects that the listings lacked and that are not proven to be gone.
	Unlisted int
	// Held are the IDs that are proven to be gone and are too many to be deleted, by kind.
	Held map[clerk.Kind][]string
	// Allowed is how many objects of each held kind may be deleted.
	Allowed map[clerk.Kind]int
}

// NewRun begins a sync of the type, or takes up the full one that before tells of. The instance must not be changed
// afterwards. pinned is the Clerk instance that was verified.
func (s *Syncer) NewRun(
	config *clerkv1alpha1.ClerkInstance, api *clerkapi.Client, pinned string, syncType clerkv1alpha1.ClerkInstanceSyncType,
	before clerkv1alpha1.ClerkInstanceSyncProgress,
) *Run {
	run := &Run{
		config:  config,
		api:     api,
		pinned:  pinned,
		initial: config.Status.Sync.LastFullTime == nil || config.Status.Sync.LastFullUsers != UsersKey(config),
		totals:  map[clerkv1alpha1.ClerkInstanceSyncStage]int64{},
		seen: map[clerk.Kind]sets.Set[string]{
			clerk.KindUser: sets.New[string](), clerk.KindOrganization: sets.New[string](), clerk.KindMembership: sets.New[string](),
		},
		listed:     s.mirror.Listed(config.Name),
		members:    sets.New[string](),
		incomplete: sets.New[clerk.Kind](),
		unclear:    sets.New[string](),
		skipped:    sets.New[clerkv1alpha1.SkippedEntry](),
		rejected:   sets.New[string](),
		outcome: Outcome{
			Written: map[clerk.Kind]int{}, Held: map[clerk.Kind][]string{}, Allowed: map[clerk.Kind]int{}, Buried: sets.New[string](),
		},
	}
	// What was decided on deletions before the plans were read is known to nobody any more.
	resumable := before.Type == clerkv1alpha1.SyncFull && before.Stage != clerkv1alpha1.SyncPlans
	if resumable && syncType == clerkv1alpha1.SyncFull {
		run.Progress = before
		run.Interrupt()
		return run
	}
	run.Progress = clerkv1alpha1.ClerkInstanceSyncProgress{
		Type:      syncType,
		StartedAt: new(metav1.NewTime(s.clock.Now().Truncate(time.Second))),
		Stage:     clerkv1alpha1.SyncOrganizations,
	}
	if last := config.Status.Sync.LastTime; last != nil {
		run.since = last.Add(-overlap)
	}
	return run
}

// Interrupt marks a run that did not see everything with its own eyes: it may add and change, and must not delete.
func (r *Run) Interrupt() {
	r.Progress.Interrupted = new(true)
	r.deaths = nil
}

// ReadPlans makes an incremental sync read the plans as well, which full ones always do.
func (r *Run) ReadPlans() { r.readsPlans = true }

// ReadsPlans says whether the run reads plans.
func (r *Run) ReadsPlans() bool { return r.full() || r.readsPlans }

// Interrupted says whether the run did not see everything.
func (r *Run) Interrupted() bool { return r.Progress.Interrupted != nil && *r.Progress.Interrupted }

// Outcome is what the run has come to so far.
func (r *Run) Outcome() Outcome { return r.outcome }

// Repaired counts, by kind, the objects that the run wrote, or would have deleted, and a webhook should have brought.
func (r *Run) Repaired() map[clerk.Kind]int {
	repaired := map[clerk.Kind]int{}
	if !r.judging() {
		return repaired
	}
	maps.Copy(repaired, r.outcome.Written)
	for kind, ids := range r.outcome.Held {
		repaired[kind] += len(ids)
	}
	return repaired
}

// judging says whether what the run writes should have been delivered: before the first full sync with a configuration
// nothing was expected.
func (r *Run) judging() bool { return !r.initial }

func (r *Run) full() bool { return r.Progress.Type == clerkv1alpha1.SyncFull }

func (r *Run) source(readAt time.Time) clerk.Source {
	from := source(r.config)
	from.EventTime = readAt
	return from
}

// Next is what a step asks for.
type Next struct {
	// Done says that the run is over.
	Done bool
	// Wrote says that the step changed something, so that progress is worth keeping.
	Wrote bool
	// After is how long to wait before the next step.
	After time.Duration
}

// Step takes a run one step forward. After an error the same step is tried again by the next call; whoever calls it
// decides whether the run is then Interrupted.
func (s *Syncer) Step(ctx context.Context, run *Run) (Next, error) {
	before := run.written()
	next, err := s.step(ctx, run)
	next.Wrote = run.written() > before
	return next, err
}

func (s *Syncer) step(ctx context.Context, run *Run) (Next, error) {
	if read, listing := listings[run.Progress.Stage]; listing {
		return Next{}, s.list(ctx, run, read)
	}
	if run.Progress.Stage == clerkv1alpha1.SyncPlans {
		return s.readPlans(ctx, run)
	}
	return s.conclude(ctx, run)
}

func (r *Run) written() int {
	total := 0
	for _, n := range r.outcome.Written {
		total += n
	}
	return total
}

// wrote counts an object that was written.
func (s *Syncer) wrote(run *Run, kind clerk.Kind, direction Direction) {
	run.mu.Lock()
	defer run.mu.Unlock()
	run.outcome.Written[kind]++
	s.metrics.wrote(run, kind, direction)
}
