package storage

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2"

	"cmmpd/internal/mail"
	"cmmpd/internal/message"
	"cmmpd/storage/engine"
)

// recoverWorld is alice's account in a store whose clock is moved by hand.
type recoverWorld struct {
	t     *testing.T
	o     Options
	s     *Store
	a     *Account
	clock time.Time
}

func newRecoverWorld(t *testing.T, limit int64) *recoverWorld {
	w := &recoverWorld{t: t, clock: time.Unix(1_800_000_000, 0)}
	w.o = Options{
		Dir: filepath.Join(t.TempDir(), "store"), Keys: newKeys(t), Now: func() time.Time { return w.clock },
		Recover: 24 * time.Hour, RecoverBytes: limit, HouseRate: -1,
	}
	w.open()
	t.Cleanup(w.close)
	return w
}

func (w *recoverWorld) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *recoverWorld) open() {
	w.t.Helper()
	w.s = mustOpen(w.t, w.o)
	w.must(w.s.EnsureAccount(context.Background(), alice, "x.example"))
	var err error
	w.a, err = w.s.OpenAccount(context.Background(), alice)
	w.must(err)
}

func (w *recoverWorld) close() {
	_ = w.a.Close()
	w.must(w.s.Close())
}

// put puts messages of that text into a mailbox.
func (w *recoverWorld) put(mailbox string, flags []string, texts ...string) {
	w.t.Helper()
	var list []Append
	for _, text := range texts {
		data := testMessage("subject", text)
		list = append(list, Append{Data: data, Index: message.Parse(data, message.Limits{}), Flags: flags, InternalDate: time.Unix(1_700_000_000, 0)})
	}
	_, err := w.a.Append(context.Background(), mailbox, list)
	w.must(err)
}

// in runs f with a mailbox open.
func (w *recoverWorld) in(mailbox string, f func(*Mailbox)) {
	w.t.Helper()
	m, err := w.a.Open(context.Background(), mailbox)
	w.must(err)
	defer m.Close()
	f(m)
}

var everything = imap.UIDSet{{Start: 1, Stop: 0}}

// expunge removes all of a mailbox.
func (w *recoverWorld) expunge(mailbox string) {
	w.t.Helper()
	w.in(mailbox, func(m *Mailbox) {
		_, _, err := m.StoreFlags(context.Background(), everything, AddFlags, []string{FlagDeleted}, 0)
		w.must(err)
		_, err = m.Expunge(context.Background(), nil)
		w.must(err)
	})
}

// kept is what can be brought back: the text of each.
func (w *recoverWorld) kept() []string {
	w.t.Helper()
	var list []string
	if _, err := w.a.Status(context.Background(), recoverableName); mail.KindOf(err) == mail.NotFound && err != nil {
		return nil
	}
	w.in(recoverableName, func(m *Mailbox) {
		msgs, _ := m.Snapshot()
		for _, msg := range msgs {
			_, text, _ := strings.Cut(string(readAll(w.t, m, msg.UID)), "\r\n\r\n")
			list = append(list, strings.TrimSpace(text))
		}
	})
	r := checkClean(w.t, w.s)
	if r.Recoverable != len(list) {
		w.t.Errorf("the report counts %d recoverable messages, not %d", r.Recoverable, len(list))
	}
	return list
}

func (w *recoverWorld) expect(want ...string) {
	w.t.Helper()
	if got := w.kept(); !slices.Equal(got, want) {
		w.t.Errorf("recoverable is %q, want %q", got, want)
	}
}

