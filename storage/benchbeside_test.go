package storage

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2"
)

// BenchmarkBeside is what deliveries to others wait while the owner of 100,000 messages copies them all, renames INBOX, moves or expunges them.
func BenchmarkBeside(b *testing.B) {
	const n = 100_000
	ctx := context.Background()
	s, a := filled(b, n)
	if err := s.EnsureAccount(ctx, bob, ""); err != nil {
		b.Fatal(err)
	}
	m, err := a.Open(ctx, Inbox)
	if err != nil {
		b.Fatal(err)
	}
	defer m.Close()
	data := testMessage("beside", "text")
	beside := func(name string, act func() error) {
		b.Run(name, func(b *testing.B) {
			done := make(chan error, 1)
			begin := time.Now()
			go func() { done <- act() }()
			var waits []time.Duration
			for over := false; !over; {
				at := time.Now()
				if _, err := s.Deliver(ctx, Delivery{Bodies: []Body{body(data, NewEntry{Account: bob})}}); err != nil {
					b.Fatal(err)
				}
				waits = append(waits, time.Since(at))
				select {
				case err := <-done:
					if over = true; err != nil {
						b.Fatal(err)
					}
				default:
				}
			}
			took := time.Since(begin)
			slices.Sort(waits)
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(float64(took.Milliseconds()), "ms")
			b.ReportMetric(float64(len(waits)), "deliveries")
			b.ReportMetric(float64(waits[len(waits)/2].Microseconds())/1000, "median-ms")
			b.ReportMetric(float64(waits[len(waits)-1].Microseconds())/1000, "longest-ms")
		})
	}
	all := imap.UIDSet{{Start: 1, Stop: 0}}
	beside("alone", func() error { time.Sleep(time.Second); return nil })
	beside("copy", func() error { _, err := m.Copy(ctx, all, "Archive"); return err })
	beside("rename-inbox", func() error { return a.Rename(ctx, Inbox, "Old") })
	old, err := a.Open(ctx, "Old")
	if err != nil {
		b.Fatal(err)
	}
	defer old.Close()
	beside("move", func() error { _, err := old.Move(ctx, all, Inbox); return err })
	if _, _, err := m.StoreFlags(ctx, all, AddFlags, []string{FlagDeleted}, 0); err != nil {
		b.Fatal(err)
	}
	beside("expunge", func() error { _, err := m.Expunge(ctx, nil); return err })
}
