// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	. "github.com/onsi/gomega"
	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	clocktesting "k8s.io/utils/clock/testing"

	clerkv1alpha1 "github.com/clerk-operator/clerk-operator/api/v1alpha1"
	"github.com/clerk-operator/clerk-operator/internal/backfill"
	"github.com/clerk-operator/clerk-operator/internal/clerk"
	"github.com/clerk-operator/clerk-operator/internal/clerkapi"
	"github.com/clerk-operator/clerk-operator/internal/instance"
)

var (
	noon         = time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	errServer    = &clerkapi.Error{Operation: "ListUsers", StatusCode: http.StatusBadGateway}
	errThrottled = &clerkapi.Error{Operation: "ListUsers", StatusCode: http.StatusTooManyRequests}
	errRefused   = &clerkapi.Error{Operation: "GetInstance", StatusCode: http.StatusUnauthorized}
)

func clerksAnswer(status int) error {
	return &clerkapi.Error{Operation: "ListUsers", StatusCode: status}
}

func TestReasonOf(t *testing.T) {
	for name, tc := range map[string]struct {
		err  error
		want string
	}{
		"nothing":                 {nil, ""},
		"the API server's":        {errors.New("etcdserver: request timed out"), ""},
		"no answer":               {clerksAnswer(0), clerkv1alpha1.ReasonUnreachable},
		"unauthorized":            {clerksAnswer(401), clerkv1alpha1.ReasonSecretKeyRefused},
		"forbidden":               {clerksAnswer(403), clerkv1alpha1.ReasonSecretKeyRefused},
		"too many requests":       {clerksAnswer(429), clerkv1alpha1.ReasonRateLimited},
		"failed":                  {clerksAnswer(500), clerkv1alpha1.ReasonServerError},
		"a bad gateway":           {clerksAnswer(502), clerkv1alpha1.ReasonServerError},
		"beyond the known":        {clerksAnswer(599), clerkv1alpha1.ReasonServerError},
		"a redirect":              {clerksAnswer(302), clerkv1alpha1.ReasonRejected},
		"rejected":                {clerksAnswer(422), clerkv1alpha1.ReasonRejected},
		"not found":               {clerksAnswer(404), clerkv1alpha1.ReasonRejected},
		"no organizations":        {&clerkapi.Error{StatusCode: 403, Code: "organization_not_enabled_in_instance"}, clerkv1alpha1.ReasonRejected},
		"below a server's":        {clerksAnswer(499), clerkv1alpha1.ReasonRejected},
		"malformed":               {clerkapi.ErrMalformed, clerkv1alpha1.ReasonMalformedAnswer},
		"malformed, joined":       {errors.Join(clerkapi.ErrMalformed, io.ErrUnexpectedEOF), clerkv1alpha1.ReasonMalformedAnswer},
		"another instance":        {fmt.Errorf("%w: it is of ins_a", backfill.ErrWrongInstance), clerkv1alpha1.ReasonWrongInstance},
		"a repeated page":         {backfill.ErrListingRepeats, clerkv1alpha1.ReasonListingRepeats},
		"a listing that ends":     {backfill.ErrListingEnds, clerkv1alpha1.ReasonListingIncomplete},
		"a listing with holes":    {&incompleteError{unlisted: 1}, clerkv1alpha1.ReasonListingIncomplete},
		"an unusable key":         {unusableKey(&instance.Problem{Source: "key", Reason: "it is empty"}), clerkv1alpha1.ReasonSecretKeyUnusable},
		"wrapped":                 {fmt.Errorf("wrapped: %w", clerksAnswer(429)), clerkv1alpha1.ReasonRateLimited},
		"an unusable key,wrapped": {fmt.Errorf("wrapped: %w", unusableKey(&instance.Problem{})), clerkv1alpha1.ReasonSecretKeyUnusable},
	} {
		t.Run(name, func(t *testing.T) {
			g := NewWithT(t)
			g.Expect(reasonOf(tc.err)).To(Equal(tc.want))
			g.Expect(isClerks(tc.err)).To(Equal(tc.want != ""))
			if tc.want != "" {
				g.Expect(remedies).To(HaveKeyWithValue(tc.want, Not(BeEmpty())))
			}
			somebody := map[string]bool{
				clerkv1alpha1.ReasonSecretKeyUnusable: true, clerkv1alpha1.ReasonSecretKeyRefused: true, clerkv1alpha1.ReasonWrongInstance: true,
			}
			g.Expect(needsSomebody(tc.want)).To(Equal(somebody[tc.want]))
		})
	}
}