func TestRecoverable(t *testing.T) {
	ctx := context.Background()
	w := newRecoverWorld(t, 0)
	w.expect()
	w.put(Inbox, []string{FlagSeen, "$Work"}, "one", "two")
	w.put("Trash", nil, "three")
	w.put("Drafts", nil, "draft")
	w.must(w.a.Create(ctx, "Old/Deep", ""))
	w.put("Old/Deep", nil, "four")
	before := checkClean(t, w.s)
	w.expunge(Inbox)
	w.expunge("Trash")
	w.expunge("Drafts")
	w.must(w.a.Delete(ctx, "Old/Deep"))
	want := []string{"one", "two", "three", "four"}
	w.expect(want...)
	if r := checkClean(t, w.s); r.Entries != 0 || r.Bodies != 0 || r.Mailboxes != before.Mailboxes-1 || r.Recoverable != 4 {
		t.Errorf("%+v, before %+v", r, before)
	}
	if u, err := w.a.Usage(ctx); err != nil || u.Messages != 0 || u.Size != 0 {
		t.Errorf("%+v, %v", u, err)
	}
	w.in(recoverableName, func(m *Mailbox) {
		msgs, _ := m.Snapshot()
		if x := msgs[1]; !slices.Equal(x.Flags.List(), []string{FlagSeen, "$Work"}) || x.InternalDate.Unix() != 1_700_000_000 || !x.SaveDate.Equal(w.clock) || !m.Recoverable() {
			t.Errorf("%+v %v", x, x.Flags.List())
		}
		_, err := m.Move(ctx, imap.UIDSetNum(1), Inbox)
		w.must(err)
		_, err = m.Copy(ctx, imap.UIDSetNum(3), "Archive")
		w.must(err)
	})
	w.close()
	w.open()
	w.expect(want[1:]...)
	w.in(Inbox, func(m *Mailbox) {
		msgs, _ := m.Snapshot()
		if len(msgs) != 1 || !slices.Equal(msgs[0].Flags.List(), []string{FlagSeen, "$Work"}) {
			t.Errorf("brought back: %+v", msgs)
		}
	})
	if u, err := w.a.Usage(ctx); err != nil || u.Messages != 2 {
		t.Errorf("%+v, %v", u, err)
	}
	w.clock = w.clock.Add(23 * time.Hour)
	w.expunge("Archive")
	w.must(w.s.expireSome(ctx))
	w.expect(append(want[1:], "three")...)
	w.clock = w.clock.Add(time.Hour)
	w.must(w.s.expireSome(ctx))
	w.expect("three")
	w.close()
	w.o.Recover = 0
	w.open()
	w.expunge(Inbox)
	w.clock = w.clock.Add(1000 * time.Hour)
	w.must(w.s.expireSome(ctx))
	w.expect("three")
	w.close()
	w.o.Recover = -1
	w.open()
	w.put(Inbox, nil, "five")
	w.expunge(Inbox)
	w.expect("three")
	w.must(w.s.expireSome(ctx))
	w.expect()
}

