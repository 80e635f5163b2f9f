package storage

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2"

	"cmmpd/internal/message"
	"cmmpd/storage/engine"
)

// TestErase: the keys of epochs that opened only what was expunged go, those of what is left stay, and everything that is left can be read.
func TestErase(t *testing.T) {
	ctx := context.Background()
	o := Options{Dir: filepath.Join(t.TempDir(), "store"), Keys: newKeys(t), EpochMessages: 5, HouseRate: -1}
	s := mustOpen(t, o)
	defer func() { _ = s.Close() }()
	left := half(t, s, 60)
	epochs := func() (n int) {
		for e := uint32(1); e <= s.vault.LastEpoch(alice); e++ {
			if s.vault.HasEpoch(alice, e) {
				n++
			}
		}
		return n
	}
	all := epochs()
	n, err := s.eraseUnused(ctx) // no start in between
	if err != nil || n.Epochs == 0 || epochs() >= all || epochs() > 5 {
		t.Fatalf("%+v erased, %d of %d left, %v", n, epochs(), all, err)
	}
	verifyHalf(t, s, left)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = mustOpen(t, o)
	verifyHalf(t, s, left)
	if _, err := s.eraseUnused(ctx); err != nil { // what the other opening used last
		t.Fatal(err)
	}
	if r, err := s.eraseUnused(ctx); err != nil || r != (DisposeReport{}) {
		t.Fatalf("%+v more, %v", r, err)
	}
	last := s.vault.LastEpoch(alice)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = mustOpen(t, o)
	if s.vault.LastEpoch(alice) != last {
		t.Error("an epoch's number can be used again")
	}
	half(t, s, 10)
	checkClean(t, s)
}

// TestEraseSpares: an epoch that is used for new secrets stays, and one that somebody has got and is not done with. Opened keys of those that go leave
// memory.
func TestEraseSpares(t *testing.T) {
	ctx := context.Background()
	w := newRecoverWorld(t, 0)
	erase := func(want ...uint32) {
		t.Helper()
		if _, err := w.s.eraseUnused(ctx); err != nil {
			t.Fatal(err)
		}
		if got := w.s.vault.Epochs(alice); !slices.Equal(got, want) {
			t.Errorf("epochs %v are left, want %v", got, want)
		}
	}
	x := w.a.a
	erase(1)
	w.clock = w.clock.Add(2 * time.Hour)
	e, err := x.sealing(ctx, 1)
	w.must(err)
	e.done()
	erase(1, 2) // it is in use
	again, err := x.sealing(ctx, 1)
	w.must(err)
	if again != e {
		t.Fatal("another epoch within the hour")
	}
	_, err = x.opened(2)
	w.must(err)
	w.clock = w.clock.Add(2 * time.Hour)
	w.put(Inbox, nil, "one")
	erase(1, 2, 3) // somebody is not done with the second
	again.done()
	erase(1, 3)
	if x.epochs[2] != nil || len(x.earlier) != 0 || x.epoch.number != 3 {
		t.Errorf("keys are left in memory: %v, %v, %+v", x.epochs, x.earlier, x.epoch)
	}
	w.expunge(Inbox)
	w.clock = w.clock.Add(25 * time.Hour)
	w.must(w.s.expireSome(ctx))
	if w.s.retireEpochs(); x.epoch != nil {
		t.Error("a key of yesterday is in memory")
	}
	e, err = x.sealing(ctx, 1)
	w.must(err)
	w.clock = w.clock.Add(2 * time.Hour)
	w.s.retireEpochs()
	erase(1, 4, 5) // the third had the name of the mailbox of deleted messages, which is sealed anew now; nothing came of the fourth so far
	e.done()
	erase(1, 5)
}

// TestEraseWhileMoving moves messages to and fro while the keys are looked through: none that opens something is erased.
func TestEraseWhileMoving(t *testing.T) {
	ctx := context.Background()
	o := Options{Dir: filepath.Join(t.TempDir(), "store"), Keys: newKeys(t), EpochMessages: 4, HouseRate: -1}
	s := mustOpen(t, o)
	for i := range 60 {
		if _, err := s.Deliver(ctx, Delivery{Bodies: []Body{body(testMessage(fmt.Sprint(i), "x"), NewEntry{Account: alice})}}); err != nil {
			t.Fatal(err)
		}
	}
	defer func() { _ = s.Close() }()
	a, err := s.OpenAccount(ctx, alice)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = a.Close() }()
	var wg sync.WaitGroup
	wg.Go(func() { // secrets that are on their way
		for i := range 30 {
			_, err := s.Deliver(ctx, Delivery{Bodies: []Body{body(testMessage(fmt.Sprint("fresh", i), "x"), NewEntry{Account: alice, Flags: []string{fmt.Sprint("Word", i)}})}})
			if err != nil {
				t.Error(err)
			}
		}
	})
	for _, way := range [][2]string{{Inbox, "Sent"}, {"Sent", Inbox}} {
		from, err := a.Open(ctx, way[0])
		if err != nil {
			t.Fatal(err)
		}
		defer from.Close()
		wg.Go(func() {
			for range 30 {
				if _, err := from.Move(ctx, imap.UIDSet{{Start: 1, Stop: 0}}, way[1]); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for range 30 {
		if _, err := s.eraseUnused(ctx); err != nil {
			t.Fatal(err)
		}
	}
	wg.Wait()
	if r := checkClean(t, s); r.Entries != 90 {
		t.Fatalf("%+v", r)
	}
}

// TestEraseOfDeletedMailbox: what a deleted mailbox has left to be brought back keeps the keys that it needs.
func TestEraseOfDeletedMailbox(t *testing.T) {
	ctx := context.Background()
	o := Options{Dir: filepath.Join(t.TempDir(), "store"), Keys: newKeys(t), EpochMessages: 12, HouseRate: -1, Recover: time.Hour, RecoverBytes: 1 << 20}
	s := mustOpen(t, o)
	defer func() { _ = s.Close() }()
	half(t, s, 1)
	a, err := s.OpenAccount(ctx, bob)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 5 { // under keys of their own
		name := fmt.Sprint("Box ", i)
		if err := a.Create(ctx, name, ""); err != nil {
			t.Fatal(err)
		}
		data := testMessage("boxed", "text")
		if _, err := a.Append(ctx, name, []Append{{Data: data, Index: message.Parse(data, message.Limits{})}}); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 5 {
		if err := a.Delete(ctx, fmt.Sprint("Box ", i)); err != nil {
			t.Fatal(err)
		}
	}
	_ = a.Close()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = mustOpen(t, o)
	if _, err := s.eraseUnused(ctx); err != nil {
		t.Fatal(err)
	}
	checkClean(t, s)
	s.kv.Apply([]engine.Op{{Key: []byte("!x"), Value: []byte("of a kind that nobody has weighed")}})
	if _, err := s.eraseUnused(ctx); err == nil {
		t.Error("keys are erased though the index has records of an unknown kind")
	}
}
