package wire

import "strings"

// Command is one command as it was read: pieces of lines with the literals between
// them. Strings that a Parser takes from it are copies; literals are not, and belong
// to whoever takes them.
type Command struct {
	Tag  string // empty if there was no valid tag
	Name string // in upper case; empty if there was none

	text   []byte
	pieces []piece
	args   int // where in the first piece the arguments begin
}

// piece is a stretch of Command.text and the literal after it.
type piece struct {
	start, end int
	literal    []byte
	hasLiteral bool
	binary     bool
}

func (c *Command) reset() {
	clear(c.pieces)
	const keep = 8 << 10
	if cap(c.text) > keep {
		c.text = nil
	}
	*c = Command{text: c.text[:0], pieces: c.pieces[:0]}
}

// name sets Tag and Name from the beginning of the text.
func (c *Command) name() {
	tag, rest, _ := strings.Cut(string(c.text[:min(len(c.text), 128)]), " ")
	if tag == "" || len(tag) > 64 || strings.IndexFunc(tag, func(r rune) bool {
		return r >= 0x80 || r == '+' || !isAString(byte(r))
	}) >= 0 {
		return
	}
	c.Tag = tag
	n := 0
	for n < len(rest) && isAtom(rest[n]) {
		n++
	}
	c.Name = strings.ToUpper(rest[:n])
	c.args = len(tag) + 1 + n
}

// FirstLine is the beginning of the first line, up to 128 octets, for recognising
// other protocols.
func (c *Command) FirstLine() string { return string(c.text[:min(len(c.text), 128)]) }

// ArgumentsBefore says whether anything stands between the command's name and the literal that a gate
// is asked about.
func (c *Command) ArgumentsBefore() bool {
	if len(c.pieces) == 0 {
		return false
	}
	return len(c.pieces) > 1 || strings.TrimSpace(string(c.text[min(c.args, c.pieces[0].end):c.pieces[0].end])) != ""
}

// Parser returns a parser that stands after the command's name.
func (c *Command) Parser(lim Limits) *Parser {
	p := &Parser{c: c, lim: lim}
	if len(c.pieces) > 0 {
		p.pos = min(c.args, c.pieces[0].end)
	}
	return p
}