func TestLeftOut(t *testing.T) {
	const (
		one    = "1 entry of Clerk is skipped or stored without a field, see status.sync.skipped"
		more   = "2 entries of Clerk are skipped or stored without a field, see status.sync.skipped"
		buried = "1 objects that Clerk has stay away because they have a ClerkTombstone, see the operator's log"
		unread = "plans were not read to the end: ListSubscriptionItems failed with 500"
	)
	for name, tc := range map[string]struct {
		outcome backfill.Outcome
		skipped int64
		want    string
	}{
		"nothing":      {backfill.Outcome{}, 0, ""},
		"one skipped":  {backfill.Outcome{}, 1, one},
		"more skipped": {backfill.Outcome{}, 2, more},
		"buried":       {backfill.Outcome{Buried: sets.New("user_a")}, 0, buried},
		"unread":       {backfill.Outcome{PlansUnread: "ListSubscriptionItems failed with 500"}, 0, unread},
		"all": {backfill.Outcome{Buried: sets.New("user_a"), PlansUnread: "ListSubscriptionItems failed with 500"}, 2,
			more + "; " + buried + "; " + unread},
	} {
		t.Run(name, func(t *testing.T) { NewWithT(t).Expect(leftOut(tc.outcome, tc.skipped)).To(Equal(tc.want)) })
	}
}

// An incremental sync meets few entries: what a full one skipped stays named until the next full one.
func TestProject_namesWhatSyncsSkip(t *testing.T) {
	g := NewWithT(t)
	config := syncedInstance(nil)
	sync := func(syncType clerkv1alpha1.ClerkInstanceSyncType, odd ...clerkapi.Entry) *clerkv1alpha1.ClerkInstanceSyncStatus {
		a := &attempt{}
		a.start(newRun(syncType), "ins_a", config)
		a.run.SkipInvalid(t.Context(), clerk.KindMembership, odd)
		g.Expect(a.conclude(noon)).To(Succeed())
		a.project(config, noon)
		return &config.Status.Sync
	}
	message := func() string {
		return expectCondition(g, config, clerkv1alpha1.ConditionSynced, metav1.ConditionTrue, clerkv1alpha1.ReasonSynced).Message
	}
	const full, incremental = clerkv1alpha1.SyncFull, clerkv1alpha1.SyncIncremental
	one := clerkapi.Entry{ID: "orgmem_1", Reason: "NoUser"}
	want := clerkv1alpha1.SkippedEntry{Kind: clerkv1alpha1.ClerkMembershipObject, ID: "orgmem_1", Reason: "NoUser"}

	status := sync(full, one)
	g.Expect(status.Skipped).To(HaveExactElements(want))
	g.Expect(status.SkippedCount).To(BeEquivalentTo(1))
	g.Expect(message()).To(HavePrefix("1 entry of Clerk is skipped"))
	for _, odd := range [][]clerkapi.Entry{nil, {one}} {
		status = sync(incremental, odd...)
		g.Expect(status.Skipped).To(HaveExactElements(want))
		g.Expect(status.SkippedCount).To(BeEquivalentTo(1))
		g.Expect(message()).To(HavePrefix("1 entry of Clerk is skipped"))
	}
	status = sync(incremental, clerkapi.Entry{Reason: "NoID"})
	g.Expect(status.Skipped).To(HaveLen(2))
	g.Expect(status.SkippedCount).To(BeEquivalentTo(2))
	g.Expect(message()).To(HavePrefix("2 entries of Clerk are skipped"))

	many := make([]clerkapi.Entry, clerkv1alpha1.MaxSkipped+5)
	for i := range many {
		many[i] = clerkapi.Entry{ID: fmt.Sprintf("orgmem_%d", i), Reason: "NoUser"}
	}
	status = sync(full, many...)
	g.Expect(status.Skipped).To(HaveLen(clerkv1alpha1.MaxSkipped))
	g.Expect(status.SkippedCount).To(BeEquivalentTo(len(many)))
	status = sync(incremental, many[len(many)-1])
	g.Expect(status.Skipped).To(HaveLen(clerkv1alpha1.MaxSkipped))
	g.Expect(status.SkippedCount).To(BeEquivalentTo(len(many)))

	status = sync(full)
	g.Expect(status.Skipped).To(BeEmpty())
	g.Expect(status.SkippedCount).To(BeZero())
	g.Expect(message()).To(Equal("everything that was to be read is mirrored"))
}

func TestFail_pausesLongerAndLonger(t *testing.T) {
	g := NewWithT(t)
	a := &attempt{}
	for i, want := range []time.Duration{5, 10, 20, 40, 80, 160, 300, 300, 300} {
		a.fail(errServer, noon)
		g.Expect(a.notBefore.Sub(noon)).To(Equal(want*time.Second), "failure %d", i+1)
		g.Expect(a.err).To(MatchError(errServer))
	}
	a.failures = 1000
	a.fail(errServer, noon)
	g.Expect(a.notBefore.Sub(noon)).To(Equal(maxBackoff), "it never overflows")
	a.healthy()
	g.Expect(a.err).NotTo(HaveOccurred())
	a.fail(errServer, noon)
	g.Expect(a.notBefore.Sub(noon)).To(Equal(maxBackoff), "one page that could be read is no success")
}

