package trust

import (
	"context"
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
	anchors       pool
	intermediates pool
	lists         *lists
	paths         *paths
	names         names
	answers       *answers
	remote        *remote // nil: nothing is fetched
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
	v := &Verifier{o: o, anchors: pool{}, intermediates: pool{}, paths: newPaths(), answers: &answers{}}
	for _, c := range o.Anchors {
		if err := checkKey(c, o.MinRSABits); err != nil {
			return nil, fmt.Errorf("trust anchor %q: %w", nameOf(c), err)
		}
		v.anchors.add(c)
	}
	for _, list := range o.Policies {
		for _, s := range list {
			if err := CheckPolicy(s); err != nil {
				return nil, err
			}
		}
	}
	for _, c := range o.Intermediates {
		v.intermediates.add(c)
	}
	v.remote = newRemote(&v.o, v.answers)
	var err error
	v.lists, err = openLists(o.CRLs, o.CRLLook, o.Log, v.answers)
	return v, err
}

// Check asks the common question: hard about revocation.
func (v *Verifier) Check(c *x509.Certificate, p Purpose, b Binding, extra ...*x509.Certificate) Result {
	return v.Ask(c, Query{Purpose: p, Binding: b, Extra: extra})
}

// Ask says whether c may be used as q demands. The first step that fails ends the
// check. A nil Verifier trusts nobody.
//
// Not used: delta revocation lists, but for the revocations that they name.
func (v *Verifier) Ask(c *x509.Certificate, q Query) Result {
	if v == nil {
		return Result{Failure: Untrusted, Steps: []Step{{Name: "path", Detail: "no authority is trusted here"}}}
	}
	k := &check{v: v, c: c, q: q, now: v.o.Now()}
	v.lists.refresh()
	var room [questionRoom]byte
	question, state := k.question(room[:0]), v.answers.state.Load()
	if question != nil {
		if r, ok := v.answers.get(question, k.now); ok {
			return r
		}
	}
	defer func() {
		if k.cancel != nil {
			k.cancel()
		}
	}()
	for _, step := range []func() bool{k.key, k.dates, k.usage, k.path, k.revocation, k.binding} {
		if !step() {
			return k.r
		}
	}
	k.r.Usable = true
	k.remember(question, state)
	return k.r
}

// check is one question being answered.
type check struct {
	v   *Verifier
	c   *x509.Certificate
	q   Query
	now time.Time
	r   Result

	policy   policyInput // where the anchor has none
	b        *builder
	paths    []validPath
	vouching []*x509.Certificate // signers of lists whose own revocation is being looked up
	fleeting bool                // the answer depends on what answers does not watch
	till     time.Time           // up to when it is the same

	ctx         context.Context // for what is fetched, see context
	cancel      context.CancelFunc
	fetchedFrom []string // addresses of issuers' certificates
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
	if err := checkUsage(k.c, k.q.Purpose); err != nil {
		return k.fail(KeyUsage, "usage", "%v", err)
	}
	return k.ok("usage", "the certificate is meant for %s of mail", k.q.Purpose)
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
	const most = 1000
	if len(s) <= most && plainASCII(s) {
		return s
	}
	s = strings.Map(func(r rune) rune {
		if r < 0x20 || r == 0x7f || r >= 0x80 && r < 0xa0 || r == 0x2028 || r == 0x2029 {
			return ' '
		}
		return r
	}, s)
	if len(s) > most {
		s = strings.ToValidUTF8(s[:most], "") + "..."
	}
	return s
}

func plainASCII(s string) bool {
	for i := range len(s) {
		if s[i] < 0x20 || s[i] >= 0x7f {
			return false
		}
	}
	return true
}
