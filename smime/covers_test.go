package smime

import (
	"bytes"
	"crypto/rand"
	"crypto/x509"
	"strings"
	"testing"

	"cmmpd/internal/demopki"
	"cmmpd/internal/mail"
	"cmmpd/smime/cms"
)

// encryptedTo is a message as a client encrypts it.
func encryptedTo(w *world, c cms.Cipher, certs ...*x509.Certificate) Protection {
	w.t.Helper()
	var to []cms.RecipientSpec
	for _, cert := range certs {
		to = append(to, cms.RecipientSpec{Cert: cert})
	}
	der, err := cms.Encrypt(rand.Reader, c, cms.Data, to, []byte("Content-Type: text/plain\r\n\r\nbody"))
	w.must(err)
	raw := assembled(nil, []field{{"from", []byte("From: alice@works.gov.example\r\n")}}, c, der)
	p := w.gw.Inspect(raw, parse(raw))
	if p.Kind != Encrypted {
		w.t.Fatalf("%+v", p)
	}
	return p
}

func TestCovers(t *testing.T) {
	w := newWorld(t)
	cert := func(name string) *x509.Certificate { return w.people[name].Cert }
	stranger, err := w.ca.Issue(demopki.Spec{CN: "Mallory", Address: "mallory@x.example"})
	w.must(err)
	second, err := w.sub.Issue(demopki.Spec{CN: "Carol", Address: "carol@health.gov.example"})
	w.must(err)
	carol := w.people["carol"]
	carol.Certificates = append(carol.Certificates, second.Cert.Raw)
	for name, c := range map[string]struct {
		to        []*x509.Certificate
		must, may []string
		want      string // of the refusal; empty: passes
	}{
		"exactly":                {[]*x509.Certificate{cert("alice"), cert("bob"), cert("carol"), cert("erin")}, []string{"alice", "bob", "carol", "erin"}, nil, ""},
		"any valid certificate":  {[]*x509.Certificate{cert("alice"), second.Cert}, []string{"alice", "carol"}, nil, ""},
		"both certificates":      {[]*x509.Certificate{cert("alice"), cert("carol"), second.Cert}, []string{"alice", "carol"}, nil, ""},
		"in To but not envelope": {[]*x509.Certificate{cert("alice"), cert("bob")}, []string{"alice"}, []string{"bob"}, ""},
		"may, and is not":        {[]*x509.Certificate{cert("alice")}, []string{"alice"}, []string{"bob", "dave"}, ""},
		"bob is missing":         {[]*x509.Certificate{cert("alice")}, []string{"alice", "bob"}, nil, "the message is not encrypted to bob@works.gov.example"},
		"two are missing":        {[]*x509.Certificate{cert("alice")}, []string{"alice", "bob", "carol"}, nil, "not encrypted to bob@works.gov.example; the message is not encrypted to carol@health.gov.example"},
		"dave has none":          {[]*x509.Certificate{cert("alice")}, []string{"alice", "dave"}, nil, "dave@health.gov.example has no certificate"},
		"to an expired one":      {[]*x509.Certificate{cert("alice"), cert("frank")}, []string{"alice", "frank"}, nil, "the certificate of frank@works.gov.example has expired"},
		"to a revoked one":       {[]*x509.Certificate{cert("alice"), cert("grace")}, []string{"alice", "grace"}, nil, "the certificate of grace@works.gov.example has been revoked"},
		"may be, but is revoked": {[]*x509.Certificate{cert("alice"), cert("grace")}, []string{"alice"}, []string{"grace"}, "the certificate of grace@works.gov.example has been revoked"},
		"a stranger too":         {[]*x509.Certificate{cert("alice"), stranger.Cert}, []string{"alice"}, nil, "the message is also encrypted to somebody who is not among its recipients (certificate number "},
		"erin too":               {[]*x509.Certificate{cert("alice"), cert("erin")}, []string{"alice"}, []string{"bob"}, "somebody who is not among its recipients"},
	} {
		p := encryptedTo(w, cms.AES256CBC, c.to...)
		_, err := w.gw.Covers(p, w.candidates(c.must...), w.candidates(c.may...))
		switch {
		case c.want == "" && err != nil:
			t.Errorf("%s: %v", name, err)
		case c.want != "" && (mail.KindOf(err) != mail.Refused || !strings.Contains(mail.PublicOf(err), c.want)):
			t.Errorf("%s: %v", name, err)
		}
		for _, r := range mail.PublicOf(err) {
			if r < 0x20 || r > 0x7e {
				t.Errorf("%s: the sentence holds %q", name, r)
			}
		}
	}

	if _, err := w.gw.Covers(Protection{Kind: Plain}, nil, nil); mail.KindOf(err) != mail.Refused {
		t.Errorf("plain: %v", err)
	}
	if _, err := w.gw.Covers(Protection{Kind: EncryptedBroken, Reason: "x"}, nil, nil); mail.KindOf(err) != mail.Refused {
		t.Errorf("broken: %v", err)
	}
	weak := encryptedTo(w, cms.AES128CBC, cert("alice"))
	if _, err := w.gw.Covers(weak, w.candidates("alice"), nil); !strings.Contains(mail.PublicOf(err), "AES-256") {
		t.Errorf("AES-128: %v", err)
	}
	if _, err := w.gw.CoversEach(weak, w.candidates("alice")); err != nil {
		t.Errorf("AES-128 from outside: %v", err)
	}
	inbound := encryptedTo(w, cms.AES256CBC, cert("alice"), stranger.Cert)
	if _, err := w.gw.CoversEach(inbound, w.candidates("alice")); err != nil {
		t.Errorf("others on inbound mail: %v", err)
	}
	if _, err := w.gw.CoversEach(inbound, w.candidates("alice", "bob")); mail.KindOf(err) != mail.Refused {
		t.Errorf("bob on inbound mail: %v", err)
	}

	w.publish(-1)
	if _, err := w.gw.Covers(encryptedTo(w, cms.AES256CBC, cert("alice")), w.candidates("alice"), nil); mail.KindOf(err) != mail.Unavailable {
		t.Errorf("stale: %v", err)
	}
}

