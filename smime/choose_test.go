package smime

import (
	"strings"
	"testing"
	"time"

	"cmmpd/internal/demopki"
	"cmmpd/internal/mail"
	"cmmpd/smime/cms"
)

func TestChoose(t *testing.T) {
	w := newWorld(t)
	for name, want := range map[string]cms.KeyTransport{"alice": cms.OAEPSHA256, "bob": cms.PKCS1v15, "carol": cms.OAEPSHA256, "erin": cms.OAEPSHA256} {
		u, err := w.gw.Choose(w.people[name].Candidate)
		if err != nil || !u.Cert.Equal(w.people[name].Cert) || u.Transport != want {
			t.Errorf("%s: %v, transport %v", name, err, u.Transport)
		}
	}
	for name, want := range map[string]string{
		"dave":  "dave@health.gov.example has no certificate",
		"frank": "the certificate of frank@works.gov.example has expired",
		"grace": "the certificate of grace@works.gov.example has been revoked",
	} {
		_, err := w.gw.Choose(w.people[name].Candidate)
		if mail.KindOf(err) != mail.Refused || mail.PublicOf(err) != want {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestChooseAmongSeveral(t *testing.T) {
	w := newWorld(t)
	const addr = "heidi@works.gov.example"
	now := time.Now()
	issue := func(s demopki.Spec) []byte {
		s.CN = "Heidi"
		if s.Address == "" {
			s.Address = addr
		}
		id, err := w.sub.Issue(s)
		w.must(err)
		return id.Cert.Raw
	}
	older := issue(demopki.Spec{NotBefore: now.Add(-2 * time.Hour)})
	newer := issue(demopki.Spec{NotBefore: now.Add(-time.Hour)})
	future := issue(demopki.Spec{NotBefore: now.Add(time.Hour)})
	expired := issue(demopki.Spec{NotBefore: now.Add(-2 * time.Hour), NotAfter: now.Add(-time.Hour)})
	signing := issue(demopki.Spec{Usage: 1})
	anothers := issue(demopki.Spec{Address: "bob@works.gov.example"})
	weak := issue(demopki.Spec{Key: demopki.RSA1024})
	rubbish := []byte("rubbish")
	twin, err := demopki.NewCA("Root", nil)
	w.must(err)
	foreign, err := twin.Issue(demopki.Spec{CN: "Heidi", Address: addr})
	w.must(err)
	for name, c := range map[string]struct {
		certs [][]byte
		want  []byte
		text  string
	}{
		"newest":          {[][]byte{older, newer, future, rubbish}, newer, ""},
		"usable":          {[][]byte{signing, older, expired}, older, ""},
		"dual keys":       {[][]byte{signing, expired}, nil, "the certificate of heidi@works.gov.example has expired"},
		"signing":         {[][]byte{signing}, nil, "heidi@works.gov.example has no certificate for encryption"},
		"not yet":         {[][]byte{future}, nil, "the certificate of heidi@works.gov.example is not valid yet"},
		"another's":       {[][]byte{anothers}, nil, "the certificate of heidi@works.gov.example belongs to another address"},
		"weak":            {[][]byte{weak}, nil, "the key in the certificate of heidi@works.gov.example is not strong enough"},
		"rubbish":         {[][]byte{rubbish}, nil, "the certificate of heidi@works.gov.example cannot be read"},
		"attacker's CA":   {[][]byte{foreign.Cert.Raw}, nil, "the certificate of heidi@works.gov.example is not from a trusted authority"},
		"nothing":         {nil, nil, "heidi@works.gov.example has no certificate"},
		"many, then good": {append(make([][]byte, maxCertificates), older), nil, "cannot be read"},
	} {
		u, err := w.gw.Choose(Candidate{Address: mail.MustParseAddress(addr), Certificates: c.certs, FromDirectory: true})
		switch {
		case c.want != nil && (err != nil || string(u.Cert.Raw) != string(c.want)):
			t.Errorf("%s: %v", name, err)
		case c.want == nil && (mail.KindOf(err) != mail.Refused || !strings.Contains(mail.PublicOf(err), c.text)):
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestChooseStale(t *testing.T) {
	w := newWorld(t)
	w.publish(-time.Second)
	_, err := w.gw.Choose(w.people["alice"].Candidate)
	if mail.KindOf(err) != mail.Unavailable || !mail.KindOf(err).Temporary() {
		t.Errorf("with revocation lists of yesterday: %v", err)
	}
	if _, err := w.gw.Choose(w.people["grace"].Candidate); mail.KindOf(err) != mail.Refused {
		t.Errorf("an old list still proves a revocation: %v", err)
	}
}

func TestShowIsASCII(t *testing.T) {
	if s := show(mail.MustParseAddress("陳@例子.example")); s != `\x{9673}@\x{4F8B}\x{5B50}.example` {
		t.Error(s)
	}
}
