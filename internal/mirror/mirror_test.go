// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package mirror_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"testing"
	"time"

	. "github.com/onsi/gomega"
	admissionv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	clerkv1alpha1 "github.com/clerk-operator/clerk-operator/api/v1alpha1"
	"github.com/clerk-operator/clerk-operator/internal/clerk"
	"github.com/clerk-operator/clerk-operator/internal/mirror"
	"github.com/clerk-operator/clerk-operator/test/controlplane"
	"github.com/clerk-operator/clerk-operator/test/installation"
	"github.com/clerk-operator/clerk-operator/test/payload"
)

// api is the API server's client. No manager runs here: what is tested is what the mirror and the CRDs' rules do alone.
var api client.Client

// config reaches the API server as api does.
var config *rest.Config

func TestMain(m *testing.M) {
	os.Exit(runSuite(m))
}

func runSuite(m *testing.M) int {
	ctx := context.Background()
	cp, err := controlplane.Start(ctx, controlplane.Options{})
	if err != nil {
		fmt.Fprintln(os.Stderr, "starting the control plane:", err)
		return 1
	}
	in, err := installation.Install(ctx, cp, "../..")
	if err != nil {
		fmt.Fprintln(os.Stderr, "installing:", err)
		return 1
	}
	api, config = in.Client, cp.Config()
	code := m.Run()
	if err := cp.Stop(); err != nil {
		fmt.Fprintln(os.Stderr, "stopping the control plane:", err)
		return 1
	}
	return code
}

var start = time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)

// at is a time some milliseconds into the tests' story.
func at(ms int) time.Time { return start.Add(time.Duration(ms) * time.Millisecond) }

// userEvent is a user's state at a time, in an event of a time.
func userEvent(g Gomega, u payload.User, eventTime time.Time) *clerk.Object {
	body, err := json.Marshal(map[string]any{"type": "user.updated", "timestamp": eventTime.UnixMilli(), "data": u.Data()})
	g.Expect(err).NotTo(HaveOccurred())
	event, err := clerk.Decode(body)
	g.Expect(err).NotTo(HaveOccurred())
	return event.Object(clerk.Source{InstanceName: "default"})
}

func stored(g Gomega, id string) *clerkv1alpha1.ClerkUser {
	user := &clerkv1alpha1.ClerkUser{}
	g.Expect(api.Get(context.Background(), client.ObjectKey{Name: clerk.ObjectName("default", id)}, user)).To(Succeed())
	return user
}

func TestApply_theNewestStateWinsInEveryOrder(t *testing.T) {
	// Versions in ascending order: (updatedAt, eventTime) in milliseconds.
	versions := [][2]int{{1000, 1000}, {2000, 2000}, {2000, 2001}, {3000, 2500}}
	for name, order := range map[string][]int{
		"in order": {0, 1, 2, 3}, "reversed": {3, 2, 1, 0}, "newest first": {3, 0, 1, 2}, "mixed": {2, 0, 3, 1},
	} {
		t.Run(name, func(t *testing.T) {
			g := NewWithT(t)
			m := mirror.New(api, api)
			id := payload.NewID("user")
			newest := -1
			for _, i := range order {
				u := payload.User{ID: id, FirstName: fmt.Sprint(i), CreatedAt: at(0), UpdatedAt: at(versions[i][0])}
				want := mirror.Stale
				if i > newest {
					want, newest = mirror.Applied, i
				}
				result, err := m.Apply(t.Context(), userEvent(g, u, at(versions[i][1])))
				g.Expect(err).NotTo(HaveOccurred())
				g.Expect(result).To(Equal(want), "version %d", i)
			}
			g.Expect(stored(g, id).Spec.FirstName).To(Equal("3"))
			g.Expect(stored(g, id).Finalizers).To(ConsistOf(clerkv1alpha1.FinalizerUser))
		})
	}
}

func TestApply_theSameStateWritesNothing(t *testing.T) {
	g := NewWithT(t)
	m := mirror.New(api, api)
	u := payload.User{
		ID: payload.NewID("user"), Email: "a@example.com", CreatedAt: at(0), UpdatedAt: at(1),
		PublicMetadata: map[string]any{"plan": "pro", "seats": 3, "nested": map[string]any{"b": []any{1, 2}, "a": nil}},
	}
	result, err := m.Apply(t.Context(), userEvent(g, u, at(1)))
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(result).To(Equal(mirror.Applied))
	before := stored(g, u.ID)
	result, err = m.Apply(t.Context(), userEvent(g, u, at(1)))
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(result).To(Equal(mirror.Unchanged))
	g.Expect(stored(g, u.ID)).To(Equal(before))
}

