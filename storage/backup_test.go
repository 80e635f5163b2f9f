package storage

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2"

	"cmmpd/internal/mail"
	"cmmpd/storage/blob"
)

// TestBackup takes a backup while mail is delivered, makes a store of it, and looks for every message that was
// acknowledged before the backup began.
func TestBackup(t *testing.T) {
	ctx := context.Background()
	ks := newKeys(t)
	s := mustOpen(t, Options{Dir: filepath.Join(t.TempDir(), "store"), Keys: ks, SegmentBytes: 64 << 10, HouseRate: -1})
	deliver := func(id mail.AccountID, subject string) {
		if _, err := s.Deliver(ctx, Delivery{Bodies: []Body{body(testMessage(subject, subject), NewEntry{Account: id})}}); err != nil {
			t.Error(err)
		}
	}
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for worker := range 4 {
		wg.Go(func() {
			for i := range 400 {
				select {
				case <-stop:
					return
				default:
					deliver(bob, fmt.Sprintf("load %d %d", worker, i))
				}
			}
		})
	}
	const before = 200
	for i := range before {
		deliver(alice, fmt.Sprintf("before %d", i))
	}
	wg.Go(func() { // half of what comes for bob goes again, and is compacted
		for range 20 {
			select {
			case <-stop:
				return
			default:
				expungeHalf(t, s, bob)
				if _, err := s.Compact(ctx); err != nil {
					t.Error(err)
				}
			}
		}
	})
	queue := queued(t, s, time.Now(), 7)

	dir := filepath.Join(t.TempDir(), "restored")
	files := 0
	write := func(name string, copy func(io.Writer) error) error {
		var b bytes.Buffer
		if err := copy(&b); err != nil {
			return err
		}
		if files++; files > 3 && files < 9 { // compaction goes on while it is copied
			expungeHalf(t, s, bob)
			if _, err := s.Compact(ctx); err != nil {
				t.Error(err)
			}
		}
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			return err
		}
		return os.WriteFile(path, b.Bytes(), 0o600)
	}
	if err := s.Backup(ctx, write); err != nil {
		t.Fatal(err)
	}
	if err := write(VaultFile, func(w io.Writer) error { return s.BackupVault(ctx, w) }); err != nil {
		t.Fatal(err)
	}
	close(stop)
	wg.Wait()
	old, err := s.OpenAccount(ctx, alice)
	if err != nil {
		t.Fatal(err)
	}
	was, err := old.Status(ctx, Inbox)
	if err != nil {
		t.Fatal(err)
	}
	old.Close()
	top := s.bodyNext.Load()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if files < 6 {
		t.Errorf("the backup has only %d files", files)
	}

	r := mustOpen(t, Options{Dir: dir, Keys: ks})
	defer r.Close()
	if err := r.Renew(ctx); err != nil {
		t.Fatal(err)
	}
	checkClean(t, r)
	a, err := r.OpenAccount(ctx, alice)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	m, err := a.Open(ctx, Inbox)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	msgs, state := m.Snapshot()
	if len(msgs) != before || state.UIDValidity <= was.UIDValidity {
		t.Errorf("%d messages, UIDVALIDITY %d; want %d, more than %d", len(msgs), state.UIDValidity, before, was.UIDValidity)
	}
	for i, msg := range msgs {
		if want := fmt.Sprintf("before %d", i); !bytes.Contains(readAll(t, m, msg.UID), []byte("\r\n\r\n"+want+"\r\n")) {
			t.Errorf("message %d is not %q", i, want)
		}
	}
	placed, err := r.Deliver(ctx, Delivery{Bodies: []Body{body(testMessage("after", "after"), NewEntry{Account: alice})}})
	if err != nil || uint64(placed[0].EmailID) <= top {
		t.Errorf("a new message gets the EMAILID %v (%v), which may have been given out before", placed, err)
	}
	if q, err := r.Queued(ctx, queue); err != nil || !q.Held {
		t.Errorf("the queue item: %+v %v", q, err)
	}
	checkClean(t, r)
}

// expungeHalf expunges every other message of an INBOX.
func expungeHalf(t *testing.T, s *Store, id mail.AccountID) {
	ctx := context.Background()
	a, err := s.OpenAccount(ctx, id)
	if err != nil {
		return // nothing has come yet
	}
	defer func() { _ = a.Close() }()
	m, err := a.Open(ctx, Inbox)
	if err != nil {
		t.Error(err)
		return
	}
	defer m.Close()
	var set imap.UIDSet
	uids, _, _ := m.UIDs()
	for i, uid := range uids {
		if i%2 == 0 {
			set.AddNum(imap.UID(uid))
		}
	}
	_, _, err = m.StoreFlags(ctx, set, AddFlags, []string{FlagDeleted}, 0)
	if err == nil {
		_, err = m.Expunge(ctx, nil)
	}
	if err != nil {
		t.Error(err)
	}
}

// TestBackupOfDamage changes one bit of a segment: the backup refuses to go on.
func TestBackupOfDamage(t *testing.T) {
	ctx := context.Background()
	dir := filepath.Join(t.TempDir(), "store")
	s := mustOpen(t, Options{Dir: dir, Keys: newKeys(t)})
	defer s.Close()
	for i := range 20 {
		if _, err := s.Deliver(ctx, Delivery{Bodies: []Body{body(testMessage(fmt.Sprint(i), "text"), NewEntry{Account: alice})}}); err != nil {
			t.Fatal(err)
		}
	}
	path := filepath.Join(dir, segmentsDir, blob.SegmentName(1))
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	backup := func() error {
		return s.Backup(ctx, func(_ string, copy func(io.Writer) error) error { return copy(io.Discard) })
	}
	if err := backup(); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for at := 0; at < len(good); at += 331 {
		if at >= 32 && at < 60 { // reserved
			continue
		}
		if _, err := f.WriteAt([]byte{good[at] ^ 4}, int64(at)); err != nil {
			t.Fatal(err)
		}
		if err := backup(); err == nil {
			t.Errorf("a bit changed at %d is not noticed", at)
		}
		if _, err := f.WriteAt(good[at:at+1], int64(at)); err != nil {
			t.Fatal(err)
		}
	}
}
