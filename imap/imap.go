// Package imap is the IMAP front end: IMAP4rev1 (RFC 3501) with the extensions that
// capability.go names. It is our own protocol engine over the data types of
// go-imap/v2; docs/decisions.md says why. The grammar is in package wire.
//
// A connection is served by one goroutine, IDLE included. What it writes is collected and goes
// out when it is about to wait for the client, or when the buffer is full; nothing is ever
// written while a lock of the store is held.
package imap

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/emersion/go-imap/v2"

	"cmmpd/internal/limit"
	"cmmpd/internal/mail"
	"cmmpd/storage"
)

// Authenticator proves who a client is. The error of a failed log-in is of kind
// AuthFailed; Busy, Unavailable and Denied are told to the client as such.
type Authenticator interface {
	Login(ctx context.Context, client mail.Client, name, password string) (mail.Principal, error)
}

// Intake is the one door for messages: intake.Intake. Reserve takes memory for a
// message that a client is about to send.
type Intake interface {
	Append(ctx context.Context, who *mail.Principal, acct *storage.Account, mailbox string, msgs []storage.Append) ([]storage.Placed, error)
	Copy(ctx context.Context, who *mail.Principal, acct *storage.Account, from *storage.Mailbox, uids imap.UIDSet, dest string) (storage.CopyResult, error)
	Move(ctx context.Context, who *mail.Principal, acct *storage.Account, from *storage.Mailbox, uids imap.UIDSet, dest string) (storage.CopyResult, error)
	Reserve(ctx context.Context, n int64) error
	Release(n int64)
}

// Options are what a Server needs. Auth, Store, Intake and TLS must be set.
type Options struct {
	Auth   Authenticator
	Store  *storage.Store
	Intake Intake
	TLS    *tls.Config // for both implicit TLS and STARTTLS; the ALPN name imap is added
	Limits Limits
	Exempt []netip.Prefix   // networks without a limit of connections per address
	Log    *slog.Logger     // default: nothing is logged
	Now    func() time.Time // default: time.Now
}

// Server serves IMAP. It is safe for concurrent use.
type Server struct {
	o        Options
	tls      *tls.Config
	commands map[string]command
	places   *limit.Conns
	buffers  sync.Pool       // of *[]byte, for output
	ctx      context.Context // ends when Shutdown gives up waiting
	cancel   context.CancelFunc

	mu        sync.Mutex // guards what follows
	closing   bool
	listeners map[net.Listener]struct{}
	conns     map[*conn]struct{}
	wg        sync.WaitGroup // one for each connection; Add only while closing is false
}

// ErrServerClosed is what Serve returns after Shutdown.
var ErrServerClosed = errors.New("imap: server closed")

// New makes a Server. The error is of kind Invalid.
func New(o Options) (*Server, error) {
	if o.Auth == nil || o.Store == nil || o.Intake == nil || o.TLS == nil {
		return nil, mail.E(mail.Invalid, "", errors.New("imap: an option is missing"))
	}
	o.Limits = o.Limits.withDefaults()
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	s := &Server{
		o: o, tls: o.TLS.Clone(), commands: commandTable(),
		listeners: map[net.Listener]struct{}{}, conns: map[*conn]struct{}{}, places: limit.NewConns(o.Limits.Connections, o.Limits.ConnectionsPerAddr, o.Exempt),
	}
	if !slices.Contains(s.tls.NextProtos, alpn) {
		s.tls.NextProtos = append(slices.Clone(s.tls.NextProtos), alpn)
	}
	s.tls.DynamicRecordSizingDisabled = true // few and full records: our output is collected already
	s.buffers.New = func() any { b := make([]byte, 0, bufferSize+spare); return &b }
	s.ctx, s.cancel = context.WithCancel(context.Background())
	return s, nil
}

// alpn is the name of the protocol in TLS (RFC 7301 and its registry).
const alpn = "imap"

// Serve accepts connections on ln until Shutdown; implicitTLS is for port 993. It closes ln.
// After Shutdown, or when ctx ends, the error is ErrServerClosed.
func (s *Server) Serve(ctx context.Context, ln net.Listener, implicitTLS bool) error {
	s.mu.Lock()
	if s.closing {
		s.mu.Unlock()
		ln.Close()
		return ErrServerClosed
	}
	s.listeners[ln] = struct{}{}
	s.mu.Unlock()
	stop := context.AfterFunc(ctx, func() { ln.Close() })
	defer stop()
	defer s.forget(ln)
	for {
		nc, err := ln.Accept()
		if err != nil {
			var ne net.Error
			switch {
			case ctx.Err() != nil || s.isClosing():
				return ErrServerClosed
			case errors.As(err, &ne) && ne.Timeout() || isTemporary(err):
				s.o.Log.Warn("imap: accept", "err", err)
				select {
				case <-time.After(100 * time.Millisecond): // out of file descriptors: let some connections end
					continue
				case <-ctx.Done():
					return ErrServerClosed
				}
			}
			return err
		}
		s.start(nc, implicitTLS)
	}
}

func (s *Server) forget(ln net.Listener) {
	ln.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.listeners, ln)
}

func (s *Server) isClosing() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closing
}

// start serves nc in a goroutine of its own, unless a limit says no.
func (s *Server) start(nc net.Conn, implicitTLS bool) {
	release, ok := s.places.Take(nc.RemoteAddr())
	if !ok {
		nc.Close()
		return
	}
	c := newConn(s, nc)
	s.mu.Lock()
	if s.closing {
		s.mu.Unlock()
		release()
		nc.Close()
		return
	}
	s.conns[c] = struct{}{}
	s.wg.Add(1)
	s.mu.Unlock()
	go func() {
		defer s.wg.Done()
		defer func() {
			nc.Close()
			release()
			s.mu.Lock()
			defer s.mu.Unlock()
			delete(s.conns, c)
		}()
		defer s.recover(c)
		serve(s, c, implicitTLS)
	}()
}

// recover keeps a fault in one session from ending the program.
func (s *Server) recover(c *conn) {
	if r := recover(); r != nil {
		s.o.Log.Error("imap: a session ended by a fault of ours", "remote", c.remote(), "fault", r, "stack", stack())
	}
}

// Shutdown says BYE to every client when its command has ended, and waits until all
// connections have ended or ctx is done; then it closes what is left, and the error is
// that of ctx.
func (s *Server) Shutdown(ctx context.Context) error {
	s.mu.Lock()
	s.closing = true
	for ln := range s.listeners {
		ln.Close()
	}
	for c := range s.conns {
		c.shutdown()
	}
	s.mu.Unlock()
	done := make(chan struct{})
	go func() {
		s.wg.Wait()
		close(done)
	}()
	select {
	case <-done:
		s.cancel()
		return nil
	case <-ctx.Done():
	}
	s.cancel()
	s.mu.Lock()
	for c := range s.conns {
		c.raw.Close()
	}
	s.mu.Unlock()
	<-done
	return ctx.Err()
}
