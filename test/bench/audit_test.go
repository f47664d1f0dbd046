// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"strings"
	"testing"

	. "github.com/onsi/gomega"
)

func TestCountRequests(t *testing.T) {
	g := NewWithT(t)
	log := strings.Join([]string{
		`{"verb":"patch","objectRef":{"resource":"clerkusers"},"responseStatus":{"code":201}}`,
		`{"verb":"patch","objectRef":{"resource":"clerkusers"}}`,
		`{"verb":"patch","objectRef":{"resource":"clerkusers","subresource":"status"},"responseStatus":{"code":409}}`,
		`{"verb":"create","objectRef":{"resource":"namespaces"},"responseStatus":{"code":201}}`,
		`{"verb":"list","objectRef":{"resource":"namespaces"},"responseStatus":{"code":200}}`,
		`{"verb":"update","objectRef":{"resource":"leases"},"responseStatus":{"code":200}}`,
		`{"verb":"get","responseStatus":{"code":200}}`,
		`{"verb":"create","requestURI":"/api/v1/namespaces?dryRun=All","objectRef":{"resource":"namespaces"},"responseStatus":{"code":403}}`,
	}, "\n")
	counted, err := countRequests(strings.NewReader(log))
	g.Expect(err).NotTo(HaveOccurred())
	want := requests{
		writes:  map[string]int{"clerkusers": 2, "clerkusers/status": 1, "namespaces": 1, "leases": 1},
		reads:   map[string]int{"namespaces": 1},
		refused: map[string]int{"clerkusers/status": 1},
	}
	g.Expect(counted).To(Equal(want))
	g.Expect(total(counted.writes)).To(Equal(4), "the lease does not count")

	sum := newRequests()
	sum.add(counted)
	sum.add(counted)
	g.Expect(sum.writes).To(HaveKeyWithValue("clerkusers", 4))
	g.Expect(sum.refused).To(HaveKeyWithValue("clerkusers/status", 2))

	_, err = countRequests(strings.NewReader("no JSON\n"))
	g.Expect(err).To(MatchError(ContainSubstring("reading an audit event")))
}
