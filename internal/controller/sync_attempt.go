// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/resourceversion"

	clerkv1alpha1 "github.com/clerk-operator/clerk-operator/api/v1alpha1"
	"github.com/clerk-operator/clerk-operator/internal/backfill"
	"github.com/clerk-operator/clerk-operator/internal/clerk"
	"github.com/clerk-operator/clerk-operator/internal/clerkapi"
	"github.com/clerk-operator/clerk-operator/internal/instance"
)

const (
	minBackoff = 5 * time.Second
	maxBackoff = 5 * time.Minute
	// maxRetryAfter bounds what a server may ask for.
	maxRetryAfter = time.Hour
	// maxRoles is how many roles status holds.
	maxRoles = 64
)

// attempt is what this process knows of an instance's syncs and the status may not say yet.
type attempt struct {
	uid        types.UID
	generation int64
	api        *clerkapi.Client
	// unproven says that Clerk has not accepted the key since it was last found wanting, or changed.
	unproven   bool
	instanceID string
	roles      []string

	// version is the instance's resource version with the last status of this attempt.
	version string
	// begun says that this process has begun a sync; what the status tells of one is then its own.
	begun bool
	// run is the sync that is going on; over says that it has ended and its outcome is not written yet.
	run     *backfill.Run
	over    bool
	ended   time.Time
	request string
	users   string

	// plansUnread says that the last sync that was to read plans could not, so that the next one is to.
	plansUnread bool

	// err is why the last attempt failed; nil after one that did not.
	err       error
	failures  int
	notBefore time.Time
}

// use takes up a client and the present spec. A new client, with another key or URL, is worth a try at once, and so is a
// new request. A run does not go on by a spec or with a key that it did not begin with.
func (a *attempt) use(api *clerkapi.Client, config *clerkv1alpha1.ClerkInstance) {
	if a.api != nil && a.api != api {
		a.unproven, a.notBefore, a.run = true, time.Time{}, nil
	}
	if a.generation != config.Generation {
		a.run = nil
	}
	a.api, a.generation = api, config.Generation
	if request := backfill.Request(config); request != a.request && a.run == nil {
		a.request, a.notBefore = request, time.Time{}
	}
}

func (a *attempt) start(run *backfill.Run, instanceID string, config *clerkv1alpha1.ClerkInstance) {
	a.run, a.instanceID, a.begun = run, instanceID, true
	if a.plansUnread {
		run.ReadPlans()
	}
	a.request, a.users = backfill.Request(config), backfill.UsersKey(config)
}

// healthy notes that Clerk answers again.
func (a *attempt) healthy() { a.err, a.unproven = nil, false }

// lock notes that there is no key to ask Clerk with.
func (a *attempt) lock(err error) { a.err, a.unproven, a.run = err, true, nil }

// fail ends an attempt. A full sync can be taken up where it failed, but does not delete any more; one whose listing is
// not to be trusted is begun anew.
func (a *attempt) fail(err error, now time.Time) {
	a.err = err
	a.failures++
	pause := min(minBackoff<<min(a.failures-1, 10), maxBackoff)
	if e, ok := errors.AsType[*clerkapi.Error](err); ok {
		pause = max(pause, min(e.RetryAfter, maxRetryAfter))
	}
	if needsSomebody(reasonOf(err)) {
		pause = recheckInterval
	}
	a.notBefore = now.Add(pause)
	resumable := a.run != nil && a.run.Progress.Type == clerkv1alpha1.SyncFull &&
		!errors.Is(err, backfill.ErrWrongInstance) && !isListing(reasonOf(err))
	if !resumable {
		a.run = nil
		return
	}
	a.run.Interrupt()
}

// conclude ends a run that came to its end, and returns why it is none that counts. After an interrupted one a full one
// follows, at once unless it was Clerk that interrupted it.
func (a *attempt) conclude(now time.Time) error {
	a.healthy()
	switch outcome := a.run.Outcome(); {
	case outcome.Unlisted > 0:
		return &incompleteError{unlisted: outcome.Unlisted}
	case a.run.Interrupted():
		a.run = nil
		if a.failures > 0 {
			a.notBefore = now.Add(minBackoff)
		}
	default:
		a.over, a.failures, a.ended = true, 0, now
		if a.run.ReadsPlans() {
			a.plansUnread = outcome.PlansUnread != ""
		}
	}
	return nil
}

