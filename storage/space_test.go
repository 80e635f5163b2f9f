package storage

import (
	"context"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"cmmpd/internal/durable"
	"cmmpd/internal/mail"
)

// smallDisk says that it has so much room.
type smallDisk struct {
	durable.OS
	free atomic.Int64
}

func (d *smallDisk) Free(string) (free, size int64, err error) { return d.free.Load(), 1 << 40, nil }

// TestReserve: mail is refused when only the reserve is left, compaction makes room of it, and mail is taken again.
func TestReserve(t *testing.T) {
	ctx := context.Background()
	disk := &smallDisk{}
	disk.free.Store(1 << 40)
	s := mustOpen(t, Options{Dir: filepath.Join(t.TempDir(), "store"), Keys: newKeys(t), FS: disk, SegmentBytes: 40_000, HouseRate: -1, Reserve: 100 << 20})
	defer func() { _ = s.Close() }()
	left := half(t, s, 60)
	before := len(segmentsOf(t, s))
	sendAtOnce := func() error {
		_, err := s.Deliver(ctx, Delivery{Bodies: []Body{body(testMessage("s", "x"), NewEntry{Account: alice})}})
		return err
	}
	send := func() error {
		s.space.at = time.Time{} // it is asked anew
		return sendAtOnce()
	}
	if err := send(); err != nil {
		t.Fatal(err)
	}
	disk.free.Store(50 << 20)
	if err := send(); mail.KindOf(err) != mail.Full || !s.isLow() {
		t.Fatalf("into the reserve: %v", err)
	}
	disk.free.Store(1 << 40)
	if err := sendAtOnce(); err != nil || s.isLow() {
		t.Fatalf("with room again at once: %v", err)
	}
	disk.free.Store(3 << 20)
	if _, err := s.Compact(ctx); mail.KindOf(err) != mail.Full {
		t.Fatalf("compaction without any room: %v", err)
	}
	verifyHalf(t, s, left)
	disk.free.Store(50 << 20)
	if err := s.compactSome(ctx); err != nil || len(segmentsOf(t, s)) >= before {
		t.Fatalf("%d segments of %d, %v", len(segmentsOf(t, s)), before, err)
	}
	verifyHalf(t, s, left)
	disk.free.Store(1 << 40)
	if err := send(); err != nil || s.isLow() {
		t.Fatalf("with room again: %v", err)
	}
}
