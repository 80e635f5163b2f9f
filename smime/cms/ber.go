package cms

import (
	"errors"
	"math/big"
)

// The reader of BER (ITU-T X.690): definite and indefinite lengths, strings in pieces.
// It keeps slices of the input and copies only where a string has several pieces.

// tag is the class and number of an element's tag; whether it is constructed stands
// beside it.
type tag uint32

// The universal tags in use.
const (
	tagBoolean     tag = 1
	tagInteger     tag = 2
	tagBitString   tag = 3
	tagOctetString tag = 4
	tagNull        tag = 5
	tagOID         tag = 6
	tagSequence    tag = 16
	tagSet         tag = 17
)

const contextClass tag = 2 << 28

// context is the context-specific tag [n].
func context(n tag) tag { return contextClass | n }

// maxDepth is the hard bound on nesting.
const maxDepth = 32

var (
	errTruncated = errors.New("element cut short")
	errForm      = errors.New("malformed element")
	errTooDeep   = errors.New("elements nested too deeply")
	errTooMany   = errors.New("too many elements")
	errTrailing  = errors.New("unexpected element or trailing bytes")
	errMissing   = errors.New("element missing or of another type")
)

// element is one BER element.
type element struct {
	tag         tag
	constructed bool
	raw         []byte // the whole encoding
	content     []byte // the content octets, without end-of-contents octets
}

// budget bounds the work spent on one structure.
type budget struct {
	elements int // headers that may still be read
	depth    int // how deep elements may nest
}

// reader reads one level of elements from b.
type reader struct {
	*budget
	b     []byte
	level int
}

// header is the identifier and length octets of an element.
type header struct {
	tag         tag
	constructed bool
	length      int // of the contents; -1: indefinite
	size        int // of the header itself
}

// readHeader reads identifier and length octets (X.690, section 8.1).
func readHeader(b []byte) (h header, err error) {
	if len(b) < 2 {
		return h, errTruncated
	}
	h.tag = tag(b[0]>>6)<<28 | tag(b[0]&0x1f)
	h.constructed = b[0]&0x20 != 0
	i := 1
	if b[0]&0x1f == 0x1f { // high tag number form
		var n tag
		for {
			if i >= len(b) {
				return h, errTruncated
			}
			if n >= 1<<21 || i == 1 && b[i] == 0x80 {
				return h, errForm
			}
			c := b[i]
			i++
			n = n<<7 | tag(c&0x7f)
			if c&0x80 == 0 {
				break
			}
		}
		if n < 31 {
			return h, errForm
		}
		h.tag = tag(b[0]>>6)<<28 | n
	}
	if i >= len(b) {
		return h, errTruncated
	}
	l := b[i]
	i++
	switch {
	case l < 0x80:
		h.length = int(l)
	case l == 0x80:
		h.length = -1
		if !h.constructed {
			return h, errForm
		}
	default:
		n := int(l & 0x7f)
		if n > 8 {
			return h, errForm
		}
		if n > len(b)-i {
			return h, errTruncated
		}
		var v uint64
		for _, c := range b[i : i+n] {
			v = v<<8 | uint64(c)
		}
		i += n
		if v > uint64(len(b)-i) {
			return h, errTruncated
		}
		h.length = int(v)
	}
	h.size = i
	return h, nil
}

// element reads the element at the start of b. level is how deep it lies.
func (u *budget) element(b []byte, level int) (element, error) {
	if level > u.depth {
		return element{}, errTooDeep
	}
	if u.elements--; u.elements < 0 {
		return element{}, errTooMany
	}
	h, err := readHeader(b)
	if err != nil {
		return element{}, err
	}
	if h.tag == 0 { // end-of-contents where none belongs
		return element{}, errForm
	}
	e := element{tag: h.tag, constructed: h.constructed}
	if h.length >= 0 {
		end := h.size + h.length
		if end > len(b) {
			return element{}, errTruncated
		}
		e.raw, e.content = b[:end:end], b[h.size:end:end]
		return e, nil
	}
	pos := h.size
	for {
		if len(b)-pos < 2 {
			return element{}, errTruncated
		}
		if b[pos] == 0 && b[pos+1] == 0 {
			e.raw, e.content = b[:pos+2:pos+2], b[h.size:pos:pos]
			return e, nil
		}
		child, err := u.element(b[pos:], level+1)
		if err != nil {
			return element{}, err
		}
		pos += len(child.raw)
	}
}

