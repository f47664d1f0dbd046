// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package backfill

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/controller-runtime/pkg/log"

	clerkv1alpha1 "github.com/clerk-operator/clerk-operator/api/v1alpha1"
	"github.com/clerk-operator/clerk-operator/internal/clerk"
	"github.com/clerk-operator/clerk-operator/internal/mirror"
)

const (
	// maxStep is how long a step asks for suspects before it lets progress be written.
	maxStep = 5 * time.Second
	// maxUnlisted is how many objects may turn out to be there although a listing lacks them before the listing is not
	// worth any more questions.
	maxUnlisted = 20
)

// deaths is what a full sync does about the objects that its listings lack.
type deaths struct {
	prover *prover
	// suspects are in the order users, organizations, memberships: what goes with its user or organization is not asked for.
	suspects []mirror.Object
	gone     map[clerk.Kind][]mirror.Object
	mirrored map[clerk.Kind]int
	// judged says that it is decided what is held. It is decided once: what remains of a release is no new set.
	judged bool
}

// conclude ends the listings: first what was too young to be judged, then what is gone.
func (s *Syncer) conclude(ctx context.Context, run *Run) (Next, error) {
	if run.deaths == nil {
		if wait, err := s.settle(ctx, run); err != nil || wait > 0 {
			return Next{After: wait}, err
		}
	}
	if len(run.deaths.suspects) > 0 {
		if _, err := Verify(ctx, run.api, run.pinned); err != nil {
			return Next{}, err
		}
		return Next{}, s.interrogate(ctx, run)
	}
	if err := s.bury(ctx, run); err != nil {
		return Next{}, err
	}
	if run.ReadsPlans() && !run.Interrupted() && run.outcome.Unlisted == 0 { // any other one is followed by one that counts
		run.Progress.Stage = clerkv1alpha1.SyncPlans
		return Next{}, nil
	}
	return Next{Done: true}, nil
}

// settle stores what was too young to be judged and finds the suspects. It returns how long to wait before that, since webhooks
// may still bring what the listings tell.
func (s *Syncer) settle(ctx context.Context, run *Run) (time.Duration, error) {
	wait := run.listedAt.Add(settleTime).Sub(s.clock.Now())
	if !run.judging() {
		wait = 0
	}
	if wait > 0 && len(run.young) > 0 {
		return wait, nil
	}
	deaths, err := s.suspect(ctx, run)
	if err != nil {
		return 0, err
	}
	if wait > 0 && len(deaths.suspects) > 0 {
		return wait, nil
	}
	if err := s.storeYoung(ctx, run); err != nil {
		return 0, err
	}
	run.deaths = deaths
	return 0, nil
}

// storeYoung writes what no webhook has brought in the meantime.
func (s *Syncer) storeYoung(ctx context.Context, run *Run) error {
	for ; len(run.young) > 0; run.young = run.young[1:] {
		if err := s.repair(ctx, run, run.young[0]); err != nil {
			return err
		}
	}
	return nil
}

// suspect finds the mirrored objects that a full sync which saw everything has not seen. Of a kind of which an entry without
// an ID was listed, each may be the one that was.
func (s *Syncer) suspect(ctx context.Context, run *Run) (*deaths, error) {
	d := &deaths{gone: map[clerk.Kind][]mirror.Object{}, mirrored: map[clerk.Kind]int{}}
	if !run.full() || run.Interrupted() {
		return d, nil
	}
	d.prover = newProver(run.api, run.seen[clerk.KindUser].Len() > 0 && run.seen[clerk.KindOrganization].Len() > 0)
	for _, kind := range []clerk.Kind{clerk.KindUser, clerk.KindOrganization, clerk.KindMembership} {
		objects, err := s.mirror.ListLive(ctx, kind, run.config.Name)
		if err != nil {
			return nil, err
		}
		for _, o := range objects {
			if !o.GetDeletionTimestamp().IsZero() {
				continue
			}
			d.mirrored[kind]++
			if !run.seen[kind].Has(o.GetClerkID()) && !run.incomplete.Has(kind) {
				d.suspects = append(d.suspects, o)
			}
		}
	}
	return d, nil
}

// meanwhile says whether an object was stored after the sync began, so that the listing need not have it.
func (r *Run) meanwhile(o mirror.Object) bool {
	return !o.GetCreationTimestamp().Time.Before(r.Progress.StartedAt.Time)
}

// interrogate asks Clerk for some of the suspects.
func (s *Syncer) interrogate(ctx context.Context, run *Run) error {
	d := run.deaths
	for end := s.clock.Now().Add(maxStep); len(d.suspects) > 0 && s.clock.Now().Before(end); {
		o := d.suspects[0]
		verdict, present, err := d.prover.prove(ctx, o, run.source(time.Time{}))
		run.skipAll(ctx, d.prover)
		switch {
		case err != nil:
			return err
		case len(d.prover.invalidResponses) > maxUnlisted:
			return d.prover.malformed()
		}
		kind, _ := clerk.KindOf(o.GetClerkID())
		switch verdict {
		case gone:
			d.gone[kind] = append(d.gone[kind], o)
		case cascaded, unjudged:
		case alive, unproven:
			if !run.meanwhile(o) {
				run.outcome.Unlisted++
			}
		}
		if present != nil {
			if err := s.repair(ctx, run, present); err != nil {
				return err
			}
		}
		d.suspects = d.suspects[1:]
		if run.outcome.Unlisted >= maxUnlisted {
			// The listing is broken: what else it lacks says nothing.
			run.outcome.Unlisted += len(d.suspects)
			d.suspects, d.gone = nil, nil
			return nil
		}
	}
	return nil
}

