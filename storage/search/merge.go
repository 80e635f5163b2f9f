package search

import (
	"bytes"
	"crypto/cipher"
	"io"
	"slices"
)

// Merge writes to w, from a place in the file on, a segment of those messages of others that keep wants, and returns the length
// of the file and how many messages there are: at most MaxDocs, which the caller sees to. pause is called again and
// again; an error of it ends the work. Of a message that is in several segments that of the first is taken.
func Merge(w io.Writer, offset int64, aead cipher.AEAD, bound []byte, from []*Segment, keep func(id uint64) bool, pause func() error) (length int64, n int, err error) {
	docs, maps := mergeDocs(from, keep)
	cursors := make([]*cursor, 0, len(from))
	for i, s := range from {
		cursors = append(cursors, &cursor{s: s, block: -1, numbers: maps[i]})
	}
	out := newWriter(w, offset, len(docs), sealer{aead, bound})
	var lists [fields][]uint32
	var term []byte
	for step := 0; ; step++ {
		least := (*cursor)(nil)
		for _, c := range cursors {
			if err := c.load(); err != nil {
				return 0, 0, err
			}
			if c.term != nil && (least == nil || bytes.Compare(c.term, least.term) < 0) {
				least = c
			}
		}
		if least == nil || out.err != nil {
			break
		}
		term = append(term[:0], least.term...)
		for f := range lists {
			lists[f] = lists[f][:0]
		}
		for _, c := range cursors {
			if bytes.Equal(c.term, term) {
				if err := c.take(&lists); err != nil {
					return 0, 0, err
				}
			}
		}
		some := false
		for f := range lists {
			if !slices.IsSorted(lists[f]) {
				slices.Sort(lists[f])
			}
			some = some || len(lists[f]) > 0
		}
		if some {
			out.term(term, &lists)
		}
		if step%256 == 0 {
			if err := pause(); err != nil {
				return 0, 0, err
			}
		}
	}
	length, err = out.finish(offset, docs)
	return length, len(docs), err
}

// gone marks a message that is not taken over.
const gone = ^uint32(0)

// mergeDocs is the messages that stay, by ID, and for each segment their new numbers.
func mergeDocs(from []*Segment, keep func(id uint64) bool) (docs []Doc, maps [][]uint32) {
	maps = make([][]uint32, len(from))
	at := make([]int, len(from))
	for i, s := range from {
		maps[i] = make([]uint32, len(s.docs))
	}
	for {
		least := -1
		for i, s := range from {
			if at[i] < len(s.docs) && (least < 0 || s.docs[at[i]].ID < from[least].docs[at[least]].ID) {
				least = i
			}
		}
		if least < 0 {
			return docs, maps
		}
		d := from[least].docs[at[least]]
		if n := len(docs); n > 0 && docs[n-1].ID == d.ID || !keep(d.ID) {
			maps[least][at[least]] = gone
		} else {
			maps[least][at[least]] = uint32(n)
			docs = append(docs, d)
		}
		at[least]++
	}
}

// cursor goes through the terms of a segment.
type cursor struct {
	s       *Segment
	numbers []uint32 // new ones
	block   int
	term    []byte // at hand; nil: the next must be found, or there is none
	n       int    // its place in the block
	at      int    // where it ends in the block
	ended   bool
	set     Set
	list    []uint32
}

// load finds the term at hand.
func (c *cursor) load() error {
	if c.term != nil || c.ended {
		return nil
	}
	d := &c.s.dict
	if c.block < 0 || c.n+1 >= d.count {
		if c.block++; c.block == len(c.s.blocks) {
			c.ended = true
			return nil
		}
		t := &c.s.blocks[c.block]
		if err := c.s.open(t); err != nil {
			return err
		}
		if err := d.need(t, len(c.s.docs)); err != nil {
			return err
		}
		c.n, c.at = -1, 0
	}
	c.n++
	begin := c.at + 1
	c.at = begin + bytes.IndexByte(d.terms[begin:], end)
	c.term = d.terms[begin:c.at]
	return nil
}

// take adds the messages of the term at hand, and passes it.
func (c *cursor) take(lists *[fields][]uint32) error {
	e := c.s.dict.entries[c.n]
	at := e.at
	for f := range Field(fields) {
		if !e.mask.Has(f) {
			continue
		}
		if err := c.read(c.s.dict.values[at]); err != nil {
			return err
		}
		for _, n := range c.list {
			if n = c.numbers[n]; n != gone {
				lists[f] = append(lists[f], n)
			}
		}
		at++
	}
	c.term = nil
	return nil
}

// read puts the documents of a value into list.
func (c *cursor) read(v value) error {
	c.list = c.list[:0]
	if v.length == 0 {
		c.list = append(c.list, v.doc)
		return nil
	}
	t := &c.s.blocks[c.block]
	b, err := c.s.readPostings(t, v.offset, int(v.length))
	if err != nil {
		return err
	}
	if b[0] == asGaps {
		return gaps(b[1:], len(c.s.docs), func(n uint32) { c.list = append(c.list, n) })
	}
	if c.set == nil {
		c.set = newSet(len(c.s.docs))
	}
	clear(c.set)
	if err := c.set.addPostings(b, len(c.s.docs)); err != nil {
		return err
	}
	c.list = c.set.appendNumbers(c.list)
	return nil
}

// Verify opens every block of the segment.
func (s *Segment) Verify() error {
	c := &cursor{s: s, block: -1}
	for {
		if err := c.load(); err != nil || c.ended {
			return err
		}
		e, d := s.dict.entries[c.n], &s.dict
		last := len(d.values)
		if c.n+1 < len(d.entries) {
			last = int(d.entries[c.n+1].at)
		}
		for _, v := range d.values[e.at:last] {
			if err := c.read(v); err != nil {
				return err
			}
		}
		c.term = nil
	}
}
