package imap

import "testing"

func TestESearch(t *testing.T) {
	ts := newServer(t, Limits{})
	c := ts.login("alice")
	for _, flags := range []string{`(\Flagged) `, ``, `(\Flagged) `, `(\Flagged) `, ``} {
		c.append("INBOX", flags, "Subject: a\n\nx\n")
	}
	c.talk(`
		C: a SELECT INBOX
		S? a OK …
		C: b STORE 1 +FLAGS (\Deleted)
		S? b OK …
		C: c EXPUNGE
		S? c OK …
		C: d SEARCH RETURN (MIN MAX COUNT ALL) FLAGGED
		S: * ESEARCH (TAG "d") MIN 2 MAX 3 COUNT 2 ALL 2:3
		S: d OK …
		C: e UID SEARCH RETURN () CHARSET UTF-8 FLAGGED
		S: * ESEARCH (TAG "e") UID ALL 3:4
		S: e OK …
		C: f UID SEARCH RETURN (COUNT MIN) ANSWERED
		S: * ESEARCH (TAG "f") UID COUNT 0
		S: f OK …
		C: g SEARCH RETURN (MIN) MODSEQ 4
		S: * OK [HIGHESTMODSEQ …] …
		S: * ESEARCH (TAG "g") MIN 2 MODSEQ 4
		S: g OK …
		C: h SEARCH RETURN (ALL) MODSEQ 4
		S: * ESEARCH (TAG "h") ALL 2:4 MODSEQ 6
		S: h OK …
		C: i SEARCH RETURN (NONE) ALL
		S: i BAD …
		C: j SEARCH RETURN (MIN
		S: j BAD …
		C: k SEARCH RETURN
		S: k BAD …`)
}

func TestSearchRes(t *testing.T) {
	ts := newServer(t, Limits{})
	c := ts.login("alice")
	for _, flags := range []string{`(\Flagged) `, ``, `(\Flagged) `, `(\Flagged) `} {
		c.append("INBOX", flags, "Subject: a\n\nx\n")
	}
	c.talk(`
		C: a SELECT INBOX
		S? a OK …
		C: b FETCH $ UID
		S: b OK …
		C: c SEARCH RETURN (SAVE) FLAGGED
		S: c OK …
		C: d FETCH $ UID
		S: * 1 FETCH (UID 1)
		S: * 3 FETCH (UID 3)
		S: * 4 FETCH (UID 4)
		S: d OK …
		C: e UID FETCH $ FLAGS
		S: * 1 FETCH (UID 1 FLAGS (\Flagged \Recent))
		S? e OK …
		C: f SEARCH RETURN (ALL) NOT $
		S: * ESEARCH (TAG "f") ALL 2
		S: f OK …
		C: g SEARCH UID $ NOT 1
		S: * SEARCH 3 4
		S: g OK …
		C: h STORE 1 +FLAGS.SILENT (\Deleted)
		S: h OK …
		C: i EXPUNGE
		S: * 1 EXPUNGE
		S: i OK …
		C: j FETCH $ UID
		S: * 2 FETCH (UID 3)
		S: * 3 FETCH (UID 4)
		S: j OK …
		C: k UID SEARCH RETURN (SAVE COUNT) BODY nothing
		S: * ESEARCH (TAG "k") UID COUNT 0
		S: k OK …
		C: l COPY $ Trash
		S: l OK COPY completed
		C: m SEARCH RETURN (SAVE MAX) ALL
		S: * ESEARCH (TAG "m") MAX 3
		S: m OK …
		C: n UID MOVE $ Trash
		S: * OK [COPYUID … 4 1] …
		S: * 3 EXPUNGE
		S: n OK …
		C: o SEARCH RETURN (SAVE MIN MAX) ALL
		S: * ESEARCH (TAG "o") MIN 1 MAX 2
		S: o OK …
		C: p SEARCH CHARSET X $
		S: p NO [BADCHARSET …] …
		C: q FETCH $ UID
		S: * 1 FETCH (UID 2)
		S: * 2 FETCH (UID 3)
		S: q OK …
		C: p SEARCH RETURN (SAVE) FROB
		S: p BAD …
		C: q FETCH $ UID
		S: * 1 FETCH (UID 2)
		S: * 2 FETCH (UID 3)
		S: q OK …
		C: p SEARCH RETURN (SAVE) CHARSET X ALL
		S: p NO [BADCHARSET …] …
		C: q FETCH $ UID
		S: q OK …
		C: r FETCH $,1 UID
		S: r BAD …
		C: s SELECT INBOX (QRESYNC (1 1 $))
		S: s BAD …
		C: t EXAMINE INBOX
		S? t OK …
		C: u FETCH $ UID
		S: u OK …`)
}

