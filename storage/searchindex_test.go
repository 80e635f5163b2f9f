package storage

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2"

	"cmmpd/internal/mail"
	"cmmpd/internal/message"
	"cmmpd/storage/search"
)

// searchStore is a store with small bounds of the index, whose background does not begin by itself.
func searchStore(t testing.TB) Options {
	return Options{
		Dir: filepath.Join(t.TempDir(), "store"), Keys: newKeys(t),
		Search: SearchOptions{Least: 10, Batch: 100, Rest: time.Hour},
	}
}

// fill appends messages numbered from, from+1 ...: each has a word of its own, and shares one with a seventh of the others.
func fill(t testing.TB, a *Account, mailbox string, from, n int) {
	t.Helper()
	var list []Append
	for i := from; i < from+n; i++ {
		data := testMessage(fmt.Sprint("subject", i), fmt.Sprintf("own%dword seventh%d 共同文字", i, i%7))
		list = append(list, Append{Data: data, Index: message.Parse(data, message.Limits{})})
	}
	if _, err := a.Append(context.Background(), mailbox, list); err != nil {
		t.Fatal(err)
	}
}

func openBox(t testing.TB, a *Account, name string) *Mailbox {
	t.Helper()
	m, err := a.Open(context.Background(), name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Close)
	return m
}

// counts is how many messages of a mailbox the index says yes to, no, and perhaps.
func counts(t testing.TB, m *Mailbox, fields search.Fields, needle string, read bool) [3]int {
	t.Helper()
	uids, _, _ := m.UIDs()
	f, err := m.Find(context.Background(), uids, []TextKey{{Fields: fields, Needle: search.NewFolder().FoldString(needle)}}, read)
	if err != nil {
		t.Fatal(err)
	}
	var n [3]int
	for i, uid := range uids {
		v := f.Verdict(0, i)
		n[v]++
		sum, err := m.Summary(context.Background(), uid)
		if err != nil {
			t.Fatal(err)
		}
		src := search.Source{Header: sum.Header, Index: sum.Index, Read: func() ([]byte, error) { return readAll(t, m, uid)[len(sum.Prefix):], nil }}
		want, err := src.InText(search.NewFolder(), search.AllFields, search.NewFolder().FoldString(needle))
		if err != nil {
			t.Fatal(err)
		}
		if fields == search.AllFields && (want && v == search.No || !want && v == search.Yes) {
			t.Fatalf("%q in UID %d: the index says %d, the message %v", needle, uid, v, want)
		}
	}
	return [3]int{n[search.Yes], n[search.No], n[search.Perhaps]}
}

