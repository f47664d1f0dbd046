// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	_ "embed"
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	clerkv1alpha1 "github.com/clerk-operator/clerk-operator/api/v1alpha1"
	"github.com/clerk-operator/clerk-operator/internal/clerk"
	"github.com/clerk-operator/clerk-operator/internal/delivery"
	"github.com/clerk-operator/clerk-operator/internal/mirror"
	"github.com/clerk-operator/clerk-operator/test/payload"
)

//go:embed provisioning.md
var provisioningText string

const (
	// provisioningAim is the part of the raw client's rate that provisioning should reach.
	provisioningAim = 0.75
	// organizations is how many are provisioned in a round.
	organizations = 60
	// provisioningAtOnce is how many organizations the sender, or the raw client, works on at once. The operator's own
	// reconcilers work on as many objects of each kind.
	provisioningAtOnce = 8
)

// roles are those of an organization's members, each mapped to a ClusterRole of its own by the class.
var roles = []string{"org:admin", "org:member"}

// expectedWrites is what an organization should cost, and in which order it is shown.
var expectedWrites = []struct {
	resource string
	count    int
}{
	{"clerkorganizations", 1},
	{"clerkorganizations/status", 1},
	{"clerkorganizationmemberships", len(roles)},
	{"clerkorganizationmemberships/status", len(roles)},
	{"clerkusers/status", len(roles)},
	{"namespaces", 1},
	{"secrets", 1},
	{"networkpolicies", 1},
	{"rolebindings", len(roles)},
}

// founding is an organization as it comes to be: it is created, and members join.
type founding struct {
	organization payload.Organization
	users        []payload.User
	messages     []delivery.Message
}

// names are those of the objects that report when the organization is provisioned.
func (f founding) names() []string {
	names := []string{clerk.ObjectName("default", f.organization.ID)}
	for _, u := range f.users {
		names = append(names, clerk.ObjectName("default", u.ID))
	}
	for _, m := range f.messages[1:] {
		if o, err := desired(m); err == nil {
			names = append(names, clerk.ObjectName("default", o.ID))
		}
	}
	return names
}

// newFounding lets an organization come to be, with a member for each role.
func (h *history) newFounding(number int, users []payload.User) (founding, error) {
	f := founding{users: users, organization: payload.Organization{
		ID: payload.NewID("org"), Name: "Acme Inc.", Slug: fmt.Sprintf("acme-%d", number), CreatedBy: users[0].ID,
		CreatedAt: h.tick(), UpdatedAt: h.now,
	}}
	m, err := h.message("organization.created", f.organization.Data())
	if err != nil {
		return founding{}, err
	}
	f.messages = append(f.messages, m)
	for i, role := range roles {
		membership := payload.Membership{
			ID: payload.NewID("orgmem"), Role: role, UserID: users[i].ID, Organization: f.organization,
			CreatedAt: h.tick(), UpdatedAt: h.now,
		}
		if m, err = h.message("organizationMembership.created", membership.Data()); err != nil {
			return founding{}, err
		}
		f.messages = append(f.messages, m)
	}
	return f, nil
}

// provisioning is the scenario's state.
type provisioning struct {
	*world
	history *history
	class   *clerkv1alpha1.ClerkTenantClass
	ready   *readiness
	made    int
	// operator and raw are the requests of all rounds of each side.
	operator, raw account
	// takeover are those of the operator when it begins to lead and finds what the raw client wrote.
	takeover requests
}

// account is what a number of organizations cost.
type account struct {
	requests
	organizations int
}

// each is a count for each organization.
func (a account) each(count int) float64 { return float64(count) / float64(max(1, a.organizations)) }

// runProvisioning measures how fast organizations become tenants, and what that costs in requests.
func runProvisioning(ctx context.Context, b *bench) (chapter, error) {
	// What becomes ready takes longer to measure than a delivery, and differs less.
	rounds := (b.rounds + 1) / 2
	var c comparison
	p := &provisioning{history: newHistory(), takeover: newRequests()}
	p.operator.requests, p.raw.requests = newRequests(), newRequests()
	err := withWorld(ctx, b, worldOptions{audited: true}, func(w *world) (err error) {
		p.world = w
		if err := p.prepare(ctx); err != nil {
			return err
		}
		c, err = b.inTurns(ctx, rounds, p.provision, p.write)
		return err
	})
	if err != nil {
		return chapter{}, err
	}
	b.say("organizations: %s", c)
	return renderChapter("Provisioning", provisioningText, map[string]any{
		"Aim": provisioningAim, "Members": len(roles), "Organizations": organizations, "AtOnce": provisioningAtOnce,
		"Rounds": rounds, "Rates": p.rateTable(c), "Requests": p.requestTable(), "CPU": provisioningCPUTable(c),
	})
}

