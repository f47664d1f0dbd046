// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"errors"
	"fmt"
	"testing"
	"time"

	. "github.com/onsi/gomega"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/events"
	"k8s.io/utils/clock"
	clocktesting "k8s.io/utils/clock/testing"
	ctrl "sigs.k8s.io/controller-runtime"

	clerkv1alpha1 "github.com/clerk-operator/clerk-operator/api/v1alpha1"
)

func TestStalledOnly(t *testing.T) {
	passing := errors.New("passing")
	soon, later := stalled("A", time.Second, "a"), stalled("B", time.Minute, "b")
	for name, tc := range map[string]struct {
		err         error
		wantRecheck time.Duration
		want        bool
	}{
		"passing":               {err: passing},
		"stalled":               {err: soon, wantRecheck: time.Second, want: true},
		"wrapped":               {err: fmt.Errorf("wrapped: %w", soon), wantRecheck: time.Second, want: true},
		"both stalled":          {err: errors.Join(later, soon), wantRecheck: time.Second, want: true},
		"nested":                {err: errors.Join(errors.Join(stalled("C", 0, "c"), nil), later), wantRecheck: time.Minute, want: true},
		"one of them passing":   {err: errors.Join(soon, passing)},
		"passing, deeply":       {err: errors.Join(soon, errors.Join(later, passing))},
		"none of them any more": {err: errors.Join(passing, passing)},
	} {
		t.Run(name, func(t *testing.T) {
			g := NewWithT(t)
			recheck, ok := stalledOnly(tc.err)
			g.Expect(ok).To(Equal(tc.want))
			g.Expect(recheck).To(Equal(tc.wantRecheck))
		})
	}
}

func TestTell_isOfTransitionsOnly(t *testing.T) {
	organization, user := &clerkv1alpha1.ClerkOrganization{}, &clerkv1alpha1.ClerkUser{}
	condition := func(status metav1.ConditionStatus, reason string) []metav1.Condition {
		return []metav1.Condition{{Type: clerkv1alpha1.ConditionReady, Status: status, Reason: reason, Message: "m"}}
	}
	for name, tc := range map[string]struct {
		object conditioned
		before []metav1.Condition
		after  []metav1.Condition
		want   string
	}{
		"nothing known":               {object: user},
		"a user is ready at once":     {object: user, after: condition("True", "Active")},
		"an organization becomes one": {object: organization, after: condition("True", "Provisioned"), want: "Normal Provisioned m"},
		"an organization gets none":   {object: organization, after: condition("False", "NoTenantClass"), want: "Warning NoTenantClass m"},
		"nothing changed":             {object: organization, before: condition("True", "Provisioned"), after: condition("True", "Provisioned")},
		"a user is suspended":         {object: user, before: condition("True", "Active"), after: condition("True", "Suspended"), want: "Normal Suspended m"},
		"a wait is no warning":        {object: organization, before: condition("True", "Provisioned"), after: condition("False", "Deleting"), want: "Normal Deleting m"},
		"a failure is":                {object: user, before: condition("True", "Active"), after: condition("False", "ReconcileError"), want: "Warning ReconcileError m"},
	} {
		t.Run(name, func(t *testing.T) {
			g := NewWithT(t)
			recorder := events.NewFakeRecorder(1)
			before, after := tc.object.DeepCopyObject().(conditioned), tc.object.DeepCopyObject().(conditioned)
			*before.GetConditions(), *after.GetConditions() = tc.before, tc.after
			(&base{recorder: recorder}).tell(before, after)
			if tc.want == "" {
				g.Expect(recorder.Events).NotTo(Receive())
				return
			}
			g.Expect(recorder.Events).To(Receive(Equal(tc.want)))
		})
	}
}

func TestSchedule_isDueOnceInAnInterval(t *testing.T) {
	g := NewWithT(t)
	clock := clocktesting.NewFakePassiveClock(time.Now())
	s := newSchedule(clock, time.Hour)
	g.Expect(s.isDue("a")).To(BeFalse(), "what is seen for the first time is spread over the interval")
	clock.SetTime(clock.Now().Add(time.Hour))
	g.Expect(s.isDue("a")).To(BeTrue())
	g.Expect(s.isDue("a")).To(BeTrue(), "until it is done")
	s.done("a")
	g.Expect(s.isDue("a")).To(BeFalse())
	clock.SetTime(clock.Now().Add(time.Hour))
	g.Expect(s.isDue("a")).To(BeTrue())
	s.forget("a")
	g.Expect(s.due).To(BeEmpty())
}

func TestExpiry(t *testing.T) {
	deleted := time.Date(2026, 5, 1, 12, 0, 0, 500, time.UTC)
	for name, tc := range map[string]struct {
		created time.Time
		want    time.Time
	}{
		"heard of at once":             {created: deleted, want: time.Date(2026, 7, 30, 12, 0, 0, 0, time.UTC)},
		"heard of late":                {created: deleted.Add(24 * time.Hour), want: time.Date(2026, 7, 31, 12, 0, 0, 0, time.UTC)},
		"from a clock that is behind":  {created: deleted.Add(-time.Hour), want: time.Date(2026, 7, 30, 12, 0, 0, 0, time.UTC)},
		"restored long after deletion": {created: deleted.Add(365 * 24 * time.Hour), want: deleted.Add(455 * 24 * time.Hour).Truncate(time.Second)},
	} {
		t.Run(name, func(t *testing.T) {
			tombstone := &clerkv1alpha1.ClerkTombstone{}
			tombstone.Spec.DeletedAt = clerkv1alpha1.NewTimestamp(deleted)
			tombstone.CreationTimestamp = metav1.NewTime(tc.created)
			NewWithT(t).Expect(expiry(tombstone)).To(BeTemporally("==", tc.want))
		})
	}
}

// An item that comes back by itself would keep the priority of the event that it came with first, for good.
func TestFinish_whatComesBackLaterWaitsForEverythingElse(t *testing.T) {
	g, b := NewWithT(t), &base{written: newWritten(clock.RealClock{})}
	finish := func(after time.Duration) *int {
		user := &clerkv1alpha1.ClerkUser{}
		result, err := b.finish(t.Context(), user, user.DeepCopy(), ctrl.Result{RequeueAfter: after}, nil)
		g.Expect(err).NotTo(HaveOccurred())
		return result.Priority
	}
	g.Expect(finish(resyncInterval)).To(HaveValue(Equal(rolloutPriority)))
	g.Expect(finish(recheckInterval)).To(HaveValue(Equal(rolloutPriority)))
	g.Expect(finish(catchUpInterval)).To(BeNil(), "what is urgent stays so until the cache has caught up")
	g.Expect(finish(0)).To(BeNil())
}
