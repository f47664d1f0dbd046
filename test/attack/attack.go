// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package attack plays strangers who know a port of the manager and no secret. Tests run a few of them, benchmarks many.
package attack

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	clerkv1alpha1 "github.com/clerk-operator/clerk-operator/api/v1alpha1"
)

// Kind is what each stranger sends on a connection before falling silent.
type Kind struct {
	Name string
	// say returns what is sent on a new connection.
	say func() []byte
	// trickle, if not empty, is sent again and again afterwards, once in each trickleInterval.
	trickle []byte
}

const (
	// trickleInterval is short enough to keep every connection busy that is only closed when it is silent.
	trickleInterval = 200 * time.Millisecond
	// maxBody is the largest body that the receiver reads.
	maxBody = 1 << 20
)

// Silent strangers connect and say nothing.
func Silent() Kind {
	return Kind{Name: "silent connections", say: func() []byte { return nil }}
}

// SlowHeaders never come to the end of their header.
func SlowHeaders() Kind {
	return Kind{Name: "headers without an end", say: func() []byte { return []byte(requestLine + "Host: a\r\n") }, trickle: []byte("X: y\r\n")}
}

// ManyHeaders send a header of as many fields as go into it, and a body that does not come.
func ManyHeaders() Kind {
	fields := manyFields()
	return Kind{Name: "headers of many fields", say: func() []byte { return header(1000, fields) }}
}

// UnendingHeaders do the same, and do not come to the end of the header.
func UnendingHeaders() Kind {
	fields := manyFields()
	return Kind{Name: "headers of many fields without an end", say: func() []byte {
		complete := header(1000, fields)
		return complete[:len(complete)-1]
	}}
}

// manyFields are the shortest fields that there can be, as many as the receiver reads. They take most memory.
func manyFields() string {
	const letters = "abcdefghijklmnopqrstuvwxyz0123456789!#$%&*+-.^_|~"
	const most = 7800
	var fields strings.Builder
	for i := 0; fields.Len() < most; i++ {
		fmt.Fprintf(&fields, "%c%c:\n", letters[i/len(letters)], letters[i%len(letters)])
	}
	return fields.String()
}

// SlowBodies declare a body, and send a byte of it now and then.
func SlowBodies() Kind {
	return Kind{Name: "bodies without an end", say: func() []byte { return header(1000, "") }, trickle: []byte("{")}
}

// UnsignedBodies declare a body that is too large, without a signature, and send none of it.
func UnsignedBodies() Kind {
	return Kind{Name: "too large bodies without a signature", say: func() []byte {
		return []byte(requestLine + fmt.Sprintf("Host: a\r\nContent-Length: %d\r\n\r\n", maxBody+1))
	}}
}

// LargeBodies send the largest body but for its last byte.
func LargeBodies() Kind {
	return Kind{Name: "large bodies but for a byte", say: func() []byte {
		return append(header(maxBody, ""), bytes.Repeat([]byte("{"), maxBody-1)...)
	}}
}

// ChunkedBodies send the largest body without saying how large it is, and not its end.
func ChunkedBodies() Kind {
	return Kind{Name: "chunked bodies without an end", say: func() []byte {
		said := []byte(requestLine + "Host: a\r\nTransfer-Encoding: chunked\r\n" + plausible() + "\r\n")
		const size = 1 << 16
		chunk := fmt.Appendf(nil, "%x\r\n%s\r\n", size, bytes.Repeat([]byte("{"), size))
		return append(said, bytes.Repeat(chunk, maxBody/size-1)...)
	}}
}

const requestLine = "POST " + clerkv1alpha1.WebhookPath + " HTTP/1.1\r\n"

func header(length int, fields string) []byte {
	return fmt.Appendf(nil, "%sHost: a\r\nContent-Length: %d\r\n%s%s\r\n", requestLine, length, plausible(), fields)
}

// plausible are the headers of a delivery of now, with a signature that is wrong.
func plausible() string {
	return fmt.Sprintf("svix-id: msg_x\r\nsvix-timestamp: %d\r\nsvix-signature: v1,AAAA\r\n", time.Now().Unix())
}

// Attack is strangers at work.
type Attack struct {
	stop context.CancelFunc
	done sync.WaitGroup
	// opened counts connections, open those that are, and answered the answers that strangers read.
	opened, open, answered atomic.Int64
}

// Options say how an attack goes.
type Options struct {
	// Address is the port, as host:port. It must be on loopback.
	Address string
	// TLS makes the strangers speak it.
	TLS bool
	// Kind is what each does.
	Kind Kind
	// Connections is how many are open at once: one that the other side closes is opened again, after a random time of Pause
	// on average, so that strangers do not come in waves.
	Connections int
	Pause       time.Duration
}

// Start begins an attack that goes on until Stop, or until the context ends.
func Start(ctx context.Context, o Options) (*Attack, error) {
	host, _, err := net.SplitHostPort(o.Address)
	if err != nil {
		return nil, fmt.Errorf("the address of an attack: %w", err)
	}
	if ip := net.ParseIP(host); ip == nil || !ip.IsLoopback() {
		return nil, errors.New("an attack goes to loopback only")
	}
	ctx, cancel := context.WithCancel(ctx)
	a := &Attack{stop: cancel}
	for range o.Connections {
		a.done.Go(func() {
			for ctx.Err() == nil {
				a.connect(ctx, o)
				pause(ctx, o.Pause)
			}
		})
	}
	return a, nil
}

// Stop ends the attack, and returns when every connection is closed.
func (a *Attack) Stop() {
	a.stop()
	a.done.Wait()
}

// Opened is how many connections have been opened so far.
func (a *Attack) Opened() int64 { return a.opened.Load() }

// Open is how many connections the strangers have not seen closed.
func (a *Attack) Open() int64 { return a.open.Load() }

// Answered is how many connections were answered.
func (a *Attack) Answered() int64 { return a.answered.Load() }

// connect opens a connection and uses it until the other side closes it.
func (a *Attack) connect(ctx context.Context, o Options) {
	conn, err := dial(ctx, o)
	if err != nil {
		// The port is gone, or the machine has none left for the other end: that is tried again.
		return
	}
	a.opened.Add(1)
	a.open.Add(1)
	defer a.open.Add(-1)
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	defer func() { _ = conn.Close() }()
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		if n, _ := io.Copy(io.Discard, conn); n > 0 {
			a.answered.Add(1)
		}
	}()
	if _, err := conn.Write(o.Kind.say()); err == nil {
		trickle(conn, o.Kind.trickle, closed)
	}
	<-closed
}

func dial(ctx context.Context, o Options) (net.Conn, error) {
	if o.TLS {
		// A stranger does not check whom it attacks.
		dialer := &tls.Dialer{Config: &tls.Config{InsecureSkipVerify: true}}
		return dialer.DialContext(ctx, "tcp", o.Address)
	}
	return new(net.Dialer).DialContext(ctx, "tcp", o.Address)
}

// trickle sends some bytes now and then, until the connection is closed.
func trickle(conn net.Conn, what []byte, closed <-chan struct{}) {
	if len(what) == 0 {
		return
	}
	ticker := time.NewTicker(trickleInterval)
	defer ticker.Stop()
	for {
		select {
		case <-closed:
			return
		case <-ticker.C:
			if _, err := conn.Write(what); err != nil {
				return
			}
		}
	}
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(rand.N(2*d + 1)):
	}
}
