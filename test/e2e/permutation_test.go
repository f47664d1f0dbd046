// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	. "github.com/onsi/gomega"
	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	clerkv1alpha1 "github.com/clerk-operator/clerk-operator/api/v1alpha1"
	"github.com/clerk-operator/clerk-operator/test/clerkfake"
)

const (
	// defaultRuns is how many histories are played, and batchSize how many of them side by side.
	defaultRuns, batchSize = 300, 30
	// atOnce is how many deliveries are on their way at once.
	atOnce = 8
	// convergence bounds how long the cluster may take to get where a batch leads it: the namespaces of deleted
	// organizations have to end.
	convergence = 2 * time.Minute
)

// manner is how the events of a history reach the operator. They come in any order, and some of them twice.
type manner string

const (
	// complete is all of them, while Clerk's Backend API answers nothing: no sync is needed. In half of the histories the
	// ends of memberships that a new one superseded come last.
	complete manner = "complete, without the Backend API"
	// lossy is some of them, then more happens of which nothing is heard, and then there is one sync.
	lossy manner = "lossy, then a sync"
	// belated is the same, but what was lost arrives after all, while the sync runs.
	belated manner = "lossy, then a sync while the rest arrives"
)

// manners are by the remainder of a history's seed, so that the seed says all.
var manners = []manner{complete, lossy, belated}

func mannerOf(seed uint64) manner { return manners[seed%uint64(len(manners))] }

// TestPermutation_everyOrderEndsAsTheModelSays plays random histories in Clerk, delivers their events out of order, twice
// and not at all, and compares what the cluster then holds with the model of model_test.go: every mirrored object, every
// tombstone, and who holds which ClusterRole.
//
// A history is made from one seed: what happens in it, which of its events are lost or doubled, and their order. A failure
// names the seeds of the histories that failed. These variables say what is played:
//
//   - PROPERTY_RUNS is how many histories there are (300).
//   - PROPERTY_BASE_SEED is what the histories' seeds are made from; a failed run tells it. It is another one each time.
//   - PROPERTY_SEED plays the history of that seed alone, PROPERTY_RUNS times (1) side by side. IDs and clocks are new ones
//     each time, and so is what coincides: a race may want many runs.
//
// After make controlplane build, one history is played by
//
//	PROPERTY_SEED=42 PROPERTY_RUNS=30 go test -tags=e2e -count=1 -run=TestPermutation ./test/e2e/
func TestPermutation_everyOrderEndsAsTheModelSays(t *testing.T) {
	plan := newPlan(t)
	t.Logf("%d batches of histories; to play them again: PROPERTY_BASE_SEED=%d", len(plan.batches), plan.base)
	w := newWorld(t)
	p := &permutations{random: rand.New(rand.NewPCG(plan.base, 2)), owners: map[string]*history{}}
	p.backed = w.backedBy(nil, func(i *clerkv1alpha1.ClerkInstance) {
		day := &metav1.Duration{Duration: 24 * time.Hour}
		i.Spec.BackendAPI.Sync = clerkv1alpha1.ClerkInstanceSync{
			Incremental: day, Full: day, MaxDeletions: new(intstr.FromString("100%")),
		}
	})
	// The receiver's own idle timeout is longer, so that no connection ends while it is used.
	transport := &http.Transport{MaxIdleConnsPerHost: atOnce, IdleConnTimeout: 30 * time.Second}
	p.sender.Client = &http.Client{Timeout: 15 * time.Second, Transport: transport}
	p.synced()
	for i, seeds := range plan.batches {
		begun := time.Now()
		p.play(seeds)
		t.Logf("batch %d of %d, %s: %s", i+1, len(plan.batches), mannerOf(seeds[0]), time.Since(begun).Round(time.Second))
	}
	p.clear()
}

// plan is which histories are played.
type plan struct {
	base uint64
	// batches hold the seeds of histories of one manner.
	batches [][]uint64
}

