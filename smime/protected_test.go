package smime

import (
	"encoding/base64"
	"fmt"
	"strings"
	"testing"

	"cmmpd/internal/testkit"
)

// The header of the messages below, within.
const protectedHeader = "Subject: Budget 預算\nMessage-ID: <one@health.gov.example>\nFrom: Carol <carol@health.gov.example>\nTo: Alice <alice@works.gov.example>\n" +
	"Cc: Bob <bob@works.gov.example>\nDate: Sun, 22 Nov 2026 10:00:00 +0800\nUser-Agent: Sample 1.0\n"

// What the three policies of RFC 9788, section 3.2, leave outside of it.
var (
	outsideNone     = protectedHeader
	outsideBaseline = strings.Replace(protectedHeader, "Budget 預算", "[...]", 1)
	outsideShy      = strings.NewReplacer("Subject: Budget 預算", "Subject: [...]", "Carol <carol@health.gov.example>", "carol@health.gov.example", "Alice <alice@works.gov.example>", "alice@works.gov.example",
		"Bob <bob@works.gov.example>", "bob@works.gov.example", "22 Nov 2026 10:00:00 +0800", "22 Nov 2026 02:00:00 +0000").Replace(protectedHeader)
)

// hpOuterOf says within what is left outside.
func hpOuterOf(outside string) string {
	var b strings.Builder
	for line := range strings.Lines(outside) {
		b.WriteString("HP-Outer: " + line)
	}
	return b.String()
}

// The bodies.
const (
	plainBody = "Content-Type: text/plain; charset=utf-8; %s\nContent-Transfer-Encoding: 8bit\n\nThe text 正文.\n"
	richBody  = "Content-Type: multipart/mixed; boundary=m; %[1]s\n\n--m\nContent-Type: multipart/alternative; boundary=a\n\n" +
		"--a\nContent-Type: text/plain; charset=utf-8%[2]s\nContent-Transfer-Encoding: base64\n\n%[3]s\n" +
		"--a\nContent-Type: text/html; charset=utf-8%[2]s\nContent-Transfer-Encoding: quoted-printable\n\n%[4]s\n--a--\n" +
		"--m\nContent-Type: text/plain; name=notes.txt\nContent-Disposition: attachment; filename=notes.txt\n\nSubject: of the notes\n\nnotes\n--m--\n"
)

// rich is a message of two forms of a text, with legacy display elements if legacy, and an attachment.
func rich(hp string, legacy bool) string {
	plain, html, param := "The text 正文.\r\n", "<html><body><p>The text =E6=AD=A3=E6=96=87.</p></body></html>", ""
	if legacy {
		plain, param = "Subject: Budget 預算\r\n\r\n"+plain, "; hp-legacy-display=\"1\""
		html = strings.Replace(html, "<p>", "<div class=3D\"header-protection-legacy-display\">\n<pre>Subject: Budget =E9=A0=90=\n=E7=AE=97</pre>\n</div><p>", 1)
	}
	return fmt.Sprintf(richBody, hp, param, base64.StdEncoding.EncodeToString([]byte(plain)), html)
}