func files(t testing.TB, o Options) []string {
	t.Helper()
	list, err := filepath.Glob(filepath.Join(o.Dir, searchDir, "*", "*"))
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func TestSearchIndex(t *testing.T) {
	ctx := context.Background()
	o := searchStore(t)
	s := mustOpen(t, o)
	defer func() { _ = s.Close() }()
	if err := s.EnsureAccount(ctx, alice, ""); err != nil {
		t.Fatal(err)
	}
	a, err := s.OpenAccount(ctx, alice)
	if err != nil {
		t.Fatal(err)
	}
	fill(t, a, "INBOX", 0, 350)
	m := openBox(t, a, "INBOX")
	if got := counts(t, m, search.AllFields, "seventh3", false); got != [3]int{0, 0, 350} {
		t.Fatalf("before there is an index: %v", got)
	}
	if got := counts(t, m, search.AllFields, "SEVENTH3", true); got != [3]int{50, 300, 0} {
		t.Fatalf("indexed on the way: %v", got)
	}
	if n := len(files(t, o)); n != 4 {
		t.Fatalf("%d files", n)
	}
	for needle, want := range map[string][3]int{
		"own17word": {1, 349, 0}, "wn17w": {1, 349, 0}, "nothing": {0, 350, 0}, "共": {350, 0, 0}, "文字": {350, 0, 0}, "seventh3 共": {0, 300, 50}, "!": {0, 0, 350},
	} {
		if got := counts(t, m, search.AllFields, needle, false); got != want {
			t.Errorf("%q: %v, want %v", needle, got, want)
		}
	}
	if got := counts(t, m, search.Subject.Set(), "subject33", false); got != [3]int{11, 339, 0} {
		t.Errorf("subjects: %v", got)
	}
	if got := counts(t, m, search.Subject.Set(), "seventh3", false); got != [3]int{0, 350, 0} {
		t.Errorf("what is in the text alone was found in subjects: %v", got)
	}

	// A copy is found without more ado; a few new messages must be looked into.
	if _, err := m.Copy(ctx, imap.UIDSet{{Start: 1, Stop: 200}}, "Archive"); err != nil {
		t.Fatal(err)
	}
	fill(t, a, "Archive", 350, 5)
	if got := counts(t, openBox(t, a, "Archive"), search.AllFields, "own17word", true); got != [3]int{1, 199, 5} {
		t.Errorf("copies: %v", got)
	}

	// Four files become one, without what was expunged everywhere.
	if _, _, err := m.StoreFlags(ctx, imap.UIDSet{{Start: 151, Stop: 350}}, AddFlags, []string{FlagDeleted}, 0); err != nil {
		t.Fatal(err)
	}
	if _, err := m.Expunge(ctx, nil); err != nil {
		t.Fatal(err)
	}
	if err := a.a.search.tidy(ctx, a.a, nil); err != nil {
		t.Fatal(err)
	}
	list, err := a.a.search.list(a.a)
	if err != nil {
		t.Fatal(err)
	}
	if len(list) != 1 || list[0].docs != 200 || len(files(t, o)) != 1 {
		t.Fatalf("%d files after merging, the first of %d messages; on disk %v", len(list), list[0].docs, files(t, o))
	}
	if got := counts(t, m, search.AllFields, "seventh3", false); got != [3]int{21, 129, 0} {
		t.Errorf("merged: %v", got)
	}
	checkClean(t, s)
	m.Close()
	_ = a.Close()
	if a.a.search.loaded {
		t.Error("the index of a closed account is in memory")
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}

	// A backup has none of it.
	s = mustOpen(t, o)
	err = s.Backup(ctx, func(name string, copy func(io.Writer) error) error {
		if strings.HasPrefix(name, searchDir) {
			t.Errorf("%s is in the backup", name)
		}
		return copy(io.Discard)
	})
	if err = errors.Join(err, s.Close()); err != nil {
		t.Fatal(err)
	}

	// What was left by a crash goes, and the rest is used.
	dir := filepath.Dir(files(t, o)[0])
	whole, err := os.ReadFile(files(t, o)[0])
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string][]byte{"00000009.idx.tmp": whole[:100], "00000002.idx": whole, "00000008.idx": nil} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s = mustOpen(t, o)
	if a, err = s.OpenAccount(ctx, alice); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = a.Close() }()
	if got := counts(t, openBox(t, a, "INBOX"), search.AllFields, "seventh3", false); got != [3]int{21, 129, 0} {
		t.Errorf("after opening again: %v", got)
	}
	if n := len(files(t, o)); n != 1 {
		t.Errorf("%d files, %v", n, files(t, o))
	}
	checkClean(t, s)
}

// However a file is damaged, no answer is wrong, and the index is made again.
func TestSearchIndexDamage(t *testing.T) {
	ctx := context.Background()
	o := searchStore(t)
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
	fill(t, a, "INBOX", 0, 60)
	m := openBox(t, a, "INBOX")
	for step := 0; step < 40; step++ {
		if got := counts(t, m, search.AllFields, "seventh3", true); got != [3]int{9, 51, 0} {
			t.Fatalf("step %d: %v", step, got)
		}
		list := files(t, o)
		if len(list) != 1 {
			t.Fatal(list)
		}
		b, err := os.ReadFile(list[0])
		if err != nil {
			t.Fatal(err)
		}
		if at := step * len(b) / 40; step%4 == 0 {
			b = b[:at]
		} else {
			b[at] ^= 0x40
		}
		if err := os.WriteFile(list[0], b, 0o600); err != nil {
			t.Fatal(err)
		}
		if step%2 == 0 {
			a.a.search.forget()
		}
		if step%5 == 0 {
			if r, err := s.Check(ctx, true); err != nil || len(r.Problems) != 1 || !strings.Contains(r.Problems[0], "search") {
				t.Fatalf("step %d: %+v, %v", step, r, err)
			}
		}
		if got := counts(t, m, search.AllFields, "seventh3", false); got != [3]int{9, 51, 0} && got != [3]int{0, 0, 60} {
			t.Fatalf("step %d: %v", step, got)
		}
		a.a.search.forget()
		_ = counts(t, m, search.AllFields, "e", false) // whatever was not looked at before
	}
}