func newPlan(t *testing.T) plan {
	t.Helper()
	alone := os.Getenv("PROPERTY_SEED") != ""
	runs := defaultRuns
	if alone {
		runs = 1
	}
	runs = int(variable(t, "PROPERTY_RUNS", uint64(runs)))
	made := plan{base: variable(t, "PROPERTY_BASE_SEED", rand.Uint64())}
	seed := variable(t, "PROPERTY_SEED", 0)
	random := rand.New(rand.NewPCG(made.base, 1))
	number := uint64(len(manners))
	for begun := 0; begun < runs; begun += batchSize {
		batch := make([]uint64, min(batchSize, runs-begun))
		for i := range batch {
			batch[i] = seed
			if !alone {
				batch[i] = random.Uint64()/number*number + uint64(len(made.batches))%number
			}
		}
		made.batches = append(made.batches, batch)
	}
	return made
}

func variable(t *testing.T, name string, otherwise uint64) uint64 {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	number, err := strconv.ParseUint(text, 10, 64)
	NewWithT(t).Expect(err).NotTo(HaveOccurred(), name)
	return number
}

// permutations is the Clerk instance in which histories happen, and the operator that hears of them.
type permutations struct {
	*backed
	random    *rand.Rand
	histories []*history
	// owners are the histories by every ID that occurs in them.
	owners map[string]*history

	mu sync.Mutex
	// waiting are the events of plans that came before their payer.
	waiting []clerkfake.Event
}

// play plays one batch, and then checks it and the batches before it, which nothing of it may have changed.
func (p *permutations) play(seeds []uint64) {
	p.t.Helper()
	var selected []string
	batch := make([]*history, len(seeds))
	for i, seed := range seeds {
		h := newHistory(p.clerk, seed)
		batch[i] = h
		for id := range h.names {
			p.owners[id] = h
		}
		selected = append(selected, h.selected...)
	}
	p.class(selected)
	p.histories = append(p.histories, batch...)

	if batch[0].manner == complete {
		p.withoutBackend(func() {
			p.deliver(batch, sent)
			p.check(batch)
			p.deliver(batch, late)
			p.check(batch)
		})
		return
	}
	p.deliver(batch, sent)
	for _, h := range batch {
		h.goOn()
		h.isSynced = true
		for id := range h.names {
			p.owners[id] = h
		}
	}
	request := p.request()
	if batch[0].manner == belated {
		p.deliver(batch, late)
	}
	p.Eventually(stored(p.world, p.instance)).WithTimeout(convergence).Should(HaveField("Status.Sync.LastRequest", request))
	p.check(batch)
}

// withoutBackend lets something happen that must not need Clerk's Backend API: it answers nothing meanwhile, and nobody
// may ask it for a listing.
func (p *permutations) withoutBackend(happen func()) {
	p.t.Helper()
	p.clerk.ResetRequests()
	restore := p.clerk.Inject(clerkfake.Fault{Status: http.StatusServiceUnavailable})
	happen()
	restore()
	for _, request := range p.clerk.Requests() {
		// A member's user is read by ID if the user's own event takes long. That fails, and must not matter.
		p.Expect(request.Path).To(SatisfyAny(HavePrefix("/v1/users/user_"), Equal("/v1/instance")), "a listing without need")
	}
}

// sent and late are what deliver delivers.
func sent(h *history) []clerkfake.Event { return h.sent }

func late(h *history) []clerkfake.Event {
	h.isLate = true
	return h.late
}

// deliver delivers events of each history in their order, and the histories' among each other in a random one.
func (p *permutations) deliver(batch []*history, of func(*history) []clerkfake.Event) {
	p.t.Helper()
	streams := make([][]clerkfake.Event, len(batch))
	turns := make([]int, 0, len(batch)*batchSize)
	for i, h := range batch {
		streams[i] = of(h)
		turns = append(turns, slices.Repeat([]int{i}, len(streams[i]))...)
	}
	p.random.Shuffle(len(turns), func(i, j int) { turns[i], turns[j] = turns[j], turns[i] })

	ctx, cancel := context.WithTimeout(p.t.Context(), convergence)
	defer cancel()
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(atOnce)
	for _, i := range turns {
		event := streams[i][0]
		streams[i] = streams[i][1:]
		group.Go(func() error { return p.send(ctx, event) })
	}
	p.Expect(group.Wait()).To(Succeed())
}

