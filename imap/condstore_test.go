package imap

import (
	"reflect"
	"testing"

	"cmmpd/imap/wire"
)

func TestCondstore(t *testing.T) {
	ts := newServer(t, Limits{})
	c := ts.login("alice")
	for range 4 {
		c.append("INBOX", "", "Subject: a\n\nx\n") // mod-sequences 2 to 5
	}
	c.talk(`
		C: a SELECT INBOX
		S? * OK [HIGHESTMODSEQ 5] …
		S: a OK …
		C: b FETCH 1:2 (FLAGS)
		S: * 1 FETCH (FLAGS (\Recent))
		S: * 2 FETCH (FLAGS (\Recent))
		S: b OK …
		C: c STORE 1 +FLAGS (\Seen)
		S: * 1 FETCH (FLAGS (\Seen \Recent))
		S: c OK …
		C: d FETCH 1:2 MODSEQ
		S: * OK [HIGHESTMODSEQ 6] …
		S: * 1 FETCH (MODSEQ (6))
		S: * 2 FETCH (MODSEQ (3))
		S: d OK …
		C: e STORE 2 +FLAGS (\Seen)
		S: * 2 FETCH (MODSEQ (7) FLAGS (\Seen \Recent))
		S: e OK …
		C: f UID STORE 1,2,3 (UNCHANGEDSINCE 6) +FLAGS.SILENT (\Flagged)
		S: * 1 FETCH (UID 1 MODSEQ (8))
		S: * 3 FETCH (UID 3 MODSEQ (8))
		S: f OK [MODIFIED 2] UID STORE completed
		C: g STORE 1:4 (UNCHANGEDSINCE 5) FLAGS (\Draft)
		S: * 4 FETCH (MODSEQ (9) FLAGS (\Draft \Recent))
		S: g OK [MODIFIED 1:3] …
		C: h STORE 1:4 (UNCHANGEDSINCE 0) FLAGS ()
		S: h OK [MODIFIED 1:4] …
		C: i FETCH 1:* (FLAGS) (CHANGEDSINCE 7)
		S: * 1 FETCH (FLAGS (\Seen \Flagged \Recent) MODSEQ (8))
		S: * 3 FETCH (FLAGS (\Flagged \Recent) MODSEQ (8))
		S: * 4 FETCH (FLAGS (\Draft \Recent) MODSEQ (9))
		S: i OK …
		C: j UID FETCH 1:3 (MODSEQ) (CHANGEDSINCE 8)
		S: j OK …
		C: k SEARCH MODSEQ 8
		S: * SEARCH 1 3 4 (MODSEQ 9)
		S: k OK …
		C: l SEARCH MODSEQ "/flags/\\draft" all 9
		S: * SEARCH 4 (MODSEQ 9)
		S: l OK …
		C: m SEARCH MODSEQ 10
		S: * SEARCH
		S: m OK …
		C: n STATUS INBOX (HIGHESTMODSEQ)
		S: * STATUS INBOX (HIGHESTMODSEQ 9)
		S: n OK …
		C: o FETCH 3 BODY[TEXT]
		S: * 3 FETCH (FLAGS (\Seen \Flagged \Recent) MODSEQ (10) BODY[TEXT] {3}
		S: x
		S: )
		S: o OK …
		C: p FETCH 1 FLAGS (VANISHED)
		S: p BAD …
		C: q UID FETCH 1 FLAGS (CHANGEDSINCE 1 VANISHED)
		S: q BAD …
		C: r STORE 1 (UNCHANGEDSINCE x) FLAGS ()
		S: r BAD …
		C: s SELECT INBOX (QRESYNC (1 1))
		S: s BAD …`)
}

// What others do is told with its mod-sequence, by every way of turning CONDSTORE on.
func TestCondstoreNews(t *testing.T) {
	ts := newServer(t, Limits{})
	c, d := ts.login("alice"), ts.login("alice")
	c.append("INBOX", "", "Subject: a\n\nx\n")
	c.append("INBOX", "", "Subject: a\n\nx\n")
	c.talk(`
		C: a SELECT INBOX
		S? a OK …`)
	for i, on := range []string{"ENABLE CONDSTORE", "SELECT INBOX (CONDSTORE)", "STATUS INBOX (HIGHESTMODSEQ)", "FETCH 1 (MODSEQ)", "SEARCH MODSEQ 1", "FETCH 1 (FLAGS) (CHANGEDSINCE 100)", "STORE 1 (UNCHANGEDSINCE 1) +FLAGS (\\Seen)"} {
		d = ts.login("alice")
		d.talk(`
		C: a SELECT INBOX
		S? a OK …
		C: b ` + on + `
		S? b OK …`)
		c.talk(`
		C: b STORE 2 ` + []string{"+", "-"}[i%2] + `FLAGS (\Seen)
		S: * 2 FETCH (FLAGS (…))
		S: b OK …`)
		d.talk(`
		C: c NOOP
		S: * 2 FETCH (UID 2 MODSEQ (…) FLAGS (…))
		S: c OK …`)
	}
	d.talk(`
		C: d STORE 1:2 +FLAGS.SILENT (\Deleted)
		S? d OK …
		C: e EXPUNGE
		S: * 2 EXPUNGE
		S: * 1 EXPUNGE
		S: e OK [HIGHESTMODSEQ …] EXPUNGE completed
		C: f EXPUNGE
		S: f OK EXPUNGE completed`)
}

