// Package server is the embedded directory: an LDAP v3 server (RFC 4511, read side)
// over one bbolt file, changed by LDIF import only.
package server

import (
	"context"
	"crypto/tls"
	"io"
	"log/slog"
	"net"
	"time"

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
	// Login, if not nil, proves the binds of network clients, so that they are
	// throttled and audited like every other log-in. Connections of Dial are checked directly.
	Login func(ctx context.Context, client mail.Client, name, password string) (mail.Principal, error)
	// Changed, if not nil, is called after every import that changed something.
	Changed func()
}

// Limits bound what one client may cost; zero fields take the defaults.
type Limits struct {
	Message     int           // bytes of one request; 256 KiB
	Connections int           // in all; 1,000
	PerAddress  int           // connections of one client address; 50
	Idle        time.Duration // without a request; 10 min
	Operation   time.Duration // of one search; 30 s
	Entries     int           // entries of one search; 1,000
	SearchRate  int           // searches a minute and bound user; 600
	ImportBytes int64         // of one LDIF; 1 GiB
}

// Server is the embedded directory. It may be used by several goroutines.
type Server struct {
	o Options
}

var errUnfinished = mail.E(mail.Unsupported, "not yet served", nil)

// Open opens or creates the directory.
func Open(o Options) (*Server, error) { return &Server{o: o}, nil }

// Close closes the database. Shutdown comes first.
func (s *Server) Close() error { return nil }

// Mode says how TLS begins on a listener.
type Mode uint8

// The modes.
const (
	StartTLS Mode = iota // clear until the StartTLS operation (RFC 4511, 4.14)
	Implicit             // TLS from the first byte (LDAPS)
)

// Serve accepts connections until ctx ends or Shutdown is called; then it returns nil.
func (s *Server) Serve(ctx context.Context, ln net.Listener, conf *tls.Config, mode Mode) error {
	return errUnfinished
}

// ConnOptions says what is known of a connection before its first byte.
type ConnOptions struct {
	Trusted bool        // in process: carries the service's identity, and counts as protected
	TLS     *tls.Config // offered by StartTLS; nil: not offered
}

// ServeConn serves one connection and closes it.
func (s *Server) ServeConn(ctx context.Context, c net.Conn, o ConnOptions) {}

// Dial returns an in-process connection with the service's identity, for directory.Options.Dial.
func (s *Server) Dial(ctx context.Context) (net.Conn, error) { return nil, errUnfinished }

// Shutdown closes listeners, lets the running operations end until ctx does, and closes all connections.
func (s *Server) Shutdown(ctx context.Context) error { return nil }

// ImportResult says what an import did.
type ImportResult struct {
	Added, Modified, Deleted, Unchanged int
	Changed                             []string // the DNs of entries added, modified or deleted, in order
}

// Import applies LDIF, content or change records (RFC 2849), all or nothing. The
// caller has checked that actor may do it. Errors are of kind Invalid and name the line.
func (s *Server) Import(ctx context.Context, r io.Reader, actor string) (ImportResult, error) {
	return ImportResult{}, errUnfinished
}

// Export writes every entry as LDIF content records, parents first, in an order that
// does not change. Password verifiers are included: the output is secret.
func (s *Server) Export(ctx context.Context, w io.Writer) error { return errUnfinished }
