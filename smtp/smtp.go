// Package smtp is the SMTP front end: submission with and without STARTTLS, and the
// service for other servers (MX).
package smtp

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"time"

	"cmmpd/internal/mail"
)

// Door is where messages go: internal/intake.
type Door interface {
	Accept(ctx context.Context, env *mail.Envelope, raw []byte) (mail.ID, error)
	Resolve(ctx context.Context, env *mail.Envelope, rcpt mail.Address) error
	Reserve(ctx context.Context, n int64) error
	Release(n int64)
}

// Authenticator proves who a client is: internal/auth.
type Authenticator interface {
	Login(ctx context.Context, client mail.Client, name, password string) (mail.Principal, error)
}

// Mode is what a listener is for.
type Mode uint8

const (
	MX          Mode = iota // port 25: other servers, STARTTLS offered, no AUTH
	Submission              // port 587: our users, STARTTLS and AUTH demanded
	Submissions             // port 465: our users, TLS from the first byte
)

// Options configure a Server. Zero limits take the defaults named beside them.
type Options struct {
	Hostname string
	Domains  []string       // ours: MX refuses them as MAIL FROM of strangers, see Trusted
	Trusted  []netip.Prefix // networks whose MX mail may come from our own domains
	Exempt   []netip.Prefix // networks without per-address connection limits

	TLS  *tls.Config
	Auth Authenticator
	Door Door
	Log  *slog.Logger
	Now  func() time.Time

	Limits Limits
}

// Limits stand at the reader, before parsing.
type Limits struct {
	MessageSize    int64         // octets of one message; default 50 MiB
	Recipients     int           // of one message; default 1000
	CommandLine    int           // octets of a command line with its end; default 4096
	Connections    int           // in all; default 10000
	PerAddress     int           // connections from one address; default 50
	Errors         int           // refused commands before the connection is closed; default 10
	CommandsBefore int           // commands before a log-in (submission) or a first message (MX); default 50
	Idle           time.Duration // without a command; default 5 min
	Progress       time.Duration // without a byte inside a command, a message, a handshake or a write; default 1 min
	Total          time.Duration // one message from first to last byte; default 30 min
}

// Server is the SMTP front end.
type Server struct{ o Options }

// New makes a Server.
func New(o Options) (*Server, error) { return &Server{o}, nil }

// Serve accepts connections until ln is closed or Shutdown is called; then it returns
// nil.
func (s *Server) Serve(ctx context.Context, ln net.Listener, m Mode) error {
	return errors.ErrUnsupported
}

// Shutdown closes the listeners, lets messages under way end, and closes what is left
// when ctx is done.
func (s *Server) Shutdown(ctx context.Context) error { return nil }