// redeliver sends once more what had to wait for its payer. A payer who is gone from Clerk, and of whom nothing else was
// heard, is waited for in vain.
func (p *permutations) redeliver() {
	p.t.Helper()
	again := p.waiting
	p.waiting = nil
	ctx, cancel := context.WithTimeout(p.t.Context(), convergence)
	defer cancel()
	for _, event := range again {
		p.Expect(p.send(ctx, event)).To(Succeed())
	}
	for _, event := range p.waiting {
		id := subject(event)
		p.Expect(p.owners[id].end.has(id)).To(BeFalse(), "an event of %s still waits for its payer", id)
	}
	p.waiting = nil
}

// send sends one event until it is acknowledged, which it must be for one of the reasons that a good event can have, or has
// to wait for its payer.
func (p *permutations) send(ctx context.Context, event clerkfake.Event) error {
	fail := func(format string, args ...any) error {
		id := subject(event)
		return fmt.Errorf("the history of seed %d: %s of %s: "+format, append([]any{p.owners[id].seed, event.Type, id}, args...)...)
	}
	for {
		answer, err := p.sender.Post(ctx, event.Message)
		switch {
		case err != nil:
			return fail("%w", err)
		case answer.Code == http.StatusOK && slices.Contains([]string{"applied", "unchanged", "stale"}, resultOf(answer)):
			return nil
		case answer.Code == http.StatusServiceUnavailable && strings.Contains(answer.Body, "payer"):
			p.mu.Lock()
			defer p.mu.Unlock()
			p.waiting = append(p.waiting, event)
			return nil
		case answer.Code != http.StatusServiceUnavailable:
			return fail("%d %s", answer.Code, answer.Body)
		}
		select {
		case <-ctx.Done():
			return fail("still refused: %w", context.Cause(ctx))
		case <-time.After(polling):
		}
	}
}

// check waits until the cluster holds what the model says.
func (p *permutations) check(batch []*history) {
	p.t.Helper()
	p.redeliver()
	want, mayBeBuried := facts{}, map[string]bool{}
	for _, h := range p.histories {
		h.model(want, mayBeBuried)
	}
	var found []difference
	p.Eventually(func() (int, error) {
		have, err := p.observe()
		found = compare(want, have, mayBeBuried)
		return len(found), err
	}).WithTimeout(convergence).WithPolling(500*time.Millisecond).
		Should(BeZero(), func() string { return p.report(batch, found) })
}

// report tells of the histories that did not end as they should, of three of them all.
func (p *permutations) report(batch []*history, found []difference) string {
	var report strings.Builder
	fmt.Fprintf(&report, "%d differences after a batch that is %s", len(found), batch[0].manner)
	byHistory := map[*history][]difference{}
	for _, d := range found {
		byHistory[p.owners[d.id]] = append(byHistory[p.owners[d.id]], d)
	}
	for _, d := range byHistory[nil] {
		fmt.Fprintf(&report, "\nof no history: %s", d)
	}
	told := 0
	for _, h := range p.histories {
		if len(byHistory[h]) == 0 {
			continue
		}
		if told++; told <= 3 {
			h.report(&report, byHistory[h])
		} else {
			fmt.Fprintf(&report, "\nand the history of seed %d", h.seed)
		}
	}
	fmt.Fprintf(&report, "\n%d of %d histories failed", told, len(p.histories))
	return report.String()
}

