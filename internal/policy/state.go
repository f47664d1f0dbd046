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
	// Pending says that this process does not know yet.
	Pending Standing = "Pending"
	// Enforced says that every policy holds.
	Enforced Standing = "Enforced"
	// NotEnforced says that some policy does not hold.
	NotEnforced Standing = "NotEnforced"
	// NotProven says that for longer than an answer counts no answer to some probe has said whether the policy holds.
	NotProven Standing = "NotProven"
)

// State is what is known of the policies at a time.
type State struct {
	Standing Standing
	// Message is for people: which policies do not hold, and what they let through.
	Message string
}

// answerCounts is how long an answer counts when no newer one can be had.
const answerCounts = 10 * time.Minute

// maxWords is how much of an answer is told in bytes: conditions have only so much room.
const maxWords = 256

// heard is what is known of one probe.
type heard struct {
	// answer is the last one that said whether the policy holds, and at when that was.
	answer Answer
	at     time.Time
	// words are the API server's, or say that there are none; empty when the probe was let through.
	words string
}

// noAnswer stands for errors that differ from time to time: conditions must not.
const noAnswer = "no answer"

// with returns what is known after one more answer: nil, or the error that Ask returned.
func (h heard) with(answer Answer, err error, at time.Time) heard {
	switch {
	case err == nil:
		h.words = ""
	case isDecided(err):
		h.words = strings.ToValidUTF8(err.Error()[:min(len(err.Error()), maxWords)], "")
	default:
		h.words = noAnswer
	}
	if answer != Unknown {
		h.answer, h.at = answer, at
	}
	return h
}

// now returns what the probe says at a time. That something does not hold counts until it is seen to hold.
func (h heard) now(t time.Time) Answer {
	if h.answer == Holds && t.Sub(h.at) > answerCounts {
		return Unknown
	}
	return h.answer
}

// sum sums up what is known of probes, which is in their order.
func sum(probes []Probe, known []heard, t time.Time) State {
	var broken, unproven []string
	for i := range probes {
		switch known[i].now(t) {
		case DoesNotHold:
			broken = append(broken, fmt.Sprintf("%s does not refuse %s", probes[i].Policy, probes[i].Attempt))
		case Unknown:
			unproven = append(unproven, fmt.Sprintf("%s is not proven by %s (%s)", probes[i].Policy, probes[i].Attempt, known[i].words))
		case Holds:
		}
	}
	switch {
	case len(broken) > 0:
		return State{NotEnforced, strings.Join(broken, ", ")}
	case len(unproven) > 0:
		// What keeps one probe from being answered mostly does so with others, too.
		return State{NotProven, fmt.Sprintf("%d of %d probes say nothing: %s", len(unproven), len(probes), unproven[0])}
	default:
		return State{Enforced, "every policy refuses what it is probed with"}
	}
}

// inForce reports for each policy whether all of its probes hold.
func inForce(probes []Probe, known []heard, t time.Time) map[string]bool {
	policies := map[string]bool{}
	for i := range probes {
		was, seen := policies[probes[i].Policy]
		policies[probes[i].Policy] = known[i].now(t) == Holds && (was || !seen)
	}
	return policies
}