func TestFail_waitsAsLongAsClerkAsks(t *testing.T) {
	for name, tc := range map[string]struct {
		err      error
		failures int
		want     time.Duration
	}{
		"longer than the pause":   {&clerkapi.Error{StatusCode: 429, RetryAfter: time.Minute}, 0, time.Minute},
		"shorter than the pause":  {&clerkapi.Error{StatusCode: 429, RetryAfter: 15 * time.Second}, 3, 40 * time.Second},
		"longer than the most":    {&clerkapi.Error{StatusCode: 503, RetryAfter: 10 * time.Minute}, 9, 10 * time.Minute},
		"wrapped":                 {fmt.Errorf("wrapped: %w", &clerkapi.Error{StatusCode: 429, RetryAfter: time.Minute}), 0, time.Minute},
		"longer than is believed": {&clerkapi.Error{StatusCode: 503, RetryAfter: 24 * time.Hour}, 0, time.Hour},
		"not asked":               {errThrottled, 0, minBackoff},
		"of somebody's matter":    {errRefused, 0, recheckInterval},
		"of another instance":     {backfill.ErrWrongInstance, 9, recheckInterval},
		"of an unusable key":      {unusableKey(&instance.Problem{}), 0, recheckInterval},
	} {
		t.Run(name, func(t *testing.T) {
			g := NewWithT(t)
			a := &attempt{failures: tc.failures}
			a.fail(tc.err, noon)
			g.Expect(a.notBefore.Sub(noon)).To(Equal(tc.want))
		})
	}
}

// newRun returns a run as it begins.
func newRun(syncType clerkv1alpha1.ClerkInstanceSyncType, before ...clerkv1alpha1.ClerkInstanceSyncProgress) *backfill.Run {
	syncer := backfill.NewSyncer(nil, nil, clocktesting.NewFakePassiveClock(noon), backfill.NewMetrics(prometheus.NewRegistry()))
	return syncer.NewRun(&clerkv1alpha1.ClerkInstance{}, nil, "ins_a", syncType, append(before, clerkv1alpha1.ClerkInstanceSyncProgress{})[0])
}

func TestFail_takesUpWhatCanBeTrusted(t *testing.T) {
	for name, tc := range map[string]struct {
		run  *backfill.Run
		err  error
		want bool
	}{
		"a full sync":                     {newRun(clerkv1alpha1.SyncFull), errServer, true},
		"a full sync, unreachable":        {newRun(clerkv1alpha1.SyncFull), clerksAnswer(0), true},
		"a full sync, malformed":          {newRun(clerkv1alpha1.SyncFull), clerkapi.ErrMalformed, true},
		"an incremental sync":             {newRun(clerkv1alpha1.SyncIncremental), errServer, false},
		"a listing that repeats":          {newRun(clerkv1alpha1.SyncFull), backfill.ErrListingRepeats, false},
		"a listing that ends":             {newRun(clerkv1alpha1.SyncFull), backfill.ErrListingEnds, false},
		"a listing with holes":            {newRun(clerkv1alpha1.SyncFull), &incompleteError{unlisted: 1}, false},
		"of another instance":             {newRun(clerkv1alpha1.SyncFull), fmt.Errorf("%w: ins_b", backfill.ErrWrongInstance), false},
		"none":                            {nil, errServer, false},
		"one that was interrupted before": {newRun(clerkv1alpha1.SyncFull, clerkv1alpha1.ClerkInstanceSyncProgress{Type: clerkv1alpha1.SyncFull}), errServer, true},
	} {
		t.Run(name, func(t *testing.T) {
			g := NewWithT(t)
			a := &attempt{run: tc.run}
			a.fail(tc.err, noon)
			if !tc.want {
				g.Expect(a.run).To(BeNil())
				return
			}
			g.Expect(a.run).To(BeIdenticalTo(tc.run))
			g.Expect(a.run.Interrupted()).To(BeTrue(), "it must not delete any more")
		})
	}
}

func TestConclude(t *testing.T) {
	t.Run("one that saw everything", func(t *testing.T) {
		g := NewWithT(t)
		a := &attempt{run: newRun(clerkv1alpha1.SyncFull), err: errServer, failures: 7, unproven: true}
		g.Expect(a.conclude(noon)).To(Succeed())
		g.Expect(a.over).To(BeTrue())
		g.Expect(a.run).NotTo(BeNil(), "its outcome is to be written")
		g.Expect(a.err).NotTo(HaveOccurred())
		g.Expect(a.failures).To(BeZero())
		g.Expect(a.unproven).To(BeFalse())
		g.Expect(a.ended).To(Equal(noon))
	})
	for name, tc := range map[string]struct {
		failures int
		want     time.Time
	}{"by another leader": {0, time.Time{}}, "by Clerk": {3, noon.Add(minBackoff)}} {
		t.Run("one that was interrupted "+name, func(t *testing.T) {
			g := NewWithT(t)
			a := &attempt{run: newRun(clerkv1alpha1.SyncFull), err: errServer, failures: tc.failures}
			a.run.Interrupt()
			g.Expect(a.conclude(noon)).To(Succeed())
			g.Expect(a.over).To(BeFalse(), "it is no success")
			g.Expect(a.run).To(BeNil(), "a new one follows")
			g.Expect(a.err).NotTo(HaveOccurred())
			g.Expect(a.failures).To(Equal(tc.failures))
			g.Expect(a.notBefore).To(Equal(tc.want))
		})
	}
}

