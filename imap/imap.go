// Package imap is the IMAP front end: IMAP4rev1 (RFC 3501) with the extensions that
// capability.go names. It is our own protocol engine over the data types of
// go-imap/v2; docs/decisions.md says why. The grammar is in package wire.
package imap

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/emersion/go-imap/v2"

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
	Log    *slog.Logger     // default: nothing is logged
	Now    func() time.Time // default: time.Now
}

// Server serves IMAP. It is safe for concurrent use.
type Server struct {
	o      Options
	cancel context.CancelFunc
	ctx    context.Context // ends when Shutdown gives up waiting

	mu        sync.Mutex // guards what follows
	closing   bool
	listeners map[net.Listener]struct{}
	wg        sync.WaitGroup
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
	s := &Server{o: o, listeners: map[net.Listener]struct{}{}}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	return s, nil
}

// Serve accepts connections on ln until Shutdown; implicitTLS is for port 993. It closes ln.
// After Shutdown the error is ErrServerClosed.
func (s *Server) Serve(ctx context.Context, ln net.Listener, implicitTLS bool) error {
	return mail.E(mail.Unsupported, "", nil)
}

// Shutdown tells every client BYE and waits until all connections have ended or ctx
// is done; then it closes what is left.
func (s *Server) Shutdown(ctx context.Context) error {
	return nil
}
