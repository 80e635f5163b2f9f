package storage

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2"

	"cmmpd/internal/durable"
	"cmmpd/internal/durable/faultfs"
	"cmmpd/internal/keys"
	"cmmpd/internal/message"
	"cmmpd/storage/engine"
)

// promise is what the store acknowledged in a scenario.
type promise struct {
	data    map[string][]byte // by subject: must be there, once
	maybe   map[string]bool   // by subject: asked for, not acknowledged
	gone    map[string]bool   // by subject: expunged, must not be there
	modSeq  uint64            // the highest that was seen in INBOX
	queued  int               // queue items: must be there
	refused error             // the first error
}

// scenario does everything that writes, until something fails. It returns what was acknowledged.
func scenario(s *Store) *promise {
	p := &promise{data: make(map[string][]byte), maybe: make(map[string]bool), gone: make(map[string]bool)}
	ctx := context.Background()
	step := func(err error) bool {
		if err != nil && p.refused == nil {
			p.refused = err
		}
		return err == nil
	}
	deliver := func(subject string, n int) bool {
		data := testMessage(subject, string(bytes.Repeat([]byte("x"), n)))
		p.maybe[subject] = true
		_, err := s.Deliver(ctx, Delivery{Bodies: []Body{body(data, NewEntry{Account: alice}, NewEntry{Account: bob})}})
		if err == nil {
			p.data[subject] = data
		}
		return step(err)
	}
	deliver("one", 10)
	deliver("two", 3000)
	a, err := s.OpenAccount(ctx, alice)
	if !step(err) {
		return p
	}
	defer func() { _ = a.Close() }()
	m, err := a.Open(ctx, "INBOX")
	if !step(err) {
		return p
	}
	defer m.Close()
	flag := func(set imap.UIDSet, flags ...string) {
		changed, _, err := m.StoreFlags(ctx, set, AddFlags, flags, 0)
		step(err)
		p.modSeq = max(p.modSeq, changed.ModSeq)
	}
	flag(imap.UIDSetNum(1), FlagSeen, "word")
	step(a.Create(ctx, "Box/Inner", ""))
	_, err = m.Copy(ctx, imap.UIDSetNum(1, 2), "Box")
	step(err)
	deliver("three", 100_000)
	p.queue(s, step)
	data := testMessage("four", "text")
	p.maybe["four"] = true
	if _, err := a.Append(ctx, "Drafts", []Append{{Data: data, Index: message.Parse(data, message.Limits{})}}); step(err) {
		p.data["four"] = data
	}
	_, err = m.Move(ctx, imap.UIDSetNum(3), "Box/Inner")
	step(err)
	deliver("five", 10)
	flag(imap.UIDSetNum(4), FlagDeleted)
	delete(p.data, "five") // asked to go: it may be there or not, until that is acknowledged
	if gone, err := m.Expunge(ctx, nil); step(err) && len(gone) > 0 {
		p.gone["five"] = true
	}
	step(a.Rename(ctx, "Box", "Other"))
	deliver("six", 2000)
	p.modSeq = max(p.modSeq, m.State().HighestModSeq)
	return p
}

// queue puts two items into the queue, changes one and takes the other out.
func (p *promise) queue(s *Store, step func(error) bool) {
	ctx := context.Background()
	b := body(testMessage("leaving", "text"))
	b.Queue = []QueueItem{{Data: []byte("1"), Due: time.Unix(1, 0)}, {Data: []byte("2"), Due: time.Unix(2, 0)}}
	if _, err := s.Deliver(ctx, Delivery{Bodies: []Body{b}}); !step(err) {
		return
	}
	p.queued = 2
	ids, err := s.QueueList(ctx, 0, 10)
	if !step(err) || len(ids) != 2 {
		return
	}
	step(s.Requeue(ctx, ids[0], QueueItem{Data: []byte("3"), Due: time.Unix(3, 0)}))
	p.queued-- // asked to go
	step(s.Unqueue(ctx, ids[1]))
}

