// Package server is the embedded directory: an LDAP v3 server (RFC 4511, read side)
// over one bbolt file, changed by LDIF import only.
//
// Who has bound reads the address book; without a bind only the root DSE is visible,
// and nothing is bound before TLS. Nobody reads or matches userPassword.
package server

import (
	"context"
	"crypto/rand"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"runtime"
	"sync"
	"time"

	"cmmpd/internal/limit"
	"cmmpd/internal/mail"
)

// Options configures a Server.
type Options struct {
	Path   string // the bbolt file; created if absent
	BaseDN string
	Log    *slog.Logger
	Now    func() time.Time
	Rand   io.Reader // default crypto/rand
	Limits Limits
	Exempt []netip.Prefix // networks without a limit of connections per address
	Rounds int            // of the verifiers made of clear passwords; default DefaultRounds
	// Login, if not nil, proves the binds of network clients, so that they are
	// throttled and audited like every other log-in; name is a DN, an address or a uid.
	// Connections of Dial are checked directly: Login may come back to us through them.
	Login func(ctx context.Context, client mail.Client, name, password string) (mail.Principal, error)
	// Changed, if not nil, is called after every import that changed something, before
	// Import returns.
	Changed func()
}

// Limits bound what one client may cost; zero fields take the defaults.
type Limits struct {
	Message      int           // bytes of one request; 256 KiB
	Connections  int           // in all; 1,000
	PerAddress   int           // connections of one client address (IPv6: one /64), Options.Exempt excepted; 50
	Idle         time.Duration // without a request; 10 min; before a bind a tenth of it
	Progress     time.Duration // for one request to arrive, one reply to be taken; 1 min
	Operation    time.Duration // of one search; 30 s
	Entries      int           // entries of one search; 1,000
	PagedEntries int           // entries of one search in pages; 10,000
	SearchRate   int           // searches a minute and bound user; 600
	ImportBytes  int64         // of one LDIF; 1 GiB
}

// DefaultLimits are what zero fields of Limits become.
func DefaultLimits() Limits { return Limits{}.withDefaults() }

func (l Limits) withDefaults() Limits {
	for _, d := range []struct {
		field *int
		value int
	}{
		{&l.Message, 256 << 10}, {&l.Connections, 1000}, {&l.PerAddress, 50}, {&l.Entries, 1000}, {&l.PagedEntries, 10000}, {&l.SearchRate, 600},
	} {
		if *d.field == 0 {
			*d.field = d.value
		}
	}
	for _, d := range []struct {
		field *time.Duration
		value time.Duration
	}{{&l.Idle, 10 * time.Minute}, {&l.Progress, time.Minute}, {&l.Operation, 30 * time.Second}} {
		if *d.field == 0 {
			*d.field = d.value
		}
	}
	if l.ImportBytes == 0 {
		l.ImportBytes = 1 << 30
	}
	return l
}

// Server is the embedded directory. It may be used by several goroutines.
type Server struct {
	o            Options
	st           *store
	subschemaKey string
	hashing      chan struct{} // bounds how many password checks run at once
	nobody       verifier      // what names that nobody has are checked against
	searches     rates
	places       *limit.Conns
	importing    sync.Mutex // one import at a time

	mu        sync.Mutex // guards what follows
	closing   bool
	listeners map[net.Listener]bool
	conns     map[*conn]bool
	running   sync.WaitGroup // connections
}

// Open opens or creates the directory. Busy if another process has it open.
func Open(o Options) (*Server, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Rand == nil {
		o.Rand = rand.Reader
	}
	if o.Rounds == 0 {
		o.Rounds = DefaultRounds
	}
	o.Limits = o.Limits.withDefaults()
	nobody, err := makeVerifier("nobody", []byte("no one has this name"), o.Rounds)
	if err != nil {
		return nil, mail.E(mail.Invalid, "the rounds of passwords are out of range", err)
	}
	st, err := openStore(o.Path, o.BaseDN)
	if err != nil {
		return nil, err
	}
	s := &Server{
		o: o, st: st, nobody: nobody, hashing: make(chan struct{}, runtime.GOMAXPROCS(0)),
		places:    limit.NewConns(o.Limits.Connections, o.Limits.PerAddress, o.Exempt),
		searches:  rates{limit: o.Limits.SearchRate, now: o.Now},
		listeners: map[net.Listener]bool{}, conns: map[*conn]bool{},
	}
	sub, err := st.schema.parseDN(subschemaDN)
	s.subschemaKey = sub.key
	return s, err
}

// Close closes the database. Shutdown comes first.
func (s *Server) Close() error { return s.st.db.Close() }

// Shutdown closes listeners, takes no more requests, lets the running operations end
// until ctx does, and closes all connections, those of Dial included.
func (s *Server) Shutdown(ctx context.Context) error {
	s.mu.Lock()
	s.closing = true
	for ln := range s.listeners {
		ln.Close()
	}
	for c := range s.conns {
		c.drain()
	}
	s.mu.Unlock()
	done := make(chan struct{})
	go func() { s.running.Wait(); close(done) }()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
	}
	s.mu.Lock()
	for c := range s.conns {
		c.abort()
	}
	s.mu.Unlock()
	<-done
	return ctx.Err()
}

// register counts a connection in; false if there are too many or we are closing.
func (s *Server) register(c *conn) bool {
	release := func() {}
	if !c.trusted {
		var ok bool
		if release, ok = s.places.Take(c.nc.RemoteAddr()); !ok {
			return false
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing {
		release()
		return false
	}
	c.release = release
	s.conns[c] = true
	s.running.Add(1)
	return true
}

func (s *Server) unregister(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
	c.release()
	s.running.Done()
}

// Dial returns an in-process connection with the service's identity, for
// directory.Options.Dial.
func (s *Server) Dial(context.Context) (net.Conn, error) {
	s.mu.Lock()
	closing := s.closing
	s.mu.Unlock()
	if closing {
		return nil, errors.New("the directory is shutting down")
	}
	ours, theirs := net.Pipe()
	go s.ServeConn(context.Background(), ours, ConnOptions{Trusted: true})
	return theirs, nil
}
