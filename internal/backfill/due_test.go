// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package backfill

import (
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	. "github.com/onsi/gomega"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/sets"

	clerkv1alpha1 "github.com/clerk-operator/clerk-operator/api/v1alpha1"
	"github.com/clerk-operator/clerk-operator/internal/clerk"
)

var noon = time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)

func at(t time.Time) *metav1.Time { return new(metav1.NewTime(t)) }

// due returns an instance that was synced at noon, in full, and whose intervals are not lengthened; change may say
// otherwise.
func due(change ...func(*clerkv1alpha1.ClerkInstance)) *clerkv1alpha1.ClerkInstance {
	config := &clerkv1alpha1.ClerkInstance{ObjectMeta: metav1.ObjectMeta{Name: "prod", Annotations: map[string]string{}}}
	for i := 0; lengthened(config, time.Hour) != time.Hour; i++ {
		config.UID = types.UID(fmt.Sprint(i))
	}
	config.Status.Sync = clerkv1alpha1.ClerkInstanceSyncStatus{LastTime: at(noon), LastFullTime: at(noon), LastFullUsers: "All/Full"}
	for _, f := range change {
		f(config)
	}
	return config
}

func intervals(incremental, full time.Duration) func(*clerkv1alpha1.ClerkInstance) {
	return func(i *clerkv1alpha1.ClerkInstance) {
		i.Spec.BackendAPI.Sync.Incremental = &metav1.Duration{Duration: incremental}
		i.Spec.BackendAPI.Sync.Full = &metav1.Duration{Duration: full}
	}
}

func annotated(key, value string) func(*clerkv1alpha1.ClerkInstance) {
	return func(i *clerkv1alpha1.ClerkInstance) { i.Annotations[key] = value }
}

func failed(after time.Duration) func(*clerkv1alpha1.ClerkInstance) {
	return func(i *clerkv1alpha1.ClerkInstance) {
		i.Status.Failures = append(i.Status.Failures, clerkv1alpha1.DeliveryFailure{MessageID: "msg", Reason: "NoID", Time: *at(noon.Add(after))})
	}
}

func status(change func(*clerkv1alpha1.ClerkInstanceSyncStatus)) func(*clerkv1alpha1.ClerkInstance) {
	return func(i *clerkv1alpha1.ClerkInstance) { change(&i.Status.Sync) }
}

