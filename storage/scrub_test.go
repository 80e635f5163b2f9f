package storage

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"cmmpd/storage/blob"
)

// TestScrub spoils one message: the scrub names it, in the log, goes on over a restart, serves the others, and rests until the next is due.
func TestScrub(t *testing.T) {
	ctx := context.Background()
	now := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	var said bytes.Buffer
	o := Options{
		Dir: filepath.Join(t.TempDir(), "store"), Keys: newKeys(t), SegmentBytes: 40_000, HouseRate: -1,
		Now: func() time.Time { return now }, Log: slog.New(slog.NewTextHandler(&said, nil)),
	}
	s := mustOpen(t, o)
	defer func() { _ = s.Close() }()
	left := half(t, s, 60)
	through := func(restart bool) HouseStats {
		t.Helper()
		for n := 0; ; n++ {
			more, err := s.scrubSome(ctx)
			if err != nil || n > 100 {
				t.Fatal(n, err)
			}
			if !more {
				return s.Housekeeping()
			}
			if restart {
				if err := s.Close(); err != nil {
					t.Fatal(err)
				}
				s = mustOpen(t, o)
			}
		}
	}
	if st := through(true); st.Spoilt != 0 || st.Scrubbed != now.Unix() {
		t.Fatalf("%+v", st)
	}
	v, err := s.kv.Get(keyOf64(keyBody, 9)) // bob's UID 3
	if err != nil {
		t.Fatal(err)
	}
	where, err := decodeBody(v)
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(filepath.Join(s.segmentsDir(), blob.SegmentName(where.segment)), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte("spoilt"), where.offset+int64(where.summary)+100); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	now = now.Add(time.Hour)
	if st := through(false); st.Spoilt != 0 {
		t.Fatalf("it does not rest: %+v", st)
	}
	now = now.AddDate(0, 0, 7)
	if st := through(false); st.Spoilt != 1 || st.Scrubbed != now.Unix() {
		t.Fatalf("%+v", st)
	}
	if got := said.String(); !strings.Contains(got, "account="+string(bob)) || !strings.Contains(got, "uid=3 ") || strings.Contains(got, "uid=4") {
		t.Errorf("the log says:\n%s", got)
	}
	a, err := s.OpenAccount(ctx, bob)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = a.Close() }()
	m, err := a.Open(ctx, Inbox)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	for uid, want := range left {
		if uid != 3 && !bytes.Equal(readAll(t, m, uid), want) {
			t.Errorf("UID %d", uid)
		}
	}
}

// TestScrubHeader spoils the header of a complete segment: its messages are served, and the scrub reports it and goes on.
func TestScrubHeader(t *testing.T) {
	ctx := context.Background()
	var said bytes.Buffer
	o := Options{
		Dir: filepath.Join(t.TempDir(), "store"), Keys: newKeys(t), SegmentBytes: 40_000, HouseRate: -1,
		Log: slog.New(slog.NewTextHandler(&said, nil)),
	}
	s := mustOpen(t, o)
	left := half(t, s, 60)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(filepath.Join(s.segmentsDir(), blob.SegmentName(1)), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte{1}, 40); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	s = mustOpen(t, o)
	defer func() { _ = s.Close() }()
	for n, more := 0, true; more; n++ {
		if more, err = s.scrubSome(ctx); err != nil || n > 100 {
			t.Fatal(n, err)
		}
	}
	if s.Housekeeping().Scrubbed == 0 || !strings.Contains(said.String(), "a segment of the mail store is damaged") {
		t.Errorf("%+v; the log says:\n%s", s.Housekeeping(), said.String())
	}
	a, err := s.OpenAccount(ctx, bob)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = a.Close() }()
	m, err := a.Open(ctx, Inbox)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	for uid, want := range left {
		if !bytes.Equal(readAll(t, m, uid), want) {
			t.Errorf("UID %d", uid)
		}
	}
}