func TestObjectIDs(t *testing.T) {
	ts := newServer(t, Limits{})
	c := ts.login("alice")
	c.append("INBOX", ``, "Subject: a\nMessage-ID: <1@x>\n\nx\n")
	c.append("INBOX", ``, "Subject: Re: a\nMessage-ID: <2@x>\nIn-Reply-To: <1@x>\n\nx\n")
	c.talk(`
		C: a CREATE x
		S: a OK [MAILBOXID (F…)] …
		C: b STATUS x (MAILBOXID SIZE DELETED APPENDLIMIT)
		S: * STATUS x (MAILBOXID (F…) SIZE 0 DELETED 0 APPENDLIMIT 52428800)
		S: b OK …
		C: c SELECT INBOX
		S? * OK [MAILBOXID (F…)] …
		S? c OK …
		C: d FETCH 1 (EMAILID THREADID)
		S: * 1 FETCH (EMAILID (M…) THREADID (T…))`)
	var email, thread string
	splitIDs(c.last, &email, &thread)
	c.talk(`
		S: d OK …
		C: e COPY 1 x
		S: e OK …
		C: f FETCH 2 THREADID
		S: * 2 FETCH (THREADID (` + thread + `))
		S: f OK …
		C: g SEARCH EMAILID ` + email + `
		S: * SEARCH 1
		S: g OK …
		C: h SEARCH THREADID "` + thread + `"
		S: * SEARCH 1 2
		S: h OK …
		C: i FETCH 1 SAVEDATE
		S: * 1 FETCH (SAVEDATE "… +0000")
		S: i OK …
		C: j SEARCH SAVEDATESUPPORTED SAVEDSINCE 1-Jan-2020 NOT SAVEDBEFORE 1-Jan-2020
		S: * SEARCH 1 2
		S: j OK …
		C: k SEARCH SAVEDON 1-Jan-2020
		S: * SEARCH
		S: k OK …
		C: l SELECT x
		S? l OK …
		C: m UID FETCH 1 EMAILID
		S: * 1 FETCH (UID 1 EMAILID (` + email + `))
		S: m OK …`)
}

// splitIDs takes the two IDs in parentheses out of a FETCH response.
func splitIDs(line string, ids ...*string) {
	for _, id := range ids {
		for i := 0; i < len(line); i++ {
			if line[i] == '(' && i > 0 && line[i-1] == ' ' && (line[i+1] == 'M' || line[i+1] == 'T') {
				end := i + 1
				for line[end] != ')' {
					end++
				}
				*id, line = line[i+1:end], line[end:]
				break
			}
		}
	}
}

func TestListExtended(t *testing.T) {
	ts := newServer(t, Limits{})
	c := ts.login("alice")
	c.talk(`
		C: a CREATE foo/bar/baz
		S? a OK …
		C: b CREATE fruit
		S? b OK …
		C: c SUBSCRIBE foo/bar/baz
		S: c OK …
		C: d SUBSCRIBE gone/away
		S: d OK …
		C: e LIST (SUBSCRIBED) "" (f* g*)
		S: * LIST (\HasNoChildren \Subscribed) "/" foo/bar/baz
		S: * LIST (\NonExistent \HasNoChildren \Subscribed) "/" gone/away
		S: e OK …
		C: f LIST (SUBSCRIBED RECURSIVEMATCH) "" f%
		S: * LIST (\HasChildren) "/" foo ("CHILDINFO" ("SUBSCRIBED"))
		S: f OK …
		C: g LIST (RECURSIVEMATCH REMOTE SUBSCRIBED) "" foo* RETURN (CHILDREN)
		S: * LIST (\HasChildren) "/" foo ("CHILDINFO" ("SUBSCRIBED"))
		S: * LIST (\HasChildren) "/" foo/bar ("CHILDINFO" ("SUBSCRIBED"))
		S: * LIST (\HasNoChildren \Subscribed) "/" foo/bar/baz
		S: g OK …
		C: h LIST (RECURSIVEMATCH) "" *
		S: h BAD …
		C: i LIST () "" f% RETURN (SUBSCRIBED STATUS (MESSAGES SIZE MAILBOXID HIGHESTMODSEQ))
		S: * LIST (\HasChildren) "/" foo
		S: * STATUS foo (MESSAGES 0 SIZE 0 MAILBOXID (…) HIGHESTMODSEQ 1)
		S: * LIST (\HasNoChildren) "/" fruit
		S: * STATUS fruit (…)
		S: i OK …
		C: j LIST (SUBSCRIBED) "" "gone*" RETURN (STATUS (MESSAGES))
		S: * LIST (\NonExistent \HasNoChildren \Subscribed) "/" gone/away
		S: j OK …
		C: k LIST "" "gone*"
		S: k OK …
		C: l LIST () "" ""
		S: l OK …`)
}
