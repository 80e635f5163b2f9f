package imap

import (
	"testing"
	"time"
)

func TestIdle(t *testing.T) {
	ts := newServer(t, Limits{})
	c, d := ts.login("alice"), ts.login("alice")
	c.talk(`
		C: a SELECT INBOX
		S? a OK …
		C: b IDLE
		S: + …`)
	d.append("INBOX", "", "Subject: a\n\nx\n")
	c.talk(`
		S: * 1 EXISTS
		S: * 1 RECENT`)
	d.talk(`
		C: a SELECT INBOX
		S? a OK …
		C: b STORE 1 +FLAGS.SILENT (\Deleted)
		S: b OK …`)
	c.talk(`
		S: * 1 FETCH (UID 1 FLAGS (\Deleted \Recent))`)
	d.talk(`
		C: c EXPUNGE
		S: * 1 EXPUNGE
		S: c OK …`)
	c.talk(`
		S: * 1 EXPUNGE
		C! DO
		C: NE
		S: b OK IDLE completed
		C: c IDLE
		S: + …
		C: FOO
		S: c BAD …
		C: d NOOP
		S: d OK …`)
	// IDLE works without a mailbox, and the line ends with the server's.
	d.talk(`
		C: d UNSELECT
		S: d OK …
		C: e IDLE
		S: + …`)
	must(t, ts.srv.Shutdown(t.Context()))
	d.talk(`
		S: * BYE [UNAVAILABLE] …
		S: EOF`)
}

func TestIdleTooLong(t *testing.T) {
	ts := newServer(t, Limits{Idle: time.Millisecond})
	c := ts.dial()
	c.send("a LOGIN alice secret\r\nb IDLE\r\n")
	c.talk(`
		S? * BYE Too long without a command
		S: EOF`)
}

func TestDeletedMailbox(t *testing.T) {
	ts := newServer(t, Limits{})
	c, d := ts.login("alice"), ts.login("alice")
	c.talk(`
		C: a SELECT Archive
		S? a OK …
		C: b IDLE
		S: + …`)
	d.talk(`
		C: a DELETE Archive
		S: a OK …`)
	c.talk(`
		S: * BYE [NONEXISTENT] …
		S: EOF`)
}
