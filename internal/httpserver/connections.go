// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package httpserver

import (
	"cmp"
	"container/list"
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/time/rate"
)

// quietInterval is how often the log repeats that connections are closed.
const quietInterval = 10 * time.Second

// connections are those of one server. At a limit, the one that is closed is the one that has neither begun nor ended a
// request for longest: a sender that has something to say says it within milliseconds.
type connections struct {
	limit, maxHeaders int

	open, headers prometheus.Gauge
	closed        prometheus.Counter
	log           logr.Logger
	say           rate.Sometimes

	// reading holds an element for each header, or TLS handshake, that is being read. One that is given up is in it until its
	// goroutine has ended, and with it what it holds.
	reading chan struct{}

	mu    sync.Mutex
	count int
	// begun counts the connections that have begun a header and not ended it.
	begun int
	// closable are the *connection that may be closed, at the front the one that has neither begun nor ended a request for
	// longest.
	closable list.List
}

// connection is one of a server. What it holds beside the connection itself is guarded by the mutex of connections.
type connection struct {
	// net/http closes one direction before the other, where it can.
	*net.TCPConn
	of *connections
	// place is nil for a connection that may not be closed, or is not open any more.
	place *list.Element
	open  bool
	// waiting says that the next bytes begin a header, begun that a header has begun and not ended, and reading that it has
	// an element in reading.
	waiting, begun, reading bool
	// givenUp is closed when the connection is closed here.
	givenUp chan struct{}
}

func newConnections(o Options) *connections {
	return &connections{
		limit:      o.MaxConnections,
		maxHeaders: cmp.Or(o.MaxHeaders, maxHeaders),
		reading:    make(chan struct{}, cmp.Or(o.MaxHeaders, maxHeaders)),
		open:       o.Metrics.open.WithLabelValues(o.Name),
		closed:     o.Metrics.closed.WithLabelValues(o.Name),
		headers:    o.Metrics.headers.WithLabelValues(o.Name),
		log:        o.Log.WithValues("server", o.Name),
		say:        rate.Sometimes{First: 1, Interval: quietInterval},
	}
}

// listener wraps what it accepts in connections.
type listener struct {
	*net.TCPListener
	of *connections
}

func (l listener) Accept() (net.Conn, error) {
	conn, err := l.AcceptTCP()
	if err != nil {
		return nil, err // net/http tells errors apart by their type
	}
	return &connection{TCPConn: conn, of: l.of, givenUp: make(chan struct{})}, nil
}

// unwrap returns what is under TLS.
func unwrap(conn net.Conn) *connection {
	if secure, ok := conn.(*tls.Conn); ok {
		conn = secure.NetConn()
	}
	c, _ := conn.(*connection)
	return c
}

// Read lets net/http have the first bytes of a header only when there is room for what it makes of them.
func (c *connection) Read(p []byte) (int, error) {
	n, err := c.TCPConn.Read(p)
	if n > 0 {
		begins, surplus := c.of.begin(c)
		c.of.closeOne(surplus)
		if begins && !c.of.read(c) {
			return 0, net.ErrClosed
		}
	}
	return n, err // net/http tells errors apart by their type
}

// begin notes that bytes have arrived, and reports whether they are a header's first. It returns the connection that is to
// be given up for it, nil for none.
func (c *connections) begin(conn *connection) (begins bool, surplus *connection) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !conn.open || !conn.waiting {
		return false, nil
	}
	if c.begun >= c.maxHeaders {
		surplus = c.oldestHeader()
	}
	conn.waiting, conn.begun = false, true
	c.begun++
	if conn.place != nil {
		c.closable.MoveToBack(conn.place)
	}
	c.measure()
	return true, surplus
}

// oldestHeader takes out the connection whose header began first, nil if there is none.
func (c *connections) oldestHeader() *connection {
	for place := c.closable.Front(); place != nil; place = place.Next() {
		if conn := place.Value.(*connection); conn.begun {
			c.remove(conn)
			return conn
		}
	}
	return nil
}

// read waits for room for a header, and reports whether its connection has not been given up meanwhile.
func (c *connections) read(conn *connection) bool {
	select {
	case c.reading <- struct{}{}:
	case <-conn.givenUp:
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	conn.reading = true
	return conn.open
}

// ended notes that a header has ended, or its connection's goroutine.
func (c *connections) ended(conn *connection) {
	if conn.reading {
		<-c.reading
	}
	if conn.begun {
		c.begun--
	}
	conn.begun, conn.reading = false, false
}

// changed is told of each new state of a connection. net/http tells of a new connection in the loop that accepts them, so
// this does not wait for the one that it closes.
func (c *connections) changed(conn net.Conn, state http.ConnState) {
	c.closeOne(c.note(unwrap(conn), state))
}

// note takes the state down, and returns the connection that is to be closed for it, nil for none.
func (c *connections) note(conn *connection, state http.ConnState) (surplus *connection) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if state != http.StateNew {
		c.ended(conn)
	}
	switch {
	case state == http.StateNew:
		surplus = c.add(conn)
	case !conn.open:
		// It has been closed here.
	case state == http.StateClosed, state == http.StateHijacked:
		c.remove(conn)
	default:
		conn.waiting = state == http.StateIdle
		c.toBack(conn)
	}
	c.measure()
	return surplus
}

func (c *connections) measure() {
	c.open.Set(float64(c.count))
	c.headers.Set(float64(c.begun))
}

// add takes a new connection in, at the limit in the place of the one that has been idle or silent longest. It returns the
// one that is one too many: the new one itself where no other may be closed.
func (c *connections) add(conn *connection) (surplus *connection) {
	if c.count >= c.limit {
		oldest := c.closable.Front()
		if oldest == nil {
			return conn
		}
		surplus = oldest.Value.(*connection)
		c.remove(surplus)
	}
	c.count++
	conn.open, conn.waiting = true, true
	c.toBack(conn)
	return surplus
}

func (c *connections) toBack(conn *connection) {
	if conn.place == nil {
		conn.place = c.closable.PushBack(conn)
		return
	}
	c.closable.MoveToBack(conn.place)
}

func (c *connections) remove(conn *connection) {
	c.count--
	conn.open = false
	if conn.begun {
		conn.begun = false
		c.begun--
	}
	c.spare(conn)
}

// spare keeps a connection from being closed.
func (c *connections) spare(conn *connection) {
	if conn.place != nil {
		c.closable.Remove(conn.place)
		conn.place = nil
	}
}

// closeOne closes a connection if there is one, on its own, since that can wait for a reader. There is no farewell of TLS,
// which could wait for the other side.
func (c *connections) closeOne(conn *connection) {
	if conn == nil {
		return
	}
	close(conn.givenUp)
	go func() { _ = conn.Close() }() // there is nothing more to do with it
	c.closed.Inc()
	c.say.Do(func() {
		c.log.Info("Closed the connection that was idle or silent longest, since a limit is reached",
			"maxConnections", c.limit, "maxHeaders", c.maxHeaders)
	})
}

// connectionKey is what a request's context holds its connection under.
type connectionKey struct{}

func withConnection(ctx context.Context, conn net.Conn) context.Context {
	return context.WithValue(ctx, connectionKey{}, unwrap(conn))
}

// Keep keeps the connection of a request from being closed at a limit until the request is answered. It is for
// authenticated requests, of which the caller bounds how many are kept at once. The context is the request's.
func Keep(ctx context.Context) {
	if conn, ok := ctx.Value(connectionKey{}).(*connection); ok {
		conn.of.mu.Lock()
		defer conn.of.mu.Unlock()
		conn.of.spare(conn)
	}
}