// Without a key there is nothing to go on with, and nothing to count: it is looked at again until there is one.
func TestLock(t *testing.T) {
	g := NewWithT(t)
	a := &attempt{run: newRun(clerkv1alpha1.SyncFull), failures: 2, notBefore: noon}
	locked := unusableKey(&instance.Problem{Source: "key", Reason: "it is empty"})
	a.lock(locked)
	g.Expect(a.err).To(Equal(locked))
	g.Expect(a.run).To(BeNil())
	g.Expect(a.unproven).To(BeTrue(), "the next key is tried at once")
	g.Expect(a.failures).To(Equal(2))
	g.Expect(a.notBefore).To(Equal(noon))
	a.healthy()
	g.Expect(a.unproven).To(BeFalse())
	g.Expect(a.err).NotTo(HaveOccurred())
}

func TestProgressState(t *testing.T) {
	for want, progress := range map[string]clerkv1alpha1.ClerkInstanceSyncProgress{
		"Full 0%":         {Type: clerkv1alpha1.SyncFull},
		"Full 45%":        {Type: clerkv1alpha1.SyncFull, Done: 459, Total: 1000},
		"Full 99%":        {Type: clerkv1alpha1.SyncFull, Done: 1000, Total: 1000},
		"Incremental 99%": {Type: clerkv1alpha1.SyncIncremental, Done: 7, Total: 5},
		"Incremental 0%":  {Type: clerkv1alpha1.SyncIncremental, Done: 0, Total: 5},
	} {
		NewWithT(t).Expect(progressState(progress)).To(Equal(want))
	}
}

// syncedInstance is one whose last full sync began at a time and took no time, with the intervals' defaults. Two of the
// shorter ones are half an hour, and up to a tenth more.
func syncedInstance(last *time.Time, conditions ...metav1.Condition) *clerkv1alpha1.ClerkInstance {
	config := &clerkv1alpha1.ClerkInstance{ObjectMeta: metav1.ObjectMeta{Name: "prod", Generation: 3}}
	if last != nil {
		at := metav1.NewTime(*last)
		config.Status.Sync.LastTime, config.Status.Sync.LastFullTime, config.Status.Sync.LastSuccessTime = &at, &at, &at
	}
	for _, condition := range conditions {
		condition.Message, condition.LastTransitionTime = "before", metav1.NewTime(noon)
		config.Status.Conditions = append(config.Status.Conditions, condition)
	}
	return config
}

func TestProjectFreshness(t *testing.T) {
	fresh := func(status metav1.ConditionStatus, reason string) metav1.Condition {
		return metav1.Condition{Type: clerkv1alpha1.ConditionFresh, Status: status, Reason: reason}
	}
	repairs := fresh(metav1.ConditionFalse, clerkv1alpha1.ReasonRepairsNeeded)
	overdue := fresh(metav1.ConditionFalse, clerkv1alpha1.ReasonSyncOverdue)
	initial := fresh(metav1.ConditionUnknown, clerkv1alpha1.ReasonInitialSync)
	upToDate := fresh(metav1.ConditionTrue, clerkv1alpha1.ReasonUpToDate)
	for name, tc := range map[string]struct {
		config *clerkv1alpha1.ClerkInstance
		// after is how long after noon it is.
		after      time.Duration
		running    bool
		wantStatus metav1.ConditionStatus
		wantReason string
	}{
		"new":                               {syncedInstance(nil), time.Minute, false, metav1.ConditionUnknown, clerkv1alpha1.ReasonInitialSync},
		"new, whenever it was made":         {syncedInstance(nil), time.Hour, false, metav1.ConditionUnknown, clerkv1alpha1.ReasonInitialSync},
		"the first one runs":                {syncedInstance(nil, initial), 29 * time.Minute, false, metav1.ConditionUnknown, clerkv1alpha1.ReasonInitialSync},
		"the first one does not come":       {syncedInstance(nil, initial), 34 * time.Minute, false, metav1.ConditionFalse, clerkv1alpha1.ReasonSyncOverdue},
		"the first one never came":          {syncedInstance(nil, overdue), time.Minute, false, metav1.ConditionFalse, clerkv1alpha1.ReasonSyncOverdue},
		"synced":                            {syncedInstance(&noon), time.Minute, false, metav1.ConditionTrue, clerkv1alpha1.ReasonUpToDate},
		"synced within two intervals":       {syncedInstance(&noon, upToDate), 29 * time.Minute, false, metav1.ConditionTrue, clerkv1alpha1.ReasonUpToDate},
		"synced too long ago":               {syncedInstance(&noon, upToDate), 34 * time.Minute, false, metav1.ConditionFalse, clerkv1alpha1.ReasonSyncOverdue},
		"one runs for long":                 {syncedInstance(&noon, upToDate), time.Hour, true, metav1.ConditionTrue, clerkv1alpha1.ReasonUpToDate},
		"the first one runs for long":       {syncedInstance(nil, initial), time.Hour, true, metav1.ConditionUnknown, clerkv1alpha1.ReasonInitialSync},
		"one runs when it is too late":      {syncedInstance(&noon, overdue), time.Hour, true, metav1.ConditionFalse, clerkv1alpha1.ReasonSyncOverdue},
		"repairs were needed":               {syncedInstance(&noon, repairs), time.Minute, false, metav1.ConditionFalse, clerkv1alpha1.ReasonRepairsNeeded},
		"repairs were needed, too long ago": {syncedInstance(&noon, repairs), time.Hour, false, metav1.ConditionFalse, clerkv1alpha1.ReasonRepairsNeeded},
		"synced again":                      {syncedInstance(&noon, overdue), time.Minute, false, metav1.ConditionTrue, clerkv1alpha1.ReasonUpToDate},
	} {
		t.Run(name, func(t *testing.T) {
			g := NewWithT(t)
			projectFreshness(tc.config, noon.Add(tc.after), tc.running)
			expectCondition(g, tc.config, clerkv1alpha1.ConditionFresh, tc.wantStatus, tc.wantReason)
		})
	}
}

