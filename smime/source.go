package smime

import (
	"crypto/x509"

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
)

// find judges the certificates of c, from the first source that has one that may be
// used. What an administrator has pinned to the address stands above all: then nothing
// else is looked at. A certificate of the directory, or pinned, may be without an
// address; one that another source has must name it.
func (g *Gateway) find(c Candidate) []judged {
	if g.o.Pinned != nil {
		if pins := g.o.Pinned(c.Address); len(pins) > 0 {
			return g.judgeAll(pins, FromPin, trust.Binding{Address: c.Address, Aliases: c.Aliases, Directory: true})
		}
	}
	all := g.judgeAll(g.certificates(c), FromDirectory, c.binding())
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
		all = append(all, g.judgeAll(certs, s.Name(), trust.Binding{Address: c.Address, Aliases: c.Aliases})...)
	}
	return all
}

func (g *Gateway) judgeAll(certs []*x509.Certificate, source string, b trust.Binding) []judged {
	var out []judged
	for _, cert := range certs {
		j := judged{cert: cert, source: source}
		if cert != nil {
			j.result = g.o.Trust.Check(cert, trust.Encrypt, b)
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
