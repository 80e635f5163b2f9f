package blob

import (
	"errors"
	"io/fs"
	"strings"
	"syscall"
	"testing"

	"cmmpd/internal/durable"
)

// scarceFS has no file descriptor left for the next openings of files and directories that want one.
type scarceFS struct {
	durable.OS
	lack int // the openings that fail
}

func (f *scarceFS) take() error {
	if f.lack == 0 {
		return nil
	}
	f.lack--
	return &fs.PathError{Op: "open", Path: "x", Err: syscall.EMFILE}
}

func (f *scarceFS) Open(name string, flag int, perm fs.FileMode) (durable.File, error) {
	if err := f.take(); err != nil {
		return nil, err
	}
	return f.OS.Open(name, flag, perm)
}

func (f *scarceFS) SyncDir(name string) error {
	if err := f.take(); err != nil {
		return err
	}
	return f.OS.SyncDir(name)
}

// TestNoFiles: a segment that cannot be begun for want of file descriptors is begun later, wherever the want began, and
// nothing is written meanwhile.
func TestNoFiles(t *testing.T) {
	for before := range 3 { // openings that succeed first: none, the file's, the directory's too
		scarce := &scarceFS{}
		o := testOptions(t.TempDir())
		o.FS = scarce
		l, _, err := open(t, o, Position{})
		if err != nil {
			t.Fatal(err)
		}
		last := write(t, l, 1, 9)[8]
		if l.End().Offset < o.SegmentBytes {
			t.Fatal("the segment is not full")
		}
		l.o.FS = &afterFS{scarceFS: scarce, good: before}
		scarce.lack = 2
		for range 2 {
			if err := l.Append([]*Record{record(10)}); !errors.Is(err, ErrBusy) {
				t.Fatalf("after %d openings: %v", before, err)
			}
			if l.End() != last.End {
				t.Fatalf("the log ends at %+v", l.End())
			}
		}
		if r := write(t, l, 10, 11)[0]; r.Segment != last.Segment+1 {
			t.Fatalf("the next record is in segment %d", r.Segment)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		if _, got, err := open(t, o, Position{}); err != nil || strings.Count(got, "@") != 11 {
			t.Fatalf("opened again: %q, %v", got, err)
		}
	}
}

// afterFS has enough descriptors for the first openings.
type afterFS struct {
	*scarceFS
	good int
}

func (f *afterFS) Open(name string, flag int, perm fs.FileMode) (durable.File, error) {
	if f.good > 0 {
		f.good--
		return f.OS.Open(name, flag, perm)
	}
	return f.scarceFS.Open(name, flag, perm)
}

func (f *afterFS) SyncDir(name string) error {
	if f.good > 0 {
		f.good--
		return f.OS.SyncDir(name)
	}
	return f.scarceFS.SyncDir(name)
}

// TestRollInterrupted: once the next segment may be on the disk, nothing more is written to the one before, which a power cut would then leave
// torn in the middle of the log.
func TestRollInterrupted(t *testing.T) {
	for before := range 3 {
		scarce := &scarceFS{}
		o := testOptions(t.TempDir())
		o.FS = scarce
		l, _, err := open(t, o, Position{})
		if err != nil {
			t.Fatal(err)
		}
		last := write(t, l, 1, 2)[1]
		l.o.FS = &afterFS{scarceFS: scarce, good: before}
		scarce.lack = 1
		if err := l.Roll(); !errors.Is(err, ErrBusy) {
			t.Fatalf("after %d openings: %v", before, err)
		}
		if r := write(t, l, 3, 3)[0]; r.Segment != last.Segment+1 {
			t.Errorf("after %d openings the next record is in segment %d", before, r.Segment)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
