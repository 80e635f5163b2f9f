package smime

import (
	"bytes"
	"io"

	"cmmpd/smime/cms"
)

// parts are contents one after the other.
type parts []cms.Content

func (p parts) Size() int {
	n := 0
	for _, c := range p {
		n += c.Size()
	}
	return n
}

func (p parts) WriteTo(w io.Writer) (n int64, err error) {
	for _, c := range p {
		m, err := c.WriteTo(w)
		n += m
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

// content is b as a content.
func content(b ...[]byte) cms.Content { return cms.Pieces(b) }

// canonicalText is b with every line ended by CRLF (RFC 8551, section 3.1.1), made as it is
// written. A CR that ends no line stays.
type canonicalText struct {
	b    []byte
	bare int // line feeds without a CR before them
}

func canonicalContent(b []byte) cms.Content {
	if n := bareLFs(b); n > 0 {
		return canonicalText{b, n}
	}
	return content(b)
}

func (t canonicalText) Size() int { return len(t.b) + t.bare }

func (t canonicalText) WriteTo(w io.Writer) (n int64, err error) {
	write := func(b []byte) {
		if err == nil {
			var m int
			m, err = w.Write(b)
			n += int64(m)
		}
	}
	for b := t.b; len(b) > 0 && err == nil; {
		i := bytes.IndexByte(b, '\n')
		if i < 0 {
			write(b)
			break
		}
		if i > 0 && b[i-1] == '\r' {
			write(b[:i+1])
		} else {
			write(b[:i])
			write([]byte("\r\n"))
		}
		b = b[i+1:]
	}
	return n, err
}