// isAhead says whether the cache has not seen the last status that the attempt wrote, by which what is due is told.
func (a *attempt) isAhead(config *clerkv1alpha1.ClerkInstance) bool {
	if a.version == "" {
		return false
	}
	order, err := resourceversion.CompareResourceVersion(config.ResourceVersion, a.version)
	return err == nil && order < 0
}

// written notes that what the attempt knows is in the status.
func (a *attempt) written(config *clerkv1alpha1.ClerkInstance) {
	a.version = config.ResourceVersion
	if a.over {
		a.run, a.over = nil, false
	}
}

// incompleteError says that listings lacked what exists.
type incompleteError struct{ unlisted int }

func (e *incompleteError) Error() string {
	return fmt.Sprintf("%d mirrored objects are missing from Clerk's listings and are not proven to be gone", e.unlisted)
}

// unusableKeyError is what is wrong with the Secret of a secret key.
type unusableKeyError struct{ problem *instance.Problem }

func unusableKey(problem *instance.Problem) error { return &unusableKeyError{problem: problem} }

func (e *unusableKeyError) Error() string { return e.problem.String() }

// isClerks says whether an error is about Clerk, and not about the API server.
func isClerks(err error) bool { return reasonOf(err) != "" }

// isListing says whether a failure is a listing that is not to be trusted.
func isListing(reason string) bool {
	return reason == clerkv1alpha1.ReasonListingRepeats || reason == clerkv1alpha1.ReasonListingIncomplete
}

// reasonOf is the condition reason of an error of Clerk's; empty for any other.
func reasonOf(err error) string {
	e, isClerk := errors.AsType[*clerkapi.Error](err)
	incomplete := new(incompleteError)
	unusable := new(unusableKeyError)
	switch {
	case errors.As(err, &unusable):
		return clerkv1alpha1.ReasonSecretKeyUnusable
	case errors.Is(err, backfill.ErrWrongInstance):
		return clerkv1alpha1.ReasonWrongInstance
	case errors.Is(err, backfill.ErrListingRepeats):
		return clerkv1alpha1.ReasonListingRepeats
	case errors.Is(err, backfill.ErrListingEnds), errors.As(err, &incomplete):
		return clerkv1alpha1.ReasonListingIncomplete
	case errors.Is(err, clerkapi.ErrMalformed):
		return clerkv1alpha1.ReasonMalformedAnswer
	case !isClerk:
		return ""
	case e.StatusCode == 0:
		return clerkv1alpha1.ReasonUnreachable
	case clerkapi.IsOrganizationsOff(err):
		return clerkv1alpha1.ReasonRejected
	case e.StatusCode == http.StatusUnauthorized, e.StatusCode == http.StatusForbidden:
		return clerkv1alpha1.ReasonSecretKeyRefused
	case e.StatusCode == http.StatusTooManyRequests:
		return clerkv1alpha1.ReasonRateLimited
	case e.StatusCode >= http.StatusInternalServerError:
		return clerkv1alpha1.ReasonServerError
	}
	return clerkv1alpha1.ReasonRejected
}

// needsSomebody says whether a failure does not pass by itself.
func needsSomebody(reason string) bool {
	switch reason {
	case clerkv1alpha1.ReasonSecretKeyUnusable, clerkv1alpha1.ReasonSecretKeyRefused, clerkv1alpha1.ReasonWrongInstance:
		return true
	}
	return false
}

