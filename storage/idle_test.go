package storage

import (
	"context"
	"fmt"
	"path/filepath"
	"syscall"
	"testing"

	"cmmpd/internal/mail"
)

// TestIdleMailboxes counts what mailboxes take that nobody has open, and forgets the oldest when it is too much.
func TestIdleMailboxes(t *testing.T) {
	ctx := context.Background()
	s := mustOpen(t, Options{Dir: filepath.Join(t.TempDir(), "deep", "er", "store"), Keys: newKeys(t)})
	defer func() { _ = s.Close() }()
	if err := s.EnsureAccount(ctx, alice, ""); err != nil {
		t.Fatal(err)
	}
	a, err := s.OpenAccount(ctx, alice)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = a.Close() }()
	count := func() (total, idle int) {
		for _, m := range s.mailboxes {
			if m.refs == 0 {
				total += m.idle
			}
		}
		return total, len(s.mailboxes)
	}
	for round := range 3 {
		for _, name := range []string{"INBOX", "Sent", "INBOX", "Trash"} {
			m, err := a.Open(ctx, name)
			if err != nil {
				t.Fatal(err)
			}
			if round == 1 {
				m.Close()
			}
			d := Delivery{Bodies: []Body{body(testMessage(fmt.Sprint(round), "text"), NewEntry{Account: alice, Mailbox: name})}}
			if _, err := s.Deliver(ctx, d); err != nil {
				t.Fatal(err)
			}
			m.Close()
			if total, n := count(); s.idle != total || n == 0 {
				t.Fatalf("%d in %d mailboxes, counted %d", s.idle, n, total)
			}
		}
	}
	s.idle += maxIdleMessages // as if there were as many more
	for _, m := range s.mailboxes {
		m.idle += maxIdleMessages / 3
	}
	s.idle -= maxIdleMessages % 3
	m, err := a.Open(ctx, "Sent")
	if err != nil {
		t.Fatal(err)
	}
	m.Close()
	if total, n := count(); s.idle > maxIdleMessages || total != s.idle || n == 0 || n > 3 {
		t.Errorf("%d in %d mailboxes, counted %d", s.idle, n, total)
	}
}

// TestLackIsNoDamage tells a process that has no more files from a message that is damaged.
func TestLackIsNoDamage(t *testing.T) {
	if k := mail.KindOf(damaged(fmt.Errorf("open: %w", syscall.EMFILE))); k != mail.Unavailable {
		t.Errorf("too many files: %v", k)
	}
	if k := mail.KindOf(damaged(syscall.EIO)); k != mail.Corrupt {
		t.Errorf("a bad sector: %v", k)
	}
}
