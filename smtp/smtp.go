// Package smtp is the SMTP front end (RFC 5321, 6409, 8314): submission with and
// without STARTTLS, and the service for other servers (MX).
//
// Command grammar and order are those of emersion/go-smtp's server. It runs on a front
// of our own (front.go), which owns TLS, time and size limits and the message itself,
// shows the server one command line at a time, and sends no reply that repeats what a
// client has said. docs/decisions.md says why.
package smtp

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net/netip"
	"time"

	"cmmpd/internal/mail"
)

// Door is where messages go: internal/intake.
type Door interface {
	// Accept must not keep raw: when it has returned, the room is used for other messages.
	Accept(ctx context.Context, env *mail.Envelope, raw []byte) (mail.ID, error)
	Resolve(ctx context.Context, env *mail.Envelope, rcpt mail.Address) error
	Reserve(ctx context.Context, n int64) error
	TryReserve(n int64) bool // without waiting
	Release(n int64)
}

// Authenticator proves who a client is: internal/auth. The error of a failed log-in is
// of kind AuthFailed.
type Authenticator interface {
	Login(ctx context.Context, client mail.Client, name, password string) (mail.Principal, error)
}

// Mode is what a listener is for.
type Mode uint8

// The modes.
const (
	MX          Mode = iota // port 25: other servers; STARTTLS is offered, AUTH is not
	Submission              // port 587: our users; STARTTLS and AUTH are demanded
	Submissions             // port 465: our users; TLS from the first byte, AUTH is demanded
)

// String is the protocol name in mail.Client.
func (m Mode) String() string { return [...]string{"smtp", "submission", "submissions"}[m] }

// Options configure a Server. TLS, Auth and Door must be set.
type Options struct {
	Hostname string         // in the greeting; default localhost
	Domains  []string       // our own, lower case: on MX, strangers may not use them in MAIL FROM
	Trusted  []netip.Prefix // networks whose MX mail may come from our own domains
	Exempt   []netip.Prefix // networks without a limit of connections per address

	TLS    *tls.Config // the ALPN name smtp is set
	Auth   Authenticator
	Door   Door
	Limits Limits
	Log    *slog.Logger     // default: nothing is logged
	Now    func() time.Time // default: time.Now
}

// Limits stand at the reader, before parsing. Zero fields take the defaults.
type Limits struct {
	MessageSize int64         // octets of one message; default 50 MiB
	Recipients  int           // of one message; default 1000
	CommandLine int           // octets of a command line with its end; default 2048 (AUTH: 12,288, RFC 4954)
	Connections int           // in all; default 10,000
	PerAddress  int           // from one address; default 100
	Errors      int           // refused commands until the connection is closed; default 20
	Commands    int           // commands without an accepted message until the connection of a stranger is closed; default 2 x Recipients + 100
	BeforeLogin int           // commands before a log-in, where one is demanded; default 30
	Logins      int           // failed log-ins until the connection is closed; default 5
	Idle        time.Duration // waiting for a command; default 5 min
	Progress    time.Duration // without a byte within a command, a message, a handshake or a reply; default 1 min
	Total       time.Duration // from the first to the last byte of one message; default 30 min
}

// DefaultLimits are what zero fields of Limits become.
func DefaultLimits() Limits { return Limits{}.withDefaults() }

func (l Limits) withDefaults() Limits {
	def := func(v *int, d int) {
		if *v <= 0 {
			*v = d
		}
	}
	span := func(v *time.Duration, d time.Duration) {
		if *v <= 0 {
			*v = d
		}
	}
	if l.MessageSize <= 0 {
		l.MessageSize = 50 << 20
	}
	def(&l.Recipients, 1000)
	def(&l.CommandLine, 2048)
	def(&l.Connections, 10_000)
	def(&l.PerAddress, 100)
	def(&l.Errors, 20)
	def(&l.Commands, 2*l.Recipients+100)
	def(&l.BeforeLogin, 30)
	def(&l.Logins, 5)
	span(&l.Idle, 5*time.Minute)
	span(&l.Progress, time.Minute)
	span(&l.Total, 30*time.Minute)
	return l
}

func (o Options) withDefaults() (Options, error) {
	if o.TLS == nil || o.Auth == nil || o.Door == nil {
		return o, mail.E(mail.Invalid, "", errors.New("smtp: an option is missing"))
	}
	if o.Hostname == "" {
		o.Hostname = "localhost"
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	o.TLS = o.TLS.Clone()
	o.TLS.NextProtos = []string{"smtp"} // strict: a client that asks for another protocol is turned away
	if o.TLS.MinVersion < tls.VersionTLS12 {
		o.TLS.MinVersion = tls.VersionTLS12
	}
	o.Limits = o.Limits.withDefaults()
	return o, nil
}
