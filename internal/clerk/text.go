// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package clerk

import (
	"strings"
	"unicode"
)

// Longest strings that are stored, in characters; longer ones are cut. They are the CRDs' own limits.
const (
	maxText  = 256
	maxEmail = 320
	maxRole  = 128
	maxPlan  = 128
)

// text makes a string from Clerk fit to be stored and printed: characters that a terminal or a reader can be fooled
// with (control, formatting and bidirectional ones, line breaks) and those that are none, which YAML and so the API server
// refuses, become spaces, runs of spaces become one, and what is longer than limit characters is cut.
func text(s string, limit int) string {
	s = strings.Map(func(r rune) rune {
		switch {
		case r == '\u200c' || r == '\u200d': // joiners, which scripts and emoji need
			return r
		case unicode.IsSpace(r) || unicode.In(r, unicode.Cc, unicode.Cf, unicode.Co, unicode.Cs, unicode.Zl, unicode.Zp,
			unicode.Noncharacter_Code_Point):
			return ' '
		}
		return r
	}, s)
	s = strings.Join(strings.Fields(s), " ")
	if runes := []rune(s); len(runes) > limit {
		s = strings.TrimSpace(string(runes[:limit]))
	}
	return s
}
