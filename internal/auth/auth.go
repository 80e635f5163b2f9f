// Package auth proves identity: a name and a password become a mail.Principal.
// Finding people is the directory's affair; here is what makes guessing hard, and
// what makes the log-ins of the same client in the next minutes cheap.
package auth

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"net/netip"
	"strings"
	"time"
	"unicode/utf8"

	"cmmpd/internal/limit"
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
	Directory Directory
	Exempt    []netip.Prefix // networks without delays per address
	Limits    Limits
	Outcome   func(Outcome) // the audit hook; must not block
	Log       *slog.Logger
	Now       func() time.Time
	// Wait passes the time of a delay; nil: a timer.
	Wait func(ctx context.Context, d time.Duration) error
}

// Lengths of what clients send.
const (
	maxName     = 512
	maxPassword = 1024
)

// Authenticator checks log-ins. It may be used by several goroutines.
type Authenticator struct {
	o         Options
	byAccount *throttle
	byAddress *throttle
	byPair    *throttle     // attempts for an account from an address that were not remembered as good
	waiting   chan struct{} // bounds how many log-ins wait for a delay to pass
	verified  verified
}

// New makes an Authenticator.
func New(o Options) *Authenticator {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Wait == nil {
		o.Wait = wait
	}
	o.Limits = o.Limits.withDefaults()
	a := &Authenticator{
		o: o, byAccount: newThrottle(o.Limits, o.Now), byAddress: newThrottle(o.Limits.forAddresses(), o.Now),
		byPair:  newThrottle(o.Limits, o.Now),
		waiting: make(chan struct{}, o.Limits.Waiting), verified: verified{ttl: o.Limits.CredentialTime, max: o.Limits.Credentials, now: o.Now},
	}
	rand.Read(a.verified.key[:])
	return a
}

// exempt says whether the address of a client is not held against it.
func (a *Authenticator) exempt(remote string) bool {
	ip, ok := parseRemote(remote)
	return ok && limit.Contains(a.o.Exempt, ip)
}

func wait(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Login proves name (DN, address or uid) by its password. AuthFailed, with one text for
// every reason and for names that nobody has; Busy if there were too many failures;
// Unavailable if the directory cannot answer.
//
// After a few failures further attempts, good or bad, wait: for the account, and for the
// client's address. A credential that was verified a short while ago from the same
// address does not wait, so that neither a stranger nor one client behind a shared
// address locks others out; that ends when somebody there guesses at the account. The
// same wrong password again, as from a phone that was not told of a new one, counts once.
func (a *Authenticator) Login(ctx context.Context, client mail.Client, name, password string) (mail.Principal, error) {
	if !validName(name) || password == "" || len(password) > maxPassword || !utf8.ValidString(password) {
		// Decided before anything is looked up or counted by name.
		return a.done(Outcome{Client: client, Err: failed(errors.New("malformed name or password"))})
	}
	out := Outcome{Name: name, Client: client}
	t := attempt{
		account: accountKey(name), from: addressKey(client.Remote),
		tag: a.verified.tag(strings.ToLower(name), password, addressKey(client.Remote)),
	}
	t.pair = t.account + "\x00" + t.from
	t.exempt = t.from == "" || a.exempt(client.Remote)
	if a.byPair.free(t.pair) {
		if p, known := a.verified.get(t.tag); known {
			out.Principal = p
			return a.done(out)
		}
	}
	a.byPair.failed(t.pair, t.tag)
	if !t.exempt {
		out.Err = a.hold(ctx, a.byAddress, t.from)
	}
	if out.Err == nil {
		out.Err = a.hold(ctx, a.byAccount, t.account)
	}
	if out.Err == nil {
		generation := a.verified.current()
		out.Principal, out.Err = a.check(ctx, name, password)
		a.count(t, out, generation)
	}
	return a.done(out)
}

// attempt is the keys that one log-in is counted and remembered under.
type attempt struct {
	account, from, pair string
	exempt              bool // not counted by address
	tag                 [32]byte
}

// count notes what came of a log-in.
func (a *Authenticator) count(t attempt, out Outcome, generation uint64) {
	switch {
	case out.Err == nil:
		a.byAccount.succeeded(t.account)
		a.byPair.succeeded(t.pair)
		a.verified.put(t.tag, out.Principal, generation)
	case mail.KindOf(out.Err) == mail.AuthFailed:
		if a.byAccount.failed(t.account, t.tag) && !t.exempt {
			a.byAddress.failed(t.from, t.tag)
		}
	}
}

// check asks the directory.
func (a *Authenticator) check(ctx context.Context, name, password string) (mail.Principal, error) {
	err := a.o.Directory.Bind(ctx, name, password)
	var p mail.Principal
	if err == nil {
		p, err = a.o.Directory.Principal(ctx, name)
	}
	if err == nil {
		return p, nil
	}
	switch mail.KindOf(err) {
	case mail.AuthFailed, mail.NotFound, mail.Invalid, mail.Denied:
		return mail.Principal{}, failed(err)
	}
	return mail.Principal{}, mail.E(mail.Unavailable, "log-in is not possible now", err)
}

// hold waits until an attempt under key may be made.
func (a *Authenticator) hold(ctx context.Context, t *throttle, key string) error {
	d, ok := t.reserve(key)
	if !ok {
		return mail.E(mail.Busy, "too many failed log-ins, try again later", nil)
	}
	if d <= 0 {
		return nil
	}
	select {
	case a.waiting <- struct{}{}:
		defer func() { <-a.waiting }()
	default:
		return mail.E(mail.Busy, "too many failed log-ins, try again later", nil)
	}
	if err := a.o.Wait(ctx, d); err != nil {
		return mail.E(mail.Unavailable, "", err)
	}
	return nil
}

func failed(cause error) error { return mail.E(mail.AuthFailed, "authentication failed", cause) }

// done reports the outcome.
func (a *Authenticator) done(o Outcome) (mail.Principal, error) {
	if a.o.Outcome != nil {
		a.o.Outcome(o)
	}
	if o.Err != nil {
		a.o.Log.Info("log-in refused", "name", o.Name, "client", o.Client.Remote, "protocol", o.Client.Protocol, "err", o.Err)
	}
	return o.Principal, o.Err
}

// Changed forgets every verified credential: the directory has been changed.
func (a *Authenticator) Changed() { a.verified.drop() }

// validName is the grammar of log-in names: printable UTF-8 without what quotes,
// wildcards or separates.
func validName(s string) bool {
	if s == "" || len(s) > maxName || !utf8.ValidString(s) {
		return false
	}
	return !strings.ContainsFunc(s, func(r rune) bool { return r < 0x20 || r == 0x7f || strings.ContainsRune(`*()%$|&;<>`, r) })
}

// accountKey is the name that failures are counted under, made without asking anybody
// whether it exists: a DN counts as the value of its first component.
func accountKey(name string) string {
	name = strings.ToLower(strings.TrimSpace(name))
	if first, _, ok := strings.Cut(name, ","); ok && strings.Contains(first, "=") {
		_, name, _ = strings.Cut(first, "=")
	}
	return strings.TrimSpace(name)
}
