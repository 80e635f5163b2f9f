package smime

import (
	"bytes"
	"crypto/x509"
	"fmt"
	"slices"
	"strings"

	"cmmpd/internal/mail"
	"cmmpd/smime/cms"
	"cmmpd/smime/trust"
)

// maxCertificates bounds how many certificates of one person are looked at.
const maxCertificates = 64

// judged is one certificate of a candidate with what trust says about it.
type judged struct {
	cert   *x509.Certificate // nil: not readable, or err
	source string
	err    error // the source could not be asked
	alone  bool  // good, but from signed mail alone
	result trust.Result
}

// certificates are those of c, each once, maxCertificates at most; nil stands for one that cannot be read.
func (g *Gateway) certificates(c Candidate) []*x509.Certificate {
	var out []*x509.Certificate
	for _, der := range c.Certificates[:min(len(c.Certificates), maxCertificates)] {
		cert, err := g.parsed.certificate(der)
		if err != nil {
			g.o.Log.Warn("a certificate of the directory cannot be read", "address", c.Address.String(), "error", err)
			cert = nil
		}
		out = append(out, cert)
	}
	for _, s := range g.statements(c) {
		for _, cert := range s.Certificates {
			if authority(cert) || len(out) >= maxCertificates || slices.ContainsFunc(out, cert.Equal) {
				continue
			}
			if err := g.belongs(c, s, cert); err != nil {
				g.o.Log.Warn("a certificate without an address in a userSMIMECertificate does not count", "address", c.Address.String(), "error", err)
				continue
			}
			out = append(out, cert)
		}
	}
	return out
}

// belongs says whether a certificate in a userSMIMECertificate may be c's. One that names addresses is judged by them. One
// that names none would be theirs for standing in their entry; but the value is their program's word, and may hold anybody's.
// So its signature must be good, and made with that certificate or with one that may sign for c.
func (g *Gateway) belongs(c Candidate, s *cms.Signed, cert *x509.Certificate) error {
	if len(trust.Addresses(cert)) > 0 {
		return nil
	}
	r, err := signerOf(s)
	if err != nil || r.Cert.Equal(cert) {
		return err
	}
	return g.maySpeak(c, s, r.Cert)
}

// maySpeak says whether by, which signed s, may sign for c: it names an address of theirs, or stands among the certificates of
// their entry.
func (g *Gateway) maySpeak(c Candidate, s *cms.Signed, by *x509.Certificate) error {
	b := c.binding()
	b.Directory = b.Directory && slices.ContainsFunc(c.Certificates, func(der []byte) bool { return bytes.Equal(der, by.Raw) })
	if t := g.o.Trust.Check(by, trust.Sign, b, s.Certificates...); !t.Usable {
		return lastStep(t)
	}
	return nil
}

// authority says whether c is one of the certificates above a person's.
func authority(c *x509.Certificate) bool { return c.IsCA || bytes.Equal(c.RawSubject, c.RawIssuer) }

func (c Candidate) binding() trust.Binding {
	return trust.Binding{Address: c.Address, Aliases: c.Aliases, Directory: c.FromDirectory}
}

// Choose picks the certificate to encrypt to: of the usable ones the newest. The
// error is of kind Refused, with a sentence that names the address and the most
// telling reason; or Unavailable, where our revocation data is too old to decide.
func (g *Gateway) Choose(c Candidate) (Usable, error) {
	all := g.find(c)
	var best *judged
	for i, j := range all {
		if j.result.Usable && (best == nil || newer(j.cert, best.cert)) {
			best = &all[i]
		}
	}
	if best == nil {
		return Usable{}, unusable(c.Address, all)
	}
	u := Usable{Candidate: c, Cert: best.cert, Fingerprint: g.parsed.fingerprint(best.cert), Source: best.source, Evidence: best.result.Evidence}
	u.GCM, u.Transport = g.reads(c, best.cert)
	return u, nil
}

func newer(a, b *x509.Certificate) bool {
	if !a.NotBefore.Equal(b.NotBefore) {
		return a.NotBefore.After(b.NotBefore)
	}
	return a.NotAfter.After(b.NotAfter)
}

// telling orders the failures: what may pass by itself first, then what says most to
// the sender. A signing certificate beside an expired one for encryption is not the reason.
var telling = []trust.Failure{
	trust.Stale, trust.Revoked, trust.Expired, trust.NotYetValid, trust.WeakKey, trust.WrongAddress, trust.Untrusted, trust.KeyUsage,
}

// unusable is the error for a person none of whose certificates can be used.
func unusable(a mail.Address, all []judged) error {
	if len(all) == 0 {
		return mail.E(mail.Refused, show(a)+" has no certificate", nil)
	}
	for _, j := range all {
		if j.err != nil {
			return mail.E(mail.Unavailable, "it cannot be found out now whether "+show(a)+" has a certificate", fmt.Errorf("%s: %w", j.source, j.err))
		}
	}
	for _, f := range telling {
		for _, j := range all {
			if j.cert != nil && j.result.Failure == f {
				kind := mail.Refused
				if f.Temporary() {
					kind = mail.Unavailable
				}
				return mail.E(kind, fmt.Sprintf(sentences[f], show(a)), lastStep(j.result))
			}
		}
	}
	if slices.ContainsFunc(all, func(j judged) bool { return j.alone }) {
		return mail.E(mail.Refused, "the only certificate of "+show(a)+" came with their mail, and nobody else has confirmed it", nil)
	}
	return mail.E(mail.Refused, "the certificate of "+show(a)+" cannot be read", nil)
}

var sentences = map[trust.Failure]string{
	trust.Stale:        "it cannot be found out now whether the certificate of %s has been revoked",
	trust.Revoked:      "the certificate of %s has been revoked",
	trust.Expired:      "the certificate of %s has expired",
	trust.NotYetValid:  "the certificate of %s is not valid yet",
	trust.WeakKey:      "the key in the certificate of %s is not strong enough",
	trust.WrongAddress: "the certificate of %s belongs to another address",
	trust.Untrusted:    "the certificate of %s is not from a trusted authority",
	trust.KeyUsage:     "%s has no certificate for encryption",
}

// lastStep is the step that failed, as a cause for the log.
func lastStep(r trust.Result) error {
	if len(r.Steps) == 0 {
		return nil
	}
	s := r.Steps[len(r.Steps)-1]
	return fmt.Errorf("%s: %s", s.Name, s.Detail)
}

// Show is an address as a sentence in ASCII can carry it.
func Show(a mail.Address) string { return show(a) }

// show is an address as a sentence in ASCII can carry it; other characters are
// written as in RFC 6533, section 3.
func show(a mail.Address) string {
	if a.ASCII() {
		return a.String()
	}
	var b strings.Builder
	for _, r := range a.String() {
		if r < 0x80 {
			b.WriteRune(r)
		} else {
			fmt.Fprintf(&b, `\x{%X}`, r)
		}
	}
	return b.String()
}
