package smime

import (
	"bytes"
	"crypto/rand"
	"crypto/x509"
	"math/big"
	"strings"
	"testing"
	"time"

	"cmmpd/internal/demopki"
	"cmmpd/internal/mail"
	"cmmpd/smime/cms"
)

// signedBy is a message that some signers signed, detached.
func signedBy(w *world, header, content string, ids ...*demopki.Identity) string {
	w.t.Helper()
	var specs []cms.SignerSpec
	for _, id := range ids {
		specs = append(specs, cms.SignerSpec{Cert: id.Cert, Key: id.Key})
	}
	sig, err := cms.Sign(rand.Reader, true, specs, cms.SignOptions{Time: time.Now(), Certificates: []*x509.Certificate{w.sub.Cert}}, []byte(content))
	w.must(err)
	entity, err := w.gw.detached(cms.Pieces{[]byte(content)}, cms.Pieces{sig}, "sha-256")
	w.must(err)
	b := bytes.NewBufferString(header)
	_, err = entity.WriteTo(b)
	w.must(err)
	return b.String()
}

func TestVerify(t *testing.T) {
	w := newWorld(t)
	const from = "From: carol@health.gov.example\r\n"
	const content = "Content-Type: text/plain\r\n\r\nI agree.\r\n"
	carol := w.people["carol"].Identity
	issue := func(s demopki.Spec) *demopki.Identity {
		id, err := w.sub.Issue(s)
		w.must(err)
		return id
	}
	twin, err := demopki.NewCA("Root", nil)
	w.must(err)
	foreign, err := twin.Issue(demopki.Spec{CN: "Carol", Address: "carol@health.gov.example"})
	w.must(err)
	foreign.Chain = nil
	good := signedBy(w, from, content, carol)
	opaque, err := cms.Sign(rand.Reader, false, []cms.SignerSpec{{Cert: carol.Cert, Key: carol.Key}}, cms.SignOptions{}, []byte(content))
	w.must(err)
	for name, c := range map[string]struct {
		raw    string
		want   Status
		reason string
		domain bool
	}{
		"good":           {good, Pass, "by the author", false},
		"line feeds":     {strings.ReplaceAll(good, "\r\n", "\n"), Pass, "by the author", false},
		"opaque":         {from + "Content-Type: application/pkcs7-mime; smime-type=signed-data\r\nContent-Transfer-Encoding: base64\r\n\r\n" + string(appendBase64(nil, opaque)), Pass, "by the author", false},
		"changed":        {strings.Replace(good, "I agree", "I disagree", 1), Fail, "does not fit", false},
		"not signed":     {from + "\r\nI agree.", None, "not signed", false},
		"another author": {strings.Replace(good, "carol@", "alice@", 1), Policy, "not the author", false},
		"two authors":    {strings.Replace(good, "From:", "From: alice@works.gov.example\r\nFrom:", 1), Policy, "one author", false},
		"two signers":    {signedBy(w, from, content, carol, w.domain), Policy, "several", false},
		"foreign":        {signedBy(w, from, content, foreign), Policy, "trusted authority", false},
		"revoked":        {signedBy(w, "From: grace@works.gov.example\r\n", content, w.people["grace"].Identity), Policy, "revoked", false},
		"expired":        {signedBy(w, "From: frank@works.gov.example\r\n", content, w.people["frank"].Identity), Policy, "expired", false},
		"not for mail":   {signedBy(w, from, content, issue(demopki.Spec{CN: "C", Address: "carol@health.gov.example", EKU: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}})), Policy, "not for signing", false},
		"no address":     {signedBy(w, "From: erin@health.gov.example\r\n", content, w.people["erin"].Identity), Policy, "not the author", false},
		"domain":         {signedBy(w, "From: alice@works.gov.example\r\n", content, w.domain), Pass, "by the domain works.gov.example, not by the author", true},
		"other domain":   {signedBy(w, from, content, w.domain), Policy, "not the author", false},
		"subdomain":      {signedBy(w, "From: alice@x.works.gov.example\r\n", content, w.domain), Policy, "not the author", false},
		"three parts":    {strings.Replace(good, "Content-Type: application/pkcs7-signature", "\r\nhidden\r\n--"+boundaryOf(good)+"\r\nContent-Type: application/pkcs7-signature", 1), Neutral, "exactly one part", false},
		"within mixed":   {from + "Content-Type: multipart/mixed; boundary=m\r\n\r\n--m\r\n\r\npay Mallory\r\n--m\r\n" + good[len(from):] + "\r\n--m--\r\n", None, "not signed", false},
		"no signature":   {strings.Replace(good, "MII", "AAA", 1), Neutral, "cannot be read", false},
		"content of its own": {
			strings.Replace(good, sigOf(good), string(appendBase64(nil, opaque)), 1), Neutral, "content of its own", false,
		},
	} {
		r := w.gw.Verify([]byte(c.raw), parse([]byte(c.raw)))
		if r.Status != c.want || !strings.Contains(r.Reason, c.reason) || r.Domain != c.domain {
			t.Errorf("%s: %v, %q, domain %v; want %v, %q", name, r.Status, r.Reason, r.Domain, c.want, c.reason)
		}
		if c.want == Pass && (r.Cert == nil || !r.Trust.Usable) {
			t.Errorf("%s: %+v", name, r)
		}
	}
	stolen := []byte(strings.Replace(good, "carol@", "alice@", 1))
	if r := w.gw.Verify(stolen, parse(stolen)); r.Signer != w.people["carol"].Address {
		t.Errorf("the signer of another's mail is %v", r.Signer)
	}
	w.publish(-time.Second)
	if r := w.gw.Verify([]byte(good), parse([]byte(good))); r.Status != TempError {
		t.Errorf("stale: %+v", r)
	}
}

