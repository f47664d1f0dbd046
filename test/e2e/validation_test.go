// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	. "github.com/onsi/gomega"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	clerkv1alpha1 "github.com/clerk-operator/clerk-operator/api/v1alpha1"
	"github.com/clerk-operator/clerk-operator/internal/clerk"
	"github.com/clerk-operator/clerk-operator/test/payload"
)

// manifest writes an object of the project's group as a person would.
func manifest(kind, name, spec string) string {
	return fmt.Sprintf("apiVersion: clerk-operator.dev/v1alpha1\nkind: %s\nmetadata:\n  name: %s\nspec: %s\n", kind, name, spec)
}

// versioned is the part of a mirrored object's spec that every kind has.
func versioned(instance string, updatedAt, eventTime int) string {
	const time = "2026-01-01T12:%02d:00.000000Z"
	return fmt.Sprintf("instanceName: %s, updatedAt: %q, eventTime: %q",
		instance, fmt.Sprintf(time, updatedAt), fmt.Sprintf(time, eventTime))
}

// mirroredByHand are a user, an organization and a membership that a person wrote.
type mirroredByHand struct{ userID, organizationID, membershipID string }

func (m mirroredByHand) user(id, version string) string {
	return manifest("ClerkUser", clerk.ObjectName(clerkv1alpha1.DefaultInstanceName, m.userID), "{userID: "+id+", "+version+"}")
}

func (m mirroredByHand) organization(id, version string) string {
	return manifest("ClerkOrganization", clerk.ObjectName(clerkv1alpha1.DefaultInstanceName, m.organizationID), "{organizationID: "+id+", "+version+"}")
}

func (m mirroredByHand) membership(userID, version string) string {
	return manifest("ClerkOrganizationMembership", clerk.ObjectName(clerkv1alpha1.DefaultInstanceName, m.membershipID),
		"{membershipID: "+m.membershipID+", organizationID: "+m.organizationID+", userID: "+userID+", "+version+"}")
}

func TestValidation_ofMirroredObjects(t *testing.T) {
	w := newWorld(t)
	m := mirroredByHand{payload.NewID("user"), payload.NewID("org"), payload.NewID("orgmem")}
	now := versioned("default", 10, 10)
	for _, first := range []string{m.user(m.userID, now), m.organization(m.organizationID, now), m.membership(m.userID, now)} {
		w.apply(first)
	}
	t.Cleanup(func() { w.deleteByHand("clerkuser", m.userID, "clerkorganization", m.organizationID) })

	const (
		backInTime = "(updatedAt, eventTime) must not go back in time"
		immutable  = "ID and instanceName are immutable"
	)
	other := versioned("other", 11, 11)
	for _, tc := range []struct{ about, manifest, want string }{
		{"a user's older state", m.user(m.userID, versioned("default", 9, 11)), backInTime},
		{"a user's older event", m.user(m.userID, versioned("default", 10, 9)), backInTime},
		{"an organization's older state", m.organization(m.organizationID, versioned("default", 9, 11)), backInTime},
		{"an organization's older event", m.organization(m.organizationID, versioned("default", 10, 9)), backInTime},
		{"a membership's older state", m.membership(m.userID, versioned("default", 9, 11)), backInTime},
		{"a membership's older event", m.membership(m.userID, versioned("default", 10, 9)), backInTime},
		{"another case of the ID", m.user("user_"+strings.ToLower(m.userID[5:]), versioned("default", 11, 11)), "user" + immutable},
		{"another instance's user", m.user(m.userID, other), "user" + immutable},
		{"another instance's organization", m.organization(m.organizationID, other), "organization" + immutable},
		{
			"another member", m.membership(payload.NewID("user"), versioned("default", 11, 11)),
			"membershipID, organizationID, userID and instanceName are immutable",
		},
		{
			"a name that is not the ID's", manifest("ClerkUser", "user-else", "{userID: "+payload.NewID("user")+", "+now+"}"),
			"metadata.name must be spec.userID in lower case with _ replaced by -",
		},
		{"an ID of another kind", m.user(m.organizationID, now), "spec.userID"},
		{"a time that is none", m.user(m.userID, strings.ReplaceAll(now, "2026", "soon")), "spec.updatedAt"},
	} {
		t.Run(tc.about, func(t *testing.T) { newWorld(t).wantRefused(tc.manifest, tc.want) })
	}
	for _, version := range []string{now, versioned("default", 10, 11), versioned("default", 11, 1)} {
		w.apply(m.user(m.userID, version))
	}
}

