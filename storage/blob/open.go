package blob

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"cmmpd/internal/durable"
)

// ErrDamaged says that records are missing or wrong that were once flushed.
var ErrDamaged = errors.New("the segments are damaged")

// Open opens the segments, and makes the first one if there is none. replay is called for every record after from,
// in order. The zero Position is the beginning of what there is: segments may be missing then, and the caller finds out
// from what is replayed whether they were removed (Missing). A torn tail (records that were not flushed when the machine
// stopped) is cut off; if something is wrong before that, the error is ErrDamaged. What is replayed was written and flushed once
// more before, because a failed flush may have left it in the page cache only.
func Open(o Options, from Position, replay func(*Record) error) (*Log, error) {
	l := &Log{o: o}
	if err := l.recover(from, replay); err != nil {
		if l.active != nil {
			err = errors.Join(err, l.active.Close())
		}
		return nil, errors.Join(err, l.files.close())
	}
	return l, nil
}

func (l *Log) recover(from Position, replay func(*Record) error) error {
	numbers, err := segments(l.o.FS, l.o.Dir)
	if err != nil {
		return err
	}
	if len(numbers) == 0 {
		if from != (Position{}) {
			return fmt.Errorf("%w: there are none", ErrDamaged)
		}
		if err := l.create(1); err != nil {
			return err
		}
		numbers = []uint32{1}
	}
	if err := l.o.FS.SyncDir(l.o.Dir); err != nil { // the flush that belongs to a creation may have failed
		return err
	}
	all := from == (Position{})
	if all {
		from = Position{Segment: numbers[0], Offset: segmentHeaderSize}
		l.jump = numbers[0] != 1
	}
	for len(numbers) > 0 && numbers[0] < from.Segment {
		numbers = numbers[1:]
	}
	if len(numbers) == 0 || numbers[0] != from.Segment {
		return fmt.Errorf("%w: %s is missing", ErrDamaged, segmentName(from.Segment))
	}
	l.end.Seq = from.Seq
	for i, n := range numbers {
		if i > 0 && n != numbers[i-1]+1 {
			if !all {
				return fmt.Errorf("%w: %s is missing", ErrDamaged, segmentName(numbers[i-1]+1))
			}
			l.jump = true
		}
		begin := int64(segmentHeaderSize)
		if i == 0 {
			begin = from.Offset
		}
		if err := l.activate(n); err != nil {
			return err
		}
		if err := l.scan(begin, i == len(numbers)-1, replay); err != nil {
			return err
		}
	}
	return nil
}

// scan replays the active segment from begin. Of the last segment it first makes durable what there is, because what is
// replayed may get into the index, which must not be ahead of the log.
func (l *Log) scan(begin int64, last bool, replay func(*Record) error) error {
	size, err := l.active.Size()
	if err != nil {
		return err
	}
	if size < begin {
		return fmt.Errorf("%w: %s has only %d octets", ErrDamaged, segmentName(l.end.Segment), size)
	}
	l.end.Offset = begin
	if last {
		if size, err = l.settle(size); err != nil {
			return err
		}
	}
	for l.end.Offset < size {
		r, err := l.readRecord(size, !last)
		if errors.Is(err, errNoRecord) {
			return fmt.Errorf("%w: %s at %d", ErrDamaged, segmentName(l.end.Segment), l.end.Offset)
		}
		if err != nil {
			return err
		}
		if err := replay(r); err != nil {
			return err
		}
		l.end, l.jump = r.End, false
	}
	l.synced = l.end.Offset
	return nil
}

// settle finds the end of the records from l.end on, cuts a torn tail off, and writes and flushes the rest once more. It
// returns the end.
func (l *Log) settle(size int64) (int64, error) {
	begin, jump := l.end, l.jump
	for l.end.Offset < size {
		r, err := l.readRecord(size, true)
		if errors.Is(err, errNoRecord) {
			break
		}
		if err != nil {
			return 0, err
		}
		l.end, l.jump = r.End, false
	}
	end := l.end.Offset
	if end < size {
		if err := l.provablyTorn(size); err != nil {
			return 0, err
		}
		if err := l.active.Truncate(end); err != nil {
			return 0, err
		}
	}
	l.end, l.jump = begin, jump
	if err := rewrite(l.active, begin.Offset, end); err != nil {
		return 0, err
	}
	return end, l.active.Sync()
}