// prepare makes the class that selects every organization, and the watch for what is ready.
func (p *provisioning) prepare(ctx context.Context) (err error) {
	p.class = &clerkv1alpha1.ClerkTenantClass{ObjectMeta: metav1.ObjectMeta{Name: "bench"}}
	p.class.Spec.Selector = &clerkv1alpha1.ClerkTenantClassSelector{}
	p.class.Spec.Namespace = clerkv1alpha1.ClerkTenantClassNamespace{Prefix: "bench-", PodSecurity: clerkv1alpha1.PodSecurityRestricted}
	p.class.Spec.Access = []clerkv1alpha1.ClerkTenantClassAccess{
		{Role: roles[0], ClusterRoles: []string{"edit"}}, {Role: roles[1], ClusterRoles: []string{"view"}},
	}
	if err := p.admin.Create(ctx, p.class); err != nil {
		return fmt.Errorf("creating the class: %w", err)
	}
	p.ready, err = watchReadiness(ctx, p.cp.Config(), p.admin.Scheme())
	return err
}

// foundings returns the organizations of a round, and makes their users.
func (p *provisioning) foundings(ctx context.Context) ([]founding, error) {
	var signUps []delivery.Message
	foundings, err := collect(organizations, func(int) (founding, error) {
		users := make([]payload.User, len(roles))
		for i := range users {
			users[i] = p.history.newUser()
			m, err := p.history.message("user.created", users[i].Data())
			if err != nil {
				return founding{}, err
			}
			signUps = append(signUps, m)
		}
		p.made++
		return p.history.newFounding(p.made, users)
	})
	if err != nil {
		return nil, err
	}
	return foundings, drive(ctx, len(signUps), provisioningAtOnce, func(ctx context.Context, i int) error {
		return p.makeUser(ctx, signUps[i])
	})
}

// makeUser writes a user as the operator leaves it, so that nobody has anything left to do about it.
func (p *provisioning) makeUser(ctx context.Context, signUp delivery.Message) error {
	o, err := desired(signUp)
	if err != nil {
		return err
	}
	if err := applyRaw(ctx, p.admin, o); err != nil {
		return err
	}
	user := &clerkv1alpha1.ClerkUser{}
	if err := convert(o.Apply, user); err != nil {
		return err
	}
	return patchStatus(ctx, p.admin, user, func() {
		user.Status = clerkv1alpha1.ClerkUserStatus{
			ObservedGeneration: user.Generation, State: clerkv1alpha1.ClerkUserActive, Organizations: new(int32(0)),
			Conditions: []metav1.Condition{readyNow(clerkv1alpha1.ConditionReady, clerkv1alpha1.ReasonActive,
				"the user may hold access", user.Generation)},
		}
	})
}