// An object that the operator could not decode would stop its watch of the whole kind.
func TestValidation_ofTimesLeavesNoneThatTheOperatorCannotRead(t *testing.T) {
	w := newWorld(t)
	m := mirroredByHand{payload.NewID("user"), payload.NewID("org"), payload.NewID("orgmem")}
	for i, ending := range []string{"Z", ".5Z", ".123456789Z", "+02:00"} {
		version := strings.ReplaceAll(versioned("default", 10+i, 10), ".000000Z", ending)
		for _, written := range []string{m.user(m.userID, version), m.organization(m.organizationID, version), m.membership(m.userID, version)} {
			// What the API server refuses can do no harm either.
			out, err := w.tryKubectl(written, "apply", "-f", "-")
			w.Expect(err == nil || strings.Contains(out, "is invalid")).To(BeTrue(), out)
		}
	}
	t.Cleanup(func() { w.deleteByHand("clerkuser", m.userID, "clerkorganization", m.organizationID) })

	o, namespace := w.tenant("afterwards")
	w.memberOf(o, namespace)
	w.happen("user.created", payload.User{ID: m.userID, UpdatedAt: w.tick()}.Data())
	w.Eventually(stored(w, w.userObject(m.userID))).Should(beReady(metav1.ConditionTrue, clerkv1alpha1.ReasonActive))
}

func TestValidation_ofConfiguration(t *testing.T) {
	class := func(spec string) string { return manifest("ClerkTenantClass", "refused", spec) }
	namespace := func(spec string) string { return class("{selector: {}, namespace: {prefix: org-, " + spec + "}}") }
	deletion := func(spec string) string {
		return class("{selector: {}, namespace: {prefix: org-}, deletion: {gracePeriod: " + spec + "}}")
	}
	instance := func(name, spec string) string {
		return manifest("ClerkInstance", name, "{webhook: {signingSecrets: [{name: clerk-webhook, key: signing-secret}]}"+spec+"}")
	}
	const (
		grace = "gracePeriod must be a duration such as 72h, and not negative"
		ours  = "are the operator's own"
	)
	for _, tc := range []struct{ about, manifest, want string }{
		{"the platform's namespaces", class("{selector: {}, namespace: {prefix: kube-}}"), "namespaces that begin with kube-"},
		{"a prefix that no namespace can have", class("{selector: {}, namespace: {prefix: Org_}}"), "spec.namespace.prefix"},
		{"no selector", class("{namespace: {prefix: org-}}"), "spec.selector"},
		{
			"a list of no organizations", class("{selector: {organizationIDs: []}, namespace: {prefix: org-}}"),
			"should have at least 1 items",
		},
		{"a grace period that is none", deletion("abc"), grace},
		{"a negative grace period", deletion("-1h"), grace},
		{"the operator's own label", namespace("labels: {clerk-operator.dev/organization-id: x}"), ours},
		{"the operator's own annotation", namespace("annotations: {clerk-operator.dev/owner-uid: x}"), ours},
		{"another owner", namespace("labels: {app.kubernetes.io/managed-by: me}"), ours},
		{
			"pod security by a label", namespace("labels: {pod-security.kubernetes.io/enforce: privileged}"),
			"use podSecurity for pod security",
		},
		{"Kubernetes' own users", instance("refused", `, access: {usernamePrefix: "system:"}`), "the prefix system: is Kubernetes' own"},
		{"an instance's name with dots", instance("clerk.example.com", ""), "metadata.name must be a DNS label"},
		{"a Clerk instance that is none", instance("refused", ", instanceID: prod"), "spec.instanceID"},
		{"no signing secret", manifest("ClerkInstance", "refused", "{webhook: {signingSecrets: []}}"), "signingSecrets"},
	} {
		t.Run(tc.about, func(t *testing.T) { newWorld(t).wantRefused(tc.manifest, tc.want) })
	}
}

// apply applies a manifest as a person would.
func (w *world) apply(manifest string) {
	w.t.Helper()
	out, err := w.tryKubectl(manifest, "apply", "-f", "-")
	w.Expect(err).NotTo(HaveOccurred(), out)
}

// wantRefused checks that the API server refuses a manifest and says why. What it were to accept would not be stored.
func (w *world) wantRefused(manifest, want string) {
	w.t.Helper()
	out, err := w.tryKubectl(manifest, "apply", "--dry-run=server", "-f", "-")
	w.Expect(err).To(HaveOccurred(), out)
	w.Expect(out).To(And(ContainSubstring("is invalid"), ContainSubstring(want)))
}

// deleteByHand deletes objects by their resources and Clerk IDs, at the end of the test.
func (w *world) deleteByHand(resourcesAndIDs ...string) {
	w.t.Helper()
	for pair := range slices.Chunk(resourcesAndIDs, 2) {
		cmd := suite.cp.Kubectl(contextAfter(w.t), "delete", "--wait=false", "--ignore-not-found", pair[0], clerk.ObjectName(w.instanceName, pair[1]))
		out, err := cmd.CombinedOutput()
		w.Expect(err).NotTo(HaveOccurred(), string(out))
	}
}
