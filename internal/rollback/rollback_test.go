// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package rollback_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr/funcr"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/cache/informertest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllertest"

	clerkv1alpha1 "github.com/clerk-operator/clerk-operator/api/v1alpha1"
	"github.com/clerk-operator/clerk-operator/internal/rollback"
)

// world is a detector of users and organizations, with what it reads.
type world struct {
	*WithT
	t        *testing.T
	detector *rollback.Detector
	// live is the checked reader, and server is what it reads.
	live   client.Reader
	server *server
	cached *cached
	users  *controllertest.FakeInformer
	log    strings.Builder
}

// server is an API server as the detector sees it: it answers with these resource versions.
type server struct {
	mu sync.Mutex
	// object is what a Get returns; lists are the versions of lists by kind, and errs what they fail with.
	object client.Object
	lists  map[string]string
	errs   map[string]error
	// next are the versions of all lists after the first one.
	next map[string]string
	// asked are the kinds of the lists that were asked for.
	asked []string
}

func (s *server) Get(_ context.Context, _ client.ObjectKey, into client.Object, _ ...client.GetOption) error {
	return fill(s.object, into)
}

func (s *server) List(_ context.Context, list client.ObjectList, _ ...client.ListOption) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	kind := list.GetObjectKind().GroupVersionKind().Kind
	if _, isUsers := list.(*clerkv1alpha1.ClerkUserList); isUsers {
		kind = "ClerkUserList"
	}
	s.asked = append(s.asked, kind)
	list.SetResourceVersion(s.lists[kind])
	if next := s.next[kind]; next != "" {
		s.lists[kind] = next
	}
	return s.errs[kind]
}

// answer sets what lists are answered with.
func (s *server) answer(kind, version string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lists[kind], s.errs[kind] = version, err
}

// then sets what every list after the next one is answered with.
func (s *server) then(kind, version string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.next = map[string]string{kind: version}
}

func (s *server) questions() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.asked...)
}

// cached is a cache with one object.
type cached struct {
	*informertest.FakeInformers
	object client.Object
}

func (c *cached) Get(_ context.Context, _ client.ObjectKey, into client.Object, _ ...client.GetOption) error {
	return fill(c.object, into)
}

// fill copies an object; nil is not found.
func fill(from, into client.Object) error {
	if from == nil {
		return apierrors.NewNotFound(clerkv1alpha1.SchemeGroupVersion.WithResource("clerkusers").GroupResource(), "")
	}
	into.SetUID(from.GetUID())
	into.SetResourceVersion(from.GetResourceVersion())
	return nil
}

func newWorld(t *testing.T, interval time.Duration) *world {
	t.Helper()
	w := &world{WithT: NewWithT(t), t: t, server: &server{lists: map[string]string{}, errs: map[string]error{}}}
	w.SetDefaultEventuallyTimeout(10 * time.Second)
	scheme := runtime.NewScheme()
	w.Expect(clerkv1alpha1.AddToScheme(scheme)).To(Succeed())
	w.Expect(corev1.AddToScheme(scheme)).To(Succeed())
	log := funcr.New(func(prefix, args string) { w.log.WriteString(prefix + args + "\n") }, funcr.Options{})
	var err error
	w.detector, err = rollback.New(scheme, rollback.Intervals{Check: interval, Confirm: 10 * time.Millisecond}, log, &clerkv1alpha1.ClerkUser{}, &clerkv1alpha1.ClerkOrganization{})
	w.Expect(err).NotTo(HaveOccurred())
	w.cached = &cached{FakeInformers: &informertest.FakeInformers{Scheme: scheme}}
	w.live, err = w.detector.Watch(t.Context(), w.cached, w.server)
	w.Expect(err).NotTo(HaveOccurred())
	w.users, err = w.cached.FakeInformerFor(t.Context(), &clerkv1alpha1.ClerkUser{})
	w.Expect(err).NotTo(HaveOccurred())
	return w
}

// start runs the detector and returns where its end is told.
func (w *world) start() <-chan error {
	w.t.Helper()
	ctx, cancel := context.WithCancel(w.t.Context())
	ended := make(chan error, 1)
	var running sync.WaitGroup
	running.Go(func() { ended <- w.detector.Start(ctx) })
	w.t.Cleanup(func() {
		cancel()
		running.Wait()
	})
	return ended
}

func user(uid types.UID, version string) *clerkv1alpha1.ClerkUser {
	return &clerkv1alpha1.ClerkUser{ObjectMeta: metav1.ObjectMeta{Name: "one", UID: uid, ResourceVersion: version}}
}

