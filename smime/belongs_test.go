package smime

import (
	"bytes"
	"crypto/x509"
	"log/slog"
	"strings"
	"testing"

	"cmmpd/internal/demopki"
	"cmmpd/internal/mail"
	"cmmpd/smime/cms"
)

// A certificate without an address in a userSMIMECertificate is the entry's owner's only by a good signature: of its own, or of
// one that may sign for the owner.
func TestWhoseStatement(t *testing.T) {
	w := newWorld(t)
	erin, bob := w.people["erin"], w.people["bob"] // erin's certificate names no address
	mallory, err := w.sub.Issue(demopki.Spec{CN: "Mallory", Key: demopki.P256})
	w.must(err)
	signing, err := w.sub.Issue(demopki.Spec{CN: "Erin", Address: "erin@health.gov.example", Usage: x509.KeyUsageDigitalSignature})
	w.must(err)
	namelessSigning, err := w.sub.Issue(demopki.Spec{CN: "Erin", Usage: x509.KeyUsageDigitalSignature})
	w.must(err)
	broken := w.statement(erin.Identity, nil, nil)
	broken[len(broken)-1] ^= 1
	for name, c := range map[string]struct {
		value []byte
		entry [][]byte // userCertificate
		good  bool
	}{
		"signed by itself":                        {w.statement(erin.Identity, nil, nil), nil, true},
		"signed by a key that names the owner":    {w.statement(signing, nil, nil, erin.Cert), nil, true},
		"signed by a key of the entry":            {w.statement(namelessSigning, nil, nil, erin.Cert), [][]byte{namelessSigning.Cert.Raw}, true},
		"signed by a nameless key":                {w.statement(namelessSigning, nil, nil, erin.Cert), nil, false},
		"mallory put hers beside":                 {w.statement(mallory, nil, nil, erin.Cert), [][]byte{signing.Cert.Raw}, false},
		"signed by somebody else":                 {w.statement(bob.Identity, nil, nil, erin.Cert), nil, false},
		"a signature that is not good":            {broken, nil, false},
		"not good, but in userCertificate itself": {broken, [][]byte{erin.Cert.Raw}, true},
	} {
		var log bytes.Buffer
		w.gw.o.Log = slog.New(slog.NewTextHandler(&log, nil))
		who := erin.Candidate
		who.Certificates, who.SMIME = c.entry, [][]byte{c.value}
		found := false
		for _, cert := range w.gw.certificates(who) {
			found = found || cert.Equal(erin.Cert)
		}
		if found != c.good || c.good == strings.Contains(log.String(), "does not count") {
			t.Errorf("%s: found %v; %s", name, found, log.String())
		}
	}
	// What is signed by somebody says nothing of what a program reads, either.
	who := erin.Candidate
	who.SMIME = [][]byte{w.statement(namelessSigning, nil, cms.Capabilities(), erin.Cert)}
	if u, err := w.gw.Choose(who); err != nil || u.GCM {
		t.Errorf("%+v %v", u, err)
	}
}

// A pin counts for a person under whatever address of theirs it was laid down, and mail to another.
func TestPinByAlias(t *testing.T) {
	w := newWorld(t)
	pinned, err := w.sub.Issue(demopki.Spec{CN: "Dave", Address: "dave@health.gov.example"})
	w.must(err)
	other, err := w.sub.Issue(demopki.Spec{CN: "Dave, nameless"})
	w.must(err)
	pins := map[string][]*x509.Certificate{}
	g := New(Options{Trust: w.gw.o.Trust, Pinned: func(a mail.Address) []*x509.Certificate { return pins[a.Key()] }})
	dave := Candidate{Address: mail.MustParseAddress("dave@health.gov.example"), Aliases: []mail.Address{mail.MustParseAddress("D.Smith@health.gov.example")}, FromDirectory: true}
	if _, err := g.Choose(dave); mail.KindOf(err) != mail.Refused {
		t.Errorf("%v", err)
	}
	pins["d.smith@health.gov.example"] = []*x509.Certificate{pinned.Cert}
	if u, err := g.Choose(dave); err != nil || !u.Cert.Equal(pinned.Cert) || u.Source != FromPin {
		t.Errorf("%+v, %v", u, err)
	}
	pins["dave@health.gov.example"] = []*x509.Certificate{other.Cert, pinned.Cert}
	if got := g.pins(dave); len(got) != 2 {
		t.Errorf("%d pins", len(got))
	}
	if len(pins["dave@health.gov.example"]) != 2 || !pins["dave@health.gov.example"][0].Equal(other.Cert) {
		t.Error("the pins were changed")
	}
}