// The background indexes what is enough, stops when the account is closed, and drops what was expunged long ago.
func TestSearcher(t *testing.T) {
	ctx := context.Background()
	o := searchStore(t)
	now := time.Unix(1_800_000_000, 0)
	var mu sync.Mutex
	o.Now = func() time.Time { mu.Lock(); defer mu.Unlock(); return now }
	s := mustOpen(t, o)
	defer func() { _ = s.Close() }()
	if err := s.EnsureAccount(ctx, alice, ""); err != nil {
		t.Fatal(err)
	}
	a, err := s.OpenAccount(ctx, alice)
	if err != nil {
		t.Fatal(err)
	}
	fill(t, a, "INBOX", 0, 9)
	m := openBox(t, a, "INBOX")
	serve := func() {
		m.m.mu.Lock()
		s.searcher.look(m.m, a.a)
		m.m.mu.Unlock()
		s.searcher.serve(searchTask{mailbox: m.m, account: a.a})
	}
	if serve(); len(files(t, o)) != 0 {
		t.Fatal("nine messages were indexed")
	}
	fill(t, a, "INBOX", 9, 991)
	if serve(); len(files(t, o)) >= mergeWidth { // there were 10
		t.Fatalf("%v", files(t, o))
	}
	if got := counts(t, m, search.AllFields, "own400word", false); got != [3]int{1, 999, 0} {
		t.Fatal(got)
	}
	if _, _, err := m.StoreFlags(ctx, imap.UIDSetNum(401), AddFlags, []string{FlagDeleted}, 0); err != nil {
		t.Fatal(err)
	}
	if _, err := m.Expunge(ctx, nil); err != nil {
		t.Fatal(err)
	}
	held := func() (n int) {
		list, err := a.a.search.open(a.a)
		if err != nil {
			t.Fatal(err)
		}
		defer closeSearch(list)
		for _, o := range list {
			n += len(o.Docs())
		}
		return n
	}
	if serve(); held() != 1000 {
		t.Fatalf("one expunged message in a new file: %d are left", held())
	}
	mu.Lock()
	now = now.Add(goneAge + time.Hour)
	mu.Unlock()
	a.a.search.gone.Add(1)
	if serve(); held() != 999 {
		t.Fatalf("one expunged message in an old file: %d are left", held())
	}
	fill(t, a, "INBOX", 1000, 50)
	if a.a.search.untidy.Load() {
		t.Error("there is something left to merge")
	}
	_ = a.Close()
	if err := m.index(ctx, uidsOf(m), nil); mail.KindOf(err) != mail.Denied {
		t.Fatalf("a closed account was indexed: %v", err)
	}
}

// pauseFunc is a pacer.
type pauseFunc func()

func (f pauseFunc) pause() error { f(); return nil }
func (f pauseFunc) turn() error  { return nil }

// What a search adds while files are merged is not forgotten.
func TestTidyWhileAdding(t *testing.T) {
	ctx := context.Background()
	s := mustOpen(t, searchStore(t))
	defer func() { _ = s.Close() }()
	if err := s.EnsureAccount(ctx, alice, ""); err != nil {
		t.Fatal(err)
	}
	a, err := s.OpenAccount(ctx, alice)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = a.Close() }()
	m := openBox(t, a, "INBOX")
	for i := range mergeWidth {
		fill(t, a, "INBOX", 20*i, 20)
		if err := m.index(ctx, uidsOf(m), nil); err != nil {
			t.Fatal(err)
		}
	}
	added := false
	if err := a.a.search.tidy(ctx, a.a, pauseFunc(func() {
		if !added {
			added = true
			fill(t, a, "INBOX", 1000, 20)
			if err := m.index(ctx, uidsOf(m), nil); err != nil {
				t.Error(err)
			}
		}
	})); err != nil {
		t.Fatal(err)
	}
	if !added || !a.a.search.untidy.Load() {
		t.Error("nobody will look at the new file")
	}
	if err := a.a.search.tidy(ctx, a.a, nil); err != nil || a.a.search.untidy.Load() {
		t.Errorf("nothing to do: %v", err)
	}
}

