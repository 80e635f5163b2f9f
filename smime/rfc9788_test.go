package smime

import (
	"bytes"
	"slices"
	"strings"
	"testing"
)

// rfc9788Payload is the cryptographic payload of the message in RFC 9788, appendix C.3.1.2, as the RFC prints
// it ("smime-signed-enc-hp-baseline"; text of the RFC, IETF Trust, BCP 78).
const rfc9788Payload = `MIME-Version: 1.0
Content-Transfer-Encoding: 7bit
Subject: smime-signed-enc-hp-baseline
Message-ID: <smime-signed-enc-hp-baseline@example>
From: Alice <alice@smime.example>
To: Bob <bob@smime.example>
Date: Sat, 20 Feb 2021 10:09:02 -0500
User-Agent: Sample MUA Version 1.0
HP-Outer: Subject: [...]
HP-Outer: Message-ID: <smime-signed-enc-hp-baseline@example>
HP-Outer: From: Alice <alice@smime.example>
HP-Outer: To: Bob <bob@smime.example>
HP-Outer: Date: Sat, 20 Feb 2021 10:09:02 -0500
HP-Outer: User-Agent: Sample MUA Version 1.0
Content-Type: text/plain; charset="utf-8"; hp="cipher"

This is the
smime-signed-enc-hp-baseline
message.
`

// TestRFC9788Payload: what others wrote by RFC 9788 is unwrapped, and what was changed outside is seen.
func TestRFC9788Payload(t *testing.T) {
	w := newSmallWorld(t)
	payload := crlf(rfc9788Payload)
	outside := ""
	for line := range strings.Lines(payload) {
		if f, ok := strings.CutPrefix(line, "HP-Outer: "); ok {
			outside += f
		}
	}
	for name, c := range map[string]struct {
		outer   string
		differs []string
	}{
		"as it was sent":    {outside, nil},
		"another To":        {strings.Replace(outside, "To: Bob <bob@", "To: Bob <eve@", 1), []string{"to"}},
		"a subject put in":  {strings.Replace(outside, "[...]", "urgent", 1), []string{"subject"}},
		"a field taken out": {strings.Replace(outside, "User-Agent: Sample MUA Version 1.0\r\n", "", 1), []string{"user-agent"}},
		"a list's field":    {"List-Id: <a.example>\r\n" + outside, nil},
	} {
		o := w.gw.openInner(split([]byte(c.outer+"\r\n")), []byte(payload))
		if !o.Protected || !slices.Equal(o.Differs, c.differs) {
			t.Errorf("%s: protected %v, differs %v", name, o.Protected, o.Differs)
		}
		x := parse(o.Inner)
		if x.Root.Envelope.Subject != "smime-signed-enc-hp-baseline" || bytes.Contains(o.Inner, []byte("HP-Outer")) ||
			!bytes.HasSuffix(o.Inner, []byte("\r\n\r\nThis is the\r\nsmime-signed-enc-hp-baseline\r\nmessage.\r\n")) {
			t.Errorf("%s: %s", name, o.Inner)
		}
	}
	// Sealed again by us and opened, it is the same.
	inner := w.gw.openInner(split([]byte(outside+"\r\n")), []byte(payload)).Inner
	again := w.open(w.seal(string(inner), SealOptions{Recipients: w.usable("carol")}), "carol")
	if !again.Protected || len(again.Differs) > 0 || !bytes.Contains(again.Inner, []byte("Subject: smime-signed-enc-hp-baseline\r\n")) {
		t.Errorf("%+v\n%s", again.Differs, again.Inner)
	}
}
