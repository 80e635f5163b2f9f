// Package blob keeps bodies and the log of what was done, in append-only segment files. A record carries the sealed
// bodies of one act and the act's changes to the index: when the record is flushed, the act has happened.
package blob

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"

	"cmmpd/internal/durable"
)

// Options say where the segments are.
type Options struct {
	FS           durable.FS
	Dir          string // must exist
	Store        StoreID
	SegmentBytes int64 // a segment is closed when it is at least this long
}

// Position is a place between two records: all before it has been dealt with.
type Position struct {
	Segment uint32
	Offset  int64
	Seq     uint64 // of the last record before it
}

// Record is one act. Blob and Ops must not be changed while it is appended.
type Record struct {
	Blob    []byte
	BlobSum uint32 // Checksum(Blob)
	Ops     []byte

	// Where it is, set by Append and replay.
	Segment    uint32
	BlobOffset int64 // of Blob in the segment
	End        Position
}

// ErrFull is the error of Append when there is no room. Nothing was written; it may be tried again.
var ErrFull = errors.New("no space on disk")

// ErrBusy is the error of Append when the process has no more files or memory. Nothing was written; it may be tried again.
var ErrBusy = errors.New("no more files or memory")

// Log is an open set of segments. Append, Sync and Close are for one goroutine at a time; Read may be called at any
// time.
type Log struct {
	o     Options
	files fileCache

	active   durable.File
	active32 atomic.Uint32 // its number

	seed   uint32 // checksum of the active segment's header
	end    Position
	next   bool  // the next segment may be on the disk already: nothing more is written to this one
	jump   bool  // while reading: segments before end were removed, so the next record's number is not known
	synced int64 // the active segment is flushed up to here
	buf    []byte
	failed error // once set, nothing more is written
}

// End is the position after the last record.
func (l *Log) End() Position { return l.end }

// Dirty says whether something was appended that is not flushed.
func (l *Log) Dirty() bool { return l.synced != l.end.Offset }

const bufferSize = 1 << 20

// Append writes records after the last one, without flushing. After ErrFull and ErrBusy the log is as before. After any other error
// what was written is not known, and the log takes nothing more.
func (l *Log) Append(records []*Record) error {
	if l.failed != nil {
		return l.failed
	}
	if l.next || l.end.Offset >= l.o.SegmentBytes {
		if err := l.rollOver(); err != nil {
			return err
		}
	}
	before := l.end
	if err := l.write(records); err != nil {
		l.end = before
		if terr := l.active.Truncate(before.Offset); terr != nil {
			l.failed = errors.Join(err, terr)
			return l.failed
		}
		return l.fail(err)
	}
	return nil
}

func (l *Log) write(records []*Record) error {
	at, buf := l.end.Offset, l.buf[:0]
	flush := func() error {
		if len(buf) == 0 {
			return nil
		}
		if _, err := l.active.WriteAt(buf, at); err != nil {
			return err
		}
		at += int64(len(buf))
		buf = buf[:0]
		return nil
	}
	add := func(b []byte) error {
		if len(buf)+len(b) > bufferSize {
			if err := flush(); err != nil {
				return err
			}
		}
		if len(b) > bufferSize {
			if _, err := l.active.WriteAt(b, at); err != nil {
				return err
			}
			at += int64(len(b))
			return nil
		}
		buf = append(buf, b...)
		return nil
	}
	var head [recordHeaderSize]byte
	for _, r := range records {
		l.end.Seq++
		h := recordHeader{
			seq: l.end.Seq, synced: l.synced, blobLen: int64(len(r.Blob)), opsLen: len(r.Ops),
			blobSum: r.BlobSum, opsSum: Checksum(r.Ops),
		}
		r.Segment, r.BlobOffset = l.end.Segment, l.end.Offset+recordHeaderSize
		for _, part := range [][]byte{h.append(head[:0], l.seed), r.Blob, r.Ops} {
			if err := add(part); err != nil {
				return err
			}
		}
		l.end.Offset += h.total()
		r.End = l.end
	}
	l.buf = buf[:0]
	return flush()
}