// Where only the reserve is left the index is not written, and messages are looked into; with room again it is.
func TestSearchIndexLeavesReserve(t *testing.T) {
	ctx := context.Background()
	disk := &smallDisk{}
	disk.free.Store(1 << 40)
	o := searchStore(t)
	o.FS, o.Reserve = disk, 100<<20
	now := time.Unix(1_800_000_000, 0)
	o.Now = func() time.Time { return now }
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
	fill(t, a, "INBOX", 0, 50)
	m := openBox(t, a, "INBOX")
	space := func(n int64) {
		disk.free.Store(n)
		s.space.mu.Lock()
		defer s.space.mu.Unlock()
		s.space.at = time.Time{} // it is asked anew
	}
	space(50 << 20)
	if err := m.index(ctx, uidsOf(m), nil); mail.KindOf(err) != mail.Full || err == nil || len(files(t, o)) > 0 {
		t.Errorf("into the reserve: %v, %v", files(t, o), err)
	}
	if got := counts(t, m, search.AllFields, "own40word", true); got != [3]int{0, 0, 50} {
		t.Errorf("without an index: %v", got)
	}
	space(1 << 40)
	now = now.Add(retryAfter)
	if got := counts(t, m, search.AllFields, "own40word", true); got != [3]int{1, 49, 0} {
		t.Errorf("with room again: %v", got)
	}
}

// What gives way to a search waits once, however often the mailbox is looked at; and a store that closes waits for none of what is due.
func TestSearcherQueue(t *testing.T) {
	ctx := context.Background()
	s := mustOpen(t, searchStore(t))
	defer func() { _ = s.Close() }()
	if err := s.EnsureAccount(ctx, alice, ""); err != nil {
		t.Fatal(err)
	}
	a, err := s.OpenAccount(ctx, alice)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = a.Close() }()
	fill(t, a, "INBOX", 0, 20)
	m := openBox(t, a, "INBOX")
	w := &searcher{store: s, wake: make(chan struct{}, 1), quit: make(chan struct{}), ended: make(chan struct{})}
	look := func() {
		m.m.mu.Lock()
		defer m.m.mu.Unlock()
		w.look(m.m, a.a)
	}
	if err := a.a.search.adding.Acquire(ctx, 1); err != nil { // as a search does
		t.Fatal(err)
	}
	w.serve(searchTask{mailbox: m.m, account: a.a})
	look()
	if len(w.queue) != 1 {
		t.Fatalf("%d tasks for one mailbox", len(w.queue))
	}
	a.a.search.adding.Release(1)
	w.queue[0].due = time.Time{}
	close(w.quit)
	w.loop()
	if len(w.queue) != 1 {
		t.Error("it went on working when the store was closing")
	}
}

// TestSearcherTurns: what is due comes first, whenever it was put, and a large mailbox gives way to one that waits.
func TestSearcherTurns(t *testing.T) {
	ctx := context.Background()
	s := mustOpen(t, searchStore(t))
	defer func() { _ = s.Close() }()
	w := &searcher{store: s, wake: make(chan struct{}, 1), quit: make(chan struct{}), ended: make(chan struct{})} // each turn is over at once
	var boxes []*Mailbox
	for _, id := range []mail.AccountID{alice, bob} {
		if err := s.EnsureAccount(ctx, id, ""); err != nil {
			t.Fatal(err)
		}
		a, err := s.OpenAccount(ctx, id)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = a.Close() }()
		fill(t, a, Inbox, 0, 50)
		boxes = append(boxes, openBox(t, a, Inbox))
	}
	w.put(searchTask{boxes[0].m, boxes[0].m.account, time.Now().Add(time.Hour)})
	if _, wait := w.next(); wait <= 0 {
		t.Fatal("nothing is due")
	}
	past := time.Now().Add(-time.Minute)
	w.put(searchTask{boxes[1].m, boxes[1].m.account, past})
	if x, _ := w.next(); x.mailbox != boxes[1].m {
		t.Fatal("a task that is due waits for one that is not")
	}
	w.queue = nil
	left := func(i int) int {
		wanted, err := boxes[i].unindexed(uidsOf(boxes[i]))
		if err != nil {
			t.Fatal(err)
		}
		return len(wanted)
	}
	w.put(searchTask{boxes[1].m, boxes[1].m.account, past})
	w.serve(searchTask{boxes[0].m, boxes[0].m.account, past})
	if left(0) != 50-addBatch || left(1) != 50 || len(w.queue) != 2 {
		t.Fatalf("%d and %d messages are not indexed, %d tasks", left(0), left(1), len(w.queue))
	}
	order := []*mailbox{boxes[1].m, boxes[0].m}
	for range 100 {
		x, _ := w.next()
		if x.mailbox == nil {
			break
		}
		if len(w.queue) > 0 && x.mailbox != order[0] {
			t.Fatal("one gets two turns")
		}
		order[0], order[1] = order[1], order[0]
		w.serve(x)
	}
	if left(0) >= 10 || left(1) >= 10 || len(w.queue) != 0 {
		t.Errorf("%d and %d messages are not indexed, %d tasks", left(0), left(1), len(w.queue))
	}
}

