package server

import (
	"bufio"
	"errors"
	"io"
	"slices"
)

// The Basic Encoding Rules as LDAP restricts them (RFC 4511, section 5.1): definite
// lengths, primitive strings, low tag numbers only.

// Tags of universal types.
const (
	tagBoolean    = 0x01
	tagInteger    = 0x02
	tagOctets     = 0x04
	tagEnumerated = 0x0a
	tagSequence   = 0x30
	tagSet        = 0x31

	constructed = 0x20
)

// Limits of one message, beside its length.
const (
	maxNesting  = 50
	maxElements = 20000
)

var (
	errBER      = errors.New("not valid BER for LDAP")
	errMessage  = errors.New("the LDAP message is too long")
	errTooDeep  = errors.New("the LDAP message is nested too deeply")
	errTooMany  = errors.New("the LDAP message has too many elements")
	errLeftover = errors.New("unexpected element in the LDAP message")
)

// element is one tagged value; body aliases the message.
type element struct {
	tag  byte
	body []byte
}

// parseHeader reads identifier and length octets. size is how many octets they take;
// 0 if b is too short to tell.
func parseHeader(b []byte) (tag byte, length, size int, err error) {
	if len(b) < 2 {
		return 0, 0, 0, nil
	}
	if b[0]&0x1f == 0x1f {
		return 0, 0, 0, errBER
	}
	if b[1] < 0x80 {
		return b[0], int(b[1]), 2, nil
	}
	n := int(b[1] & 0x7f)
	if n == 0 || n > 4 {
		return 0, 0, 0, errBER
	}
	if len(b) < 2+n {
		return 0, 0, 0, nil
	}
	for _, c := range b[2 : 2+n] {
		length = length<<8 | int(c)
	}
	if length > 1<<30 {
		return 0, 0, 0, errMessage
	}
	return b[0], length, 2 + n, nil
}

// next takes the first element off b.
func next(b []byte) (e element, rest []byte, err error) {
	tag, length, size, err := parseHeader(b)
	if err != nil {
		return element{}, nil, err
	}
	if size == 0 || length > len(b)-size {
		return element{}, nil, errBER
	}
	return element{tag, b[size : size+length : size+length]}, b[size+length:], nil
}

// checkNesting walks the whole message once, so that what follows may recurse and
// allocate by what it finds.
func checkNesting(b []byte, depth int, left *int) error {
	if depth > maxNesting {
		return errTooDeep
	}
	for len(b) > 0 {
		if *left--; *left < 0 {
			return errTooMany
		}
		e, rest, err := next(b)
		if err != nil {
			return err
		}
		if e.tag&constructed != 0 {
			if err := checkNesting(e.body, depth+1, left); err != nil {
				return err
			}
		}
		b = rest
	}
	return nil
}

// readMessage reads the octets of one LDAPMessage, its outer header left out. The length is
// checked before anything is allocated.
func readMessage(r *bufio.Reader, limit int) ([]byte, error) {
	head, err := r.Peek(2)
	if err != nil {
		if len(head) > 0 && errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return nil, err
	}
	if head[0] != tagSequence {
		return nil, errBER
	}
	if head[1] > 0x80 && head[1] <= 0x84 {
		if head, err = r.Peek(2 + int(head[1]&0x7f)); err != nil {
			return nil, io.ErrUnexpectedEOF
		}
	}
	_, length, size, err := parseHeader(head)
	if err != nil {
		return nil, err
	}
	if size == 0 {
		return nil, errBER
	}
	if length > limit {
		return nil, errMessage
	}
	if _, err := r.Discard(size); err != nil {
		return nil, err
	}
	// Grown as it arrives: an announced length alone costs nothing.
	var b []byte
	for len(b) < length {
		n := min(length-len(b), 16<<10)
		b = slices.Grow(b, n)
		k, err := io.ReadFull(r, b[len(b):len(b)+n])
		if err != nil {
			return nil, io.ErrUnexpectedEOF
		}
		b = b[:len(b)+k]
	}
	left := maxElements
	return b, checkNesting(b, 1, &left)
}

// parser takes a sequence apart; the first fault is sticky.
type parser struct {
	b   []byte
	err error
}

func (p *parser) more() bool { return p.err == nil && len(p.b) > 0 }

// peek is the tag of the next element; 0 at the end.
func (p *parser) peek() byte {
	if !p.more() {
		return 0
	}
	return p.b[0]
}

func (p *parser) any() element {
	if p.err != nil {
		return element{}
	}
	var e element
	e, p.b, p.err = next(p.b)
	return e
}

func (p *parser) want(tag byte) []byte {
	e := p.any()
	if p.err == nil && e.tag != tag {
		p.err = errBER
	}
	if p.err != nil {
		return nil
	}
	return e.body
}

func (p *parser) integer(tag byte) int {
	return p.number(p.want(tag))
}

func (p *parser) number(b []byte) int {
	if p.err == nil && (len(b) == 0 || len(b) > 5 || b[0] >= 0x80) {
		p.err = errBER
	}
	n := 0
	if p.err == nil {
		for _, c := range b {
			n = n<<8 | int(c)
		}
	}
	return n
}

func (p *parser) boolean(tag byte) bool {
	b := p.want(tag)
	if p.err == nil && len(b) != 1 {
		p.err = errBER
	}
	return p.err == nil && b[0] != 0
}

// end demands that nothing is left.
func (p *parser) end() error {
	if p.err == nil && len(p.b) > 0 {
		p.err = errLeftover
	}
	return p.err
}

// encoder appends BER to b. Elements are opened and closed; lengths are minimal.
type encoder struct {
	b []byte
}

func (e *encoder) open(tag byte) (mark int) {
	e.b = append(e.b, tag, 0)
	return len(e.b)
}

func (e *encoder) close(mark int) {
	n := len(e.b) - mark
	if n < 0x80 {
		e.b[mark-1] = byte(n)
		return
	}
	var head []byte
	for shift := 24; shift >= 0; shift -= 8 {
		if c := byte(n >> shift); c != 0 || len(head) > 0 {
			head = append(head, c)
		}
	}
	e.b[mark-1] = 0x80 | byte(len(head))
	e.b = slices.Insert(e.b, mark, head...)
}

func (e *encoder) octets(tag byte, v []byte) {
	m := e.open(tag)
	e.b = append(e.b, v...)
	e.close(m)
}

func (e *encoder) text(tag byte, v string) {
	m := e.open(tag)
	e.b = append(e.b, v...)
	e.close(m)
}

func (e *encoder) integer(tag byte, n int) {
	m := e.open(tag)
	for shift := 56; shift >= 0; shift -= 8 {
		if c := byte(n >> shift); c != 0 || len(e.b) > m || shift == 0 {
			if len(e.b) == m && c >= 0x80 {
				e.b = append(e.b, 0)
			}
			e.b = append(e.b, c)
		}
	}
	e.close(m)
}