// verify looks for what was promised in a store that was opened again, and adds one message. It returns what it found,
// all of which is a promise from now on.
func (p *promise) verify(t *testing.T, s *Store) map[string]map[ObjectID]bool {
	t.Helper()
	ctx := context.Background()
	if r := checkClean(t, s); r.Queue < p.queued {
		t.Fatalf("%d items in the queue, %d were acknowledged", r.Queue, p.queued)
	}
	a, err := s.OpenAccount(ctx, alice)
	if err != nil {
		if len(p.data) > 0 {
			t.Fatal(err)
		}
		return nil
	}
	defer func() { _ = a.Close() }()
	list, err := a.List(ctx)
	if err != nil {
		t.Fatal(err)
	}
	found := make(map[string]map[ObjectID]bool)
	for _, info := range list {
		m, err := a.Open(ctx, info.Name)
		if err != nil {
			t.Fatal(err)
		}
		msgs, _ := m.Snapshot()
		for _, msg := range msgs {
			sum, err := m.Summary(ctx, msg.UID)
			if err != nil {
				t.Fatal(err)
			}
			subject := sum.Index.Root.Envelope.Subject
			if want := p.data[subject]; want != nil && !bytes.Equal(readAll(t, m, msg.UID), want) {
				t.Fatalf("%s has other content", subject)
			}
			if found[subject] == nil {
				found[subject] = make(map[ObjectID]bool)
			}
			found[subject][msg.EmailID] = true
			if !p.maybe[subject] || info.Name == Inbox && p.gone[subject] {
				t.Fatalf("%s must not be there", subject)
			}
		}
		if info.Name == Inbox {
			data := testMessage("new", "x")
			p.maybe["new"] = true
			placed, err := a.Append(ctx, Inbox, []Append{{Data: data, Index: message.Parse(data, message.Limits{})}})
			if err != nil {
				t.Fatal(err)
			}
			msg, ok := m.Get(placed[0].UID)
			if !ok || msg.ModSeq <= p.modSeq {
				t.Fatalf("mod-sequence %d is used again: %d had been seen", msg.ModSeq, p.modSeq)
			}
			p.modSeq = msg.ModSeq
			found["new"] = map[ObjectID]bool{placed[0].EmailID: true}
		}
		m.Close()
	}
	for subject := range p.data {
		if len(found[subject]) != 1 {
			t.Fatalf("%s was acknowledged and is there %d times", subject, len(found[subject]))
		}
	}
	checkClean(t, s)
	return found
}

// again verifies a store that was verified before and has lost its power since.
func (p *promise) again(t *testing.T, s *Store, before map[string]map[ObjectID]bool) {
	t.Helper()
	after := p.verify(t, s)
	for subject, ids := range before {
		for id := range ids {
			if !after[subject][id] && subject != "new" {
				t.Fatalf("%s was there when the store was opened and is gone after a power cut", subject)
			}
		}
	}
}

// copyIndex copies the index file as it would be found: some state that it was in.
func copyIndex(t testing.TB, s *Store, dir string) {
	t.Helper()
	to, err := engine.OpenBolt(durable.OS{}, filepath.Join(dir, indexFile))
	if err != nil {
		t.Fatal(err)
	}
	err = s.index.View(func(r engine.Reader) error {
		return to.Update(func(w engine.Writer) (err error) {
			r.Scan(nil, nil, func(k, v []byte) bool {
				err = w.Put(k, v)
				return err == nil
			})
			return err
		})
	})
	if err := errors.Join(err, to.Close()); err != nil {
		t.Fatal(err)
	}
}

func faultOptions(dir string, ks keys.Keystore, fsys *faultfs.FS) Options {
	return Options{Dir: dir, Keys: ks, FS: fsys, SegmentBytes: 20_000, EpochMessages: 400, Recover: time.Hour, act: 1}
}

// TestFaults makes every write, flush, creation and renaming fail, one by one, in three ways, and then opens the store again, once
// from what a power cut leaves, once from what a process that was killed leaves, whose power is cut then.
func TestFaults(t *testing.T) {
	ks := newKeys(t)
	run := func(n int, mode faultfs.Mode) (done bool) {
		name := fmt.Sprintf("operation %d, mode %d", n, mode)
		dir := filepath.Join(t.TempDir(), "store")
		fsys := faultfs.New()
		fsys.FailAt(n, mode)
		p := &promise{}
		s, err := Open(context.Background(), faultOptions(dir, ks, fsys))
		cut := t.TempDir()
		rnd := rand.New(rand.NewPCG(uint64(n), uint64(mode)))
		if err == nil {
			p = scenario(s)
			if s.Ready() != nil && p.refused == nil {
				t.Fatalf("%s: the store has stopped, but acknowledged", name)
			}
			copyIndex(t, s, cut)
			if err := fsys.PowerCut(rnd, dir, cut); err != nil {
				t.Fatal(err)
			}
			done = fsys.Count() < n
			_ = s.Close() // fails if it has stopped
		}
		seen := p.modSeq
		if err == nil {
			t.Run(name+", power cut", func(t *testing.T) {
				s := mustOpen(t, faultOptions(cut, ks, faultfs.New()))
				defer func() { _ = s.Close() }()
				p.verify(t, s)
			})
		}
		t.Run(name+", killed", func(t *testing.T) {
			p.modSeq = seen      // what the other saw has not happened here
			fsys.FailAt(0, mode) // it knows what is flushed and what is only in the page cache
			s := mustOpen(t, faultOptions(dir, ks, fsys))
			defer func() { _ = s.Close() }()
			before := p.verify(t, s)
			cut := t.TempDir()
			copyIndex(t, s, cut)
			if err := fsys.PowerCut(rnd, dir, cut); err != nil {
				t.Fatal(err)
			}
			s = mustOpen(t, faultOptions(cut, ks, faultfs.New()))
			defer func() { _ = s.Close() }()
			p.again(t, s, before)
		})
		return done
	}
	step := 1
	if testing.Short() {
		step = 7
	}
	for _, mode := range []faultfs.Mode{faultfs.Lost, faultfs.Done, faultfs.Short} {
		for n := 1; !run(n, mode); n += step {
			if n > 500 {
				t.Fatal("the scenario has no end")
			}
			if t.Failed() {
				return
			}
		}
	}
}