func TestApply_whatClerkNoLongerSaysGoes(t *testing.T) {
	g := NewWithT(t)
	m := mirror.New(api, api)
	u := payload.User{ID: payload.NewID("user"), Email: "a@example.com", Username: "ann", CreatedAt: at(0), UpdatedAt: at(1)}
	_, err := m.Apply(t.Context(), userEvent(g, u, at(1)))
	g.Expect(err).NotTo(HaveOccurred())
	u.Email, u.Username, u.UpdatedAt = "", "", at(2)
	_, err = m.Apply(t.Context(), userEvent(g, u, at(2)))
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(stored(g, u.ID).Spec.Email).To(BeEmpty())
	g.Expect(stored(g, u.ID).Spec.Username).To(BeEmpty())
}

func TestApply_refusesToMergeTwoIDs(t *testing.T) {
	g := NewWithT(t)
	m := mirror.New(api, api)
	u := payload.User{ID: payload.NewID("user"), FirstName: "mine", CreatedAt: at(0), UpdatedAt: at(1)}
	_, err := m.Apply(t.Context(), userEvent(g, u, at(1)))
	g.Expect(err).NotTo(HaveOccurred())
	sameName := u
	sameName.ID = "user_" + flipCase(u.ID[len("user_"):])
	sameName.FirstName, sameName.UpdatedAt = "theirs", at(9)
	o := userEvent(g, sameName, at(9))
	_, err = m.Apply(t.Context(), o)
	g.Expect(err).To(BeAssignableToTypeOf(&mirror.RefusedError{}))
	g.Expect(err).To(HaveField("Reason", mirror.ReasonNameTaken))
	_, err = m.Delete(t.Context(), o.InstanceName, o.ID, at(10))
	g.Expect(err).To(HaveField("Reason", mirror.ReasonNameTaken))
	g.Expect(stored(g, u.ID).Spec.FirstName).To(Equal("mine"))
	g.Expect(stored(g, u.ID).DeletionTimestamp).To(BeNil())
}

// What one instance says of an ID is about its own object and its own deletion, whatever others say of the same ID.
func TestMirror_instancesDoNotMeet(t *testing.T) {
	for _, kind := range kinds {
		t.Run(string(kind), func(t *testing.T) {
			g := NewWithT(t)
			m := mirror.New(api, api)
			data := sample(kind)
			ours := listed(g, kind, "default", data, at(5))
			_, err := m.Delete(t.Context(), "staging", ours.ID, at(9))
			g.Expect(err).NotTo(HaveOccurred(), "of what it never had")
			g.Expect(m.Apply(t.Context(), ours)).To(Equal(mirror.Applied), "it is buried in another instance only")
			before := object(g, kind, ours.ID)

			g.Expect(m.Apply(t.Context(), listed(g, kind, "staging", data, at(6)))).To(Equal(mirror.Stale))
			g.Expect(m.Apply(t.Context(), listed(g, kind, "another", data, at(6)))).To(Equal(mirror.Applied))
			theirs, err := m.Get(t.Context(), kind, "another", ours.ID)
			g.Expect(err).NotTo(HaveOccurred())
			g.Expect(theirs.GetName()).To(Equal("another." + before.GetName()))
			g.Expect(m.Delete(t.Context(), "another", ours.ID, at(7))).To(Equal(mirror.Applied))

			g.Expect(object(g, kind, ours.ID)).To(Equal(before))
			g.Expect(m.Delete(t.Context(), "default", ours.ID, at(8))).To(Equal(mirror.Applied))
			g.Expect(m.Apply(t.Context(), ours)).To(Equal(mirror.Stale))
		})
	}
}

// The API server itself refuses an object that has the name of another instance's.
func TestMirror_namesHoldTheInstance(t *testing.T) {
	g := NewWithT(t)
	at := clerkv1alpha1.NewTimestamp(at(1))
	for _, tc := range []struct{ named, instanceName string }{
		{"default", "staging"}, {"staging", "default"}, {"staging", "stag"}, {"stag", "staging"},
	} {
		id := payload.NewID("user")
		user := &clerkv1alpha1.ClerkUser{ObjectMeta: metav1.ObjectMeta{Name: clerk.ObjectName(tc.named, id)}}
		user.Spec = clerkv1alpha1.ClerkUserSpec{UserID: id, Mirrored: clerkv1alpha1.Mirrored{
			InstanceName: tc.instanceName, UpdatedAt: at, EventTime: at,
		}}
		g.Expect(api.Create(t.Context(), user)).To(MatchError(ContainSubstring("metadata.name must be spec.userID")))
		tombstone := &clerkv1alpha1.ClerkTombstone{ObjectMeta: metav1.ObjectMeta{Name: clerk.ObjectName(tc.named, id)}}
		tombstone.Spec = clerkv1alpha1.ClerkTombstoneSpec{InstanceName: tc.instanceName, ID: id, DeletedAt: at}
		g.Expect(api.Create(t.Context(), tombstone)).To(MatchError(ContainSubstring("metadata.name must be spec.id")))
	}
}

