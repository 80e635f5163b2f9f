package imap

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"os"
	"runtime/debug"
	"sync"
	"syscall"
	"time"
)

const (
	bufferSize = 32 << 10 // output that is collected before it is sent
	spare      = 4 << 10  // what one response may go over that without a new allocation
)

var (
	errWoken   = errors.New("imap: woken")                         // the mailbox has changed during IDLE
	errClosing = errors.New("imap: the server is shutting down")   //
	errIdle    = errors.New("imap: the client was silent so long") //
)

// conn is a connection: deadlines, TLS, and output that is collected. Only the
// session's goroutine uses it, but for the methods wake and shutdown.
type conn struct {
	srv *Server
	raw net.Conn
	nc  net.Conn // raw, or the TLS connection over it

	out     []byte
	box     *[]byte // where out came from
	sends   int     // how often something was sent
	err     error   // the first failure of a write; nothing more is sent
	waiting bool    // between commands, or in IDLE: silence is allowed
	quiet   time.Duration
	until   time.Time // before log-in: the end of all patience

	mu      sync.Mutex // guards what follows, and that no deadline is set behind the session's back while it is not parked
	parked  bool       // blocked in Read, waiting
	idling  bool       // in IDLE: wake interrupts the Read
	changed bool       // wake was called since IDLE began or since it was last seen
	closing bool
}

func newConn(s *Server, nc net.Conn) *conn {
	return &conn{srv: s, raw: nc, nc: nc}
}

func (c *conn) remote() string {
	if a := c.raw.RemoteAddr(); a != nil {
		return a.String()
	}
	return ""
}

// Read is for the wire.Reader: the session is about to wait for the client, so what was collected
// goes out first.
func (c *conn) Read(p []byte) (int, error) {
	if err := c.flush(); err != nil {
		return 0, err
	}
	now := time.Now()
	deadline := now.Add(c.srv.o.Limits.Progress)
	c.mu.Lock()
	if c.waiting {
		deadline = now.Add(c.quiet)
		switch {
		case c.closing:
			c.mu.Unlock()
			return 0, errClosing
		case c.idling && c.changed:
			c.changed = false
			c.mu.Unlock()
			return 0, errWoken
		}
		c.parked = true
	}
	if !c.until.IsZero() && deadline.After(c.until) {
		deadline = c.until
	}
	err := c.nc.SetReadDeadline(deadline)
	c.mu.Unlock()
	if err != nil {
		return 0, err
	}
	n, err := c.nc.Read(p)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.parked = false
	if n > 0 {
		c.waiting = c.idling
		return n, nil
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		switch {
		case c.closing && c.waiting:
			err = errClosing
		case c.idling && c.changed:
			c.changed = false
			err = errWoken
		default:
			err = errIdle
		}
	}
	return n, err
}

// wake tells an idling session that its mailbox has changed. Any goroutine may call it; it does not block.
func (c *conn) wake() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.changed = true
	if c.parked && c.idling {
		c.interrupt()
	}
}

// shutdown makes the session end when it next waits.
func (c *conn) shutdown() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closing = true
	if c.parked {
		c.interrupt()
	}
}

func (c *conn) interrupt() { _ = c.nc.SetReadDeadline(time.Unix(1, 0)) }

// setIdling begins or ends IDLE.
func (c *conn) setIdling(on bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.idling, c.waiting = on, on
}

// buffer makes sure that there is a buffer to append to.
func (c *conn) buffer() {
	if c.out == nil {
		c.box = c.srv.buffers.Get().(*[]byte)
		c.out = (*c.box)[:0]
	}
}

// write appends a response, or a part of one.
func (c *conn) write(s string) {
	c.buffer()
	c.out = append(c.out, s...)
}

// end ends a response line, and sends what is collected when it is much.
func (c *conn) end() {
	c.buffer()
	c.out = append(c.out, "\r\n"...)
	c.spill()
}

func (c *conn) spill() {
	if len(c.out) >= bufferSize {
		c.send()
	}
}

// send writes what is collected and keeps the buffer. The client has its time for every
// stretch of it, not for the whole.
func (c *conn) send() {
	for b := c.out; c.err == nil && len(b) > 0; {
		c.err = c.nc.SetWriteDeadline(time.Now().Add(c.srv.o.Limits.Progress))
		if c.err == nil {
			n := min(len(b), bufferSize)
			_, c.err = c.nc.Write(b[:n])
			b = b[n:]
		}
	}
	c.out = c.out[:0]
	c.sends++
}

// flush writes what is collected and gives the buffer back: an idle connection holds none.
func (c *conn) flush() error {
	if c.out != nil {
		c.send()
		if cap(c.out) <= bufferSize+spare {
			*c.box = c.out[:0]
			c.srv.buffers.Put(c.box)
		}
		c.out, c.box = nil, nil
	}
	return c.err
}

// handshake makes the connection a TLS connection. The time for it is that until log-in.
func (c *conn) handshake(ctx context.Context) error {
	t := tls.Server(c.raw, c.srv.tls)
	ctx, cancel := context.WithDeadline(ctx, c.until)
	defer cancel()
	if err := c.raw.SetDeadline(time.Time{}); err != nil {
		return err
	}
	if err := t.HandshakeContext(ctx); err != nil {
		return err
	}
	c.mu.Lock()
	c.nc = t
	c.mu.Unlock()
	return nil
}

// tlsState says which TLS the line has: version and cipher suite; empty in clear.
func (c *conn) tlsState() string {
	t, ok := c.nc.(*tls.Conn)
	if !ok {
		return ""
	}
	st := t.ConnectionState()
	return tls.VersionName(st.Version) + " " + tls.CipherSuiteName(st.CipherSuite)
}

func isTemporary(err error) bool {
	return errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) || errors.Is(err, syscall.ECONNABORTED) || errors.Is(err, syscall.ENOBUFS) || errors.Is(err, syscall.ENOMEM)
}

func stack() string { return string(debug.Stack()) }
