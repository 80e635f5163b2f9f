package search

import "bytes"

// Find answers queries: for each the messages of the segment, by their place in Docs, that can have the needle; of an
// exact query those that have it. Messages that are Partial are in no set unless they are found, and candidates all the same.
func (s *Segment) Find(queries []Query) ([]Set, error) {
	var looks []*look
	for i := range queries {
		q := &queries[i]
		for _, p := range q.terms {
			looks = append(looks, &look{pattern: p, fields: q.Fields, found: newSet(len(s.docs))})
		}
	}
	for i := range s.blocks {
		if err := s.findIn(i, looks); err != nil {
			return nil, err
		}
	}
	sets := make([]Set, len(queries))
	for i := range queries {
		for k := range queries[i].terms {
			found := looks[0].found
			looks = looks[1:]
			if k == 0 {
				sets[i] = found
			} else {
				sets[i].and(found)
			}
		}
		if sets[i] == nil {
			sets[i] = newSet(len(s.docs))
		}
	}
	return sets, nil
}

// look is the search for one pattern.
type look struct {
	pattern
	fields Fields
	found  Set
	hits   []int // in the block at hand
}

// mayHave says whether block i of the segment can have terms that a look wants.
func (s *Segment) mayHave(i int, l *look) bool {
	if !l.begins {
		return true
	}
	if i+1 < len(s.blocks) && bytes.Compare(s.blocks[i+1].first, l.from) <= 0 && !bytes.HasPrefix(s.blocks[i+1].first, l.from) {
		return false
	}
	return bytes.Compare(s.blocks[i].first, l.from) <= 0 || bytes.HasPrefix(s.blocks[i].first, l.from)
}

func (s *Segment) findIn(i int, looks []*look) error {
	t := &s.blocks[i]
	opened, any := false, false
	for _, l := range looks {
		l.hits = l.hits[:0]
		if !s.mayHave(i, l) {
			continue
		}
		if !opened {
			if err := s.open(t); err != nil {
				return err
			}
			opened = true
		}
		l.hits = s.dict.search(l.hits, l.octets)
		any = any || len(l.hits) > 0
	}
	if !any {
		return nil
	}
	if err := s.dict.need(t, len(s.docs)); err != nil {
		return err
	}
	for _, l := range looks {
		for _, n := range l.hits {
			e := s.dict.entries[n]
			at := e.at
			for f := range Field(fields) {
				if !e.mask.Has(f) {
					continue
				}
				if l.fields.Has(f) {
					if err := s.collect(l.found, t, s.dict.values[at]); err != nil {
						return err
					}
				}
				at++
			}
		}
	}
	return nil
}

// search appends the places of the terms that fit a pattern.
func (d *dictionary) search(hits []int, octets []byte) []int {
	n, counted, at := -1, 0, 0
	for {
		i := bytes.Index(d.terms[at:], octets)
		if i < 0 {
			return hits
		}
		at += i
		begin := at
		if octets[0] == end {
			begin++
		}
		n += bytes.Count(d.terms[counted:begin], []byte{end})
		counted = begin
		hits = append(hits, n)
		at = begin + bytes.IndexByte(d.terms[begin:], end) // it may begin the next term
	}
}
