// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package receiver

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	. "github.com/onsi/gomega"
	"github.com/prometheus/client_golang/prometheus"
)

const (
	patience = 30 * time.Second
	budget   = 1000
)

// arrivals is a server that reads bodies within a budget.
type arrivals struct {
	*WithT
	t      *testing.T
	server *httptest.Server
	bodies bodies
	// read receives what became of each body; one that has arrived is held until verified receives an element.
	read     chan arrived
	verified chan struct{}
}

type arrived struct {
	content string
	err     error
}

func newArrivals(t *testing.T, timeout time.Duration) *arrivals {
	t.Helper()
	a := &arrivals{WithT: NewWithT(t), t: t, read: make(chan arrived, 10), verified: make(chan struct{}, 10)}
	a.bodies.budget, a.bodies.timeout, a.bodies.held = budget, timeout, newMetrics(prometheus.NewRegistry()).unverified
	a.server = httptest.NewServer(a)
	t.Cleanup(func() {
		close(a.verified)
		a.server.Close()
		a.Expect(a.held()).To(BeZero(), "everything is given back")
	})
	return a
}

func (a *arrivals) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	err := a.bodies.read(w, r, func(content []byte) error {
		a.read <- arrived{content: string(content)}
		<-a.verified
		return nil
	})
	if err != nil {
		a.read <- arrived{err: err}
	}
}

// held is how many bytes count.
func (a *arrivals) held() int64 {
	a.bodies.mu.Lock()
	defer a.bodies.mu.Unlock()
	return a.bodies.bytes
}

// begin sends a request with a header and the beginning of a body, and waits until that holds something.
func (a *arrivals) begin(header, beginning string) {
	a.t.Helper()
	before := a.held()
	a.send(header, beginning)
	a.Eventually(a.held).WithTimeout(patience).Should(BeNumerically(">", before))
}

// send sends a request with a header and a body, or a part of it.
func (a *arrivals) send(header, sent string) net.Conn {
	a.t.Helper()
	conn, err := new(net.Dialer).DialContext(a.t.Context(), "tcp", a.server.Listener.Addr().String())
	a.Expect(err).NotTo(HaveOccurred())
	a.t.Cleanup(func() { _ = conn.Close() })
	_, err = io.WriteString(conn, "POST / HTTP/1.1\r\nHost: a\r\n"+header+"\r\n\r\n"+sent)
	a.Expect(err).NotTo(HaveOccurred())
	return conn
}

// declared is the header of a body with a length.
func declared(length int) string { return fmt.Sprintf("Content-Length: %d", length) }

// wantRead waits for what became of bodies, in any order.
func (a *arrivals) wantRead(want ...arrived) {
	a.t.Helper()
	got := make([]arrived, len(want))
	for i := range got {
		a.Eventually(a.read).WithTimeout(patience).Should(Receive(&got[i]))
	}
	a.Expect(got).To(ConsistOf(want))
}

func TestBodies_areReadWithAndWithoutALength(t *testing.T) {
	for name, tc := range map[string]struct{ header, sent, want string }{
		"length":  {"Content-Length: 5", "hello", "hello"},
		"chunks":  {"Transfer-Encoding: chunked", "3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n", "hello"},
		"largest": {declared(budget), strings.Repeat("x", budget), strings.Repeat("x", budget)},
	} {
		t.Run(name, func(t *testing.T) {
			a := newArrivals(t, patience)
			a.send(tc.header, tc.sent)
			a.wantRead(arrived{content: tc.want})
			a.Expect(a.held()).To(BeEquivalentTo(len(tc.want)), "until it is verified, it counts")
		})
	}
}

func TestBodies_aDeclaredLengthReservesNothing(t *testing.T) {
	a := newArrivals(t, patience)
	for range 5 {
		a.begin(declared(maxBody), "x")
	}
	a.Expect(a.held()).To(BeEquivalentTo(5))
	a.send(declared(5), "hello")
	a.wantRead(arrived{content: "hello"})
}

func TestBodies_theOneThatTakesLongestIsCut(t *testing.T) {
	for name, header := range map[string]string{
		"declared": "Content-Length: 500", "in chunks": "Transfer-Encoding: chunked",
	} {
		t.Run(name, func(t *testing.T) {
			a := newArrivals(t, patience)
			beginning := strings.Repeat("x", 400)
			if strings.HasPrefix(header, "Transfer") {
				beginning = fmt.Sprintf("%x\r\n%s\r\n", len(beginning), beginning)
			}
			a.begin(header, beginning)
			a.begin(header, beginning)
			a.Expect(a.read).NotTo(Receive())
			whole := strings.Repeat("y", 400)
			a.send(declared(400), whole)
			a.wantRead(arrived{err: errCut}, arrived{content: whole})
			a.Expect(a.read).NotTo(Receive(), "the second one goes on arriving")
			a.Expect(a.held()).To(BeEquivalentTo(800))
		})
	}
}

func TestBodies_whatHasArrivedIsNotCut(t *testing.T) {
	a := newArrivals(t, patience)
	whole := strings.Repeat("x", 600)
	a.send(declared(len(whole)), whole)
	a.wantRead(arrived{content: whole})
	// Nothing has verified it yet, and no other body arrives whose room could be taken.
	a.send(declared(600), strings.Repeat("y", 500))
	a.wantRead(arrived{err: errCut})
	a.verified <- struct{}{}
	a.Eventually(a.held).WithTimeout(patience).Should(BeZero())
	a.send(declared(len(whole)), whole)
	a.wantRead(arrived{content: whole})
}

func TestBodies_thatDoNotArrive(t *testing.T) {
	for name, tc := range map[string]struct {
		timeout   time.Duration
		header    string
		sent      string
		breaks    bool
		wantError any
	}{
		"stops":           {timeout: 50 * time.Millisecond, header: "Content-Length: 5", sent: "hel", wantError: errTooSlow},
		"no last chunk":   {timeout: 50 * time.Millisecond, header: "Transfer-Encoding: chunked", sent: "3\r\nhel\r\n", wantError: errTooSlow},
		"goes away":       {timeout: patience, header: "Content-Length: 5", sent: "hel", breaks: true, wantError: io.ErrUnexpectedEOF},
		"no chunk at all": {timeout: patience, header: "Transfer-Encoding: chunked", sent: "3\r\nhel\r\nhello\r\n", wantError: ContainSubstring("chunk length")},
	} {
		t.Run(name, func(t *testing.T) {
			a := newArrivals(t, tc.timeout)
			conn := a.send(tc.header, tc.sent)
			if tc.breaks {
				a.Expect(conn.Close()).To(Succeed())
			}
			var got arrived
			a.Eventually(a.read).WithTimeout(patience).Should(Receive(&got))
			a.Expect(got.err).To(MatchError(tc.wantError))
		})
	}
}

func TestBodies_areAtMostAsLargeAsTheLargest(t *testing.T) {
	a := newArrivals(t, patience)
	a.bodies.budget = 4 * maxBody
	whole := strings.Repeat("x", maxBody)
	a.send(declared(maxBody), whole)
	a.wantRead(arrived{content: whole})
	a.send("Transfer-Encoding: chunked", fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", maxBody+1, whole+"x"))
	a.wantRead(arrived{err: errTooLarge})
}
