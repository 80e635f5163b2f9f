package blob

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"cmmpd/internal/durable"
	"cmmpd/internal/durable/faultfs"
)

func testOptions(dir string) Options {
	return Options{FS: durable.OS{}, Dir: dir, Store: StoreID{1, 2, 3}, SegmentBytes: 2000}
}

func record(i int) *Record {
	b := bytes.Repeat([]byte{byte(i)}, i*37)
	return &Record{Blob: b, BlobSum: Checksum(b), Ops: fmt.Appendf(nil, "op %d", i)}
}

// open returns the log and the ops that it replays.
func open(t testing.TB, o Options, from Position) (*Log, string, error) {
	t.Helper()
	var b strings.Builder
	l, err := Open(o, from, func(r *Record) error {
		fmt.Fprintf(&b, "%s@%d ", r.Ops, r.End.Seq)
		return nil
	})
	return l, b.String(), err
}

func write(t testing.TB, l *Log, from, to int) []*Record {
	t.Helper()
	var list []*Record
	for i := from; i <= to; i++ {
		r := record(i)
		if err := l.Append([]*Record{r}); err != nil {
			t.Fatal(err)
		}
		if err := l.Sync(); err != nil {
			t.Fatal(err)
		}
		list = append(list, r)
	}
	return list
}

