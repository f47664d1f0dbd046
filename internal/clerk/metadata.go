// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package clerk

import (
	"bytes"
	"encoding/json"
	"unicode/utf8"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	kjson "k8s.io/apimachinery/pkg/util/json"
)

const (
	// maxMetadata is twice what Clerk lets metadata be, in bytes.
	maxMetadata = 16 << 10
	// maxMetadataDepth is how deep metadata may nest.
	maxMetadataDepth = 32
	// maxMetadataKey is how long a key of metadata may be as it is written, in bytes: YAML knows none of more than 1024
	// characters with its quotes.
	maxMetadataKey = 1022
)

// metadata returns public metadata as it is stored: normalised, so that the same metadata is the same bytes. It
// returns nil for none, and false for metadata that the API server could not hold, which is left out whole.
func metadata(raw json.RawMessage) (*apiextensionsv1.JSON, bool) {
	if len(raw) == 0 || string(raw) == "null" {
		return nil, true
	}
	if len(raw) > maxMetadata {
		return nil, false
	}
	if depth, _ := measure(raw); depth > maxMetadataDepth {
		return nil, false
	}
	var object map[string]any
	// Kubernetes' own decoder reads numbers as the API server stores them, and refuses those that it could not.
	if err := kjson.Unmarshal(raw, &object); err != nil || object == nil {
		return nil, false
	}
	if len(object) == 0 {
		return nil, true
	}
	normalised, err := json.Marshal(object)
	if err != nil {
		return nil, false
	}
	normalised = readable(normalised)
	if _, longestKey := measure(normalised); longestKey > maxMetadataKey {
		return nil, false
	}
	return &apiextensionsv1.JSON{Raw: normalised}, true
}

// readable makes valid JSON valid YAML of the same meaning, but for characters that JSON has and YAML has not, or takes for
// the end of a line: they become U+FFFD. The API server reads an apply as YAML, and kubectl -o yaml could not print what
// holds them, nor anything that is listed with it.
func readable(raw []byte) []byte {
	return bytes.Map(func(r rune) rune {
		if r >= '\u007f' && r <= '\u009f' || r == '\ufeff' || r == '\ufffe' || r == '\uffff' {
			return utf8.RuneError
		}
		return r
	}, raw)
}

// measure returns how deep valid JSON nests and, where it has no white space, how long its longest key is as it is written.
func measure(raw []byte) (deepest, longestKey int) {
	var current, start int
	var inString, escaped bool
	for i, c := range raw {
		switch {
		case escaped:
			escaped = false
		case inString:
			escaped = c == '\\'
			inString = c != '"'
			if !inString && i+1 < len(raw) && raw[i+1] == ':' {
				longestKey = max(longestKey, i-start-1)
			}
		case c == '"':
			inString, start = true, i
		case c == '{' || c == '[':
			current++
			deepest = max(deepest, current)
		case c == '}' || c == ']':
			current--
		}
	}
	return deepest, longestKey
}
