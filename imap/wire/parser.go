package wire

import (
	"errors"
	"math"
	"strings"
	"unicode/utf8"
)

// Parser takes the arguments of one command apart. The first error sticks: after it
// every method returns a zero value, and Err and End return it. So a command is
// parsed first, to its end, and only then carried out.
type Parser struct {
	UTF8  bool               // mailbox names are in UTF-8
	UID   bool               // the command's sets are of UIDs
	Saved func(uid bool) Set // the result of the last search that was saved, as sequence numbers or UIDs; nil: there is none

	c     *Command
	lim   Limits
	i     int // piece
	pos   int // in c.text
	elems int
	depth int
	err   *Error
}

// Err is the first error, or nil.
func (p *Parser) Err() error { return result(p.err) }

// Fail makes e the error unless there is one already.
func (p *Parser) Fail(e *Error) {
	if p.err == nil {
		p.err = e
	}
}

func (p *Parser) bad(format string, args ...any) { p.Fail(bad(format, args...)) }

// Peek is the next octet of the line; 0 at a literal, at the end, and after an error.
func (p *Parser) Peek() byte {
	if p.err != nil || p.i >= len(p.c.pieces) || p.pos >= p.c.pieces[p.i].end {
		return 0
	}
	return p.c.text[p.pos]
}

// atLiteral says whether a literal comes next.
func (p *Parser) atLiteral() bool {
	return p.err == nil && p.i < len(p.c.pieces) && p.pos >= p.c.pieces[p.i].end && p.c.pieces[p.i].hasLiteral
}

// AtEnd says whether all arguments have been taken.
func (p *Parser) AtEnd() bool {
	return p.err == nil && (p.i >= len(p.c.pieces) || p.i == len(p.c.pieces)-1 && p.pos >= p.c.pieces[p.i].end && !p.c.pieces[p.i].hasLiteral)
}

// End wants the end of the command, and returns the parser's error.
func (p *Parser) End() error {
	if p.err == nil && !p.AtEnd() {
		p.bad("Too many arguments, or a malformed one")
	}
	return p.Err()
}

// Take consumes c if it comes next.
func (p *Parser) Take(c byte) bool {
	if c == 0 || p.Peek() != c {
		return false
	}
	p.pos++
	return true
}

// Want consumes c, which must come next.
func (p *Parser) Want(c byte) {
	if !p.Take(c) {
		p.bad("Missing or malformed argument")
	}
}

// SP consumes the space between two arguments.
func (p *Parser) SP() { p.Want(' ') }

// element counts something that costs memory.
func (p *Parser) element() bool {
	if p.elems++; p.elems > p.lim.Elements {
		p.Fail(&Error{Code: "LIMIT", Text: "Too many elements in one command"})
	}
	return p.err == nil
}

func (p *Parser) enter() bool {
	if p.depth++; p.depth > p.lim.Depth {
		p.Fail(&Error{Code: "LIMIT", Text: "Nested too deeply"})
	}
	return p.err == nil
}

func (p *Parser) leave() { p.depth-- }

// List takes "(" item *(SP item) ")", or "()".
func (p *Parser) List(item func()) {
	p.Want('(')
	if !p.enter() {
		return
	}
	defer p.leave()
	if p.Take(')') {
		return
	}
	for p.element() {
		item()
		if p.Take(')') {
			return
		}
		p.SP()
	}
}

func isAtom(c byte) bool {
	return c > 0x20 && c < 0x7f && strings.IndexByte(`(){%*"\]`, c) < 0
}

func isAString(c byte) bool { return isAtom(c) || c == ']' }

func (p *Parser) take(is func(byte) bool) string {
	start := p.pos
	for {
		c := p.Peek()
		if c == 0 || !is(c) {
			break
		}
		p.pos++
	}
	if p.pos == start {
		p.bad("Missing or malformed argument")
	}
	if p.err != nil {
		return ""
	}
	return string(p.c.text[start:p.pos])
}

// Atom takes an atom (RFC 3501: atom).
func (p *Parser) Atom() string { return p.take(isAtom) }

// Word takes an atom that names something in the protocol, in upper case.
func (p *Parser) Word() string { return strings.ToUpper(p.take(isAtom)) }

// AString takes an astring.
func (p *Parser) AString() string {
	if c := p.Peek(); c != 0 && c != '"' {
		return p.take(isAString)
	}
	return p.String()
}

// String takes a quoted string or a literal.
func (p *Parser) String() string {
	if p.atLiteral() {
		return string(p.Literal())
	}
	return p.quoted()
}

