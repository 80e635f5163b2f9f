package imap

import (
	"strings"
	"testing"
)

func TestCreateDeleteRename(t *testing.T) {
	ts := newServer(t, Limits{})
	c := ts.login("alice")
	c.talk(`
		C: a CREATE one/
		S: a OK …
		C: b CREATE one
		S: b NO [ALREADYEXISTS] …
		C: c CREATE inbox
		S: c NO [ALREADYEXISTS] …
		C: d RENAME one two/three
		S: d OK …
		C: e SELECT one
		S: e NO [NONEXISTENT] …
		C: f EXAMINE two/three
		S? f OK [READ-ONLY] …
		C: g DELETE two/three
		S: g OK …
		C: h FETCH 1 FLAGS
		S: h BAD No mailbox is selected
		C: i DELETE two/three
		S: i NO [NONEXISTENT] …
		C: j DELETE INBOX
		S: j NO [CANNOT] …
		C: k RENAME nothing x
		S: k NO [NONEXISTENT] …
		C: l RENAME Sent INBOX
		S: l NO …
		C: l2 RENAME Drafts x
		S: l2 NO [CANNOT] …
		C: m CREATE pile (USE (\Sent))
		S: m …
		C: n CREATE all (USE (\All))
		S: n NO [USEATTR] …
		C: o CREATE x (FOO)
		S: o BAD …`)
}

func TestMailboxNames(t *testing.T) {
	ts := newServer(t, Limits{})
	c := ts.login("alice")
	for name, want := range map[string]string{
		`"/x"`: "NO", `a//b`: "NO", `a/../b`: "NO", `..`: "NO", `.`: "NO", `""`: "NO", `"a*"`: "NO", `"a%"`: "NO", `" a"`: "NO", `"a "`: "NO",
		`&AAE-`: "NO", `&IC4-x`: "NO" /* right-to-left override */, `&AC8-`: "NO" /* hidden separator */, `&AAA`: "NO", `&2D0-`: "NO",
		`&-`: "OK", `.hidden`: "OK", `"a b"`: "OK", `&ZYdO9g-`: "OK", `~root`: "OK", `#news`: "OK",
		"e&AwE-":                  "OK", // e with a combining acute: kept in normal form C
		strings.Repeat("x", 1025): "NO",
	} {
		c.send("a CREATE " + name + "\r\n")
		if c.line(); !strings.HasPrefix(c.last, "a "+want) {
			t.Errorf("CREATE %s: %s", name, c.last)
		}
	}
	c.talk(`
		C: b LIST "" &AOk-
		S: * LIST (\HasNoChildren) "/" &AOk-
		S: b OK …`)
}

func TestStatus(t *testing.T) {
	ts := newServer(t, Limits{})
	c := ts.login("alice")
	c.append("INBOX", "", "Subject: a\n\nx\n")
	c.append("INBOX", `(\Seen) `, "Subject: b\n\nx\n")
	c.talk(`
		C: a STATUS INBOX (MESSAGES UNSEEN RECENT UIDNEXT)
		S: * STATUS INBOX (MESSAGES 2 UNSEEN 1 RECENT 2 UIDNEXT 3)
		S: a OK …
		C: b STATUS nothing (MESSAGES)
		S: b NO [NONEXISTENT] …
		C: c STATUS INBOX (FOO)
		S: c BAD …
		C: d STATUS INBOX ()
		S: d BAD …
		C: e SELECT INBOX
		S? e OK …
		C: f STATUS INBOX (UIDVALIDITY RECENT)
		S: * STATUS INBOX (UIDVALIDITY … RECENT 0)
		S: f OK …`)
}
