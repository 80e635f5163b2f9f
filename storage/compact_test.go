package storage

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/emersion/go-imap/v2"

	"cmmpd/internal/durable"
	"cmmpd/internal/durable/faultfs"
	"cmmpd/internal/keys"
	"cmmpd/internal/mail"
	"cmmpd/storage/blob"
)

// half delivers messages to alice and bob and expunges most of alice's, so that half of each segment is dead.
func half(t *testing.T, s *Store, n int) (left map[uint32][]byte) {
	t.Helper()
	ctx := context.Background()
	left = make(map[uint32][]byte)
	for i := range n {
		to := []NewEntry{{Account: alice}}
		if i%4 == 0 {
			to = append(to, NewEntry{Account: bob})
		}
		data := testMessage(fmt.Sprint("m", i), string(bytes.Repeat([]byte("x"), 2000)))
		if _, err := s.Deliver(ctx, Delivery{Bodies: []Body{body(data, to...)}}); err != nil {
			t.Fatal(err)
		}
		if i%4 == 0 {
			left[uint32(i/4+1)] = data
		}
	}
	a, err := s.OpenAccount(ctx, alice)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = a.Close() }()
	m, err := a.Open(ctx, Inbox)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	if _, _, err := m.StoreFlags(ctx, imap.UIDSet{{Start: 1, Stop: 0}}, AddFlags, []string{FlagDeleted}, 0); err != nil {
		t.Fatal(err)
	}
	if _, err := m.Expunge(ctx, nil); err != nil {
		t.Fatal(err)
	}
	return left
}

// verifyHalf demands of bob's messages that they are what they were.
func verifyHalf(t *testing.T, s *Store, left map[uint32][]byte) {
	t.Helper()
	checkClean(t, s)
	ctx := context.Background()
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
	if n := m.State().Messages; int(n) != len(left) {
		t.Fatalf("%d messages, want %d", n, len(left))
	}
	for uid, want := range left {
		if got := readAll(t, m, uid); !bytes.Equal(got, want) {
			t.Fatalf("UID %d is another message", uid)
		}
	}
}

func segmentsOf(t *testing.T, s *Store) []uint32 {
	t.Helper()
	list, err := blob.Segments(s.o.FS, s.segmentsDir())
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// TestCompact: what a round of housekeeping removes, what it leaves, and what stays readable meanwhile.
func TestCompact(t *testing.T) {
	ctx := context.Background()
	o := Options{Dir: filepath.Join(t.TempDir(), "store"), Keys: newKeys(t), SegmentBytes: 40_000, HouseRate: -1}
	s := mustOpen(t, o)
	defer func() { _ = s.Close() }()
	left := half(t, s, 100)
	before := segmentsOf(t, s)
	b, err := s.OpenAccount(ctx, bob)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = b.Close() }()
	m, err := b.Open(ctx, Inbox)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	open, err := m.Body(ctx, 1)
	if err != nil {
		t.Fatal(err)
	}
	batch, err := m.Batch(nil, []uint32{1, 2}, true)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.compactSome(ctx); err != nil {
		t.Fatal(err)
	}
	after := segmentsOf(t, s)
	if len(before) < 5 || after[0] != before[len(before)-1] {
		t.Fatalf("segments %v, before %v", after, before)
	}
	total := int64(0)
	for _, n := range after {
		size, err := s.log.Size(n)
		if err != nil {
			t.Fatal(err)
		}
		total += size
	}
	if most := int64(len(left)) * 2000 * 3; total > most {
		t.Errorf("%d octets are left, which need not be more than %d", total, most)
	}
	if got := make([]byte, open.Size()); true {
		if _, err := open.ReadAt(got, 0); err != nil || !bytes.Equal(got, left[1]) {
			t.Errorf("a message that was open: %v", err)
		}
	}
	if err := open.Close(); err != nil {
		t.Fatal(err)
	}
	for i := range 2 {
		if sum, err := batch.Summary(ctx, i); err != nil || sum.Index.Root.Envelope.Subject != fmt.Sprint("m", 4*i) {
			t.Errorf("a summary at an old place: %v", err)
		}
		if _, err := batch.AppendEnvelope(ctx, nil, i); err != nil {
			t.Errorf("an envelope at an old place: %v", err)
		}
		c, err := batch.Body(ctx, i)
		if err != nil {
			t.Fatal(err)
		}
		_ = c.Close()
	}
	verifyHalf(t, s, left)
	if err := s.compactSome(ctx); err != nil { // what was being written then is closed now, perhaps
		t.Fatal(err)
	}
	now := segmentsOf(t, s)
	if err := s.compactSome(ctx); err != nil || len(segmentsOf(t, s)) != len(now) {
		t.Errorf("there was nothing to do: %v", err)
	}
	if r, err := s.Compact(ctx); err != nil || r.Skipped != 0 {
		t.Fatalf("%+v, %v", r, err)
	}
	verifyHalf(t, s, left)
	for _, lost := range []bool{false, true} {
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if lost {
			if err := os.Remove(filepath.Join(o.Dir, indexFile)); err != nil {
				t.Fatal(err)
			}
		}
		s = mustOpen(t, o)
		verifyHalf(t, s, left)
	}
}