func TestQresync(t *testing.T) {
	ts := newServer(t, Limits{})
	c := ts.login("alice")
	for range 6 {
		c.append("INBOX", "", "Subject: a\n\nx\n") // mod-sequences 2 to 7
	}
	c.talk(`
		C: a ENABLE QRESYNC X-UNKNOWN
		S: * ENABLED QRESYNC
		S: a OK …
		C: b ENABLE CONDSTORE
		S: * ENABLED
		S: b OK …
		C: c SELECT INBOX
		S? c OK …
		C: d STORE 2,3 +FLAGS.SILENT (\Deleted)
		S: * 2 FETCH (UID 2 MODSEQ (8))
		S: * 3 FETCH (UID 3 MODSEQ (8))
		S: d OK …
		C: e EXPUNGE
		S: * VANISHED 2:3
		S: e OK [HIGHESTMODSEQ 9] …
		C: f STORE 1 +FLAGS (\Flagged)
		S: * 1 FETCH (UID 1 MODSEQ (10) FLAGS (\Flagged \Recent))
		S: f OK …
		C: g UID MOVE 6 Trash
		S: * OK [COPYUID …] …
		S: * VANISHED 6
		S: g OK [HIGHESTMODSEQ 11] …
		C: h UID FETCH 1:* (FLAGS) (CHANGEDSINCE 8 VANISHED)
		S: * VANISHED (EARLIER) 2:3,6
		S: * 1 FETCH (UID 1 FLAGS (\Flagged \Recent) MODSEQ (10))
		S: h OK …
		C: i UID FETCH 3:5 (FLAGS) (CHANGEDSINCE 8 VANISHED)
		S: * VANISHED (EARLIER) 3
		S: i OK …
		C: j SELECT Trash
		S: * OK [CLOSED] …
		S? j OK …
		C: k STATUS INBOX (UIDVALIDITY)
		S: * STATUS INBOX (UIDVALIDITY …)
		S: k OK …`)
	d := ts.login("alice")
	d.talk(`
		C: a STATUS INBOX (UIDVALIDITY)
		S: * STATUS …`)
	validity := d.last[len("* STATUS INBOX (UIDVALIDITY ") : len(d.last)-1]
	d.talk(`
		S: a OK …
		C: b ENABLE QRESYNC
		S: * ENABLED QRESYNC
		S: b OK …
		C: c SELECT INBOX (QRESYNC (` + validity + ` 8))
		S? * OK [HIGHESTMODSEQ 11] …
		S: * VANISHED (EARLIER) 2:3,6
		S: * 1 FETCH (UID 1 MODSEQ (10) FLAGS (\Flagged))
		S: c OK [READ-WRITE] …
		C: d SELECT INBOX (QRESYNC (` + validity + ` 10 1:4))
		S? * OK [HIGHESTMODSEQ 11] …
		S: d OK …
		C: e SELECT INBOX (QRESYNC (` + validity + ` 9 1:6 (1,3,4 1,3,4)))
		S? * OK [HIGHESTMODSEQ 11] …
		S: * VANISHED (EARLIER) 6
		S: * 1 FETCH (UID 1 MODSEQ (10) FLAGS (\Flagged))
		S: e OK …
		C: f EXAMINE INBOX (CONDSTORE QRESYNC (1 9 1:6))
		S? * OK [HIGHESTMODSEQ 11] …
		S: f OK [READ-ONLY] …
		C: g SELECT INBOX (QRESYNC (` + validity + ` 1000 1:9))
		S? * OK [HIGHESTMODSEQ 11] …
		S: * VANISHED (EARLIER) 2:3,6:9
		S: * 1 FETCH (UID 1 MODSEQ (10) FLAGS (\Flagged))
		S: * 2 FETCH (UID 4 MODSEQ (5) FLAGS ())
		S: * 3 FETCH (UID 5 MODSEQ (6) FLAGS ())
		S: g OK …
		C: h SELECT INBOX (QRESYNC (` + validity + ` 9 1:*))
		S: h BAD …
		C: i SELECT INBOX (QRESYNC (0 9))
		S: i BAD …
		C: j SELECT INBOX (SPECIAL)
		S: j BAD …
		C: k IDLE
		S: + …`)
	c.talk(`
		C: l SELECT INBOX
		S? l OK …
		C: m UID STORE 4 +FLAGS.SILENT (\Deleted)
		S? m OK …
		C: n CLOSE
		S: n OK …`)
	d.talk(`
		S? * VANISHED 4
		C: DONE
		S: k OK …`)
}

func TestRanges(t *testing.T) {
	r := func(nums ...uint32) (out []wire.Range) {
		for i := 0; i < len(nums); i += 2 {
			out = append(out, wire.Range{First: nums[i], Last: nums[i+1]})
		}
		return out
	}
	for _, c := range []struct{ a, b, want []wire.Range }{
		{r(1, 5), r(2, 3, 5, 9), r(2, 3, 5, 5)},
		{r(1, 1, 3, 3, 5, 9), r(2, 6), r(3, 3, 5, 6)},
		{r(1, 5), nil, nil},
	} {
		if got := intersect(c.a, c.b); !reflect.DeepEqual(got, c.want) {
			t.Errorf("%v and %v: %v", c.a, c.b, got)
		}
	}
	for _, c := range []struct {
		a    []wire.Range
		uids []uint32
		want []wire.Range
	}{
		{r(1, 5, 7, 9), []uint32{1, 3, 9}, r(2, 2, 4, 5, 7, 8)},
		{r(1, 5), []uint32{5}, r(1, 4)},
		{r(2, 5), []uint32{1, 2, 3, 4, 5, 6}, nil},
		{r(2, 5), []uint32{9}, r(2, 5)},
		{r(4294967290, 4294967295), []uint32{4294967295}, r(4294967290, 4294967294)},
	} {
		if got := subtract(c.a, c.uids); !reflect.DeepEqual(got, c.want) {
			t.Errorf("%v without %v: %v", c.a, c.uids, got)
		}
	}
}
