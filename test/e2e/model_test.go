// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	clerkv1alpha1 "github.com/clerk-operator/clerk-operator/api/v1alpha1"
	"github.com/clerk-operator/clerk-operator/test/clerkfake"
)

// The model says what the cluster holds after a history, from what is left in Clerk and from which events arrived. It
// knows nothing of the order in which they did.
//
// Required: what there is in Clerk is mirrored with all that is mirrored of it, its plan included, and its status tells what
// the model tells. An organization that a class selects has its one namespace. A member holds the one ClusterRole of the member's role there,
// if the user is neither banned nor deprovisioned and the class knows the role. An ID has a tombstone if its deletion's
// event arrived, or if it was mirrored when a sync found that Clerk has it no more.
//
// Of several memberships of a user in an organization the newest counts. There is one in Clerk, so there are several here
// only until the ends of the others arrive.
//
// Forbidden: any other object of the instance, a tombstone of what there is in Clerk, any other namespace that is labelled
// as an organization's, and any other binding that names a user.
//
// Allowed: a tombstone of any other ID that is gone from Clerk. A membership that ended with its user or its organization
// need not have one, since nothing outlives theirs, nor need an ID that the cluster never heard of.

// fact is something that the cluster holds of an ID.
type fact struct{ what, id string }

// facts are what the cluster holds or should hold, with the details.
type facts map[fact]string

const factTombstone = "ClerkTombstone"

// difference is a fact that is not as it should be. What is not there is empty.
type difference struct {
	fact
	want, have string
}

func (d difference) String() string {
	return fmt.Sprintf("%s %s\n      want %s\n      have %s", d.what, d.id, cmp.Or(d.want, "nothing"), cmp.Or(d.have, "nothing"))
}

// compare finds the differences, in order; tombstones that are allowed are none.
func compare(want, have facts, mayBeBuried map[string]bool) []difference {
	var found []difference
	for f, details := range want {
		if have[f] != details {
			found = append(found, difference{f, details, have[f]})
		}
	}
	for f, details := range have {
		if _, ok := want[f]; !ok && (f.what != factTombstone || !mayBeBuried[f.id]) {
			found = append(found, difference{f, "", details})
		}
	}
	slices.SortFunc(found, func(a, b difference) int {
		return cmp.Or(strings.Compare(a.id, b.id), strings.Compare(a.what, b.what))
	})
	return found
}

// What is compared of an object. Times are Clerk's, in milliseconds.
type (
	userDetails struct {
		ExternalID, Username, Email, FirstName, LastName string
		EmailVerified, Banned, Deprovisioned             bool
		Metadata                                         string
		Plan                                             string
		CreatedAt, UpdatedAt                             int64
		State, Ready                                     string
		Organizations                                    int
	}
	organizationDetails struct {
		Name, Slug, CreatedBy string
		MaxMemberships        int64
		Metadata, Plan        string
		CreatedAt, UpdatedAt  int64
		Ready                 string
		Members               int
	}
	membershipDetails struct {
		OrganizationID, UserID, Role string
		CreatedAt, UpdatedAt         int64
		Ready                        string
		ClusterRoles                 []string
	}
)

// end is what is left of a history in Clerk.
type end struct {
	users         map[string]clerkfake.User
	organizations map[string]clerkfake.Organization
	memberships   []clerkfake.Membership
	// plans are by the ID of the user or the organization.
	plans map[string]string
}

func endOf(h *history) end {
	e := end{users: map[string]clerkfake.User{}, organizations: map[string]clerkfake.Organization{}, plans: map[string]string{}}
	for id := range h.names {
		e.plans[id] = h.clerk.Plan(id)
	}
	for _, user := range h.clerk.Users() {
		if h.names[user.ID] != "" {
			e.users[user.ID] = user
		}
	}
	for _, organization := range h.clerk.Organizations() {
		if h.names[organization.ID] != "" {
			e.organizations[organization.ID] = organization
		}
	}
	for _, membership := range h.clerk.Memberships() {
		if h.names[membership.ID] != "" {
			e.memberships = append(e.memberships, membership)
		}
	}
	return e
}

// has says whether an ID is in Clerk.
func (e end) has(id string) bool {
	_, isUser := e.users[id]
	_, isOrganization := e.organizations[id]
	return isUser || isOrganization ||
		slices.ContainsFunc(e.memberships, func(m clerkfake.Membership) bool { return m.ID == id })
}

