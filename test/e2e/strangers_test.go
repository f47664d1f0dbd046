// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	. "github.com/onsi/gomega"

	clerkv1alpha1 "github.com/clerk-operator/clerk-operator/api/v1alpha1"
	"github.com/clerk-operator/clerk-operator/internal/delivery"
	"github.com/clerk-operator/clerk-operator/test/attack"
	"github.com/clerk-operator/clerk-operator/test/installation"
)

const (
	// fewConnections and fewBytes are limits of the receiver that a few strangers reach.
	fewConnections = 200
	fewBytes       = 4 * maxBody
	// maxBody is the largest body that the receiver reads.
	maxBody = 1 << 20
	// otherConnections is how many connections the ports for Prometheus and for the kubelet keep open.
	otherConnections = 500

	// deliveriesAtOnce is how many genuine deliveries are on their way during an attack at most, and deliveryInterval is when
	// the next one begins. With 100 the attack lasts for longer than a body may take. secondAttempt is when one that failed
	// is tried again; Svix waits for 5 s.
	deliveriesAtOnce = 4
	deliveryInterval = 25 * time.Millisecond
	secondAttempt    = time.Second

	// soon bounds the whole time of a request whose body does not come, which has 2 s: net/http itself waits for 5 s.
	soon = 4 * time.Second
)

// target is a manager of a test's own, which strangers attack. Its limits are low.
type target struct {
	*world
	*installation.Manager
	// reader is the token of a client who may read metrics.
	reader string
}

// target starts one. The world delivers to it.
func (w *world) target(name string) *target {
	w.t.Helper()
	m := w.manager(installation.ManagerOptions{Name: name, Metrics: true, Args: []string{
		leaderElection,
		fmt.Sprint("--receiver-max-connections=", fewConnections),
		fmt.Sprint("--receiver-max-unverified-bytes=", fewBytes),
	}})
	w.sender.URL = m.URL + clerkv1alpha1.WebhookPath
	return &target{world: w, Manager: m, reader: w.reader()}
}

// in is the target for a subtest.
func (g *target) in(t *testing.T) *target {
	t.Helper()
	w := newWorld(t)
	w.sender = g.sender
	return &target{world: w, Manager: g.Manager, reader: g.reader}
}

// metric reads one of the target's metrics, which is 0 before it is there. The series is a regular expression.
func (g *target) metric(series string) func() float64 {
	pattern := regexp.MustCompile(`(?m)^` + series + ` (\S+)$`)
	return func() float64 {
		found := pattern.FindStringSubmatch(g.scrape(g.Metrics, g.reader))
		if found == nil {
			return 0
		}
		value, err := strconv.ParseFloat(found[1], 64)
		g.Expect(err).NotTo(HaveOccurred())
		return value
	}
}

// attack begins an attack on one of the target's ports, which goes on until the end of the test. Strangers do not speak TLS,
// which would cost the test as much as the target.
func (w *world) attack(url string, o attack.Options) {
	w.t.Helper()
	_, o.Address, _ = strings.Cut(url, "://")
	a, err := attack.Start(w.t.Context(), o)
	w.Expect(err).NotTo(HaveOccurred())
	w.t.Cleanup(func() {
		a.Stop()
		w.t.Logf("%s: %d were opened, and %d answered", o.Kind.Name, a.Opened(), a.Answered())
	})
}

// deliverTwice makes deliveries, each on a new connection, and makes those that fail once more, as Svix would. It returns how
// many attempts each needed, 0 where it was not accepted.
func (w *world) deliverTwice(messages []delivery.Message) (attempts []int) {
	w.t.Helper()
	sender := w.sender
	sender.Client = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 15 * time.Second}
	queue := make(chan int)
	go func() {
		defer close(queue)
		ticker := time.NewTicker(deliveryInterval)
		defer ticker.Stop()
		for i := range messages {
			<-ticker.C
			queue <- i
		}
	}()
	attempts = make([]int, len(messages))
	var workers sync.WaitGroup
	for range deliveriesAtOnce {
		workers.Go(func() {
			for i := range queue {
				attempts[i] = attemptsOf(w.t.Context(), sender, messages[i])
			}
		})
	}
	workers.Wait()
	return attempts
}

// attemptsOf is how many attempts a delivery needs, 0 where two are not enough.
func attemptsOf(ctx context.Context, sender delivery.Sender, m delivery.Message) int {
	if answer, err := sender.Post(ctx, m); err == nil && answer.Delivered() {
		return 1
	}
	select {
	case <-ctx.Done():
		return 0
	case <-time.After(secondAttempt):
	}
	if answer, err := sender.Post(ctx, m); err == nil && answer.Delivered() {
		return 2
	}
	return 0
}