func TestDue(t *testing.T) {
	const full, incremental = clerkv1alpha1.SyncFull, clerkv1alpha1.SyncIncremental
	const request, release = clerkv1alpha1.AnnotationResyncRequestedAt, clerkv1alpha1.AnnotationReleasePrune
	now := noon.Add(time.Minute)
	lastRequest := func(value string) func(*clerkv1alpha1.ClerkInstance) {
		return status(func(s *clerkv1alpha1.ClerkInstanceSyncStatus) { s.LastRequest = value })
	}
	held := status(func(s *clerkv1alpha1.ClerkInstanceSyncStatus) { s.HeldDeletions = "3-abc" })
	lastFull := func(before time.Duration) func(*clerkv1alpha1.ClerkInstance) {
		return status(func(s *clerkv1alpha1.ClerkInstanceSyncStatus) { s.LastFullTime = at(noon.Add(-before)) })
	}
	for name, tc := range map[string]struct {
		config   *clerkv1alpha1.ClerkInstance
		wantType clerkv1alpha1.ClerkInstanceSyncType
		want     time.Time
	}{
		"never synced":    {&clerkv1alpha1.ClerkInstance{}, full, now},
		"never in full":   {due(status(func(s *clerkv1alpha1.ClerkInstanceSyncStatus) { s.LastFullTime = nil })), full, now},
		"no last time":    {due(status(func(s *clerkv1alpha1.ClerkInstanceSyncStatus) { s.LastTime = nil })), full, now},
		"synced":          {due(), incremental, noon.Add(15 * time.Minute)},
		"another mirror":  {due(func(i *clerkv1alpha1.ClerkInstance) { i.Spec.Users.Mirror = clerkv1alpha1.UserMirrorMembers }), full, now},
		"another profile": {due(func(i *clerkv1alpha1.ClerkInstance) { i.Spec.Users.Profile = clerkv1alpha1.UserProfileMinimal }), full, now},
		"the same, said": {due(func(i *clerkv1alpha1.ClerkInstance) {
			i.Spec.Users = clerkv1alpha1.ClerkInstanceUsers{Mirror: "All", Profile: "Full"}
		}), incremental, noon.Add(15 * time.Minute)},
		"requested":                    {due(annotated(request, "now")), full, now},
		"requested again":              {due(annotated(request, "now"), lastRequest("before")), full, now},
		"followed":                     {due(annotated(request, "now"), lastRequest("now")), incremental, noon.Add(15 * time.Minute)},
		"request is empty":             {due(annotated(request, ""), lastRequest("before")), incremental, noon.Add(15 * time.Minute)},
		"request is gone":              {due(lastRequest("before")), incremental, noon.Add(15 * time.Minute)},
		"a long request":               {due(annotated(request, strings.Repeat("x", 300)), lastRequest(strings.Repeat("x", 256))), incremental, noon.Add(15 * time.Minute)},
		"held":                         {due(held), incremental, noon.Add(15 * time.Minute)},
		"released":                     {due(held, annotated(release, "3-abc")), full, now},
		"others released":              {due(held, annotated(release, "3-abd")), incremental, noon.Add(15 * time.Minute)},
		"nothing to let go":            {due(annotated(release, "3-abc")), incremental, noon.Add(15 * time.Minute)},
		"nothing for an empty release": {due(annotated(release, "")), incremental, noon.Add(15 * time.Minute)},

		"own interval":           {due(intervals(time.Minute, time.Hour)), incremental, noon.Add(time.Minute)},
		"own intervals, in full": {due(intervals(time.Minute, 90*time.Second), lastFull(time.Minute)), full, noon.Add(30 * time.Second)},
		"both at once":           {due(intervals(time.Minute, time.Minute)), full, noon.Add(time.Minute)},
		"almost a day":           {due(lastFull(23 * time.Hour)), incremental, noon.Add(15 * time.Minute)},
		"a day between two":      {due(lastFull(24*time.Hour - 10*time.Minute)), full, noon.Add(10 * time.Minute)},
		"a day":                  {due(lastFull(24 * time.Hour)), full, noon},
		"overdue for long":       {due(lastFull(96 * time.Hour)), full, noon.Add(-72 * time.Hour)},
		"a failure since":        {due(failed(time.Minute)), full, noon.Add(15 * time.Minute)},
		"a failure at that time": {due(failed(0)), full, noon.Add(15 * time.Minute)},
		"a field that is not stored": {due(func(i *clerkv1alpha1.ClerkInstance) {
			failed(time.Minute)(i)
			i.Status.Failures[0].Reason = "PublicMetadataNotStored"
		}), incremental, noon.Add(15 * time.Minute)},
		"a failure before":            {due(failed(-time.Second)), incremental, noon.Add(15 * time.Minute)},
		"a failure before and since":  {due(failed(-time.Hour), failed(time.Second), failed(-time.Minute)), full, noon.Add(15 * time.Minute)},
		"a failure since the full":    {due(lastFull(time.Hour), failed(-time.Minute)), full, noon.Add(15 * time.Minute)},
		"a failure delays nothing":    {due(lastFull(24*time.Hour-10*time.Minute), failed(0)), full, noon.Add(10 * time.Minute)},
		"a failure and own intervals": {due(intervals(time.Hour, 48*time.Hour), failed(0)), full, noon.Add(time.Hour)},
	} {
		t.Run(name, func(t *testing.T) {
			g := NewWithT(t)
			syncType, when := Due(tc.config, now)
			g.Expect(syncType).To(Equal(tc.wantType))
			g.Expect(when).To(BeTemporally("==", tc.want))
		})
	}
}

func TestDue_isSpreadByUpToATenth(t *testing.T) {
	g := NewWithT(t)
	different := sets.New[time.Duration]()
	for i := range 1000 {
		config := due(func(i *clerkv1alpha1.ClerkInstance) { i.Status.Sync.LastFullTime = at(noon.Add(-time.Hour)) })
		config.UID = types.UID(fmt.Sprintf("d1f0c2a4-%d", i))
		_, when := Due(config, noon)
		_, again := Due(config.DeepCopy(), noon.Add(time.Minute))
		g.Expect(again).To(Equal(when), "it is always the same")
		g.Expect(when.Sub(noon)).To(And(BeNumerically(">=", 15*time.Minute), BeNumerically("<", 15*time.Minute+90*time.Second)))
		g.Expect(Overdue(config, noon).Sub(noon)).To(Equal(2 * when.Sub(noon)))
		different.Insert(when.Sub(noon))
	}
	g.Expect(different.Len()).To(BeNumerically(">", 100))
}