func TestLog(t *testing.T) {
	o := testOptions(t.TempDir())
	l, got, err := open(t, o, Position{})
	if err != nil || got != "" {
		t.Fatal(got, err)
	}
	list := write(t, l, 1, 20)
	for i, r := range list {
		p := make([]byte, len(r.Blob))
		if err := l.Read(r.Segment, r.BlobOffset, p); err != nil || !bytes.Equal(p, r.Blob) {
			t.Fatalf("record %d reads wrongly: %v", i, err)
		}
		if err := l.Verify(r.Segment, r.BlobOffset, int64(len(p)), r.BlobSum); err != nil {
			t.Fatal(err)
		}
	}
	if list[19].Segment < 3 {
		t.Fatal("no segment was closed")
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	l, got, err = open(t, o, list[16].End)
	if err != nil || got != "op 18@18 op 19@19 op 20@20 " || l.End() != list[19].End {
		t.Fatalf("replay: %q, %v", got, err)
	}
	_ = l.Close()
	if _, _, err = open(t, o, Position{Segment: list[19].End.Segment, Offset: list[19].End.Offset + 1, Seq: 20}); !errors.Is(err, ErrDamaged) {
		t.Fatalf("a log that is shorter than the index says: %v", err)
	}
	other := o
	other.Store = StoreID{9}
	if _, _, err = open(t, other, Position{}); err == nil {
		t.Fatal("the segments of another store were opened")
	}
}

// TestTornTail cuts the last segment at every place and spoils every octet: what was there before is replayed, and
// damage that no power cut makes is told from a torn tail.
func TestTornTail(t *testing.T) {
	dir := t.TempDir()
	o := testOptions(dir)
	l, _, err := open(t, o, Position{})
	if err != nil {
		t.Fatal(err)
	}
	list := write(t, l, 1, 3)
	_ = l.Close()
	path := filepath.Join(dir, segmentName(1))
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	replays := func(b []byte) (int, error) {
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		l, got, err := open(t, o, Position{})
		if err == nil {
			if int(l.End().Seq) != strings.Count(got, "@") {
				t.Fatalf("%q ends at %d", got, l.End().Seq)
			}
			_ = l.Close()
		}
		return strings.Count(got, "@"), err
	}
	for n := segmentHeaderSize; n < len(whole); n++ {
		want := 0
		for _, r := range list {
			if int64(n) >= r.End.Offset {
				want++
			}
		}
		if got, err := replays(whole[:n]); err != nil || got != want {
			t.Fatalf("cut at %d: %d records, want %d, %v", n, got, want, err)
		}
	}
	for n := range whole {
		b := bytes.Clone(whole)
		b[n] ^= 0x40
		got, err := replays(b)
		last := int64(n) >= list[1].End.Offset
		if last && (err != nil || got != 2) {
			t.Fatalf("spoilt at %d: %d records, %v", n, got, err)
		}
		if !last && err == nil {
			t.Fatalf("spoilt at %d, before what was flushed later: not noticed", n)
		}
	}
}

// TestReplayIsDurable demands that what is replayed was flushed before: it may get into the index.
func TestReplayIsDurable(t *testing.T) {
	fsys := faultfs.New()
	o := testOptions(t.TempDir())
	o.FS, o.SegmentBytes = fsys, 1<<20
	l, _, err := open(t, o, Position{})
	if err != nil {
		t.Fatal(err)
	}
	list := make([]*Record, 5)
	for i := range list {
		list[i] = record(i)
	}
	if err := l.Append(list); err != nil {
		t.Fatal(err)
	}
	fsys.FailAt(1, faultfs.Lost)
	if err := l.Sync(); err == nil {
		t.Fatal("the flush did not fail")
	}
	_ = l.Close()
	fsys.FailAt(0, faultfs.Lost)
	rnd := rand.New(rand.NewPCG(1, 2))
	l, err = Open(o, Position{}, func(r *Record) error {
		cut := testOptions(t.TempDir()) // what is there if power is cut when the index has the record
		if err := fsys.PowerCut(rnd, o.Dir, cut.Dir); err != nil {
			return err
		}
		l, _, err := open(t, cut, r.End)
		if err == nil {
			err = l.Close()
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	_ = l.Close()
}

func TestNoSpace(t *testing.T) {
	fsys := faultfs.New()
	o := testOptions(t.TempDir())
	o.FS = fsys
	l, _, err := open(t, o, Position{})
	if err != nil {
		t.Fatal(err)
	}
	write(t, l, 1, 2)
	fsys.FailAt(1, faultfs.Short)
	if err := l.Append([]*Record{record(3)}); !errors.Is(err, ErrFull) {
		t.Fatalf("a full disk: %v", err)
	}
	write(t, l, 4, 5)
	_ = l.Close()
	if _, got, err := open(t, o, Position{}); err != nil || got != "op 1@1 op 2@2 op 4@3 op 5@4 " {
		t.Fatalf("after a full disk: %q, %v", got, err)
	}
}

func FuzzRecordHeader(f *testing.F) {
	f.Add(recordHeader{seq: 1, synced: 64, blobLen: 3, opsLen: 4, blobSum: 5, opsSum: 6}.append(nil, 7), uint32(7))
	f.Fuzz(func(t *testing.T, b []byte, seed uint32) {
		h, err := decodeRecordHeader(b, seed)
		if err == nil && !bytes.Equal(h.append(nil, seed), b) {
			t.Fatalf("%x decodes to %+v, which encodes otherwise", b, h)
		}
	})
}

func FuzzSegmentHeader(f *testing.F) {
	f.Add(segmentHeader{1, StoreID{1}}.encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := decodeSegmentHeader(b)
		if err == nil && !bytes.Equal(h.encode(), b) {
			t.Fatalf("%x decodes to %+v, which encodes otherwise", b, h)
		}
	})
}

// FuzzOpen opens a segment with anything behind its header.
func FuzzOpen(f *testing.F) {
	seed := Checksum(segmentHeader{1, StoreID{1, 2, 3}}.encode())
	r := record(3)
	f.Add(append(append(recordHeader{seq: 1, synced: 64, blobLen: int64(len(r.Blob)), opsLen: len(r.Ops), blobSum: r.BlobSum, opsSum: Checksum(r.Ops)}.append(nil, seed), r.Blob...), r.Ops...))
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, b []byte) {
		o := testOptions(dir)
		if err := os.WriteFile(filepath.Join(dir, segmentName(1)), append(segmentHeader{1, o.Store}.encode(), b...), 0o600); err != nil {
			t.Fatal(err)
		}
		v := NewVerifier(1, o.Store, io.Discard)
		_, verr := v.Write(append(segmentHeader{1, o.Store}.encode(), b...))
		verr = errors.Join(verr, v.Close())
		l, got, err := open(t, o, Position{})
		if err != nil {
			return
		}
		if verr != nil && l.End().Offset == int64(segmentHeaderSize+len(b)) {
			t.Fatalf("all of it is read (%q), but it does not verify: %v", got, verr)
		}
		write(t, l, 1, 1)
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	})
}
