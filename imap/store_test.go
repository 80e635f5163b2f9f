package imap

import "testing"

func TestStore(t *testing.T) {
	ts := newServer(t, Limits{})
	c, d := ts.login("alice"), ts.login("alice")
	c.append("INBOX", "", "Subject: a\n\nx\n")
	c.append("INBOX", "", "Subject: b\n\nx\n")
	d.talk(`
		C: a SELECT INBOX
		S? a OK …`)
	c.talk(`
		C: a SELECT INBOX
		S? a OK …
		C: b STORE 1 +FLAGS (\Seen $Work)
		S: * FLAGS (\Answered \Flagged \Deleted \Seen \Draft $Work)
		S: * OK [PERMANENTFLAGS …] …
		S: * 1 FETCH (FLAGS (\Seen $Work))
		S: b OK …
		C: c STORE 1 -FLAGS \Seen
		S: * 1 FETCH (FLAGS ($Work))
		S: c OK …
		C: d UID STORE 1:* FLAGS (\Answered)
		S: * 1 FETCH (UID 1 FLAGS (\Answered))
		S: * 2 FETCH (UID 2 FLAGS (\Answered))
		S: d OK …
		C: e STORE 1:2 +FLAGS.SILENT \Flagged \Draft
		S: e OK …
		C: f NOOP
		S: f OK …
		C: g STORE 1 FLAGS (\Recent)
		S: g BAD …
		C: h STORE 3 FLAGS ()
		S: h BAD …
		C: i UID STORE 77 FLAGS ()
		S: i OK …
		C: j STORE 1 FOO ()
		S: j BAD …
		C: k STORE 2 FLAGS ()
		S: * 2 FETCH (FLAGS ())
		S: k OK …`)
	// The other session hears of the outcome, once.
	d.talk(`
		C: b NOOP
		S: * FLAGS …
		S: * OK [PERMANENTFLAGS …] …
		S: * 1 FETCH (UID 1 FLAGS (\Answered \Flagged \Draft \Recent))
		S: * 2 FETCH (UID 2 FLAGS (\Recent))
		S: b OK …
		C: c NOOP
		S: c OK …`)
}
