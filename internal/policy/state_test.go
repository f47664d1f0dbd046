// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"testing"
	"time"

	. "github.com/onsi/gomega"
)

func TestState(t *testing.T) {
	probes := []Probe{{Policy: "a", Attempt: "x"}, {Policy: "b", Attempt: "y"}, {Policy: "a", Attempt: "z"}}
	now := time.Now()
	type heard struct {
		answer Answer
		ago    time.Duration
	}
	for name, c := range map[string]struct {
		heard [][]heard // by probe, the oldest first
		want  Standing
		// holds are the policies all of whose probes hold.
		holds map[string]bool
	}{
		"all hold": {
			[][]heard{{{Holds, 0}}, {{Holds, 0}}, {{Holds, 0}}}, Enforced, map[string]bool{"a": true, "b": true},
		},
		"one does not": {
			[][]heard{{{Holds, 0}}, {{Holds, 0}}, {{DoesNotHold, 0}}}, NotEnforced, map[string]bool{"a": false, "b": true},
		},
		"nothing was ever answered": {
			[][]heard{{}, {{Unknown, 0}}, {}}, Unanswered, map[string]bool{"a": false, "b": false},
		},
		"one was never answered": {
			[][]heard{{{Holds, 0}}, {{Unknown, 0}}, {{Holds, 0}}}, Unanswered, map[string]bool{"a": true, "b": false},
		},
		"the last answer counts for a while": {
			[][]heard{{{Holds, 9 * time.Minute}, {Unknown, 0}}, {{Holds, 0}}, {{Holds, 0}}},
			Enforced, map[string]bool{"a": true, "b": true},
		},
		"and not for longer": {
			[][]heard{{{Holds, 11 * time.Minute}, {Unknown, 0}}, {{Holds, 0}}, {{Holds, 0}}},
			Unanswered, map[string]bool{"a": false, "b": true},
		},
		"what did not hold counts until it holds": {
			[][]heard{{{Holds, 0}}, {{DoesNotHold, time.Hour}, {Unknown, 0}}, {}}, NotEnforced, map[string]bool{"a": false, "b": false},
		},
		"it holds again": {
			[][]heard{{{Holds, 0}}, {{DoesNotHold, time.Hour}, {Holds, 0}}, {{Holds, 0}}},
			Enforced, map[string]bool{"a": true, "b": true},
		},
	} {
		t.Run(name, func(t *testing.T) {
			g := NewWithT(t)
			a := make(answers, len(probes))
			for i, list := range c.heard {
				for _, h := range list {
					a.note(i, h.answer, now.Add(-h.ago))
				}
			}
			g.Expect(a.state(probes, now).Standing).To(Equal(c.want))
			g.Expect(a.holds(probes, now)).To(Equal(c.holds))
		})
	}
}

func TestState_saysWhatIsLetThrough(t *testing.T) {
	g := NewWithT(t)
	probes := []Probe{{Policy: "a", Attempt: "x"}, {Policy: "b", Attempt: "y"}}
	a := answers{{DoesNotHold, time.Now()}, {DoesNotHold, time.Now()}}
	g.Expect(a.state(probes, time.Now()).Message).To(Equal("a does not refuse x, b does not refuse y"))
}
