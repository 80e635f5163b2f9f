package imap

import "testing"

// threeMessages puts three messages into INBOX.
func threeMessages(c *client) {
	for _, s := range []string{"a", "b", "c"} {
		c.append("INBOX", "", "Subject: "+s+"\n\nx\n")
	}
}

func TestExpunge(t *testing.T) {
	ts := newServer(t, Limits{})
	c := ts.login("alice")
	threeMessages(c)
	c.talk(`
		C: a SELECT INBOX
		S? a OK …
		C: b STORE 1,3 +FLAGS.SILENT (\Deleted)
		S: b OK …
		C: c UID EXPUNGE 2:3
		S: * 3 EXPUNGE
		S: c OK …
		C: d EXPUNGE
		S: * 1 EXPUNGE
		S: d OK …
		C: e EXPUNGE
		S: e OK …
		C: f FETCH 1:* (UID)
		S: * 1 FETCH (UID 2)
		S: f OK …
		C: g UID EXPUNGE 1:*
		S: g OK …
		C: h EXPUNGE 1
		S: h BAD …`)
}

// EXPUNGE is never told within FETCH, STORE and SEARCH by sequence number; what is asked for and gone is
// an error of the command, and the numbers hold until the client has been told.
func TestExpungeByAnother(t *testing.T) {
	ts := newServer(t, Limits{})
	c, d := ts.login("alice"), ts.login("alice")
	threeMessages(c)
	c.talk(`
		C: a SELECT INBOX
		S? a OK …`)
	d.talk(`
		C: a SELECT INBOX
		S? a OK …
		C: b STORE 1 +FLAGS.SILENT \Deleted
		S: b OK …
		C: c EXPUNGE
		S: * 1 EXPUNGE
		S: c OK …`)
	c.talk(`
		C: b FETCH 2 (UID)
		S: * 2 FETCH (UID 2)
		S: b OK …
		C: c FETCH 1:2 (UID)
		S: * 2 FETCH (UID 2)
		S: c NO [EXPUNGEISSUED] …
		C: d STORE 1 +FLAGS.SILENT (\Seen)
		S: d NO [EXPUNGEISSUED] …
		C: e SEARCH ALL
		S: * SEARCH 2 3
		S: e OK …
		C: e COPY 1:2 Trash
		S: * 1 EXPUNGE
		S: e NO [EXPUNGEISSUED] …
		C: e STATUS Trash (MESSAGES)
		S: * STATUS Trash (MESSAGES 0)
		S: e OK …
		C: f UID FETCH 1:2 (FLAGS)
		S: * 1 FETCH (UID 2 FLAGS (\Recent))
		S: f OK …
		C: g FETCH 1 (UID)
		S: * 1 FETCH (UID 2)
		S: g OK …`)
}

func TestCopyMove(t *testing.T) {
	ts := newServer(t, Limits{})
	c := ts.login("alice")
	threeMessages(c)
	c.talk(`
		C: a SELECT INBOX
		S? a OK …
		C: b STORE 2 +FLAGS.SILENT ($Work \Flagged)
		S: b OK …
		C: c COPY 2:3 Archive
		S: c OK [COPYUID … 2:3 1:2] COPY completed
		C: d UID COPY 3 nothing
		S: d NO [TRYCREATE] …
		C: e UID COPY 77 Archive
		S: e OK UID COPY completed
		C: f COPY 7 Archive
		S: f BAD …
		C: g MOVE 1,3 Archive
		S: * OK [COPYUID … 1,3 3:4] …
		S: * 3 EXPUNGE
		S: * 1 EXPUNGE
		S: g OK MOVE completed
		C: h UID MOVE 2 Archive
		S: * OK [COPYUID … 2 5] …
		S: * 1 EXPUNGE
		S: h OK UID MOVE completed
		C: i SELECT Archive
		S? * 5 EXISTS
		S? i OK …
		C: j FETCH 1,5 FLAGS
		S: * 1 FETCH (FLAGS (\Flagged $Work \Recent))
		S: * 5 FETCH (FLAGS (\Flagged $Work \Recent))
		S: j OK …`)
}