// readRecord reads the record at l.end, its blob only to verify it. errNoRecord: there is none that is whole.
func (l *Log) readRecord(size int64, verify bool) (*Record, error) {
	at := l.end.Offset
	var head [recordHeaderSize]byte
	if size-at < recordHeaderSize {
		return nil, errNoRecord
	}
	if _, err := l.active.ReadAt(head[:], at); err != nil {
		return nil, err
	}
	h, err := decodeRecordHeader(head[:], l.seed)
	if err != nil {
		return nil, err
	}
	if h.total() > size-at || h.seq != l.end.Seq+1 && !(l.jump && h.seq > l.end.Seq) {
		return nil, errNoRecord
	}
	r := &Record{Segment: l.end.Segment, BlobOffset: at + recordHeaderSize, BlobSum: h.blobSum}
	r.Ops = make([]byte, h.opsLen)
	if _, err := l.active.ReadAt(r.Ops, r.BlobOffset+h.blobLen); err != nil {
		return nil, err
	}
	if Checksum(r.Ops) != h.opsSum {
		return nil, errNoRecord
	}
	if verify {
		sum, err := sumFile(l.active, r.BlobOffset, h.blobLen)
		if err != nil {
			return nil, err
		}
		if sum != h.blobSum {
			return nil, errNoRecord
		}
	}
	r.End = Position{l.end.Segment, at + h.total(), h.seq}
	return r, nil
}

// sumFile is the Checksum of a part of a file.
func sumFile(f durable.File, off, n int64) (uint32, error) {
	var sum uint32
	buf := make([]byte, min(n, bufferSize))
	for n > 0 {
		b := buf[:min(n, int64(len(buf)))]
		if _, err := f.ReadAt(b, off); err != nil {
			return 0, err
		}
		sum = Update(sum, b)
		off += int64(len(b))
		n -= int64(len(b))
	}
	return sum, nil
}

// provablyTorn looks behind the first bad record of the last segment. A record there that was written after a flush
// of the bad one's place proves that it was whole once: then it must not be cut off.
func (l *Log) provablyTorn(size int64) error {
	var magic [4]byte
	binary.LittleEndian.PutUint32(magic[:], recordMagic)
	buf := make([]byte, bufferSize)
	for at := l.end.Offset + 1; at < size; {
		n, err := l.active.ReadAt(buf[:min(int64(len(buf)), size-at)], at)
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		b := buf[:n]
		for i := 0; ; {
			j := bytes.Index(b[i:], magic[:])
			if j < 0 || len(b)-i-j < recordHeaderSize {
				break
			}
			h, err := decodeRecordHeader(b[i+j:i+j+recordHeaderSize], l.seed)
			if err == nil && h.seq > l.end.Seq && h.synced > l.end.Offset {
				return fmt.Errorf("%w: %s at %d", ErrDamaged, segmentName(l.end.Segment), l.end.Offset)
			}
			i += j + 1
		}
		if n < recordHeaderSize || at+int64(n) >= size {
			return nil
		}
		at += int64(n) - recordHeaderSize + 1
	}
	return nil
}

// rewrite writes a part of a file over itself, so that its pages are dirty and the next flush carries them.
func rewrite(f durable.File, from, to int64) error {
	buf := make([]byte, min(to-from, bufferSize))
	for from < to {
		b := buf[:min(to-from, int64(len(buf)))]
		if _, err := f.ReadAt(b, from); err != nil {
			return err
		}
		if _, err := f.WriteAt(b, from); err != nil {
			return err
		}
		from += int64(len(b))
	}
	return nil
}