func expectCondition(
	g Gomega, config *clerkv1alpha1.ClerkInstance, conditionType string, status metav1.ConditionStatus, reason string,
) *metav1.Condition {
	condition := meta.FindStatusCondition(config.Status.Conditions, conditionType)
	g.Expect(condition).To(And(Not(BeNil()), HaveField("Status", status), HaveField("Reason", reason)))
	g.Expect(condition.Message).NotTo(BeEmpty())
	return condition
}

func TestProjectHeld(t *testing.T) {
	t.Run("nothing", func(t *testing.T) {
		g := NewWithT(t)
		config := syncedInstance(&noon)
		config.Status.Sync.HeldDeletions = "3-abc"
		projectHeld(config, backfill.Outcome{})
		g.Expect(config.Status.Sync.HeldDeletions).To(BeEmpty())
		expectCondition(g, config, clerkv1alpha1.ConditionPruneHeld, metav1.ConditionFalse, clerkv1alpha1.ReasonNothingHeld)
	})
	t.Run("two kinds", func(t *testing.T) {
		g := NewWithT(t)
		config := syncedInstance(&noon)
		held := map[clerk.Kind][]string{clerk.KindUser: {"user_a", "user_b"}, clerk.KindMembership: {"orgmem_a", "orgmem_b", "orgmem_c"}}
		projectHeld(config, backfill.Outcome{Held: held, Allowed: map[clerk.Kind]int{clerk.KindUser: 1, clerk.KindMembership: 2}})
		token := backfill.Token(held)
		g.Expect(config.Status.Sync.HeldDeletions).To(Equal(token))
		condition := expectCondition(g, config, clerkv1alpha1.ConditionPruneHeld, metav1.ConditionTrue, clerkv1alpha1.ReasonTooManyDeletions)
		g.Expect(condition.Message).To(SatisfyAll(
			ContainSubstring("2 users, 3 memberships"), MatchRegexp("may delete (1 user and 2 memberships|2 memberships and 1 user) "),
			HaveSuffix("kubectl annotate clerkinstance prod --overwrite clerk-operator.dev/release-prune="+token),
		))
		g.Expect(condition.Message).NotTo(ContainSubstring("user_a"), "no list of people")
	})
}

