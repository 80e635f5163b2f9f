package smtp

import (
	"bytes"
	"errors"
	"io"
)

var (
	errLineTooLong = errors.New("line too long")
	errLineEnd     = errors.New("bare CR, bare LF or NUL")
)

// The buffer of a connection: its size at first, and at most. The longest line must
// fit.
const (
	inputFirst = 4 << 10
	inputSize  = 16 << 10
)

// input is what the client has sent and nobody has read yet.
type input struct {
	src  io.Reader
	buf  []byte
	r, w int // buf[r:w] is unread
}

func (in *input) empty() bool { return in.r == in.w }

// rest is what has come and was not read.
func (in *input) rest() []byte { return in.buf[in.r:in.w] }

// head is the first n octets of rest, or fewer.
func (in *input) head(n int) []byte { return in.buf[in.r:min(in.w, in.r+n)] }

// skip marks n octets of rest as read.
func (in *input) skip(n int) {
	if in.r += n; in.r == in.w {
		in.r, in.w = 0, 0
	}
}

// fill reads once. It is not called while inputSize octets are unread.
func (in *input) fill() error {
	if in.r > 0 {
		in.w = copy(in.buf, in.buf[in.r:in.w])
		in.r = 0
	}
	if in.w == len(in.buf) {
		buf := make([]byte, min(max(2*len(in.buf), inputFirst), inputSize))
		copy(buf, in.buf[:in.w])
		in.buf = buf
	}
	n, err := in.src.Read(in.buf[in.w:])
	in.w += n
	if n > 0 {
		return nil
	}
	if err == nil {
		err = io.ErrNoProgress
	}
	return err
}

// line is the next line, of size octets at most with its CRLF, without it; nil if it
// has not come yet. The line is good until the next fill. Strictly CRLF ends a line
// (RFC 5321, section 2.3.8).
func (in *input) line(size int) ([]byte, error) {
	rest := in.rest()
	size = min(size, inputSize)
	i := bytes.IndexByte(rest, '\n')
	if i < 0 && len(rest) < size {
		if bytes.IndexByte(rest, 0) >= 0 {
			return nil, errLineEnd
		}
		return nil, nil
	}
	if i < 0 || i >= size {
		return nil, errLineTooLong
	}
	if i == 0 || rest[i-1] != '\r' || bytes.IndexByte(rest[:i-1], '\r') >= 0 || bytes.IndexByte(rest[:i-1], 0) >= 0 {
		return nil, errLineEnd
	}
	in.skip(i + 1)
	return rest[: i-1 : i-1], nil
}