func TestHandler_noticesAnObjectThatBecomesAnOlderOne(t *testing.T) {
	for name, tc := range map[string]struct {
		before, after *clerkv1alpha1.ClerkUser
		want          bool
	}{
		"a change":                      {user("a", "9"), user("a", "10"), false},
		"the same":                      {user("a", "9"), user("a", "9"), false},
		"an older one":                  {user("a", "10"), user("a", "9"), true},
		"another object of the name":    {user("a", "10"), user("b", "9"), false},
		"versions that are not numbers": {user("a", "x10"), user("a", "x09"), false},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, time.Hour)
			ended := w.start()
			w.users.Add(tc.before)
			w.users.Update(tc.before, tc.after)
			w.Expect(w.detector.Check(nil) != nil).To(Equal(tc.want))
			if tc.want {
				w.Eventually(ended).Should(Receive(MatchError(rollback.ErrRolledBack)))
				w.Expect(w.log.String()).To(And(ContainSubstring(`"kind"="ClerkUser"`), ContainSubstring(`"seenResourceVersion"="10"`)))
			}
		})
	}
}

func TestReader_noticesAnObjectThatIsOlderThanTheCachedOne(t *testing.T) {
	for name, tc := range map[string]struct {
		cached, live client.Object
		want         bool
	}{
		"the same":                 {user("a", "10"), user("a", "10"), false},
		"a cache that is behind":   {user("a", "10"), user("a", "11"), false},
		"an older one":             {user("a", "10"), user("a", "9"), true},
		"another one":              {user("a", "10"), user("b", "9"), false},
		"not in the cache":         {nil, user("a", "9"), false},
		"in the cache and no more": {user("a", "10"), nil, false},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, time.Hour)
			w.cached.object, w.server.object = tc.cached, tc.live
			err := w.live.Get(t.Context(), client.ObjectKey{Name: "one"}, &clerkv1alpha1.ClerkUser{})
			switch {
			case tc.want:
				w.Expect(err).To(MatchError(rollback.ErrRolledBack))
			case tc.live == nil:
				w.Expect(apierrors.IsNotFound(err)).To(BeTrue())
			default:
				w.Expect(err).NotTo(HaveOccurred())
			}
			w.Expect(w.detector.Check(nil) != nil).To(Equal(tc.want))
		})
	}
}

func TestReader_leavesOtherKindsAlone(t *testing.T) {
	w := newWorld(t, time.Hour)
	w.cached.object, w.server.object = user("a", "10"), user("a", "9")
	secret := &corev1.Secret{}
	w.Expect(w.live.Get(t.Context(), client.ObjectKey{Name: "one"}, secret)).To(Succeed())
	w.Expect(secret.ResourceVersion).To(Equal("9"))
	w.Expect(w.live.List(t.Context(), &corev1.SecretList{})).To(Succeed())
	w.Expect(w.detector.Check(nil)).To(Succeed())
}

func TestReader_suspectsAListThatIsOlderThanWhatWasSeen(t *testing.T) {
	for name, tc := range map[string]struct {
		saw     func(w *world)
		options []client.ListOption
		want    bool
	}{
		"nothing was seen":        {saw: func(*world) {}},
		"an older object":         {saw: func(w *world) { w.users.Add(user("a", "99")) }},
		"the last one":            {saw: func(w *world) { w.users.Add(user("a", "100")) }},
		"a newer object":          {saw: func(w *world) { w.users.Add(user("a", "101")) }, want: true},
		"a newer change":          {saw: func(w *world) { w.users.Update(user("a", "7"), user("a", "101")) }, want: true},
		"a newer deletion":        {saw: func(w *world) { w.users.Delete(user("a", "101")) }, want: true},
		"a newer list":            {saw: func(w *world) { w.listed("101") }, want: true},
		"newer, and older again":  {saw: func(w *world) { w.users.Add(user("a", "101")); w.users.Add(user("b", "5")) }, want: true},
		"another page":            {saw: func(w *world) { w.listed("101") }, options: []client.ListOption{client.Continue("next")}},
		"a list of another state": {saw: func(w *world) { w.listed("101") }, options: []client.ListOption{cachedList()}},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, time.Hour)
			tc.saw(w)
			w.server.answer("ClerkUserList", "100", nil)
			ended := w.start()
			w.Expect(w.live.List(t.Context(), &clerkv1alpha1.ClerkUserList{}, tc.options...)).To(Succeed())
			if tc.want {
				w.Eventually(ended).Should(Receive(MatchError(rollback.ErrRolledBack)))
				return
			}
			w.Consistently(ended).WithTimeout(50 * time.Millisecond).ShouldNot(Receive())
			w.Expect(w.detector.Check(nil)).To(Succeed())
		})
	}
}

// listed lists users at a version.
func (w *world) listed(version string) {
	w.t.Helper()
	w.server.answer("ClerkUserList", version, nil)
	w.Expect(w.live.List(w.t.Context(), &clerkv1alpha1.ClerkUserList{})).To(Succeed())
}

// cachedList is the option of a list that may be answered from the API server's cache.
func cachedList() client.ListOption {
	return &client.ListOptions{Raw: &metav1.ListOptions{ResourceVersion: "0"}}
}

