package blob

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestRemove: a removed segment stays readable for who holds it and is gone for others; the rest is replayed from the
// beginning without it, and a segment that is missing after a place in the log is damage.
func TestRemove(t *testing.T) {
	o := testOptions(t.TempDir())
	l, _, err := open(t, o, Position{})
	if err != nil {
		t.Fatal(err)
	}
	list := write(t, l, 1, 20)
	of := func(segment uint32) (in []*Record) {
		for _, r := range list {
			if r.Segment == segment {
				in = append(in, r)
			}
		}
		return in
	}
	for n := uint32(1); n < l.Active(); n++ {
		var got []*Record
		if err := l.Ops(n, func(r *Record) error {
			got = append(got, r)
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		if !slices.EqualFunc(got, of(n), func(a, b *Record) bool {
			return bytes.Equal(a.Ops, b.Ops) && a.BlobOffset == b.BlobOffset && a.End == b.End
		}) {
			t.Fatalf("segment %d: %d records, want %d", n, len(got), len(of(n)))
		}
	}
	first := list[0]
	held, err := l.Hold(1)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Remove(l.Active()); err == nil {
		t.Fatal("the active segment was removed")
	}
	for range 2 {
		if err := l.Remove(1); err != nil {
			t.Fatal(err)
		}
	}
	p := make([]byte, len(first.Blob))
	if err := held.Read(first.BlobOffset, p); err != nil || !bytes.Equal(p, first.Blob) {
		t.Fatalf("held: %v", err)
	}
	if err := l.Read(1, first.BlobOffset, p); !errors.Is(err, ErrGone) {
		t.Fatalf("not held: %v", err)
	}
	held.Close()
	if err := l.Remove(3); err != nil {
		t.Fatal(err)
	}
	if err := l.Roll(); err != nil {
		t.Fatal(err)
	}
	if err := l.Roll(); err != nil || l.End().Offset != segmentHeaderSize {
		t.Fatalf("an empty segment: %+v, %v", l.End(), err)
	}
	_ = l.Close()
	numbers, err := Segments(o.FS, o.Dir)
	if err != nil || !slices.Equal(Missing(numbers), []uint32{1, 3}) {
		t.Fatalf("missing of %v: %v, %v", numbers, Missing(numbers), err)
	}
	l, got, err := open(t, o, Position{})
	if err != nil || strings.Count(got, "@") != len(list)-len(of(1))-len(of(3)) || l.End().Seq != 20 {
		t.Fatalf("replay: %q, %v", got, err)
	}
	_ = l.Close()
	if _, _, err := open(t, o, of(2)[0].End); !errors.Is(err, ErrDamaged) {
		t.Fatalf("a segment missing after the place: %v", err)
	}
	if err := os.Remove(filepath.Join(o.Dir, segmentName(2))); err != nil {
		t.Fatal(err)
	}
	if l, _, err = open(t, o, of(4)[0].End); err != nil {
		t.Fatal(err)
	}
	_ = l.Close()
}
