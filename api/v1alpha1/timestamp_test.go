// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1_test

import (
	"encoding/json"
	"testing"
	"time"

	. "github.com/onsi/gomega"
	"k8s.io/apimachinery/pkg/runtime"

	clerkv1alpha1 "github.com/clerk-operator/clerk-operator/api/v1alpha1"
)

func TestTimestamp_readsWhatTheAPIServerStores(t *testing.T) {
	noon := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	for text, want := range map[string]time.Time{
		`"2026-05-01T12:00:00.123456Z"`:       noon.Add(123456 * time.Microsecond),
		`"2026-05-01T12:00:00Z"`:              noon,
		`"2026-05-01T12:00:00.5Z"`:            noon.Add(500 * time.Millisecond),
		`"2026-05-01T12:00:00.123456789Z"`:    noon.Add(123456789),
		`"2026-05-01T14:00:00.000000+02:00"`:  noon,
		`"2026-05-01t12:00:00z"`:              noon,
		`"2026-05-01"`:                        {},
		`"soon"`:                              {},
		`""`:                                  {},
		`null`:                                {},
		`"2026-05-01T12:00:60Z"`:              {},
		`"2026-05-01T12:00:00.123456Z\u0000"`: {},
	} {
		g := NewWithT(t)
		var timestamp clerkv1alpha1.Timestamp
		g.Expect(json.Unmarshal([]byte(text), &timestamp)).To(Succeed(), text)
		g.Expect(timestamp.Time).To(BeTemporally("==", want), text)
	}
}

func TestTimestamp_isWrittenWithMicroseconds(t *testing.T) {
	g := NewWithT(t)
	moment := clerkv1alpha1.NewTimestamp(time.Date(2026, 5, 1, 14, 0, 0, 1500, time.FixedZone("", 7200)))
	written, err := json.Marshal(moment)
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(string(written)).To(Equal(`"2026-05-01T12:00:00.000001Z"`))
	user := &clerkv1alpha1.ClerkUser{}
	user.Spec.UpdatedAt = moment
	object, err := runtime.DefaultUnstructuredConverter.ToUnstructured(user)
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(object["spec"]).To(Equal(map[string]any{"updatedAt": "2026-05-01T12:00:00.000001Z"}), "no time is no field")
}