func TestProject_tellsOfAFailure(t *testing.T) {
	for name, tc := range map[string]struct {
		err         error
		wantReason  string
		wantBackend bool
		wantMessage string
	}{
		"refused":     {errRefused, clerkv1alpha1.ReasonSecretKeyRefused, true, "GetInstance failed with 401: "},
		"throttled":   {errThrottled, clerkv1alpha1.ReasonRateLimited, true, "ListUsers failed with 429: "},
		"failed":      {&clerkapi.Error{Operation: "ListUsers", StatusCode: 502, TraceID: "trace1"}, clerkv1alpha1.ReasonServerError, true, "ListUsers failed with 502: "},
		"unreachable": {clerksAnswer(0), clerkv1alpha1.ReasonUnreachable, true, "ListUsers got no answer: "},
		"repeated":    {backfill.ErrListingRepeats, clerkv1alpha1.ReasonListingRepeats, false, "a listing repeats a page: "},
		"incomplete":  {&incompleteError{unlisted: 3}, clerkv1alpha1.ReasonListingIncomplete, false, "3 mirrored objects are missing"},
		"another's":   {backfill.ErrWrongInstance, clerkv1alpha1.ReasonWrongInstance, true, "the secret key is of another Clerk instance: "},
		"no such key": {unusableKey(&instance.Problem{Source: "key", Reason: "it is empty"}), clerkv1alpha1.ReasonSecretKeyUnusable, true, "key: it is empty: "},
	} {
		t.Run(name, func(t *testing.T) {
			g := NewWithT(t)
			config := syncedInstance(&noon, metav1.Condition{
				Type: clerkv1alpha1.ConditionBackendAPIReady, Status: metav1.ConditionTrue, Reason: clerkv1alpha1.ReasonAuthenticated,
			})
			config.Status.Sync.State, config.Status.Sync.HeldDeletions, config.Status.InstanceID = "Held", "3-abc", "ins_a"
			a := &attempt{}
			a.fail(tc.err, noon)
			a.project(config, noon.Add(time.Minute))
			synced := expectCondition(g, config, clerkv1alpha1.ConditionSynced, metav1.ConditionFalse, tc.wantReason)
			g.Expect(synced.Message).To(HavePrefix(tc.wantMessage))
			g.Expect(synced.Message).To(HaveSuffix(remedies[tc.wantReason] + "; what is mirrored stays as it is"))
			g.Expect(synced.ObservedGeneration).To(BeEquivalentTo(3))
			wantStatus, wantReason := metav1.ConditionTrue, clerkv1alpha1.ReasonAuthenticated
			if tc.wantBackend {
				wantStatus, wantReason = metav1.ConditionFalse, tc.wantReason
			}
			expectCondition(g, config, clerkv1alpha1.ConditionBackendAPIReady, wantStatus, wantReason)
			g.Expect(config.Status.Sync.State).To(Equal("Failed"))
			g.Expect(config.Status.Sync.HeldDeletions).To(Equal("3-abc"), "what was held still is")
			g.Expect(config.Status.Sync.LastTime.Time).To(BeTemporally("==", noon), "it was no success")
			g.Expect(config.Status.InstanceID).To(Equal("ins_a"), "which instance it is stays known")
		})
	}
}

func TestProject_tellsOfTheProgress(t *testing.T) {
	g := NewWithT(t)
	config := syncedInstance(nil)
	a := &attempt{}
	a.start(newRun(clerkv1alpha1.SyncFull), "ins_a", config)
	a.run.Progress.Done, a.run.Progress.Total, a.run.Progress.Stage = 5, 20, clerkv1alpha1.SyncMemberships
	a.project(config, noon)
	g.Expect(config.Status.InstanceID).To(Equal("ins_a"))
	g.Expect(config.Status.Sync.State).To(Equal("Full 25%"))
	g.Expect(config.Status.Sync.Progress).To(Equal(a.run.Progress))
	expectCondition(g, config, clerkv1alpha1.ConditionBackendAPIReady, metav1.ConditionTrue, clerkv1alpha1.ReasonAuthenticated)
	g.Expect(meta.FindStatusCondition(config.Status.Conditions, clerkv1alpha1.ConditionSynced)).To(BeNil(), "not yet")

	a.fail(errServer, noon)
	a.project(config, noon)
	g.Expect(config.Status.Sync.Progress.Interrupted).To(HaveValue(BeTrue()), "whoever takes it up must not delete")
	g.Expect(config.Status.Sync.Progress.Done).To(BeEquivalentTo(5))

	a.fail(backfill.ErrListingRepeats, noon)
	a.project(config, noon)
	g.Expect(config.Status.Sync.Progress).To(BeZero(), "nobody takes it up")
}

// What another process left behind stays until this one has begun a sync of its own, which takes it up.
func TestProject_leavesAnothersProgress(t *testing.T) {
	g := NewWithT(t)
	config := syncedInstance(nil)
	config.Status.Sync.Progress = clerkv1alpha1.ClerkInstanceSyncProgress{Type: clerkv1alpha1.SyncFull, Stage: clerkv1alpha1.SyncUsers, Offset: 500}
	a := &attempt{}
	a.lock(unusableKey(&instance.Problem{}))
	a.project(config, noon)
	g.Expect(config.Status.Sync.Progress.Offset).To(BeEquivalentTo(500))
	a.begun = true
	a.project(config, noon)
	g.Expect(config.Status.Sync.Progress).To(BeZero())
}

