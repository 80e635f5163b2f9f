package imap

import "testing"

func TestSelect(t *testing.T) {
	ts := newServer(t, Limits{})
	c := ts.login("alice")
	c.append("INBOX", `(\Seen) `, "Subject: a\n\nx\n")
	c.append("INBOX", `($Work) `, "Subject: b\n\nx\n")
	c.talk(`
		C: a EXAMINE inbox
		S: * FLAGS (\Answered \Flagged \Deleted \Seen \Draft $Work)
		S: * OK [PERMANENTFLAGS ()] …
		S: * 2 EXISTS
		S: * 2 RECENT
		S: * OK [UNSEEN 2] …
		S: * OK [UIDVALIDITY …] …
		S: * OK [UIDNEXT 3] …
		S: * OK [HIGHESTMODSEQ 3] …
		S: a OK [READ-ONLY] EXAMINE completed
		C: b SELECT INBOX
		S: * OK [CLOSED] …
		S: * FLAGS (\Answered \Flagged \Deleted \Seen \Draft $Work)
		S: * OK [PERMANENTFLAGS (\Answered \Flagged \Deleted \Seen \Draft $Work \*)] …
		S: * 2 EXISTS
		S: * 2 RECENT
		S: * OK [UNSEEN 2] …
		S: * OK [UIDVALIDITY …] …
		S: * OK [UIDNEXT 3] …
		S: * OK [HIGHESTMODSEQ 3] …
		S: b OK [READ-WRITE] SELECT completed
		C: c FETCH 1:* FLAGS
		S: * 1 FETCH (FLAGS (\Seen \Recent))
		S: * 2 FETCH (FLAGS ($Work \Recent))
		S: c OK …`)
	// Another session does not see them as recent any more.
	d := ts.login("alice")
	d.talk(`
		C: a SELECT INBOX
		S? * 0 RECENT
		S? a OK …
		C: b SELECT nothing
		S: * OK [CLOSED] …
		S: b NO [NONEXISTENT] …
		C: c FETCH 1 FLAGS
		S: c BAD No mailbox is selected
		C: d SELECT INBOX
		S? d OK …
		C: e UNSELECT
		S: e OK …
		C: f CLOSE
		S: f BAD …`)
}

// EXAMINE changes nothing: no flags, no \Seen by reading, no expunge by CLOSE.
func TestExamineIsReadOnly(t *testing.T) {
	ts := newServer(t, Limits{})
	c := ts.login("alice")
	c.append("INBOX", `(\Deleted) `, "Subject: a\n\nx\n")
	c.talk(`
		C: a EXAMINE INBOX
		S? a OK [READ-ONLY] …
		C: b FETCH 1 BODY[]
		S: * 1 FETCH (BODY[] {17}
		S: Subject: a
		S: 
		S: x
		S: )
		S: b OK …
		C: c STORE 1 +FLAGS (\Seen)
		S: c NO [NOPERM] …
		C: d EXPUNGE
		S: d NO [NOPERM] …
		C: e UID EXPUNGE 1
		S: e NO [NOPERM] …
		C: f MOVE 1 Trash
		S: f NO [NOPERM] …
		C: g COPY 1 Trash
		S: g OK [COPYUID …] …
		C: h CLOSE
		S: h OK …
		C: i SELECT INBOX
		S? * 1 EXISTS
		S? i OK …
		C: j FETCH 1 FLAGS
		S: * 1 FETCH (FLAGS (\Deleted \Recent))
		S: j OK …
		C: k CLOSE
		S: k OK …
		C: l STATUS INBOX (MESSAGES)
		S: * STATUS INBOX (MESSAGES 0)
		S: l OK …`)
}