func (p *Parser) quoted() string {
	p.Want('"')
	var b []byte
	for {
		c := p.Peek()
		switch {
		case c == '"':
			p.pos++
			if !utf8.Valid(b) {
				p.bad("A quoted string is not in UTF-8")
				return ""
			}
			return string(b)
		case c == '\\':
			p.pos++
			if c = p.Peek(); c != '"' && c != '\\' {
				p.bad("Malformed quoted string")
				return ""
			}
		case c < 0x20 || c == 0x7f:
			p.bad("Malformed quoted string")
			return ""
		}
		b = append(b, c)
		p.pos++
	}
}

// NString takes a string or NIL; ok is false for NIL.
func (p *Parser) NString() (s string, ok bool) {
	if c := p.Peek(); c == 'N' || c == 'n' {
		if p.Word() != "NIL" {
			p.bad("Missing or malformed argument")
		}
		return "", false
	}
	return p.String(), p.err == nil
}

// Literal takes a literal. The octets are the caller's.
func (p *Parser) Literal() []byte {
	if p.atLiteral() && p.c.pieces[p.i].binary {
		p.bad("A binary literal is not allowed here")
		return nil
	}
	return p.Literal8()
}

// Literal8 takes a literal that may be a binary one (RFC 3516: literal8), with NUL in it.
func (p *Parser) Literal8() []byte {
	if !p.atLiteral() {
		p.bad("A literal is missing")
		return nil
	}
	b := p.c.pieces[p.i].literal
	p.i++
	if p.i < len(p.c.pieces) {
		p.pos = p.c.pieces[p.i].start
	}
	return b
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

// Number64 takes a number up to 2^63-1 (RFC 3501 has 2^32-1; RFC 7162 and 9051 need 63 bits).
func (p *Parser) Number64() int64 {
	s := p.take(isDigit)
	var n int64
	for i := range len(s) {
		d := int64(s[i] - '0')
		if n > (math.MaxInt64-d)/10 {
			p.bad("Number too large")
			return 0
		}
		n = n*10 + d
	}
	return n
}

// Number takes a number of 32 bits.
func (p *Parser) Number() uint32 {
	n := p.Number64()
	if n > math.MaxUint32 {
		p.bad("Number too large")
		return 0
	}
	return uint32(n)
}

// NonZero takes an nz-number.
func (p *Parser) NonZero() uint32 {
	if p.Peek() == '0' {
		p.bad("A number that is not zero is wanted")
	}
	return p.Number()
}

// Flag takes a flag: a keyword in the client's spelling, or a system flag in ours.
// \Recent and flags unknown to RFC 3501 that begin with a backslash are refused.
func (p *Parser) Flag() string {
	if !p.Take('\\') {
		return p.Atom()
	}
	name := p.Atom()
	for _, f := range [...]string{`\Seen`, `\Answered`, `\Flagged`, `\Deleted`, `\Draft`} {
		if strings.EqualFold(name, f[1:]) {
			return f
		}
	}
	p.bad("A flag that cannot be set")
	return ""
}

// Flags takes a parenthesised list of flags.
func (p *Parser) Flags() []string {
	var flags []string
	p.List(func() { flags = append(flags, p.Flag()) })
	return flags
}

// Mailbox takes a mailbox name: in modified UTF-7 (RFC 3501, section 5.1.3), or in UTF-8 if the client has turned
// that on. INBOX in any spelling is "INBOX".
func (p *Parser) Mailbox() string {
	s := p.AString()
	if p.err != nil {
		return ""
	}
	name, err := p.DecodeName(s)
	if err != nil {
		p.Fail(&Error{No: true, Code: "CANNOT", Text: "The mailbox name is not in canonical modified UTF-7, or not in UTF-8"})
		return ""
	}
	return name
}

// DecodeName decodes a mailbox name, or a pattern, in which wildcards stand for themselves. A name that is not ASCII is in
// UTF-8 even if that is not turned on: go-imap's client writes so as soon as it sees IMAP4rev2.
func (p *Parser) DecodeName(s string) (string, error) {
	if !p.UTF8 && strings.IndexFunc(s, func(r rune) bool { return r >= utf8.RuneSelf }) < 0 {
		return DecodeMailbox(s)
	}
	if !utf8.ValidString(s) {
		return "", errNotUTF8
	}
	return CanonicalInbox(s), nil
}

var errNotUTF8 = errors.New("not UTF-8")

// ListMailbox takes a mailbox name or a pattern with wildcards, still encoded.
func (p *Parser) ListMailbox() string {
	if c := p.Peek(); c != 0 && c != '"' {
		return p.take(func(c byte) bool { return isAString(c) || c == '%' || c == '*' })
	}
	return p.String()
}

// Base64 takes an initial response (RFC 4959): base64, or "=" for an empty one.
func (p *Parser) Base64() string {
	return p.take(func(c byte) bool {
		return isDigit(c) || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '+' || c == '/' || c == '='
	})
}