// clusterRoles are what the class that tests make maps the roles to.
var clusterRoles = map[string]string{"org:admin": admin, "org:member": edit, "org:guest": view}

// model adds what the cluster must hold of the history, and the IDs that may have a tombstone.
func (h *history) model(want facts, mayBeBuried map[string]bool) {
	organizationsOf, membersOf := map[string]int{}, map[string]int{}
	for _, m := range h.end.memberships {
		organizationsOf[m.UserID]++
		membersOf[m.OrganizationID]++
		want.membership(m, h.end.users[m.UserID], slices.Contains(h.selected, m.OrganizationID))
	}
	for _, m := range h.superseded() {
		membersOf[m.OrganizationID]++
		want.superseded(m)
	}
	for id, user := range h.end.users {
		want.user(user, h.end.plans[id], organizationsOf[id])
	}
	for id, organization := range h.end.organizations {
		want.organization(organization, h.end.plans[id], membersOf[id], slices.Contains(h.selected, id))
	}
	for id := range h.names {
		switch {
		case h.end.has(id):
		case h.mustBeBuried(id):
			want[fact{factTombstone, id}] = "there"
		default:
			mayBeBuried[id] = true
		}
	}
}

// mustBeBuried says whether an ID that is gone from Clerk must have a tombstone.
func (h *history) mustBeBuried(id string) bool {
	if h.tells(h.sent, id, true) || h.isLate && h.tells(h.late, id, true) {
		return true
	}
	for _, m := range h.joined {
		if m.ID == id && (!h.end.has(m.UserID) || !h.end.has(m.OrganizationID)) {
			return false
		}
	}
	return h.isSynced && h.tells(h.sent, id, false)
}

// tells says whether there is an event of an ID among events: of its deletion, or of its life, to which a plan adds nothing.
func (h *history) tells(events []clerkfake.Event, id string, ofDeletion bool) bool {
	return slices.ContainsFunc(events, func(e clerkfake.Event) bool {
		return isDeletion(e) == ofDeletion && !isBilling(e) && h.about[e.Message.ID] == id
	})
}

func isBilling(event clerkfake.Event) bool { return strings.HasPrefix(event.Type, "subscription") }

func isDeletion(event clerkfake.Event) bool { return strings.HasSuffix(event.Type, ".deleted") }

// superseded are the memberships of which the end is held back although the member has a new one.
func (h *history) superseded() []clerkfake.Membership {
	var found []clerkfake.Membership
	for _, m := range h.joined {
		if h.manner == complete && !h.isLate && h.tells(h.late, m.ID, true) {
			found = append(found, m)
		}
	}
	return found
}

// subject is the ID that an event is about; that of a plan is about the payer.
func subject(event clerkfake.Event) string {
	var body struct {
		Data struct {
			ID    string `json:"id"`
			Payer struct {
				UserID         string `json:"user_id"`
				OrganizationID string `json:"organization_id"`
			} `json:"payer"`
		}
	}
	if err := json.Unmarshal(event.Message.Body, &body); err != nil {
		panic(err)
	}
	if isBilling(event) {
		return cmp.Or(body.Data.Payer.OrganizationID, body.Data.Payer.UserID)
	}
	return body.Data.ID
}

func (f facts) user(u clerkfake.User, plan string, organizations int) {
	details := userDetails{
		ExternalID: u.ExternalID, Username: u.Username, Email: u.Email, FirstName: u.FirstName, LastName: u.LastName,
		EmailVerified: u.Email != "", Banned: u.Banned, Deprovisioned: u.Deprovisioned, Metadata: encoded(u.PublicMetadata),
		Plan: plan, CreatedAt: u.CreatedAt.UnixMilli(), UpdatedAt: u.UpdatedAt.UnixMilli(),
		State: "Active", Ready: "True Active", Organizations: organizations,
	}
	if u.Banned || u.Deprovisioned {
		details.State, details.Ready = "Suspended", "True Suspended"
	}
	f[fact{"ClerkUser", u.ID}] = fmt.Sprintf("%+v", details)
}

func (f facts) organization(o clerkfake.Organization, plan string, members int, selected bool) {
	details := organizationDetails{
		Name: o.Name, Slug: o.Slug, CreatedBy: o.CreatedBy, MaxMemberships: int64(o.MaxAllowedMemberships),
		Metadata: encoded(o.PublicMetadata), Plan: plan, CreatedAt: o.CreatedAt.UnixMilli(), UpdatedAt: o.UpdatedAt.UnixMilli(),
		Ready: "False NoTenantClass", Members: members,
	}
	if selected {
		details.Ready = "True Provisioned"
		f[fact{"Namespace", o.ID}] = "its own"
	}
	f[fact{"ClerkOrganization", o.ID}] = fmt.Sprintf("%+v", details)
}

