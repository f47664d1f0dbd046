// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"fmt"
	"testing"
	"time"

	. "github.com/onsi/gomega"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"
	clocktesting "k8s.io/utils/clock/testing"

	clerkv1alpha1 "github.com/clerk-operator/clerk-operator/api/v1alpha1"
)

func at(uid types.UID, version string) *clerkv1alpha1.ClerkUser {
	return &clerkv1alpha1.ClerkUser{ObjectMeta: metav1.ObjectMeta{UID: uid, ResourceVersion: version}}
}

func TestWritten_isAheadUntilTheCacheShowsIt(t *testing.T) {
	g, w := NewWithT(t), newWritten(clock.RealClock{})
	g.Expect(w.isAhead(at("a", "9"))).To(BeFalse(), "nothing was written")
	w.note(at("a", "10"))
	g.Expect(w.isAhead(at("a", "9"))).To(BeTrue(), "versions are numbers, not words")
	g.Expect(w.isAhead(at("b", "9"))).To(BeFalse())
	g.Expect(w.isAhead(at("a", ""))).To(BeFalse(), "no version that can be compared")
	w.note(at("a", "10"))
	g.Expect(w.isAhead(at("a", "10"))).To(BeFalse())
	g.Expect(w.versions).To(BeEmpty(), "what the cache has shown is forgotten")
	w.note(at("a", "12"))
	g.Expect(w.isAhead(at("a", "14"))).To(BeFalse(), "somebody else has written since")
	g.Expect(w.versions).To(BeEmpty())
}

// A write that was lost with the API server's data is never shown.
func TestWritten_isNotAheadForGood(t *testing.T) {
	g, now := NewWithT(t), clocktesting.NewFakePassiveClock(time.Unix(0, 0))
	w := newWritten(now)
	w.note(at("a", "10"))
	now.SetTime(now.Now().Add(forgetWritten))
	g.Expect(w.isAhead(at("a", "9"))).To(BeTrue())
	now.SetTime(now.Now().Add(time.Nanosecond))
	g.Expect(w.isAhead(at("a", "9"))).To(BeFalse())
	g.Expect(w.versions).To(BeEmpty())
}

func TestWritten_forgetsWhatNobodyReadsAnyMore(t *testing.T) {
	g, now := NewWithT(t), clocktesting.NewFakePassiveClock(time.Unix(0, 0))
	w := newWritten(now)
	for i := range 20 * sweepWritten {
		now.SetTime(now.Now().Add(forgetWritten / sweepWritten))
		w.note(at(types.UID(fmt.Sprint(i)), "10"))
	}
	g.Expect(len(w.versions)).To(BeNumerically("<", 3*sweepWritten))
	g.Expect(w.isAhead(at(types.UID(fmt.Sprint(20*sweepWritten-1)), "9"))).To(BeTrue())
}