// TestRecoverableRefuses: nobody puts anything there, changes, or removes it.
func TestRecoverableRefuses(t *testing.T) {
	ctx := context.Background()
	w := newRecoverWorld(t, 0)
	w.put(Inbox, nil, "one")
	w.expunge(Inbox)
	w.put(Inbox, nil, "two")
	data := testMessage("x", "x")
	errs := map[string]error{
		"append": func() error {
			_, err := w.a.Append(ctx, recoverableName, []Append{{Data: data, Index: message.Parse(data, message.Limits{})}})
			return err
		}(),
		"delete": w.a.Delete(ctx, recoverableName),
		"rename": w.a.Rename(ctx, recoverableName, "Other"),
	}
	w.in(Inbox, func(m *Mailbox) {
		_, errs["copy into"] = m.Copy(ctx, everything, recoverableName)
		_, errs["move into"] = m.Move(ctx, everything, recoverableName)
	})
	w.in(recoverableName, func(m *Mailbox) {
		_, _, errs["store"] = m.StoreFlags(ctx, everything, AddFlags, []string{FlagDeleted}, 0)
		_, errs["expunge"] = m.Expunge(ctx, nil)
		_, errs["copy within"] = m.Copy(ctx, everything, recoverableName)
	})
	for name, err := range errs {
		if mail.KindOf(err) != mail.ReadOnly {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, err := range map[string]error{
		"create below": w.a.Create(ctx, recoverableName+"/x/y", ""), "rename below": w.a.Rename(ctx, "Junk", recoverableName+"/x"),
	} {
		if mail.KindOf(err) != mail.Denied {
			t.Errorf("%s: %v", name, err)
		}
	}
	w.expect("one")
}

// TestRecoverableName: the owner's own mailbox of that name stays theirs.
func TestRecoverableName(t *testing.T) {
	ctx := context.Background()
	w := newRecoverWorld(t, 0)
	w.must(w.a.Create(ctx, recoverableName, ""))
	w.must(w.a.Create(ctx, recoverableName+" (2)/Below", ""))
	w.must(w.a.Delete(ctx, recoverableName+" (2)"))
	w.put(recoverableName, nil, "one")
	w.expunge(recoverableName)
	w.in(recoverableName, func(m *Mailbox) {
		if m.Recoverable() || m.State().Messages != 0 {
			t.Error("the owner's mailbox is taken")
		}
	})
	w.in(recoverableName+" (3)", func(m *Mailbox) {
		if !m.Recoverable() || m.State().Messages != 1 {
			t.Errorf("%+v", m.State())
		}
	})
	checkClean(t, w.s)
}

// TestRecoverableBounds: the oldest go first, and what is larger than all that may be kept is not kept.
func TestRecoverableBounds(t *testing.T) {
	n := int64(len(testMessage("subject", "00")))
	w := newRecoverWorld(t, 3*n)
	for i := range 5 {
		w.put(Inbox, nil, fmt.Sprintf("%02d", i))
		w.expunge(Inbox)
	}
	w.expect("02", "03", "04")
	w.put(Inbox, nil, "05", "06", "07", "08", "09")
	w.expunge(Inbox)
	w.expect("07", "08", "09")
	w.put(Inbox, nil, strings.Repeat("x", int(3*n)))
	w.expunge(Inbox)
	w.expect("07", "08", "09")
	w.close()
	w.o.RecoverBytes = n
	w.open()
	w.must(w.s.expireSome(context.Background()))
	w.expect("09")
}

// TestRecoverableExpiresInBatches: many at once, seen by who has the mailbox open.
func TestRecoverableExpiresInBatches(t *testing.T) {
	ctx := context.Background()
	w := newRecoverWorld(t, 0)
	texts := make([]string, 2*recoverBatch+10)
	for i := range texts {
		texts[i] = fmt.Sprint(i)
	}
	w.put(Inbox, nil, texts...)
	w.expunge(Inbox)
	w.in(recoverableName, func(m *Mailbox) {
		w.clock = w.clock.Add(25 * time.Hour)
		since := m.State().HighestModSeq
		w.must(w.s.expireSome(ctx))
		if st := m.State(); st.Messages != 0 {
			t.Errorf("%+v", st)
		}
		ch, err := m.Changes(since)
		if want := fmt.Sprintf("1:%d", len(texts)); err != nil || ch.Vanished.String() != want {
			t.Errorf("vanished %v, want %s (%v)", ch.Vanished, want, err)
		}
	})
	if r := checkClean(t, w.s); r.Recoverable != 0 || r.Bodies != 0 {
		t.Errorf("%+v", r)
	}
	if _, total, err := w.s.garbage(); err != nil || total == 0 {
		t.Errorf("nothing is free: %d, %v", total, err)
	}
}

// TestRecoverableKeywords: the mailbox knows as many keywords as any. What is beyond is not kept; the message is.
func TestRecoverableKeywords(t *testing.T) {
	w := newRecoverWorld(t, 0)
	for i := range 2 {
		var words []string
		for k := range maxKeywords {
			words = append(words, fmt.Sprintf("k%d-%d", i, k))
		}
		name := fmt.Sprint("box", i)
		w.must(w.a.Create(context.Background(), name, ""))
		w.put(name, words, name)
		w.must(w.a.Delete(context.Background(), name))
	}
	w.expect("box0", "box1")
	w.in(recoverableName, func(m *Mailbox) {
		msgs, _ := m.Snapshot()
		if len(msgs[0].Flags.List()) != maxKeywords || len(msgs[1].Flags.List()) != 0 {
			t.Errorf("%v, %v", msgs[0].Flags.List(), msgs[1].Flags.List())
		}
	})
}

func TestScanSome(t *testing.T) {
	s := mustOpen(t, searchStore(t))
	defer func() { _ = s.Close() }()
	var ops []engine.Op
	for n := range uint64(2*scanBatch + 10) {
		ops = append(ops, engine.Op{Key: keyOf64('?', n), Value: []byte{1}})
	}
	s.kv.Apply(ops)
	for _, n := range []int{0, 1, 3, scanBatch, scanBatch + 1, 2 * scanBatch, 2*scanBatch + 9, 2*scanBatch + 10, 3 * scanBatch} {
		seen := uint64(0)
		err := s.scanSome(key0('?'), n, func(k, _ []byte) error {
			if last64(k) != seen {
				return fmt.Errorf("key %d in the place of %d", last64(k), seen)
			}
			seen++
			return nil
		})
		if want := min(n, len(ops)); err != nil || seen != uint64(want) {
			t.Errorf("of %d: %d, %v", n, seen, err)
		}
	}
}

// BenchmarkScanSome looks at the first of many records.
func BenchmarkScanSome(b *testing.B) {
	s := mustOpen(b, searchStore(b))
	defer func() { _ = s.Close() }()
	for n := range uint64(scanBatch) {
		s.kv.Apply([]engine.Op{{Key: keyOf64('?', n), Value: make([]byte, 40)}})
	}
	b.ReportAllocs()
	for b.Loop() {
		_ = s.scanSome(key0('?'), 1, func(_, _ []byte) error { return nil })
	}
}