func (f facts) superseded(m clerkfake.Membership) {
	details := detailsOf(m)
	details.Ready = "False Superseded"
	f[fact{"ClerkOrganizationMembership", m.ID}] = fmt.Sprintf("%+v", details)
}

func detailsOf(m clerkfake.Membership) membershipDetails {
	return membershipDetails{
		OrganizationID: m.OrganizationID, UserID: m.UserID, Role: m.Role,
		CreatedAt: m.CreatedAt.UnixMilli(), UpdatedAt: m.UpdatedAt.UnixMilli(),
	}
}

func (f facts) membership(m clerkfake.Membership, user clerkfake.User, selected bool) {
	details := detailsOf(m)
	role, mapped := clusterRoles[m.Role]
	switch {
	case user.Banned || user.Deprovisioned:
		details.Ready = "False UserSuspended"
	case !selected:
		details.Ready = "False NoTenantClass"
	case !mapped:
		details.Ready = "False RoleNotMapped"
	default:
		details.Ready, details.ClusterRoles = "True Bound", []string{role}
		f[access(m.UserID, m.OrganizationID)] = role
	}
	f[fact{"ClerkOrganizationMembership", m.ID}] = fmt.Sprintf("%+v", details)
}

// access is what a user holds in the namespace of an organization, or in any other one.
func access(userID, where string) fact { return fact{"access to " + where + " of", userID} }

// encoded is metadata in one spelling; none is empty.
func encoded(metadata map[string]any) string {
	if len(metadata) == 0 {
		return ""
	}
	text, err := json.Marshal(metadata)
	if err != nil {
		panic(err)
	}
	return string(text)
}

// observe reads what the cluster holds of the instance, and who holds anything of the histories' users anywhere.
func (p *permutations) observe() (facts, error) {
	have := facts{}
	namespaces := map[string]string{} // the organizations' IDs by the names of their namespaces
	for _, read := range []func(facts, map[string]string) error{
		p.observeUsers, p.observeOrganizations, p.observeMemberships, p.observeTombstones, p.observeNamespaces, p.observeBindings,
	} {
		if err := read(have, namespaces); err != nil {
			return nil, err
		}
	}
	return have, nil
}

// list lists the objects of a kind that are the instance's.
func (p *permutations) list(list client.ObjectList) error {
	return suite.client.List(p.t.Context(), list, client.MatchingFields{"spec.instanceName": p.instance.Name})
}

func (p *permutations) observeUsers(have facts, _ map[string]string) error {
	var users clerkv1alpha1.ClerkUserList
	if err := p.list(&users); err != nil {
		return err
	}
	for i := range users.Items {
		u, spec := &users.Items[i], &users.Items[i].Spec
		have.add("ClerkUser", spec.UserID, u, userDetails{
			ExternalID: spec.ExternalID, Username: spec.Username, Email: spec.Email,
			FirstName: spec.FirstName, LastName: spec.LastName,
			EmailVerified: valueOf(spec.EmailVerified), Banned: valueOf(spec.Banned), Deprovisioned: valueOf(spec.Deprovisioned),
			Metadata: decoded(spec.PublicMetadata), Plan: spec.Billing.Plan,
			CreatedAt: valueOf(spec.CreatedAt).UnixMilli(), UpdatedAt: spec.UpdatedAt.UnixMilli(),
			State: string(u.Status.State), Ready: ready(u), Organizations: int(valueOf(u.Status.Organizations)),
		})
	}
	return nil
}

func (p *permutations) observeOrganizations(have facts, namespaces map[string]string) error {
	var organizations clerkv1alpha1.ClerkOrganizationList
	if err := p.list(&organizations); err != nil {
		return err
	}
	for i := range organizations.Items {
		o, spec := &organizations.Items[i], &organizations.Items[i].Spec
		have.add("ClerkOrganization", spec.OrganizationID, o, organizationDetails{
			Name: spec.Name, Slug: spec.Slug, CreatedBy: spec.CreatedBy, MaxMemberships: valueOf(spec.MaxAllowedMemberships),
			Metadata: decoded(spec.PublicMetadata), Plan: spec.Billing.Plan,
			CreatedAt: valueOf(spec.CreatedAt).UnixMilli(), UpdatedAt: spec.UpdatedAt.UnixMilli(),
			Ready: ready(o), Members: int(valueOf(o.Status.Members)),
		})
		namespaces[o.Status.Namespace.Name] = spec.OrganizationID
	}
	return nil
}

