package smtp

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"time"

	gosmtp "github.com/emersion/go-smtp"

	"cmmpd/internal/mail"
)

// Replies about the message itself.
var (
	errNewline = reply{550, gosmtp.EnhancedCode{5, 6, 0}, "the message holds a bare CR, a bare LF or a NUL; closing"}
	errGone    = reply{421, gosmtp.EnhancedCode{4, 4, 2}, "the message did not arrive in time"}
)

// firstRoom is the memory that a message of unknown size is given at first.
const firstRoom = 8 << 10

// body is a message on its way in. Memory is reserved before it is used.
type body struct {
	f    *front
	data []byte
	held int64 // octets reserved
}

// grow makes room for n octets more.
func (b *body) grow(n int) error {
	if int(b.held)-len(b.data) >= n {
		return nil
	}
	limit := int(b.f.server.o.Limits.MessageSize) + inputSize
	size := max(min(2*int(b.held), limit), len(b.data)+n, firstRoom)
	if more := int64(size) - b.held; !b.f.server.o.Door.TryReserve(more) {
		ctx, cancel := context.WithTimeout(b.f.server.ctx, b.f.server.o.Limits.Progress)
		defer cancel()
		if err := b.f.server.o.Door.Reserve(ctx, more); err != nil {
			return err
		}
	}
	b.held = int64(size)
	if cap(b.data) < size {
		data := append(b.f.server.spare(size), b.data...)
		b.f.server.keep(b.data)
		b.data = data
	}
	return nil
}

// release gives the memory back. The message must not be used afterwards.
func (b *body) release() {
	if b.held > 0 {
		b.f.server.o.Door.Release(b.held)
	}
	b.f.server.keep(b.data)
	b.data, b.held = nil, 0
}

// maxSpare is up to which size the room of a message is used again for another.
const maxSpare = 64 << 10

// spare is an empty slice for n octets.
func (s *Server) spare(n int) []byte {
	if n <= maxSpare {
		if b, _ := s.spares.Get().(*[]byte); b != nil && cap(*b) >= n {
			return (*b)[:0]
		}
	}
	return make([]byte, 0, n)
}

// keep takes back what spare gave; nobody uses it any more.
func (s *Server) keep(b []byte) {
	if n := cap(b); n > 0 && n <= maxSpare {
		s.spares.Put(&b)
	}
}

// collect is called by the session when go-smtp has announced 354: it sends that, reads
// the message to its final dot, and gives go-smtp the dot. The error is one to answer;
// whatever it is, the connection is at the end of the message, or will be closed.
func (f *front) collect(announced int64) (*body, error) {
	f.pending = append(f.pending[:0], ".\r\n"...)
	if c := f.chunks; c != nil { // BDAT has it already
		f.written = f.written[:0]
		f.chunks = nil
		return &c.body, nil
	}
	f.settle()
	if err := f.flush(); err != nil {
		f.closing = true
		return nil, errGone.error()
	}
	d := dots{body: body{f: f}}
	if announced > 0 {
		d.fail = d.grow(int(min(announced, f.server.o.Limits.MessageSize)) + 512)
	}
	limits := f.server.o.Limits
	end := time.Now().Add(limits.Total)
	for {
		done, err := d.take(&f.in)
		switch {
		case err != nil: // no end of this can be trusted
			d.release()
			f.closing, f.drain = true, true
			return nil, errNewline.error()
		case done && d.fail != nil:
			return nil, smtpError(d.fail)
		case done:
			return &d.body, nil
		}
		if err := f.await(end); err != nil {
			d.release()
			return nil, err
		}
		if d.dropped > limits.MessageSize+inputSize {
			f.closing, f.drain = true, true
			return nil, smtpError(d.fail)
		}
	}
}

// await reads more of a message that must have ended at end.
func (f *front) await(end time.Time) error {
	deadline := time.Now().Add(f.server.o.Limits.Progress)
	if end.Before(deadline) {
		deadline = end
	}
	err := f.link.SetReadDeadline(deadline)
	if err == nil {
		err = f.in.fill()
	}
	if err == nil {
		return nil
	}
	f.closing = true
	if !errors.Is(err, os.ErrDeadlineExceeded) && !errors.Is(err, io.EOF) {
		f.server.o.Log.Debug("smtp: message broken off", "client", f.link.RemoteAddr().String(), "err", err)
	}
	return errGone.error()
}

// dots reads a message in the form of DATA (RFC 5321, section 4.5.2): strictly CRLF
// ends a line, a dot at its head is removed, and CRLF.CRLF ends the message.
type dots struct {
	body
	start   int   // where in data the line under way begins
	length  int   // octets of the line under way, as received
	dot     bool  // it begins with a dot
	cr      bool  // the last octet was a CR
	fail    error // why the message will be refused; the rest of it is dropped
	dropped int64 // octets dropped
}

var errBytes = errors.New("bare CR, bare LF or NUL")

// take reads what has come. done: the message has ended; what came after it is left.
func (d *dots) take(in *input) (done bool, err error) {
	for !in.empty() {
		part := in.rest()
		i := bytes.IndexByte(part, '\n')
		if i >= 0 {
			part = part[:i+1]
		}
		if !d.strict(part) {
			return false, errBytes
		}
		text := part
		if d.length == 0 && part[0] == '.' {
			d.dot, text = true, part[1:]
		}
		d.length += len(part)
		in.skip(len(part))
		if i >= 0 && d.dot && d.length == len(".\r\n") {
			d.data = d.data[:d.start]
			return true, nil
		}
		d.add(text)
		if i >= 0 {
			d.start, d.length, d.dot = len(d.data), 0, false
		}
	}
	return false, nil
}

// strict says whether part, which holds no LF but perhaps its last octet, has CR and LF
// only as pairs, and no NUL.
func (d *dots) strict(part []byte) bool {
	n := len(part)
	if d.cr && part[0] != '\n' || bytes.IndexByte(part, 0) >= 0 {
		return false
	}
	after := d.cr
	switch i := bytes.IndexByte(part, '\r'); {
	case i < 0:
		d.cr = false
	case i == n-1:
		d.cr = true
	case i == n-2 && part[n-1] == '\n':
		after, d.cr = true, false
	default:
		return false
	}
	return part[n-1] != '\n' || after
}

// add keeps text, or gives the message up if there is no room for it.
func (d *dots) add(text []byte) {
	if d.fail == nil {
		if int64(len(d.data)+len(text)) > d.f.server.o.Limits.MessageSize+2 {
			d.fail = mail.E(mail.TooLarge, "", nil)
		} else {
			d.fail = d.grow(len(text))
		}
		if d.fail != nil {
			d.release()
		}
	}
	if d.fail != nil {
		d.dropped += int64(len(text))
		return
	}
	d.data = append(d.data, text...)
}
