package smime

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"log/slog"
	"strings"
	"testing"

	"cmmpd/internal/demopki"
	"cmmpd/internal/mail"
	"cmmpd/internal/message"
	"cmmpd/smime/cms"
	"cmmpd/smime/seen"
)

// A certificate from signed mail is remembered, and tells why a stranger cannot be sealed
// to; it becomes usable only when somebody else vouches for it.
func TestCertificatesFromSignedMail(t *testing.T) {
	w := newSmallWorld(t)
	book, err := seen.Open(t.TempDir(), bytes.Repeat([]byte{1}, 32), true, slog.New(slog.DiscardHandler))
	w.must(err)
	const eve = "eve@partner.example"
	signer, err := w.sub.Issue(demopki.Spec{CN: "Eve", Address: eve})
	w.must(err)
	other, err := w.sub.Issue(demopki.Spec{CN: "Eve", Address: eve})
	w.must(err)
	g := New(Options{Trust: w.gw.o.Trust, Book: book})
	who := Candidate{Address: mail.MustParseAddress(eve)}
	refused := func(want string) {
		t.Helper()
		if _, err := g.Choose(who); mail.KindOf(err) != mail.Refused || !strings.Contains(mail.PublicOf(err), want) {
			t.Errorf("%v", err)
		}
	}
	refused("has no certificate")
	send := func(from string) SignatureResult {
		t.Helper()
		der, err := cms.Sign(rand.Reader, false, []cms.SignerSpec{{Cert: signer.Cert, Key: signer.Key}},
			cms.SignOptions{Certificates: append(signer.Chain, other.Cert)}, []byte("Content-Type: text/plain\r\n\r\nhello\r\n"))
		w.must(err)
		raw := []byte("From: " + from + "\r\nContent-Type: application/pkcs7-mime; smime-type=signed-data\r\nContent-Transfer-Encoding: base64\r\n\r\n" +
			base64.StdEncoding.EncodeToString(der) + "\r\n")
		return g.Verify(raw, message.Parse(raw, message.Limits{}))
	}
	if r := send("mallory@partner.example"); r.Status == Pass {
		t.Fatalf("%+v", r)
	}
	refused("has no certificate")
	if r := send(eve); r.Status != Pass {
		t.Fatalf("%+v", r)
	}
	refused("nobody else has confirmed it")
	if ders, err := book.Of(who.Address); err != nil || len(ders) != 2 { // the authority's is not hers
		t.Errorf("%d, %v", len(ders), err)
	}
	who.Certificates = [][]byte{signer.Cert.Raw}
	if u, err := g.Choose(who); err != nil || u.Source != FromDirectory {
		t.Errorf("%+v %v", u, err)
	}
}