func flipCase(s string) string {
	flipped := []byte(s)
	for i, c := range flipped {
		if c >= 'A' && c <= 'Z' {
			flipped[i] = c + 'a' - 'A'
		}
	}
	return string(flipped)
}

func TestDelete_remembersAndIsIdempotent(t *testing.T) {
	g := NewWithT(t)
	m := mirror.New(api, api)
	u := payload.User{ID: payload.NewID("user"), CreatedAt: at(0), UpdatedAt: at(1)}
	_, err := m.Apply(t.Context(), userEvent(g, u, at(1)))
	g.Expect(err).NotTo(HaveOccurred())
	for i, want := range []mirror.Result{mirror.Applied, mirror.Unchanged} {
		result, err := m.Delete(t.Context(), "default", u.ID, at(2+i))
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(result).To(Equal(want))
	}
	g.Expect(stored(g, u.ID).DeletionTimestamp).NotTo(BeNil(), "its finalizer holds it: no manager runs here")
	tombstone := &clerkv1alpha1.ClerkTombstone{}
	g.Expect(api.Get(t.Context(), client.ObjectKey{Name: clerk.ObjectName("default", u.ID)}, tombstone)).To(Succeed())
	g.Expect(tombstone.Spec.DeletedAt.Time).To(BeTemporally("==", at(2)))
	u.UpdatedAt = at(100)
	result, err := m.Apply(t.Context(), userEvent(g, u, at(100)))
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(result).To(Equal(mirror.Stale))
}

func TestApply_anObjectOnItsWayOutIsTriedAgain(t *testing.T) {
	g := NewWithT(t)
	m := mirror.New(api, api)
	u := payload.User{ID: payload.NewID("user"), CreatedAt: at(0), UpdatedAt: at(1)}
	_, err := m.Apply(t.Context(), userEvent(g, u, at(1)))
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(api.Delete(t.Context(), stored(g, u.ID))).To(Succeed()) // by hand: Clerk still has the user
	_, err = m.Apply(t.Context(), userEvent(g, u, at(1)))
	g.Expect(err).To(MatchError(mirror.ErrTerminating), "the same again")
	u.UpdatedAt = at(2)
	_, err = m.Apply(t.Context(), userEvent(g, u, at(2)))
	g.Expect(err).To(MatchError(mirror.ErrTerminating))
}

// counter counts the requests that write, and keeps the paths and queries of those that read.
type counter struct {
	next   http.RoundTripper
	writes int
	reads  []string
}

func (c *counter) RoundTrip(request *http.Request) (*http.Response, error) {
	if request.Method == http.MethodGet {
		c.reads = append(c.reads, request.URL.RequestURI())
	} else {
		c.writes++
	}
	return c.next.RoundTrip(request)
}

func TestMirror_writesOnceForAnEvent(t *testing.T) {
	g := NewWithT(t)
	c, counted := counting(g)
	m := mirror.New(c, c)
	u := payload.User{ID: payload.NewID("user"), CreatedAt: at(0), UpdatedAt: at(1)}
	writes := func(do func() (mirror.Result, error)) int {
		counted.writes = 0
		_, err := do()
		g.Expect(err).NotTo(HaveOccurred())
		return counted.writes
	}
	apply := func() (mirror.Result, error) { return m.Apply(t.Context(), userEvent(g, u, at(1))) }
	remove := func() (mirror.Result, error) { return m.Delete(t.Context(), "default", u.ID, at(2)) }
	g.Expect(writes(apply)).To(Equal(1), "created")
	g.Expect(writes(apply)).To(Equal(0), "told again")
	u.UpdatedAt = at(2)
	g.Expect(writes(apply)).To(Equal(1), "updated")
	g.Expect(writes(remove)).To(Equal(2), "deleted: the tombstone and the object")
	g.Expect(writes(remove)).To(Equal(0), "deleted again")
	g.Expect(writes(apply)).To(Equal(0), "after the deletion")
}

