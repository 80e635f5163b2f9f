package smime

import (
	"bytes"
	"strings"
	"testing"

	"cmmpd/internal/mail"
	"cmmpd/internal/message"
	"cmmpd/smime/cms"
)

// signs gives the world's gateway the own key of somebody.
func (w *world) signs(names ...string) {
	w.gw.o.Own = func(a mail.Address) (cms.SignerSpec, bool) {
		for _, n := range names {
			if p := w.people[n]; p.Address.Equal(a) {
				return cms.SignerSpec{Cert: p.Cert, Key: p.Key}, true
			}
		}
		return cms.SignerSpec{}, false
	}
}

// openSSLReads is the content of a signed message that OpenSSL verifies.
func (w *world) openSSLReads(raw []byte) string {
	w.t.Helper()
	out, err := w.openssl("cms", "-verify", "-in", w.write("signed.eml", raw), "-CAfile", "ca.pem", "-purpose", "any")
	w.must(err)
	return string(out)
}

// flat is what a message says: its text parts decoded, and the decoded bytes of all others.
func flat(raw []byte, p *message.Part) string {
	if len(p.Children) > 0 {
		var b strings.Builder
		for _, c := range p.Children {
			b.WriteString("[" + flat(raw, c) + "]")
		}
		return b.String()
	}
	b, err := message.DecodeTransfer(raw[p.BodyStart:p.BodyEnd], p.Encoding)
	if err != nil {
		return err.Error()
	}
	return p.Type + "/" + p.Subtype + ":" + strings.ReplaceAll(string(b), "\r\n", "\n")
}

// TestSign signs messages of every kind of content. What is signed is in 7 bits, says what the author wrote, and is verified by
// us and by OpenSSL; as it is, with line feeds alone, and after a gateway has taken blanks off.
func TestSign(t *testing.T) {
	w := newWorld(t)
	w.signs("carol")
	const fields = "Received: by x; y\nFrom: Carol <carol@health.gov.example>\nTo: bob@works.gov.example\nSubject: =?utf-8?b?6aCQ566X?=\nMessage-ID: <1@x>\n"
	multipart := func(parts ...string) string {
		s := "Content-Type: multipart/mixed; boundary=\"b b\"\n\npreamble\n"
		for _, p := range parts {
			s += "--b b\n" + p + "\n"
		}
		return s + "--b b--\nepilogue\n"
	}
	const long = "0123456789"
	for name, c := range map[string]struct {
		body   string
		opaque bool
	}{
		"plain":                   {"\nhello\n", false},
		"no content type, no end": {"\nhello", false},
		"empty":                   {"\n", false},
		"8-bit text":              {"Content-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: 8bit\n\n預算 = 1 \n.\n", false},
		"8-bit text, not said":    {"Content-Type: text/plain; charset=big5\n\n\xb9w\xba\xe2\n", false},
		"a long line":             {"\n" + strings.Repeat(long, 200) + "\n", false},
		"quoted-printable":        {"Content-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: quoted-printable\n\n=E9=A0=90\n", false},
		"binary":                  {"Content-Type: application/octet-stream\nContent-Transfer-Encoding: binary\n\n\x00\x01\xff\n\n", false},
		"8-bit html":              {"Content-Type: text/html; charset=utf-8\nContent-Transfer-Encoding: 8bit\n\n<p>預算</p>\n", false},
		"8-bit parts": {multipart("Content-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: 8bit\n\n預算\n", "\nwithout header\n", "Content-Type: text/plain\n\n",
			"Content-Type: application/pdf\nContent-Transfer-Encoding: base64\n\naGVsbG8=\n", "Content-Type: multipart/alternative; boundary=c\nContent-Transfer-Encoding: 8bit\n\n--c\n\na\n--c\nContent-Type: text/html\n\n\xe9\n--c--"), false},
		"a forwarded 8-bit message": {multipart("Content-Type: message/rfc822\nContent-Transfer-Encoding: 8bit\n\nFrom: a@b.example\nSubject: x\nContent-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: 8bit\n\n預算\n"), false},
		"7-bit parts":               {multipart("\na\n", "Content-Type: text/html\n\nb\n"), false},
		"an unclosed multipart":     {"Content-Type: multipart/mixed; boundary=c\n\n--c\n\n\xe9\n", false},
		"8-bit preamble":            {strings.Replace(multipart("\na\n"), "preamble", "pr\xe9amble", 1), true},
		"raw 8-bit file name":       {multipart("Content-Type: text/plain; name=\"預算.txt\"\n\na\n"), true},
		"wrong base64":              {"Content-Type: text/plain\nContent-Transfer-Encoding: base64\n\n\xe9\xe9\n", true},
		"somebody's signature":      {multipart("Content-Type: multipart/signed; protocol=\"application/pgp-signature\"; boundary=d\n\n--d\n\n\xe9\n--d\nContent-Type: application/pgp-signature\n\nx\n--d--"), true},
	} {
		for _, lf := range []bool{false, true} {
			raw := fields + c.body
			if !lf {
				raw = strings.ReplaceAll(raw, "\n", "\r\n")
			}
			signed, err := w.gw.Sign([]byte(raw), parse([]byte(raw)), SignOptions{Author: mail.MustParseAddress("carol@health.gov.example"), Own: true})
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if !sevenBit(signed) || bytes.Count(signed, []byte("\n")) != bytes.Count(signed, []byte("\r\n")) {
				t.Errorf("%s: not in 7 bits: %q", name, signed)
			}
			x := parse(signed)
			if (x.Root.Type == "application") != c.opaque {
				t.Errorf("%s: %s/%s", name, x.Root.Type, x.Root.Subtype)
			}
			relayed := bytes.ReplaceAll(signed, []byte("\r\n"), []byte("\n"))
			for _, m := range [][]byte{signed, relayed} {
				if r := w.gw.Verify(m, parse(m)); r.Status != Pass || r.Domain {
					t.Errorf("%s: %v %q", name, r.Status, r.Reason)
				}
			}
			inner := w.openSSLReads(signed)
			want := parse([]byte(raw)).Root
			if got := parse([]byte(inner)); flat([]byte(inner), got.Root) != flat([]byte(raw), want) {
				t.Errorf("%s: it says %q, not %q", name, flat([]byte(inner), got.Root), flat([]byte(raw), want))
			} else if e := got.Root.Envelope; e.Subject != "=?utf-8?b?6aCQ566X?=" || e.MessageID != "<1@x>" || strings.ToLower(got.Root.Param("hp")) != "clear" {
				t.Errorf("%s: the header is not signed: %+v", name, e)
			}
			if h := message.ParseHeader(signed, message.Limits{}); len(h.All("Subject")) != 1 || len(h.All("Received")) != 1 || len(h.All("Content-Type")) != 1 {
				t.Errorf("%s: header %q", name, signed[:h.Len()])
			}
		}
	}
}

