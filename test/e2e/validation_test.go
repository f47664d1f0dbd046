// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"fmt"
	"strings"
	"testing"

	. "github.com/onsi/gomega"

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

func TestValidation_refusesAndSaysWhy(t *testing.T) {
	w := newWorld(t)
	userID, organizationID, membershipID := payload.NewID("user"), payload.NewID("org"), payload.NewID("orgmem")
	user := func(id, version string) string {
		return manifest("ClerkUser", clerk.ObjectName(userID), "{userID: "+id+", "+version+"}")
	}
	organization := func(id, version string) string {
		return manifest("ClerkOrganization", clerk.ObjectName(organizationID), "{organizationID: "+id+", "+version+"}")
	}
	membership := func(user, version string) string {
		return manifest("ClerkOrganizationMembership", clerk.ObjectName(membershipID),
			"{membershipID: "+membershipID+", organizationID: "+organizationID+", userID: "+user+", "+version+"}")
	}
	class := func(spec string) string { return manifest("ClerkTenantClass", "refused", spec) }
	instance := func(name, spec string) string {
		return manifest("ClerkInstance", name, "{webhook: {signingSecrets: [{name: clerk-webhook, key: signing-secret}]}"+spec+"}")
	}
	now := versioned("default", 10, 10)
	for _, first := range []string{user(userID, now), organization(organizationID, now), membership(userID, now)} {
		out, err := w.tryKubectl(first, "apply", "-f", "-")
		w.Expect(err).NotTo(HaveOccurred(), out)
	}
	t.Cleanup(func() { w.removeMirrored(userID, organizationID) })

	const (
		backInTime = "(updatedAt, eventTime) must not go back in time"
		grace      = "gracePeriod must be a duration such as 72h, and not negative"
	)
	for _, tc := range []struct{ about, manifest, want string }{
		{"a user's older state", user(userID, versioned("default", 9, 11)), backInTime},
		{"a user's older event", user(userID, versioned("default", 10, 9)), backInTime},
		{"an organization's older state", organization(organizationID, versioned("default", 9, 11)), backInTime},
		{"an organization's older event", organization(organizationID, versioned("default", 10, 9)), backInTime},
		{"a membership's older state", membership(userID, versioned("default", 9, 11)), backInTime},
		{"a membership's older event", membership(userID, versioned("default", 10, 9)), backInTime},
		{
			"an ID that differs in case only", user("user_"+strings.ToLower(userID[5:]), versioned("default", 11, 11)),
			"userID and instanceName are immutable",
		},
		{"another instance's user", user(userID, versioned("other", 11, 11)), "userID and instanceName are immutable"},
		{
			"another instance's organization", organization(organizationID, versioned("other", 11, 11)),
			"organizationID and instanceName are immutable",
		},
		{
			"another member", membership(payload.NewID("user"), versioned("default", 11, 11)),
			"membershipID, organizationID, userID and instanceName are immutable",
		},
		{
			"a name that is not the ID's", manifest("ClerkUser", "user-else", "{userID: "+payload.NewID("user")+", "+now+"}"),
			"metadata.name must be spec.userID in lower case with _ replaced by -",
		},
		{"an ID of another kind", user(organizationID, now), "spec.userID"},
		{"a class for the platform's namespaces", class(`{selector: {}, namespace: {prefix: kube-}}`), "namespaces that begin with kube-"},
		{"a prefix that no namespace can have", class(`{selector: {}, namespace: {prefix: Org_}}`), "spec.namespace.prefix"},
		{"no selector", class(`{namespace: {prefix: org-}}`), "spec.selector"},
		{"a list of no organizations", class(`{selector: {organizationIDs: []}, namespace: {prefix: org-}}`), "should have at least 1 items"},
		{"no grace period", class(`{selector: {}, namespace: {prefix: org-}, deletion: {gracePeriod: abc}}`), grace},
		{"a negative grace period", class(`{selector: {}, namespace: {prefix: org-}, deletion: {gracePeriod: -1h}}`), grace},
		{
			"the operator's own label", class(`{selector: {}, namespace: {prefix: org-, labels: {clerk-operator.dev/organization-id: x}}}`),
			"are the operator's own",
		},
		{
			"pod security by a label", class(`{selector: {}, namespace: {prefix: org-, labels: {pod-security.kubernetes.io/enforce: privileged}}}`),
			"use podSecurity for pod security",
		},
		{
			"another owner", class(`{selector: {}, namespace: {prefix: org-, labels: {app.kubernetes.io/managed-by: me}}}`),
			"are the operator's own",
		},
		{
			"the operator's own annotation", class(`{selector: {}, namespace: {prefix: org-, annotations: {clerk-operator.dev/owner-uid: x}}}`),
			"are the operator's own",
		},
		{"Kubernetes' own users", instance("refused", `, access: {usernamePrefix: "system:"}`), "the prefix system: is Kubernetes' own"},
		{"an instance's name with dots", instance("clerk.example.com", ""), "metadata.name must be a DNS label"},
		{"a Clerk instance that is none", instance("refused", ", instanceID: prod"), "spec.instanceID"},
		{"no signing secret", manifest("ClerkInstance", "refused", "{webhook: {signingSecrets: []}}"), "signingSecrets"},
	} {
		t.Run(tc.about, func(t *testing.T) {
			w := newWorld(t)
			out, err := w.tryKubectl(tc.manifest, "apply", "-f", "-")
			w.Expect(err).To(HaveOccurred(), out)
			w.Expect(out).To(And(ContainSubstring("is invalid"), ContainSubstring(tc.want)))
		})
	}
	for _, later := range []string{
		user(userID, versioned("default", 10, 10)), user(userID, versioned("default", 10, 11)), user(userID, versioned("default", 11, 1)),
	} {
		out, err := w.tryKubectl(later, "apply", "-f", "-")
		w.Expect(err).NotTo(HaveOccurred(), out)
	}
}

// removeMirrored deletes what a person made by hand.
func (w *world) removeMirrored(userID, organizationID string) {
	cmd := suite.cp.Kubectl(contextAfter(w.t), "delete", "--wait=false",
		"clerkuser/"+clerk.ObjectName(userID), "clerkorganization/"+clerk.ObjectName(organizationID))
	out, err := cmd.CombinedOutput()
	w.Expect(err).NotTo(HaveOccurred(), string(out))
}
