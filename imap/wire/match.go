package wire

// Pattern is a LIST pattern made ready: "*" is anything, "%" anything but the
// separator "/" (RFC 3501, section 6.3.8). Matching takes time in proportion to the
// name, whatever the pattern: all ways to match are followed at once, a bit for each.
type Pattern struct {
	text  []byte
	plain bool
	mask  map[byte][]uint64 // where in text an octet stands
	wild  []uint64          // where * and % stand
	star  []uint64          // where * stands
	words int
}

// NewPattern compiles a pattern of UTF-8 text.
func NewPattern(s string) *Pattern {
	p := &Pattern{plain: true}
	for i := range len(s) {
		c := s[i]
		if n := len(p.text); n > 0 && wildcard(c) && wildcard(p.text[n-1]) {
			if c == '*' {
				p.text[n-1] = '*' // a run of wildcards means the strongest of them
			}
			continue
		}
		p.plain = p.plain && !wildcard(c)
		p.text = append(p.text, c)
	}
	if p.plain {
		return p
	}
	p.words = len(p.text)/64 + 1
	p.mask = map[byte][]uint64{}
	p.wild, p.star = make([]uint64, p.words), make([]uint64, p.words)
	for i, c := range p.text {
		switch {
		case wildcard(c):
			p.wild[i/64] |= 1 << (i % 64)
			if c == '*' {
				p.star[i/64] |= 1 << (i % 64)
			}
		default:
			if p.mask[c] == nil {
				p.mask[c] = make([]uint64, p.words)
			}
			p.mask[c][i/64] |= 1 << (i % 64)
		}
	}
	return p
}

func wildcard(c byte) bool { return c == '*' || c == '%' }

// Match says whether the whole name matches.
func (p *Pattern) Match(name string) bool {
	if p.plain {
		return name == string(p.text)
	}
	// Bit i of at: the name so far matches text[:i], and text[i] is next.
	at, next := make([]uint64, p.words), make([]uint64, p.words)
	at[0] = 1
	p.skipWild(at)
	for i := range len(name) {
		c := name[i]
		stay := p.wild
		if c == '/' {
			stay = p.star
		}
		mask := p.mask[c]
		var carry, any uint64
		for w := range at {
			var moved uint64
			if mask != nil {
				moved = at[w] & mask[w]
			}
			next[w] = moved<<1 | carry | at[w]&stay[w]
			carry = moved >> 63
			any |= next[w]
		}
		if any == 0 {
			return false
		}
		p.skipWild(next)
		at, next = next, at
	}
	n := len(p.text)
	return at[n/64]>>(n%64)&1 != 0
}

// skipWild lets a wildcard stand for nothing. No two stand together, so one step is enough.
func (p *Pattern) skipWild(at []uint64) {
	var carry uint64
	for w := range at {
		skip := at[w] & p.wild[w]
		at[w] |= skip<<1 | carry
		carry = skip >> 63
	}
}
