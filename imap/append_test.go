package imap

import (
	"strings"
	"testing"
)

func TestAppend(t *testing.T) {
	ts := newServer(t, Limits{MessageBytes: 10_000})
	c := ts.login("alice")
	c.talk(`
		C: a APPEND Sent (\Seen $Sent) "17-Jul-2026 02:44:25 -0700" {17}
		S: + …
		C: Subject: a
		C: 
		C: x
		C: 
		S: a OK [APPENDUID … 1] APPEND completed
		C: b APPEND {4+}
		C: Sent {12+}
		C: Subject: b
		C: 
		S: b OK [APPENDUID … 2] …
		C: c APPEND nothing {3+}
		C: x: 
		S: c NO [TRYCREATE] …
		C: d APPEND Sent {0+}
		C: 
		S: d NO …
		C: e APPEND Sent {10001}
		S: e NO [TOOBIG] …
		C: f APPEND Sent {10002+}`)
	c.send(strings.Repeat("f LOGOUT\r\n", 1000) + "\r\n\r\n")
	c.talk(`
		S: f NO [TOOBIG] …
		C: g APPEND Sent (\Recent) {3+}
		C: x: 
		S: g BAD …
		C: h APPEND Sent {9+}`)
	c.send("x: \x00\r\n\r\nx\r\n")
	c.talk(`
		S: h BAD …
		C: i APPEND Sent ~{9+}`)
	c.send("x: \x00\r\n\r\nx\r\n")
	c.talk(`
		S: i NO [UNKNOWN-CTE] …
		C: i2 APPEND ~{4+}
		C: Sent {3+}
		C: x: 
		S: i2 BAD …
		C: j EXAMINE Sent
		S? j OK …
		C: k FETCH 1:* (FLAGS INTERNALDATE RFC822.SIZE)
		S: * 1 FETCH (FLAGS (\Seen $Sent \Recent) INTERNALDATE "17-Jul-2026 …" RFC822.SIZE 17)
		S: * 2 FETCH (FLAGS (\Recent) …RFC822.SIZE 12)
		S: k OK …`)
}

// A refusal of policy is NO with its sentence, and nothing of it becomes a response of its own.
func TestAppendRefused(t *testing.T) {
	ts := newServer(t, Limits{})
	c := ts.login("alice")
	c.talk(`
		C: a APPEND Sent {19+}
		C: Subject: REFUSED
		C: x
		S: a NO [CANNOT] alice@works.gov.example has no certificate  a OK injected
		C: b STATUS Sent (MESSAGES)
		S: * STATUS Sent (MESSAGES 0)
		S: b OK …`)
}

func TestAppendToSelected(t *testing.T) {
	ts := newServer(t, Limits{})
	c := ts.login("alice")
	c.talk(`
		C: a SELECT INBOX
		S? a OK …
		C: b APPEND INBOX {14+}
		C: Subject: b
		C: 
		C: 
		S: * 1 EXISTS
		S: * 1 RECENT
		S: b OK [APPENDUID … 1] …`)
}

func TestMultiAppend(t *testing.T) {
	ts := newServer(t, Limits{MessageBytes: 1000})
	c := ts.login("alice")
	c.talk(`
		C: a APPEND Sent (\Seen) {14}
		S: + …
		C: Subject: a
		C: 
		C:  "17-Jul-2026 02:44:25 -0700" {14+}
		C: Subject: b
		C: 
		C:  ~{14+}
		C: Subject: c
		C: 
		C: 
		S: a OK [APPENDUID … 1:3] APPEND completed
		C: b APPEND Sent {14+}
		C: Subject: d
		C: 
		C:  {0+}
		C: 
		S: b NO …
		C: c APPEND Sent {14+}
		C: Subject: d
		C: 
		C:  {18+}
		C: Subject: REFUSED
		C: 
		S: c NO …
		C: d APPEND Sent {14+}
		C: Subject: d
		C: 
		C:  (\Seen)
		S: d BAD …
		C: e APPEND Sent {14+}
		C: Subject: d
		C: 
		C:  {1001}
		S: e NO [TOOBIG] …
		C: f STATUS Sent (MESSAGES UNSEEN)
		S: * STATUS Sent (MESSAGES 3 UNSEEN 2)
		S: f OK …`)
	// One APPEND may bring two messages of the longest kind.
	c.send("g APPEND Sent")
	for range 3 {
		c.send(" {900+}\r\n" + strings.Repeat("x: y\r\n", 150))
	}
	c.talk(`
		C: 
		S: g NO [TOOBIG] …
		C: h NOOP
		S: h OK …`)
	if n := ts.intake.reserved.Load(); n != 0 {
		t.Errorf("%d octets are still reserved", n)
	}
}