func TestInspect(t *testing.T) {
	w := newWorld(t)
	der, err := cms.Encrypt(rand.Reader, cms.AES256CBC, cms.Data, []cms.RecipientSpec{{Cert: w.people["carol"].Cert}}, []byte("x"))
	w.must(err)
	spec := []cms.SignerSpec{{Cert: w.people["carol"].Cert, Key: w.people["carol"].Key}}
	opaque, err := cms.Sign(rand.Reader, false, spec, cms.SignOptions{}, []byte("x"))
	w.must(err)
	detached, err := cms.Sign(rand.Reader, true, spec, cms.SignOptions{}, []byte("x"))
	w.must(err)
	b64 := func(b []byte) string { return string(appendBase64(nil, b)) }
	inner := "Content-Type: application/pkcs7-mime\r\nContent-Transfer-Encoding: base64\r\n\r\n" + b64(der)
	triple, err := cms.Sign(rand.Reader, false, spec, cms.SignOptions{}, []byte(inner))
	w.must(err)
	wrapped := func(before, after string) string {
		return "Content-Type: multipart/signed; protocol=\"application/pkcs7-signature\"; boundary=b\r\n\r\n" + before + "--b\r\n" + inner +
			"\r\n--b\r\nContent-Type: application/pkcs7-signature\r\nContent-Transfer-Encoding: base64\r\n\r\n" + b64(detached) + "\r\n--b--\r\n" + after
	}
	const from = "From: a@b.example\r\nMIME-Version: 1.0\r\n"
	const ct, te = "Content-Type: application/pkcs7-mime; smime-type=", "\r\nContent-Transfer-Encoding: base64\r\n\r\n"
	cut := bytes.Clone(der[:len(der)-20])
	for name, c := range map[string]struct {
		raw  string
		want Kind
	}{
		"plain":                    {from + "\r\nbody", Plain},
		"enveloped":                {from + ct + "enveloped-data" + te + b64(der), Encrypted},
		"called signed":            {from + ct + "signed-data" + te + b64(der), Encrypted},
		"called nothing, old name": {from + "Content-Type: application/X-PKCS7-mime" + te + b64(der), Encrypted},
		"binary":                   {from + ct + "x\r\nContent-Transfer-Encoding: binary\r\n\r\n" + string(der), Encrypted},
		"quoted-printable":         {from + ct + "x\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n" + quotedPrintable(der), Encrypted},
		"opaque":                   {from + ct + "enveloped-data" + te + b64(opaque), SignedOnly},
		"detached, alone":          {from + ct + "signed-data" + te + b64(detached), OtherCMS},
		"truncated":                {from + ct + "enveloped-data" + te + b64(cut), EncryptedBroken},
		"followed by bytes":        {from + ct + "enveloped-data" + te + b64(append(bytes.Clone(der), 0, 0)), EncryptedBroken},
		"followed by text":         {from + ct + "enveloped-data" + te + b64(der) + "\r\nthe secret\r\n", EncryptedBroken},
		"no base64":                {from + ct + "enveloped-data" + te + "the secret", EncryptedBroken},
		"empty":                    {from + ct + "enveloped-data" + te, EncryptedBroken},
		"two types":                {from + "Content-Type: text/html\r\n" + ct + "enveloped-data" + te + b64(der), EncryptedBroken},
		"two encodings":            {from + "Content-Transfer-Encoding: 7bit\r\n" + ct + "enveloped-data" + te + b64(der), EncryptedBroken},
		"encrypted part of mixed": {
			from + "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nthe secret\r\n--b\r\n" +
				ct + "enveloped-data" + te + b64(der) + "--b--\r\n", Plain,
		},
		"attached message": {from + "Content-Type: message/rfc822\r\n\r\n" + from + ct + "enveloped-data" + te + b64(der), Plain},
		"multipart/signed": {
			from + "Content-Type: multipart/signed; protocol=\"application/PKCS7-signature\"; boundary=b\r\n\r\n--b\r\n\r\nx\r\n--b\r\n" +
				"Content-Type: application/pkcs7-signature" + te + b64(detached) + "--b--\r\n", SignedOnly,
		},
		"comments in the type": {from + "Content-Type: (a) application (b) / (c) pkcs7-mime (d); (e) smime-type (f) = (g) enveloped-data" + te + b64(der), Encrypted},
		"called smime.p7m":     {from + "Content-Type: application/octet-stream; name=\"smime.P7M\"" + te + b64(der), Encrypted},
		"attached smime.p7m":   {from + "Content-Disposition: attachment; filename=smime.p7m\r\nContent-Type: application/octet-stream" + te + b64(der), Encrypted},
		"only called so":       {from + "Content-Type: application/octet-stream; name=smime.p7m\r\n\r\nhello", Plain},
		"triple, opaque":       {from + ct + "signed-data" + te + b64(triple), Encrypted},
		"triple, detached":     {from + wrapped("", ""), Encrypted},
		"triple, text before":  {from + wrapped("the secret\r\n", ""), EncryptedBroken},
		"triple, text after":   {from + wrapped("", "the secret\r\n"), EncryptedBroken},
		"OpenPGP signed":       {from + "Content-Type: multipart/signed; protocol=\"application/pgp-signature\"; boundary=b\r\n\r\n--b\r\n\r\nx\r\n--b--\r\n", Plain},
		"OpenPGP encrypted":    {from + "Content-Type: multipart/encrypted; protocol=\"application/pgp-encrypted\"; boundary=b\r\n\r\n--b\r\n\r\nx\r\n--b--\r\n", Plain},
	} {
		p := w.gw.Inspect([]byte(c.raw), parse([]byte(c.raw)))
		if p.Kind != c.want || (p.Enveloped != nil) != (c.want == Encrypted) {
			t.Errorf("%s: got %+v, want %v", name, p, c.want)
		}
	}
}

