package scheduled

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"cmmpd/audit"
	"cmmpd/internal/mail"
)

type fixture struct {
	t   *testing.T
	log *audit.Log
	o   Options
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	dir := t.TempDir()
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	o := audit.Options{Origin: "log.example"}
	if err := audit.Create(dir+"/audit", key, o); err != nil {
		t.Fatal(err)
	}
	l, err := audit.Open(dir+"/audit", key, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	if err := os.Mkdir(dir+"/exports", 0o700); err != nil {
		t.Fatal(err)
	}
	return &fixture{t, l, Options{Log: l, Dir: dir + "/audit", Every: Daily, At: 2 * time.Hour, Dest: dir + "/exports", Cursor: dir + "/cursor"}}
}

func (f *fixture) record(n int) {
	f.t.Helper()
	for range n {
		if err := f.log.Record(context.Background(), audit.Event{Type: audit.StoreCheck, Actor: "admin", Outcome: "ok"}); err != nil {
			f.t.Fatal(err)
		}
	}
}

func (f *fixture) export(s *Schedule) error { return s.Export(context.Background(), time.Unix(1e9, 0)) }

func (f *fixture) schedule() *Schedule {
	f.t.Helper()
	s, err := New(f.o)
	if err != nil {
		f.t.Fatal(err)
	}
	return s
}

// parts verifies the files, and returns them in order.
func (f *fixture) parts() (out []*audit.Part) {
	f.t.Helper()
	names, _ := filepath.Glob(f.o.Dest + "/*.tar")
	for _, name := range names {
		r, err := audit.Verify(context.Background(), name, f.log.PublicKey(), nil)
		if err != nil {
			f.t.Fatalf("%s: %v", name, err)
		}
		if want := fileName(r.Part.Filter.First, r.Part.Filter.End-1) + bundleSuffix; filepath.Base(name) != want {
			f.t.Errorf("%s should be %s", name, want)
		}
		out = append(out, r.Part)
	}
	return out
}

func TestExports(t *testing.T) {
	f := newFixture(t)
	s := f.schedule()
	for _, n := range []int{5, 1, 300, 0} {
		f.record(n)
		if err := f.export(s); err != nil {
			t.Fatal(err)
		}
		s = f.schedule() // a restart
	}
	next := int64(0)
	for _, p := range f.parts() {
		if p.Filter.First != next || !p.Whole || p.Records != p.Filter.End-next {
			t.Errorf("after %d comes %+v", next, p)
		}
		next = p.Filter.End
	}
	if size := f.log.Size(); next != size-2 { // the last export's own records are for the next
		t.Errorf("%d of %d records are exported", next, size)
	}
	left, _ := filepath.Glob(f.o.Dest + "/*")
	if len(left) != 4 {
		t.Errorf("%v", left)
	}
	var b bytes.Buffer
	if err := (audit.Export{Format: audit.JSONL, Filter: audit.Filter{Types: []string{audit.AuditExport}}}).Write(context.Background(), f.o.Dir, &b); err != nil || strings.Count(b.String(), `"phase":"begin"`) != 4 || strings.Count(b.String(), `"outcome":"ok"`) != 4 {
		t.Errorf("%s, %v", b.String(), err)
	}
}

// A failure leaves nothing half, is on record, and the next attempt has everything. A crash between a file and the note of
// it makes no gap and no overlap.
func TestFailures(t *testing.T) {
	f := newFixture(t)
	f.o.Export.Format = audit.CSV
	f.record(3)
	s := f.schedule()
	dest := f.o.Dest
	s.o.Dest = dest + "/absent"
	if err := f.export(s); !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	s.o.Dest = dest
	if err := f.export(s); err != nil {
		t.Fatal(err)
	}
	if csv, _ := filepath.Glob(dest + "/*.csv"); len(csv) != 1 {
		t.Errorf("%v", csv)
	}
	if err := os.Remove(f.o.Cursor); err != nil { // as if it had not been written
		t.Fatal(err)
	}
	f.record(2)
	if err := f.export(f.schedule()); err != nil {
		t.Fatal(err)
	}
	p := f.parts()
	if len(p) != 2 || p[0].Filter.First != 0 || p[1].Filter.First != p[0].Filter.End || p[0].Records != 5 {
		t.Errorf("%+v", p)
	}
	if err := os.WriteFile(f.o.Cursor, position{99999, time.Unix(0, 0)}.text(), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := f.export(f.schedule()); err == nil || !strings.Contains(err.Error(), "another log") {
		t.Errorf("%v", err)
	}
}

func TestDue(t *testing.T) {
	at := func(s string) time.Time {
		d, err := time.Parse(time.RFC3339, s)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	for _, c := range []struct {
		every     Every
		now, want string
	}{
		{Daily, "2026-11-22T02:00:00Z", "2026-11-22T02:00:00Z"},
		{Daily, "2026-11-22T01:59:59Z", "2026-11-21T02:00:00Z"},
		{Weekly, "2026-11-22T12:00:00Z", "2026-11-16T02:00:00Z"}, // a Sunday
		{Weekly, "2026-11-23T01:00:00Z", "2026-11-16T02:00:00Z"},
		{Weekly, "2026-11-23T03:00:00+01:00", "2026-11-23T02:00:00Z"},
		{Monthly, "2026-11-01T01:00:00Z", "2026-10-01T02:00:00Z"},
		{Monthly, "2026-12-31T23:00:00Z", "2026-12-01T02:00:00Z"},
	} {
		o := Options{Every: c.every, At: 2 * time.Hour}
		if got := o.due(at(c.now)); !got.Equal(at(c.want)) {
			t.Errorf("%s at %s: %v, want %s", c.every, c.now, got, c.want)
		}
	}
}

// An export that was made while the clock was far ahead does not keep the next ones from being made.
func TestClockWasAhead(t *testing.T) {
	f := newFixture(t)
	s := f.schedule()
	ahead := time.Date(2066, 5, 1, 12, 0, 0, 0, time.UTC)
	if _, ok := s.wanted(ahead); !ok {
		t.Error("the first is not due")
	}
	if err := s.Export(t.Context(), s.o.due(ahead)); err != nil {
		t.Fatal(err)
	}
	if _, ok := s.wanted(ahead.Add(time.Hour)); ok {
		t.Error("due twice")
	}
	now := ahead.AddDate(-40, 0, 0)
	due, ok := s.wanted(now)
	if !ok || due.After(now) {
		t.Fatalf("nothing is exported for forty years: %v", due)
	}
	if err := s.Export(t.Context(), due); err != nil {
		t.Fatal(err)
	}
	if _, ok := s.wanted(now.Add(time.Hour)); ok {
		t.Error("due twice")
	}
}

// A file that only has the name of an export makes no gap.
func TestForeignFile(t *testing.T) {
	f := newFixture(t)
	f.record(5)
	if err := os.WriteFile(filepath.Join(f.o.Dest, fileName(0, 3)+bundleSuffix), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := f.schedule()
	if err := f.export(s); mail.KindOf(err) != mail.Corrupt || s.position().next != 0 {
		t.Errorf("%v; it goes on with %d", err, s.position().next)
	}
}

func FuzzPosition(f *testing.F) {
	f.Add(position{7, time.Unix(1e9, 0)}.text())
	f.Fuzz(func(t *testing.T, b []byte) {
		if p, err := parsePosition(b); err == nil && !bytes.Equal(p.text(), b) {
			t.Fatalf("%q", b)
		}
	})
}
