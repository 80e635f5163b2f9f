package server

import (
	"bufio"
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"runtime/debug"
	"sync"
	"time"

	"cmmpd/internal/mail"
)

// maxRunning is how many searches of one connection run at once.
const maxRunning = 8

// ConnOptions says what is known of a connection before its first byte.
type ConnOptions struct {
	Trusted bool        // in process: carries the service's identity, and counts as protected
	TLS     *tls.Config // offered by StartTLS; nil: not offered
}

// conn is one connection. One goroutine reads and dispatches; it alone uses the fields
// of the first group. Searches run in goroutines of their own.
type conn struct {
	r   *bufio.Reader
	who identity

	srv     *Server
	log     *slog.Logger
	trusted bool
	release func()      // gives the connection's place back
	conf    *tls.Config // for StartTLS
	secure  bool        // under TLS, or in process
	pageKey [32]byte
	cancel  context.CancelFunc
	ops     sync.WaitGroup

	wmu sync.Mutex // held while writing

	mu       sync.Mutex // guards what follows
	nc       net.Conn   // replaced once, by StartTLS, while no search runs
	running  map[int]context.CancelFunc
	draining bool
}

// ServeConn serves one connection and closes it.
func (s *Server) ServeConn(ctx context.Context, nc net.Conn, o ConnOptions) {
	ctx, cancel := context.WithCancel(ctx)
	_, overTLS := nc.(*tls.Conn)
	c := &conn{
		srv: s, nc: nc, trusted: o.Trusted, secure: o.Trusted || overTLS, conf: o.TLS, cancel: cancel,
		running: map[int]context.CancelFunc{}, who: identity{trusted: o.Trusted}, r: bufio.NewReader(nc),
	}
	c.log = s.o.Log.With("client", nc.RemoteAddr().String())
	defer cancel()
	if !s.register(c) {
		nc.Close()
		return
	}
	defer s.unregister(c)
	defer c.finish()
	defer context.AfterFunc(ctx, c.abort)()
	defer c.contain()
	rand.Read(c.pageKey[:])
	if t, ok := nc.(*tls.Conn); ok && !c.handshake(ctx, t) {
		return
	}
	c.serve(ctx)
}

// contain keeps a panic within its connection.
func (c *conn) contain() {
	if v := recover(); v != nil {
		c.log.Error("panic in the directory server", "panic", fmt.Sprint(v), "stack", string(debug.Stack()))
		c.abort()
	}
}

// drain lets running operations end and takes no more.
func (c *conn) drain() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.draining = true
	c.nc.SetReadDeadline(time.Now())
}

// abort ends the connection now.
func (c *conn) abort() {
	c.cancel()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.nc.Close()
}

// finish waits for the searches and closes.
func (c *conn) finish() {
	c.mu.Lock()
	draining := c.draining
	c.mu.Unlock()
	if !draining {
		c.cancel()
	}
	c.ops.Wait()
	c.abort()
}

func (c *conn) handshake(ctx context.Context, t *tls.Conn) bool {
	ctx, cancel := context.WithTimeout(ctx, c.srv.o.Limits.Progress)
	defer cancel()
	if err := t.HandshakeContext(ctx); err != nil {
		c.log.Debug("TLS handshake failed", "err", err)
		return false
	}
	return true
}

// deadline sets by when the next byte, or the rest of a request, must be there. A
// connection that drains keeps its past deadline.
func (c *conn) deadline(d time.Duration) {
	if c.trusted {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.draining {
		c.nc.SetReadDeadline(time.Now().Add(d))
	}
}

// serve reads requests until the connection ends.
func (c *conn) serve(ctx context.Context) {
	for {
		idle := c.srv.o.Limits.Idle
		if !c.who.known() {
			idle /= 10
		}
		c.deadline(idle)
		if _, err := c.r.Peek(1); err != nil {
			return
		}
		c.deadline(c.srv.o.Limits.Progress)
		b, err := readMessage(c.r, c.srv.o.Limits.Message)
		var m message
		if err == nil {
			m, err = parseMessage(b)
		}
		if err != nil {
			c.disconnect(err)
			return
		}
		if !c.dispatch(ctx, m) {
			return
		}
	}
}

// disconnect sends the Notice of Disconnection (RFC 4511, section 4.4.1) where the
// client has broken the protocol.
func (c *conn) disconnect(err error) {
	var ne net.Error
	if errors.As(err, &ne) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.ErrClosedPipe) {
		return
	}
	c.log.Info("LDAP protocol error", "err", err)
	text := "malformed request"
	for _, e := range []error{errMessage, errTooDeep, errTooMany} {
		if errors.Is(err, e) {
			text = e.Error()
		}
	}
	c.write(appendResult(nil, 0, opExtendedResp, result{code: protocolError, text: text}, func(e *encoder) { e.text(0x8a, oidDisconnection) }, nil))
}

// write sends whole messages. After a failure the connection is over.
func (c *conn) write(b []byte) error {
	c.wmu.Lock()
	defer c.wmu.Unlock()
	c.mu.Lock()
	nc := c.nc
	c.mu.Unlock()
	if !c.trusted {
		nc.SetWriteDeadline(time.Now().Add(c.srv.o.Limits.Progress))
	}
	_, err := nc.Write(b)
	if err != nil {
		c.abort()
	}
	return err
}

// client says who this is, for throttling and audit.
func (c *conn) client() mail.Client {
	c.mu.Lock()
	nc := c.nc
	c.mu.Unlock()
	m := mail.Client{Protocol: "ldap", Remote: nc.RemoteAddr().String()}
	if t, ok := nc.(*tls.Conn); ok {
		cs := t.ConnectionState()
		m.TLS = tls.VersionName(cs.Version) + " " + tls.CipherSuiteName(cs.CipherSuite)
		if c.conf == nil {
			m.Protocol = "ldaps"
		}
	}
	return m
}

func (c *conn) offersTLS() bool { return c.conf != nil && !c.secure }

// start runs f in a goroutine of its own; its context ends when message id is abandoned.
// f calls stop before it tells the client that it has ended. false: too many run already.
func (c *conn) start(ctx context.Context, id int, f func(ctx context.Context)) bool {
	ctx, cancel := context.WithCancel(ctx)
	c.mu.Lock()
	if _, twice := c.running[id]; twice || len(c.running) >= maxRunning {
		c.mu.Unlock()
		cancel()
		return false
	}
	c.running[id] = cancel
	c.mu.Unlock()
	c.ops.Add(1)
	go func() {
		defer c.ops.Done()
		defer c.contain()
		f(ctx)
	}()
	return true
}

// stop abandons the operation, or forgets it when it has ended.
func (c *conn) stop(id int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if cancel := c.running[id]; cancel != nil {
		cancel()
		delete(c.running, id)
	}
}

// stopAll abandons every operation and waits for their end.
func (c *conn) stopAll() {
	c.mu.Lock()
	for _, cancel := range c.running {
		cancel()
	}
	c.mu.Unlock()
	c.ops.Wait()
}