func uidsOf(m *Mailbox) []uint32 {
	uids, _, _ := m.UIDs()
	return uids
}

// The index goes on while mail comes, goes, is searched, and accounts are opened and closed.
func TestSearchIndexConcurrent(t *testing.T) {
	ctx := context.Background()
	o := searchStore(t)
	o.Search.Rest = time.Nanosecond
	s := mustOpen(t, o)
	defer func() { _ = s.Close() }()
	if err := s.EnsureAccount(ctx, alice, ""); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for k := range 3 {
		wg.Go(func() {
			for round := range 4 {
				a, err := s.OpenAccount(ctx, alice)
				if err != nil {
					t.Error(err)
					return
				}
				fill(t, a, "INBOX", 1000*k+100*round, 60)
				m, err := a.Open(ctx, "INBOX")
				if err != nil {
					t.Error(err)
					return
				}
				needle := fmt.Sprintf("own%dword", 1000*k+100*round)
				uids := uidsOf(m)
				f, err := m.Find(ctx, uids, []TextKey{{Fields: search.AllFields, Needle: []byte(needle)}}, round%2 == 0)
				if err != nil {
					t.Error(err)
				}
				hits := 0
				for i := range uids {
					if f.Verdict(0, i) != search.No {
						hits++
					}
				}
				if hits == 0 {
					t.Errorf("%s was not found", needle)
				}
				some := uids[len(uids)-5:]
				if _, _, err := m.StoreFlags(ctx, imap.UIDSet{{Start: imap.UID(some[0]), Stop: imap.UID(some[4])}}, AddFlags, []string{FlagDeleted}, 0); err != nil {
					t.Error(err)
				}
				if _, err := m.Expunge(ctx, nil); err != nil {
					t.Error(err)
				}
				m.Close()
				_ = a.Close()
			}
		})
	}
	wg.Wait()
	checkClean(t, s)
}

// No word of a message, and no hash of one, is in a file of the index.
func TestSearchFilesAreSealed(t *testing.T) {
	ctx := context.Background()
	o := searchStore(t)
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
	fill(t, a, "INBOX", 0, 50)
	_ = counts(t, openBox(t, a, "INBOX"), search.AllFields, "x", true)
	for _, name := range files(t, o) {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, word := range []string{"own17word", "seventh", "subject", "共同", "works"} {
			if strings.Contains(string(b), word) {
				t.Errorf("%s holds %q", name, word)
			}
		}
	}
}

func FuzzSearchHeader(f *testing.F) {
	h := searchHeader{account: 1, number: 2, docs: 3, epoch: 4, wrapped: []byte("key"), rules: "rules", replaces: []uint32{1}}
	f.Add(h.encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		h, n, err := decodeSearchHeader(b)
		if err == nil && !slices.Equal(h.encode(), b[:n]) {
			t.Fatal("two encodings of one head")
		}
	})
}

// In one account a body has one prefix: the search index has a body once.
func TestOnePrefix(t *testing.T) {
	s := mustOpen(t, searchStore(t))
	defer func() { _ = s.Close() }()
	data := testMessage("one", "text")
	entries := []NewEntry{{Account: alice, Prefix: []byte("X: 1\r\n")}, {Account: bob, Prefix: []byte("X: 2\r\n")}, {Account: alice, Mailbox: "Archive", Prefix: []byte("X: 1\r\n")}}
	if _, err := s.Deliver(context.Background(), Delivery{Bodies: []Body{body(data, entries...)}}); err != nil {
		t.Fatal(err)
	}
	entries[2].Prefix = []byte("X: 3\r\n")
	if _, err := s.Deliver(context.Background(), Delivery{Bodies: []Body{body(data, entries...)}}); mail.KindOf(err) != mail.Invalid {
		t.Fatalf("two prefixes in one account: %v", err)
	}
}