// A RecipientInfo that names somebody's certificate but holds what their key cannot open
// does not cover them.
func TestCoversOnlyWhatFits(t *testing.T) {
	w := newWorld(t)
	p := encryptedTo(w, cms.AES256CBC, w.people["alice"].Cert, w.people["bob"].Cert, w.people["carol"].Cert)
	must := w.candidates("alice", "bob", "carol")
	_, err := w.gw.Covers(p, must, nil)
	w.must(err)
	r := p.Enveloped.Recipients
	swap := func(i, j int, name string) {
		t.Helper()
		was := r[i]
		r[i] = r[j]
		r[i].Issuer, r[i].Serial, r[i].SKI = was.Issuer, was.Serial, was.SKI
		_, err := w.gw.Covers(p, must, nil)
		if err == nil || !strings.Contains(mail.PublicOf(err), name) || !strings.Contains(mail.PublicOf(err), "in a way that they cannot open") {
			t.Errorf("%v", err)
		}
		r[i] = was
	}
	swap(2, 0, "carol") // an RSA key for a key on a curve
	swap(0, 2, "alice") // and the other way round
	swap(1, 0, "bob")   // a key of another length
}

func quotedPrintable(b []byte) string {
	const digits = "0123456789ABCDEF"
	var s strings.Builder
	for i, c := range b {
		if i > 0 && i%20 == 0 {
			s.WriteString("=\r\n")
		}
		s.Write([]byte{'=', digits[c>>4], digits[c&15]})
	}
	return s.String()
}