// TestSegmentMissing: a segment that is missing though nothing says that it was reclaimed keeps the store from opening, and is named.
func TestSegmentMissing(t *testing.T) {
	ctx := context.Background()
	o := Options{Dir: filepath.Join(t.TempDir(), "store"), Keys: newKeys(t), SegmentBytes: 20_000, HouseRate: -1}
	s := mustOpen(t, o)
	half(t, s, 60)
	if _, err := s.Compact(ctx); err != nil {
		t.Fatal(err)
	}
	half(t, s, 60)
	list := segmentsOf(t, s)
	name := blob.SegmentName(list[1])
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(o.Dir, segmentsDir, name)
	if err := os.Rename(path, filepath.Join(o.Dir, name)); err != nil {
		t.Fatal(err)
	}
	for _, index := range []string{indexFile, "no index"} {
		_ = os.Rename(filepath.Join(o.Dir, indexFile), filepath.Join(o.Dir, index))
		if _, err := Open(ctx, o); mail.KindOf(err) != mail.Corrupt || !bytes.Contains([]byte(err.Error()), []byte(name)) {
			t.Errorf("with %s: %v", index, err)
		}
	}
}

// TestCompactDamage: a segment in which something is damaged is left as it is in the background, and the others are compacted. No backup can be made with it.
// Who asks for compaction has the damaged message moved as it is, and then one can.
func TestCompactDamage(t *testing.T) {
	ctx := context.Background()
	o := Options{Dir: filepath.Join(t.TempDir(), "store"), Keys: newKeys(t), SegmentBytes: 40_000, HouseRate: -1, HouseEvery: -1}
	s := mustOpen(t, o)
	defer func() { _ = s.Close() }()
	half(t, s, 100)
	v, err := s.kv.Get(keyOf64(keyBody, 1))
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
	if _, err := f.WriteAt([]byte{1, 2, 3, 4}, where.offset+30); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	backup := func() error {
		return s.Backup(ctx, func(_ string, write func(io.Writer) error) error { return write(io.Discard) })
	}
	deep := func() {
		t.Helper()
		rep, err := s.Check(ctx, true)
		if err != nil || len(rep.Problems) == 0 || !bytes.Contains([]byte(rep.Problems[0]), []byte("UID 1 in")) {
			t.Fatalf("%+v, %v", rep, err)
		}
	}
	if err := s.compactSome(ctx); err != nil {
		t.Fatal(err)
	}
	if now := segmentsOf(t, s); now[0] != where.segment || len(s.house.compactor.damaged) != 1 || s.Housekeeping().Segments == 0 {
		t.Fatalf("segments %v; the damaged one is %d", now, where.segment)
	}
	deep()
	s.house.found.take()
	if err := backup(); !errors.Is(err, blob.ErrDamaged) {
		t.Fatalf("a backup of it: %v", err)
	}
	r, err := s.Compact(ctx)
	if now := segmentsOf(t, s); err != nil || r.Skipped != 0 || now[0] == where.segment {
		t.Fatalf("%+v, %v; segments %v", r, err, now)
	}
	deep()
	if err := backup(); err != nil {
		t.Error(err)
	}
}

