package wire

import (
	"bytes"
	"errors"
	"io"
)

// Limits bound one command. All must be set.
type Limits struct {
	Line     int   // octets of the command without its literals
	Literals int64 // octets of all literals together, those a gate has allowed more for not counted
	NonSync  int64 // octets of one non-synchronizing literal, unless a gate has allowed more: 4096 is LITERAL- (RFC 7888, section 4)
	Swallow  int64 // octets of a refused command that are read and forgotten before we give up and close
	Depth    int   // nesting of lists and search keys
	Elements int   // elements of lists and sets
}

// Reader reads commands from a connection. It reads no further than it must for the
// command at hand, except into its buffer. Not safe for concurrent use.
type Reader struct {
	Limits Limits
	// Continue is called before a synchronizing literal is read: it sends the
	// continuation request and flushes.
	Continue func() error
	// Gate is asked about each literal when the line before it has been read. It may
	// refuse, or allow up to max octets for this literal whatever Literals says. 0
	// means that Literals decides.
	Gate func(c *Command, size int64) (max int64, err *Error)

	src  io.Reader
	buf  []byte
	r, w int
}

const bufferSize = 4096

// NewReader returns a Reader of src.
func NewReader(src io.Reader) *Reader {
	return &Reader{src: src, buf: make([]byte, bufferSize)}
}

// Buffered is the number of octets that have been read and not been consumed.
func (r *Reader) Buffered() int { return r.w - r.r }

// fill reads once more from the source. What is in the buffer stays, whatever the
// error, so that reading can go on after a deadline.
func (r *Reader) fill() error {
	if r.r == r.w {
		r.r, r.w = 0, 0
	} else if r.w == len(r.buf) {
		copy(r.buf, r.buf[r.r:r.w])
		r.w -= r.r
		r.r = 0
	}
	for range 100 {
		n, err := r.src.Read(r.buf[r.w:])
		r.w += n
		if n > 0 {
			return nil
		}
		if err != nil {
			return err
		}
	}
	return io.ErrNoProgress
}

// line is one line as read: text holds what fits in the limit, without the line end; tail the last octets of it, whole
// or not.
type line struct {
	text []byte
	tail []byte
	long bool // text was cut
	crlf bool
}

const tailSize = 32 // enough for any literal announcement that we can follow

// readLine appends a line to dst, up to max octets of it. At most swallow octets
// beyond are dropped.
func (r *Reader) readLine(dst []byte, max int, swallow *int64) (line, error) {
	var l line
	start := len(dst)
	for {
		if r.r == r.w {
			if err := r.fill(); err != nil {
				if err == io.EOF && (len(dst) > start || l.long) {
					err = io.ErrUnexpectedEOF
				}
				return line{text: dst}, err
			}
		}
		chunk := r.buf[r.r:r.w]
		i := bytes.IndexByte(chunk, '\n')
		if i >= 0 {
			chunk = chunk[:i+1]
		}
		r.r += len(chunk)
		l.tail = keepTail(l.tail, chunk)
		fits := min(len(chunk), max+2-(len(dst)-start))
		dst = append(dst, chunk[:fits]...)
		if over := len(chunk) - fits; over > 0 {
			l.long = true
			if *swallow -= int64(over); *swallow < 0 {
				return line{text: dst}, errTooLong
			}
		}
		if i >= 0 {
			break
		}
	}
	if !l.long {
		dst = dst[:len(dst)-1]
	}
	l.tail = l.tail[:len(l.tail)-1]
	if n := len(l.tail); n > 0 && l.tail[n-1] == '\r' {
		l.crlf, l.tail = true, l.tail[:n-1]
		if !l.long {
			dst = dst[:len(dst)-1]
		}
	}
	l.text = dst
	l.long = l.long || len(dst)-start > max
	return l, nil
}

func keepTail(tail, chunk []byte) []byte {
	const size = tailSize + len("\r\n")
	if len(chunk) >= size {
		return append(tail[:0], chunk[len(chunk)-size:]...)
	}
	if over := len(tail) + len(chunk) - size; over > 0 {
		tail = append(tail[:0], tail[over:]...)
	}
	return append(tail, chunk...)
}

var errTooLong = &Error{Fatal: true, Text: "Too much data in one command"}

// ReadLine reads a line that is not a command: the reply to a continuation request (RFC 3501, section 7.5), or DONE.
// When the source fails with a deadline, nothing is lost: call it again. A line over max octets, or
// without CRLF, is a fatal *Error.
func (r *Reader) ReadLine(max int) ([]byte, error) {
	for {
		if i := bytes.IndexByte(r.buf[r.r:r.w], '\n'); i >= 0 {
			text := bytes.Clone(r.buf[r.r : r.r+i])
			r.r += i + 1
			if len(text) == 0 || text[len(text)-1] != '\r' {
				return nil, errLineEnd
			}
			if len(text)-1 > max {
				return nil, errTooLong
			}
			return text[:len(text)-1], nil
		}
		if r.w-r.r > max+1 {
			return nil, errTooLong
		}
		if r.r == 0 && r.w == len(r.buf) {
			r.buf = append(r.buf, make([]byte, len(r.buf))...)
		}
		if err := r.fill(); err != nil {
			return nil, err
		}
	}
}

var errLineEnd = &Error{Fatal: true, Text: "Lines must end with CR LF"}

// announced is a literal that a line ends with: {n}, {n+} or ~{n} (RFC 3501, 7888, 3516).
type announced struct {
	size    int64
	nonSync bool
	binary  bool
	length  int // of the announcement itself
	huge    bool
}

