// Package auth proves identity: a name and a password become a mail.Principal.
// Finding people is the directory's affair; here is what makes guessing hard.
package auth

import (
	"context"
	"log/slog"
	"time"

	"cmmpd/internal/mail"
)

// Directory is what auth asks of the directory.
type Directory interface {
	Bind(ctx context.Context, name, password string) error
	Principal(ctx context.Context, name string) (mail.Principal, error)
}

// Outcome is one log-in attempt that was decided.
type Outcome struct {
	Name      string // as given, if its grammar was good; else empty
	Principal mail.Principal
	Client    mail.Client
	Err       error // nil: logged in
}

// Options configures an Authenticator.
type Options struct {
	Directory      Directory
	ExemptLoopback bool          // no per-address limits for 127.0.0.0/8 and ::1
	CacheTTL       time.Duration // how long a verified credential is believed; default 5 min; negative: never
	Outcome        func(Outcome) // the audit hook; must not block
	Log            *slog.Logger
	Now            func() time.Time
}

// Authenticator checks log-ins. It may be used by several goroutines.
type Authenticator struct {
	o Options
}

// New makes an Authenticator.
func New(o Options) *Authenticator { return &Authenticator{o: o} }

// Login proves name (address or uid) by its password. AuthFailed with one text for
// every reason; Busy if there were too many failures; Unavailable if the directory cannot answer.
func (a *Authenticator) Login(ctx context.Context, client mail.Client, name, password string) (mail.Principal, error) {
	return mail.Principal{}, mail.E(mail.Unsupported, "not yet served", nil)
}

// Changed forgets every verified credential: the directory has been changed.
func (a *Authenticator) Changed() {}
