package message

import (
	"bytes"
	"strings"
)

// Parse makes the index of the message b, whose lines end in CRLF (LF alone is
// tolerated). It never fails; see Index.Defects. Time is linear in len(b).
func Parse(b []byte, lim Limits) *Index {
	p := parser{b: b, lim: lim.withDefaults(), x: &Index{Size: int64(len(b))}, budget: maxStrings}
	p.begin(0, true, false)
	pos := int(p.open[len(p.open)-1].part.BodyStart)
	for {
		d, ok := p.bounds.find(b, pos)
		if !ok {
			p.closeTo(-1, len(b), len(b))
			break
		}
		p.closeTo(d.level, d.start-eolBefore(b, d.start), d.start)
		pos = d.next
		f := &p.open[d.level]
		if d.closing {
			p.bounds.pop(f.boundary, f.hidden)
			f.active = false
			continue
		}
		p.begin(d.next, false, f.part.Subtype == "digest")
		pos = int(p.open[len(p.open)-1].part.BodyStart)
	}
	if p.bounds.bare {
		p.x.Defects |= BareLF
	}
	return p.x
}

// maxStrings bounds the bytes of header values that an Index keeps.
const maxStrings = 2 << 20

// parser is the state of one run of Parse.
type parser struct {
	b      []byte
	lim    Limits
	x      *Index
	open   []frame // the parts whose end is not known yet, from the root inwards
	bounds boundaries
	parts  int
	budget int // bytes of values that may still be kept

	counted int   // b[:counted] holds
	lines   int64 // so many line feeds
}

// frame is an open part.
type frame struct {
	part       *Part
	firstLine  int64  // line feeds before the body
	boundary   string // of a multipart
	hidden     int    // the outer level with the same boundary
	active     bool   // boundary is looked for
	structured bool   // a multipart that may have parts
}

// begin reads the header at start and opens the part, and the message within it if it
// is one.
func (p *parser) begin(start int, isMessage, inDigest bool) {
	for {
		part := &Part{HeaderStart: int64(start)}
		p.parts++
		level := len(p.open)
		if level == 0 {
			p.x.Root = part
		} else {
			parent := p.open[level-1].part
			parent.Children = append(parent.Children, part)
		}
		block := scanBlock(p.b, start, &p.bounds)
		p.readHeader(part, p.b[start:block.end], isMessage, inDigest)
		if !block.blank {
			p.x.Defects |= NoBlankLine
		}
		part.BodyStart = int64(block.end)
		p.open = append(p.open, frame{part: part, firstLine: p.linesBefore(block.end)})
		if !p.descend(part, level, block) {
			return
		}
		start, isMessage, inDigest = block.end, true, false
	}
}

// descend prepares for what is inside part. It is true if a message begins with the body.
func (p *parser) descend(part *Part, level int, block block) bool {
	multipart, message := part.Type == "multipart", part.isMessage()
	var why Defect
	switch {
	case p.parts >= p.lim.Parts && (level > 0 || multipart || message):
		why = TooManyParts
		for i := range p.open {
			p.open[i].active = false
		}
		p.bounds.level = nil
		part.Opaque = true
	case !multipart && !message:
	case block.guess:
		why = NoBlankLine // what follows has been looked through already
	case level >= p.lim.Depth:
		why = TooDeep
	case message && !identity(part.Encoding):
		why = EncodedComposite
	}
	p.x.Defects |= why
	if why != 0 || !multipart && !message {
		if why != 0 {
			part.makeOpaque()
		}
		return false
	}
	if message {
		return true
	}
	if !identity(part.Encoding) {
		p.x.Defects |= EncodedComposite
	}
	boundary := strings.TrimRight(part.Param("boundary"), " \t")
	if boundary == "" || len(boundary) > maxBoundary {
		p.x.Defects |= NoBoundary
		part.makeOpaque()
		return false
	}
	f := &p.open[level]
	f.boundary, f.active, f.structured = boundary, true, true
	f.hidden = p.bounds.push(boundary, level)
	return false
}

// makeOpaque turns a composite into a leaf.
func (part *Part) makeOpaque() {
	part.Opaque = true
	switch {
	case part.Type == "multipart":
		part.Type, part.Subtype, part.Params = "text", "plain", nil
	case part.isMessage():
		part.Type, part.Subtype = "application", "octet-stream"
	}
}

func (part *Part) isMessage() bool {
	return part.Type == "message" && (part.Subtype == "rfc822" || part.Subtype == "global")
}

// identity says whether a body with this transfer encoding is as it stands.
func identity(encoding string) bool {
	return encoding == "7bit" || encoding == "8bit" || encoding == "binary"
}

// closeTo ends all parts deeper than level. Their text ends at end, or at line, where
// the boundary line begins, if their header reaches so far.
func (p *parser) closeTo(level, end, line int) {
	for i := len(p.open) - 1; i > level; i-- {
		f := &p.open[i]
		part := f.part
		part.BodyEnd = max(part.BodyStart, int64(end))
		if n := len(part.Children); n > 0 {
			part.BodyEnd = max(part.BodyEnd, part.Children[n-1].BodyEnd)
		}
		part.Lines = p.linesBefore(line) - f.firstLine
		if int(part.BodyEnd) < line {
			part.Lines -= int64(bytes.Count(p.b[max(int(part.BodyEnd), int(part.BodyStart)):line], []byte{'\n'}))
		}
		if f.active {
			p.bounds.pop(f.boundary, f.hidden)
			if len(part.Children) > 0 {
				p.x.Defects |= Unclosed
			}
		}
		if f.structured && len(part.Children) == 0 {
			p.x.Defects |= NoParts
			part.makeOpaque()
		}
	}
	p.open = p.open[:level+1]
}

// linesBefore counts the line feeds in b[:off]; off must not become smaller.
func (p *parser) linesBefore(off int) int64 {
	if off > p.counted {
		p.lines += int64(bytes.Count(p.b[p.counted:off], []byte{'\n'}))
		p.counted = off
	}
	return p.lines
}

// eolBefore is the length of the line end before pos.
func eolBefore(b []byte, pos int) int {
	switch {
	case pos >= 2 && b[pos-2] == '\r' && b[pos-1] == '\n':
		return 2
	case pos >= 1 && b[pos-1] == '\n':
		return 1
	}
	return 0
}