// clear removes what the histories left, since hundreds of namespaces would slow down other tests. After a failure it all
// stays.
func (p *permutations) clear() {
	p.t.Helper()
	ctx := p.t.Context()
	p.Expect(suite.client.Delete(ctx, p.instance)).To(Succeed()) // first, so that nobody reads anything anew
	ours := client.MatchingLabels{clerkv1alpha1.LabelInstance: p.instance.Name}
	for _, kind := range []client.Object{
		&clerkv1alpha1.ClerkOrganizationMembership{}, &clerkv1alpha1.ClerkUser{}, &clerkv1alpha1.ClerkOrganization{},
		&clerkv1alpha1.ClerkTombstone{},
	} {
		p.Expect(suite.client.DeleteAllOf(ctx, kind, ours)).To(Succeed())
	}
	p.Eventually(func() (int, error) {
		var left clerkv1alpha1.ClerkOrganizationList
		err := suite.client.List(ctx, &left, ours)
		return len(left.Items), err
	}).WithTimeout(5*time.Minute).Should(BeZero(), "organizations that are deleted here keep their namespaces")
	var namespaces corev1.NamespaceList
	p.Expect(suite.client.List(ctx, &namespaces, ours)).To(Succeed())
	for i := range namespaces.Items {
		p.Expect(client.IgnoreNotFound(suite.client.Delete(ctx, &namespaces.Items[i]))).To(Succeed())
	}
	p.Eventually(func() (int, error) {
		err := suite.client.List(ctx, &namespaces, ours)
		return len(namespaces.Items), err
	}).WithTimeout(5*time.Minute).Should(BeZero(), "namespaces of deleted organizations")
}

// history is what happens to a few users and organizations, and how its events travel.
type history struct {
	seed   uint64
	manner manner
	random *rand.Rand
	clerk  *clerkfake.Clerk

	// users, organizations and members are those that there are, joined all members that there were as they were last.
	users, organizations []string
	members, joined      []clerkfake.Membership
	// selected are the organizations that a class is for.
	selected []string
	// names are what people call an ID.
	names map[string]string
	// steps are what happened, and which events told of it.
	steps  []string
	events []clerkfake.Event
	// about is which ID an event is about, by its message's ID.
	about map[string]string

	// cascade says whether there are events of memberships that end with something else.
	cascade bool
	// sent are the events in the order in which they are sent, and late those that are not sent with them, in the order in
	// which they may come after all.
	sent, late []clerkfake.Event
	// isGoingOn says that what happens now has no class; isSynced and isLate that there was a sync, and that late came.
	isGoingOn, isSynced, isLate bool
	// end is what is left of it in Clerk.
	end end
}

// newHistory lets the history of a seed happen.
func newHistory(c *clerkfake.Clerk, seed uint64) *history {
	h := &history{
		seed: seed, manner: mannerOf(seed), random: rand.New(rand.NewPCG(seed, 1)), clerk: c,
		names: map[string]string{}, about: map[string]string{},
	}
	h.cascade = h.random.IntN(2) == 0
	c.CascadeEvents(h.cascade)
	for range 2 + h.random.IntN(2) {
		h.signUp()
	}
	for range 1 + h.random.IntN(2) {
		h.found()
	}
	for range 2 {
		h.join()
	}
	h.happen(6 + h.random.IntN(11))
	h.end = endOf(h)

	trouble := clerkfake.Trouble{Seed: seed, Duplicate: 0.25, Reorder: true}
	if h.manner != complete {
		trouble.Loss = []float64{0.1, 0.3, 0.6}[h.random.IntN(3)]
	}
	h.sent, h.late = clerkfake.Arrange(h.events, trouble)
	if h.manner == complete && h.random.IntN(2) == 0 {
		h.holdBack()
	}
	return h
}

// happen lets a number of things happen.
func (h *history) happen(times int) {
	for times > 0 {
		if h.happening()(h) {
			times--
		}
	}
}

// goOn lets more happen, of which nothing is heard in time.
func (h *history) goOn() {
	h.clerk.CascadeEvents(h.cascade)
	h.isGoingOn = true
	before := len(h.events)
	h.steps = append(h.steps, "(what was sent is delivered)")
	h.happen(2)
	h.end = endOf(h)
	h.late = append(h.late, h.events[before:]...)
	h.random.Shuffle(len(h.late), func(i, j int) { h.late[i], h.late[j] = h.late[j], h.late[i] })
}

