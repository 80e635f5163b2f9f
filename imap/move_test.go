package imap

import (
	"testing"

	"cmmpd/internal/durable/faultfs"
	"cmmpd/internal/message"
	"cmmpd/storage"
)

// TestMoveFails: a MOVE that fails part-way reports what it has moved, and everybody sees just that.
func TestMoveFails(t *testing.T) {
	fsys := faultfs.New()
	ts := newServerWith(t, storage.Options{Dir: t.TempDir(), FS: fsys, HouseEvery: -1}, Limits{})
	c := ts.login("alice")
	other := ts.login("alice")
	acct, err := ts.store.OpenAccount(t.Context(), "acct-alice")
	must(t, err)
	defer func() { _ = acct.Close() }()
	data := []byte("Subject: x\r\n\r\ntext\r\n")
	list := make([]storage.Append, 1100)
	for i := range list {
		list[i] = storage.Append{Data: data, Index: message.Parse(data, message.Limits{})}
	}
	_, err = acct.Append(t.Context(), "INBOX", list)
	must(t, err)
	c.talk(`
		C: a ENABLE QRESYNC
		S: * ENABLED …
		S: a OK …
		C: b SELECT INBOX
		S? b OK …`)
	other.talk(`
		C: a ENABLE QRESYNC
		S: * ENABLED …
		S: a OK …
		C: b EXAMINE Archive
		S? b OK …`)
	must(t, acct.Settle())
	fsys.FailAt(3, faultfs.Short) // the second act
	c.talk(`
		C: c MOVE 51:1100 Archive
		S: * OK [COPYUID … 51:550 1:500] …
		S: * VANISHED 51:550
		S: c NO [UNAVAILABLE] …`)
	fsys.FailAt(0, faultfs.Short)
	other.talk(`
		C: c NOOP
		S: * 500 EXISTS
		S? c OK …
		C: d STATUS INBOX (MESSAGES)
		S: * STATUS INBOX (MESSAGES 600)
		S: d OK …`)
	fsys.FailAt(1, faultfs.Short)
	c.talk(`
		C: d MOVE 1:* Archive
		S: d NO [UNAVAILABLE] …`)
	fsys.FailAt(0, faultfs.Short)
	c.talk(`
		C: e MOVE 1:* Archive
		S: * OK [COPYUID … 1:50,551:1100 501:1100] …
		S: * VANISHED 1:50,551:1100
		S: e OK [HIGHESTMODSEQ …] …`)
	other.talk(`
		C: e NOOP
		S: * 1100 EXISTS
		S? e OK …`)
}
