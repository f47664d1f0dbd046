// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package clerk

import (
	"encoding/json"
	"strings"
	"testing"

	. "github.com/onsi/gomega"
)

func TestMetadata_isNormalisedOrLeftOut(t *testing.T) {
	nested := func(depth int) string {
		return strings.Repeat(`{"a":`, depth-1) + "{}" + strings.Repeat("}", depth-1)
	}
	filled := func(length int) string {
		return `{"a":"` + strings.Repeat("x", length-len(`{"a":""}`)) + `"}`
	}
	for name, tc := range map[string]struct {
		raw         string
		want        string
		wantDropped bool
	}{
		"absent":                     {raw: ""},
		"null":                       {raw: "null"},
		"empty":                      {raw: "{}"},
		"empty with white space":     {raw: "{ \n}"},
		"small":                      {raw: `{"plan":"pro"}`, want: `{"plan":"pro"}`},
		"keys are sorted":            {raw: `{"b":1,"a":{"d":1,"c":2}}`, want: `{"a":{"c":2,"d":1},"b":1}`},
		"white space goes":           {raw: "{ \"a\" :\n [ 1 , 2 ]\t}", want: `{"a":[1,2]}`},
		"order of a list stays":      {raw: `{"a":[3,1,2]}`, want: `{"a":[3,1,2]}`},
		"escapes are resolved":       {raw: `{"\u0061":"\u00e9\/"}`, want: `{"a":"é/"}`},
		"null, bools and fractions":  {raw: `{"a":null,"b":true,"c":0.15}`, want: `{"a":null,"b":true,"c":0.15}`},
		"beyond 2^53":                {raw: `{"a":9007199254740993}`, want: `{"a":9007199254740993}`},
		"largest":                    {raw: `{"a":9223372036854775807}`, want: `{"a":9223372036854775807}`},
		"smallest":                   {raw: `{"a":-9223372036854775808}`, want: `{"a":-9223372036854775808}`},
		"8 kB, all that Clerk holds": {raw: filled(8 << 10), want: filled(8 << 10)},
		"16 KiB":                     {raw: filled(16 << 10), want: filled(16 << 10)},
		"brackets in strings":        {raw: `{"a":"` + strings.Repeat(`[{\"\\`, 100) + `"}`, want: `{"a":"` + strings.Repeat(`[{\"\\`, 100) + `"}`},
		"siblings do not add up":     {raw: `{"a":[` + strings.Repeat("[],", 99) + `[]]}`, want: `{"a":[` + strings.Repeat("[],", 99) + `[]]}`},
		"nested 32 deep":             {raw: nested(32), want: nested(32)},

		"nested 33 deep":        {raw: nested(33), wantDropped: true},
		"nested in lists":       {raw: `{"a":` + strings.Repeat("[", 32) + strings.Repeat("]", 32) + "}", wantDropped: true},
		"more than 16 KiB":      {raw: filled(16<<10 + 1), wantDropped: true},
		"number beyond a float": {raw: `{"a":1e400}`, wantDropped: true},
		"number beyond, inside": {raw: `{"a":[{"b":-1e400}]}`, wantDropped: true},
		"array":                 {raw: `["a"]`, wantDropped: true},
		"string":                {raw: `"plan: pro"`, wantDropped: true},
		"number":                {raw: "7", wantDropped: true},
		"false":                 {raw: "false", wantDropped: true},
		"string with an object": {raw: `"{\"plan\":\"pro\"}"`, wantDropped: true},
	} {
		t.Run(name, func(t *testing.T) {
			g := NewWithT(t)
			got, ok := metadata(json.RawMessage(tc.raw))
			g.Expect(ok).To(Equal(!tc.wantDropped))
			if tc.want == "" {
				g.Expect(got).To(BeNil())
				return
			}
			g.Expect(string(got.Raw)).To(Equal(tc.want))
			again, ok := metadata(got.Raw)
			g.Expect(ok).To(BeTrue())
			g.Expect(again).To(Equal(got), "is not stable")
		})
	}
}
