package smime

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"io"
	"slices"

	"cmmpd/smime/cms"
)

// lineBytes make one line of lineChars characters of base64 (RFC 2045, section 6.8).
const (
	lineBytes = 57
	lineChars = 76
)

func base64Len(n int) int { return (n+2)/3*4 + (n+lineBytes-1)/lineBytes*2 }

// encoder writes lines of base64, two characters at a look into a table: encoding/base64 takes
// half as long again for the same, and that is a third of what sealing takes.
type encoder struct {
	pairs [1 << 12]uint16
}

func newEncoder() *encoder {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
	e := new(encoder)
	for i := range e.pairs {
		e.pairs[i] = uint16(alphabet[i>>6]) | uint16(alphabet[i&0x3f])<<8
	}
	return e
}

// line encodes one line, with its line end, to the beginning of dst and returns its length.
func (e *encoder) line(dst, src []byte) int {
	n := 0
	for ; len(src) >= 8; src = src[6:] {
		v := binary.BigEndian.Uint64(src)
		binary.LittleEndian.PutUint64(dst[n:], uint64(e.pairs[v>>52])|uint64(e.pairs[v>>40&0xfff])<<16|
			uint64(e.pairs[v>>28&0xfff])<<32|uint64(e.pairs[v>>16&0xfff])<<48)
		n += 8
	}
	base64.StdEncoding.Encode(dst[n:], src)
	n += base64.StdEncoding.EncodedLen(len(src))
	return n + copy(dst[n:], "\r\n")
}

// inPlace encodes the last n bytes of buf, whose length is base64Len(n), to all of buf: what is
// written never overtakes what is still to be read.
func (e *encoder) inPlace(buf []byte, n int) {
	var line [lineBytes]byte
	for src := buf[len(buf)-n:]; len(src) > 0; {
		m := copy(line[:], src)
		src = src[m:]
		buf = buf[e.line(buf, line[:m]):]
	}
}

// base64Text is a content in lines of base64.
type base64Text struct {
	cms.Content
	e *encoder
}

func (t base64Text) Size() int { return base64Len(t.Content.Size()) }

func (t base64Text) WriteTo(w io.Writer) (int64, error) {
	lines := min((t.Content.Size()+lineBytes-1)/lineBytes, chunkLines)
	l := &lineWriter{w: w, e: t.e, out: make([]byte, max(lines, 1)*(lineChars+2))}
	if _, err := t.Content.WriteTo(l); err != nil {
		return l.written, err
	}
	return l.written, l.flush()
}

// lineWriter encodes what is written to it.
type lineWriter struct {
	w       io.Writer
	e       *encoder
	pending []byte // less than a line
	out     []byte // room for the lines that are encoded at once
	written int64
}

// chunkLines are encoded at once, at most.
const chunkLines = 512

func (l *lineWriter) Write(b []byte) (int, error) {
	n := len(b)
	if len(l.pending) > 0 {
		m := min(lineBytes-len(l.pending), len(b))
		l.pending, b = append(l.pending, b[:m]...), b[m:]
		if len(l.pending) < lineBytes {
			return n, nil
		}
		if err := l.encode(l.pending); err != nil {
			return 0, err
		}
		l.pending = l.pending[:0]
	}
	for len(b) >= lineBytes {
		m := min(len(b)/lineBytes, len(l.out)/(lineChars+2)) * lineBytes
		if err := l.encode(b[:m]); err != nil {
			return 0, err
		}
		b = b[m:]
	}
	l.pending = append(l.pending, b...)
	return n, nil
}

// flush writes the last line, which is shorter.
func (l *lineWriter) flush() error {
	if len(l.pending) == 0 {
		return nil
	}
	return l.encode(l.pending)
}

// encode writes as many lines as there is room for, at most.
func (l *lineWriter) encode(b []byte) error {
	n := 0
	for line := range slices.Chunk(b, lineBytes) {
		n += l.e.line(l.out[n:], line)
	}
	m, err := l.w.Write(l.out[:n])
	l.written += int64(m)
	return err
}

// strictBase64 decodes b, in which blanks and line ends alone may stand beside.
func strictBase64(b []byte) ([]byte, error) {
	if bytes.ContainsAny(b, "\t ") {
		b = bytes.Map(func(r rune) rune {
			if r == '\t' || r == ' ' {
				return -1
			}
			return r
		}, b)
	}
	out := make([]byte, base64.StdEncoding.DecodedLen(len(b)))
	n, err := base64.StdEncoding.Decode(out, b)
	if err != nil {
		return nil, errors.New("the body is not base64")
	}
	return out[:n], nil
}