func TestMirror_anAdmissionPolicyIsNoReasonToForget(t *testing.T) {
	g := NewWithT(t)
	u := payload.User{ID: payload.NewID("user"), FirstName: "Denied", CreatedAt: at(0), UpdatedAt: at(1)}
	refuse(t, g, u.ID)
	m := mirror.New(api, api)
	for name, write := range map[string]func() (mirror.Result, error){
		"a state":    func() (mirror.Result, error) { return m.Apply(t.Context(), userEvent(g, u, at(1))) },
		"a deletion": func() (mirror.Result, error) { return m.Delete(t.Context(), "default", u.ID, at(2)) },
	} {
		_, err := write()
		g.Expect(err).To(MatchError(ContainSubstring("denied request")), name)
		g.Expect(err).NotTo(BeAssignableToTypeOf(&mirror.RefusedError{}), name)
	}
}

// refuse makes the API server refuse everything of an ID, as a cluster's own policy may.
func refuse(t *testing.T, g Gomega, id string) {
	t.Helper()
	meta := metav1.ObjectMeta{Name: "refuse-" + clerk.ObjectName("default", id)}
	policy := &admissionv1.ValidatingAdmissionPolicy{ObjectMeta: meta, Spec: admissionv1.ValidatingAdmissionPolicySpec{
		MatchConstraints: &admissionv1.MatchResources{ResourceRules: []admissionv1.NamedRuleWithOperations{{
			RuleWithOperations: admissionv1.RuleWithOperations{
				Operations: []admissionv1.OperationType{admissionv1.Create, admissionv1.Update},
				Rule:       admissionv1.Rule{APIGroups: []string{clerkv1alpha1.GroupName}, APIVersions: []string{"*"}, Resources: []string{"*"}},
			},
		}}},
		Validations: []admissionv1.Validation{{Expression: fmt.Sprintf("object.metadata.name != %q", clerk.ObjectName("default", id))}},
	}}
	binding := &admissionv1.ValidatingAdmissionPolicyBinding{ObjectMeta: meta, Spec: admissionv1.ValidatingAdmissionPolicyBindingSpec{
		PolicyName: meta.Name, ValidationActions: []admissionv1.ValidationAction{admissionv1.Deny},
	}}
	g.Expect(api.Create(t.Context(), policy)).To(Succeed())
	g.Expect(api.Create(t.Context(), binding)).To(Succeed())
	t.Cleanup(func() {
		ctx := context.WithoutCancel(t.Context())
		g.Expect(api.Delete(ctx, binding)).To(Succeed())
		g.Expect(api.Delete(ctx, policy)).To(Succeed())
	})
	// A policy is in force a while after it is written, and until then a write would be there for good.
	probe := &clerkv1alpha1.ClerkUser{
		ObjectMeta: metav1.ObjectMeta{Name: clerk.ObjectName("default", id)},
		Spec: clerkv1alpha1.ClerkUserSpec{UserID: id, Mirrored: clerkv1alpha1.Mirrored{
			InstanceName: "default",
			UpdatedAt:    clerkv1alpha1.NewTimestamp(at(0)),
			EventTime:    clerkv1alpha1.NewTimestamp(at(0)),
		}},
	}
	g.Eventually(func() error {
		return api.Create(t.Context(), probe.DeepCopy(), client.DryRunAll)
	}).WithTimeout(30 * time.Second).Should(MatchError(ContainSubstring("denied request")))
}

func TestTimestamps_writtenByHandDoNotStopTheReading(t *testing.T) {
	g := NewWithT(t)
	forms := []string{"2027-01-01T00:00:00Z", "2027-01-01T00:00:00.5Z", "2027-01-01T00:00:00.123456789+02:00"}
	names := make([]string, 0, len(forms))
	for _, written := range forms {
		id := payload.NewID("user")
		object := &unstructured.Unstructured{Object: map[string]any{
			"apiVersion": "clerk-operator.dev/v1alpha1", "kind": "ClerkUser",
			"metadata": map[string]any{"name": clerk.ObjectName("default", id)},
			"spec": map[string]any{
				"instanceName": "default", "userID": id, "createdAt": written, "updatedAt": written, "eventTime": written,
			},
		}}
		g.Expect(api.Create(t.Context(), object)).To(Succeed(), written)
		names = append(names, object.GetName())
	}
	var users clerkv1alpha1.ClerkUserList
	g.Expect(api.List(t.Context(), &users)).To(Succeed())
	for _, name := range names {
		g.Expect(users.Items).To(ContainElement(And(
			HaveField("Name", name), HaveField("Spec.UpdatedAt.Time", BeTemporally("~", time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC), 3*time.Hour)),
		)))
	}
}
