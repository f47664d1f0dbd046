// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package clerk_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	. "github.com/onsi/gomega"
	"sigs.k8s.io/yaml"

	"github.com/clerk-operator/clerk-operator/internal/clerk"
)

// The examples of Clerk's own document are the only deliveries that we know it to publish.
func TestConformance_examplesOfClerksDocument(t *testing.T) {
	g := NewWithT(t)
	content, err := os.ReadFile(filepath.FromSlash("../../test/openapi/webhooks-2025-04-15.yml"))
	g.Expect(err).NotTo(HaveOccurred())
	var document map[string]any
	g.Expect(yaml.Unmarshal(content, &document)).To(Succeed())
	seen := map[string][]map[string]any{}
	collectExamples(document, seen)
	g.Expect(seen).To(HaveLen(45))

	mirrored := 0
	for eventType, examples := range seen {
		for _, example := range examples {
			g := NewWithT(t)
			body, err := json.Marshal(example)
			g.Expect(err).NotTo(HaveOccurred())
			event, err := clerk.Decode(body)
			g.Expect(err).NotTo(HaveOccurred(), eventType)
			g.Expect(event.Type).To(Equal(eventType))
			g.Expect(event.Time.IsZero()).To(BeFalse(), eventType)
			if !event.Mirrored() {
				continue
			}
			mirrored++
			if object := event.Object(source); object != nil {
				g.Expect(object.Dropped).To(BeEmpty(), eventType)
				expectStorable(g, object)
			}
		}
	}
	g.Expect(mirrored).To(Equal(22))
}

// collectExamples finds every object that looks like an event, wherever it stands.
func collectExamples(value any, into map[string][]map[string]any) {
	switch value := value.(type) {
	case map[string]any:
		eventType, _ := value["type"].(string)
		if _, ok := value["data"]; ok && value["object"] == "event" {
			into[eventType] = append(into[eventType], value)
			return
		}
		for _, child := range value {
			collectExamples(child, into)
		}
	case []any:
		for _, child := range value {
			collectExamples(child, into)
		}
	}
}
