package audit

import (
	"errors"
	"strconv"
	"unicode/utf8"
)

// appendString appends s, which is valid UTF-8, as a canonical JSON string (RFC 8785,
// section 3.2.2.2): only what must be escaped is, each in one way.
func appendString(b []byte, s string) []byte {
	const hex = "0123456789abcdef"
	b = append(b, '"')
	from := 0
	for i := range len(s) {
		c := s[i]
		if c >= 0x20 && c != '"' && c != '\\' {
			continue
		}
		b = append(b, s[from:i]...)
		from = i + 1
		switch c {
		case '"', '\\':
			b = append(b, '\\', c)
		case '\b':
			b = append(b, '\\', 'b')
		case '\t':
			b = append(b, '\\', 't')
		case '\n':
			b = append(b, '\\', 'n')
		case '\f':
			b = append(b, '\\', 'f')
		case '\r':
			b = append(b, '\\', 'r')
		default:
			b = append(b, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		}
	}
	b = append(b, s[from:]...)
	return append(b, '"')
}

// cursor reads the little JSON that records are made of: objects, strings, integers,
// no white space. It accepts a little more than the canonical form; its caller
// compares.
type cursor struct {
	b []byte
	i int
}

var errJSON = errors.New("not the JSON of a record")

func (c *cursor) take(want byte) bool {
	if c.i < len(c.b) && c.b[c.i] == want {
		c.i++
		return true
	}
	return false
}

// object calls member for each name, with the cursor on the value. A name may come
// once only: the order of names is strict.
func (c *cursor) object(member func(name string) error) error {
	if !c.take('{') {
		return errJSON
	}
	if c.take('}') {
		return nil
	}
	for last := ""; ; {
		name, err := c.str()
		if err != nil {
			return err
		}
		if !c.take(':') {
			return errJSON
		}
		if name <= last {
			return errNotCanonical
		}
		last = name
		if err := member(name); err != nil {
			return err
		}
		if c.take('}') {
			return nil
		}
		if !c.take(',') {
			return errJSON
		}
	}
}

func (c *cursor) integer() (int64, error) {
	start := c.i
	for c.i < len(c.b) && (c.b[c.i] >= '0' && c.b[c.i] <= '9' || c.b[c.i] == '-') {
		c.i++
	}
	// RFC 8785 keeps numbers to what a double holds exactly.
	n, err := strconv.ParseInt(string(c.b[start:c.i]), 10, 64)
	if err != nil || n < 0 || n > 1<<53-1 {
		return 0, errJSON
	}
	return n, nil
}

func (c *cursor) str() (string, error) {
	if !c.take('"') {
		return "", errJSON
	}
	start := c.i
	for ; c.i < len(c.b); c.i++ {
		switch ch := c.b[c.i]; {
		case ch == '"':
			s := c.b[start:c.i]
			c.i++
			if !utf8.Valid(s) {
				return "", errJSON
			}
			return string(s), nil
		case ch == '\\':
			return c.escaped(start)
		case ch < 0x20:
			return "", errJSON
		}
	}
	return "", errJSON
}

// escaped goes on reading a string that began at start, from its first escape.
func (c *cursor) escaped(start int) (string, error) {
	s := append([]byte(nil), c.b[start:c.i]...)
	for c.i < len(c.b) {
		ch := c.b[c.i]
		c.i++
		switch {
		case ch == '"':
			if !utf8.Valid(s) {
				return "", errJSON
			}
			return string(s), nil
		case ch < 0x20:
			return "", errJSON
		case ch != '\\':
			s = append(s, ch)
		default:
			plain, ok := c.escape()
			if !ok {
				return "", errJSON
			}
			s = append(s, plain)
		}
	}
	return "", errJSON
}

// escape reads what stands after a backslash. Only control characters need \u, so it
// never gives more than a byte.
func (c *cursor) escape() (byte, bool) {
	if c.i >= len(c.b) {
		return 0, false
	}
	ch := c.b[c.i]
	c.i++
	switch ch {
	case '"', '\\':
		return ch, true
	case 'b':
		return '\b', true
	case 't':
		return '\t', true
	case 'n':
		return '\n', true
	case 'f':
		return '\f', true
	case 'r':
		return '\r', true
	case 'u':
		if c.i+4 > len(c.b) {
			return 0, false
		}
		n, err := strconv.ParseUint(string(c.b[c.i:c.i+4]), 16, 16)
		c.i += 4
		return byte(n), err == nil && n < 0x20
	}
	return 0, false
}
