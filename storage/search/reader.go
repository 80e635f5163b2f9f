package search

import (
	"bytes"
	"crypto/cipher"
	"encoding/binary"
	"fmt"
	"io"
)

// Segment is a segment opened for reading. It belongs to one goroutine. Its errors say that it is damaged, or come from the
// reader.
type Segment struct {
	sealer
	r      io.ReaderAt
	blocks []termBlock
	docs   []Doc

	buf   []byte // of the terms at hand
	chunk []byte // of the postings at hand
	at    int64  // where that is in the file; -1: nowhere
	dict  dictionary
	post  []byte
}

// termBlock says where a block of terms is, and the postings of its terms.
type termBlock struct {
	postings int64 // where they begin in the file
	length   int64 // octets of them
	terms    int64 // where the block begins
	size     int
	first    []byte // the first term
}

// sealedSize is how long length octets of postings are in the file.
func sealedSize(length int64) int64 {
	return length + (length+blockSize-1)/blockSize*tagSize
}

// Open opens the segment in r, which has size octets, of which the first begin are not its own.
func Open(r io.ReaderAt, begin, size int64, aead cipher.AEAD, bound []byte) (*Segment, error) {
	s := &Segment{sealer: sealer{aead, bound}, r: r, at: -1}
	at := size - footerSize - tagSize
	if at < begin {
		return nil, errDamaged
	}
	footer, err := s.read(nil, at, footerSize)
	if err != nil {
		return nil, err
	}
	f := decodeFooter(footer)
	if string(footer[:8]) != magic || f.begin != begin || f.table < begin || f.list != f.table+int64(f.tableLen)+tagSize ||
		at != f.list+int64(f.listLen)+tagSize || f.tableLen > maxTable || f.listLen > maxTable {
		return nil, errDamaged
	}
	table, err := s.read(nil, f.table, int(f.tableLen))
	if err != nil {
		return nil, err
	}
	if s.blocks, err = decodeBlocks(table, int(f.blocks), begin, f.table); err != nil {
		return nil, err
	}
	list, err := s.read(nil, f.list, int(f.listLen))
	if err != nil {
		return nil, err
	}
	s.docs, err = decodeDocs(list, int(f.docs))
	return s, err
}

type footer struct {
	begin, table, list              int64
	tableLen, blocks, listLen, docs uint32
}

func decodeFooter(b []byte) footer {
	u64 := func(at int) int64 { return int64(binary.BigEndian.Uint64(b[at:]) &^ (1 << 63)) }
	u32 := func(at int) uint32 { return binary.BigEndian.Uint32(b[at:]) }
	return footer{u64(8), u64(16), u64(24), u32(32), u32(36), u32(40), u32(44)}
}

// decodeBlocks reads the table of blocks, which lie between begin and end.
func decodeBlocks(b []byte, n int, begin, end int64) ([]termBlock, error) {
	if n > len(b)/3 {
		return nil, errDamaged
	}
	d := decoder{b}
	blocks := make([]termBlock, n)
	for i := range blocks {
		length, size, first := d.number(1<<40), d.number(2*blockSize), d.number(maxTerm)
		t := &blocks[i]
		t.postings, t.length, t.size = begin, int64(length), int(size)
		t.terms = begin + sealedSize(t.length)
		t.first = d.take(int(first))
		begin = t.terms + int64(size) + tagSize
		if d.b == nil || begin > end {
			return nil, errDamaged
		}
	}
	if begin != end || len(d.b) > 0 {
		return nil, errDamaged
	}
	return blocks, nil
}

// decoder reads numbers. After a fault b is nil.
type decoder struct{ b []byte }

func (d *decoder) number(most uint64) uint64 {
	v, n := binary.Uvarint(d.b)
	if n <= 0 || v > most {
		d.b = nil
		return 0
	}
	d.b = d.b[n:len(d.b):len(d.b)]
	return v
}

func (d *decoder) take(n int) []byte {
	if n > len(d.b) {
		d.b = nil
		return nil
	}
	v := d.b[:n:n]
	d.b = d.b[n:len(d.b):len(d.b)]
	return v
}

