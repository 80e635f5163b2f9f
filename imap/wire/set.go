package wire

import (
	"slices"
	"strings"

	"github.com/emersion/go-imap/v2"
)

// Set is a sequence-set as the client wrote it: ranges, never expanded. "*" is 0.
type Set []imap.SeqRange

// Range is a closed range of sequence numbers or UIDs.
type Range struct{ First, Last uint32 }

// Set takes a sequence-set (RFC 3501: sequence-set) of what the command is about: UIDs if UID is set. "$" stands
// for what Saved gives (RFC 5182).
func (p *Parser) Set() Set { return p.setOf(p.UID) }

func (p *Parser) setOf(uid bool) Set {
	if p.Saved != nil && p.Take('$') {
		return p.Saved(uid)
	}
	return p.plainSet()
}

// plainSet is a set of numbers.
func (p *Parser) plainSet() Set {
	var s Set
	for p.element() {
		r := imap.SeqRange{Start: p.seqNumber()}
		r.Stop = r.Start
		if p.Take(':') {
			r.Stop = p.seqNumber()
		}
		s = append(s, r)
		if !p.Take(',') {
			break
		}
	}
	return s
}

func (p *Parser) seqNumber() uint32 {
	if p.Take('*') {
		return 0
	}
	return p.NonZero()
}

// Resolve gives "*" its value and returns the ranges ascending, merged and none
// empty. With star 0 (an empty mailbox) a range with "*" is left out.
func (s Set) Resolve(star uint32) []Range {
	out := make([]Range, 0, len(s))
	for _, r := range s {
		lo, hi := r.Start, r.Stop
		if lo == 0 {
			lo = star
		}
		if hi == 0 {
			hi = star
		}
		if lo > hi {
			lo, hi = hi, lo
		}
		if lo == 0 {
			continue
		}
		out = append(out, Range{lo, hi})
	}
	slices.SortFunc(out, func(a, b Range) int {
		switch {
		case a.First < b.First:
			return -1
		case a.First > b.First:
			return 1
		}
		return 0
	})
	merged := out[:0]
	for _, r := range out {
		if n := len(merged); n > 0 && (merged[n-1].Last+1 == 0 || r.First <= merged[n-1].Last+1) {
			merged[n-1].Last = max(merged[n-1].Last, r.Last)
			continue
		}
		merged = append(merged, r)
	}
	return merged
}

// AppendNums appends numbers in the order given as a sequence-set, runs that ascend by one
// as ranges. So the two sets of COPYUID correspond (RFC 4315, section 3).
func AppendNums(dst []byte, nums []uint32) []byte {
	for i := 0; i < len(nums); {
		j := i
		for j+1 < len(nums) && nums[j+1] == nums[j]+1 {
			j++
		}
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = AppendNumber(dst, nums[i])
		if j > i {
			dst = AppendNumber(append(dst, ':'), nums[j])
		}
		i = j + 1
	}
	return dst
}

// String is the set as it would be written.
func (s Set) String() string {
	var b strings.Builder
	for i, r := range s {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(number(r.Start))
		if r.Stop != r.Start {
			b.WriteByte(':')
			b.WriteString(number(r.Stop))
		}
	}
	return b.String()
}

func number(n uint32) string {
	if n == 0 {
		return "*"
	}
	return string(AppendNumber(nil, n))
}
