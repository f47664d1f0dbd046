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
	limit int
	// maxHeaders is the most that header may be.
	maxHeaders int64
	open       prometheus.Gauge
	closed     prometheus.Counter
	held       prometheus.Gauge
	log        logr.Logger
	say        rate.Sometimes

	mu    sync.Mutex
	count int
	// closable are the *connection that may be closed, the one whose state changed first at the front.
	closable list.List
	// header is how many bytes have arrived of headers that are not complete, and of TLS handshakes. What arrives together
	// with the end of the request before, at most 4 KiB for a connection, is not counted.
	header int64
}

// connection is one of a server. What it holds beside the connection itself is guarded by the mutex of connections.
type connection struct {
	// net/http closes one direction before the other, where it can.
	*net.TCPConn
	of *connections
	// place is nil for a connection that may not be closed, or is not open any more.
	place *list.Element
	open  bool
	// waiting says that a header is to come, or comes; header is how many bytes of it have.
	waiting bool
	header  int64
}

func newConnections(o Options) *connections {
	return &connections{
		limit:      o.MaxConnections,
		maxHeaders: cmp.Or(o.MaxHeaders, maxHeaders),
		open:       o.Metrics.open.WithLabelValues(o.Name),
		closed:     o.Metrics.closed.WithLabelValues(o.Name),
		held:       o.Metrics.headers.WithLabelValues(o.Name),
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
	return &connection{TCPConn: conn, of: l.of}, nil
}

// unwrap returns what is under TLS.
func unwrap(conn net.Conn) *connection {
	if secure, ok := conn.(*tls.Conn); ok {
		conn = secure.NetConn()
	}
	c, _ := conn.(*connection)
	return c
}

// Read counts what arrives of headers.
func (c *connection) Read(p []byte) (int, error) {
	n, err := c.TCPConn.Read(p)
	c.of.closeAll(c.of.arrived(c, int64(n)))
	return n, err // net/http tells errors apart by their type
}

// arrived counts bytes, and returns the connections that are to be closed for them.
func (c *connections) arrived(conn *connection, n int64) (surplus []*connection) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !conn.open || !conn.waiting || n == 0 {
		return nil
	}
	if conn.header == 0 && conn.place != nil {
		c.closable.MoveToBack(conn.place)
	}
	conn.header += n
	c.header += n
	for place := c.closable.Front(); place != nil && c.header > c.maxHeaders; {
		oldest := place.Value.(*connection)
		place = place.Next()
		if oldest.header > 0 {
			c.remove(oldest)
			surplus = append(surplus, oldest)
		}
	}
	c.measure()
	return surplus
}

// changed is told of each new state of a connection. net/http tells of a new connection in the loop that accepts them, so
// this does not wait for the one that it closes.
func (c *connections) changed(conn net.Conn, state http.ConnState) {
	if surplus := c.note(unwrap(conn), state); surplus != nil {
		c.closeAll([]*connection{surplus})
	}
}

// note takes the state down, and returns the connection that is to be closed for it, nil for none.
func (c *connections) note(conn *connection, state http.ConnState) (surplus *connection) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case state == http.StateNew:
		surplus = c.add(conn)
	case !conn.open:
		// It is being closed here, and its goroutine finds that out now.
	case state == http.StateClosed, state == http.StateHijacked:
		c.remove(conn)
	default:
		c.header -= conn.header
		conn.header, conn.waiting = 0, state == http.StateIdle
		c.toBack(conn)
	}
	c.measure()
	return surplus
}

func (c *connections) measure() {
	c.open.Set(float64(c.count))
	c.held.Set(float64(c.header))
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
	c.header -= conn.header
	conn.open, conn.header = false, 0
	c.spare(conn)
}

// spare keeps a connection from being closed.
func (c *connections) spare(conn *connection) {
	if conn.place != nil {
		c.closable.Remove(conn.place)
		conn.place = nil
	}
}

// closeAll closes connections, each on its own, since that can wait for a reader. There is no farewell of TLS, which could
// wait for the other side.
func (c *connections) closeAll(surplus []*connection) {
	for _, conn := range surplus {
		go func() { _ = conn.Close() }() // there is nothing more to do with it
		c.closed.Inc()
		c.say.Do(func() {
			c.log.Info("Closed the connection that was idle or silent longest, since a limit is reached",
				"maxConnections", c.limit, "maxHeaders", c.maxHeaders)
		})
	}
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