func TestProject_tellsOfASuccess(t *testing.T) {
	for name, tc := range map[string]struct {
		syncType  clerkv1alpha1.ClerkInstanceSyncType
		held      string
		wantFull  bool
		wantState string
		wantHeld  string
	}{
		"full":                                  {clerkv1alpha1.SyncFull, "", true, "Synced", ""},
		"full, nothing is held any more":        {clerkv1alpha1.SyncFull, "3-abc", true, "Synced", ""},
		"incremental":                           {clerkv1alpha1.SyncIncremental, "", false, "Synced", ""},
		"incremental, while deletions are held": {clerkv1alpha1.SyncIncremental, "3-abc", false, "Held", "3-abc"},
	} {
		t.Run(name, func(t *testing.T) {
			g := NewWithT(t)
			yesterday := noon.Add(-24 * time.Hour)
			config := syncedInstance(&yesterday)
			config.Annotations = map[string]string{clerkv1alpha1.AnnotationResyncRequestedAt: "now"}
			config.Status.Sync.HeldDeletions, config.Status.Roles = tc.held, []string{"org:old"}
			a := &attempt{roles: []string{"org:admin"}}
			a.start(newRun(tc.syncType), "ins_a", config)
			g.Expect(a.conclude(noon.Add(time.Minute))).To(Succeed())
			a.project(config, noon.Add(2*time.Minute))
			g.Expect(config.Status.Sync.LastTime.Time).To(BeTemporally("==", noon), "when it began")
			g.Expect(config.Status.Sync.LastSuccessTime.Time).To(BeTemporally("==", noon.Add(time.Minute)), "when it ended")
			g.Expect(config.Status.Sync.Progress).To(BeZero())
			g.Expect(config.Status.Sync.State).To(Equal(tc.wantState))
			g.Expect(config.Status.Sync.HeldDeletions).To(Equal(tc.wantHeld))
			expectCondition(g, config, clerkv1alpha1.ConditionSynced, metav1.ConditionTrue, clerkv1alpha1.ReasonSynced)
			expectCondition(g, config, clerkv1alpha1.ConditionFresh, metav1.ConditionTrue, clerkv1alpha1.ReasonUpToDate)
			if !tc.wantFull {
				g.Expect(config.Status.Sync.LastFullTime.Time).To(BeTemporally("==", yesterday))
				g.Expect(config.Status.Sync.LastRequest).To(BeEmpty())
				g.Expect(config.Status.Roles).To(Equal([]string{"org:old"}))
				return
			}
			g.Expect(config.Status.Sync.LastFullTime.Time).To(BeTemporally("==", noon))
			g.Expect(config.Status.Sync.LastRequest).To(Equal("now"))
			g.Expect(config.Status.Sync.LastFullUsers).To(Equal("All/Full"))
			g.Expect(config.Status.Roles).To(Equal([]string{"org:admin"}))
			expectCondition(g, config, clerkv1alpha1.ConditionPruneHeld, metav1.ConditionFalse, clerkv1alpha1.ReasonNothingHeld)
		})
	}
}

// A request that came while the sync ran is not answered by it.
func TestProject_answersTheRequestThatWasThereAtTheBeginning(t *testing.T) {
	g := NewWithT(t)
	config := syncedInstance(nil)
	config.Annotations = map[string]string{clerkv1alpha1.AnnotationResyncRequestedAt: "first"}
	a := &attempt{generation: config.Generation}
	a.start(newRun(clerkv1alpha1.SyncFull), "ins_a", config)
	config.Annotations[clerkv1alpha1.AnnotationResyncRequestedAt] = "second"
	a.use(a.api, config)
	g.Expect(a.conclude(noon)).To(Succeed())
	a.project(config, noon)
	g.Expect(config.Status.Sync.LastRequest).To(Equal("first"))
	g.Expect(config.Status.Sync.LastFullUsers).To(Equal("All/Full"))
	syncType, at := backfill.Due(config, noon)
	g.Expect(syncType).To(Equal(clerkv1alpha1.SyncFull))
	g.Expect(at).To(Equal(noon))
}

func TestWritten_forgetsWhatIsOver(t *testing.T) {
	g := NewWithT(t)
	config := syncedInstance(&noon)
	config.ResourceVersion = "41"
	a := &attempt{run: newRun(clerkv1alpha1.SyncFull)}
	g.Expect(a.isAhead(config)).To(BeFalse(), "nothing was written yet")
	a.written(config)
	g.Expect(a.run).NotTo(BeNil(), "it goes on")
	g.Expect(a.conclude(noon)).To(Succeed())
	config.ResourceVersion = "43"
	a.written(config)
	g.Expect(a.run).To(BeNil())
	g.Expect(a.over).To(BeFalse())
	for version, want := range map[string]bool{"42": true, "43": false, "44": false, "9": true, "100": false, "": false} {
		config.ResourceVersion = version
		g.Expect(a.isAhead(config)).To(Equal(want), version)
	}
}

func TestUse_anotherClientOrRequestIsWorthATryAtOnce(t *testing.T) {
	clients := clerkapi.NewClients(clerkapi.NewMetrics(prometheus.NewRegistry()))
	one, other := clients.For("a", "https://api.clerk.com", "sk_test_1"), clients.For("b", "https://api.clerk.com", "sk_test_2")
	for name, tc := range map[string]struct {
		api       *clerkapi.Client
		request   string
		otherSpec bool
		running   bool
		wantTry   bool
		wantRun   bool
	}{
		"the same":                       {api: one, request: "old"},
		"the same, running":              {api: one, request: "old", running: true, wantRun: true},
		"another client":                 {api: other, request: "old", wantTry: true},
		"another client, running":        {api: other, request: "old", running: true, wantTry: true},
		"another request":                {api: one, request: "new", wantTry: true},
		"another request while it runs":  {api: one, request: "new", running: true, wantRun: true},
		"another client and its request": {api: other, request: "new", running: true, wantTry: true},
		"another spec":                   {api: one, request: "old", otherSpec: true},
		"another spec while it runs":     {api: one, request: "old", otherSpec: true, running: true},
	} {
		t.Run(name, func(t *testing.T) {
			g := NewWithT(t)
			config := syncedInstance(&noon)
			config.Annotations = map[string]string{clerkv1alpha1.AnnotationResyncRequestedAt: tc.request}
			a := &attempt{api: one, request: "old", notBefore: noon, generation: config.Generation}
			if tc.otherSpec {
				config.Generation++
			}
			if tc.running {
				a.run = newRun(clerkv1alpha1.SyncFull)
			}
			a.use(tc.api, config)
			g.Expect(a.api).To(BeIdenticalTo(tc.api))
			g.Expect(a.generation).To(Equal(config.Generation))
			g.Expect(a.notBefore.IsZero()).To(Equal(tc.wantTry))
			g.Expect(a.unproven).To(Equal(tc.api == other), "another key is tried before the next sync is due")
			g.Expect(a.run != nil).To(Equal(tc.wantRun), "what was read with one key or spec is not mixed with another's")
		})
	}
	t.Run("the first one", func(t *testing.T) {
		g := NewWithT(t)
		a := &attempt{}
		a.use(one, syncedInstance(&noon))
		g.Expect(a.api).To(BeIdenticalTo(one))
		g.Expect(a.unproven).To(BeFalse(), "a new leader has no reason to distrust the key")
	})
}

