package storage

import (
	"context"
	"fmt"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2"

	"cmmpd/internal/message"
	"cmmpd/storage/engine"
)

// TestErase: the keys of epochs that opened only what was expunged go, those of this opening and of what is left stay, and everything that is left can be
// read.
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
	if n, err := s.eraseUnused(ctx); err != nil || n != 0 || epochs() != all {
		t.Fatalf("%d epochs of this opening were erased, %v", n, err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = mustOpen(t, o)
	n, err := s.eraseUnused(ctx)
	if err != nil || n == 0 || epochs() != all-n || epochs() > 5 {
		t.Fatalf("%d epochs erased, %d of %d left, %v", n, epochs(), all, err)
	}
	verifyHalf(t, s, left)
	if n, err := s.eraseUnused(ctx); err != nil || n != 0 {
		t.Fatalf("%d more, %v", n, err)
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
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = mustOpen(t, o)
	defer func() { _ = s.Close() }()
	a, err := s.OpenAccount(ctx, alice)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = a.Close() }()
	var wg sync.WaitGroup
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
	if r := checkClean(t, s); r.Entries != 60 {
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
