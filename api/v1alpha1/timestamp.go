// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Timestamp is a moment, written with microseconds (2026-05-01T12:00:00.000000Z), which are as fine as Clerk's times and
// compare as times in the kinds' validation rules.
//
// It reads every form of date-time that the API server lets somebody store by hand, and whatever it cannot read as no
// time at all: an object that cannot be decoded would stop the watch of its whole kind.
// +kubebuilder:validation:Type=string
// +kubebuilder:validation:Format=date-time
type Timestamp struct {
	metav1.MicroTime `json:"-"`
}

// NewTimestamp returns a time as a Timestamp.
func NewTimestamp(t time.Time) Timestamp { return Timestamp{MicroTime: metav1.NewMicroTime(t)} }

// UnmarshalJSON never fails.
func (t *Timestamp) UnmarshalJSON(data []byte) error {
	parsed, err := time.Parse(time.RFC3339Nano, strings.ToUpper(strings.Trim(string(data), `"`)))
	if err != nil {
		parsed = time.Time{}
	}
	t.Time = parsed
	return nil
}