func TestProjectRepairs_takesOnlyWhatProvesDeliveriesBack(t *testing.T) {
	for name, tc := range map[string]struct {
		syncType clerkv1alpha1.ClerkInstanceSyncType
		// event is how long after the condition turned an event came; zero for none.
		event time.Duration
		want  metav1.ConditionStatus
	}{
		"a full sync without repairs":                    {clerkv1alpha1.SyncFull, 0, metav1.ConditionTrue},
		"an incremental one, no event":                   {clerkv1alpha1.SyncIncremental, 0, metav1.ConditionFalse},
		"an incremental one, an event from before":       {clerkv1alpha1.SyncIncremental, -time.Hour, metav1.ConditionFalse},
		"an incremental one, an event arrived meanwhile": {clerkv1alpha1.SyncIncremental, time.Hour, metav1.ConditionTrue},
	} {
		t.Run(name, func(t *testing.T) {
			g := NewWithT(t)
			config := syncedInstance(&noon, metav1.Condition{
				Type: clerkv1alpha1.ConditionFresh, Status: metav1.ConditionFalse, Reason: clerkv1alpha1.ReasonRepairsNeeded,
			})
			if tc.event != 0 {
				turned := meta.FindStatusCondition(config.Status.Conditions, clerkv1alpha1.ConditionFresh).LastTransitionTime
				event := clerkv1alpha1.NewTimestamp(turned.Add(tc.event))
				config.Status.LastEventTime = &event
			}
			a := &attempt{run: newRun(tc.syncType)}
			a.projectRepairs(config)
			fresh := meta.FindStatusCondition(config.Status.Conditions, clerkv1alpha1.ConditionFresh)
			g.Expect(fresh.Status).To(Equal(tc.want))
		})
	}
}

func TestRoleKeys_fitTheStatus(t *testing.T) {
	g := NewWithT(t)
	listing := `{"data":[null,{"key":"org:member"},{"key":"org:admin"},{"key":""},{"key":"org:member"},{"id":"role_1","key":"` + strings.Repeat("x", 257) + `"}`
	for i := range 100 {
		listing += fmt.Sprintf(`,{"key":"org:z%03d"}`, i)
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, listing+`],"total_count":105}`)
	}))
	t.Cleanup(server.Close)
	api := clerkapi.NewClients(clerkapi.NewMetrics(prometheus.NewRegistry())).For("a", server.URL, "sk_test_1")
	keys, odd, err := roleKeys(t.Context(), api)
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(odd).To(Equal([]clerkapi.Entry{{Reason: "NoData"}, {Reason: "NoKey"}, {ID: "role_1", Reason: "InvalidKey"}}))
	g.Expect(len(keys)).To(And(BeNumerically("<=", 64), BeNumerically(">", 60)))
	g.Expect(keys[:3]).To(Equal([]string{"org:admin", "org:member", "org:z000"}))
}

func TestClearSync_leavesNothing(t *testing.T) {
	g := NewWithT(t)
	config := syncedInstance(&noon, metav1.Condition{
		Type: clerkv1alpha1.ConditionReady, Status: metav1.ConditionTrue, Reason: clerkv1alpha1.ReasonReceiving,
	})
	config.Status.Roles, config.Status.Sync.State = []string{"org:admin"}, "Synced"
	a := &attempt{}
	a.start(newRun(clerkv1alpha1.SyncFull), "ins_a", config)
	g.Expect(a.conclude(noon)).To(Succeed())
	a.project(config, noon)
	g.Expect(config.Status.Conditions).To(HaveLen(5))
	clearSync(config)
	g.Expect(config.Status.Sync).To(BeZero())
	g.Expect(config.Status.Roles).To(BeEmpty())
	g.Expect(config.Status.Conditions).To(HaveExactElements(HaveField("Type", clerkv1alpha1.ConditionReady)))
}
