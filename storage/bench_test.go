package storage

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/emersion/go-imap/v2"

	"cmmpd/internal/mail"
	"cmmpd/internal/message"
	"cmmpd/storage/search"
)

// BenchmarkDeliver is the commit path: 4 KiB to one of 100 accounts, by several callers at once. Parsing is not in it.
func BenchmarkDeliver(b *testing.B) {
	for _, callers := range []int{1, 16, 64} {
		b.Run(fmt.Sprint(callers), func(b *testing.B) {
			ctx := context.Background()
			s := mustOpen(b, Options{Dir: filepath.Join(b.TempDir(), "store"), Keys: newKeys(b)})
			defer func() { _ = s.Close() }()
			ids := make([]mail.AccountID, 100)
			for i := range ids {
				ids[i] = mail.AccountID(fmt.Sprintf("%08d-0000-4000-8000-000000000000", i))
				if err := s.EnsureAccount(ctx, ids[i], ""); err != nil {
					b.Fatal(err)
				}
			}
			var next atomic.Int64
			b.ReportAllocs()
			b.ResetTimer()
			var wg sync.WaitGroup
			for range callers {
				wg.Go(func() {
					for {
						n := int(next.Add(1))
						if n > b.N {
							return
						}
						data := testMessage(fmt.Sprint("message ", n), strings.Repeat("0123456789abcde\r\n", 240))
						_, err := s.Deliver(ctx, Delivery{Bodies: []Body{body(data, NewEntry{Account: ids[n%100], Prefix: []byte("Delivered-To: x\r\n")})}})
						if err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			wg.Wait()
			b.StopTimer()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "msg/s")
		})
	}
}

// filled is a store with one mailbox of n messages.
func filled(b *testing.B, n int) (*Store, *Account) {
	b.Helper()
	ctx := context.Background()
	s := mustOpen(b, Options{Dir: filepath.Join(b.TempDir(), "store"), Keys: newKeys(b)})
	b.Cleanup(func() { _ = s.Close() })
	if err := s.EnsureAccount(ctx, alice, ""); err != nil {
		b.Fatal(err)
	}
	a, err := s.OpenAccount(ctx, alice)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = a.Close() })
	var list []Append
	for i := range n {
		data := testMessage(fmt.Sprint("message ", i), strings.Repeat("0123456789abcde\r\n", 16))
		list = append(list, Append{Data: data, Index: message.Parse(data, message.Limits{})})
		if len(list) == 1000 || i == n-1 {
			if _, err := a.Append(ctx, "INBOX", list); err != nil {
				b.Fatal(err)
			}
			list = list[:0]
		}
	}
	return s, a
}

// BenchmarkMailbox is what a session does to a mailbox of 20,000 messages.
func BenchmarkMailbox(b *testing.B) {
	const n = 20_000
	ctx := context.Background()
	s, a := filled(b, n)
	m, err := a.Open(ctx, "INBOX")
	if err != nil {
		b.Fatal(err)
	}
	defer m.Close()
	b.Run("load", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			m.m.account.mu.Lock()
			x, err := s.load(ctx, m.m.account, m.m.key)
			m.m.account.mu.Unlock()
			if err != nil || len(x.msgs) != n {
				b.Fatal(err)
			}
		}
	})
	s.mailboxesMu.Lock()
	s.mailboxes[m.m.key] = m.m
	s.mailboxesMu.Unlock()
	b.Run("snapshot", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			_, _ = m.Snapshot()
		}
	})
	b.Run("summary", func(b *testing.B) {
		b.ReportAllocs()
		uid := uint32(0)
		for b.Loop() {
			uid = uid%n + 1
			if _, err := m.Summary(ctx, uid); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("store-one", func(b *testing.B) {
		b.ReportAllocs()
		uid, op := uint32(0), AddFlags
		for b.Loop() {
			if uid = uid%n + 1; uid == 1 {
				op = AddFlags + DelFlags - op
			}
			if _, _, err := m.StoreFlags(ctx, imap.UIDSetNum(imap.UID(uid)), op, []string{FlagSeen}, 0); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("store-all", func(b *testing.B) {
		b.ReportAllocs()
		op := AddFlags
		for b.Loop() {
			if _, _, err := m.StoreFlags(ctx, imap.UIDSet{{Start: 1, Stop: n}}, op, []string{FlagFlagged}, 0); err != nil {
				b.Fatal(err)
			}
			op = AddFlags + DelFlags - op
		}
	})
}

// BenchmarkSearch asks the search index about 100,000 messages, and indexes 10,000.
func BenchmarkSearch(b *testing.B) {
	ctx := context.Background()
	b.Run("find-100000", func(b *testing.B) {
		_, a := filled(b, 100_000)
		m, err := a.Open(ctx, "INBOX")
		if err != nil {
			b.Fatal(err)
		}
		defer m.Close()
		uids, _, _ := m.UIDs()
		key := []TextKey{{Fields: search.AllFields, Needle: []byte("77777")}}
		if _, err := m.Find(ctx, uids, key, true); err != nil {
			b.Fatal(err)
		}
		if err := a.a.search.tidy(ctx, a.a, nil); err != nil {
			b.Fatal(err)
		}
		b.ReportAllocs()
		for b.Loop() {
			f, err := m.Find(ctx, uids, key, true)
			if err != nil || f.Verdict(0, 77_777) != search.Yes {
				b.Fatal(err)
			}
		}
	})
	b.Run("index-10000", func(b *testing.B) {
		_, a := filled(b, 10_000)
		m, err := a.Open(ctx, "INBOX")
		if err != nil {
			b.Fatal(err)
		}
		defer m.Close()
		uids, _, _ := m.UIDs()
		b.ReportAllocs()
		for b.Loop() {
			if err := m.index(ctx, uids, nil); err != nil {
				b.Fatal(err)
			}
			list, err := a.a.search.list(a.a)
			if err != nil {
				b.Fatal(err)
			}
			for _, f := range list {
				a.a.search.drop(a.a, f, nil)
			}
		}
		b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N)/10_000, "µs/msg")
	})
}