// holdBack makes the ends of superseded memberships late.
func (h *history) holdBack() {
	superseded := func(e clerkfake.Event) bool {
		return slices.ContainsFunc(h.joined, func(old clerkfake.Membership) bool {
			return old.ID == h.about[e.Message.ID] && slices.ContainsFunc(h.end.memberships, func(m clerkfake.Membership) bool {
				return m.ID != old.ID && m.UserID == old.UserID && m.OrganizationID == old.OrganizationID
			})
		})
	}
	var rest []clerkfake.Event
	for _, event := range h.sent {
		if isDeletion(event) && superseded(event) {
			h.late = append(h.late, event)
		} else {
			rest = append(rest, event)
		}
	}
	h.sent = rest
}

// happenings are what can happen, and how likely it is. Each says whether it could.
var happenings = []struct {
	weight int
	happen func(*history) bool
}{
	{2, (*history).signUp},
	{3, (*history).changeUser},
	{3, (*history).suspend},
	{2, (*history).banForAWhile},
	{1, (*history).deleteUser},
	{1, (*history).deleteMemberOfAll},
	{1, (*history).found},
	{3, (*history).changeOrganization},
	{1, (*history).deleteOrganization},
	{6, (*history).join},
	{3, (*history).changeRole},
	{2, (*history).leave},
	{3, (*history).rejoin},
	{2, (*history).subscribe},
	{2, (*history).changePlan},
}

func (h *history) happening() func(*history) bool {
	total := 0
	for _, candidate := range happenings {
		total += candidate.weight
	}
	at := h.random.IntN(total)
	for _, candidate := range happenings {
		if at -= candidate.weight; at < 0 {
			return candidate.happen
		}
	}
	panic("the weights do not add up")
}

// step notes what happened, with the events that it made.
func (h *history) step(format string, args ...any) {
	told := fmt.Sprintf(format, args...)
	for _, event := range h.clerk.TakeEvents() {
		h.events = append(h.events, event)
		h.about[event.Message.ID] = subject(event)
		told += fmt.Sprintf(" #%d", len(h.events))
	}
	h.steps = append(h.steps, told)
}

func pick[T any](h *history, from []T) (one T, ok bool) {
	if len(from) == 0 {
		return one, false
	}
	return from[h.random.IntN(len(from))], true
}

// name names a new object of the kind that the letter stands for.
func (h *history) name(id, letter string) string {
	number := 1
	for _, name := range h.names {
		if strings.HasPrefix(name, letter) {
			number++
		}
	}
	h.names[id] = letter + strconv.Itoa(number)
	return h.names[id]
}

// word is a text that says nothing, or none.
func (h *history) word() string {
	return []string{"", "Ada", "Zoë", "Nguyễn", "李", "O'Neil", "x-1"}[h.random.IntN(7)]
}

func (h *history) metadata() map[string]any {
	return []map[string]any{
		nil, {}, {"plan": "pro"}, {"plan": "free", "seats": 3, "limits": map[string]any{"cpu": 1.5, "flags": []any{"a", true, nil}}},
	}[h.random.IntN(4)]
}

func (h *history) signUp() bool {
	user := h.clerk.CreateUser(clerkfake.User{
		Email: []string{"", "someone@example.com"}[h.random.IntN(2)], ExternalID: h.word(), Username: h.word(),
		FirstName: h.word(), LastName: h.word(), PublicMetadata: h.metadata(),
		Banned: h.random.IntN(10) == 0, Deprovisioned: h.random.IntN(10) == 0,
	})
	h.users = append(h.users, user.ID)
	h.step("%s signs up", h.name(user.ID, "u"))
	return true
}

