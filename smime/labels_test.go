package smime

import (
	"strings"
	"testing"

	"cmmpd/internal/mail"
	"cmmpd/internal/message"
	"cmmpd/smime/cms"
)

func TestSIOLabel(t *testing.T) {
	ess := &cms.SecurityLabel{Policy: "1.2.3", Classification: 3}
	for want, m := range map[string]Marking{
		"":                                      {Label: mail.Secret},
		"SIO-Label: marking=\"TOP SECRET\"\r\n": {Text: "TOP SECRET"},
		"SIO-Label: marking=\"a \\\"b\\\" \\\\ c\"\r\n":                                                               {Text: `a "b" \ c`},
		"SIO-Label: marking*=utf-8''%E6%A9%9F%E5%AF%86\r\n":                                                           {Text: "機密"},
		"SIO-Label: marking=\"X\";\r\n fgcolor=black; bgcolor=\"yellow\"\r\n":                                         {Text: "X", Color: "yellow"},
		"SIO-Label: marking=\"X\";\r\n fgcolor=black; bgcolor=\"#aabbcc\"\r\n":                                        {Text: "X", Color: "#aabbcc"},
		"SIO-Label: marking=\"X\";\r\n fgcolor=white; bgcolor=\"red\";\r\n type=\":ess\"; label=\"MQcCAQMGAioD\"\r\n": {Text: "X", Color: "red", ESS: ess},
	} {
		got := string(m.SIOLabel())
		if got != want {
			t.Errorf("%+v is written as %q, want %q", m, got, want)
		}
		if m.Text == "" {
			continue
		}
		h := message.ParseHeader([]byte(got+"\r\n"), message.Limits{})
		params := message.ParseParams(h.Get("SIO-Label"))
		if len(params) == 0 || params[0].Name != "marking" || params[0].Value != m.Text {
			t.Errorf("%q is read as %+v", got, params)
		}
	}
}

func TestMark(t *testing.T) {
	weaker := func(_, value string) bool { return strings.Contains(value, "OLD") }
	const sio = "SIO-Label: marking=\"X\"\r\n"
	for in, want := range map[string]string{
		"A: 1\r\nB: 2\r\n\r\nbody":                          "A: 1\r\n" + sio + "B: 2\r\n\r\nbody",
		"\r\nbody":                                          sio + "\r\nbody",
		"A: 1\r\nsio-label: Y\r\n\r\nbody":                  "A: 1\r\nsio-label: Y\r\n\r\nbody",
		"A: 1\r\nSIO-Label: OLD\r\nB: 2\r\n\r\nbody":        "A: 1\r\n" + sio + "B: 2\r\n\r\nbody",
		"SIO-Label: OLD;\r\n more\r\nB: 2\r\n\r\nbody":      sio + "B: 2\r\n\r\nbody",
		"A: 1\r\nSIO-Label: OLD\r\nSIO-Label: OLD\r\n\r\nx": "A: 1\r\n" + sio + "\r\nx",
		"A: 1\r\n\r\nSIO-Label: OLD\r\n":                    "A: 1\r\n" + sio + "\r\nSIO-Label: OLD\r\n",
	} {
		m := Marking{Text: "X", Weaker: weaker}
		if got := string(m.Mark([]byte(in), message.Limits{})); got != want {
			t.Errorf("%q becomes %q, want %q", in, got, want)
		}
	}
	none := Marking{Label: mail.Secret}
	if got := string(none.Mark([]byte("A: 1\r\n\r\n"), message.Limits{})); got != "A: 1\r\n\r\n" {
		t.Errorf("without a marking: %q", got)
	}
}

