package storage

import (
	"context"
	"math/rand/v2"
	"path/filepath"
	"testing"

	"github.com/emersion/go-imap/v2"

	"cmmpd/internal/durable/faultfs"
	"cmmpd/internal/mail"
	"cmmpd/internal/message"
)

// What has a mod-sequence that was settled is there after a power cut, so that nobody who remembers it misses anything.
func TestSettledSurvivesPowerCut(t *testing.T) {
	ctx := context.Background()
	ks := newKeys(t)
	dir, cut := filepath.Join(t.TempDir(), "store"), t.TempDir()
	fsys := faultfs.New()
	s := mustOpen(t, faultOptions(dir, ks, fsys))
	data := testMessage("one", "text")
	id := mail.AccountID("a")
	_, err := s.Deliver(ctx, Delivery{Bodies: []Body{{Data: data, Index: message.Parse(data, message.Limits{}), Entries: []NewEntry{{Account: id}}}}})
	if err != nil {
		t.Fatal(err)
	}
	flag := func(s *Store, flag string) (Msg, *Mailbox, *Account) {
		a, err := s.OpenAccount(ctx, id)
		if err != nil {
			t.Fatal(err)
		}
		m, err := a.Open(ctx, "INBOX")
		if err != nil {
			t.Fatal(err)
		}
		if flag != "" {
			if _, _, err := m.StoreFlags(ctx, imap.UIDSet{{Start: 1, Stop: 1}}, AddFlags, []string{flag}, 0); err != nil {
				t.Fatal(err)
			}
		}
		msg, _ := m.Get(1)
		return msg, m, a
	}
	seen, m, a := flag(s, FlagSeen)
	if err := m.Settle(); err != nil {
		t.Fatal(err)
	}
	if err := a.Settle(); err != nil {
		t.Fatal(err)
	}
	copyIndex(t, s, cut)
	if err := fsys.PowerCut(rand.New(rand.NewPCG(1, 2)), dir, cut); err != nil {
		t.Fatal(err)
	}
	m.Close()
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = mustOpen(t, faultOptions(cut, ks, faultfs.New()))
	defer func() { _ = s.Close() }()
	after, m, a := flag(s, "")
	defer func() { _ = a.Close() }()
	defer m.Close()
	if !after.Flags.Has(FlagSeen) || after.ModSeq != seen.ModSeq || m.State().HighestModSeq != seen.ModSeq {
		t.Errorf("%+v, before the cut %+v, highest %d", after, seen, m.State().HighestModSeq)
	}
	if next, m, a := flag(s, FlagFlagged); next.ModSeq <= seen.ModSeq {
		t.Error("a mod-sequence was used twice")
	} else {
		m.Close()
		_ = a.Close()
	}
}
