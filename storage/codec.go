package storage

import (
	"encoding/binary"
	"errors"

	"cmmpd/internal/mail"
)

var errRecord = mail.E(mail.Corrupt, "the mail store is damaged", errors.New("a record of the index cannot be read"))

// decoder reads a record. After a fault everything reads as zero, and end reports it.
type decoder struct {
	b   []byte
	bad bool
}

func (d *decoder) uint() uint64 {
	if len(d.b) > 0 && d.b[0] < 0x80 {
		v := d.b[0]
		d.b = d.b[1:]
		return uint64(v)
	}
	v, n := binary.Uvarint(d.b)
	if n <= 0 || n > 1 && d.b[n-1] == 0 { // not the shortest form
		d.fail()
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *decoder) uint32() uint32 {
	v := d.uint()
	if v > 1<<32-1 {
		d.fail()
		return 0
	}
	return uint32(v)
}

// int is a signed number, zigzag.
func (d *decoder) int() int64 {
	v := d.uint()
	return int64(v>>1) ^ -int64(v&1)
}

// size is a length or count in memory: never more than what is left, as each thing counted takes an octet at least.
func (d *decoder) size() int {
	v := d.uint()
	if v > uint64(len(d.b)) {
		d.fail()
		return 0
	}
	return int(v)
}

// bytes is a string with its length before it. It aliases the record.
func (d *decoder) bytes() []byte { return d.take(d.size()) }

func (d *decoder) take(n int) []byte {
	if n > len(d.b) {
		d.fail()
		return nil
	}
	v := d.b[:n:n]
	d.b = d.b[n:]
	return v
}

func (d *decoder) byte() byte {
	if v := d.take(1); v != nil {
		return v[0]
	}
	return 0
}

func (d *decoder) fail() { d.b, d.bad = nil, true }

// end is nil if all was read and nothing was wrong.
func (d *decoder) end() error {
	if d.bad || len(d.b) > 0 {
		return errRecord
	}
	return nil
}

func appendUint(b []byte, v uint64) []byte { return binary.AppendUvarint(b, v) }
func appendInt(b []byte, v int64) []byte   { return binary.AppendUvarint(b, uint64(v<<1)^uint64(v>>63)) }
func appendBytes(b, v []byte) []byte       { return append(appendUint(b, uint64(len(v))), v...) }
