package imap

import (
	"context"
	"fmt"
	"io"
	"testing"

	"cmmpd/internal/mail"
	"cmmpd/internal/message"
	"cmmpd/storage"
)

// discard is a connection that plays commands and forgets the answers.
type discard struct {
	tape
	n      int64
	writes int
}

func (d *discard) Write(b []byte) (int, error) {
	d.n += int64(len(b))
	d.writes++
	return len(b), nil
}

// BenchmarkCommands runs single commands on a mailbox of 10,000 small messages.
func BenchmarkCommands(b *testing.B) {
	const messages = 10_000
	ts := newServer(b, Limits{})
	ctx := context.Background()
	id := mail.AccountID("acct-alice")
	must(b, ts.store.EnsureAccount(ctx, id, ""))
	acct, err := ts.store.OpenAccount(ctx, id)
	must(b, err)
	defer acct.Close()
	for range messages / 500 {
		var batch []storage.Append
		for i := range 500 {
			data := fmt.Appendf(nil, "From: alice@works.gov.example\r\nTo: bob@works.gov.example\r\nSubject: message %d\r\nDate: Mon, 7 Feb 1994 21:52:25 -0800\r\n\r\n%01000d\r\n", i, i)
			batch = append(batch, storage.Append{Data: data, Index: message.Parse(data, message.Limits{})})
		}
		_, err := acct.Append(ctx, "INBOX", batch)
		must(b, err)
	}
	for _, bm := range []struct{ name, cmd string }{
		{"select", "a SELECT INBOX\r\n"},
		{"flags", "a FETCH 1:* (FLAGS)\r\n"},
		{"envelopes", "a UID FETCH 1:* (UID FLAGS ENVELOPE INTERNALDATE RFC822.SIZE)\r\n"},
		{"headers", "a UID FETCH 1:* (ENVELOPE BODY.PEEK[HEADER.FIELDS (From To Subject Date)] RFC822.SIZE)\r\n"},
		{"bodies", "a FETCH 1:* BODY.PEEK[]\r\n"},
		{"store-one", "a STORE 5000 +FLAGS (\\Answered)\r\nb STORE 5000 -FLAGS (\\Answered)\r\n"},
		{"structures", "a UID FETCH 1:* (BODYSTRUCTURE)\r\n"},
		{"store", "a STORE 1:* +FLAGS.SILENT (\\Flagged)\r\nb STORE 1:* -FLAGS.SILENT (\\Flagged)\r\n"},
		{"search-header", "a SEARCH SUBJECT \"message 77\"\r\n"},
		{"search-text", "a SEARCH TEXT \"nowhere\"\r\n"},
	} {
		b.Run(bm.name, func(b *testing.B) {
			b.ReportAllocs()
			d := &discard{tape: tape{in: []byte("0 SELECT INBOX\r\n"), step: 1 << 20}}
			s := newSession(ctx, ts.srv, newConn(ts.srv, d))
			s.secure = true
			own, err := ts.store.OpenAccount(ctx, id)
			must(b, err)
			s.user = &user{who: mail.Principal{UID: "alice", Account: id}, acct: own}
			defer s.end()
			s.next()
			must(b, s.c.flush())
			d.n, d.writes = 0, 0
			for b.Loop() {
				d.in = []byte(bm.cmd)
				for len(d.in) > 0 || s.rd.Buffered() > 0 {
					s.next()
				}
				if s.c.flush() != nil || s.over {
					b.Fatal(io.ErrUnexpectedEOF)
				}
			}
			b.ReportMetric(float64(d.writes)/float64(b.N), "writes/op")
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/messages, "ns/msg")
		})
	}
}
