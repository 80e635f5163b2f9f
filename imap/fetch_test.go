package imap

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
)

const nested = `From: "=?UTF-8?B?6Zmz?=" <alice@works.gov.example>
To: bob@works.gov.example, team: carol@health.gov.example, dave@health.gov.example;
Subject: =?UTF-8?Q?caf=C3=A9?=
Date: Mon, 7 Feb 1994 21:52:25 -0800
Message-ID: <1@works.gov.example>
MIME-Version: 1.0
Content-Type: multipart/mixed; boundary="b1"

preamble
--b1
Content-Type: text/plain; charset=utf-8
Content-ID: <part1>

first part
--b1
Content-Type: message/rfc822
Content-Disposition: attachment; filename="inner.eml"

From: carol@health.gov.example
Subject: inner
Content-Type: multipart/alternative; boundary=b2

--b2
Content-Type: text/plain

inner plain
--b2
Content-Type: text/html

<p>inner html</p>
--b2--
--b1--
`

func TestFetch(t *testing.T) {
	ts := newServer(t, Limits{})
	c := ts.login("alice")
	c.append("INBOX", "", nested)
	c.append("INBOX", "", "Subject: two\n\nbody of two\n")
	addr := `((NIL NIL "carol" "health.gov.example"))`
	c.talk(`
		C: a SELECT INBOX
		S? a OK …
		C: b FETCH 1 ENVELOPE
		S: * 1 FETCH (ENVELOPE ("Mon, 7 Feb 1994 21:52:25 -0800" "=?UTF-8?Q?caf=C3=A9?=" (("=?UTF-8?B?6Zmz?=" NIL "alice" "works.gov.example")) (("=?UTF-8?B?6Zmz?=" NIL "alice" "works.gov.example")) (("=?UTF-8?B?6Zmz?=" NIL "alice" "works.gov.example")) ((NIL NIL "bob" "works.gov.example")(NIL NIL "team" NIL)(NIL NIL "carol" "health.gov.example")(NIL NIL "dave" "health.gov.example")(NIL NIL NIL NIL)) NIL NIL NIL "<1@works.gov.example>"))
		S: b OK …
		C: c FETCH 1 BODYSTRUCTURE
		S: * 1 FETCH (BODYSTRUCTURE (("text" "plain" ("charset" "utf-8") "<part1>" NIL "7bit" 10 0 NIL NIL NIL NIL)("message" "rfc822" NIL NIL NIL "7bit" … (NIL "inner" ` + addr + ` ` + addr + ` ` + addr + ` NIL NIL NIL NIL NIL) (("text" "plain" NIL NIL NIL "7bit" 11 0 NIL NIL NIL NIL)("text" "html" NIL NIL NIL "7bit" 17 0 NIL NIL NIL NIL) "alternative" ("boundary" "b2") NIL NIL NIL) … NIL ("attachment" ("filename" "inner.eml")) NIL NIL) "mixed" ("boundary" "b1") NIL NIL NIL))
		S: c OK …
		C: d FETCH 2 FULL
		S: * 2 FETCH (FLAGS (\Recent) INTERNALDATE "…" RFC822.SIZE 29 ENVELOPE (NIL "two" NIL NIL NIL NIL NIL NIL NIL NIL) BODY ("text" "plain" NIL NIL NIL "7bit" 13 1))
		S: d OK …
		C: e FETCH 1 BODY.PEEK[1]
		S: * 1 FETCH (BODY[1] {10}
		S: first part)
		S: e OK …
		C: f FETCH 1 (BODY.PEEK[1.MIME] BODY.PEEK[2.HEADER.FIELDS (subject)])
		S: * 1 FETCH (BODY[1.MIME] {64}
		S: Content-Type: text/plain; charset=utf-8
		S: Content-ID: <part1>
		S: 
		S:  BODY[2.HEADER.FIELDS (subject)] {18}
		S: Subject: inner
		S: 
		S: )
		S: f OK …
		C: g UID FETCH 1 (BODY.PEEK[2.2]<3.5> BODY.PEEK[2.2]<300.5> BODY.PEEK[9] BODY.PEEK[1.HEADER])
		S: * 1 FETCH (UID 1 BODY[2.2]<3> {5}
		S: inner BODY[2.2]<300> "" BODY[9] NIL BODY[1.HEADER] NIL)
		S: g OK …
		C: h FETCH 2 (BODY.PEEK[1] BODY.PEEK[TEXT] RFC822.HEADER BODY.PEEK[HEADER.FIELDS.NOT (subject)])
		S: * 2 FETCH (BODY[1] {13}
		S: body of two
		S:  BODY[TEXT] {13}
		S: body of two
		S:  RFC822.HEADER {16}
		S: Subject: two
		S: 
		S:  BODY[HEADER.FIELDS.NOT (subject)] {2}
		S: 
		S: )
		S: h OK …`)
	// The whole is byte for byte what was saved, and reading it sets \Seen, once.
	msg := strings.ReplaceAll(nested, "\n", "\r\n")
	c.talk(`
		C: i FETCH 1 BODY[]
		S: * 1 FETCH (FLAGS (\Seen \Recent) BODY[] {` + itoa(len(msg)) + `}`)
	got := make([]byte, len(msg))
	for n := 0; n < len(got); {
		k, err := c.r.Read(got[n:])
		must(t, err)
		n += k
	}
	if !bytes.Equal(got, []byte(msg)) {
		t.Errorf("got %q", got)
	}
	c.talk(`
		S: )
		S: i OK …
		C: j FETCH 1 (FLAGS RFC822.SIZE)
		S: * 1 FETCH (FLAGS (\Seen \Recent) RFC822.SIZE ` + itoa(len(msg)) + `)
		S: j OK …
		C: k FETCH 3 FLAGS
		S: k BAD …
		C: l UID FETCH 3:9 FLAGS
		S: l OK …
		C: m UID FETCH 9:* UID
		S: * 2 FETCH (UID 2)
		S: m OK …`)
}