// remedies say what to do about a failure.
var remedies = map[string]string{
	clerkv1alpha1.ReasonSecretKeyUnusable: "put the instance's secret key into the Secret that spec.backendAPI.secretKeyRef names",
	clerkv1alpha1.ReasonSecretKeyRefused:  "it may have been revoked; make a new secret key in Clerk's dashboard",
	clerkv1alpha1.ReasonWrongInstance: "use the key of the instance that is mirrored, or name the other one in spec.instanceID if " +
		"it is meant to take its place",
	clerkv1alpha1.ReasonUnreachable:       "check that the operator may connect to spec.backendAPI.url; it is tried again",
	clerkv1alpha1.ReasonRateLimited:       "something else uses up the instance's rate limit; it is tried again",
	clerkv1alpha1.ReasonServerError:       "see status.clerk.com; it is tried again",
	clerkv1alpha1.ReasonMalformedAnswer:   "check that spec.backendAPI.url is Clerk's and that nothing in between changes answers",
	clerkv1alpha1.ReasonRejected:          "see the operator's log for Clerk's error code",
	clerkv1alpha1.ReasonListingRepeats:    "Clerk's listing is not to be trusted now; it is tried again",
	clerkv1alpha1.ReasonListingIncomplete: "Clerk's listing is not to be trusted now; it is tried again",
}

// roleKeys returns the keys of Clerk's roles as status holds them, and the roles that cannot be used.
func roleKeys(ctx context.Context, api *clerkapi.Client) ([]string, []clerkapi.Entry, error) {
	page, err := api.Roles(ctx)
	if err != nil {
		return nil, nil, err
	}
	keys := slices.Clone(page.Items[:min(len(page.Items), maxRoles)])
	slices.Sort(keys)
	return slices.Compact(keys), page.Invalid(), nil
}

// project writes what the attempt knows into the status.
func (a *attempt) project(config *clerkv1alpha1.ClerkInstance, now time.Time) {
	if a.instanceID != "" {
		config.Status.InstanceID = a.instanceID
	}
	status := &config.Status.Sync
	if a.begun {
		status.Progress = clerkv1alpha1.ClerkInstanceSyncProgress{}
	}
	switch {
	case a.err != nil:
		a.projectFailure(config)
	case a.over:
		a.projectSuccess(config)
	case a.run != nil:
		setCondition(config, clerkv1alpha1.ConditionBackendAPIReady, metav1.ConditionTrue, clerkv1alpha1.ReasonAuthenticated,
			"Clerk accepts the secret key of "+a.instanceID)
		status.State = progressState(a.run.Progress)
	}
	if a.run != nil && !a.over {
		status.Progress = a.run.Progress
	}
	projectFreshness(config, now, a.run != nil && !a.over && a.err == nil)
	for i := range config.Status.Conditions {
		switch condition := &config.Status.Conditions[i]; condition.Type {
		case clerkv1alpha1.ConditionBackendAPIReady, clerkv1alpha1.ConditionSynced,
			clerkv1alpha1.ConditionFresh, clerkv1alpha1.ConditionPruneHeld:
			condition.ObservedGeneration = config.Generation
		}
	}
}

func progressState(progress clerkv1alpha1.ClerkInstanceSyncProgress) string {
	percent := int64(0)
	if progress.Total > 0 {
		percent = min(99, 100*progress.Done/progress.Total)
	}
	return fmt.Sprintf("%s %d%%", progress.Type, percent)
}

func (a *attempt) projectFailure(config *clerkv1alpha1.ClerkInstance) {
	reason := reasonOf(a.err)
	what := a.err.Error()
	if e, ok := errors.AsType[*clerkapi.Error](a.err); ok {
		what = e.Summary()
	}
	message := what + ": " + remedies[reason] + "; what is mirrored stays as it is"
	setCondition(config, clerkv1alpha1.ConditionSynced, metav1.ConditionFalse, reason, message)
	config.Status.Sync.State = "Failed"
	if !isListing(reason) {
		setCondition(config, clerkv1alpha1.ConditionBackendAPIReady, metav1.ConditionFalse, reason, message)
	}
}

