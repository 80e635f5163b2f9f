package storage

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/emersion/go-imap/v2"

	"cmmpd/internal/durable/faultfs"
	"cmmpd/internal/mail"
	"cmmpd/internal/message"
	"cmmpd/storage/engine"
)

// copyStore is a store with n messages in alice's INBOX, in which an act concerns three messages.
func copyStore(t *testing.T, n int, o Options) (*Store, *Account) {
	t.Helper()
	ctx := context.Background()
	o.Keys, o.HouseRate, o.HouseEvery, o.act = newKeys(t), -1, -1, 3
	if o.Dir == "" {
		o.Dir = filepath.Join(t.TempDir(), "store")
	}
	s := mustOpen(t, o)
	if err := s.EnsureAccount(ctx, alice, ""); err != nil {
		t.Fatal(err)
	}
	a, err := s.OpenAccount(ctx, alice)
	if err != nil {
		t.Fatal(err)
	}
	var list []Append
	for i := range n {
		data := testMessage(fmt.Sprint("m", i), "text")
		list = append(list, Append{Data: data, Index: message.Parse(data, message.Limits{}), Flags: []string{FlagSeen, fmt.Sprint("Word", i)}})
	}
	if _, err := a.Append(ctx, Inbox, list); err != nil {
		t.Fatal(err)
	}
	return s, a
}