// Labels within compressed data, within a signature, and in a file that only looks like one.
func TestLabelsWithin(t *testing.T) {
	w := newSmallWorld(t)
	carol := w.people["carol"]
	sign := func(l *cms.SecurityLabel, content string) string {
		der, err := cms.Sign(nil, false, []cms.SignerSpec{{Cert: carol.Cert, Key: carol.Key}}, cms.SignOptions{Label: l}, []byte(content))
		w.must(err)
		return "Content-Type: application/octet-stream; name=\"x.p7m\"\r\nContent-Transfer-Encoding: base64\r\n\r\n" + string(appendBase64(nil, der))
	}
	label := &cms.SecurityLabel{Policy: "1.2.3", Classification: 3}
	twice := sign(nil, sign(label, "Content-Type: text/plain\r\nX-Classification: secret\r\n\r\nx"))
	got := w.gw.Labels([]byte(twice), parse([]byte(twice)))
	if len(got.Labels) != 1 || got.Labels[0].String() != "1.2.3:3" || got.Unreadable != 0 || len(got.Headers) != 2 || got.Headers[1].Get("X-Classification") != "secret" {
		t.Errorf("a signature within a signature: %+v", got)
	}
	deep := sign(label, "x")
	for range maxLabelDepth {
		deep = sign(nil, deep)
	}
	if got := w.gw.Labels([]byte(deep), parse([]byte(deep))); got.Unreadable != 1 || len(got.Labels) != 0 {
		t.Errorf("deeper than is looked: %+v", got)
	}
	for name, text := range map[string]string{
		"plain":     "Subject: x\r\n\r\ntext",
		"not CMS":   "Content-Type: application/octet-stream; name=x.p7m\r\n\r\nhello",
		"encrypted": string(w.seal("Subject: x\r\n\r\nx", SealOptions{Recipients: w.usable("carol")})),
	} {
		if got := w.gw.Labels([]byte(text), parse([]byte(text))); len(got.Labels)+got.Unreadable+len(got.Headers) != 0 {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

// A small message does not make much work: what all its compressed parts hold is bounded, and what stands beyond that
// counts as a label that cannot be read.
func TestLabelsUnpackLittle(t *testing.T) {
	w := newSmallWorld(t)
	bomb := w.compress("Content-Type: text/plain\r\n\r\n" + strings.Repeat("0", maxUnpacked/2))
	many := "Content-Type: multipart/mixed; boundary=x\r\n\r\n" + strings.Repeat("--x\r\n"+bomb+"\r\n", 5) + "--x--\r\n"
	got := w.gw.Labels([]byte(many), parse([]byte(many)))
	unpacked := 0
	for _, e := range got.Entities {
		unpacked += len(e.Raw)
	}
	if unpacked > maxUnpacked || len(got.Entities) == 0 || got.Unreadable != 5-len(got.Entities) {
		t.Errorf("of %d bytes %d were made; %d are unreadable", len(many), unpacked, got.Unreadable)
	}
}

func FuzzLabels(f *testing.F) {
	w := newSmallWorld(f)
	carol := w.people["carol"]
	for _, detached := range []bool{true, false} {
		der, err := cms.Sign(nil, detached, []cms.SignerSpec{{Cert: carol.Cert, Key: carol.Key}}, cms.SignOptions{Label: &cms.SecurityLabel{Policy: "1.2", Classification: 3}}, []byte("x\r\n"))
		w.must(err)
		f.Add("Content-Type: application/pkcs7-mime\r\nContent-Transfer-Encoding: base64", string(appendBase64(nil, der)))
		f.Add("Content-Type: application/pkcs7-mime\r\nContent-Transfer-Encoding: binary", string(der))
		f.Add("Content-Type: multipart/signed; protocol=\"application/pkcs7-signature\"; boundary=b",
			"--b\r\n\r\nx\r\n--b\r\nContent-Type: application/pkcs7-signature\r\nContent-Transfer-Encoding: base64\r\n\r\n"+string(appendBase64(nil, der))+"--b--\r\n")
	}
	f.Fuzz(func(t *testing.T, header, body string) {
		raw := []byte(header + "\r\n\r\n" + body)
		x := message.Parse(raw, message.Limits{})
		got := w.gw.Labels(raw, x)
		if len(got.Labels) > 0 && w.gw.Inspect(raw, x).Kind == Encrypted {
			t.Fatal("a label of what is encrypted")
		}
		m := Marking{Text: "X", Weaker: func(string, string) bool { return true }}
		marked := m.Mark(raw, message.Limits{})
		if n := len(message.ParseHeader(marked, message.Limits{}).All("SIO-Label")); n != 1 {
			t.Fatalf("%q bears %d SIO-Labels", marked, n)
		}
	})
}