// read opens the block of n octets at a place of the file, into buf if that is large enough.
func (s *Segment) read(buf []byte, at int64, n int) ([]byte, error) {
	if cap(buf) < n+tagSize {
		buf = make([]byte, n+tagSize, max(n+tagSize, min(2*n, blockSize+tagSize)))
	}
	buf = buf[:n+tagSize]
	if k, err := s.r.ReadAt(buf, at); k < len(buf) {
		if err == nil || err == io.EOF {
			err = errDamaged
		}
		return nil, err
	}
	nonce := s.params(at)
	text, err := s.aead.Open(buf[:0], nonce[:], buf, s.bound)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errDamaged, err)
	}
	return text, nil
}

// Docs are the messages of the segment, by ascending ID. They must not be changed.
func (s *Segment) Docs() []Doc { return s.docs }

// open reads a block of terms.
func (s *Segment) open(t *termBlock) error {
	b, err := s.read(s.buf, t.terms, t.size)
	if err != nil {
		return err
	}
	s.buf = b
	s.dict.entries, s.dict.values = s.dict.entries[:0], s.dict.values[:0]
	return s.dict.decode(b)
}

// dictionary is a block of terms.
type dictionary struct {
	count   int
	terms   []byte // end, term, end, term ... end
	infos   []byte
	entries []entryInfo // once they were needed
	values  []value
}

// entryInfo says in which fields a term is, and where its values begin.
type entryInfo struct {
	mask Fields
	at   uint32
}

// value is the documents of a term in a field: a single one, or where its postings are.
type value struct {
	doc    uint32
	length uint32 // 0: doc is meant
	offset int64
}

func (d *dictionary) decode(b []byte) error {
	r := decoder{b}
	d.count = int(r.number(blockSize))
	d.terms = r.take(int(r.number(blockSize)))
	d.infos = r.b
	if d.count == 0 || r.b == nil || len(d.terms) < 2 || d.terms[0] != end || d.terms[len(d.terms)-1] != end || bytes.Count(d.terms, []byte{end}) != d.count+1 {
		return errDamaged
	}
	return nil
}

// need decodes what the block says about its terms.
func (d *dictionary) need(t *termBlock, docs int) error {
	if len(d.entries) > 0 {
		return nil
	}
	r := decoder{d.infos}
	offset := int64(0)
	for range d.count {
		m := r.take(1)
		if r.b == nil || m[0] == 0 {
			return errDamaged
		}
		e := entryInfo{mask: Fields(m[0]), at: uint32(len(d.values))}
		for f := range Field(fields) {
			if !e.mask.Has(f) {
				continue
			}
			v := r.number(1 << 33)
			switch {
			case r.b == nil || v&1 == 1 && v>>1 >= uint64(docs) || v&1 == 0 && (v < 2 || int64(v>>1) > t.length-offset):
				return errDamaged
			case v&1 == 1:
				d.values = append(d.values, value{doc: uint32(v >> 1)})
			default:
				d.values = append(d.values, value{length: uint32(v >> 1), offset: offset})
				offset += int64(v >> 1)
			}
		}
		d.entries = append(d.entries, e)
	}
	if len(r.b) > 0 || offset != t.length {
		return errDamaged
	}
	return nil
}

// readPostings reads the postings of a block from an offset on. They are good until the next call.
func (s *Segment) readPostings(t *termBlock, offset int64, n int) ([]byte, error) {
	if n > 2*blockSize {
		return nil, errDamaged
	}
	s.post = s.post[:0]
	for n > 0 {
		k := offset / blockSize
		at := t.postings + k*(blockSize+tagSize)
		if s.at != at {
			s.at = -1
			b, err := s.read(s.chunk, at, int(min(blockSize, t.length-k*blockSize)))
			if err != nil {
				return nil, err
			}
			s.chunk, s.at = b, at
		}
		in := int(offset % blockSize)
		part := s.chunk[in:min(in+n, len(s.chunk))]
		if n == len(part) && len(s.post) == 0 {
			return part, nil
		}
		s.post = append(s.post, part...)
		offset, n = offset+int64(len(part)), n-len(part)
	}
	return s.post, nil
}

// collect adds to a set the documents of a value.
func (s *Segment) collect(to Set, t *termBlock, v value) error {
	if v.length == 0 {
		to.add(v.doc)
		return nil
	}
	b, err := s.readPostings(t, v.offset, int(v.length))
	if err != nil {
		return err
	}
	return to.addPostings(b, len(s.docs))
}