// TestSignedByWhom: a department's signature is named so, and a key that does not hold signs nothing.
func TestSignedByWhom(t *testing.T) {
	w := newWorld(t)
	alice := mail.MustParseAddress("alice@works.gov.example")
	raw := []byte("From: alice@works.gov.example\r\nSubject: x\r\n\r\nhello\r\n")
	sign := func(raw []byte, o SignOptions) ([]byte, error) { return w.gw.Sign(raw, parse(raw), o) }
	signed, err := sign(raw, SignOptions{Author: alice})
	w.must(err)
	if r := w.gw.Verify(signed, parse(signed)); r.Status != Pass || !r.Domain || !strings.Contains(r.Reason, "by the domain works.gov.example, not by the author") {
		t.Errorf("%+v", r)
	}
	if _, err := sign(raw, SignOptions{Author: alice, Own: true}); mail.KindOf(err) != mail.Internal || mail.PublicOf(err) != "" {
		t.Errorf("without a key: %v", err)
	}
	w.signs("alice", "frank", "grace", "erin")
	signed, err = sign(raw, SignOptions{Author: alice, Own: true, Label: &cms.SecurityLabel{Policy: "1.2.3", Classification: 3}})
	w.must(err)
	if r := w.gw.Verify(signed, parse(signed)); r.Status != Pass || r.Domain || r.Reason != "signed by the author" || !w.gw.HasOwn(alice) {
		t.Errorf("%+v", r)
	}
	for _, name := range []string{"frank", "grace", "erin"} { // expired, revoked, without the address
		p := w.people[name]
		m := bytes.ReplaceAll(raw, []byte("alice@works.gov.example"), []byte(p.Address.String()))
		if _, err := sign(m, SignOptions{Author: p.Address, Own: true}); mail.KindOf(err) != mail.Internal {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := sign(raw, SignOptions{Author: mail.MustParseAddress("carol@health.gov.example")}); mail.KindOf(err) != mail.Internal {
		t.Errorf("a domain without an authority: %v", err)
	}
	for _, kept := range [][]byte{signed, []byte("From: alice@works.gov.example\r\nContent-Type: multipart/report; boundary=b\r\n\r\n--b\r\n\r\nread\r\n--b--\r\n")} {
		if got, err := sign(kept, SignOptions{Author: alice}); err != nil || !bytes.Equal(got, kept) {
			t.Errorf("%v: %q", err, got)
		}
	}
	// Within what is sealed, too.
	x := parse(raw)
	for _, own := range []bool{true, false} {
		sealed, err := w.gw.Seal(raw, x, SealOptions{Sender: alice, Own: own, Recipients: w.usable("alice")})
		w.must(err)
		if o := w.open(sealed, "alice"); o.Signature.Status != Pass || o.Signature.Domain == own {
			t.Errorf("own %v: %+v", own, o.Signature)
		}
	}
}

func FuzzSign(f *testing.F) {
	w := newSmallWorld(f)
	w.signs("carol")
	f.Add([]byte("From: carol@health.gov.example\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\n\xe9\r\n--b\r\nContent-Type: message/rfc822\r\n\r\nSubject: x\r\n\r\n\xff\r\n--b--\r\n"))
	f.Add([]byte("Content-Type: text/plain\nContent-Transfer-Encoding: binary\n\n\x00\r\n"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		raw = append([]byte("From: carol@health.gov.example\r\n"), bytes.TrimLeft(raw, " \t")...)
		x := parse(raw)
		signed, err := w.gw.Sign(raw, x, SignOptions{Author: mail.MustParseAddress("carol@health.gov.example"), Own: true})
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Equal(signed, raw) {
			return
		}
		y := parse(signed)
		r := w.gw.Verify(signed, y)
		if r.Status != Pass && x.Defects&message.SeveralFrom == 0 && r.Reason != notOneAuthor {
			t.Fatalf("%q becomes %q: %v %q", raw, signed, r.Status, r.Reason)
		}
		if !sevenBit(signed[y.Root.BodyStart:]) {
			t.Fatalf("%q becomes %q", raw, signed)
		}
	})
}
