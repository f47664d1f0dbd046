// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"fmt"
	"strings"
	"time"
)

// Standing is what all probes together say of the policies.
type Standing string

// The standings.
const (
	// Pending says that this process has not probed yet.
	Pending Standing = "Pending"
	// Enforced says that every policy holds.
	Enforced Standing = "Enforced"
	// NotEnforced says that some policy does not hold.
	NotEnforced Standing = "NotEnforced"
	// Unanswered says that the API server has not answered some probe for longer than an answer counts.
	Unanswered Standing = "Unanswered"
)

// State is what is known of the policies at a time.
type State struct {
	Standing Standing
	// Message is for people: which policies do not hold, and what they let through.
	Message string
}

// answerCounts is how long an answer counts when no newer one can be had.
const answerCounts = 10 * time.Minute

// answers are the last answers to probes that were Holds or DoesNotHold, in the probes' order, with their times.
type answers []timedAnswer

type timedAnswer struct {
	answer Answer
	at     time.Time
}

// note takes an answer to the i-th probe up, unless it says nothing.
func (a answers) note(i int, answer Answer, at time.Time) {
	if answer != Unknown {
		a[i] = timedAnswer{answer, at}
	}
}

// of returns what the i-th probe says at a time. That something does not hold counts until it is seen to hold.
func (a answers) of(i int, now time.Time) Answer {
	if a[i].answer == Holds && now.Sub(a[i].at) > answerCounts {
		return Unknown
	}
	return a[i].answer
}

// state sums the answers to probes up.
func (a answers) state(probes []Probe, now time.Time) State {
	var broken []string
	unanswered := false
	for i := range probes {
		switch a.of(i, now) {
		case DoesNotHold:
			broken = append(broken, fmt.Sprintf("%s does not refuse %s", probes[i].Policy, probes[i].Attempt))
		case Unknown:
			unanswered = true
		case Holds:
		}
	}
	switch {
	case len(broken) > 0:
		return State{NotEnforced, strings.Join(broken, ", ")}
	case unanswered:
		return State{Unanswered, fmt.Sprintf("the API server has not answered for %s; see the operator's log", answerCounts)}
	default:
		return State{Enforced, "every policy refuses what it is probed with"}
	}
}

// holds reports for each policy whether all of its probes hold.
func (a answers) holds(probes []Probe, now time.Time) map[string]bool {
	holds := map[string]bool{}
	for i := range probes {
		is := a.of(i, now) == Holds
		if was, known := holds[probes[i].Policy]; known {
			is = is && was
		}
		holds[probes[i].Policy] = is
	}
	return holds
}