func (p *permutations) observeMemberships(have facts, _ map[string]string) error {
	var memberships clerkv1alpha1.ClerkOrganizationMembershipList
	if err := p.list(&memberships); err != nil {
		return err
	}
	for i := range memberships.Items {
		m, spec := &memberships.Items[i], &memberships.Items[i].Spec
		have.add("ClerkOrganizationMembership", spec.MembershipID, m, membershipDetails{
			OrganizationID: spec.OrganizationID, UserID: spec.UserID, Role: spec.Role,
			CreatedAt: valueOf(spec.CreatedAt).UnixMilli(), UpdatedAt: spec.UpdatedAt.UnixMilli(),
			Ready: ready(m), ClusterRoles: m.Status.ClusterRoles,
		})
	}
	return nil
}

func (p *permutations) observeTombstones(have facts, _ map[string]string) error {
	var tombstones clerkv1alpha1.ClerkTombstoneList
	if err := p.list(&tombstones); err != nil {
		return err
	}
	for i := range tombstones.Items {
		have[fact{factTombstone, tombstones.Items[i].Spec.ID}] = "there"
	}
	return nil
}

// observeNamespaces finds the namespaces that are labelled as an organization's, whether they are its own or not.
func (p *permutations) observeNamespaces(have facts, owners map[string]string) error {
	var namespaces corev1.NamespaceList
	if err := suite.client.List(p.t.Context(), &namespaces); err != nil {
		return err
	}
	for i := range namespaces.Items {
		namespace := &namespaces.Items[i]
		id := namespace.Labels[clerkv1alpha1.LabelOrganizationID]
		switch {
		case p.owners[id] == nil: // another test's
		case owners[namespace.Name] != id:
			have[fact{"Namespace " + namespace.Name, id}] = "not in the organization's status"
		case !namespace.DeletionTimestamp.IsZero():
			have[fact{"Namespace", id}] = "its own, and terminating"
		default:
			have[fact{"Namespace", id}] = "its own"
		}
	}
	return nil
}

// observeBindings finds what the histories' users hold, wherever that is.
func (p *permutations) observeBindings(have facts, organizations map[string]string) error {
	var bindings rbacv1.RoleBindingList
	if err := suite.client.List(p.t.Context(), &bindings); err != nil {
		return err
	}
	for i := range bindings.Items {
		binding := &bindings.Items[i]
		where := cmp.Or(organizations[binding.Namespace], "namespace "+binding.Namespace)
		for _, subject := range binding.Subjects {
			id, ok := strings.CutPrefix(subject.Name, clerkv1alpha1.DefaultUsernamePrefix)
			if !ok || p.owners[id] == nil {
				continue
			}
			held := access(id, where)
			have[held] = strings.TrimPrefix(have[held]+" and "+binding.RoleRef.Name, " and ")
		}
	}
	return nil
}

// add notes an object; one that is being deleted is none that should be there.
func (f facts) add(what, id string, object client.Object, details any) {
	text := fmt.Sprintf("%+v", details)
	if !object.GetDeletionTimestamp().IsZero() {
		text += ", and being deleted"
	}
	f[fact{what, id}] = text
}

// ready is the condition Ready, if it is of the present generation.
func ready(object interface {
	client.Object
	GetConditions() *[]metav1.Condition
}) string {
	condition := meta.FindStatusCondition(*object.GetConditions(), clerkv1alpha1.ConditionReady)
	if condition == nil {
		return ""
	}
	text := string(condition.Status) + " " + condition.Reason
	if condition.ObservedGeneration != object.GetGeneration() {
		text += ", of another generation"
	}
	return text
}

// decoded is metadata in the spelling of encoded.
func decoded(metadata *apiextensionsv1.JSON) string {
	if metadata == nil {
		return ""
	}
	var object map[string]any
	if err := json.Unmarshal(metadata.Raw, &object); err != nil {
		return err.Error()
	}
	return encoded(object)
}

func valueOf[T any](pointer *T) (value T) {
	if pointer != nil {
		value = *pointer
	}
	return value
}
