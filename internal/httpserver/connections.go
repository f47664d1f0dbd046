// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package httpserver

import (
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

// connections are those of one server. At the limit, the one that is closed is the one that has neither begun nor ended
// a request for longest: a sender that has something to say says it within milliseconds.
type connections struct {
	limit  int
	open   prometheus.Gauge
	closed prometheus.Counter
	log    logr.Logger
	say    rate.Sometimes

	mu sync.Mutex
	// known is every open connection with its place among those that may be closed, nil for one that may not.
	known map[net.Conn]*list.Element
	// closable are connections, the one whose state changed first at the front.
	closable list.List
}

func newConnections(o Options) *connections {
	return &connections{
		limit:  o.MaxConnections,
		open:   o.Metrics.open.WithLabelValues(o.Name),
		closed: o.Metrics.closed.WithLabelValues(o.Name),
		log:    o.Log.WithValues("server", o.Name),
		say:    rate.Sometimes{First: 1, Interval: quietInterval},
		known:  map[net.Conn]*list.Element{},
	}
}

// changed is told of each new state of a connection. That of a new one it is told where connections are accepted, so it
// does not wait for the one that it closes.
func (c *connections) changed(conn net.Conn, state http.ConnState) {
	if surplus := c.note(conn, state); surplus != nil {
		go c.close(surplus)
	}
}

// note takes the state down, and returns the connection that is to be closed for it, nil for none.
func (c *connections) note(conn net.Conn, state http.ConnState) (surplus net.Conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	place, known := c.known[conn]
	switch {
	case state == http.StateNew:
		surplus = c.add(conn)
	case !known:
		// It is being closed here, and its goroutine finds that out now.
	case state == http.StateClosed, state == http.StateHijacked:
		c.remove(conn, place)
	case place == nil:
		c.known[conn] = c.closable.PushBack(conn)
	default:
		c.closable.MoveToBack(place)
	}
	c.open.Set(float64(len(c.known)))
	return surplus
}

// add takes a new connection in, at the limit in the place of the one that has been idle or silent longest. It returns the
// one that is one too many: the new one itself where no other may be closed.
func (c *connections) add(conn net.Conn) (surplus net.Conn) {
	if len(c.known) >= c.limit {
		oldest := c.closable.Front()
		if oldest == nil {
			return conn
		}
		surplus = oldest.Value.(net.Conn)
		c.remove(surplus, oldest)
	}
	c.known[conn] = c.closable.PushBack(conn)
	return surplus
}

func (c *connections) remove(conn net.Conn, place *list.Element) {
	delete(c.known, conn)
	if place != nil {
		c.closable.Remove(place)
	}
}

func (c *connections) close(conn net.Conn) {
	closeNow(conn)
	c.closed.Inc()
	c.say.Do(func() {
		c.log.Info("Closed the connection that was idle or silent longest, since too many are open", "limit", c.limit)
	})
}

// closeNow closes a connection without the farewell of TLS, which may wait for the other side.
func closeNow(conn net.Conn) {
	if secure, ok := conn.(*tls.Conn); ok {
		conn = secure.NetConn()
	}
	_ = conn.Close() // there is nothing more to do with it
}

// connectionKey is what a request's context holds its connection under.
type connectionKey struct{}

// connection is one of a server.
type connection struct {
	of   *connections
	conn net.Conn
}

func (c *connections) context(ctx context.Context, conn net.Conn) context.Context {
	return context.WithValue(ctx, connectionKey{}, connection{of: c, conn: conn})
}

// Keep keeps the connection of a request from being closed at the limit until the request is answered. It is for requests
// that are authenticated and whose number is bounded. The context is the request's.
func Keep(ctx context.Context) {
	if kept, ok := ctx.Value(connectionKey{}).(connection); ok {
		kept.of.keep(kept.conn)
	}
}

func (c *connections) keep(conn net.Conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if place := c.known[conn]; place != nil {
		c.closable.Remove(place)
		c.known[conn] = nil
	}
}