func (a *attempt) projectSuccess(config *clerkv1alpha1.ClerkInstance) {
	status, outcome := &config.Status.Sync, a.run.Outcome()
	began := a.run.Progress.StartedAt
	status.LastTime = began
	status.LastSuccessTime = new(metav1.NewTime(a.ended))
	status.State = "Synced"
	full := a.run.Progress.Type == clerkv1alpha1.SyncFull
	if full {
		status.LastFullTime = began
		status.LastFullUsers = a.users
		status.LastRequest = a.request
		config.Status.Roles = a.roles
		projectHeld(config, outcome)
		status.Skipped, status.SkippedCount = nil, 0
	}
	projectSkipped(status, outcome)
	if status.HeldDeletions != "" {
		status.State = "Held"
	}
	setCondition(config, clerkv1alpha1.ConditionBackendAPIReady, metav1.ConditionTrue, clerkv1alpha1.ReasonAuthenticated,
		"Clerk accepts the secret key of "+a.instanceID)
	news := leftOut(outcome, int64(outcome.Skipped)) != ""
	if a.run.ReadsPlans() || news || !meta.IsStatusConditionTrue(config.Status.Conditions, clerkv1alpha1.ConditionSynced) {
		// What the last full sync left out is still left out after an incremental one that did not come to it.
		setCondition(config, clerkv1alpha1.ConditionSynced, metav1.ConditionTrue, clerkv1alpha1.ReasonSynced,
			cmp.Or(leftOut(outcome, status.SkippedCount), "everything that was to be read is mirrored"))
	}
	a.projectRepairs(config)
}

// projectSkipped adds what a sync skipped to what is known to be. An incremental sync meets few of all entries, and may meet
// some of them again.
func projectSkipped(status *clerkv1alpha1.ClerkInstanceSyncStatus, outcome backfill.Outcome) {
	for _, entry := range outcome.SkippedEntries {
		if len(status.Skipped) < clerkv1alpha1.MaxSkipped && !slices.Contains(status.Skipped, entry) {
			status.Skipped = append(status.Skipped, entry)
		}
	}
	status.SkippedCount = max(status.SkippedCount, int64(outcome.Skipped), int64(len(status.Skipped)))
}

// leftOut tells what a sync that succeeded left out; empty for nothing. skipped counts what syncs skipped since the last
// full one.
func leftOut(outcome backfill.Outcome, skipped int64) string {
	var parts []string
	switch {
	case skipped == 1:
		parts = append(parts, "1 entry of Clerk is skipped or stored without a field, see status.sync.skipped")
	case skipped > 1:
		parts = append(parts, fmt.Sprintf("%d entries of Clerk are skipped or stored without a field, see status.sync.skipped", skipped))
	}
	if buried := outcome.Buried.Len(); buried > 0 {
		parts = append(parts, fmt.Sprintf("%d objects that Clerk has stay away because they have a ClerkTombstone, see the operator's log",
			buried))
	}
	if outcome.PlansUnread != "" {
		parts = append(parts, "plans were not read to the end: "+outcome.PlansUnread)
	}
	return strings.Join(parts, "; ")
}

// projectRepairs tells that webhooks did not deliver. That they do again is shown by a full sync without repairs, or by
// an incremental one after an event arrived.
func (a *attempt) projectRepairs(config *clerkv1alpha1.ClerkInstance) {
	if repaired := describeCounts(a.run.Repaired()); repaired != "" {
		setCondition(config, clerkv1alpha1.ConditionFresh, metav1.ConditionFalse, clerkv1alpha1.ReasonRepairsNeeded,
			fmt.Sprintf("a sync had to repair what webhooks should have delivered (%s); check the endpoint in Clerk's dashboard",
				repaired))
		return
	}
	fresh := meta.FindStatusCondition(config.Status.Conditions, clerkv1alpha1.ConditionFresh)
	event := config.Status.LastEventTime
	if fresh == nil || fresh.Reason != clerkv1alpha1.ReasonRepairsNeeded || a.run.Progress.Type == clerkv1alpha1.SyncFull ||
		event != nil && event.After(fresh.LastTransitionTime.Time) {
		setFresh(config)
	}
}

func setFresh(config *clerkv1alpha1.ClerkInstance) {
	setCondition(config, clerkv1alpha1.ConditionFresh, metav1.ConditionTrue, clerkv1alpha1.ReasonUpToDate,
		"webhooks delivered what the last sync read")
}

