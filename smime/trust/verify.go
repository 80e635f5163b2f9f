package trust

import (
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"
)

// Verifier checks certificates. It may be used by several goroutines at once.
type Verifier struct {
	o             Options
	anchors       *x509.CertPool
	intermediates *x509.CertPool
	lists         *lists
}

// maxExtra bounds the certificates taken from a message into path building.
const maxExtra = 32

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
	v := &Verifier{o: o, anchors: x509.NewCertPool(), intermediates: x509.NewCertPool()}
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
// Stale. The first step that fails ends the check.
func (v *Verifier) Check(c *x509.Certificate, p Purpose, b Binding, extra ...*x509.Certificate) Result {
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

// path finds a path to an anchor. Name constraints, path lengths, extended key usage
// nesting and unknown critical extensions are judged by crypto/x509 on the way.
func (k *check) path() bool {
	pool := k.v.intermediates
	if len(k.extra) > 0 {
		pool = pool.Clone()
		for _, c := range k.extra[:min(len(k.extra), maxExtra)] {
			// Keys are looked at before any signature is checked with them.
			if checkKey(c, k.v.o.MinRSABits) == nil {
				pool.AddCert(c)
			}
		}
	}
	chains, err := k.c.Verify(x509.VerifyOptions{
		Roots: k.v.anchors, Intermediates: pool, CurrentTime: k.now,
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageEmailProtection},
	})
	if err != nil {
		return k.noPath(err)
	}
	chains = slices.DeleteFunc(chains, func(chain []*x509.Certificate) bool {
		return slices.ContainsFunc(chain, func(c *x509.Certificate) bool { return checkKey(c, k.v.o.MinRSABits) != nil })
	})
	if len(chains) == 0 {
		return k.fail(Untrusted, "path", "an authority in the path has a weak key")
	}
	k.r.Path = slices.MinFunc(chains, func(a, b []*x509.Certificate) int { return len(a) - len(b) })
	names := make([]string, 0, len(k.r.Path))
	for _, c := range k.r.Path[1:] {
		names = append(names, nameOf(c))
	}
	if len(names) == 0 {
		return k.ok("path", "the certificate is itself an anchor")
	}
	return k.ok("path", "issued by %s", strings.Join(names, ", under "))
}

func (k *check) noPath(err error) bool {
	var invalid x509.CertificateInvalidError
	if errors.As(err, &invalid) && invalid.Reason == x509.IncompatibleUsage {
		return k.fail(KeyUsage, "path", "the extended key usage does not allow mail: %v", err)
	}
	return k.fail(Untrusted, "path", "no path to a trusted authority: %v", err)
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
