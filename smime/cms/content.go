package cms

import (
	"errors"
	"io"
	"slices"
)

// Content is what is to be encrypted or signed. It is asked for its bytes more than once and
// gives the same each time.
type Content interface {
	Size() int // in bytes: what WriteTo writes
	io.WriterTo
}

// Pieces is a Content that lies in memory, in any number of pieces.
type Pieces [][]byte

// Size is that of all pieces.
func (p Pieces) Size() int { return pieces(p).size() }

// WriteTo writes the pieces one after the other.
func (p Pieces) WriteTo(w io.Writer) (n int64, err error) {
	for _, b := range p {
		m, err := w.Write(b)
		n += int64(m)
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

// frame is an encoding with a content in it that is written elsewhere. It is a Content, too.
type frame struct {
	head    pieces
	content Content
	tail    pieces
}

func (f frame) Size() int { return f.head.size() + f.content.Size() + f.tail.size() }

func (f frame) WriteTo(w io.Writer) (int64, error) {
	n, err := Pieces(f.head).WriteTo(w)
	if err != nil {
		return n, err
	}
	m, err := f.content.WriteTo(w)
	if n += m; err != nil {
		return n, err
	}
	m, err = Pieces(f.tail).WriteTo(w)
	return n + m, err
}

// wrap puts what stands before f, f, and what stands behind it under one header.
func (f frame) wrap(id byte, before, behind pieces) frame {
	size := before.size() + f.Size() + behind.size()
	f.head = slices.Concat(pieces{derHeader(id, size)}, before, f.head)
	f.tail = slices.Concat(f.tail, behind)
	return f
}

// inContentInfo makes f the content of a ContentInfo.
func (f frame) inContentInfo(id OID) frame {
	return f.wrap(derExplicit, nil, nil).wrap(derSequence, pieces{id.der()}, nil)
}

// place copies f into out, which is as long as f, and returns the part where the content is.
func (f frame) place(out []byte) ([]byte, error) {
	first, last := f.head.size(), len(out)-f.tail.size()
	f.head.copyTo(out)
	f.tail.copyTo(out[last:])
	middle := out[first:last]
	space := filler(middle)
	if _, err := f.content.WriteTo(&space); err != nil {
		return nil, err
	}
	if len(space) > 0 {
		return nil, errContentSize
	}
	return middle, nil
}

var errContentSize = errors.New("a content is not as long as it says")

// filler is what is still free of a buffer that is written to.
type filler []byte

func (f *filler) Write(b []byte) (int, error) {
	if len(b) > len(*f) {
		return 0, errContentSize
	}
	n := copy(*f, b)
	*f = (*f)[n:]
	return n, nil
}

// bytesOf is c in one piece.
func bytesOf(c Content) ([]byte, error) {
	out := make([]byte, c.Size())
	if _, err := (frame{content: c}).place(out); err != nil {
		return nil, err
	}
	return out, nil
}