// provision is the operator's side: deliveries, until everything reports that it is provisioned.
func (p *provisioning) provision(ctx context.Context) (sample, error) {
	foundings, err := p.foundings(ctx)
	if err != nil {
		return sample{}, err
	}
	if err := p.takeOver(ctx); err != nil {
		return sample{}, err
	}
	sender := p.newSender(provisioningAtOnce)
	attempts, err := collect(len(foundings), func(i int) ([]signed, error) { return sign(foundings[i].messages) })
	if err != nil {
		return sample{}, err
	}
	s, counted, err := p.round(ctx, foundings, func(ctx context.Context, i int) error {
		for _, attempt := range attempts[i] {
			if err := post(ctx, sender, attempt, mirror.Applied); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return sample{}, err
	}
	p.operator.add(counted)
	p.operator.organizations += organizations
	return s, p.stopManager()
}

// takeOver starts a manager that leads, and counts what it writes to what it finds.
func (p *provisioning) takeOver(ctx context.Context) error {
	mark, err := p.auditMark()
	if err != nil {
		return err
	}
	if err := p.startLeader(ctx); err != nil {
		return err
	}
	counted, err := p.auditSince(mark)
	if err != nil {
		return err
	}
	p.takeover.add(counted)
	return nil
}

// write is the raw client's side: every object once, as it should be in the end.
func (p *provisioning) write(ctx context.Context) (sample, error) {
	foundings, err := p.foundings(ctx)
	if err != nil {
		return sample{}, err
	}
	writers, err := collect(len(foundings), func(i int) (*rawTenant, error) { return newRawTenant(ctx, p, foundings[i]) })
	if err != nil {
		return sample{}, err
	}
	if err := p.startStandby(ctx); err != nil {
		return sample{}, err
	}
	s, counted, err := p.round(ctx, foundings, func(ctx context.Context, i int) error { return writers[i].write(ctx) })
	if err != nil {
		return sample{}, err
	}
	p.raw.add(counted)
	p.raw.organizations += organizations
	return s, p.stopManager()
}

// round does something for each organization, waits until all are provisioned, and counts the requests.
func (p *provisioning) round(
	ctx context.Context, foundings []founding, do func(ctx context.Context, i int) error,
) (sample, requests, error) {
	var names []string
	for _, f := range foundings {
		names = append(names, f.names()...)
	}
	done := p.ready.expect(names)
	mark, err := p.auditMark()
	if err != nil {
		return sample{}, requests{}, err
	}
	s, err := p.measure(ctx, len(foundings), func(ctx context.Context) error {
		if err := drive(ctx, len(foundings), provisioningAtOnce, do); err != nil {
			return err
		}
		return p.ready.wait(ctx, done)
	})
	if err != nil {
		return sample{}, requests{}, err
	}
	counted, err := p.auditSince(mark)
	return s, counted, err
}

func (p *provisioning) rateTable(c comparison) string {
	ratios := c.ratios()
	t := table{header: []string{"", "Operator, organizations/s", "Raw, organizations/s", "Ratio", "Rounds", "CPU ratio"}}
	t.add("to `Ready`", rounded(medianRate(c.operator)), rounded(medianRate(c.raw)),
		judged(c.ratio(), c.ratio() >= provisioningAim), fmt.Sprintf("%.2f–%.2f", ratios[0], ratios[len(ratios)-1]),
		fmt.Sprintf("%.2f", c.cpuRatio()))
	return t.markdown()
}

// requestTable compares requests for each organization.
func (p *provisioning) requestTable() string {
	t := table{header: []string{"For each organization", "Operator", "Raw", "Expected"}}
	var operator, raw, expected, takeover int
	for _, e := range expectedWrites {
		o, r := p.operator.writes[e.resource], p.raw.writes[e.resource]
		t.add("`"+e.resource+"`", judged(p.operator.each(o), p.operator.each(o) <= float64(e.count)),
			rounded(p.raw.each(r)), fmt.Sprint(e.count))
		operator, raw, expected, takeover = operator+o, raw+r, expected+e.count, takeover+p.takeover.writes[e.resource]
	}
	t.add("writes together", judged(p.operator.each(operator), p.operator.each(operator) <= float64(expected)),
		rounded(p.raw.each(raw)), fmt.Sprint(expected))
	t.add("of them refused as conflicts", rounded(p.operator.each(total(p.operator.refused))),
		rounded(p.raw.each(total(p.raw.refused))), "0")
	t.add("Events", rounded(p.operator.each(p.operator.writes["events"])), rounded(p.raw.each(p.raw.writes["events"])), "")
	t.add("reads past the cache", rounded(p.operator.each(total(p.operator.reads))), rounded(p.raw.each(total(p.raw.reads))), "")
	t.add("writes when the operator finds what the raw client wrote", "", rounded(p.raw.each(takeover)), "0")
	return t.markdown()
}

// total adds up counts, but for the lease, which is written all the time.
func total(counts map[string]int) int {
	sum := 0
	for resource, n := range counts {
		if resource != "leases" {
			sum += n
		}
	}
	return sum
}

func provisioningCPUTable(c comparison) string {
	t := table{header: []string{"CPU, ms/organization", "Sender or raw client", "Manager", "Control plane"}}
	for _, s := range []struct {
		name    string
		samples []sample
	}{{"Operator", c.operator}, {"Raw", c.raw}} {
		t.add(s.name, rounded(perOperation(s.samples, ofBench)), rounded(perOperation(s.samples, ofManager)),
			rounded(perOperation(s.samples, ofControlPlane)))
	}
	return t.markdown()
}
