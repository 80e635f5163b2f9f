// Package search is the search index of an account: segments, each of which knows for some messages which terms are in
// which fields of them. A segment answers which messages can hold a text, and often that they do. It is sealed block by
// block and never changes. The package knows of no store: who uses it gives it the messages, the key and the file.
//
// What is compared is folded text (Folder), and one function, in Source, yields the texts of a message, to the index and
// to those who look into a message: so both mean the same. The terms are the runs of that text (terms.go). A
// fragment of one word is in a text just if it is in one of its words, so a look through the dictionary for words that
// contain it is exact; of other needles the messages found are candidates. docs/formats.md has the bytes.
package search

import (
	"crypto/cipher"
	"encoding/binary"
	"io"
)

// Doc is a message in a segment.
type Doc struct {
	ID        uint64
	Partial   bool // the index does not hold all of its text: it is a candidate for everything
	Encrypted bool // see Encrypted
}

// Limits on a segment: MaxDocs is how many messages one may hold.
const (
	MaxDocs = 1 << 16

	blockSize  = 64 << 10 // of text of a block of terms or postings
	tagSize    = 16
	footerSize = 56
	maxTable   = 4 << 20 // of the tables of documents and blocks
)

const magic = "CMMPDSIX"

// sealer seals the blocks of a segment, which follow each other. No nonce is used twice: it is the place in the file.
type sealer struct {
	aead  cipher.AEAD
	bound []byte // what a block is bound to besides its place
}

func (s *sealer) params(offset int64) (nonce [12]byte) {
	binary.BigEndian.PutUint64(nonce[4:], uint64(offset))
	return nonce
}

// writer writes a segment: terms in ascending order, then finish.
type writer struct {
	sealer
	w      io.Writer
	offset int64 // in the file
	docs   int
	err    error

	postings []byte // of the block at hand, not written yet
	written  int64  // octets of them that are
	terms    []byte // each with end before it
	infos    []byte
	count    int
	first    []byte
	blocks   []byte // the table of blocks
	blockNum int
	scratch  []byte
	sealed   []byte
}

// newWriter writes to w from a place in the file on.
func newWriter(w io.Writer, offset int64, docs int, s sealer) *writer {
	return &writer{sealer: s, w: w, offset: offset, docs: docs}
}

// block seals and writes a block.
func (w *writer) block(text []byte) {
	if w.err != nil {
		return
	}
	nonce := w.params(w.offset)
	w.sealed = w.aead.Seal(w.sealed[:0], nonce[:], text, w.bound)
	n, err := w.w.Write(w.sealed)
	w.offset += int64(n)
	w.err = err
}

// term writes a term with the documents, ascending, that have it in each of the fields; a field may be empty.
func (w *writer) term(term []byte, lists *[fields][]uint32) {
	info := w.scratch[:0]
	var mask Fields
	for f := range Field(fields) {
		if len(lists[f]) > 0 {
			mask |= f.Set()
		}
	}
	info = append(info, byte(mask))
	before := len(w.postings)
	for _, list := range lists {
		switch len(list) {
		case 0:
		case 1:
			info = binary.AppendUvarint(info, uint64(list[0])<<1|1)
		default:
			n := len(w.postings)
			w.postings = appendPostings(w.postings, list, w.docs)
			info = binary.AppendUvarint(info, uint64(len(w.postings)-n)<<1)
		}
	}
	w.scratch = info
	if w.count > 0 && len(w.terms)+len(w.infos)+len(term)+len(info)+16 > blockSize {
		w.endBlock(before)
	}
	if w.count == 0 {
		w.first = append(w.first[:0], term...)
	}
	w.terms = append(append(w.terms, end), term...)
	w.infos = append(w.infos, info...)
	w.count++
	for len(w.postings) >= blockSize {
		w.block(w.postings[:blockSize])
		w.written += blockSize
		w.postings = w.postings[:copy(w.postings, w.postings[blockSize:])]
	}
}

// endBlock writes the terms at hand, whose postings are the first of those at hand. The rest are of the next block.
func (w *writer) endBlock(first int) {
	if w.count == 0 {
		return
	}
	if first > 0 {
		w.block(w.postings[:first])
		w.written += int64(first)
		w.postings = w.postings[:copy(w.postings, w.postings[first:])]
	}
	w.terms = append(w.terms, end)
	b := binary.AppendUvarint(nil, uint64(w.count))
	b = binary.AppendUvarint(b, uint64(len(w.terms)))
	b = append(append(b, w.terms...), w.infos...)
	w.block(b)
	w.blocks = binary.AppendUvarint(w.blocks, uint64(w.written))
	w.blocks = binary.AppendUvarint(w.blocks, uint64(len(b)))
	w.blocks = binary.AppendUvarint(w.blocks, uint64(len(w.first)))
	w.blocks = append(w.blocks, w.first...)
	w.blockNum++
	w.written = 0
	w.terms, w.infos, w.count = w.terms[:0], w.infos[:0], 0
}

// finish writes the tables and the footer, and returns the length of the file.
func (w *writer) finish(begin int64, docs []Doc) (int64, error) {
	w.endBlock(len(w.postings))
	table := w.offset
	w.block(w.blocks)
	list := w.offset
	encoded := encodeDocs(docs)
	w.block(encoded)
	footer := make([]byte, footerSize)
	copy(footer, magic)
	binary.BigEndian.PutUint64(footer[8:], uint64(begin))
	binary.BigEndian.PutUint64(footer[16:], uint64(table))
	binary.BigEndian.PutUint64(footer[24:], uint64(list))
	binary.BigEndian.PutUint32(footer[32:], uint32(len(w.blocks)))
	binary.BigEndian.PutUint32(footer[36:], uint32(w.blockNum))
	binary.BigEndian.PutUint32(footer[40:], uint32(len(encoded)))
	binary.BigEndian.PutUint32(footer[44:], uint32(len(docs)))
	w.block(footer)
	return w.offset, w.err
}

// encodeDocs writes the documents, whose IDs ascend.
func encodeDocs(docs []Doc) []byte {
	b := make([]byte, 0, 3*len(docs))
	at := uint64(0)
	for _, d := range docs {
		b = binary.AppendUvarint(b, d.ID-at)
		flags := byte(0)
		if d.Partial {
			flags |= 1
		}
		if d.Encrypted {
			flags |= 2
		}
		b = append(b, flags)
		at = d.ID
	}
	return b
}

func decodeDocs(b []byte, n int) ([]Doc, error) {
	if n > MaxDocs || 2*n > len(b) {
		return nil, errDamaged
	}
	docs := make([]Doc, n)
	at := uint64(0)
	for i := range docs {
		gap, k := binary.Uvarint(b)
		if k <= 0 || gap == 0 || at+gap < at || k >= len(b) || b[k] > 3 {
			return nil, errDamaged
		}
		at += gap
		docs[i] = Doc{ID: at, Partial: b[k]&1 != 0, Encrypted: b[k]&2 != 0}
		b = b[k+1:]
	}
	if len(b) > 0 {
		return nil, errDamaged
	}
	return docs, nil
}
