package message

import "bytes"

// maxBoundary is the longest boundary that is used; RFC 2046 allows 70.
const maxBoundary = 998

// boundaries are those of the open multiparts, found by their text, so that looking
// at a line costs the same however many are open.
type boundaries struct {
	level map[string]int // text to the innermost frame with it
	bare  bool           // a boundary line ended in LF alone
}

// delimiter is a boundary line.
type delimiter struct {
	level       int // the frame it belongs to
	closing     bool
	start, next int // the line, and what follows it
}

// match looks at the line b[start:next], which begins with "--". A boundary must be the
// whole line but for white space at its end: RFC 2046, section 5.1.1, lets it be a
// prefix, which would let one boundary be mistaken for another.
func (s *boundaries) match(b []byte, start, next int) (delimiter, bool) {
	if len(s.level) == 0 {
		return delimiter{}, false
	}
	text := bytes.TrimRight(b[start+2:next], " \t\r\n")
	if len(text) == 0 || len(text) > maxBoundary+2 {
		return delimiter{}, false
	}
	d := delimiter{level: -1, start: start, next: next}
	if level, ok := s.level[string(text)]; ok {
		d.level = level
	}
	if inner, ok := bytes.CutSuffix(text, []byte("--")); ok {
		if level, ok := s.level[string(inner)]; ok && level > d.level {
			d.level, d.closing = level, true
		}
	}
	return d, d.level >= 0
}

// at says whether a boundary line begins at pos.
func (s *boundaries) at(b []byte, pos, next int) bool {
	if next-pos < 3 || b[pos] != '-' || b[pos+1] != '-' {
		return false
	}
	_, ok := s.match(b, pos, next)
	return ok
}

// find is the first boundary line in b at or after pos, which begins a line.
func (s *boundaries) find(b []byte, pos int) (delimiter, bool) {
	if len(s.level) == 0 {
		return delimiter{}, false
	}
	for {
		if bytes.HasPrefix(b[pos:], []byte("--")) {
			next := lineEnd(b, pos)
			if d, ok := s.match(b, pos, next); ok {
				if next > pos && b[next-1] == '\n' && b[next-2] != '\r' {
					s.bare = true
				}
				return d, true
			}
		}
		i := bytes.Index(b[pos:], []byte("\n--"))
		if i < 0 {
			return delimiter{}, false
		}
		pos += i + 1
	}
}

// push makes text the boundary of a level, and returns the level that it hides, or -1.
func (s *boundaries) push(text string, level int) (hidden int) {
	if s.level == nil {
		s.level = make(map[string]int, 4)
	}
	hidden = -1
	if h, ok := s.level[text]; ok {
		hidden = h
	}
	s.level[text] = level
	return hidden
}

// pop undoes push.
func (s *boundaries) pop(text string, hidden int) {
	if hidden < 0 {
		delete(s.level, text)
		return
	}
	s.level[text] = hidden
}
