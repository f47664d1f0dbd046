// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"errors"
	"strings"
	"testing"
	"time"

	. "github.com/onsi/gomega"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

func TestState(t *testing.T) {
	probes := []Probe{{Policy: "a", Attempt: "x"}, {Policy: "b", Attempt: "y"}, {Policy: "a", Attempt: "z"}}
	now := time.Now()
	type answered struct {
		answer Answer
		ago    time.Duration
	}
	for name, c := range map[string]struct {
		heard [][]answered // by probe, the oldest first
		want  Standing
		// holds are the policies all of whose probes hold.
		holds map[string]bool
	}{
		"all hold": {
			[][]answered{{{Holds, 0}}, {{Holds, 0}}, {{Holds, 0}}}, Enforced, map[string]bool{"a": true, "b": true},
		},
		"one does not": {
			[][]answered{{{Holds, 0}}, {{Holds, 0}}, {{DoesNotHold, 0}}}, NotEnforced, map[string]bool{"a": false, "b": true},
		},
		"nothing was ever answered": {
			[][]answered{{}, {{Unknown, 0}}, {}}, NotProven, map[string]bool{"a": false, "b": false},
		},
		"one was never answered": {
			[][]answered{{{Holds, 0}}, {{Unknown, 0}}, {{Holds, 0}}}, NotProven, map[string]bool{"a": true, "b": false},
		},
		"the last answer counts for a while": {
			[][]answered{{{Holds, 9 * time.Minute}, {Unknown, 0}}, {{Holds, 0}}, {{Holds, 0}}},
			Enforced, map[string]bool{"a": true, "b": true},
		},
		"and not for longer": {
			[][]answered{{{Holds, 11 * time.Minute}, {Unknown, 0}}, {{Holds, 0}}, {{Holds, 0}}},
			NotProven, map[string]bool{"a": false, "b": true},
		},
		"what did not hold counts until it holds": {
			[][]answered{{{Holds, 0}}, {{DoesNotHold, time.Hour}, {Unknown, 0}}, {}}, NotEnforced, map[string]bool{"a": false, "b": false},
		},
		"it holds again": {
			[][]answered{{{Holds, 0}}, {{DoesNotHold, time.Hour}, {Holds, 0}}, {{Holds, 0}}},
			Enforced, map[string]bool{"a": true, "b": true},
		},
	} {
		t.Run(name, func(t *testing.T) {
			g := NewWithT(t)
			known := make([]heard, len(probes))
			for i, list := range c.heard {
				for _, h := range list {
					known[i] = known[i].with(h.answer, nil, now.Add(-h.ago))
				}
			}
			g.Expect(sum(probes, known, now).Standing).To(Equal(c.want))
			g.Expect(inForce(probes, known, now)).To(Equal(c.holds))
		})
	}
}

func TestState_saysWhatIsLetThrough(t *testing.T) {
	g, now := NewWithT(t), time.Now()
	probes := []Probe{{Policy: "a", Attempt: "x"}, {Policy: "b", Attempt: "y"}}
	through := heard{}.with(DoesNotHold, nil, now)
	g.Expect(sum(probes, []heard{through, through}, now).Message).To(Equal("a does not refuse x, b does not refuse y"))

	refused := apierrors.NewForbidden(schema.GroupResource{Resource: "secrets"}, "probe", errors.New(strings.Repeat("no", 999)))
	unknown := heard{}.with(Unknown, refused, now)
	message := sum(probes, []heard{unknown, unknown}, now).Message
	g.Expect(message).To(HavePrefix(`2 of 2 probes say nothing: a is not proven by x (secrets "probe" is forbidden: nono`))
	g.Expect(len(message)).To(BeNumerically("<", 512))

	// What differs from time to time is not told.
	for _, port := range []string{"1", "2"} {
		silent := heard{}.with(Unknown, errors.New("read tcp 10.0.0.1:"+port+": i/o timeout"), now)
		g.Expect(sum(probes[:1], []heard{silent}, now).Message).To(Equal("1 of 1 probes say nothing: a is not proven by x (no answer)"))
	}
}