func (h *history) changeUser() bool {
	id, ok := pick(h, h.users)
	if !ok {
		return false
	}
	h.clerk.UpdateUser(id, func(u *clerkfake.User) {
		u.Email, u.FirstName, u.LastName = "other@example.com", h.word(), h.word()
		u.Username, u.PublicMetadata = h.word(), h.metadata()
	})
	h.step("%s changes their profile", h.names[id])
	return true
}

func (h *history) suspend() bool {
	id, ok := pick(h, h.users)
	if !ok {
		return false
	}
	user := h.clerk.UpdateUser(id, func(u *clerkfake.User) {
		if h.random.IntN(3) == 0 {
			u.Deprovisioned = !u.Deprovisioned
		} else {
			u.Banned = !u.Banned
		}
	})
	h.step("%s: banned %t, deprovisioned %t", h.names[id], user.Banned, user.Deprovisioned)
	return true
}

func (h *history) banForAWhile() bool {
	id, ok := pick(h, h.users)
	if !ok {
		return false
	}
	for _, banned := range []bool{true, false} {
		h.clerk.UpdateUser(id, func(u *clerkfake.User) { u.Banned = banned })
	}
	h.step("%s is banned for a while", h.names[id])
	return true
}

func (h *history) deleteUser() bool {
	id, ok := pick(h, h.users)
	if !ok {
		return false
	}
	h.dropUser(id)
	return true
}

func (h *history) dropUser(id string) {
	h.clerk.DeleteUser(id)
	h.users = slices.DeleteFunc(h.users, func(other string) bool { return other == id })
	h.members = slices.DeleteFunc(h.members, func(m clerkfake.Membership) bool { return m.UserID == id })
	h.step("%s is deleted", h.names[id])
}

// deleteMemberOfAll deletes a user who was a member of every organization.
func (h *history) deleteMemberOfAll() bool {
	id, ok := pick(h, h.users)
	if !ok {
		return false
	}
	for _, organizationID := range h.organizations {
		h.add(organizationID, id)
	}
	h.dropUser(id)
	return true
}

func (h *history) found() bool {
	creator, _ := pick(h, h.users)
	organization := h.clerk.CreateOrganization(clerkfake.Organization{
		Name: "Acme", Slug: h.slug(), CreatedBy: creator, MaxAllowedMemberships: h.random.IntN(3) * 5, PublicMetadata: h.metadata(),
	})
	h.organizations = append(h.organizations, organization.ID)
	class := "for which there is no class"
	if !h.isGoingOn && (len(h.selected) == 0 || h.random.IntN(3) == 0) {
		h.selected, class = append(h.selected, organization.ID), "which a class selects"
	}
	h.step("%s, %s, is founded", h.name(organization.ID, "o"), class)
	return true
}

func (h *history) slug() string { return []string{"", "acme", "acme-2", "zoë"}[h.random.IntN(4)] }

func (h *history) changeOrganization() bool {
	id, ok := pick(h, h.organizations)
	if !ok {
		return false
	}
	h.clerk.UpdateOrganization(id, func(o *clerkfake.Organization) {
		o.Name, o.Slug, o.PublicMetadata = h.word(), h.slug(), h.metadata()
	})
	h.step("%s is renamed", h.names[id])
	return true
}

func (h *history) deleteOrganization() bool {
	id, ok := pick(h, h.organizations)
	if !ok {
		return false
	}
	h.clerk.DeleteOrganization(id)
	h.organizations = slices.DeleteFunc(h.organizations, func(other string) bool { return other == id })
	h.members = slices.DeleteFunc(h.members, func(m clerkfake.Membership) bool { return m.OrganizationID == id })
	h.step("%s is deleted", h.names[id])
	return true
}

// role is one of those that the class knows, or one that it does not.
func (h *history) role() string {
	return []string{"org:admin", "org:member", "org:guest", "org:billing"}[h.random.IntN(4)]
}

// add makes a user a member, unless the user is one.
func (h *history) add(organizationID, userID string) bool {
	m, err := h.clerk.AddMember(organizationID, userID, h.role())
	if err != nil {
		return false
	}
	h.members, h.joined = append(h.members, m), append(h.joined, m)
	h.step("%s: %s joins %s as %s", h.name(m.ID, "m"), h.names[userID], h.names[organizationID], m.Role)
	return true
}

