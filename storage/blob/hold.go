package blob

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"cmmpd/internal/durable"
)

// ErrGone says that a segment is not there any more: it was reclaimed, and what still lived has another place.
var ErrGone = errors.New("the segment was reclaimed")

// Held is a segment that stays readable until Close, even if it is removed meanwhile. Its methods may be called
// concurrently.
type Held struct {
	log    *Log
	file   *cached
	number uint32
}

// Hold opens a segment for reading. The error is ErrGone if it was removed. Its header is not looked at: what is damaged
// there must not keep anybody from the bodies, which have sums of their own.
func (l *Log) Hold(segment uint32) (*Held, error) {
	f, err := l.files.get(segment, func() (durable.File, error) {
		f, err := l.o.FS.Open(l.path(segment), os.O_RDONLY, 0)
		if errors.Is(err, fs.ErrNotExist) {
			err = fmt.Errorf("%s: %w", segmentName(segment), ErrGone)
		}
		return f, err
	})
	if err != nil {
		return nil, err
	}
	return &Held{l, f, segment}, nil
}

// Read fills p.
func (h *Held) Read(off int64, p []byte) error {
	if _, err := h.file.file.ReadAt(p, off); err != nil {
		return fmt.Errorf("%s at %d: %w", segmentName(h.number), off, err)
	}
	return nil
}

// Verify reads a part of the segment and compares its Checksum.
func (h *Held) Verify(off, n int64, want uint32) error {
	sum, err := sumFile(h.file.file, off, n)
	if err != nil {
		return fmt.Errorf("%s at %d: %w", segmentName(h.number), off, err)
	}
	if sum != want {
		return fmt.Errorf("%s at %d: %w", segmentName(h.number), off, ErrChecksum)
	}
	return nil
}

// Reader reads the segment from its beginning.
func (h *Held) Reader() io.Reader { return io.NewSectionReader(h.file.file, 0, 1<<62) }

// ErrChecksum says that a part of a segment is not what was written.
var ErrChecksum = errors.New("checksum is wrong")

// Close gives the segment back. It must be called once.
func (h *Held) Close() { h.log.files.put(h.file) }

// Read fills p from a segment. It may be called while others append. The error is ErrGone if the segment was removed.
func (l *Log) Read(segment uint32, off int64, p []byte) error {
	h, err := l.Hold(segment)
	if err != nil {
		return err
	}
	defer h.Close()
	return h.Read(off, p)
}

// Verify is Held.Verify.
func (l *Log) Verify(segment uint32, off, n int64, want uint32) error {
	h, err := l.Hold(segment)
	if err != nil {
		return err
	}
	defer h.Close()
	return h.Verify(off, n, want)
}

// Active is the number of the segment that is written; those below it are complete and do not change. It may be called
// at any time.
func (l *Log) Active() uint32 { return l.active32.Load() }

// Remove removes a complete segment. Who holds it can go on reading. It is no error if it is not there.
func (l *Log) Remove(segment uint32) error {
	if segment >= l.Active() {
		return fmt.Errorf("%s is still written", segmentName(segment))
	}
	if err := l.o.FS.Remove(l.path(segment)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	l.files.forget(segment)
	return l.o.FS.SyncDir(l.o.Dir)
}

// Size is the length of a complete segment.
func (l *Log) Size(segment uint32) (int64, error) {
	f, err := l.o.FS.Open(l.path(segment), os.O_RDONLY, 0)
	if err != nil {
		return 0, err
	}
	n, err := f.Size()
	return n, errors.Join(err, f.Close())
}

// Roll closes the segment that is written and begins the next, unless it is empty. It belongs to whoever appends; its errors are those of
// Append.
func (l *Log) Roll() error {
	if l.failed != nil {
		return l.failed
	}
	if l.end.Offset == segmentHeaderSize {
		return nil
	}
	return l.rollOver()
}

// Ops calls f with the ops of every record of a complete segment, in order, and where its blob begins. Blobs are not read. ops is f's until it
// returns. The error is ErrDamaged if a record is not as it was written, or cannot be read.
func (l *Log) Ops(segment uint32, f func(r *Record) error) error {
	if segment >= l.Active() {
		return fmt.Errorf("%s is still written", segmentName(segment))
	}
	unreadable := func(at int64, err error) error {
		if lacking(err) {
			return err
		}
		return fmt.Errorf("%w: %s at %d: %w", ErrDamaged, segmentName(segment), at, err)
	}
	file, seed, err := l.open(segment, os.O_RDONLY)
	if err != nil {
		return unreadable(0, err)
	}
	defer func() { _ = file.Close() }() // it was only read
	size, err := file.Size()
	if err != nil {
		return err
	}
	at := &Log{active: file, seed: seed, jump: true}
	at.end = Position{Segment: segment, Offset: segmentHeaderSize}
	for at.end.Offset < size {
		r, err := at.readRecord(size, false)
		if err != nil {
			return unreadable(at.end.Offset, err)
		}
		at.end, at.jump = r.End, false
		if err := f(r); err != nil {
			return err
		}
	}
	return nil
}