func TestStrangers_keepNoDeliveryOut(t *testing.T) {
	g := newWorld(t).target("attacked")
	const (
		inFlight = `clerk_operator_webhook_in_flight`
		closed   = `clerk_operator_http_connections_closed_total\{server="webhooks"\}`
		tooLarge = `clerk_operator_webhook_requests_total\{code="413",instance="default",result="too_large",type=""\}`
		cut      = `clerk_operator_webhook_requests_total\{code="503",instance="default",result="cut",type=""\}`
	)
	for _, tc := range []struct {
		kind      attack.Kind
		strangers int
		pause     time.Duration
		// The attack is under way when this metric has grown by so much.
		metric string
		growth float64

		deliveries int
	}{
		{attack.SlowBodies(), 128, 100 * time.Millisecond, inFlight, 100, 100},
		{attack.ManyHeaders(), 128, 100 * time.Millisecond, inFlight, 100, 25},
		{attack.UnendingHeaders(), 500, time.Second, closed, 500, 25},
		{attack.UnsignedBodies(), 128, 100 * time.Millisecond, tooLarge, 128, 25},
		{attack.Silent(), 1000, time.Second, closed, 1000, 100},
		{attack.SlowHeaders(), 500, time.Second, closed, 500, 25},
		{attack.LargeBodies(), 8, 100 * time.Millisecond, cut, 8, 25},
		{attack.ChunkedBodies(), 8, 100 * time.Millisecond, cut, 8, 25},
	} {
		t.Run(tc.kind.Name, func(t *testing.T) {
			g := g.in(t)
			g.Eventually(g.metric(inFlight)).Should(BeZero(), "the last strangers are gone")
			before := g.metric(tc.metric)()
			g.attack(g.URL, attack.Options{Kind: tc.kind, Connections: tc.strangers, Pause: tc.pause})
			g.Eventually(g.metric(tc.metric)).Should(BeNumerically(">=", before+tc.growth))

			ids, messages := g.signUps(tc.deliveries)
			var accepted []string
			needed := map[int]int{}
			for i, attempts := range g.deliverTwice(messages) {
				if needed[attempts]++; attempts > 0 {
					accepted = append(accepted, ids[i])
				}
			}
			t.Logf("deliveries by the attempts that they needed: %v", needed)
			g.Expect(len(accepted)).To(BeNumerically(">=", tc.deliveries-1), "%v", needed)
			g.wantUsers(accepted)
		})
	}
}

func TestStrangers_haveSoManyConnectionsAndNoMore(t *testing.T) {
	g := newWorld(t).target("crowded")
	for server, tc := range map[string]struct {
		url       string
		strangers int
		limit     float64
		// A port is asked for page, and answers with code.
		page string
		code int
	}{
		"webhooks": {g.URL, 1000, fewConnections, clerkv1alpha1.WebhookPath, http.StatusMethodNotAllowed},
		"health":   {g.Health, 800, otherConnections, "/readyz", http.StatusOK},
		"metrics":  {g.Metrics, 800, otherConnections, "/metrics", http.StatusOK},
	} {
		t.Run(server, func(t *testing.T) {
			g := g.in(t)
			open := g.metric(fmt.Sprintf(`clerk_operator_http_connections\{server="%s"\}`, server))
			closed := g.metric(fmt.Sprintf(`clerk_operator_http_connections_closed_total\{server="%s"\}`, server))
			g.attack(tc.url, attack.Options{Kind: attack.Silent(), Connections: tc.strangers, Pause: 2 * time.Second})
			g.Eventually(open).Should(Equal(tc.limit))
			g.Eventually(closed).Should(BeNumerically(">", tc.limit))
			g.Consistently(open).Should(BeNumerically("<=", tc.limit))

			const requests = 25
			codes := map[int]int{}
			for range requests {
				code, _, _ := g.fetch(tc.url+tc.page, g.reader) // an error is no code
				codes[code]++
			}
			g.Expect(codes[tc.code]).To(BeNumerically(">=", requests-1), "%v", codes)
			g.Eventually(open).Should(Equal(tc.limit), "the strangers are still there")
		})
	}
}

