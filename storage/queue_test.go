package storage

import (
	"bytes"
	"context"
	"io"
	"path/filepath"
	"testing"
	"time"

	"cmmpd/internal/mail"
)

func queued(t *testing.T, s *Store, at time.Time, lane uint64, entries ...NewEntry) QueueID {
	t.Helper()
	ctx := context.Background()
	b := body(testMessage("out", "leaving"), entries...)
	b.Queue = []QueueItem{{Data: []byte("state"), Due: at, Lane: lane}}
	if _, err := s.Deliver(ctx, Delivery{Bodies: []Body{b}}); err != nil {
		t.Fatal(err)
	}
	ids, err := s.QueueList(ctx, 0, 1000)
	if err != nil || len(ids) == 0 {
		t.Fatal(ids, err)
	}
	return ids[len(ids)-1]
}

func TestQueueItems(t *testing.T) {
	ctx := context.Background()
	o := Options{Dir: filepath.Join(t.TempDir(), "store"), Keys: newKeys(t)}
	s := mustOpen(t, o)
	defer func() { _ = s.Close() }()
	base := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	late := queued(t, s, base.Add(time.Hour), 7)
	soon := queued(t, s, base, 8, NewEntry{Account: alice})
	if r := checkClean(t, s); r.Queue != 2 || r.Bodies != 2 || r.Entries != 1 {
		t.Fatalf("counts: %+v", r)
	}
	due, err := s.QueueDue(ctx, QueueMark{}, 10)
	if err != nil || len(due) != 2 || due[0].ID != soon || due[0].Lane != 8 || due[1].ID != late || !due[1].Due.Equal(base.Add(time.Hour)) {
		t.Fatalf("due: %+v, %v", due, err)
	}
	if rest, err := s.QueueDue(ctx, due[0], 10); err != nil || len(rest) != 1 || rest[0].ID != late {
		t.Fatalf("after the first: %+v, %v", rest, err)
	}

	if err := s.Requeue(ctx, soon, QueueItem{Data: []byte("tried once"), Due: base.Add(2 * time.Hour), Lane: 9}); err != nil {
		t.Fatal(err)
	}
	if err := s.Requeue(ctx, late, QueueItem{Data: []byte("held"), Due: base, Held: true}); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = mustOpen(t, o)
	due, err = s.QueueDue(ctx, QueueMark{}, 10)
	if err != nil || len(due) != 1 || due[0].ID != soon || due[0].Lane != 9 {
		t.Fatalf("due after reopening: %+v, %v", due, err)
	}
	item, err := s.Queued(ctx, late)
	if err != nil || !item.Held || string(item.Data) != "held" || !item.Due.Equal(base) || item.Size != int64(len(testMessage("out", "leaving"))) {
		t.Fatalf("held: %+v, %v", item, err)
	}
	content, err := s.QueueBody(ctx, late)
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(io.NewSectionReader(content, 0, content.Size()))
	if err != nil || !bytes.Equal(got, testMessage("out", "leaving")) {
		t.Fatalf("body: %q, %v", got, err)
	}
	_ = content.Close()
	checkClean(t, s)

	for _, id := range []QueueID{late, soon} {
		if err := s.Unqueue(ctx, id); err != nil {
			t.Fatal(err)
		}
		if err := s.Unqueue(ctx, id); mail.KindOf(err) != mail.NotFound {
			t.Fatalf("twice: %v", err)
		}
	}
	if err := s.Requeue(ctx, soon, QueueItem{}); mail.KindOf(err) != mail.NotFound {
		t.Fatalf("requeue of what is gone: %v", err)
	}
	// the body that alice has stays, the other is gone
	if r := checkClean(t, s); r.Queue != 0 || r.Bodies != 1 || r.Entries != 1 {
		t.Fatalf("counts at the end: %+v", r)
	}
}

func TestQueueItemStaysUnreadable(t *testing.T) {
	ctx := context.Background()
	s := mustOpen(t, Options{Dir: filepath.Join(t.TempDir(), "store"), Keys: newKeys(t)})
	defer func() { _ = s.Close() }()
	id := queued(t, s, time.Now(), 1)
	r, raw, err := s.queueRecord(id)
	if err != nil || bytes.Contains(raw, []byte("state")) {
		t.Fatalf("the record is in clear: %q, %v", raw, err)
	}
	if _, _, err := s.openQueueItem(ctx, id+1, r); mail.KindOf(err) != mail.Corrupt {
		t.Fatalf("opened as another item: %v", err)
	}
}

func TestQueueID(t *testing.T) {
	for _, id := range []QueueID{1, 35, 36, 1<<64 - 1} {
		if got, err := ParseQueueID(id.String()); err != nil || got != id {
			t.Errorf("%v: %v, %v", id, got, err)
		}
	}
	for _, s := range []string{"", "Q", "1", "Q-1", "Q01", "QA", "Q" + "zzzzzzzzzzzzzz", "Q1 "} {
		if _, err := ParseQueueID(s); err == nil {
			t.Errorf("%q is taken", s)
		}
	}
}

func FuzzDecodeQueue(f *testing.F) {
	f.Add(queueRecord{body: 1, due: 2, lane: 3, sealed: []byte("x")}.encode())
	f.Add(queueRecord{body: 1 << 40, due: 1 << 50, held: true}.encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := decodeQueue(b)
		if err == nil && !bytes.Equal(r.encode(), b) {
			t.Fatalf("%x is decoded but encodes as %x", b, r.encode())
		}
	})
}