// What OpenSSL encrypts is seen for what it is.
func TestInspectOpenSSL(t *testing.T) {
	w := newWorld(t)
	carol, _ := w.files("carol")
	alice, _ := w.files("alice")
	w.write("body.txt", []byte("Content-Type: text/plain\r\n\r\nbody\r\n"))
	for name, c := range map[string]struct {
		args []string
		want string
	}{
		"CBC":                             {[]string{"-aes-256-cbc"}, ""},
		"stream":                          {[]string{"-aes-256-cbc", "-stream"}, ""},
		"SKI":                             {[]string{"-aes-256-cbc", "-keyid"}, ""},
		"GCM":                             {[]string{"-aes-256-gcm"}, ""},
		"AES-128":                         {[]string{"-aes-128-cbc"}, "AES-256"},
		"AES-256, key wrapped by AES-128": {[]string{"-aes-256-cbc", "-aes128-wrap"}, "the key of the message is wrapped by AES-128, not by AES-256 (certificate number "},
		"AES-256, key wrapped by AES-192": {[]string{"-aes-256-gcm", "-aes192-wrap"}, "wrapped by AES-192"},
		"AES-256, key wrapped by AES-256": {[]string{"-aes-256-gcm", "-aes256-wrap"}, ""},
		"3DES":                            {[]string{"-des3"}, "AES-256"},
	} {
		args := append([]string{"cms", "-encrypt", "-in", "body.txt", "-subject", "x", "-from", "alice@works.gov.example"}, c.args...)
		msg, err := w.openssl(append(args, alice, carol)...)
		w.must(err)
		for _, raw := range [][]byte{msg, []byte(crlf(string(msg)))} {
			p := w.gw.Inspect(raw, parse(raw))
			_, err := w.gw.Covers(p, w.candidates("alice", "carol"), nil)
			if c.want == "" && err != nil || c.want != "" && (mail.KindOf(err) != mail.Refused || !strings.Contains(mail.PublicOf(err), c.want)) {
				t.Errorf("%s: %+v, %v", name, p, err)
			}
			if _, err := w.gw.CoversEach(p, w.candidates("alice", "carol")); err != nil && name != "3DES" {
				t.Errorf("%s, from outside: %v", name, err)
			}
			if _, err := w.gw.Covers(p, w.candidates("alice"), nil); mail.KindOf(err) != mail.Refused {
				t.Errorf("%s, carol is too many: %v", name, err)
			}
		}
	}
}

func FuzzInspect(f *testing.F) {
	w := newSmallWorld(f)
	f.Add([]byte(plain))
	f.Add(w.seal(plain, SealOptions{Recipients: w.usable("carol", "erin")}))
	for _, ct := range []string{"application/pkcs7-mime", "multipart/signed; protocol=\"application/pkcs7-signature\"; boundary=b"} {
		f.Add([]byte("From: a@b\nContent-Type: " + ct + "\nContent-Transfer-Encoding: base64\n\n--b\n\n\n--b\n\nMA==\n--b--\n"))
	}
	carol := w.opener("carol")
	f.Fuzz(func(t *testing.T, raw []byte) {
		x := parse(raw)
		p := w.gw.Inspect(raw, x)
		if (p.Enveloped != nil) != (p.Kind == Encrypted) {
			t.Fatalf("%+v", p)
		}
		_, err := w.gw.Covers(p, w.candidates("carol"), nil)
		if err == nil && p.Kind != Encrypted {
			t.Fatal("covered without being encrypted")
		}
		r := w.gw.Verify(raw, x)
		if s := r.AuthenticationResults("mail.example"); strings.Count(s, "\r\n") != strings.Count(s, "\r\n ")+1 {
			t.Fatalf("%q", s)
		}
		if o, err := w.gw.Open(raw, x, carol); err == nil && p.Kind != Encrypted {
			t.Fatalf("opened what is not encrypted: %+v", o)
		}
	})
}