func TestStart_asksAtIntervals(t *testing.T) {
	w := newWorld(t, time.Millisecond)
	w.users.Add(user("a", "101"))
	w.server.answer("ClerkUserList", "101", nil)
	ended := w.start()
	w.Eventually(w.server.questions).Should(ContainElements("ClerkUserList", "ClerkUserList"))
	w.Expect(w.detector.Check(nil)).To(Succeed())
	w.server.answer("ClerkUserList", "100", nil)
	w.Eventually(ended).Should(Receive(MatchError(rollback.ErrRolledBack)))
	w.Expect(w.detector.Check(nil)).To(MatchError(rollback.ErrRolledBack), "readiness ends first")
	w.Expect(w.server.questions()).To(HaveEach("ClerkUserList"), "the kind of the newest version tells most")
}

// One of several API servers may learn a moment later than the others that there is something newer.
func TestStart_believesNoSingleListThatIsOlder(t *testing.T) {
	w := newWorld(t, time.Millisecond)
	w.users.Add(user("a", "101"))
	w.server.answer("ClerkUserList", "100", nil)
	w.server.then("ClerkUserList", "101")
	ended := w.start()
	w.Eventually(w.server.questions).Should(ContainElements("ClerkUserList", "ClerkUserList", "ClerkUserList"))
	w.Expect(ended).NotTo(Receive())
	w.Expect(w.detector.Check(nil)).To(Succeed())
}

// What it asked is seen, too, where nothing else is.
func TestStart_comparesWithItsOwnLists(t *testing.T) {
	w := newWorld(t, time.Millisecond)
	w.server.answer("ClerkOrganizationList", "101", nil)
	w.server.then("ClerkOrganizationList", "100")
	w.Eventually(w.start()).Should(Receive(MatchError(rollback.ErrRolledBack)))
}

func TestStart_asksAnotherKindWhereACRDIsGone(t *testing.T) {
	w := newWorld(t, time.Millisecond)
	w.users.Add(user("a", "101"))
	gone := apierrors.NewNotFound(clerkv1alpha1.SchemeGroupVersion.WithResource("clerkusers").GroupResource(), "")
	w.server.answer("ClerkUserList", "", gone)
	w.server.answer("ClerkOrganizationList", "102", nil)
	w.start()
	w.Eventually(w.server.questions).Should(ContainElement("ClerkOrganizationList"))
	w.Expect(w.detector.Check(nil)).To(Succeed())
}

// roundTripper answers requests.
type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func TestStart_asksAtOnceWhenAConnectionOrAWatchEnds(t *testing.T) {
	refused := errors.New("connection refused")
	for name, tc := range map[string]struct {
		url  string
		err  error
		want bool
	}{
		"a request":           {url: "/apis"},
		"a refused request":   {url: "/apis", err: refused, want: true},
		"the end of a watch":  {url: "/apis?watch=true&timeoutSeconds=300", want: true},
		"a watch is refused":  {url: "/apis?watch=true", err: refused, want: true},
		"a list for no watch": {url: "/apis?limit=500"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, time.Hour)
			w.users.Add(user("a", "101"))
			w.server.answer("ClerkUserList", "100", nil)
			ended := w.start()
			transport := w.detector.Wrap(roundTripper(func(*http.Request) (*http.Response, error) {
				if tc.err != nil {
					return nil, tc.err
				}
				return &http.Response{Body: io.NopCloser(strings.NewReader("one"))}, nil
			}))
			request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://example.com"+tc.url, nil)
			w.Expect(err).NotTo(HaveOccurred())
			response, err := transport.RoundTrip(request)
			if err == nil {
				_, err = io.Copy(io.Discard, response.Body)
				w.Expect(response.Body.Close()).To(Succeed())
			}
			w.Expect(errors.Is(err, tc.err)).To(BeTrue())
			if !tc.want {
				w.Consistently(w.server.questions).WithTimeout(50 * time.Millisecond).Should(BeEmpty())
				return
			}
			w.Eventually(ended).Should(Receive(MatchError(rollback.ErrRolledBack)))
		})
	}
}

func TestStart_asksAgainSoonWhenTheAPIServerIsAway(t *testing.T) {
	w := newWorld(t, time.Hour)
	w.users.Add(user("a", "101"))
	w.server.answer("ClerkUserList", "", errors.New("connection refused"))
	ended := w.start()
	refused := roundTripper(func(*http.Request) (*http.Response, error) { return nil, errors.New("refused") })
	client := &http.Client{Transport: w.detector.Wrap(refused)}
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://example.com/apis", nil)
	w.Expect(err).NotTo(HaveOccurred())
	response, err := client.Do(request)
	if err == nil {
		w.Expect(response.Body.Close()).To(Succeed())
	}
	w.Expect(err).To(HaveOccurred())
	w.Eventually(w.server.questions).Should(HaveLen(1))
	w.Consistently(ended).WithTimeout(50 * time.Millisecond).ShouldNot(Receive())
	w.server.answer("ClerkUserList", "100", nil)
	w.Eventually(ended).Should(Receive(MatchError(rollback.ErrRolledBack)))
}
