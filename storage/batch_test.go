package storage

import (
	"context"
	"path/filepath"
	"reflect"
	"testing"

	"github.com/emersion/go-imap/v2"

	"cmmpd/internal/mail"
	"cmmpd/internal/message"
)

func TestBatch(t *testing.T) {
	ctx := context.Background()
	s := mustOpen(t, Options{Dir: filepath.Join(t.TempDir(), "store"), Keys: newKeys(t)})
	defer func() { _ = s.Close() }()
	for _, subject := range []string{"one", "two", "three", "four"} {
		data := testMessage(subject, "text")
		_, err := s.Deliver(ctx, Delivery{Bodies: []Body{{Data: data, Index: message.Parse(data, message.Limits{}), Entries: []NewEntry{
			{Account: "a", Prefix: []byte("X: " + subject + "\r\n")},
		}}}})
		if err != nil {
			t.Fatal(err)
		}
	}
	a, err := s.OpenAccount(ctx, "a")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = a.Close() }()
	m, err := a.Open(ctx, "INBOX")
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	remove := func(uid imap.UID) {
		set := imap.UIDSet{{Start: uid, Stop: uid}}
		if _, _, err := m.StoreFlags(ctx, set, AddFlags, []string{FlagDeleted}, 0); err != nil {
			t.Fatal(err)
		}
		if _, err := m.Expunge(ctx, &set); err != nil {
			t.Fatal(err)
		}
	}
	remove(2)
	var b *Batch
	for _, uids := range [][]uint32{{1, 2, 3, 4, 9}, {4, 3}, nil} { // the batch is used again
		if b, err = m.Batch(b, uids, true); err != nil {
			t.Fatal(err)
		}
		for i, uid := range uids {
			msg, ok := b.Msg(i)
			want, there := m.Get(uid)
			if ok != there || !reflect.DeepEqual(msg, want) {
				t.Errorf("%d: %+v, %v", uid, msg, ok)
			}
			got, err := b.Summary(ctx, i)
			sum, wantErr := m.Summary(ctx, uid)
			if mail.KindOf(err) != mail.KindOf(wantErr) || !reflect.DeepEqual(got, sum) {
				t.Errorf("%d: %+v, %v", uid, got, err)
			}
			if c, err := b.Body(ctx, i); there != (err == nil) {
				t.Errorf("%d: %v", uid, err)
			} else if there {
				text := make([]byte, c.Size())
				if _, err := c.ReadAt(text, 0); err != nil || string(text) != string(readAll(t, m, uid)) {
					t.Errorf("%d: %q, %v", uid, text, err)
				}
				_ = c.Close()
			}
			if uid%2 == 0 {
				b.Load()
			}
			env, err := b.AppendEnvelope(ctx, []byte("x"), i)
			structure, err2 := b.AppendStructure(ctx, []byte("x"), i)
			if !there {
				if mail.KindOf(err) != mail.NotFound || mail.KindOf(err2) != mail.NotFound {
					t.Errorf("%d: %v, %v", uid, err, err2)
				}
				continue
			}
			if want := message.AppendEnvelope([]byte("x"), sum.Index.Root.Envelope); err != nil || string(env) != string(want) {
				t.Errorf("%d: %s, %v", uid, env, err)
			}
			if want := message.AppendStructure([]byte("x"), sum.Index.Root, true); err2 != nil || string(structure) != string(want) {
				t.Errorf("%d: %s, %v", uid, structure, err2)
			}
		}
	}
	// What is expunged after the batch was made is still shown as it was.
	if b, err = m.Batch(b, []uint32{3}, true); err != nil {
		t.Fatal(err)
	}
	remove(3)
	if sum, err := b.Summary(ctx, 0); err != nil || string(sum.Prefix) != "X: three\r\n" {
		t.Errorf("%+v, %v", sum, err)
	}
}
