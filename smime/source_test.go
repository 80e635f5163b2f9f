package smime

import (
	"crypto/x509"
	"errors"
	"strings"
	"testing"

	"cmmpd/internal/demopki"
	"cmmpd/internal/mail"
	"cmmpd/smime/trust"
)

// published is a Source of a test.
type published struct {
	certs map[string][][]byte
	err   error
	asked int
}

func (p *published) Name() string { return "Example CA" }

func (p *published) Certificates(a mail.Address) ([][]byte, error) {
	p.asked++
	return p.certs[a.Key()], p.err
}

// Where the directory has nothing that can be used the authorities' directories are
// asked; a certificate found there must name the address. What is pinned stands above all.
func TestSourcesAndPins(t *testing.T) {
	w := newSmallWorld(t)
	issue := func(s demopki.Spec) *x509.Certificate {
		id, err := w.sub.Issue(s)
		w.must(err)
		return id.Cert
	}
	const eve = "eve@partner.example"
	named, unnamed, other := issue(demopki.Spec{CN: "Eve", Address: eve}), issue(demopki.Spec{CN: "Eve"}), issue(demopki.Spec{CN: "Eve", Address: "mallory@partner.example"})
	candidate := func(certs ...*x509.Certificate) Candidate {
		c := Candidate{Address: mail.MustParseAddress(eve), FromDirectory: true}
		for _, cert := range certs {
			c.Certificates = append(c.Certificates, cert.Raw)
		}
		return c
	}
	pins := map[string][]*x509.Certificate{}
	for name, x := range map[string]struct {
		directory []*x509.Certificate
		published []*x509.Certificate
		pinned    []*x509.Certificate
		down      bool
		cert      *x509.Certificate
		source    string
		refusal   string
		temporary bool
	}{
		"the directory has it, nobody is asked": {directory: []*x509.Certificate{unnamed}, down: true, cert: unnamed, source: FromDirectory},
		"published":                             {published: []*x509.Certificate{other, named}, cert: named, source: "Example CA"},
		"published, without an address":         {published: []*x509.Certificate{unnamed}, refusal: "belongs to another address"},
		"published, another's":                  {published: []*x509.Certificate{other}, refusal: "belongs to another address"},
		"the directory's is another's":          {directory: []*x509.Certificate{other}, published: []*x509.Certificate{named}, cert: named, source: "Example CA"},
		"nobody has one":                        {refusal: "has no certificate"},
		"it cannot be asked":                    {down: true, refusal: "cannot be found out now", temporary: true},
		"pinned":                                {directory: []*x509.Certificate{named}, pinned: []*x509.Certificate{unnamed}, down: true, cert: unnamed, source: FromPin},
		"pinned, but revoked":                   {directory: []*x509.Certificate{named}, pinned: []*x509.Certificate{w.people["grace"].Cert}, refusal: "revoked"},
		"pinned, another's":                     {directory: []*x509.Certificate{named}, pinned: []*x509.Certificate{other}, refusal: "belongs to another address"},
	} {
		t.Run(name, func(t *testing.T) {
			p := &published{certs: map[string][][]byte{}}
			for _, c := range x.published {
				p.certs[eve] = append(p.certs[eve], c.Raw, []byte("rubbish"))
			}
			if x.down {
				p.err = errors.New("down")
			}
			pins[eve] = x.pinned
			g := New(Options{Trust: w.gw.o.Trust, Sources: []Source{p}, Pinned: func(a mail.Address) []*x509.Certificate { return pins[a.Key()] }})
			u, err := g.Choose(candidate(x.directory...))
			if x.refusal != "" {
				kind := mail.Refused
				if x.temporary {
					kind = mail.Unavailable
				}
				if mail.KindOf(err) != kind || !strings.Contains(mail.PublicOf(err), x.refusal) {
					t.Errorf("%v", err)
				}
				return
			}
			if err != nil || !u.Cert.Equal(x.cert) || u.Source != x.source {
				t.Errorf("%v from %q, %v", u.Cert, u.Source, err)
			}
			if x.source != "Example CA" && p.asked > 0 {
				t.Error("it was asked for nothing")
			}
		})
	}
}

// Nothing known about revocation is enough only where the caller says so.
func TestSoftCandidates(t *testing.T) {
	w := newSmallWorld(t)
	v, err := trust.New(trust.Options{Anchors: []*x509.Certificate{w.ca.Cert}, Intermediates: []*x509.Certificate{w.sub.Cert}, RequireCRL: true})
	w.must(err)
	g := New(Options{Trust: v})
	c := w.people["carol"].Candidate
	if _, err := g.Choose(c); mail.KindOf(err) != mail.Unavailable {
		t.Errorf("hard: %v", err)
	}
	c.Soft = true
	if _, err := g.Choose(c); err != nil {
		t.Errorf("soft: %v", err)
	}
}
