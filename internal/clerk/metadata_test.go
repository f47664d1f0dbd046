// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package clerk

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"

	. "github.com/onsi/gomega"
	"sigs.k8s.io/yaml"
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
		"what YAML has not":          {raw: "{\"\\u007f\":\"\u0085\ufeff\uffff\"}", want: "{\"\ufffd\":\"\ufffd\ufffd\ufffd\"}"},
		"an escape is no character":  {raw: `{"a":"\\u007f"}`, want: `{"a":"\\u007f"}`},
		"the longest key":            {raw: `{"a":{"` + strings.Repeat("k", 1022) + `":1}}`, want: `{"a":{"` + strings.Repeat("k", 1022) + `":1}}`},

		"a longer key":          {raw: `{"a":[{"b":1,"` + strings.Repeat("k", 1023) + `":1}]}`, wantDropped: true},
		"a longer replaced key": {raw: `{"` + strings.Repeat(`\u007f`, 341) + `":1}`, wantDropped: true},
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

// The API server reads an apply as YAML, of which JSON is only almost a part: what it refuses to read could never be stored
// and would be delivered for ever.
func TestMetadata_meansTheSameInYAML(t *testing.T) {
	g := NewWithT(t)
	for _, key := range []string{"<<", "=", "~", "yes", "1", "0x1", "2001-01-01", "", "- a", "? a", "*a", "&a", "!!int", strings.Repeat("\"", 511)} {
		g.Expect(sameInYAML(map[string]any{key: map[string]any{key: key}})).To(Succeed(), key)
	}
	for r := rune(0); r <= utf8.MaxRune; r++ {
		if r > 0xffff && r&0xffff > 1 && r&0xffff < 0xfffe {
			continue // one is like the other there
		}
		around := "x" + string(r) + "y"
		g.Expect(sameInYAML(map[string]any{around: around})).To(Succeed(), "%U", r)
	}
}

func sameInYAML(object map[string]any) error {
	raw, err := json.Marshal(object)
	if err != nil {
		return err
	}
	stored, ok := metadata(raw)
	if !ok {
		return errors.New("it is left out")
	}
	var want, got, printed any
	if err := json.Unmarshal(readable(raw), &want); err != nil {
		return err
	}
	if err := yaml.Unmarshal(stored.Raw, &got); err != nil {
		return err
	}
	// As the API server answers, and kubectl prints it.
	answered, err := json.Marshal(got)
	if err != nil {
		return err
	}
	if err := yaml.Unmarshal(answered, &printed); err != nil {
		return err
	}
	if !reflect.DeepEqual(got, want) || !reflect.DeepEqual(printed, want) {
		return fmt.Errorf("got %q, printed %q, want %q", got, printed, want)
	}
	return nil
}