// fail turns an error into ErrFull if that is what it is, and into the end of all writing otherwise.
func (l *Log) fail(err error) error {
	if l.failed != nil {
		return l.failed
	}
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return fmt.Errorf("%w: %w", ErrFull, err)
	}
	l.failed = err
	return err
}

// lacking says whether an error is for want of files or memory. It is asked only about opening a file: there it means that
// nothing was done.
func lacking(err error) bool {
	return errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) || errors.Is(err, syscall.ENOMEM)
}

// Sync flushes what was appended. After an error nobody knows what is on the disk: the log takes nothing more.
func (l *Log) Sync() error {
	if l.failed != nil {
		return l.failed
	}
	if !l.Dirty() {
		return nil
	}
	if err := l.active.Sync(); err != nil {
		l.failed = fmt.Errorf("flush of segment %d: %w", l.end.Segment, err)
		return l.failed
	}
	l.synced = l.end.Offset
	return nil
}

// rollOver is roll, with errors as Append has them.
func (l *Log) rollOver() error {
	err := l.roll()
	if err == nil {
		return nil
	}
	if l.failed == nil && lacking(err) {
		return fmt.Errorf("%w: %w", ErrBusy, err)
	}
	return l.fail(err)
}

// roll closes the active segment and begins the next.
func (l *Log) roll() error {
	if err := l.Sync(); err != nil {
		return err
	}
	next := l.end.Segment + 1
	if next == 0 {
		return errors.New("segment numbers are used up")
	}
	l.next = true
	if err := l.create(next); err != nil {
		return err
	}
	if err := l.activate(next); err != nil {
		return err
	}
	l.next = false
	return nil
}

func (l *Log) path(number uint32) string { return filepath.Join(l.o.Dir, segmentName(number)) }

func (l *Log) create(number uint32) error {
	return durable.WriteFile(l.o.FS, l.path(number), segmentHeader{number, l.o.Store}.encode(), 0o600)
}

// activate makes an existing segment the one that is written.
func (l *Log) activate(number uint32) error {
	f, seed, err := l.open(number, os.O_RDWR)
	if err != nil {
		return err
	}
	if l.active != nil {
		if err := l.active.Close(); err != nil {
			return errors.Join(err, f.Close())
		}
	}
	l.active, l.seed = f, seed
	l.active32.Store(number)
	l.end.Segment, l.end.Offset, l.synced = number, segmentHeaderSize, segmentHeaderSize
	return nil
}

// open opens a segment and checks its header, whose checksum is the seed of its records' checksums.
func (l *Log) open(number uint32, flag int) (durable.File, uint32, error) {
	f, err := l.o.FS.Open(l.path(number), flag, 0)
	if err != nil {
		return nil, 0, err
	}
	var b [segmentHeaderSize]byte
	if _, err := f.ReadAt(b[:], 0); err != nil {
		return nil, 0, errors.Join(fmt.Errorf("%s: %w", segmentName(number), err), f.Close())
	}
	h, err := decodeSegmentHeader(b[:])
	if err == nil && (h.number != number || h.store != l.o.Store) {
		err = errors.New("the segment is another one's")
	}
	if err != nil && !errors.Is(err, ErrNewer) {
		err = fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	if err != nil {
		return nil, 0, errors.Join(fmt.Errorf("%s: %w", segmentName(number), err), f.Close())
	}
	return f, Checksum(b[:]), nil
}

// Close flushes and closes the files.
func (l *Log) Close() error {
	var err error
	if l.failed == nil {
		err = l.Sync()
	}
	if l.active != nil {
		err = errors.Join(err, l.active.Close())
	}
	return errors.Join(err, l.files.close())
}

// segments lists the segments of the directory in order, and removes files that were not completed.
func segments(fsys durable.FS, dir string) ([]uint32, error) {
	names, err := fsys.List(dir)
	if err != nil {
		return nil, err
	}
	var numbers []uint32
	for _, name := range names {
		if n, ok := parseSegmentName(name); ok {
			numbers = append(numbers, n)
		} else if strings.HasSuffix(name, durable.TempSuffix) {
			if err := fsys.Remove(filepath.Join(dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return nil, err
			}
		} else {
			return nil, fmt.Errorf("%s is not a file of the store", filepath.Join(dir, name))
		}
	}
	return numbers, nil
}
