package smime

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"cmmpd/internal/mail"
	"cmmpd/internal/message"
	"cmmpd/smime/cms"
)

// plain is a confidential message as a client submits it.
var plain = crlf(`Received: from client by submission; Sun, 1 Mar 2026 12:00:00 +0000
From: Alice Lee <alice@works.gov.example>
To: Bob <bob@works.gov.example>,
 Carol <carol@health.gov.example>
Bcc: erin@health.gov.example
Bcc : Erin again <erin@health.gov.example>
Resent-Bcc: erin@health.gov.example
Subject: [CONFIDENTIAL] the marker-4711
 tender
Thread-Topic: the marker-4711 tender
Keywords: marker-4711
Comments: marker-4711
Date: Sun, 1 Mar 2026 12:00:00 +0000
Message-ID: <1@works.gov.example>
In-Reply-To: <0@health.gov.example>
References: <0@health.gov.example>
X-Mailer: Mailer 1 marker-4711
MIME-Version: 1.0
Content-Type: text/plain; charset=utf-8; format=flowed
Content-Transfer-Encoding: 8bit
Content-Language: en

Marker-4711: offer of Müller.
.
no line end`)

func everyone(w *world) SealOptions {
	return SealOptions{Recipients: w.usable("alice", "bob", "carol"), Label: mail.Confidential}
}

func TestSealHidesAndKeeps(t *testing.T) {
	w := newWorld(t)
	sealed := w.seal(plain, everyone(w))
	for _, hidden := range []string{"4711", "tender", "erin", "Erin", "Mailer 1", "HP-Outer", "Müller"} {
		if bytes.Contains(sealed, []byte(hidden)) {
			t.Errorf("%q stands in the sealed message", hidden)
		}
	}
	header, body, _ := strings.Cut(string(sealed), "\r\n\r\n")
	want := crlf(`Received: from client by submission; Sun, 1 Mar 2026 12:00:00 +0000
From: Alice Lee <alice@works.gov.example>
To: Bob <bob@works.gov.example>,
 Carol <carol@health.gov.example>
Subject: [...]
Date: Sun, 1 Mar 2026 12:00:00 +0000
Message-ID: <1@works.gov.example>
In-Reply-To: <0@health.gov.example>
References: <0@health.gov.example>
X-Classification: confidential
MIME-Version: 1.0
Content-Type: application/pkcs7-mime; smime-type=enveloped-data;
 name="smime.p7m"
Content-Transfer-Encoding: base64
Content-Disposition: attachment; filename="smime.p7m"`)
	if header != want {
		t.Errorf("the outer header is\n%s", header)
	}
	for line := range strings.SplitSeq(strings.TrimSuffix(body, "\r\n"), "\r\n") {
		if len(line) > 76 {
			t.Errorf("a line of %d characters", len(line))
		}
	}

	p := w.gw.Inspect(sealed, parse(sealed))
	if p.Kind != Encrypted || p.Enveloped.Cipher != cms.AES256CBC || len(p.Enveloped.Recipients) != 3 {
		t.Fatalf("sealed is %+v", p)
	}
	for _, name := range []string{"alice", "bob", "carol"} {
		o := w.open(sealed, name)
		if !o.Protected || len(o.Differs) > 0 || o.Signature.Status != Pass || !o.Signature.Domain {
			t.Errorf("%s: protected %v, differs %v, signature %+v", name, o.Protected, o.Differs, o.Signature)
		}
		inner := parse(o.Inner)
		if got, want := string(o.Inner[inner.Root.BodyStart:]), plain[strings.Index(plain, "Marker"):]; got != want {
			t.Errorf("%s: the body is %q", name, got)
		}
		e := inner.Root.Envelope
		if e.Subject != "[CONFIDENTIAL] the marker-4711 tender" || e.MessageID != "<1@works.gov.example>" || len(e.Bcc) != 0 {
			t.Errorf("%s: the envelope is %+v", name, e)
		}
		if bytes.Contains(bytes.ToLower(o.Entity), []byte("erin")) {
			t.Errorf("%s reads of erin:\n%s", name, o.Entity)
		}
		if inner.Root.Param("charset") != "utf-8" || inner.Root.Param("format") != "flowed" || inner.Root.Encoding != "8bit" {
			t.Errorf("%s: the type is %+v", name, inner.Root)
		}
	}
	if _, err := w.gw.Open(sealed, parse(sealed), w.opener("erin")); mail.KindOf(err) != mail.Invalid {
		t.Errorf("erin's key: %v", err)
	}
}

