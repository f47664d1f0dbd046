// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package clerk

import (
	"strings"
	"testing"
	"unicode/utf8"

	. "github.com/onsi/gomega"
)

func TestText_isFitToBePrinted(t *testing.T) {
	for name, tc := range map[string]struct{ in, want string }{
		"plain":                 {"Amalia Noether", "Amalia Noether"},
		"empty":                 {"", ""},
		"only what is dropped":  {" \t\u200b\u202e\ufeff\x00\n", ""},
		"newlines":              {"a\nb\r\nc\rd\ve\ff\u0085g\u2028h\u2029i", "a b c d e f g h i"},
		"a line of a log":       {"x\n2024-05-28 ERROR forged", "x 2024-05-28 ERROR forged"},
		"a YAML document":       {"a: b\n---\nkind: ClusterRoleBinding\n- x", "a: b --- kind: ClusterRoleBinding - x"},
		"ANSI escapes":          {"\x1b[31mred\x1b[0m\u009b2J\a", "[31mred [0m 2J"},
		"backspaces":            {"admin\b\b\b\b\buser\x7f", "admin user"},
		"nul":                   {"a\x00b", "a b"},
		"right to left":         {"invoice\u202efdp.exe", "invoice fdp.exe"},
		"bidirectional marks":   {"\u2066a\u2067b\u2068c\u2069\u200ed\u200fe\u061cf\u202ag\u202c", "a b c d e f g"},
		"zero width":            {"ad\u200bmin\u2060\ufeff\u00ad!", "ad min !"},
		"tag characters":        {"a\U000e0041\U000e007fb", "a b"},
		"private use":           {"a\ue000\U000f0000b", "a b"},
		"no characters":         {"a\ufdd0b\ufffec\uffffd\U0001ffffe", "a b c d e"},
		"runs of spaces":        {"  a \u00a0\u3000\u2003 b  ", "a b"},
		"letters of the world":  {"Gödel 諾特 Ноётер نوتر", "Gödel 諾特 Ноётер نوتر"},
		"combining marks":       {"e\u0301", "e\u0301"},
		"emoji with a joiner":   {"👩\u200d🔬 ❤\ufe0f", "👩\u200d🔬 ❤\ufe0f"},
		"joiners of scripts":    {"می\u200cخواهم", "می\u200cخواهم"},
		"invalid UTF-8":         {"a\xffb", "a\ufffdb"},
		"markup is not our job": {"<script>alert('x')</script>", "<script>alert('x')</script>"},
	} {
		t.Run(name, func(t *testing.T) {
			g := NewWithT(t)
			got := text(tc.in, maxText)
			g.Expect(got).To(Equal(tc.want))
			g.Expect(text(got, maxText)).To(Equal(got), "is not stable")
		})
	}
}

func TestText_isCutByCharacters(t *testing.T) {
	g := NewWithT(t)
	g.Expect(text(strings.Repeat("a", 10<<10), maxText)).To(Equal(strings.Repeat("a", maxText)))
	g.Expect(text(strings.Repeat("é", maxText+1), maxText)).To(Equal(strings.Repeat("é", maxText)))
	g.Expect(text(strings.Repeat("é", maxText), maxText)).To(Equal(strings.Repeat("é", maxText)))
	g.Expect(text("ab cd", 3)).To(Equal("ab"), "ends in the space at which it was cut")
	g.Expect(utf8.ValidString(text(strings.Repeat("👩\u200d🔬", 1000), maxText))).To(BeTrue())
}