// TestProtectedHeaders reads whole messages of each kind that RFC 9788 describes in its appendix C, and of the drafts before it that mail programs still write.
// OpenSSL makes them; nothing of our own writer is in them.
func TestProtectedHeaders(t *testing.T) {
	testkit.Need(t, "openssl")
	w := newSmallWorld(t)
	cert, key := w.files("carol")
	sub := w.write("sub.pem", pemOf(w))
	sign := func(args ...string) func([]byte) []byte {
		return func(entity []byte) []byte {
			out, err := w.openssl(append([]string{"cms", "-sign", "-in", w.write("in", entity), "-signer", cert, "-inkey", key, "-certfile", sub}, args...)...)
			w.must(err)
			return []byte(crlf(string(out)))
		}
	}
	detached, opaque := sign(), sign("-nodetach")
	encrypt := func(entity []byte) []byte {
		out, err := w.openssl("cms", "-encrypt", "-aes256", "-in", w.write("in", entity), cert)
		w.must(err)
		return []byte(crlf(string(out)))
	}
	baseline := protectedHeader + hpOuterOf(outsideBaseline)
	answer := "In-Reply-To: <zero@works.gov.example>\nReferences: <zero@works.gov.example>\n"
	for _, c := range []struct {
		name         string
		payload      string // header and body
		layers       []func([]byte) []byte
		outside      string
		differs      string
		confidential string
		unsigned     bool
		subject      string // if another than that within
		body         string // what Inner's body holds; what of the header it shall not hold is looked for always
		keeps        bool   // the legacy display
	}{
		{name: "signed, detached", payload: protectedHeader + fmt.Sprintf(plainBody, `hp="clear"`), layers: []func([]byte) []byte{detached}, outside: protectedHeader},
		{name: "signed, opaque", payload: protectedHeader + fmt.Sprintf(plainBody, `hp="clear"`), layers: []func([]byte) []byte{opaque}, outside: protectedHeader},
		{name: "signed, several parts", payload: protectedHeader + rich(`hp="clear"`, false), layers: []func([]byte) []byte{detached}, outside: protectedHeader},
		{name: "signed, another subject outside", payload: protectedHeader + fmt.Sprintf(plainBody, `hp="clear"`), layers: []func([]byte) []byte{detached}, outside: outsideBaseline, differs: "subject"},
		{name: "encrypted, baseline", payload: baseline + fmt.Sprintf(plainBody, `hp="cipher"`), layers: []func([]byte) []byte{encrypt}, outside: outsideBaseline, confidential: "subject", unsigned: true},
		{name: "encrypted, none confidential", payload: protectedHeader + hpOuterOf(outsideNone) + fmt.Sprintf(plainBody, `hp="cipher"`), layers: []func([]byte) []byte{encrypt}, outside: outsideNone, unsigned: true},
		{name: "signed and encrypted, baseline", payload: baseline + fmt.Sprintf(plainBody, `hp="cipher"`), layers: []func([]byte) []byte{opaque, encrypt}, outside: outsideBaseline, confidential: "subject"},
		{name: "signed and encrypted, detached", payload: baseline + fmt.Sprintf(plainBody, `hp="cipher"`), layers: []func([]byte) []byte{detached, encrypt}, outside: outsideBaseline, confidential: "subject"},
		{name: "shy", payload: protectedHeader + hpOuterOf(outsideShy) + fmt.Sprintf(plainBody, `hp="cipher"`), layers: []func([]byte) []byte{opaque, encrypt}, outside: outsideShy, confidential: "cc date from subject to"},
		{name: "shy, From of somebody else outside", payload: protectedHeader + hpOuterOf(outsideShy) + fmt.Sprintf(plainBody, `hp="cipher"`), layers: []func([]byte) []byte{opaque, encrypt}, outside: strings.Replace(outsideShy, "From: carol@", "From: eve@", 1), differs: "from", confidential: "cc date from subject to"},
		{name: "three layers", payload: baseline + fmt.Sprintf(plainBody, `hp="cipher"`), layers: []func([]byte) []byte{opaque, encrypt, opaque}, outside: outsideBaseline, confidential: "subject"},
		{name: "several parts, baseline", payload: baseline + rich(`hp="cipher"`, false), layers: []func([]byte) []byte{opaque, encrypt}, outside: outsideBaseline, confidential: "subject"},
		{name: "several parts, legacy display", payload: baseline + rich(`hp="cipher"`, true), layers: []func([]byte) []byte{opaque, encrypt}, outside: outsideBaseline, confidential: "subject"},
		{name: "one part, legacy display", payload: baseline + strings.Replace(fmt.Sprintf(plainBody, `hp-legacy-display="1"; hp="cipher"`), "The text", "Subject: Budget 預算\n\nThe text", 1), layers: []func([]byte) []byte{opaque, encrypt}, outside: outsideBaseline, confidential: "subject"},
		{name: "what looks like one is the author's text", payload: baseline + strings.Replace(fmt.Sprintf(plainBody, `hp="cipher"`), "The text", "Subject: Budget 預算\n\nThe text", 1), layers: []func([]byte) []byte{opaque, encrypt}, outside: outsideBaseline, confidential: "subject", keeps: true},
		{name: "signed only: no legacy display is cut", payload: protectedHeader + strings.Replace(fmt.Sprintf(plainBody, `hp-legacy-display="1"; hp="clear"`), "The text", "Subject: Budget 預算\n\nThe text", 1), layers: []func([]byte) []byte{detached}, outside: protectedHeader, keeps: true},
		{name: "an answer, what it answers confidential", payload: answer + baseline + fmt.Sprintf(plainBody, `hp="cipher"`), layers: []func([]byte) []byte{opaque, encrypt}, outside: outsideBaseline, confidential: "in-reply-to references subject"},
		{name: "an answer, baseline", payload: answer + baseline + hpOuterOf(answer) + fmt.Sprintf(plainBody, `hp="cipher"`), layers: []func([]byte) []byte{opaque, encrypt}, outside: answer + outsideBaseline, confidential: "subject"},
		{name: "draft, protected-headers=v1", payload: protectedHeader + fmt.Sprintf(plainBody, `protected-headers="v1"`), layers: []func([]byte) []byte{opaque, encrypt}, outside: strings.Replace(outsideBaseline, "[...]", "...", 1), confidential: "subject"},
		{name: "draft, several parts", payload: protectedHeader + rich(`protected-headers="v1"`, false), layers: []func([]byte) []byte{detached, encrypt}, outside: strings.Replace(outsideBaseline, "[...]", "Encrypted Message", 1), confidential: "subject"},
		{name: "draft, another To outside", payload: protectedHeader + fmt.Sprintf(plainBody, `protected-headers="v1"`), layers: []func([]byte) []byte{opaque, encrypt}, outside: strings.Replace(outsideBaseline, "alice@", "eve@", 1), differs: "to", confidential: "subject"},
		{name: "draft, signed only", payload: protectedHeader + fmt.Sprintf(plainBody, `protected-headers="v1"`), layers: []func([]byte) []byte{detached}, outside: protectedHeader},
		{name: "no header protection", payload: fmt.Sprintf(plainBody, `x=y`), layers: []func([]byte) []byte{opaque, encrypt}, outside: protectedHeader, keeps: true},
	} {
		entity := []byte(crlf(c.payload))
		for _, layer := range c.layers {
			entity = layer(entity)
		}
		raw := append([]byte(crlf(c.outside)), entity...)
		x := parse(raw)
		o := w.gw.openInner(split(raw[x.Root.HeaderStart:x.Root.BodyStart]), raw)
		if len(c.layers) > 1 || c.unsigned {
			var err error
			if o, err = w.gw.Open(raw, x, w.opener("carol")); err != nil {
				t.Errorf("%s: %v", c.name, err)
				continue
			}
		}
		inner := parse(o.Inner)
		if got := strings.Join(o.Differs, " "); got != c.differs || strings.Join(o.Confidential, " ") != c.confidential || o.Protected != (c.name != "no header protection") {
			t.Errorf("%s: protected %v, differs %q, confidential %q", c.name, o.Protected, got, o.Confidential)
		}
		if env := inner.Root.Envelope; env.Subject != "Budget 預算" || len(env.From) != 1 || env.From[0].Name != "Carol" || strings.Contains(string(o.Inner), "HP-Outer") {
			t.Errorf("%s: it shows\n%s", c.name, o.Inner)
		}
		if want := Pass; c.unsigned != (o.Signature.Status == None) || !c.unsigned && o.Signature.Status != want {
			t.Errorf("%s: signature %+v", c.name, o.Signature)
		}
		var texts []string
		for _, text := range inner.Texts(o.Inner, 1<<20) {
			texts = append(texts, string(text))
		}
		if got := strings.Join(texts, "\n"); !strings.Contains(got, "The text 正文") || strings.Contains(got, "Budget") != (c.keeps && c.name != "no header protection") || len(inner.Root.Children) > 0 && !strings.Contains(got, "of the notes") {
			t.Errorf("%s: the text is %q", c.name, got)
		}
	}
}

