package blob

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"strconv"
	"strings"
)

// A segment file is a header of 64 octets and then records, each a header of 48 octets, the blob and the ops. All
// numbers are little-endian. docs/formats.md describes it octet by octet.
const (
	segmentMagic  = "CMMPDSEG"
	recordMagic   = 0x31724d43 // "CMr1"
	formatVersion = 1

	segmentHeaderSize = 64
	recordHeaderSize  = 48

	maxBlob = 1 << 40
)

// MaxOps is how many octets the ops of a record have at most: a longer one is not read again.
const MaxOps = 1 << 30

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Checksum is the CRC-32C that records use.
func Checksum(b []byte) uint32 { return crc32.Checksum(b, castagnoli) }

// Update continues a Checksum.
func Update(sum uint32, b []byte) uint32 { return crc32.Update(sum, castagnoli, b) }

// StoreID tells the files of one store from those of another.
type StoreID [16]byte

type segmentHeader struct {
	number uint32
	store  StoreID
}

func (h segmentHeader) encode() []byte {
	b := make([]byte, segmentHeaderSize)
	copy(b, segmentMagic)
	binary.LittleEndian.PutUint32(b[8:], formatVersion)
	binary.LittleEndian.PutUint32(b[12:], h.number)
	copy(b[16:], h.store[:])
	binary.LittleEndian.PutUint32(b[60:], Checksum(b[:60]))
	return b
}

// ErrNewer says that a segment is of a format that this program does not know.
var ErrNewer = errors.New("made by a newer version of this program")

func decodeSegmentHeader(b []byte) (segmentHeader, error) {
	var h segmentHeader
	if len(b) != segmentHeaderSize || string(b[:8]) != segmentMagic {
		return h, errors.New("not a segment")
	}
	if v := binary.LittleEndian.Uint32(b[8:]); v > formatVersion {
		return h, ErrNewer
	} else if v != formatVersion {
		return h, fmt.Errorf("segment version %d is unknown", v)
	}
	if Checksum(b[:60]) != binary.LittleEndian.Uint32(b[60:]) {
		return h, errors.New("segment header is damaged")
	}
	for _, c := range b[32:60] {
		if c != 0 {
			return h, errors.New("segment header has unknown content")
		}
	}
	h.number = binary.LittleEndian.Uint32(b[12:])
	copy(h.store[:], b[16:])
	return h, nil
}

type recordHeader struct {
	seq     uint64 // 1 for the first record of the store, then without gaps
	synced  int64  // the segment was flushed up to here when this was written
	blobLen int64
	opsLen  int
	blobSum uint32
	opsSum  uint32
}

func (h recordHeader) total() int64 { return recordHeaderSize + h.blobLen + int64(h.opsLen) }

// append writes the header as a record of the segment whose header has the checksum seed.
func (h recordHeader) append(b []byte, seed uint32) []byte {
	n := len(b)
	b = binary.LittleEndian.AppendUint32(b, recordMagic)
	b = binary.LittleEndian.AppendUint32(b, 0)
	b = binary.LittleEndian.AppendUint64(b, h.seq)
	b = binary.LittleEndian.AppendUint64(b, uint64(h.synced))
	b = binary.LittleEndian.AppendUint64(b, uint64(h.blobLen))
	b = binary.LittleEndian.AppendUint32(b, uint32(h.opsLen))
	b = binary.LittleEndian.AppendUint32(b, h.blobSum)
	b = binary.LittleEndian.AppendUint32(b, h.opsSum)
	return binary.LittleEndian.AppendUint32(b, Update(seed, b[n:]))
}

var errNoRecord = errors.New("no valid record")

func decodeRecordHeader(b []byte, seed uint32) (recordHeader, error) {
	var h recordHeader
	if len(b) != recordHeaderSize || binary.LittleEndian.Uint32(b) != recordMagic || binary.LittleEndian.Uint32(b[4:]) != 0 ||
		Update(seed, b[:44]) != binary.LittleEndian.Uint32(b[44:]) {
		return h, errNoRecord
	}
	synced, blobLen, opsLen := binary.LittleEndian.Uint64(b[16:]), binary.LittleEndian.Uint64(b[24:]), binary.LittleEndian.Uint32(b[32:])
	if synced > 1<<62 || blobLen > maxBlob || opsLen > MaxOps {
		return h, errNoRecord
	}
	h.seq = binary.LittleEndian.Uint64(b[8:])
	h.synced, h.blobLen, h.opsLen = int64(synced), int64(blobLen), int(opsLen)
	h.blobSum, h.opsSum = binary.LittleEndian.Uint32(b[36:]), binary.LittleEndian.Uint32(b[40:])
	return h, nil
}

const segmentSuffix = ".seg"

func segmentName(number uint32) string { return fmt.Sprintf("%08x%s", number, segmentSuffix) }

func parseSegmentName(name string) (uint32, bool) {
	hex, ok := strings.CutSuffix(name, segmentSuffix)
	if !ok || len(hex) != 8 {
		return 0, false
	}
	n, err := strconv.ParseUint(hex, 16, 32)
	return uint32(n), err == nil && segmentName(uint32(n)) == name
}
