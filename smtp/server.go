package smtp

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"time"

	gosmtp "github.com/emersion/go-smtp"

	"cmmpd/internal/limit"
)

// Server is the SMTP front end. It is safe for concurrent use.
type Server struct {
	o      Options
	conns  *limit.Conns
	plain  *engine // serves what is in clear: it offers STARTTLS
	secure *engine // serves what is under TLS: it offers AUTH
	ctx    context.Context
	cancel context.CancelFunc // ends acts under way, when Shutdown gives up waiting
	spares sync.Pool          // of *[]byte: see spare

	mu        sync.Mutex // guards what follows
	closing   bool
	listeners map[net.Listener]struct{}
	links     map[*link]struct{}
	wg        sync.WaitGroup // one for each link
}

// New makes a Server. The error is of kind Invalid.
func New(o Options) (*Server, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	s := &Server{
		o: o, conns: limit.NewConns(o.Limits.Connections, o.Limits.PerAddress, o.Exempt),
		listeners: map[net.Listener]struct{}{}, links: map[*link]struct{}{},
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.plain = s.newEngine(o.TLS, false)
	s.secure = s.newEngine(nil, true)
	return s, nil
}

// Serve accepts connections on ln until ln is closed, ctx is done or Shutdown is
// called; then it returns nil. It closes ln.
func (s *Server) Serve(ctx context.Context, ln net.Listener, m Mode) error {
	defer ln.Close()
	s.mu.Lock()
	if s.closing {
		s.mu.Unlock()
		return nil
	}
	s.listeners[ln] = struct{}{}
	s.mu.Unlock()
	defer context.AfterFunc(ctx, func() { ln.Close() })()
	s.plain.start()
	s.secure.start()
	pause := time.Duration(0)
	for {
		c, err := ln.Accept()
		switch {
		case err == nil:
			pause = 0
			s.take(c, m)
		case errors.Is(err, net.ErrClosed):
			return nil
		case pause >= time.Second:
			return fmt.Errorf("accepting SMTP connections: %w", err)
		default: // out of file descriptors, for instance: others may end meanwhile
			pause = 2*pause + 5*time.Millisecond
			s.o.Log.Warn("smtp: accept failed", "err", err)
			select {
			case <-time.After(pause):
			case <-ctx.Done():
			}
		}
	}
}

// take starts a new connection, or turns it away.
func (s *Server) take(c net.Conn, m Mode) {
	release, ok := s.conns.Take(c.RemoteAddr())
	if !ok {
		s.o.Log.Info("smtp: too many connections", "client", c.RemoteAddr().String())
		if m != Submissions {
			_ = c.SetWriteDeadline(time.Now().Add(time.Second))
			_, _ = c.Write([]byte("421 4.7.0 too many connections, try again later\r\n"))
		}
		c.Close()
		return
	}
	l := &link{Conn: c, mode: m, server: s, release: release}
	s.mu.Lock()
	if s.closing {
		s.mu.Unlock()
		release()
		c.Close()
		return
	}
	s.links[l] = struct{}{}
	s.wg.Add(1)
	s.mu.Unlock()
	if m == Submissions {
		s.secure.serve(newFront(s, l, tls.Server(c, s.o.TLS)))
		return
	}
	s.plain.serve(newFront(s, l, nil))
}

// Shutdown closes the listeners, tells idle clients that we leave, lets messages under
// way end, and closes what is left when ctx is done; then the error is ctx's.
func (s *Server) Shutdown(ctx context.Context) error {
	s.mu.Lock()
	s.closing = true
	for ln := range s.listeners {
		ln.Close()
	}
	for l := range s.links {
		l.wake()
	}
	s.mu.Unlock()
	done := make(chan struct{})
	go func() {
		s.wg.Wait()
		close(done)
	}()
	var err error
	select {
	case <-done:
	case <-ctx.Done():
		err = ctx.Err()
		s.cancel()
		s.mu.Lock()
		for l := range s.links {
			l.Conn.Close()
		}
		s.mu.Unlock()
		<-done
	}
	s.cancel()
	s.plain.stop()
	s.secure.stop()
	return err
}

func (s *Server) leaving() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closing
}

// link is one connection of a client, whether or not it changes to TLS on its way.
type link struct {
	net.Conn
	mode    Mode
	server  *Server
	release func()
	once    sync.Once

	mu      sync.Mutex
	waiting bool // for a command, outside of any transaction; guarded by mu
}

// wait marks l as idle, or not. It reports false if the server is leaving.
func (l *link) wait(idle bool) bool {
	l.mu.Lock()
	l.waiting = idle
	l.mu.Unlock()
	return !idle || !l.server.leaving()
}

// wake ends the wait of an idle link.
func (l *link) wake() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.waiting {
		_ = l.SetReadDeadline(time.Unix(1, 0))
	}
}

// end closes l and gives its place to another.
func (l *link) end() {
	l.once.Do(func() {
		l.Conn.Close()
		l.release()
		l.server.mu.Lock()
		delete(l.server.links, l)
		l.server.mu.Unlock()
		l.server.wg.Done()
	})
}

// engine is a go-smtp server that is given its connections one by one.
type engine struct {
	server *gosmtp.Server
	queue  chan net.Conn
	quit   chan struct{}
	begin  sync.Once
	finish sync.Once
}

// newEngine makes an engine. go-smtp never sees TLS: the front has taken it off. So
// TLSConfig here does no more than offer STARTTLS, which the front then executes, and
// AllowInsecureAuth says that the line is safe already.
func (s *Server) newEngine(offer *tls.Config, auth bool) *engine {
	e := &engine{queue: make(chan net.Conn), quit: make(chan struct{})}
	g := gosmtp.NewServer(gosmtp.BackendFunc(s.newSession))
	g.Domain = s.o.Hostname
	g.TLSConfig = offer
	g.AllowInsecureAuth = auth
	g.MaxMessageBytes = s.o.Limits.MessageSize
	g.MaxRecipients = s.o.Limits.Recipients
	g.MaxLineLength = maxAuthLine + 2 // the front has checked every line
	g.EnableSMTPUTF8 = true
	g.ErrorLog = errorLog{s.o.Log}
	e.server = g
	return e
}

func (e *engine) start() { e.begin.Do(func() { go func() { _ = e.server.Serve(e) }() }) }

func (e *engine) stop() {
	e.finish.Do(func() { close(e.quit) })
	_ = e.server.Close()
}

// serve hands f to the engine, which serves it in a goroutine of its own.
func (e *engine) serve(f *front) {
	select {
	case e.queue <- f:
	case <-e.quit:
		f.link.end()
	}
}

// Accept, Close and Addr make engine the net.Listener of its server.
func (e *engine) Accept() (net.Conn, error) {
	select {
	case c := <-e.queue:
		return c, nil
	case <-e.quit:
		return nil, net.ErrClosed
	}
}

func (e *engine) Close() error   { return nil }
func (e *engine) Addr() net.Addr { return &net.TCPAddr{} }

// errorLog is go-smtp's view of our log: what it has to say is about single
// connections, and for the curious only, but for a panic.
type errorLog struct{ log *slog.Logger }

func (l errorLog) Printf(format string, v ...any) {
	if text := fmt.Sprintf(format, v...); strings.HasPrefix(text, "panic") {
		l.log.Error("smtp: "+text, "kind", "panic")
	} else {
		l.log.Debug("smtp: " + text)
	}
}

func (l errorLog) Println(v ...any) { l.log.Debug("smtp: " + strings.TrimSpace(fmt.Sprintln(v...))) }
