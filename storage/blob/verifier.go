package blob

import (
	"fmt"
	"io"
	"strings"

	"cmmpd/internal/durable"
)

// SegmentName is the name of a segment's file.
func SegmentName(number uint32) string { return segmentName(number) }

// Segments lists the complete segments of the directory in order, beside a log that is open.
func Segments(fsys durable.FS, dir string) ([]uint32, error) {
	names, err := fsys.List(dir)
	if err != nil {
		return nil, err
	}
	var numbers []uint32
	for _, name := range names {
		if n, ok := parseSegmentName(name); ok {
			numbers = append(numbers, n)
		} else if !strings.HasSuffix(name, durable.TempSuffix) {
			return nil, fmt.Errorf("%s is not a file of the store", name)
		}
	}
	return numbers, nil
}

// Missing says which segments below the last one are not there.
func Missing(numbers []uint32) []uint32 {
	var missing []uint32
	next := uint32(1)
	for _, n := range numbers {
		for ; next < n; next++ {
			missing = append(missing, next)
		}
		next = n + 1
	}
	return missing
}

// Verifier passes a segment on and checks it on the way: its header, and of every record the header and both
// checksums. A segment must end with a record.
type Verifier struct {
	w      io.Writer
	number uint32
	store  StoreID

	head  []byte // of the segment or the record, as far as it has come
	seed  uint32
	begun bool // the segment's header was read
	at    int64
	seq   uint64

	h                  recordHeader
	blobLeft, opsLeft  int64
	blobSum, opsSum    uint32
	inRecord, anywhere bool // anywhere: seq is known
}

// NewVerifier checks the segment of that number of the store, and writes it to w.
func NewVerifier(number uint32, store StoreID, w io.Writer) *Verifier {
	return &Verifier{w: w, number: number, store: store}
}

func (v *Verifier) damaged(what string) error {
	return fmt.Errorf("%w: %s at %d: %s", ErrDamaged, segmentName(v.number), v.at, what)
}

// Write passes b on if it is good so far.
func (v *Verifier) Write(b []byte) (int, error) {
	for rest := b; len(rest) > 0; {
		n, err := v.step(rest)
		if err != nil {
			return 0, err
		}
		rest = rest[n:]
		v.at += int64(n)
	}
	return v.w.Write(b)
}

// step looks at a part of b and says how much.
func (v *Verifier) step(b []byte) (int, error) {
	if !v.inRecord {
		size := recordHeaderSize
		if !v.begun {
			size = segmentHeaderSize
		}
		n := min(size-len(v.head), len(b))
		if v.head = append(v.head, b[:n]...); len(v.head) < size {
			return n, nil
		}
		err := v.header()
		v.head = v.head[:0]
		return n, err
	}
	if v.blobLeft > 0 {
		n := min(v.blobLeft, int64(len(b)))
		v.blobSum = Update(v.blobSum, b[:n])
		v.blobLeft -= n
		return int(n), v.finished()
	}
	n := min(v.opsLeft, int64(len(b)))
	v.opsSum = Update(v.opsSum, b[:n])
	v.opsLeft -= n
	return int(n), v.finished()
}

func (v *Verifier) header() error {
	if !v.begun {
		h, err := decodeSegmentHeader(v.head)
		if err != nil {
			return v.damaged(err.Error())
		}
		if h.number != v.number || h.store != v.store {
			return v.damaged("it is another segment's header")
		}
		v.seed, v.begun = Checksum(v.head), true
		return nil
	}
	h, err := decodeRecordHeader(v.head, v.seed)
	if err != nil {
		return v.damaged("no valid record")
	}
	if v.anywhere && h.seq != v.seq+1 {
		return v.damaged("a record is missing")
	}
	v.h, v.seq, v.anywhere = h, h.seq, true
	v.inRecord, v.blobLeft, v.opsLeft, v.blobSum, v.opsSum = true, h.blobLen, int64(h.opsLen), 0, 0
	return v.finished()
}

// finished compares the checksums when the record is over.
func (v *Verifier) finished() error {
	if v.blobLeft > 0 || v.opsLeft > 0 {
		return nil
	}
	if v.inRecord = false; v.blobSum != v.h.blobSum || v.opsSum != v.h.opsSum {
		return v.damaged("a checksum is wrong")
	}
	return nil
}

// Close says whether the segment was whole.
func (v *Verifier) Close() error {
	if !v.begun || v.inRecord || len(v.head) > 0 {
		return v.damaged("it ends too early")
	}
	return nil
}