func TestOverdue_isTwoIntervals(t *testing.T) {
	g := NewWithT(t)
	g.Expect(Overdue(due(), noon)).To(BeTemporally("==", noon.Add(30*time.Minute)))
	g.Expect(Overdue(due(intervals(time.Minute, time.Hour)), noon)).To(BeTemporally("==", noon.Add(2*time.Minute)))
}

func TestRequest_fitsTheStatus(t *testing.T) {
	g := NewWithT(t)
	g.Expect(Request(due())).To(BeEmpty())
	g.Expect(Request(due(annotated(clerkv1alpha1.AnnotationResyncRequestedAt, "now")))).To(Equal("now"))
	g.Expect(Request(due(annotated(clerkv1alpha1.AnnotationResyncRequestedAt, strings.Repeat("x", 300))))).To(HaveLen(256))
	half := Request(due(annotated(clerkv1alpha1.AnnotationResyncRequestedAt, "x"+strings.Repeat("é", 200))))
	g.Expect(utf8.ValidString(half)).To(BeTrue(), "what the API server would store otherwise is another request, again and again")
	g.Expect(half).To(HavePrefix("xéé"))
}

func TestMaxDeletions(t *testing.T) {
	number, text := intstr.FromInt32, intstr.FromString
	for name, tc := range map[string]struct {
		limit    *intstr.IntOrString
		mirrored int
		want     int
	}{
		"a hundredth of nothing":        {nil, 0, 0},
		"a hundredth of one":            {nil, 1, 1},
		"a hundredth of 100":            {nil, 100, 1},
		"a hundredth of 101":            {nil, 101, 2},
		"a hundredth of 100000":         {nil, 100000, 1000},
		"no percent":                    {new(text("0%")), 100, 0},
		"a third, rounded up":           {new(text("33%")), 10, 4},
		"all":                           {new(text("100%")), 17, 17},
		"none":                          {new(number(0)), 100, 0},
		"a number":                      {new(number(5)), 100, 5},
		"a number beyond what there is": {new(number(500)), 100, 500},
		"nonsense":                      {new(text("many")), 100, 0},
		"a number as text":              {new(text("5")), 100, 0},
	} {
		t.Run(name, func(t *testing.T) {
			config := &clerkv1alpha1.ClerkInstance{}
			config.Spec.BackendAPI.Sync.MaxDeletions = tc.limit
			NewWithT(t).Expect(MaxDeletions(config, tc.mirrored)).To(Equal(tc.want))
		})
	}
}

func TestToken_namesExactlyTheseDeletions(t *testing.T) {
	g := NewWithT(t)
	users := func(ids ...string) map[clerk.Kind][]string { return map[clerk.Kind][]string{clerk.KindUser: ids} }
	g.Expect(Token(nil)).To(BeEmpty())
	g.Expect(Token(users())).To(BeEmpty())
	token := Token(users("user_a", "user_b", "user_c"))
	g.Expect(token).To(MatchRegexp(`^3-[0-9a-f]{10}$`), "it fits status.sync.heldDeletions, and names nobody")
	g.Expect(Token(users("user_c", "user_a", "user_b"))).To(Equal(token))
	for name, other := range map[string]map[clerk.Kind][]string{
		"one less": users("user_a", "user_b"), "one more": users("user_a", "user_b", "user_c", "user_d"), "another": users("user_a", "user_b", "user_d"),
		"other case": users("user_a", "user_b", "user_C"), "another kind, too": {clerk.KindUser: {"user_a", "user_b"}, clerk.KindOrganization: {"org_c"}},
	} {
		g.Expect(Token(other)).NotTo(Equal(token), name)
	}
	both := map[clerk.Kind][]string{clerk.KindUser: {"user_a", "user_b"}, clerk.KindMembership: {"orgmem_a"}, clerk.KindOrganization: {"org_a"}}
	want := Token(both)
	for range 20 { // whatever the order of a map
		g.Expect(Token(map[clerk.Kind][]string{
			clerk.KindOrganization: {"org_a"}, clerk.KindMembership: {"orgmem_a"}, clerk.KindUser: {"user_b", "user_a"},
		})).To(Equal(want))
	}
}
