package storage

import (
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/emersion/go-imap/v2"

	"cmmpd/internal/durable"
	"cmmpd/internal/mail"
)

// fullFS is a disk on which no file can become longer while it is full.
type fullFS struct {
	durable.OS
	full atomic.Bool
}

func (f *fullFS) Open(name string, flag int, perm fs.FileMode) (durable.File, error) {
	if _, err := os.Stat(name); err != nil && flag&os.O_CREATE != 0 && f.full.Load() {
		return nil, &fs.PathError{Op: "open", Path: name, Err: syscall.ENOSPC}
	}
	file, err := f.OS.Open(name, flag, perm)
	if err != nil {
		return nil, err
	}
	return &fullFile{file, f}, nil
}

type fullFile struct {
	durable.File
	fs *fullFS
}

func (f *fullFile) WriteAt(p []byte, off int64) (int, error) {
	size, err := f.Size()
	if err != nil {
		return 0, err
	}
	if f.fs.full.Load() && off+int64(len(p)) > size {
		return 0, syscall.ENOSPC
	}
	return f.File.WriteAt(p, off)
}

// TestOpenOnFullDisk: a store that was killed on a full disk opens, mail can be read, what changes something is refused
// and works when there is room; and no mod-sequence is used twice.
func TestOpenOnFullDisk(t *testing.T) {
	ctx := context.Background()
	disk := &fullFS{}
	o := Options{Dir: filepath.Join(t.TempDir(), "store"), Keys: newKeys(t), FS: disk}
	s := mustOpen(t, o)
	data := testMessage("one", "x")
	if _, err := s.Deliver(ctx, Delivery{Bodies: []Body{body(data, NewEntry{Account: alice})}}); err != nil {
		t.Fatal(err)
	}
	seen := uint64(0)
	for range 3 {
		disk.full.Store(true)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s = mustOpen(t, o)
		a, err := s.OpenAccount(ctx, alice)
		if err != nil {
			t.Fatal(err)
		}
		m, err := a.Open(ctx, Inbox)
		if err != nil {
			t.Fatal(err)
		}
		if got := readAll(t, m, 1); string(got) != string(data) {
			t.Error("the message reads wrongly")
		}
		if _, _, err := m.StoreFlags(ctx, imap.UIDSetNum(1), SetFlags, []string{FlagSeen}, 0); mail.KindOf(err) != mail.Full {
			t.Errorf("a flag on a full disk: %v", err)
		}
		disk.full.Store(false)
		for _, flags := range [][]string{{FlagFlagged}, {FlagAnswered}} {
			changed, _, err := m.StoreFlags(ctx, imap.UIDSetNum(1), SetFlags, flags, 0)
			if err != nil || len(changed.UIDs) != 1 || changed.ModSeq <= seen {
				t.Fatalf("a flag when there is room: %+v, %v; seen %d", changed, err, seen)
			}
			seen = changed.ModSeq
		}
		checkClean(t, s)
		m.Close()
		_ = a.Close()
	}
	_ = s.Close()
}
