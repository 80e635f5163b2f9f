package storage

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/emersion/go-imap/v2"

	"cmmpd/internal/mail"
	"cmmpd/internal/message"
)

// TestConcurrent has deliveries and sessions run against each other. Every delivery must be seen exactly once by a
// watcher that only ever asks for changes, mod-sequences only rise, and the store must be right at the end.
func TestConcurrent(t *testing.T) {
	ctx := context.Background()
	o := Options{Dir: filepath.Join(t.TempDir(), "store"), Keys: newKeys(t), SegmentBytes: 1 << 20, EpochMessages: 50}
	s := mustOpen(t, o)
	ids := []mail.AccountID{alice, bob}
	for _, id := range ids {
		if err := s.EnsureAccount(ctx, id, ""); err != nil {
			t.Fatal(err)
		}
	}
	const senders, each = 4, 60
	var wg, watchers sync.WaitGroup
	end := make(chan struct{})
	for i := range senders {
		wg.Go(func() {
			for n := range each {
				data := testMessage(fmt.Sprintf("%d.%d", i, n), strings.Repeat("x", n*50))
				d := Delivery{Bodies: []Body{body(data, NewEntry{Account: alice}, NewEntry{Account: bob, Flags: []string{fmt.Sprint("k", n%5)}})}}
				if _, err := s.Deliver(ctx, d); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for _, id := range ids {
		watchers.Go(func() { watchAll(t, s, id, end, senders*each) })
		wg.Go(func() { session(t, s, id, each) })
	}
	wg.Go(func() {
		for range 10 {
			if r, err := s.Check(ctx, false); err != nil || len(r.Problems) > 0 {
				t.Errorf("check: %+v, %v", r, err)
			}
		}
	})
	wg.Wait()
	close(end)
	watchers.Wait()
	checkClean(t, s)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = mustOpen(t, o)
	defer func() { _ = s.Close() }()
	checkClean(t, s)
}

// watchAll follows INBOX by Changes until end, and counts UIDs.
func watchAll(t *testing.T, s *Store, id mail.AccountID, end chan struct{}, want int) {
	ctx := context.Background()
	a, err := s.OpenAccount(ctx, id)
	if err != nil {
		t.Error(err)
		return
	}
	defer func() { _ = a.Close() }()
	m, err := a.Open(ctx, Inbox)
	if err != nil {
		t.Error(err)
		return
	}
	defer m.Close()
	signal := make(chan struct{}, 1)
	defer m.Watch(ctx, func() {
		select {
		case signal <- struct{}{}:
		default:
		}
	})()
	seen, since := make(map[uint32]bool), uint64(0)
	for more := true; more; {
		select {
		case <-signal:
		case <-end:
			more = false
		}
		c, err := m.Changes(since)
		if err != nil {
			t.Error(err)
			return
		}
		for _, msg := range c.Changed {
			if msg.ModSeq > c.HighestModSeq {
				t.Errorf("mod-sequence %d is above the highest, %d", msg.ModSeq, c.HighestModSeq)
			}
			seen[msg.UID] = true
		}
		if uids, ok := c.Vanished.Nums(); ok {
			for _, uid := range uids {
				seen[uint32(uid)] = true
			}
		}
		if c.HighestModSeq < since {
			t.Errorf("the highest mod-sequence fell from %d to %d", since, c.HighestModSeq)
		}
		since = c.HighestModSeq
	}
	if len(seen) != want {
		t.Errorf("the watcher of %s saw %d messages, want %d", id, len(seen), want)
	}
}

// session is a user at work.
func session(t *testing.T, s *Store, id mail.AccountID, rounds int) {
	ctx := context.Background()
	for n := range rounds {
		a, err := s.OpenAccount(ctx, id)
		if err != nil {
			t.Error(err)
			return
		}
		m, err := a.Open(ctx, Inbox)
		if err != nil {
			t.Error(err)
			return
		}
		list, state := m.Snapshot()
		if len(list) > 0 {
			last := list[len(list)-1]
			all := imap.UIDSet{{Start: 1, Stop: imap.UID(last.UID)}}
			if _, err := m.Summary(ctx, last.UID); err != nil {
				t.Error(err)
			}
			if _, _, err := m.StoreFlags(ctx, all, AddFlags, []string{FlagSeen, fmt.Sprint("s", n%3)}, 0); err != nil {
				t.Error(err)
			}
			if _, _, err := m.StoreFlags(ctx, imap.UIDSetNum(imap.UID(list[0].UID)), AddFlags, []string{FlagDeleted}, 0); err != nil {
				t.Error(err)
			}
			if _, err := m.Copy(ctx, imap.UIDSetNum(imap.UID(last.UID)), "Archive"); err != nil {
				t.Error(err)
			}
			if _, err := m.Expunge(ctx, nil); err != nil {
				t.Error(err)
			}
		}
		_, claimed := m.ClaimRecent()
		if now := m.State(); now.HighestModSeq < state.HighestModSeq || claimed >= now.UIDNext {
			t.Errorf("the state went back: %+v, %+v", state, now)
		}
		data := testMessage(fmt.Sprint("draft ", n), "x")
		if _, err := a.Append(ctx, "Drafts", []Append{{Data: data, Index: message.Parse(data, message.Limits{})}}); err != nil {
			t.Error(err)
		}
		m.Close()
		_ = a.Close()
	}
}
