package imap

import "testing"

func TestRev2(t *testing.T) {
	ts := newServer(t, Limits{})
	c, d := ts.login("alice"), ts.login("alice")
	c.append("INBOX", "", "Subject: a\n\nx\n")
	c.append("INBOX", "", "Subject: b\n\nx\n")
	c.talk(`
		C: a SELECT INBOX
		S? * 2 RECENT
		S? a OK …
		C: b ENABLE IMAP4rev2 UTF8=ACCEPT
		S: * ENABLED IMAP4rev2
		S: b OK …
		C: c FETCH 1 FLAGS
		S: * 1 FETCH (FLAGS ())
		S: c OK …
		C: d SELECT INBOX
		S: * OK [CLOSED] …
		S: * FLAGS …
		S: * OK [PERMANENTFLAGS …] …
		S: * 2 EXISTS
		S: * LIST (\HasNoChildren \Subscribed) "/" INBOX
		S: * OK [UIDVALIDITY …] …
		S: * OK [UIDNEXT 3] …
		S: * OK [MAILBOXID …] …
		S: * OK [HIGHESTMODSEQ 3] …
		S: d OK [READ-WRITE] …
		C: e SEARCH ALL
		S: * ESEARCH (TAG "e") ALL 1:2
		S: e OK …
		C: f UID SEARCH TEXT nothing
		S: * ESEARCH (TAG "f") UID
		S: f OK …
		C: g STATUS INBOX (MESSAGES SIZE DELETED)
		S: * STATUS INBOX (MESSAGES 2 SIZE 34 DELETED 0)
		S: g OK …`)
	d.append("INBOX", "", "Subject: c\n\nx\n")
	c.talk(`
		C: h NOOP
		S: * 3 EXISTS
		S: h OK …
		C: i FETCH 3 (BINARY.SIZE[1] BINARY[1])
		S: * 3 FETCH (FLAGS (\Seen) BINARY.SIZE[1] 3 BINARY[1] {3}
		S: x
		S: )
		S: i OK …`)
}

func TestUTF8Names(t *testing.T) {
	ts := newServer(t, Limits{})
	c := ts.login("alice")
	c.talk(`
		C: a CREATE "機密"
		S: a OK …
		C: a2 LIST "" *&*
		S: a2 OK …
		C: b ENABLE UTF8=ACCEPT
		S: * ENABLED UTF8=ACCEPT
		S: b OK …
		C: c CREATE "機密/a&b"
		S: c OK …
		C: d LIST "" "機%/*"
		S: * LIST (\HasNoChildren) "/" "機密/a&b"
		S: d OK …
		C: e STATUS "機密" (MESSAGES)
		S: * STATUS "機密" (MESSAGES 0)
		S: e OK …
		C: f CREATE "a` + "\x80" + `"
		S: f BAD …
		C: f2 CREATE {2+}
		C: a` + "\x80" + `
		S: f2 NO [CANNOT] …
		C: g SELECT {6+}
		C: 機密
		S? g OK …
		C: h APPEND "機密" UTF8 (~{19+}
		C: Subject: 機密
		C: 
		C: )
		S: * 1 EXISTS
		S: * 1 RECENT
		S: h OK [APPENDUID …] …
		C: i APPEND "機密" UTF8 {3+}
		C: x: 
		S: i BAD …
		C: j FETCH 1 ENVELOPE
		S? j OK …`)
	ts.login("alice").talk(`
		C: a LIST "" "&aV9b*"
		S: a OK …
		C: b LIST "" "&*"
		S: b OK …
		C: c STATUS &alhbxg- (MESSAGES)
		S: c NO …
		C: d LIST "" "*b"
		S: * LIST (\HasNoChildren) "/" &al9bxg-/a&-b
		S: d OK …`)
}
