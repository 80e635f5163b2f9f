package smime

import (
	"crypto/x509"
	"slices"
	"time"

	"cmmpd/internal/mail"
	"cmmpd/smime/trust"
)

// Source knows certificates of people beyond the directory: the directory of an
// authority, for instance. Its methods may be called by several goroutines at once.
type Source interface {
	Name() string // for logs and records
	// Certificates are those published for a, in DER; none is no error. An error means
	// that it cannot say now. It must not keep anybody waiting for long.
	Certificates(a mail.Address) ([][]byte, error)
}

// The names of the sources that every gateway has.
const (
	FromDirectory = "directory"
	FromPin       = "pinned"
	FromMail      = "signed mail"
)

// Book remembers certificates of good signatures: seen.Book.
type Book interface {
	Note(a mail.Address, at time.Time, certs ...*x509.Certificate)
	Of(a mail.Address) ([][]byte, error)
}

// remember notes the certificates of an author whose signature is good: the one that
// signed, and others in the message that name them, for encryption perhaps.
func (g *Gateway) remember(author mail.Address, signer *x509.Certificate, extra []*x509.Certificate) {
	certs := []*x509.Certificate{signer}
	for _, c := range extra[:min(len(extra), maxCertificates)] {
		names := slices.ContainsFunc(trust.Addresses(c), func(a mail.Address) bool { return trust.SameMailbox(a, author) })
		if names && !authority(c) && !c.Equal(signer) {
			certs = append(certs, c)
		}
	}
	g.o.Book.Note(author, g.o.Now(), certs...)
}

// fromMail judges what was seen in signed mail, for those who have nothing else. It is
// never enough alone: whoever once got a certificate for the address could have written.
// It makes the refusal tell what is missing, and an administrator may pin it.
func (g *Gateway) fromMail(c Candidate) []judged {
	if g.o.Book == nil {
		return nil
	}
	ders, err := g.o.Book.Of(c.Address)
	if err != nil {
		g.o.Log.Error("what was seen in signed mail cannot be read", "error", err)
	}
	var certs []*x509.Certificate
	for _, der := range ders {
		if cert, err := trust.ParseCertificate(der); err == nil {
			certs = append(certs, cert)
		}
	}
	all := g.judge(c, certs, FromMail, false)
	var out []judged
	for _, j := range all {
		if j.result.Usable {
			j.result.Usable, j.alone = false, true
			out = append(out, j)
		}
	}
	return out
}

// find judges the certificates of c, from the first source that has one that may be
// used. What an administrator has pinned to an address of theirs stands above all:
// then nothing else is looked at. A certificate of the directory, or pinned, may be without an
// address; one that another source has must name it.
func (g *Gateway) find(c Candidate) []judged {
	if pins := g.pins(c); len(pins) > 0 {
		return g.judge(c, pins, FromPin, true)
	}
	all := g.judge(c, g.certificates(c), FromDirectory, c.FromDirectory)
	for _, s := range g.o.Sources {
		if anyUsable(all) {
			break
		}
		ders, err := s.Certificates(c.Address)
		if err != nil {
			all = append(all, judged{source: s.Name(), err: err})
			continue
		}
		var certs []*x509.Certificate
		for _, der := range ders[:min(len(ders), maxCertificates)] {
			if cert, err := trust.ParseCertificate(der); err == nil {
				certs = append(certs, cert)
			}
		}
		all = append(all, g.judge(c, certs, s.Name(), false)...)
	}
	if !anyUsable(all) {
		all = append(all, g.fromMail(c)...)
	}
	return all
}

// pins are the certificates laid down for any address of c.
func (g *Gateway) pins(c Candidate) []*x509.Certificate {
	if g.o.Pinned == nil {
		return nil
	}
	pins := g.o.Pinned(c.Address)
	for _, a := range c.Aliases {
		for _, cert := range g.o.Pinned(a) {
			if !slices.ContainsFunc(pins, cert.Equal) {
				pins = append(slices.Clip(pins), cert)
			}
		}
	}
	return pins
}

// judge checks certificates for encryption to c. entry: they are c's even if they name no address.
func (g *Gateway) judge(c Candidate, certs []*x509.Certificate, source string, entry bool) []judged {
	q := trust.Query{Purpose: trust.Encrypt, Soft: c.Soft, Binding: trust.Binding{Address: c.Address, Aliases: c.Aliases, Directory: entry}}
	var out []judged
	for _, cert := range certs {
		j := judged{cert: cert, source: source}
		if cert != nil {
			j.result = g.o.Trust.Ask(cert, q)
		}
		out = append(out, j)
	}
	return out
}

func anyUsable(all []judged) bool {
	for _, j := range all {
		if j.result.Usable {
			return true
		}
	}
	return false
}
