// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package clerk

import (
	"bytes"
	"encoding/json"
	"fmt"
)

// maxListed is how many elements of a list are of interest. Clerk has far fewer, and an empty one costs in memory a thousand
// times what it costs in a body.
const maxListed = 500

// few is a list of which at most one more than maxListed are read, so that a longer one can be told.
type few[T any] []T

// UnmarshalJSON reads a list. A field of an unexpected JSON type stays empty, as everywhere: an error would end the decoding
// of what comes after the list, too.
func (f *few[T]) UnmarshalJSON(raw []byte) error {
	*f = nil
	decoder := json.NewDecoder(bytes.NewReader(raw))
	if start, err := decoder.Token(); err != nil || start != json.Delim('[') {
		return err
	}
	for decoder.More() && len(*f) <= maxListed {
		var element T
		if err := decoder.Decode(&element); err != nil && !isTypeError(err) {
			return fmt.Errorf("decoding an element: %w", err)
		}
		*f = append(*f, element)
	}
	return nil
}