// projectFreshness tells when syncs stay out; one that is running does not, however long it takes. That webhooks fail is
// not replaced by that: it says so already.
func projectFreshness(config *clerkv1alpha1.ClerkInstance, now time.Time, running bool) {
	fresh := meta.FindStatusCondition(config.Status.Conditions, clerkv1alpha1.ConditionFresh)
	last := now
	switch {
	case config.Status.Sync.LastSuccessTime != nil:
		last = config.Status.Sync.LastSuccessTime.Time
	case fresh != nil && fresh.Reason != clerkv1alpha1.ReasonUpToDate:
		last = fresh.LastTransitionTime.Time // since the first sync was begun
	}
	overdue := now.After(backfill.Overdue(config, last))
	switch {
	case fresh != nil && fresh.Reason == clerkv1alpha1.ReasonRepairsNeeded:
	case fresh != nil && fresh.Reason == clerkv1alpha1.ReasonSyncOverdue && config.Status.Sync.LastSuccessTime == nil:
	case overdue && running: // it stays what it is until the sync has ended
	case overdue:
		setCondition(config, clerkv1alpha1.ConditionFresh, metav1.ConditionFalse, clerkv1alpha1.ReasonSyncOverdue,
			"no sync has succeeded for two intervals; see the condition Synced")
	case config.Status.Sync.LastFullTime == nil:
		setCondition(config, clerkv1alpha1.ConditionFresh, metav1.ConditionUnknown, clerkv1alpha1.ReasonInitialSync,
			"the first full sync has not finished")
	case fresh == nil || fresh.Reason == clerkv1alpha1.ReasonSyncOverdue:
		setFresh(config)
	}
}

func projectHeld(config *clerkv1alpha1.ClerkInstance, outcome backfill.Outcome) {
	token := backfill.Token(outcome.Held)
	config.Status.Sync.HeldDeletions = token
	if token == "" {
		setCondition(config, clerkv1alpha1.ConditionPruneHeld, metav1.ConditionFalse, clerkv1alpha1.ReasonNothingHeld,
			"no deletion is held")
		return
	}
	counts := map[clerk.Kind]int{}
	var allowed []string
	for kind, ids := range outcome.Held {
		counts[kind] = len(ids)
		allowed = append(allowed, describeCount(outcome.Allowed[kind], kind))
	}
	slices.Sort(allowed)
	setCondition(config, clerkv1alpha1.ConditionPruneHeld, metav1.ConditionTrue, clerkv1alpha1.ReasonTooManyDeletions,
		fmt.Sprintf("gone from Clerk: %s; one sync may delete %s (spec.backendAPI.sync.maxDeletions); none is deleted. If that "+
			"is right: kubectl annotate clerkinstance %s --overwrite %s=%s",
			describeCounts(counts), strings.Join(allowed, " and "), config.Name, clerkv1alpha1.AnnotationReleasePrune, token))
}

var kindNames = map[clerk.Kind]string{
	clerk.KindUser: "users", clerk.KindOrganization: "organizations", clerk.KindMembership: "memberships",
}

func describeCounts(counts map[clerk.Kind]int) string {
	var parts []string
	for _, kind := range []clerk.Kind{clerk.KindUser, clerk.KindOrganization, clerk.KindMembership} {
		if counts[kind] > 0 {
			parts = append(parts, describeCount(counts[kind], kind))
		}
	}
	return strings.Join(parts, ", ")
}

func describeCount(n int, kind clerk.Kind) string {
	if n == 1 {
		return "1 " + strings.TrimSuffix(kindNames[kind], "s")
	}
	return fmt.Sprintf("%d %s", n, kindNames[kind])
}

// clearSync leaves nothing in the status of an instance that has no Backend API any more.
func clearSync(config *clerkv1alpha1.ClerkInstance) {
	config.Status.Sync = clerkv1alpha1.ClerkInstanceSyncStatus{}
	config.Status.Roles = nil
	for _, condition := range []string{
		clerkv1alpha1.ConditionBackendAPIReady, clerkv1alpha1.ConditionSynced,
		clerkv1alpha1.ConditionFresh, clerkv1alpha1.ConditionPruneHeld,
	} {
		meta.RemoveStatusCondition(&config.Status.Conditions, condition)
	}
}