func boundaryOf(msg string) string {
	_, rest, _ := strings.Cut(msg, "boundary=\"")
	b, _, _ := strings.Cut(rest, "\"")
	return b
}

func sigOf(msg string) string {
	_, rest, _ := strings.Cut(msg, "filename=\"smime.p7s\"\r\n\r\n")
	sig, _, _ := strings.Cut(rest, "\r\n--")
	return sig
}

// Signatures that OpenSSL makes, and every byte of the content changed in turn.
func TestVerifyOpenSSL(t *testing.T) {
	w := newWorld(t)
	w.write("sub.pem", pemOf(w))
	w.write("body.txt", []byte("Content-Type: text/plain\r\n\r\nI agree.\r\n"))
	for name, args := range map[string][]string{
		"alice": nil,
		"bob":   {"-keyopt", "rsa_padding_mode:pss"},
		"carol": {"-nodetach"},
	} {
		cert, key := w.files(name)
		author := w.people[name].Address
		raw, err := w.openssl(append([]string{
			"cms", "-sign", "-in", "body.txt", "-signer", cert, "-inkey", key, "-certfile", "sub.pem", "-md", "sha256",
			"-from", author.String(), "-subject", "yes",
		}, args...)...)
		w.must(err)
		if r := w.gw.Verify(raw, parse(raw)); r.Status != Pass {
			t.Errorf("%s: %+v", name, r)
		}
		at := bytes.Index(raw, []byte("I agree"))
		for i := at; at > 0 && i < at+7; i++ {
			changed := bytes.Clone(raw)
			changed[i] ^= 1
			if r := w.gw.Verify(changed, parse(changed)); r.Status != Fail {
				t.Errorf("%s, byte %d: %+v", name, i, r)
			}
		}
	}
}