// Stored data cannot make responses of its own.
func TestFetchInjection(t *testing.T) {
	ts := newServer(t, Limits{})
	c := ts.login("alice")
	c.append("INBOX", "", "Subject: \"quoted\" \\ back\nFrom: \xe9 <a\"b@x>\nContent-Type: text/plain; name=\"a\xff\"\n\nx\n")
	c.talk(`
		C: a EXAMINE INBOX
		S? a OK …
		C: b FETCH 1 ENVELOPE
		S: * 1 FETCH (ENVELOPE (NIL "\"quoted\" \\ back" …
		S? b OK …
		C: c FETCH 1 BODYSTRUCTURE
		S? c OK …`)
}

// Sections longer than what is held at a time are streamed.
func TestFetchLarge(t *testing.T) {
	ts := newServer(t, Limits{})
	c := ts.login("alice")
	var b strings.Builder
	b.WriteString("Subject: large\n\n")
	for i := range 200_000 {
		fmt.Fprintf(&b, "line %d\n", i)
	}
	c.append("INBOX", "", b.String())
	msg := strings.ReplaceAll(b.String(), "\n", "\r\n")
	c.talk(`
		C: a EXAMINE INBOX
		S? a OK …
		C: b FETCH 1 (BODY[] BODY[TEXT]<1000000.5> UID)
		S: * 1 FETCH (BODY[] {` + itoa(len(msg)) + `}`)
	got := make([]byte, len(msg))
	for n := 0; n < len(got); {
		k, err := c.r.Read(got[n:])
		must(t, err)
		n += k
	}
	if string(got) != msg {
		t.Error("the message is not what was saved")
	}
	text := strings.SplitN(msg, "\r\n\r\n", 2)[1]
	c.talk(`
		S:  BODY[TEXT]<1000000> {5}`)
	five := make([]byte, 5)
	_, err := c.r.Read(five)
	must(t, err)
	if string(five) != text[1_000_000:1_000_005] {
		t.Errorf("got %q", five)
	}
	c.talk(`
		S:  UID 1)
		S: b OK …`)
}