// skipAll counts and names what Clerk said to a prover and cannot be used.
func (r *Run) skipAll(ctx context.Context, p *prover) {
	for _, entry := range p.skipped {
		r.skip(ctx, entry)
		if entry.Kind == clerkv1alpha1.ClerkMembershipObject {
			r.unclear.Insert(entry.ID)
		}
	}
	p.skipped = nil
}

// repair writes an object that differs from what is stored.
func (s *Syncer) repair(ctx context.Context, run *Run, o *clerk.Object) error {
	difference, err := s.mirror.Compare(ctx, o, run.listed)
	if err != nil || difference == mirror.Same || difference == mirror.Dead {
		return err
	}
	return s.apply(ctx, run, o, difference)
}

// bury deletes what is proven to be gone, unless it is too much.
func (s *Syncer) bury(ctx context.Context, run *Run) error {
	d := run.deaths
	if d.prover == nil {
		return nil
	}
	if len(d.gone) > 0 {
		// Once more, since the key may have been exchanged while it was asked.
		if _, err := Verify(ctx, run.api, run.pinned); err != nil {
			return err
		}
	}
	if !d.judged {
		run.outcome.Held = hold(ctx, run)
		d.judged = true
	}
	for _, kind := range []clerk.Kind{clerk.KindUser, clerk.KindOrganization, clerk.KindMembership} {
		if len(run.outcome.Held) > 0 {
			break
		}
		for ; len(d.gone[kind]) > 0; d.gone[kind] = d.gone[kind][1:] {
			if err := s.delete(ctx, run, kind, d.gone[kind][0].GetClerkID()); err != nil {
				return err
			}
		}
	}
	if run.outcome.Unlisted > 0 {
		return nil
	}
	return s.evict(ctx, run)
}

// hold returns what is gone, all of it, when it is too much of any kind and nobody released exactly this.
func hold(ctx context.Context, run *Run) map[clerk.Kind][]string {
	held := map[clerk.Kind][]string{}
	tooMany := false
	for kind, objects := range run.deaths.gone {
		allowed := MaxDeletions(run.config, run.deaths.mirrored[kind])
		run.outcome.Allowed[kind] = allowed
		tooMany = tooMany || len(objects) > allowed
		for _, o := range objects {
			held[kind] = append(held[kind], o.GetClerkID())
		}
	}
	if !tooMany || run.config.Annotations[clerkv1alpha1.AnnotationReleasePrune] == Token(held) {
		return nil
	}
	log.FromContext(ctx).Info("More is gone from Clerk than one sync may delete; nothing is deleted", "ids", held)
	return held
}

// delete deletes an object that is proven to be gone. Finalizers take access away first.
func (s *Syncer) delete(ctx context.Context, run *Run, kind clerk.Kind, id string) error {
	result, err := s.mirror.Delete(ctx, run.config.Name, id, s.clock.Now())
	if err != nil {
		return run.pass(ctx, kind, id, err)
	}
	if result == mirror.Applied {
		s.wrote(run, kind, Deleted)
	}
	return nil
}

// evict forgets, where only members are mirrored, users that have no membership any more. They exist in Clerk, so they
// leave no tombstone, and come back when they join.
func (s *Syncer) evict(ctx context.Context, run *Run) error {
	if run.config.UserMirror() != clerkv1alpha1.UserMirrorMembers {
		return nil
	}
	if known, err := s.knowsMembers(ctx, run); err != nil || !known {
		return err
	}
	users, err := s.mirror.ListLive(ctx, clerk.KindUser, run.config.Name)
	if err != nil {
		return err
	}
	// What was listed before has memberships that are deleted by now.
	run.listed = s.mirror.Listed(run.config.Name)
	for _, user := range users {
		if run.members.Has(user.GetClerkID()) || run.meanwhile(user) || !user.GetDeletionTimestamp().IsZero() {
			continue
		}
		member, err := s.isMember(ctx, run, clerk.KindUser, user.GetClerkID())
		if err == nil && !member {
			member, err = run.listed.HasMember(ctx, user.GetClerkID())
		}
		if err != nil {
			return err
		}
		if !member {
			err := mirror.DeleteObject(ctx, s.writer, user)
			if err = run.pass(ctx, clerk.KindUser, user.GetClerkID(), err); err != nil {
				return err
			}
		}
	}
	return nil
}

// knowsMembers reports whether a run knows of each member that the user is one. A membership that was listed without its user
// may be any user's, unless it is mirrored: its user has a membership here, then.
func (s *Syncer) knowsMembers(ctx context.Context, run *Run) (bool, error) {
	if run.incomplete.HasAny(clerk.KindUser, clerk.KindMembership) || run.unclear.Has("") {
		return false, nil
	}
	for id := range run.unclear {
		stored, err := s.mirror.Get(ctx, clerk.KindMembership, run.config.Name, id)
		if err != nil || stored == nil {
			return false, err
		}
	}
	return true, nil
}

// MaxDeletions is how many of a number of objects of a kind one sync may delete.
func MaxDeletions(config *clerkv1alpha1.ClerkInstance, mirrored int) int {
	limit := config.Spec.BackendAPI.Sync.MaxDeletions
	if limit == nil {
		limit = new(intstr.FromString("1%"))
	}
	allowed, err := intstr.GetScaledValueFromIntOrPercent(limit, mirrored, true)
	if err != nil {
		return 0 // the CRD lets nothing else through
	}
	return allowed
}

// Token names exactly these IDs; it is empty for none.
func Token(held map[clerk.Kind][]string) string {
	var ids []string
	for _, of := range held {
		ids = append(ids, of...)
	}
	if len(ids) == 0 {
		return ""
	}
	slices.Sort(ids)
	digest := sha256.Sum256([]byte(strings.Join(ids, "\n")))
	return fmt.Sprintf("%d-%s", len(ids), hex.EncodeToString(digest[:5]))
}
