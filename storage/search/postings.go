package search

import (
	"encoding/binary"
	"errors"
	"math/bits"
)

var errDamaged = errors.New("a segment of the search index is damaged")

// Set is a set of documents of a segment, by number.
type Set []uint64

func newSet(docs int) Set { return make(Set, (docs+63)/64) }

// Has says whether document n is in the set.
func (s Set) Has(n int) bool { return s[n>>6]>>(n&63)&1 != 0 }

func (s Set) add(n uint32) { s[n>>6] |= 1 << (n & 63) }

func (s Set) and(o Set) {
	for i := range s {
		s[i] &= o[i]
	}
}

// Len is how many documents are in the set.
func (s Set) Len() int {
	n := 0
	for _, w := range s {
		n += bits.OnesCount64(w)
	}
	return n
}

// The ways in which the documents of a term are written. The shortest is taken, of two the first.
const (
	asGaps   = 0 // of each document how many before it have not the term
	asBits   = 1
	asOthers = 2 // gaps of those that have not the term
)

// appendPostings writes ascending numbers below docs.
func appendPostings(b []byte, list []uint32, docs int) []byte {
	gaps, bitmap, others := 0, (docs+7)/8, 0
	at := uint32(0)
	for _, n := range list {
		gaps += uvarintLen(n - at)
		at = n + 1
	}
	if 2*len(list) > docs {
		eachMissing(list, docs, func(gap uint32) { others += uvarintLen(gap) })
	} else {
		others = gaps + 1
	}
	switch least := min(gaps, bitmap, others); least {
	case gaps:
		b = append(b, asGaps)
		at = 0
		for _, n := range list {
			b = binary.AppendUvarint(b, uint64(n-at))
			at = n + 1
		}
	case bitmap:
		b = append(b, asBits)
		begin := len(b)
		b = append(b, make([]byte, bitmap)...)
		for _, n := range list {
			b[begin+int(n>>3)] |= 1 << (n & 7)
		}
	default:
		b = append(b, asOthers)
		eachMissing(list, docs, func(gap uint32) { b = binary.AppendUvarint(b, uint64(gap)) })
	}
	return b
}

// eachMissing calls f for each number below docs that is not in list, with its gap.
func eachMissing(list []uint32, docs int, f func(gap uint32)) {
	missing, last := uint32(0), uint32(0)
	for _, n := range list {
		for ; missing < n; missing++ {
			f(missing - last)
			last = missing + 1
		}
		missing = n + 1
	}
	for ; missing < uint32(docs); missing++ {
		f(missing - last)
		last = missing + 1
	}
}

func uvarintLen(n uint32) int { return (bits.Len32(n|1) + 6) / 7 }

// addPostings adds to the set what appendPostings wrote.
func (s Set) addPostings(b []byte, docs int) error {
	if len(b) == 0 {
		return errDamaged
	}
	switch kind, b := b[0], b[1:]; kind {
	case asGaps:
		return gaps(b, docs, s.add)
	case asBits:
		if len(b) != (docs+7)/8 || docs&7 != 0 && b[len(b)-1]>>(docs&7) != 0 {
			return errDamaged
		}
		for i := 0; i < len(b); i += 8 {
			if len(b)-i >= 8 {
				s[i>>3] |= binary.LittleEndian.Uint64(b[i:])
				continue
			}
			for j, c := range b[i:] {
				s[i>>3] |= uint64(c) << (8 * j)
			}
		}
	case asOthers:
		at := uint32(0)
		err := gaps(b, docs, func(n uint32) {
			for ; at < n; at++ {
				s.add(at)
			}
			at = n + 1
		})
		for ; at < uint32(docs); at++ {
			s.add(at)
		}
		return err
	default:
		return errDamaged
	}
	return nil
}

func gaps(b []byte, docs int, f func(n uint32)) error {
	at := uint64(0)
	for len(b) > 0 {
		gap, n := binary.Uvarint(b)
		if n <= 0 || gap >= uint64(docs) || at+gap >= uint64(docs) {
			return errDamaged
		}
		b = b[n:]
		at += gap
		f(uint32(at))
		at++
	}
	return nil
}

// appendNumbers appends the numbers of the set, ascending.
func (s Set) appendNumbers(list []uint32) []uint32 {
	for i, w := range s {
		for ; w != 0; w &= w - 1 {
			list = append(list, uint32(i<<6+bits.TrailingZeros64(w)))
		}
	}
	return list
}

// Damaged says whether an error means that a segment is.
func Damaged(err error) bool { return errors.Is(err, errDamaged) }
