package storage

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/emersion/go-imap/v2"

	"cmmpd/internal/message"
)

// benchStore holds n messages of 4 KiB in alice's INBOX.
func benchStore(b *testing.B, n int) (*Store, Options) {
	b.Helper()
	ctx := context.Background()
	o := Options{Dir: filepath.Join(b.TempDir(), "store"), Keys: newKeys(b), HouseRate: -1, SegmentBytes: 4 << 20}
	s := mustOpen(b, o)
	if err := s.EnsureAccount(ctx, alice, ""); err != nil {
		b.Fatal(err)
	}
	a, err := s.OpenAccount(ctx, alice)
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = a.Close() }()
	for i := 0; i < n; i += 500 {
		var list []Append
		for j := range 500 {
			data := testMessage(fmt.Sprint("m ", i+j), string(make([]byte, 4000)))
			list = append(list, Append{Data: data, Index: message.Parse(data, message.Limits{})})
		}
		if _, err := a.Append(ctx, Inbox, list); err != nil {
			b.Fatal(err)
		}
	}
	return s, o
}

// BenchmarkRebuild opens a store of 5,000 messages whose index is lost.
func BenchmarkRebuild(b *testing.B) {
	s, o := benchStore(b, 5000)
	if err := s.Close(); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if err := os.Remove(filepath.Join(o.Dir, indexFile)); err != nil {
			b.Fatal(err)
		}
		if err := mustOpen(b, o).Close(); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(5000*float64(b.N)/b.Elapsed().Seconds(), "messages/s")
}

// BenchmarkCompact compacts a store of 5,000 messages, every other of which was expunged.
func BenchmarkCompact(b *testing.B) {
	ctx := context.Background()
	b.ReportAllocs()
	for b.Loop() {
		b.StopTimer()
		s, _ := benchStore(b, 5000)
		a, err := s.OpenAccount(ctx, alice)
		if err != nil {
			b.Fatal(err)
		}
		m, err := a.Open(ctx, Inbox)
		if err != nil {
			b.Fatal(err)
		}
		var set imap.UIDSet
		for uid := imap.UID(1); uid <= 5000; uid += 2 {
			set.AddNum(uid)
		}
		if _, _, err := m.StoreFlags(ctx, set, AddFlags, []string{FlagDeleted}, 0); err != nil {
			b.Fatal(err)
		}
		if _, err := m.Expunge(ctx, nil); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
		r, err := s.Compact(ctx)
		b.StopTimer()
		if err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(r.Freed)/float64(max(r.Written, 1)), "freed/written")
		m.Close()
		_ = a.Close()
		if err := s.Close(); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
}
