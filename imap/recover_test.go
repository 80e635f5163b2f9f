package imap

import (
	"testing"
	"time"

	"cmmpd/storage"
)

// TestRecoverable: what was expunged lies in a mailbox that can be read, copied and moved out of, and nothing else.
func TestRecoverable(t *testing.T) {
	ts := newServerWith(t, storage.Options{Dir: t.TempDir(), Recover: time.Hour, Quotas: storage.Quotas{Account: storage.Quota{Messages: 4}}}, Limits{})
	c := ts.login("alice")
	c.talk(`
		C: a EXAMINE Recoverable
		S: a NO [NONEXISTENT] …`)
	c.append("Drafts", `(\Deleted) `, "Subject: draft\n\ntext\n")
	for _, name := range []string{"one", "two", "three"} {
		c.append("INBOX", `(\Flagged $Work) `, "Subject: "+name+"\n\ntext of "+name+"\n")
	}
	c.talk(`
		C: b SELECT INBOX
		S? b OK …
		C: c STORE 1:2 +FLAGS.SILENT (\Deleted)
		S? c OK …
		C: d EXPUNGE
		S: * 2 EXPUNGE
		S: * 1 EXPUNGE
		S: d OK …
		C: e SELECT Drafts
		S? e OK …
		C: f EXPUNGE
		S: * 1 EXPUNGE
		S: f OK …
		C: g LIST "" %
		S: * LIST (\HasNoChildren) "/" INBOX
		S: * LIST (\HasNoChildren \Archive) "/" Archive
		S: * LIST (\HasNoChildren \Drafts) "/" Drafts
		S: * LIST (\HasNoChildren \Junk) "/" Junk
		S: * LIST (\HasNoChildren \Sent) "/" Sent
		S: * LIST (\HasNoChildren \Trash) "/" Trash
		S: g OK …
		C: h LIST "" R*
		S: * LIST (\Noinferiors \HasNoChildren) "/" Recoverable
		S: h OK …
		C: i LIST "" Recoverable
		S: * LIST (\Noinferiors \HasNoChildren) "/" Recoverable
		S: i OK …
		C: j LSUB "" R*
		S: j OK …
		C: k LIST (SUBSCRIBED) "" R*
		S: k OK …
		C: l STATUS Recoverable (MESSAGES)
		S: * STATUS Recoverable (MESSAGES 2)
		S: l OK …
		C: m GETQUOTAROOT Recoverable
		S: * QUOTAROOT Recoverable
		S: m OK …
		C: n GETQUOTA ""
		S: * QUOTA "" (MESSAGE 1 4)
		S: n OK …
		C: o EXAMINE Recoverable
		S? o OK [READ-ONLY] …
		C: p MOVE 1 INBOX
		S: p NO [NOPERM] …
		C: q SELECT Recoverable
		S? q OK [READ-ONLY] …
		C: r FETCH 1:* (FLAGS BODY[])
		S: * 1 FETCH (FLAGS (\Flagged $Work \Recent) BODY[] {29}
		S: Subject: one
		S: 
		S: text of one
		S: )
		S: * 2 FETCH (FLAGS (\Flagged $Work \Recent) BODY[] {29}
		S: Subject: two
		S: 
		S: text of two
		S: )
		S: r OK …
		C: s STORE 1 +FLAGS (\Deleted)
		S: s NO [NOPERM] …
		C: t EXPUNGE
		S: t NO [NOPERM] …
		C: u COPY 1 INBOX
		S: u OK [COPYUID … 1 4] …
		C: v MOVE 2 Archive
		S: * OK [COPYUID … 2 1] …
		S: * 2 EXPUNGE
		S: v OK …
		C: w DELETE Recoverable
		S: w NO [NOPERM] …
		C: x RENAME Recoverable Other
		S: x NO [NOPERM] …
		C: y CREATE Recoverable/Below
		S: y NO [NOPERM] …
		C: z RENAME Junk Recoverable/Below
		S: z NO [NOPERM] …
		C: A CREATE Recoverable
		S: A NO [ALREADYEXISTS] …
		C: B CLOSE
		S: B OK …
		C: C SELECT INBOX
		S? C OK …
		C: D COPY 1 Recoverable
		S: D NO [NOPERM] …
		C: E APPEND Recoverable {12+}
		C: Subject: x
		C: 
		S? E NO [NOPERM] …
		C: F FETCH 2 FLAGS
		S: * 2 FETCH (FLAGS (\Flagged $Work \Recent))
		S: F OK …
		C: G STATUS Recoverable (MESSAGES)
		S: * STATUS Recoverable (MESSAGES 1)
		S: G OK …`)
}
