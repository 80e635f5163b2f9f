package cms

import (
	"bytes"
	"math/big"
	"slices"
)

// The writer of DER. Structures are kept as pieces until they are complete, so that a
// large content is copied once.

// The identifier octets that we write.
const (
	derInteger     = 0x02
	derBitString   = 0x03
	derOctetString = 0x04
	derNull        = 0x05
	derOID         = 0x06
	derUTCTime     = 0x17
	derGenTime     = 0x18
	derSequence    = 0x30
	derSet         = 0x31
	derContext     = 0x80 // [n] IMPLICIT, primitive
	derExplicit    = 0xa0 // [n], constructed
)

// derHeader returns identifier and length octets for contents of n bytes.
func derHeader(id byte, n int) []byte { return appendHeader(make([]byte, 0, mostHeader), id, n) }

// mostHeader is the room that derHeader takes at most.
const mostHeader = 2 + 8

func appendHeader(b []byte, id byte, n int) []byte {
	if n < 0x80 {
		return append(b, id, byte(n))
	}
	size := 0
	for v := n; v > 0; v >>= 8 {
		size++
	}
	b = append(b, id, 0x80|byte(size))
	for i := size - 1; i >= 0; i-- {
		b = append(b, byte(n>>(8*i)))
	}
	return b
}

// pieces is an encoding not yet joined.
type pieces [][]byte

func (p pieces) size() int {
	n := 0
	for _, b := range p {
		n += len(b)
	}
	return n
}

// copyTo writes the encoding to the beginning of out.
func (p pieces) copyTo(out []byte) {
	for _, b := range p {
		out = out[copy(out, b):]
	}
}

// tlv encodes one small element.
func tlv(id byte, parts ...[]byte) []byte {
	n := pieces(parts).size()
	out := appendHeader(make([]byte, 0, mostHeader+n), id, n)
	for _, p := range parts {
		out = append(out, p...)
	}
	return out
}

// appendElement appends one element to b, with what inside appends to it.
func appendElement(b []byte, id byte, inside func(b []byte) []byte) []byte {
	start := len(b)
	return closed(inside(append(b, id, 0)), start)
}

// closed writes the length of the element that begins at start, with two octets of a header, and
// ends with b.
func closed(b []byte, start int) []byte {
	n := len(b) - start - 2
	if n < 0x80 {
		b[start+1] = byte(n)
		return b
	}
	var room [mostHeader]byte
	head := appendHeader(room[:0], b[start], n)
	b = append(b, head[2:]...) // for as long as the header is longer
	copy(b[start+len(head):], b[start+2:start+2+n])
	copy(b[start:], head)
	return b
}

// appendString appends one element whose content is given.
func appendString(b []byte, id byte, content []byte) []byte {
	return append(appendHeader(b, id, len(content)), content...)
}

// setOf encodes a SET OF (or what replaces its tag) in DER: sorted by encoding.
func setOf(id byte, members [][]byte) []byte {
	return tlv(id, sorted(members)...)
}

// setPieces is setOf, not joined.
func setPieces(id byte, members [][]byte) pieces {
	all := sorted(members)
	return append(pieces{derHeader(id, pieces(all).size())}, all...)
}

func sorted(members [][]byte) [][]byte {
	all := slices.Clone(members)
	slices.SortFunc(all, bytes.Compare)
	return all
}

// integer encodes a number.
func integer(n *big.Int) []byte {
	if n.Sign() >= 0 {
		return appendNatural(nil, n)
	}
	// two's complement of the shortest length that holds the sign
	size := len(new(big.Int).Add(n, big.NewInt(1)).Bytes())
	b := make([]byte, max(size, 1))
	v := new(big.Int).Add(n, new(big.Int).Lsh(big.NewInt(1), uint(8*len(b))))
	v.FillBytes(b)
	if b[0]&0x80 == 0 {
		b = append([]byte{0xff}, b...)
	}
	return tlv(derInteger, b)
}

// appendNatural appends a number that is not negative.
func appendNatural(b []byte, n *big.Int) []byte {
	size := n.BitLen()/8 + 1 // with room for the sign
	b = append(appendHeader(b, derInteger, size), make([]byte, size)...)
	n.FillBytes(b[len(b)-size:])
	return b
}

// small encodes a number below 128.
func small(n byte) []byte { return []byte{derInteger, 1, n} }

func null() []byte { return []byte{derNull, 0} }

// checkDER says whether b is exactly one element and every length in it is definite
// and as short as can be, and no string is in pieces. It does not know the types under
// context-specific tags.
func checkDER(b []byte, depth int) error {
	h, err := checkDERHeader(b, depth)
	if err != nil {
		return err
	}
	if h.size+h.length != len(b) {
		return errTrailing
	}
	if !h.constructed {
		return nil
	}
	for b = b[h.size:]; len(b) > 0; {
		h, err := checkDERHeader(b, depth-1)
		if err != nil {
			return err
		}
		n := h.size + h.length
		if err := checkDER(b[:n], depth-1); err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}

func checkDERHeader(b []byte, depth int) (header, error) {
	if depth <= 0 {
		return header{}, errTooDeep
	}
	h, err := readHeader(b)
	if err != nil {
		return h, err
	}
	if h.length < 0 || h.length > len(b)-h.size {
		return h, errForm
	}
	idSize := 1
	if b[0]&0x1f == 0x1f {
		for idSize = 2; b[idSize-1]&0x80 != 0; idSize++ {
		}
	}
	if h.size != idSize+len(derHeader(0, h.length))-1 {
		return h, errForm
	}
	universal := h.tag < 1<<28
	if universal && h.constructed != (h.tag == tagSequence || h.tag == tagSet || h.tag == 8 || h.tag == 11) {
		return h, errForm
	}
	if universal && h.tag == 0 {
		return h, errForm
	}
	return h, nil
}
