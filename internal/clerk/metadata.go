// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package clerk

import (
	"encoding/json"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	kjson "k8s.io/apimachinery/pkg/util/json"
)

const (
	// maxMetadata is twice what Clerk lets metadata be, in bytes.
	maxMetadata = 16 << 10
	// maxMetadataDepth is how deep metadata may nest.
	maxMetadataDepth = 32
)

// metadata returns public metadata as it is stored: normalised, so that the same metadata is the same bytes. It
// returns nil for none, and false for metadata that the API server could not hold, which is left out whole.
func metadata(raw json.RawMessage) (*apiextensionsv1.JSON, bool) {
	if len(raw) == 0 || string(raw) == "null" {
		return nil, true
	}
	if len(raw) > maxMetadata || depth(raw) > maxMetadataDepth {
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
	return &apiextensionsv1.JSON{Raw: normalised}, true
}

// depth returns how deep valid JSON nests.
func depth(raw []byte) int {
	var current, deepest int
	var inString, escaped bool
	for _, c := range raw {
		switch {
		case escaped:
			escaped = false
		case inString:
			escaped = c == '\\'
			inString = c != '"'
		case c == '"':
			inString = true
		case c == '{' || c == '[':
			current++
			deepest = max(deepest, current)
		case c == '}' || c == ']':
			current--
		}
	}
	return deepest
}