func (h *history) join() bool {
	user, hasUser := pick(h, h.users)
	organization, hasOrganization := pick(h, h.organizations)
	return hasUser && hasOrganization && h.add(organization, user)
}

func (h *history) changeRole() bool {
	m, ok := pick(h, h.members)
	if !ok {
		return false
	}
	m, err := h.clerk.SetRole(m.ID, h.role())
	if err != nil {
		panic(err)
	}
	at := slices.IndexFunc(h.joined, func(other clerkfake.Membership) bool { return other.ID == m.ID })
	h.joined[at] = m
	h.step("%s becomes %s", h.names[m.ID], m.Role)
	return true
}

func (h *history) leave() bool {
	m, ok := pick(h, h.members)
	if !ok {
		return false
	}
	h.remove(m)
	return true
}

func (h *history) remove(m clerkfake.Membership) {
	if err := h.clerk.RemoveMember(m.ID); err != nil {
		panic(err)
	}
	h.members = slices.DeleteFunc(h.members, func(other clerkfake.Membership) bool { return other.ID == m.ID })
	h.step("%s ends", h.names[m.ID])
}

func (h *history) rejoin() bool {
	m, ok := pick(h, h.members)
	if !ok {
		return false
	}
	h.remove(m)
	return h.add(m.OrganizationID, m.UserID)
}

func (h *history) subscribe() bool {
	id, ok := pick(h, slices.Concat(h.users, h.organizations))
	if !ok {
		return false
	}
	plan := []string{clerkfake.FreePlan, "pro", "team"}[h.random.IntN(3)]
	h.clerk.Subscribe(id, plan)
	h.step("%s subscribes to %s", h.names[id], plan)
	return true
}

func (h *history) changePlan() bool {
	id, ok := pick(h, slices.Concat(h.users, h.organizations))
	if !ok || h.clerk.Plan(id) == "" {
		return false
	}
	change := []struct {
		about  string
		change func(*clerkfake.Clerk, string)
	}{
		{"owes for", (*clerkfake.Clerk).PastDue}, {"pays for", (*clerkfake.Clerk).Pay},
		{"cancels", (*clerkfake.Clerk).Cancel}, {"comes to the end of", (*clerkfake.Clerk).End},
	}[h.random.IntN(4)]
	change.change(h.clerk, id)
	h.step("%s %s its plan", h.names[id], change.about)
	return true
}

// report tells what happened, what was sent of it and what came of it.
func (h *history) report(to *strings.Builder, found []difference) {
	fmt.Fprintf(to, "\n\nthe history of seed %d (%s)", h.seed, h.manner)
	fmt.Fprintf(to, "\n  to play it again: PROPERTY_SEED=%d go test -tags=e2e -count=1 -run=TestPermutation ./test/e2e/", h.seed)
	for _, d := range found {
		fmt.Fprintf(to, "\n  %s is not as it should be: %s", h.names[d.id], d)
	}
	to.WriteString("\n  what happened, and the events that told of it:")
	for _, step := range h.steps {
		to.WriteString("\n    " + step)
	}
	to.WriteString("\n  sent: " + h.list(h.sent))
	if h.isSynced {
		to.WriteString("\n  a sync")
	}
	told := "\n  not sent: "
	if h.isLate {
		told = "\n  sent later: "
	}
	to.WriteString(told + h.list(h.late))
}

func (h *history) list(events []clerkfake.Event) string {
	told := make([]string, len(events))
	for i, event := range events {
		number := slices.IndexFunc(h.events, func(e clerkfake.Event) bool { return e.Message.ID == event.Message.ID }) + 1
		told[i] = fmt.Sprintf("#%d %s %s", number, event.Type, h.names[h.about[event.Message.ID]])
	}
	return strings.Join(told, ", ")
}
