package wire

import "github.com/emersion/go-imap/v2"

// The grammar of CONDSTORE and QRESYNC (RFC 7162, section 7).

// ModSeq takes a mod-sequence: 63 bits, 0 too.
func (p *Parser) ModSeq() uint64 { return uint64(p.Number64()) }

// FetchModifiers are what may follow the items of a FETCH.
type FetchModifiers struct {
	Since    bool // CHANGEDSINCE was given
	ModSeq   uint64
	Vanished bool
}

// FetchModifiers takes them, in parentheses. VANISHED without CHANGEDSINCE is an error (section 3.2.6).
func (p *Parser) FetchModifiers() FetchModifiers {
	var m FetchModifiers
	p.List(func() {
		switch word := p.Word(); {
		case word == "CHANGEDSINCE" && !m.Since:
			p.SP()
			m.Since, m.ModSeq = true, p.ModSeq()
		case word == "VANISHED" && !m.Vanished:
			m.Vanished = true
		default:
			p.bad("Unknown modifier")
		}
	})
	if p.err == nil && !m.Since {
		p.bad("CHANGEDSINCE is missing")
	}
	return m
}

// UnchangedSince takes the modifier of STORE, in parentheses.
func (p *Parser) UnchangedSince() uint64 {
	p.Want('(')
	if p.Word() != "UNCHANGEDSINCE" {
		p.bad("Unknown modifier")
	}
	p.SP()
	n := p.ModSeq()
	p.Want(')')
	return n
}

// Resync is what a client knows of a mailbox that it opens again (section 3.2.5).
type Resync struct {
	UIDValidity uint32
	ModSeq      uint64
	Known       Set // the UIDs that it has; nil: it does not say
}

// SelectParams are what may follow the mailbox of SELECT and EXAMINE.
type SelectParams struct {
	Condstore bool
	Resync    *Resync
}

// SelectParams takes them, in parentheses.
func (p *Parser) SelectParams() SelectParams {
	var s SelectParams
	p.List(func() {
		switch word := p.Word(); {
		case word == "CONDSTORE" && !s.Condstore:
			s.Condstore = true
		case word == "QRESYNC" && s.Resync == nil:
			p.SP()
			s.Resync = p.resync()
		default:
			p.bad("Unknown parameter")
		}
	})
	return s
}

// resync takes "(" uidvalidity SP modseq [SP known-uids] [SP "(" seqs SP uids ")"] ")". The pairs of sequence numbers and UIDs
// help a server that has forgotten what was expunged; ours does not forget, and they are only checked.
func (p *Parser) resync() *Resync {
	var r Resync
	p.Want('(')
	r.UIDValidity = p.NonZero()
	p.SP()
	r.ModSeq = p.ModSeq()
	if p.Take(' ') && p.Peek() != '(' {
		r.Known = p.knownSet()
		p.Take(' ')
	}
	if p.Take('(') {
		p.knownSet()
		p.SP()
		p.knownSet()
		p.Want(')')
	}
	p.Want(')')
	return &r
}

// knownSet is a set without "*".
func (p *Parser) knownSet() Set {
	s := p.plainSet()
	for _, r := range s {
		if r.Start == 0 || r.Stop == 0 {
			p.bad("A set with * in it")
		}
	}
	return s
}

// searchModSeq takes the arguments of the search key MODSEQ. The entry, if one is named, does not matter: a message has one
// mod-sequence for all its flags (section 3.1.5).
func (p *Parser) searchModSeq() SearchKey {
	if p.Peek() == '"' {
		p.quoted()
		p.SP()
		switch p.Word() {
		case "SHARED", "PRIV", "ALL":
		default:
			p.bad("Unknown type of an entry")
		}
		p.SP()
	}
	return SearchKey{Op: KeyModSeq, N: int64(p.ModSeq())}
}

// Uses says whether the key, or one in it, is of this kind.
func (k *SearchKey) Uses(op SearchOp) bool {
	if k.Op == op {
		return true
	}
	for i := range k.Keys {
		if k.Keys[i].Uses(op) {
			return true
		}
	}
	return false
}

// AppendRanges appends ranges as a sequence-set.
func AppendRanges(dst []byte, ranges []Range) []byte {
	for i, r := range ranges {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = AppendNumber(dst, r.First)
		if r.Last != r.First {
			dst = AppendNumber(append(dst, ':'), r.Last)
		}
	}
	return dst
}

// AddNum adds a number greater than all that are there.
func AddNum(ranges []Range, n uint32) []Range {
	if k := len(ranges); k > 0 && ranges[k-1].Last+1 == n {
		ranges[k-1].Last = n
		return ranges
	}
	return append(ranges, Range{n, n})
}

// RangesOf is a set of UIDs without "*", ascending and merged.
func RangesOf(set imap.UIDSet) []Range {
	s := make(Set, len(set))
	for i, r := range set {
		s[i] = imap.SeqRange{Start: uint32(r.Start), Stop: uint32(r.Stop)}
	}
	return s.Resolve(1<<32 - 1)
}
