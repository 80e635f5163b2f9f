package storage

import (
	"context"
	"path/filepath"
	"testing"

	"github.com/emersion/go-imap/v2"

	"cmmpd/internal/mail"
)

// TestActTooLong: an act whose record could not be read again is refused, and nothing of it is done.
func TestActTooLong(t *testing.T) {
	ctx := context.Background()
	s := mustOpen(t, Options{Dir: filepath.Join(t.TempDir(), "store"), Keys: newKeys(t), actBytes: 4 << 10})
	defer func() { _ = s.Close() }()
	for range 40 {
		if _, err := s.Deliver(ctx, Delivery{Bodies: []Body{body(testMessage("one", "x"), NewEntry{Account: alice})}}); err != nil {
			t.Fatal(err)
		}
	}
	a, err := s.OpenAccount(ctx, alice)
	if err != nil {
		t.Fatal(err)
	}
	m, err := a.Open(ctx, Inbox)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := m.Copy(ctx, imap.UIDSet{{Start: 1, Stop: 0}}, "Archive"); mail.KindOf(err) != mail.TooLarge {
		t.Errorf("a copy of all: %v", err)
	}
	if r, err := m.Copy(ctx, imap.UIDSetNum(3), "Archive"); err != nil || len(r.To) != 1 || r.To[0] != 1 {
		t.Errorf("a copy of one: %+v, %v", r, err)
	}
	checkClean(t, s)
	m.Close()
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
}