// TestCompactFaults makes every write, flush and removal of a compaction fail, one by one, in three ways, and opens what
// is left, of a process that was killed and of a power cut: everything must be there, and the next compaction must be able to finish.
func TestCompactFaults(t *testing.T) {
	ks := newKeys(t)
	step := 1
	if testing.Short() {
		step = 5
	}
	for _, mode := range []faultfs.Mode{faultfs.Lost, faultfs.Done, faultfs.Short} {
		for n := 1; !compactFault(t, ks, n, mode); n += step {
			if n > 300 {
				t.Fatal("the compaction has no end")
			}
			if t.Failed() {
				return
			}
		}
	}
}

func compactFault(t *testing.T, ks keys.Keystore, n int, mode faultfs.Mode) (done bool) {
	ctx := context.Background()
	fsys := faultfs.New()
	o := Options{Dir: filepath.Join(t.TempDir(), "store"), Keys: ks, FS: fsys, SegmentBytes: 20_000, HouseRate: -1}
	s := mustOpen(t, o)
	left := half(t, s, 40)
	before := len(segmentsOf(t, s))
	fsys.FailAt(n, mode)
	_, err := s.Compact(ctx)
	done = fsys.Count() < n
	fsys.FailAt(0, mode)
	if done && err != nil {
		t.Fatal(err)
	}
	if s.Ready() == nil {
		verifyHalf(t, s, left)
	}
	cut := t.TempDir()
	rnd := rand.New(rand.NewPCG(uint64(n), uint64(mode)))
	copyIndex(t, s, cut)
	if err := fsys.PowerCut(rnd, o.Dir, cut); err != nil {
		t.Fatal(err)
	}
	_ = s.Close() // fails if it has stopped
	for _, dir := range []string{o.Dir, cut} {
		for _, lost := range []bool{false, true} {
			o.Dir, o.FS = dir, nil
			if lost {
				if err := os.Remove(filepath.Join(dir, indexFile)); err != nil {
					t.Fatal(err)
				}
			}
			s, err := Open(ctx, o)
			if err != nil {
				t.Fatalf("operation %d, mode %d, %s: %v", n, mode, dir, err)
			}
			verifyHalf(t, s, left)
			if !lost {
				if _, err := s.Compact(ctx); err != nil {
					t.Fatal(err)
				}
				if err := s.compactSome(ctx); err != nil {
					t.Fatal(err)
				}
				verifyHalf(t, s, left)
				if now := len(segmentsOf(t, s)); now > before/2+2 {
					t.Fatalf("operation %d, mode %d: %d segments are left of %d", n, mode, now, before)
				}
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
	return done
}

// deafFS has one file of which some octets cannot be read.
type deafFS struct {
	durable.OS
	name     string
	from, to int64
}

func (f *deafFS) Open(name string, flag int, perm fs.FileMode) (durable.File, error) {
	file, err := f.OS.Open(name, flag, perm)
	if err == nil && filepath.Base(name) == f.name {
		return deafFile{file, f}, nil
	}
	return file, err
}

type deafFile struct {
	durable.File
	fs *deafFS
}

func (f deafFile) ReadAt(p []byte, off int64) (int, error) {
	if off < f.fs.to && off+int64(len(p)) > f.fs.from {
		return 0, &fs.PathError{Op: "read", Path: f.fs.name, Err: syscall.EIO}
	}
	return f.File.ReadAt(p, off)
}

// TestCompactUnreadable: a segment of which the disk cannot read a part is left alone, the others are compacted.
func TestCompactUnreadable(t *testing.T) {
	for _, at := range []int64{20_000, 80} { // in a body, in the header of a record
		deaf := &deafFS{name: blob.SegmentName(1)}
		o := Options{Dir: filepath.Join(t.TempDir(), "store"), Keys: newKeys(t), SegmentBytes: 40_000, HouseRate: -1, HouseEvery: -1, FS: deaf}
		s := mustOpen(t, o)
		half(t, s, 60)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		deaf.from, deaf.to = at, at+1
		s = mustOpen(t, o)
		hit := at < 100
		err := s.scan(key0(keyBody), func(_, v []byte) error {
			r, err := decodeBody(v)
			if r.segment == 1 && !hit {
				hit, deaf.from, deaf.to = true, r.offset, r.offset+1
			}
			return err
		})
		if err != nil || !hit {
			t.Fatal(hit, err)
		}
		before := segmentsOf(t, s)
		r, err := s.Compact(context.Background())
		if err != nil || r.Skipped != 1 || r.Segments == 0 {
			t.Errorf("%+v, %v; segments %v", r, err, before)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