// TestLegacyDisplay: what cannot be told from the text stays.
func TestLegacyDisplay(t *testing.T) {
	for _, c := range []struct{ subtype, in, want string }{
		{"plain", "Subject: x\r\n\r\ntext\r\n\r\nmore", "text\r\n\r\nmore"},
		{"plain", "Subject: x\n \ntext", "text"},
		{"plain", "Subject: x\r\ntext", ""},
		{"plain", "\r\ntext", "text"},
		{"html", "<p>a</p><DIV CLASS='header-protection-legacy-display'>\n<pre>x</pre></DIV><div>b</div>", "<p>a</p><div>b</div>"},
		{"html", "<div class=\"other\">Subject: x</div>", ""},
		{"html", "<div class=\"header-protection-legacy-display\">without end", ""},
	} {
		if got, ok := cutLegacy(c.subtype, []byte(c.in)); string(got) != c.want || ok != (c.want != "") {
			t.Errorf("%q: %q, %v", c.in, got, ok)
		}
	}
}

// TestLegacyDisplayAndBoundary: taking an element out makes no boundary of what stood around it.
func TestLegacyDisplayAndBoundary(t *testing.T) {
	w := newSmallWorld(t)
	entity := []byte(crlf("Content-Type: multipart/mixed; boundary=b; hp=cipher\nSubject: x\n\n--b\nContent-Type: text/html; hp-legacy-display=1\n\n" +
		"one\n-<div class=\"header-protection-legacy-display\">x</div>-b\n\ntwo\n--b--\n"))
	o := w.gw.openInner(split([]byte("Subject: [...]\r\n\r\n")), entity)
	if x := parse(o.Inner); len(x.Root.Children) != 1 || !strings.Contains(string(o.Inner), "two") {
		t.Errorf("%d parts in\n%s", len(x.Root.Children), o.Inner)
	}
}
