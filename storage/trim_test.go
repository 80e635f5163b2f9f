package storage

import (
	"context"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2"

	"cmmpd/internal/mail"
	"cmmpd/internal/message"
)

// TestTrimExpunged: the latest expunges are told exactly, and who comes back from before those is told everything that is not there.
func TestTrimExpunged(t *testing.T) {
	ctx := context.Background()
	o := Options{Dir: filepath.Join(t.TempDir(), "store"), Keys: newKeys(t), HouseRate: -1, KeepExpunges: 10}
	s := mustOpen(t, o)
	defer func() { _ = s.Close() }()
	if err := s.EnsureAccount(ctx, alice, ""); err != nil {
		t.Fatal(err)
	}
	a, err := s.OpenAccount(ctx, alice)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = a.Close() }()
	data := testMessage("m", "text")
	for range 60 {
		if _, err := a.Append(ctx, Inbox, []Append{{Data: data, Index: message.Parse(data, message.Limits{})}}); err != nil {
			t.Fatal(err)
		}
	}
	m, err := a.Open(ctx, Inbox)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	var seqs []uint64 // the mod-sequence before each expunge
	for uid := uint32(2); uid <= 60; uid += 2 {
		set := imap.UIDSetNum(imap.UID(uid))
		if _, _, err := m.StoreFlags(ctx, set, AddFlags, []string{FlagDeleted}, 0); err != nil {
			t.Fatal(err)
		}
		seqs = append(seqs, m.State().HighestModSeq)
		if _, err := m.Expunge(ctx, nil); err != nil {
			t.Fatal(err)
		}
	}
	exact := func(i int) string {
		var want imap.UIDSet
		for uid := 2 * (i + 1); uid <= 60; uid += 2 {
			want.AddNum(imap.UID(uid))
		}
		return want.String()
	}
	vanished := func(since uint64) string {
		c, err := m.Changes(since)
		if err != nil {
			t.Fatal(err)
		}
		return c.Vanished.String()
	}
	for i, since := range seqs {
		if got := vanished(since); got != exact(i) {
			t.Fatalf("before: since %d: %s, want %s", since, got, exact(i))
		}
	}
	if err := s.trim(ctx); err != nil {
		t.Fatal(err)
	}
	checkClean(t, s)
	for i, since := range seqs {
		want := exact(0)
		if i >= len(seqs)-10 {
			want = exact(i)
		}
		if got := vanished(since); got != want {
			t.Errorf("after: expunge %d, since %d: %s, want %s", i, since, got, want)
		}
	}
	if n := countKeys(t, s, keyExpunged); n != 10 {
		t.Errorf("%d traces are left", n)
	}
	if err := a.Create(ctx, "Box", ""); err != nil {
		t.Fatal(err)
	}
	if err := a.Rename(ctx, Inbox, "Old"); err != nil {
		t.Fatal(err)
	}
	checkClean(t, s)
}

func countKeys(t *testing.T, s *Store, kind byte) (n int) {
	t.Helper()
	if err := s.scan(key0(kind), func(_, _ []byte) error {
		n++
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return n
}

// TestTrimMessageIDs moves the clock: what was not of use for so long is forgotten, what was answered since is not, and a clock that
// jumps makes nothing forgotten.
func TestTrimMessageIDs(t *testing.T) {
	ctx := context.Background()
	now := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	o := Options{Dir: filepath.Join(t.TempDir(), "store"), Keys: newKeys(t), HouseRate: -1, Now: func() time.Time { return now }}
	s := mustOpen(t, o)
	defer func() { _ = s.Close() }()
	send := func(id, answers string) {
		data := fmt.Appendf(nil, "Message-ID: <%s@x>\r\nIn-Reply-To: <%s@x>\r\n\r\nx\r\n", id, answers)
		b := body(data, NewEntry{Account: alice})
		b.Label = "confidential"
		if _, err := s.Deliver(ctx, Delivery{Bodies: []Body{b}}); err != nil {
			t.Fatal(err)
		}
	}
	labels := func() string {
		l, err := s.LabelOf(ctx, alice, []string{"old@x", "used@x", "late@x"})
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Sprint(l)
	}
	trim := func(want ...mail.Label) {
		t.Helper()
		s.house.trimmed = time.Time{}
		if err := s.trim(ctx); err != nil {
			t.Fatal(err)
		}
		if got := labels(); got != fmt.Sprint(want) {
			t.Fatalf("on %v: %s, want %v", now, got, want)
		}
		checkClean(t, s)
	}
	send("old", "a")
	send("used", "b")
	now = now.AddDate(0, 0, 300)
	send("late", "used")
	trim("confidential", "confidential", "confidential")
	now = now.AddDate(0, 0, 99)
	trim("confidential", "confidential", "confidential")
	now = now.AddDate(0, 0, 3)
	send("other", "c")
	trim("", "confidential", "confidential")
	now = now.AddDate(20, 0, 0) // a clock that is wrong
	trim("", "confidential", "confidential")
}