func TestAuthenticationResults(t *testing.T) {
	w := newWorld(t)
	r := SignatureResult{Status: Pass, Reason: "signed by the author", Signer: w.people["carol"].Address, Cert: &x509.Certificate{SerialNumber: big.NewInt(0xbeef)}}
	r.Cert.Issuer.CommonName = `M"a\il`
	want := "Authentication-Results: mail.gov.example;\r\n smime=pass\r\n (signed by the author)\r\n" +
		" body.smime-identifier=carol@health.gov.example\r\n body.smime-serial=beef\r\n body.smime-issuer=\"CN=M\\\\\\\"a\\\\\\\\il\"\r\n"
	if got := r.AuthenticationResults("mail.gov.example"); got != want {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	if got := (SignatureResult{Status: None, Reason: "not signed"}).AuthenticationResults("a"); got != "Authentication-Results: a;\r\n smime=none\r\n" {
		t.Errorf("%q", got)
	}
	for _, evil := range []string{"a)\r\nX: y", "\";\x00\u2028陳(", "a\\", strings.Repeat("x(", 5000)} {
		r.Reason = evil
		r.Cert.Issuer.CommonName = evil
		r.Signer = mail.Address{Local: evil, Domain: evil}
		got := r.AuthenticationResults(evil)
		for i, line := range strings.Split(strings.TrimSuffix(got, "\r\n"), "\r\n") {
			if len(line) > 998 || i > 0 && line[0] != ' ' {
				t.Errorf("%.20q: a line of %d bytes, %.20q", evil, len(line), line)
			}
			for _, c := range []byte(line) {
				if c < 0x20 || c > 0x7e {
					t.Errorf("%.20q: byte %#x", evil, c)
				}
			}
		}
		if n := strings.Count(got, "\r\n"); n != 6 {
			t.Errorf("%.20q gives %d lines", evil, n)
		}
	}
}

// What others change outside is reported, and is not believed.
func TestOpenReportsDifferences(t *testing.T) {
	w := newSmallWorld(t)
	sealed := string(w.seal(plain, SealOptions{Recipients: w.usable("carol")}))
	for name, c := range map[string]struct{ old, new, want string }{
		"untouched":       {"", "", ""},
		"a list's fields": {"MIME-Version", "List-Id: <x.example>\r\nX-Spam: no\r\nReceived: x\r\nMIME-Version", ""},
		"subject":         {"Subject: [...]", "Subject: all is well", "subject"},
		"another From":    {"From: Alice", "From: Mallory <m@x.example>\r\nFrom: Alice", "from"},
		"added field":     {"MIME-Version", "Keywords: public\r\nMIME-Version", "keywords"},
		"taken away":      {"In-Reply-To: <0@health.gov.example>\r\n", "", "in-reply-to"},
		"folded anew":     {",\r\n Carol", ", Carol", ""},
		"several":         {"Subject: [...]\r\nDate: Sun", "Date: Mon", "date,subject"},
	} {
		raw := []byte(strings.Replace(sealed, c.old, c.new, 1))
		o := w.open(raw, "carol")
		if got := strings.Join(o.Differs, ","); got != c.want {
			t.Errorf("%s: differs in %q, want %q", name, got, c.want)
		}
		e := parse(o.Inner).Root.Envelope
		if len(e.From) != 1 || e.From[0].Mailbox != "alice" || !strings.Contains(e.Subject, "tender") || o.Signature.Status != Pass {
			t.Errorf("%s: %+v %+v", name, e, o.Signature)
		}
	}
}

// Content that was encrypted without a signature, or with parts beside the signed
// one, must come out as unverified (EFAIL).
func TestOpenUnverified(t *testing.T) {
	w := newSmallWorld(t)
	carol := w.people["carol"]
	to := []cms.RecipientSpec{{Cert: carol.Cert}}
	content := "Content-Type: text/plain\r\n\r\nyes\r\n"
	signed := signedBy(w, "", content, carol.Identity)
	for name, c := range map[string]struct {
		entity string
		want   Status
		author string
	}{
		"not signed":          {content, None, "carol"},
		"not MIME":            {"\x00\x01 rubbish", None, "carol"},
		"signed":              {signed, Pass, "carol"},
		"signed by another":   {signed, Policy, "alice"},
		"signed within mixed": {"Content-Type: multipart/mixed; boundary=m\r\n\r\n--m\r\n\r\nno\r\n--m\r\n" + signed + "\r\n--m--\r\n", None, "carol"},
	} {
		der, err := cms.Encrypt(rand.Reader, cms.AES256CBC, cms.Data, to, []byte(c.entity))
		w.must(err)
		raw := assembled(nil, []field{{"from", []byte("From: " + c.author + "@health.gov.example\r\n")}}, cms.AES256CBC, der)
		o := w.open(raw, "carol")
		if o.Signature.Status != c.want || o.Protected || string(o.Entity) != c.entity {
			t.Errorf("%s: %+v", name, o.Signature)
		}
		if !strings.HasPrefix(string(o.Inner), "From: "+c.author) {
			t.Errorf("%s: %q", name, o.Inner)
		}
	}

	// One error for whatever is wrong.
	der, err := cms.Encrypt(rand.Reader, cms.AES256CBC, cms.Data, to, []byte(signed))
	w.must(err)
	var first string
	for i := len(der) - 1; i > len(der)-64; i-- {
		bad := bytes.Clone(der)
		bad[i] ^= 0x80
		raw := assembled(nil, nil, cms.AES256CBC, bad)
		o, err := w.gw.Open(raw, parse(raw), w.opener("carol"))
		if err == nil {
			if o.Signature.Status == Pass {
				t.Errorf("byte %d changed, and the signature passes", i)
			}
			continue
		}
		if first == "" {
			first = err.Error()
		}
		if err.Error() != first {
			t.Errorf("two errors: %q and %q", first, err)
		}
	}
}

// TestOpenCompressed: the author's client compressed before it signed, or after.
func TestOpenCompressed(t *testing.T) {
	w := newSmallWorld(t)
	carol := w.people["carol"]
	compress := w.compress
	opaque := func(entity string) string {
		der, err := cms.Sign(nil, false, []cms.SignerSpec{{Cert: carol.Cert, Key: carol.Key}}, cms.SignOptions{}, []byte(entity))
		w.must(err)
		return "Content-Type: application/pkcs7-mime; smime-type=signed-data\r\nContent-Transfer-Encoding: base64\r\n\r\n" + string(appendBase64(nil, der))
	}
	const text = "Content-Type: text/plain\r\n\r\nmarker\r\n"
	for name, c := range map[string]struct {
		entity string
		status Status
	}{
		"compressed":           {compress(text), None},
		"compressed, signed":   {opaque(compress(text)), Pass},
		"signed, compressed":   {compress(opaque(text)), Pass},
		"around and within":    {compress(opaque(compress(text))), Pass},
		"twice: one is enough": {compress(compress(text)), None},
	} {
		der, err := cms.Encrypt(rand.Reader, cms.AES256GCM, cms.Data, []cms.RecipientSpec{{Cert: carol.Cert}}, []byte(c.entity))
		w.must(err)
		o := w.open(assembled(nil, []field{{"from", []byte("From: carol@health.gov.example\r\n")}}, cms.AES256GCM, der), "carol")
		if o.Signature.Status != c.status || strings.Contains(string(o.Inner), "marker") != (name != "twice: one is enough") {
			t.Errorf("%s: %+v, %q", name, o.Signature, o.Inner)
		}
	}
}