func openNamed(t *testing.T, a *Account, name string) *Mailbox {
	t.Helper()
	m, err := a.Open(context.Background(), name)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// TestCopyMany makes a copy of eleven messages in four acts fail, at each of its writes and flushes. Nobody has ever seen a part of it: neither
// at once, nor after the store was opened again.
func TestCopyMany(t *testing.T) {
	ctx := context.Background()
	const n = 11
	for _, mode := range []faultfs.Mode{faultfs.Lost, faultfs.Done, faultfs.Short} {
		for at, done := 1, false; !done; at++ {
			t.Run(fmt.Sprint(mode, at), func(t *testing.T) {
				fsys := faultfs.New()
				o := Options{FS: fsys, Dir: filepath.Join(t.TempDir(), "store")}
				s, a := copyStore(t, n, o)
				inbox, sent := openNamed(t, a, Inbox), openNamed(t, a, "Sent")
				since := sent.State()
				fsys.FailAt(at, mode)
				r, err := inbox.Copy(ctx, everything, "Sent")
				done = fsys.Count() < at
				fsys.FailAt(0, mode)
				if (err == nil) != done {
					t.Fatalf("%+v, %v", r, err)
				}
				whole := func(sent *Mailbox, must bool) {
					t.Helper()
					st := sent.State()
					if st.Messages != 0 && st.Messages != n || must && st.Messages != n {
						t.Fatalf("%d messages are seen of %d", st.Messages, n)
					}
					ch, err := sent.Changes(since.HighestModSeq)
					if err != nil || len(ch.Changed) != int(st.Messages) {
						t.Fatalf("%d of %d are changes, %v", len(ch.Changed), st.Messages, err)
					}
					for i, msg := range ch.Changed {
						if !slices.Equal(msg.Flags.List(), []string{FlagSeen, fmt.Sprint("Word", i)}) {
							t.Errorf("flags %v", msg.Flags.List())
						}
						readAll(t, sent, msg.UID)
					}
				}
				whole(sent, done)
				if s.Ready() == nil { // what came after it gets other UIDs
					checkClean(t, s)
					next := sent.State().UIDNext
					if r, err := inbox.Copy(ctx, imap.UIDSetNum(1), "Sent"); err != nil || r.To[0] != next {
						t.Fatalf("%+v, %v", r, err)
					}
					if _, err := sent.Move(ctx, imap.UIDSetNum(imap.UID(next)), Inbox); err != nil {
						t.Fatal(err)
					}
					whole(sent, done)
				}
				inbox.Close()
				sent.Close()
				_ = a.Close()
				_ = s.Close() // fails if it has stopped
				o.Keys, o.HouseEvery, o.act = s.o.Keys, -1, 3
				s = mustOpen(t, o)
				defer func() { _ = s.Close() }()
				checkClean(t, s)
				if a, err = s.OpenAccount(ctx, alice); err != nil {
					t.Fatal(err)
				}
				defer func() { _ = a.Close() }()
				sent = openNamed(t, a, "Sent")
				defer sent.Close()
				whole(sent, done)
				if err := s.takeBackAll(ctx); err != nil {
					t.Fatal(err)
				}
				whole(sent, done)
				checkClean(t, s)
				if hidden(t, s) != 0 {
					t.Error("something is left of a copy")
				}
			})
			if at > 50 || t.Failed() {
				t.Fatal("no end")
			}
		}
	}
}

// hidden is how many entries there are that nobody sees.
func hidden(t *testing.T, s *Store) (n int) {
	t.Helper()
	c, err := s.Check(context.Background(), false)
	if err != nil {
		t.Fatal(err)
	}
	err = s.scan(key0(keyEntry), func(_, _ []byte) error {
		n++
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return n - c.Entries - c.Recoverable
}

// interrupted leaves the first acts of a copy into Sent as a crash does.
func interrupted(t *testing.T, s *Store, a *Account, acts int) {
	t.Helper()
	ctx := context.Background()
	inbox := openNamed(t, a, Inbox)
	defer inbox.Close()
	x := inbox.m
	x.account.mu.Lock()
	defer x.account.mu.Unlock()
	to, _, err := x.account.lookup("Sent")
	if err != nil {
		t.Fatal(err)
	}
	e, err := x.account.sealing(ctx, 100)
	if err != nil {
		t.Fatal(err)
	}
	defer e.done()
	list := x.uidsOf(everything, func(*slot) bool { return true })
	if err := s.takeBack(ctx, to); err != nil {
		t.Fatal(err)
	}
	c := &manyCopies{from: x, epoch: e, to: to}
	for i := range acts {
		err := s.commit(ctx, &commit{}, func(b *build) error { return c.some(b, list[3*i:3*i+3], len(list)) })
		if err != nil {
			t.Fatal(err)
		}
	}
}

// TestInterruptedCopy: what a copy has left that a crash interrupted harms nothing: mail is delivered into the mailbox, it is copied into again, renamed,
// deleted.
func TestInterruptedCopy(t *testing.T) {
	ctx := context.Background()
	dir := filepath.Join(t.TempDir(), "store")
	s, a := copyStore(t, 11, Options{Dir: dir})
	left := func() {
		t.Helper()
		sent := openBox(t, a, "Sent")
		before := sent.State()
		interrupted(t, s, a, 2)
		if st := sent.State(); st != before { // UIDNEXT too: who looks now will be told of the copies
			t.Fatalf("%+v, was %+v", st, before)
		}
		sent.Close()
		if n := hidden(t, s); n != 6 {
			t.Fatalf("%d copies are hidden", n)
		}
		o := s.o
		_ = a.Close()
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s = mustOpen(t, o)
		var err error
		if a, err = s.OpenAccount(ctx, alice); err != nil {
			t.Fatal(err)
		}
	}
	messages := func(name string, want int) {
		t.Helper()
		checkClean(t, s)
		m := openNamed(t, a, name)
		defer m.Close()
		st, err := a.Status(ctx, name)
		if msgs, _ := m.Snapshot(); err != nil || len(msgs) != want || int(st.Messages) != want {
			t.Fatalf("%s has %d messages, %+v, %v", name, len(msgs), st, err)
		}
	}
	left()
	messages("Sent", 0)
	data := testMessage("x", "x")
	if _, err := a.Append(ctx, "Sent", []Append{{Data: data, Index: message.Parse(data, message.Limits{})}}); err != nil {
		t.Fatal(err)
	}
	messages("Sent", 1)
	inbox := openNamed(t, a, Inbox)
	if r, err := inbox.Copy(ctx, everything, "Sent"); err != nil || len(r.To) != 11 {
		t.Fatalf("%+v, %v", r, err)
	}
	inbox.Close()
	messages("Sent", 12)
	if n := hidden(t, s); n != 0 {
		t.Fatalf("the next copy has left %d", n)
	}
	left()
	if err := s.takeBackAll(ctx); err != nil || hidden(t, s) != 0 {
		t.Fatal(err)
	}
	messages("Sent", 12)
	left()
	if err := a.Rename(ctx, "Sent", "Other"); err != nil {
		t.Fatal(err)
	}
	messages("Other", 12)
	if err := a.Delete(ctx, "Other"); err != nil || hidden(t, s) != 0 {
		t.Fatal(err)
	}
	checkClean(t, s)
	if err := a.Create(ctx, "Sent", ""); err != nil {
		t.Fatal(err)
	}
	left()
	if err := s.Renew(ctx); err != nil || hidden(t, s) != 0 {
		t.Fatal(err)
	}
	messages("Sent", 0)
	messages(Inbox, 11)
	_ = a.Close()
	_ = s.Close()
}

// TestCopyManyOverQuota refuses before anything is copied.
func TestCopyManyOverQuota(t *testing.T) {
	ctx := context.Background()
	fsys := faultfs.New()
	s, a := copyStore(t, 11, Options{FS: fsys, Quotas: Quotas{Account: Quota{Messages: 21}}})
	defer func() { _ = s.Close() }()
	defer func() { _ = a.Close() }()
	inbox := openNamed(t, a, Inbox)
	defer inbox.Close()
	before := fsys.Count()
	if _, err := inbox.Copy(ctx, everything, "Sent"); mail.KindOf(err) != mail.OverQuota || fsys.Count() != before {
		t.Errorf("%v after %d writes", err, fsys.Count()-before)
	}
	checkClean(t, s)
}

// TestRenameInboxMany moves INBOX in several acts; one that fails leaves each message in one of the two.
func TestRenameInboxMany(t *testing.T) {
	ctx := context.Background()
	fsys := faultfs.New()
	s, a := copyStore(t, 11, Options{FS: fsys})
	defer func() { _ = s.Close() }()
	defer func() { _ = a.Close() }()
	inbox := openNamed(t, a, Inbox)
	defer inbox.Close()
	if err := a.Rename(ctx, Inbox, "First"); err != nil {
		t.Fatal(err)
	}
	first := openNamed(t, a, "First")
	defer first.Close()
	if in, out := inbox.State().Messages, first.State().Messages; in != 0 || out != 11 {
		t.Fatalf("%d and %d messages", in, out)
	}
	checkClean(t, s)
	if _, err := first.Move(ctx, everything, Inbox); err != nil {
		t.Fatal(err)
	}
	fsys.FailAt(5, faultfs.Short) // the third act
	err := a.Rename(ctx, Inbox, "Second")
	fsys.FailAt(0, faultfs.Short)
	second := openNamed(t, a, "Second")
	defer second.Close()
	if in, out := inbox.State().Messages, second.State().Messages; mail.KindOf(err) != mail.Full || in != 5 || out != 6 {
		t.Fatalf("%d and %d messages, %v", in, out, err)
	}
	checkClean(t, s)
	if err := a.Rename(ctx, Inbox, "Second"); mail.KindOf(err) != mail.Exists {
		t.Fatal(err)
	}
}

// TestCheckCopying finds records of copies that cannot be.
func TestCheckCopying(t *testing.T) {
	s, a := copyStore(t, 11, Options{})
	defer func() { _ = s.Close() }()
	defer func() { _ = a.Close() }()
	interrupted(t, s, a, 1)
	checkClean(t, s)
	to, _, err := a.a.lookup("Sent")
	if err != nil {
		t.Fatal(err)
	}
	secret := keyOf(keySecret, to.account, to.mailbox, 1)
	v, err := s.kv.Get(secret)
	if err != nil {
		t.Fatal(err)
	}
	problems := func(words string) {
		t.Helper()
		r, err := s.Check(context.Background(), false)
		if err != nil || !slices.ContainsFunc(r.Problems, func(p string) bool { return strings.Contains(p, words) }) {
			t.Errorf("problems %q lack %q, %v", r.Problems, words, err)
		}
	}
	s.kv.Apply([]engine.Op{{Key: secret}})
	problems("keys of such")
	s.kv.Apply([]engine.Op{{Key: secret, Value: v}, {Key: keyOf(keyCopying, to.account, to.mailbox), Value: copyingRecord{2, 99}.encode()}})
	problems("are not complete")
	s.kv.Apply([]engine.Op{{Key: keyOf(keyCopying, to.account, 99), Value: copyingRecord{1, 1}.encode()}})
	problems("exists false")
}

func FuzzCopying(f *testing.F) {
	f.Add(copyingRecord{1, 1}.encode())
	f.Add(copyingRecord{7, 1<<32 - 1}.encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := decodeCopying(b)
		if err == nil && (string(r.encode()) != string(b) || r.from > r.to || r.from == 0) {
			t.Errorf("%x is read as %+v", b, r)
		}
	})
}
