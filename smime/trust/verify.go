package trust

import (
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"
)

// Verifier checks certificates. It may be used by several goroutines at once.
type Verifier struct {
	o             Options
	anchors       *x509.CertPool
	intermediates *x509.CertPool
	lists         *lists
	paths         *paths
}

// New makes a Verifier. The error says what is missing, or which revocation list
// cannot be read.
func New(o Options) (*Verifier, error) {
	if len(o.Anchors) == 0 {
		return nil, errors.New("no trust anchor is given")
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.MinRSABits < minRSABits {
		o.MinRSABits = minRSABits
	}
	v := &Verifier{o: o, anchors: x509.NewCertPool(), intermediates: x509.NewCertPool(), paths: newPaths()}
	for _, c := range o.Anchors {
		if err := checkKey(c, o.MinRSABits); err != nil {
			return nil, fmt.Errorf("trust anchor %q: %w", nameOf(c), err)
		}
		v.anchors.AddCert(c)
	}
	for _, c := range o.Intermediates {
		v.intermediates.AddCert(c)
	}
	var err error
	v.lists, err = openLists(o.CRLs, o.Log)
	return v, err
}

// Check says whether c may be used for p by whom b names. extra are certificates
// that came with a message: they may be part of the path, but are never anchors.
//
// Not checked: certificate policies, OCSP, delta and partitioned revocation lists; a
// list that needs one of these is not used, and its issuer's certificates are then
// Stale. The first step that fails ends the check. A nil Verifier trusts nobody.
func (v *Verifier) Check(c *x509.Certificate, p Purpose, b Binding, extra ...*x509.Certificate) Result {
	if v == nil {
		return Result{Failure: Untrusted, Steps: []Step{{Name: "path", Detail: "no authority is trusted here"}}}
	}
	k := &check{v: v, c: c, p: p, b: b, extra: extra, now: v.o.Now()}
	for _, step := range []func() bool{k.key, k.dates, k.usage, k.path, k.revocation, k.binding} {
		if !step() {
			return k.r
		}
	}
	k.r.Usable = true
	return k.r
}

// check is one Check in progress.
type check struct {
	v     *Verifier
	c     *x509.Certificate
	p     Purpose
	b     Binding
	extra []*x509.Certificate
	now   time.Time
	r     Result
}

func (k *check) ok(step, format string, args ...any) bool {
	k.r.Steps = append(k.r.Steps, Step{Name: step, OK: true, Detail: oneLine(fmt.Sprintf(format, args...))})
	return true
}

func (k *check) fail(f Failure, step, format string, args ...any) bool {
	k.r.Failure = f
	k.r.Steps = append(k.r.Steps, Step{Name: step, Detail: oneLine(fmt.Sprintf(format, args...))})
	return false
}

func (k *check) key() bool {
	if err := checkKey(k.c, k.v.o.MinRSABits); err != nil {
		return k.fail(WeakKey, "key", "%v", err)
	}
	return k.ok("key", "%s", keyName(k.c))
}

func (k *check) dates() bool {
	switch {
	case k.now.After(k.c.NotAfter):
		return k.fail(Expired, "dates", "expired %s", day(k.c.NotAfter))
	case k.now.Before(k.c.NotBefore):
		return k.fail(NotYetValid, "dates", "valid only from %s", day(k.c.NotBefore))
	}
	return k.ok("dates", "valid from %s to %s", day(k.c.NotBefore), day(k.c.NotAfter))
}

func (k *check) usage() bool {
	if err := checkUsage(k.c, k.p); err != nil {
		return k.fail(KeyUsage, "usage", "%v", err)
	}
	return k.ok("usage", "the certificate is meant for %s of mail", k.p)
}

// revocation looks every certificate of the path up but the anchor's.
func (k *check) revocation() bool {
	k.v.lists.refresh()
	var known []string
	for i, c := range k.r.Path[:len(k.r.Path)-1] {
		issuer := k.r.Path[i+1]
		a := k.v.lists.lookup(c, issuer, k.now, k.v.o.MaxCRLAge)
		switch {
		case a.revoked:
			return k.fail(Revoked, "revocation", "%s: revoked %s by %s", nameOf(c), day(a.at), nameOf(issuer))
		case a.problem != "":
			return k.fail(Stale, "revocation", "%s: %s", nameOf(c), a.problem)
		case a.unknown && k.v.o.RequireCRL:
			return k.fail(Stale, "revocation", "%s: no revocation list of %s is configured", nameOf(c), nameOf(issuer))
		case a.unknown:
			known = append(known, fmt.Sprintf("%s: nothing is known, no list of %s is configured", nameOf(c), nameOf(issuer)))
		default:
			known = append(known, fmt.Sprintf("%s: not in the list of %s of %s", nameOf(c), nameOf(issuer), a.at.UTC().Format(time.RFC3339)))
		}
	}
	if len(known) == 0 {
		known = append(known, "an anchor cannot be revoked")
	}
	return k.ok("revocation", "%s", strings.Join(known, "; "))
}

func nameOf(c *x509.Certificate) string {
	switch {
	case c.Subject.CommonName != "":
		return c.Subject.CommonName
	case len(c.Subject.Names) > 0:
		return c.Subject.String()
	case len(c.EmailAddresses) > 0:
		return c.EmailAddresses[0]
	}
	return "serial " + c.SerialNumber.Text(16)
}

func day(t time.Time) string { return t.UTC().Format(time.DateOnly) }

// oneLine keeps names chosen by strangers from breaking a log line.
func oneLine(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < 0x20 || r == 0x7f || r >= 0x80 && r < 0xa0 || r == 0x2028 || r == 0x2029 {
			return ' '
		}
		return r
	}, s)
	const most = 1000
	if len(s) > most {
		s = strings.ToValidUTF8(s[:most], "") + "..."
	}
	return s
}