func TestSealForBlindRecipient(t *testing.T) {
	w := newWorld(t)
	erin := w.people["erin"].Address
	sealed := w.seal(plain, SealOptions{Recipients: w.usable("erin"), BccOf: &erin, Label: mail.Confidential})
	if header, _, _ := bytes.Cut(sealed, []byte("\r\n\r\n")); bytes.Contains(bytes.ToLower(header), []byte("erin")) {
		t.Error("the outer header names the blind recipient")
	}
	o := w.open(sealed, "erin")
	if e := parse(o.Inner).Root.Envelope; len(e.Bcc) != 1 || e.Bcc[0].Mailbox != "erin" {
		t.Errorf("Bcc is %+v", e.Bcc)
	}
	if o.Signature.Status != Pass || len(o.Differs) > 0 {
		t.Errorf("%+v", o)
	}
	if p := w.gw.Inspect(sealed, parse(sealed)); len(p.Enveloped.Recipients) != 1 || !p.Enveloped.Recipients[0].Matches(w.people["erin"].Cert) {
		t.Errorf("%d recipients", len(p.Enveloped.Recipients))
	}
}

// OpenSSL mends line ends and cuts lines its own way; the signature must stand it.
func TestOpenSSLVerifiesOddBodies(t *testing.T) {
	w := newWorld(t)
	cert, key := w.files("carol")
	for name, body := range map[string]string{
		"empty":             "",
		"line feeds":        "a\nb\n\nc",
		"trailing blanks":   "a  \r\nb\t\r\n  \r\n",
		"dots and dashes":   ".\r\n..\r\n--\r\n--x\r\nFrom y\r\n",
		"long line":         strings.Repeat("x", 70_000) + "\r\n" + strings.Repeat("y", 1023) + "\r\n" + strings.Repeat("z", 1024),
		"8-bit":             "陳大文\r\n\xff\xfe\r\n",
		"empty lines":       "\r\n\r\n\r\n",
		"no line end":       "a",
		"a binary body":     "\x00\n\r\x01\n\n",
		"unclosed boundary": "--b\r\n\r\n--b",
	} {
		header := "From: alice@works.gov.example\r\nSubject: s\r\n"
		switch {
		case strings.Contains(name, "binary"):
			header += "Content-Type: application/octet-stream\r\nContent-Transfer-Encoding: binary\r\n"
		case strings.Contains(name, "boundary"):
			header += "Content-Type: multipart/mixed; boundary=b\r\n"
		}
		w.write("msg.eml", w.seal(header+"\r\n"+body, SealOptions{Recipients: w.usable("carol")}))
		entity, err := w.openssl("cms", "-decrypt", "-in", "msg.eml", "-recip", cert, "-inkey", key)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		w.write("inner.eml", entity)
		if _, err := w.openssl("cms", "-verify", "-in", "inner.eml", "-CAfile", "ca.pem"); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestSealAuthorsOwnCopy(t *testing.T) {
	w := newWorld(t)
	sealed := w.seal(plain, SealOptions{Recipients: w.usable("alice"), KeepBcc: true})
	if header, _, _ := bytes.Cut(sealed, []byte("\r\n\r\n")); bytes.Contains(bytes.ToLower(header), []byte("erin")) {
		t.Error("the outer header names the blind recipient")
	}
	if o := w.open(sealed, "alice"); strings.Count(string(o.Inner), "erin@health.gov.example") != 3 || len(o.Differs) > 0 {
		t.Errorf("differs %v\n%s", o.Differs, o.Inner)
	}
}

// Nobody vouches for the author of mail that comes from outside or was saved by
// somebody else: the domain must not sign it.
func TestSealWithoutSender(t *testing.T) {
	w := newWorld(t)
	sealed, err := w.gw.Seal([]byte(plain), parse([]byte(plain)), everyone(w))
	w.must(err)
	if o := w.open(sealed, "bob"); o.Signature.Status != None || !o.Protected {
		t.Errorf("%+v", o.Signature)
	}
}

// Without trust a message opens all the same, and its signature is worth nothing.
func TestOpenWithoutTrust(t *testing.T) {
	w := newWorld(t)
	sealed := w.seal(plain, everyone(w))
	o, err := New(Options{}).Open(sealed, parse(sealed), w.opener("bob"))
	w.must(err)
	if o.Signature.Status != Policy || !o.Protected {
		t.Errorf("%+v", o.Signature)
	}
}

// The label is shown outside; within, what the author wrote stays.
func TestSealShowsLabel(t *testing.T) {
	w := newSmallWorld(t)
	const from = "From: alice@works.gov.example\r\n"
	for name, c := range map[string]struct {
		header       string
		label        mail.Label
		outer, inner string
	}{
		"none":      {"", "", "", ""},
		"ours":      {"", mail.Confidential, "confidential", "confidential"},
		"author's":  {"X-Classification: Restricted\r\n", "", "Restricted", "Restricted"},
		"different": {"x-classification: restricted\r\n", mail.Confidential, "confidential", "restricted"},
		"two":       {"X-Classification: a\r\nX-Classification: b\r\n", mail.Confidential, "confidential", "a,b"},
	} {
		sealed := w.seal(from+c.header+"\r\nbody", SealOptions{Recipients: w.usable("carol"), Label: c.label})
		o := w.open(sealed, "carol")
		all := func(b []byte) string {
			return strings.Join(message.ParseHeader(b, message.Limits{}).All("X-Classification"), ",")
		}
		if all(sealed) != c.outer || all(o.Inner) != c.inner || len(o.Differs) > 0 {
			t.Errorf("%s: %q outside, %q within, differs %v", name, all(sealed), all(o.Inner), o.Differs)
		}
	}
}

func TestSealWithoutAuthority(t *testing.T) {
	w := newWorld(t)
	w.signer = false
	o := w.open(w.seal(plain, everyone(w)), "carol")
	if o.Signature.Status != None || !o.Protected || !bytes.Contains(o.Inner, []byte("Marker-4711")) {
		t.Errorf("%+v", o.Signature)
	}
	w.signer = true
	w.sub.Revoke(w.domain.Cert)
	w.publish(1 << 40)
	if _, err := w.gw.Seal([]byte(plain), parse([]byte(plain)), SealOptions{Sender: w.people["alice"].Address, Recipients: w.usable("carol")}); mail.KindOf(err) != mail.Internal {
		t.Errorf("signed by a revoked authority: %v", err)
	}
}

func TestSealRefuses(t *testing.T) {
	w := newWorld(t)
	try := func(raw string, o SealOptions) error {
		_, err := w.gw.Seal([]byte(raw), parse([]byte(raw)), o)
		return err
	}
	if err := try(plain, SealOptions{}); mail.KindOf(err) != mail.Internal {
		t.Errorf("to nobody: %v", err)
	}
	if err := try(plain, SealOptions{Recipients: w.usable("bob"), Label: "a\r\nBcc: x"}); mail.KindOf(err) != mail.Internal {
		t.Errorf("a label with a line break: %v", err)
	}
	if err := try(strings.Repeat("X-A: b\r\n", 20_000)+plain, SealOptions{Recipients: w.usable("bob")}); mail.KindOf(err) != mail.TooLarge {
		t.Errorf("20,000 fields: %v", err)
	}
}

// What OpenSSL decrypts and verifies is what other clients do.
func TestOpenSSLOpensSealed(t *testing.T) {
	w := newWorld(t)
	w.write("msg.eml", w.seal(plain, everyone(w)))
	for _, name := range []string{"alice", "bob", "carol"} {
		cert, key := w.files(name)
		entity, err := w.openssl("cms", "-decrypt", "-in", "msg.eml", "-recip", cert, "-inkey", key)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		w.write("inner.eml", entity)
		content, err := w.openssl("cms", "-verify", "-in", "inner.eml", "-CAfile", "ca.pem", "-purpose", "smimesign")
		if err != nil || !bytes.HasSuffix(content, []byte(plain[strings.Index(plain, "Marker"):])) {
			t.Errorf("%s: %v\n%s", name, err, content)
		}
		if !bytes.Contains(content, []byte("Subject: [CONFIDENTIAL] the marker-4711\r\n tender\r\n")) || !bytes.Contains(content, []byte("hp=\"cipher\"")) {
			t.Errorf("%s: the header is not within:\n%s", name, content)
		}
	}
	cert, key := w.files("erin")
	if out, err := w.openssl("cms", "-decrypt", "-in", "msg.eml", "-recip", cert, "-inkey", key); err == nil {
		t.Errorf("erin opens it: %s", out)
	}
}

func TestSealKeepsClientSignature(t *testing.T) {
	w := newWorld(t)
	cert, key := w.files("alice")
	w.write("body.txt", []byte("Content-Type: text/plain\r\n\r\nsigned by Alice\r\n"))
	for name, args := range map[string][]string{"detached": nil, "opaque": {"-nodetach"}} {
		args = append([]string{
			"cms", "-sign", "-in", "body.txt", "-signer", cert, "-inkey", key, "-md", "sha256",
			"-certfile", w.write("sub.pem", pemOf(w)), "-crlfeol",
		}, args...)
		entity, err := w.openssl(args...)
		w.must(err)
		raw := "From: alice@works.gov.example\r\nSubject: s\r\n" + crlf(string(entity))
		x := parse([]byte(raw))
		if p := w.gw.Inspect([]byte(raw), x); p.Kind != SignedOnly {
			t.Fatalf("%s: inspected as %+v", name, p)
		}
		if r := w.gw.Verify([]byte(raw), x); r.Status != Pass || r.Domain {
			t.Errorf("%s: %+v", name, r)
		}
		o := w.open(w.seal(raw, everyone(w)), "bob")
		if !bytes.Contains(o.Entity, []byte(raw)[x.Root.BodyStart:]) {
			t.Errorf("%s: the signed entity has changed", name)
		}
		if o.Signature.Status != Pass || !o.Signature.Domain || o.Author.Status != Pass || o.Author.Domain || !o.Author.Cert.Equal(w.people["alice"].Cert) {
			t.Errorf("%s: signatures %+v, %+v", name, o.Signature, o.Author)
		}
	}
}

func TestSealOddMessages(t *testing.T) {
	w := newWorld(t)
	const from = "From: alice@works.gov.example\r\n"
	for name, c := range map[string]struct{ raw, wantType, wantBody string }{
		"no type":               {from + "\r\nbody", "text/plain", "body"},
		"no body":               {from + "\r\n", "text/plain", ""},
		"no blank line":         {from, "text/plain", ""},
		"bare line feeds":       {"From: alice@works.gov.example\nSubject: a\n b\n\nline\nline\n", "text/plain", "line\r\nline\r\n"},
		"binary":                {from + "Content-Transfer-Encoding: binary\r\nContent-Type: application/x-a\r\n\r\na\nb\r\nc\rd", "application/x-a", "a\nb\r\nc\rd"},
		"broken type":           {from + "Content-Type: text\r\n\r\nbody", "text/plain", "body"},
		"type with a comment":   {from + "Content-Type: text/html (a;b) ; charset=\"a;b\" ;\r\n\r\nbody", "text/html", "body"},
		"open quote":            {from + "Content-Type: text/html; charset=\"a\r\n\r\nbody", "text/html", "body"},
		"claims hp":             {from + "HP-Outer: Subject: x\r\nContent-Type: text/html; hp=\"clear\"; hp*=x\r\n\r\nbody", "text/html", "body"},
		"two types":             {from + "Content-Type: text/html\r\nContent-Type: text/plain\r\n\r\nbody", "text/html", "body"},
		"multipart":             {from + "Content-Type: multipart/mixed;\r\n boundary=\"=_x;y\"\r\n\r\n--=_x;y\r\n\r\na\r\n--=_x;y--\r\n", "multipart/mixed", "--=_x;y\r\n\r\na\r\n--=_x;y--\r\n"},
		"multipart, no parts":   {from + "Content-Type: multipart/mixed\r\n\r\nbody", "", "body"},
		"rubbish in the header": {from + "no field here\r\nSubject: a\r\n\r\nbody", "text/plain", "body"},
		"long first line":       {from + "References: " + strings.Repeat("<a@b>", 195) + "\r\n\r\nbody", "text/plain", "body"},
	} {
		o := w.open(w.seal(c.raw, everyone(w)), "carol")
		x := parse(o.Inner)
		if got := string(o.Inner[x.Root.BodyStart:]); got != c.wantBody {
			t.Errorf("%s: the body is %q", name, got)
		}
		if got := x.Root.Type + "/" + x.Root.Subtype; c.wantType != "" && got != c.wantType {
			t.Errorf("%s: the type is %s", name, got)
		}
		if o.Signature.Status != Pass || !o.Protected || len(o.Differs) > 0 {
			t.Errorf("%s: %v %v %+v\n%s", name, o.Protected, o.Differs, o.Signature, o.Entity)
		}
		for line := range bytes.SplitSeq(o.Entity, []byte("\r\n")) {
			if len(line) > 998 {
				t.Errorf("%s: a line of %d bytes", name, len(line))
			}
		}
	}
}

func TestCanonical(t *testing.T) {
	for in, want := range map[string]string{
		"": "", "a": "a", "a\n": "a\r\n", "\n\n": "\r\n\r\n", "a\r\nb\nc": "a\r\nb\r\nc", "a\r": "a\r", "\r\n\n\r": "\r\n\r\n\r",
		"a\r\r\nb\n": "a\r\r\nb\r\n",
	} {
		if got := string(canonical([]byte(in))); got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
}

func TestTidyMakesOneField(t *testing.T) {
	for in, want := range map[string]string{
		"A: b": "A: b\r\n", "A: b\n c\n": "A: b\r\n c\r\n", "A: b\rBcc: x\r\n": "A: b Bcc: x\r\n", "A: \x00\r\n": "A:  \r\n", "A: b\r": "A: b\r\n",
	} {
		got := string(tidy([]byte(in)))
		if strings.ReplaceAll(got, " \r\n", "\r\n") != strings.ReplaceAll(want, " \r\n", "\r\n") {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
}

// The parser of header protection reads what others wrote, once decrypted.
func FuzzOpenInner(f *testing.F) {
	w := newSmallWorld(f)
	o := w.open(w.seal(plain, SealOptions{Recipients: w.usable("carol")}), "carol")
	f.Add(o.Entity, []byte(plain))
	f.Add(o.Inner, o.Entity)
	f.Add([]byte("Content-Type: text/plain; hp=cipher\nHP-Outer: Subject\nHP-Outer:\n\n"), []byte("Subject: x\n\n"))
	f.Add([]byte(crlf(protectedHeader+hpOuterOf(outsideShy)+rich(`hp="cipher"`, true))), []byte(crlf(outsideShy)))
	f.Add([]byte("Content-Type: text/html; hp=cipher; hp-legacy-display=1\n\na<div class=header-protection-legacy-display>b</div>c"), []byte("Subject: x\n\n"))
	f.Add([]byte("Content-Type: text/plain; protected-headers=v1\nSubject: x\n\ntext"), []byte("Subject: ...\n\n"))
	f.Fuzz(func(t *testing.T, entity, outer []byte) {
		x := parse(outer)
		before := slices.Clone(entity)
		o := w.gw.openInner(split(outer[x.Root.HeaderStart:x.Root.BodyStart]), entity)
		if !bytes.Equal(before, entity) {
			t.Fatal("the entity was changed")
		}
		message.Parse(o.Inner, message.Limits{})
		if bytes.HasPrefix(o.Inner, []byte("\r\n")) || (len(o.Differs) > 0 || len(o.Confidential) > 0) && !o.Protected {
			t.Fatalf("%+v", o)
		}
	})
}

func BenchmarkSeal(b *testing.B) {
	w := newWorld(b)
	for _, size := range []struct {
		name  string
		bytes int
	}{{"4KiB", 4 << 10}, {"4MiB", 4 << 20}, {"25MiB", 25 << 20}} {
		raw := []byte("From: alice@works.gov.example\r\nSubject: s\r\n\r\n" + strings.Repeat("0123456789abcde\r\n", size.bytes/17))
		x := parse(raw)
		for _, gcm := range []bool{false, true} {
			to := w.usable("alice", "bob")
			for i := range to {
				to[i].GCM = gcm
			}
			b.Run(size.name+"/"+CipherFor(to).String(), func(b *testing.B) {
				b.SetBytes(int64(len(raw)))
				b.ReportAllocs()
				for b.Loop() {
					o := SealOptions{Sender: w.people["alice"].Address, Recipients: to, Label: mail.Confidential}
					if _, err := w.gw.Seal(raw, x, o); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

// Whatever is sealed opens to the same body, verifies, and shows nothing outside.
func FuzzSeal(f *testing.F) {
	w := newSmallWorld(f)
	f.Add([]byte(plain))
	f.Add([]byte("From: a@b\nBcc: erin\nSubject: s\nContent-Type: multipart/signed; boundary=b\n\n--b\n\nx\n--b--"))
	f.Add([]byte("From x\nContent-Type: text/html; (;\r\n\r\n"))
	f.Add([]byte("b\nContent-Type: multipart/x; boundary=b\n\n--b")) // an unclosed multipart that ends in its delimiter
	to, carol, alice := w.usable("carol"), w.opener("carol"), mail.MustParseAddress("alice@works.gov.example")
	f.Fuzz(func(t *testing.T, raw []byte) {
		x := parse(raw)
		sealed, err := w.gw.Seal(raw, x, SealOptions{Sender: alice, Recipients: to, Label: mail.Confidential})
		if err != nil {
			t.Skip(err)
		}
		sx := parse(sealed)
		h := message.ParseHeader(sealed, message.Limits{})
		for _, name := range []string{"Bcc", "Resent-Bcc", "Keywords", "Comments"} {
			if len(h.All(name)) > 0 {
				t.Fatalf("%s stands outside:\n%s", name, sealed)
			}
		}
		for _, s := range h.All("Subject") {
			if s != "[...]" {
				t.Fatalf("the subject stands outside: %q", s)
			}
		}
		o, err := w.gw.Open(sealed, sx, carol)
		if err != nil {
			t.Fatalf("%v\n%s", err, sealed)
		}
		if !o.Protected || len(o.Differs) > 0 {
			t.Fatalf("protected %v, differs %v\n%s\n%s", o.Protected, o.Differs, sealed, o.Entity)
		}
		signed, content, _ := w.gw.signed(o.Entity, parse(o.Entity).Root)
		if signed == nil {
			t.Fatalf("no signature within:\n%s", o.Entity)
		}
		if _, err := signed.Verify(0, content); err != nil { // whoever the author is
			t.Fatalf("%v\n%s", err, o.Entity)
		}
		body := raw[x.Root.BodyStart:x.Root.BodyEnd]
		if !hasBinary(x.Root) {
			body = canonical(body)
		}
		ix := parse(o.Inner)
		switch inner := o.Inner[ix.Root.BodyStart:]; {
		case cryptographic(x.Root) && !bytes.Contains(inner, body), !cryptographic(x.Root) && !bytes.Equal(inner, body):
			t.Fatalf("the body has changed:\n%q\n%q", body, inner)
		}
	})
}
