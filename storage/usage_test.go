package storage

import (
	"context"
	"errors"
	"path/filepath"
	"testing"

	"github.com/emersion/go-imap/v2"

	"cmmpd/internal/mail"
	"cmmpd/internal/message"
)

func TestQuota(t *testing.T) {
	ctx := context.Background()
	ks := newKeys(t)
	dir := filepath.Join(t.TempDir(), "store")
	data := testMessage("one", "text")
	n := int64(len(data))
	o := Options{Dir: dir, Keys: ks, Quotas: Quotas{Account: Quota{Octets: 3*n + 1}}}
	s := mustOpen(t, o)
	deliver := func(ids ...mail.AccountID) error {
		b := Body{Data: data, Index: message.Parse(data, message.Limits{})}
		for _, id := range ids {
			b.Entries = append(b.Entries, NewEntry{Account: id})
		}
		_, err := s.Deliver(ctx, Delivery{Bodies: []Body{b}})
		return err
	}
	for range 3 {
		if err := deliver("a"); err != nil {
			t.Fatal(err)
		}
	}
	var full *FullError
	if err := deliver("a", "b"); mail.KindOf(err) != mail.OverQuota || !errors.As(err, &full) || len(full.Accounts) != 1 || full.Accounts[0] != "a" {
		t.Fatal(err)
	}
	if err := s.Room(ctx, "a", 0); err != nil {
		t.Error(err)
	}
	if err := s.Room(ctx, "a", 2); mail.KindOf(err) != mail.OverQuota {
		t.Error(err)
	}
	if err := s.Room(ctx, "b", 3*n); err != nil {
		t.Error(err) // nothing of the refused act is there
	}
	a, err := s.OpenAccount(ctx, "a")
	if err != nil {
		t.Fatal(err)
	}
	usage := func(messages int64) {
		t.Helper()
		if u, err := a.Usage(ctx); err != nil || u != (Usage{messages, messages * n, o.Quotas.Account}) {
			t.Errorf("%+v, %v", u, err)
		}
	}
	usage(3)
	m, err := a.Open(ctx, "INBOX")
	if err != nil {
		t.Fatal(err)
	}
	one := imap.UIDSet{{Start: 1, Stop: 1}}
	if _, err := m.Copy(ctx, one, "Trash"); mail.KindOf(err) != mail.OverQuota {
		t.Error(err)
	}
	if _, err := m.Move(ctx, one, "Trash"); err != nil {
		t.Error(err)
	}
	usage(3)
	if _, _, err := m.StoreFlags(ctx, imap.UIDSet{{Start: 2, Stop: 2}}, AddFlags, []string{FlagDeleted}, 0); err != nil {
		t.Error(err)
	}
	if m.DeletedSize() != n {
		t.Errorf("%d octets are marked", m.DeletedSize())
	}
	if _, err := m.Expunge(ctx, nil); err != nil {
		t.Error(err)
	}
	usage(2)
	if err := deliver("a"); err != nil {
		t.Error(err)
	}
	usage(3)
	if err := a.Delete(ctx, "Trash"); err != nil {
		t.Error(err)
	}
	usage(2)
	checkClean(t, s)
	m.Close()
	_ = a.Close()
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

func FuzzUsage(f *testing.F) {
	f.Add([]byte{3, 200, 1})
	f.Add(usage{3, 200, "works.gov.example", 80}.encode())
	f.Add(total{3, 200, 80}.encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		if r, err := decodeTotal(b); err == nil && b != nil && string(r.encode()) != string(b) {
			t.Errorf("%x is read as %+v", b, r)
		}
		if u, err := decodeUsage(b); err == nil && string(u.encode()) != string(b) {
			t.Errorf("%x is read as %+v", b, u)
		}
	})
}