// Each unknown token would else be a write of the API server.
func TestStrangers_haveFewTokensReviewed(t *testing.T) {
	g := newWorld(t).target("reviewed")
	const strangers, atOnce = 300, 6
	// internal/setup asks about so many tokens of one address.
	const burst, perSecond = 10, 5
	reviews := func() int {
		return g.requests(func(labels map[string]string) bool {
			return labels["resource"] == "tokenreviews"
		})["tokenreviews.authentication.k8s.io"]
	}
	g.scrape(g.Metrics, g.reader)

	before, start := reviews(), time.Now()
	codes := make(chan int, strangers)
	var workers sync.WaitGroup
	for range atOnce {
		workers.Go(func() {
			for range strangers / atOnce {
				code, _, _ := g.fetch(g.Metrics+"/metrics", rand.Text()) // an error is no code
				codes <- code
			}
		})
	}
	// A client who was let through before is not held up.
	for len(codes) < strangers {
		code, _, err := g.readMetrics(g.Metrics, g.reader)
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(code).To(Equal(http.StatusOK))
	}
	workers.Wait()
	took := time.Since(start)
	asked := reviews() - before
	t.Logf("%d reviews in %s", asked, took)
	// The reader's may be reviewed again, too.
	g.Expect(asked).To(BeNumerically("<=", burst+perSecond*took.Seconds()+1))
	g.wantRefusals(codes)

	powerless := g.serviceAccount()
	g.Eventually(func() (int, error) {
		code, _, err := g.readMetrics(g.Metrics, powerless)
		return code, err
	}).Should(Equal(http.StatusForbidden))
}

// wantRefusals checks that strangers got nothing else, and that not each token was reviewed.
func (g *target) wantRefusals(codes chan int) {
	close(codes)
	counts := map[int]int{}
	for code := range codes {
		counts[code]++
	}
	g.t.Logf("strangers by the codes that they got: %v", counts)
	g.Expect(counts[http.StatusTooManyRequests]).To(BeNumerically(">", 0), "%v", counts)
	for code := range counts {
		// controller-runtime answers some tokens that are not valid with 500.
		g.Expect(code).To(BeElementOf(
			http.StatusTooManyRequests, http.StatusUnauthorized, http.StatusInternalServerError), "%v", counts)
	}
}

// line is a connection on which a test says what it likes, and when.
type line struct {
	*world
	conn net.Conn
	in   *bufio.Reader
}

// dial opens a connection to a receiver. What the test does with it takes no longer than some time.
func (w *world) dial(m *installation.Manager, within time.Duration) *line {
	w.t.Helper()
	conn, err := new(net.Dialer).DialContext(w.t.Context(), "tcp", addressOf(m))
	w.Expect(err).NotTo(HaveOccurred())
	w.t.Cleanup(func() { _ = conn.Close() })
	w.Expect(conn.SetDeadline(time.Now().Add(within))).To(Succeed())
	return &line{world: w, conn: conn, in: bufio.NewReader(conn)}
}

// begin sends the header of a request, with some fields more.
func (l *line) begin(r request, fields ...string) {
	l.t.Helper()
	var header bytes.Buffer
	fmt.Fprintf(&header, "%s %s HTTP/1.1\r\nHost: receiver\r\n", r.method, r.path)
	l.Expect(r.header.Write(&header)).To(Succeed())
	for _, field := range append(fields, "") {
		header.WriteString(field + "\r\n")
	}
	l.say(header.Bytes())
}

func (l *line) say(what []byte) {
	l.t.Helper()
	_, err := l.conn.Write(what)
	l.Expect(err).NotTo(HaveOccurred())
}

// chunk sends a part of a body whose length is not declared. An empty one is its end.
func (l *line) chunk(part []byte) {
	l.t.Helper()
	l.say(fmt.Appendf(nil, "%x\r\n%s\r\n", len(part), part))
}

// wantAnswer waits for an answer with a code, and returns whether it is the connection's last.
func (l *line) wantAnswer(code int, about string) (header http.Header, last bool) {
	l.t.Helper()
	response, err := http.ReadResponse(l.in, nil)
	l.Expect(err).NotTo(HaveOccurred(), about)
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	l.Expect(err).NotTo(HaveOccurred(), about)
	l.Expect(response.StatusCode).To(Equal(code), "%s: %s", about, body)
	return response.Header, response.Close
}

// wantRefusal waits for an answer with a code, and for the connection to end with it.
func (l *line) wantRefusal(code int, about string) http.Header {
	l.t.Helper()
	header, last := l.wantAnswer(code, about)
	l.Expect(last).To(BeTrue(), about)
	_, err := l.in.ReadByte()
	l.Expect(err).To(HaveOccurred(), about)
	l.Expect(err).NotTo(MatchError(os.ErrDeadlineExceeded), about)
	return header
}

const (
	asksFirst     = "Expect: 100-continue"
	withoutLength = "Transfer-Encoding: chunked"
)

func length(n int) string { return fmt.Sprint("Content-Length: ", n) }