// announcement finds the literal announcement at the end of a line. "{" cannot
// stand at that place in any other way: it is not in atoms, and a quoted string
// ends in a quote.
func announcement(tail []byte) (announced, bool) {
	var a announced
	if len(tail) < 3 || tail[len(tail)-1] != '}' {
		return a, false
	}
	digits := tail[:len(tail)-1]
	if digits[len(digits)-1] == '+' {
		a.nonSync, digits = true, digits[:len(digits)-1]
	}
	end := len(digits)
	start := end
	for start > 0 && digits[start-1] >= '0' && digits[start-1] <= '9' {
		start--
	}
	if start == end {
		return a, false
	}
	if start == 0 {
		a.huge = true // more digits than any number that we follow
		return a, len(tail) >= tailSize
	}
	if digits[start-1] != '{' {
		return a, false
	}
	for _, d := range digits[start:end] {
		if a.size > 1<<53 {
			a.huge = true
			break
		}
		a.size = a.size*10 + int64(d-'0')
	}
	a.length = len(tail) - start + 1
	if start >= 2 && digits[start-2] == '~' {
		a.binary = true
		a.length++
	}
	return a, true
}

// ReadCommand reads one command into c, whose memory it uses again. After an *Error
// that is not Fatal the stream stands at the next command, none of the refused one's
// octets will be taken for a command, and c.Tag is set if there was one. Other errors
// are the source's.
func (r *Reader) ReadCommand(c *Command) error {
	c.reset()
	var refused *Error
	refuse := func(e *Error) {
		if refused == nil {
			refused = e
		}
	}
	left := r.Limits.Literals
	swallow := r.Limits.Swallow
	room := r.Limits.Line
	for {
		start := len(c.text)
		l, err := r.readLine(c.text, room, &swallow)
		c.text = l.text
		if err != nil {
			c.name()
			return err
		}
		if l.long {
			refuse(bad("Command line too long"))
		}
		if !l.crlf {
			refuse(bad("Lines must end with CR LF"))
		}
		if refused == nil && bytes.IndexByte(c.text[start:], 0) >= 0 {
			refuse(bad("NUL is not allowed"))
		}
		if len(c.pieces) == 0 {
			c.name()
		}
		room = max(0, room-(len(c.text)-start))
		a, ok := announcement(l.tail)
		if !ok {
			c.pieces = append(c.pieces, piece{start: start, end: len(c.text)})
			return result(refused)
		}
		if !l.crlf || a.huge {
			return &Error{Fatal: true, Text: "A literal that cannot be followed"}
		}
		if refused == nil {
			c.pieces = append(c.pieces, piece{start: start, end: len(c.text) - a.length, binary: a.binary})
			e := r.admit(c, a, &left)
			if e != nil {
				refuse(e)
			}
		}
		if refused != nil {
			if !a.nonSync {
				return refused // the client waits for a continuation, which it does not get
			}
			if err := r.discard(a.size, &swallow); err != nil {
				return err
			}
			c.text = c.text[:start]
			continue
		}
		if !a.nonSync {
			if err := r.Continue(); err != nil {
				return err
			}
		}
		lit, err := r.literal(a.size)
		if err != nil {
			return err
		}
		p := &c.pieces[len(c.pieces)-1]
		p.literal, p.hasLiteral = lit, true
		if !a.binary && bytes.IndexByte(lit, 0) >= 0 {
			refuse(bad("NUL is not allowed"))
		}
	}
}

func result(e *Error) error {
	if e == nil {
		return nil
	}
	return e
}

// admit decides on a literal before it is read.
func (r *Reader) admit(c *Command, a announced, left *int64) *Error {
	var allowed int64
	if r.Gate != nil {
		var e *Error
		if allowed, e = r.Gate(c, a.size); e != nil {
			return e
		}
	}
	if a.nonSync && a.size > r.Limits.NonSync && allowed == 0 {
		return bad("A literal of that size must wait for the continuation")
	}
	if allowed > 0 {
		if a.size > allowed {
			return &Error{No: true, Code: "TOOBIG", Text: "The message is too large"}
		}
		return nil
	}
	if *left -= a.size; *left < 0 {
		return &Error{Text: "Literals too large", Code: "TOOBIG"}
	}
	if len(c.pieces) > r.Limits.Elements {
		return bad("Too many literals")
	}
	return nil
}

// literal reads n octets. Memory grows with what has come, not with what was announced.
func (r *Reader) literal(n int64) ([]byte, error) {
	const step = 64 << 10
	b := make([]byte, 0, min(n, step))
	for int64(len(b)) < n {
		if r.r < r.w {
			k := int(min(int64(r.w-r.r), n-int64(len(b))))
			b = append(b, r.buf[r.r:r.r+k]...)
			r.r += k
			continue
		}
		if len(b) == cap(b) {
			grown := make([]byte, len(b), min(n, int64(2*cap(b))))
			copy(grown, b)
			b = grown
		}
		k, err := r.src.Read(b[len(b):cap(b)])
		b = b[:len(b)+k]
		if err != nil && int64(len(b)) < n {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return nil, err
		}
	}
	return b, nil
}

// discard reads n octets and forgets them.
func (r *Reader) discard(n int64, swallow *int64) error {
	if *swallow -= n; *swallow < 0 {
		return errTooLong
	}
	for n > 0 {
		if r.r == r.w {
			if err := r.fill(); err != nil {
				if err == io.EOF {
					err = io.ErrUnexpectedEOF
				}
				return err
			}
		}
		k := min(int64(r.w-r.r), n)
		r.r += int(k)
		n -= k
	}
	return nil
}
