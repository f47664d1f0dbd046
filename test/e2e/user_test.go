// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"fmt"
	"regexp"
	"testing"

	. "github.com/onsi/gomega"

	"github.com/clerk-operator/clerk-operator/internal/clerk"
	"github.com/clerk-operator/clerk-operator/test/payload"
)

func TestClerkUser_isListedWithinAMoment(t *testing.T) {
	w := newWorld(t)
	u := w.newUser()
	u.Email = "ada@example.com"
	w.happen("user.created", u.Data())

	row := `(?m)^` + clerk.ObjectName(w.instanceName, u.ID) + ` +ada@example\.com +Active +0 +True +[0-9]+s$`
	w.Eventually(func() string { return w.kubectl("get", "clerkusers") }).Should(MatchRegexp(row))
	for _, name := range []string{"cluser", "clerkuser.clerk-operator.dev"} {
		w.Expect(w.kubectl("get", name)).To(MatchRegexp(row), name)
	}
}

func TestClerkCategory_listsAllKinds(t *testing.T) {
	w := newWorld(t)
	o, _ := w.tenant("category")
	w.join(w.user(), o, "org:member")
	w.happen("user.deleted", payload.Deleted("user", w.user().ID))

	listed := w.kubectl("get", "clerk", "-o", "name")
	for _, kind := range []string{
		"clerkinstance", "clerktenantclass", "clerkuser", "clerkorganization", "clerkorganizationmembership", "clerktombstone",
	} {
		w.Expect(listed).To(MatchRegexp(`(?m)^`+regexp.QuoteMeta(kind+".clerk-operator.dev/")), kind)
	}
}

func TestMirror_storesNothingSensitive(t *testing.T) {
	w := newWorld(t)
	o, namespace := w.tenant("sensitive")
	u := w.user()
	m := w.join(u, o, "org:member")

	stored := w.kubectl("get", "clerk", "-o", "yaml") + fmt.Sprint(text(w.secretOf(namespace)))
	for _, id := range []string{u.ID, o.ID, m.ID} {
		w.Expect(stored).To(ContainSubstring(id))
	}
	for _, never := range []string{"must-not-be-stored", "+15555550100", "claimed@example.org"} {
		w.Expect(stored).NotTo(ContainSubstring(never))
	}
}