// more says whether there is another element on this level.
func (r *reader) more() bool { return len(r.b) > 0 }

// next reads the next element of any kind.
func (r *reader) next() (element, error) {
	if !r.more() {
		return element{}, errMissing
	}
	e, err := r.element(r.b, r.level)
	if err == nil {
		r.b = r.b[len(e.raw):]
	}
	return e, err
}

// peek says whether the next element has tag t.
func (r *reader) peek(t tag) bool {
	h, err := readHeader(r.b)
	return err == nil && h.tag == t
}

// read reads the next element, which must have tag t.
func (r *reader) read(t tag) (element, error) {
	if !r.peek(t) {
		return element{}, errMissing
	}
	return r.next()
}

// optional reads the next element if it has tag t.
func (r *reader) optional(t tag) (e element, ok bool, err error) {
	if !r.peek(t) {
		return e, false, nil
	}
	e, err = r.next()
	return e, err == nil, err
}

// enter reads the next element, which must be constructed and have tag t, and returns a
// reader of what is inside.
func (r *reader) enter(t tag) (*reader, error) {
	e, err := r.read(t)
	if err != nil {
		return nil, err
	}
	return r.inside(e)
}

// inside returns a reader of the elements in e, which must be constructed.
func (r *reader) inside(e element) (*reader, error) {
	if !e.constructed {
		return nil, errForm
	}
	if r.level+1 > r.depth {
		return nil, errTooDeep
	}
	return &reader{r.budget, e.content, r.level + 1}, nil
}

// end is an error if anything is left on this level.
func (r *reader) end() error {
	if r.more() {
		return errTrailing
	}
	return nil
}

// octets returns the value of the OCTET STRING e, whatever tag it carries. Pieces are
// joined into a copy.
func (r *reader) octets(e element) ([]byte, error) {
	if !e.constructed {
		return e.content, nil
	}
	var pieces [][]byte
	total := 0
	if err := r.pieces(e, r.level, &pieces, &total); err != nil {
		return nil, err
	}
	if len(pieces) == 1 {
		return pieces[0], nil
	}
	out := make([]byte, 0, total)
	for _, p := range pieces {
		out = append(out, p...)
	}
	return out, nil
}

func (r *reader) pieces(e element, level int, to *[][]byte, total *int) error {
	for b := e.content; len(b) > 0; {
		piece, err := r.element(b, level+1)
		if err != nil {
			return err
		}
		b = b[len(piece.raw):]
		if piece.tag != tagOctetString {
			return errForm
		}
		if piece.constructed {
			if err := r.pieces(piece, level+1, to, total); err != nil {
				return err
			}
			continue
		}
		*to = append(*to, piece.content)
		*total += len(piece.content)
	}
	return nil
}

// readOctets reads an OCTET STRING under the tag t.
func (r *reader) readOctets(t tag) ([]byte, error) {
	e, err := r.read(t)
	if err != nil {
		return nil, err
	}
	return r.octets(e)
}

// readInteger reads an INTEGER of at most 64 bytes.
func (r *reader) readInteger() (*big.Int, error) {
	e, err := r.read(tagInteger)
	if err != nil {
		return nil, err
	}
	if e.constructed || len(e.content) == 0 || len(e.content) > 64 {
		return nil, errForm
	}
	n := new(big.Int).SetBytes(e.content)
	if e.content[0]&0x80 != 0 {
		n.Sub(n, new(big.Int).Lsh(big.NewInt(1), uint(8*len(e.content))))
	}
	return n, nil
}

// readOID reads an OBJECT IDENTIFIER.
func (r *reader) readOID() (OID, error) {
	e, err := r.read(tagOID)
	if err != nil {
		return "", err
	}
	return decodeOID(e)
}

// readBits reads a BIT STRING in one piece with no unused bits.
func (r *reader) readBits() ([]byte, error) {
	e, err := r.read(tagBitString)
	if err != nil {
		return nil, err
	}
	if e.constructed || len(e.content) == 0 || e.content[0] != 0 {
		return nil, errForm
	}
	return e.content[1:], nil
}
