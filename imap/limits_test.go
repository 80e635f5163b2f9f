package imap

import (
	"strings"
	"testing"
	"time"
)

func TestLimits(t *testing.T) {
	ts := newServer(t, Limits{Connections: 2, LineBytes: 200, LiteralBytes: 50, Depth: 5, Elements: 20, BadCommands: 4})
	c, d := ts.login("alice"), ts.dialClear()
	d.talk("S: * OK …")
	ts.dialClear().talk("S: EOF")
	c.talk(`
		C: a SELECT INBOX
		S? a OK …
		C: b NOOP ` + strings.Repeat("x", 300) + `
		S: b BAD Command line too long
		C: c SEARCH TEXT {51}
		S: c BAD [TOOBIG] …
		C: d SEARCH ((((((ALL))))))
		S: d BAD [LIMIT] …
		C: e NOOP
		S: e OK …
		C: f UID FETCH ` + strings.Repeat("1,", 30) + `1 FLAGS
		S: f BAD [LIMIT] …
		C: g LIST "" (` + strings.Repeat("a ", 30) + `a)
		S: g BAD [LIMIT] …
		C: h FROB
		S: h BAD …
		C: i FROB
		S: i BAD …
		S: * BYE Too many malformed commands
		S: EOF`)
}

func TestSilence(t *testing.T) {
	// Within a command.
	ts := newServer(t, Limits{Progress: 20 * time.Millisecond})
	c := ts.login("alice")
	c.talk(`
		C! a NOO
		S: * BYE Too long without a command
		S: EOF`)
	// Within a literal that has been asked for: its memory is given back by the end.
	c = ts.login("alice")
	c.talk(`
		C: a APPEND INBOX {100}
		S: + …
		C: Subject: a
		S: * BYE …
		S: EOF`)
	if n := ts.intake.reserved.Load(); n != 0 {
		t.Errorf("%d octets are still reserved", n)
	}
	// Between commands.
	ts = newServer(t, Limits{Idle: 20 * time.Millisecond})
	c = ts.login("alice")
	c.talk(`
		S: * BYE Too long without a command
		S: EOF`)
}

func TestSearchTime(t *testing.T) {
	ts := newServer(t, Limits{Search: 1})
	c := ts.login("alice")
	threeMessages(c)
	c.talk(`
		C: a SELECT INBOX
		S? a OK …
		C: b SEARCH TEXT x
		S: b NO [LIMIT] …`)
}

// The answers to a FETCH of many messages go out in few writes.
func TestCoalescing(t *testing.T) {
	ts := newServer(t, Limits{})
	d := &discard{tape: tape{step: 1 << 20}}
	pre := strings.Repeat("a APPEND INBOX {14+}\r\nSubject: a\r\n\r\n\r\n", 200)
	d.in = []byte(pre + "b SELECT INBOX\r\nc FETCH 1:* (FLAGS UID RFC822.SIZE)\r\n")
	playOn(t, ts, d)
	if d.n < 10_000 || d.writes > 15 {
		t.Errorf("%d octets in %d writes", d.n, d.writes)
	}
}