func TestStrangers_areRefusedBeforeTheySendABody(t *testing.T) {
	w := newWorld(t)
	p := w.proper()
	const path = clerkv1alpha1.WebhookPath
	for _, tc := range []struct {
		about   string
		request request
		fields  []string
		want    int
	}{
		{"too large", p.at(path), []string{length(maxBody + 1)}, 413},
		{"too large, and asks first", p.at(path), []string{length(maxBody + 1), asksFirst}, 413},
		{"too large, without a signature", p.headers(http.Header{}), []string{length(maxBody + 1)}, 413},
		{"as large as can be", p.at(path), []string{length(1 << 62)}, 413},
		{"another path", p.at("/"), []string{length(200 << 10)}, 404},
		{"another instance", p.at(path + "/" + newName()), []string{length(200 << 10)}, 404},
		{"GET", p.method(http.MethodGet), []string{length(200 << 10)}, 405},
		{"GET without a body", p.method(http.MethodGet), nil, 405},
		{"without a signature", p.set("svix-signature"), []string{length(200 << 10)}, 400},
		{"without a signature, and asks first", p.set("svix-signature"), []string{length(200 << 10), asksFirst}, 400},
		{"without a signature and a length", p.set("svix-signature"), []string{withoutLength}, 400},
		{"too old", p.headers(w.signed(p.Message, signingSecret, time.Hour)), []string{length(200 << 10)}, 400},
	} {
		t.Run(tc.about, func(t *testing.T) {
			l := newWorld(t).dial(suite.manager, soon)
			l.begin(tc.request, tc.fields...)
			l.wantRefusal(tc.want, tc.about)
		})
	}
}

func TestStrangers_sendSoMuchOfABodyAndForSoLong(t *testing.T) {
	w := newWorld(t)
	p := w.proper()
	l := w.dial(suite.manager, soon)
	l.begin(p.at(clerkv1alpha1.WebhookPath), length(len(p.Body)))
	l.say(p.Body[:10])
	l.wantRefusal(http.StatusRequestTimeout, "a body that stops")

	l = w.dial(suite.manager, soon)
	l.begin(p.at(clerkv1alpha1.WebhookPath), withoutLength)
	l.chunk(p.Body[:10])
	l.wantRefusal(http.StatusRequestTimeout, "a body without a length that stops")

	l = w.dial(suite.manager, soon)
	l.begin(p.at(clerkv1alpha1.WebhookPath), withoutLength)
	for range 16 {
		l.chunk(bytes.Repeat([]byte(" "), maxBody/16))
	}
	l.chunk([]byte(" "))
	l.wantRefusal(http.StatusRequestEntityTooLarge, "a body without a length that is too large")
	w.Expect(w.gone(w.userObject(p.user.ID))()).To(BeTrue())
}

func TestStrangers_areCutWhenOthersCome(t *testing.T) {
	g := newWorld(t).target("budget")
	p := g.proper()
	strangers := make([]*line, fewBytes/maxBody)
	for i := range strangers {
		l := g.dial(g.Manager, timeout)
		l.begin(p.at(clerkv1alpha1.WebhookPath), length(maxBody), asksFirst)
		l.wantAnswer(http.StatusContinue, "it begins to read the body")
		strangers[i] = l
	}
	later := g.dial(g.Manager, timeout)
	later.begin(p.at(clerkv1alpha1.WebhookPath), length(len(p.Body)), asksFirst)
	later.wantAnswer(http.StatusContinue, "it begins to read the body")
	const first = 100
	later.say(p.Body[:first])
	for _, stranger := range strangers {
		stranger.say(bytes.Repeat([]byte("{"), maxBody-1))
	}
	header := strangers[0].wantRefusal(http.StatusServiceUnavailable, "the one that has been arriving longest")
	g.Expect(header.Get("Retry-After")).To(MatchRegexp("^[0-9]+$"))

	later.say(p.Body[first:])
	later.wantAnswer(http.StatusOK, "one that began later")
	for _, stranger := range strangers[1:] {
		stranger.wantRefusal(http.StatusRequestTimeout, "there is room for the others")
	}
	get(g.world, g.userObject(p.user.ID))
	g.Eventually(g.metric(`clerk_operator_webhook_unverified_bytes`)).Should(BeZero())
}

func TestStrangers_whoTurnOutToBeClerkKeepTheirConnection(t *testing.T) {
	w := newWorld(t)
	l := w.dial(suite.manager, timeout)
	for range 2 {
		p := w.proper()
		l.begin(p.at(clerkv1alpha1.WebhookPath), withoutLength)
		l.chunk(p.Body[:10])
		l.chunk(p.Body[10:])
		l.chunk(nil)
		l.wantAnswer(http.StatusOK, "a body without a length")
		get(w, w.userObject(p.user.ID))

		p = w.proper()
		l.begin(p.at(clerkv1alpha1.WebhookPath), length(len(p.Body)))
		l.say(p.Body)
		_, last := l.wantAnswer(http.StatusOK, "a body with a length")
		w.Expect(last).To(BeFalse())
		get(w, w.userObject(p.user.ID))
	}
}
