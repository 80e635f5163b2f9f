package smtp

import (
	"bytes"
	"errors"
	"time"

	"cmmpd/internal/mail"
)

// chunks is a message in the form of BDAT (RFC 3030).
type chunks struct {
	body
	fail error // why the message will be refused
	end  time.Time
}

func (f *front) dropChunks() {
	if f.chunks != nil {
		f.chunks.release()
		f.chunks = nil
	}
}

// bdat reads one chunk. When it is the last, go-smtp is told DATA.
func (f *front) bdat(arg string) {
	size, last, ok := bdatArgs(arg)
	limits := f.server.o.Limits
	if !ok || size > 2*limits.MessageSize { // where the chunk ends is unknown, or too far
		_ = f.hangUp("552 5.3.4 message too large, or malformed BDAT")
		return
	}
	c := f.chunks
	if c == nil {
		c = &chunks{body: body{f: f}, end: time.Now().Add(limits.Total)}
	}
	if f.recipients == 0 {
		c.fail = errNoRecipients
	}
	if err := c.read(size); err != nil {
		c.release()
		f.chunks = nil
		_ = f.hangUp("421 4.4.2 the message did not arrive in time")
		return
	}
	if last && c.fail == nil && !wellFormed(c.data) {
		c.release()
		f.chunks = nil
		_ = f.hangUp("550 5.6.0 the message holds a bare CR, a bare LF or a NUL; closing")
		return
	}
	if c.fail != nil {
		c.release()
		f.chunks = nil
		f.refuseChunk(c.fail)
		return
	}
	f.chunks = c
	if !last {
		f.out = append(f.out, "250 2.0.0 chunk received\r\n"...)
		return
	}
	f.give("DATA", []byte("DATA"))
}

var errNoRecipients = errors.New("no recipients")

// refuseChunk answers a chunk that fails, and ends the transaction: whatever chunks
// follow fail for want of recipients (RFC 3030, section 2).
func (f *front) refuseChunk(err error) {
	if errors.Is(err, errNoRecipients) {
		f.say("503 5.5.1 RCPT first")
		f.limitErrors()
		return
	}
	e := smtpError(err)
	out := appendLines(nil, []byte(replyLine(e)), e.Code)
	f.say(string(bytes.TrimSuffix(out, []byte("\r\n"))))
	f.transaction = transaction{}
	f.give("RSET", []byte("RSET"))
	f.mute = true
}

// read adds size octets to the message, or drops them if it fails anyway.
func (c *chunks) read(size int64) error {
	limits := c.f.server.o.Limits
	if c.fail == nil && int64(len(c.data))+size > limits.MessageSize {
		c.fail = mail.E(mail.TooLarge, "", nil)
	}
	for size > 0 {
		if c.f.in.empty() {
			if err := c.f.flush(); err != nil {
				return err
			}
			if err := c.f.await(c.end); err != nil {
				return err
			}
		}
		part := c.f.in.head(int(min(size, inputSize)))
		if c.fail == nil {
			c.fail = c.grow(len(part))
		}
		if c.fail == nil {
			c.data = append(c.data, part...)
		}
		size -= int64(len(part))
		c.f.in.skip(len(part))
	}
	return nil
}

// wellFormed says whether CR and LF stand only in pairs, and there is no NUL: without
// BINARYMIME, BDAT carries lines as DATA does.
func wellFormed(b []byte) bool {
	if bytes.IndexByte(b, 0) >= 0 {
		return false
	}
	for len(b) > 0 {
		i := bytes.IndexByte(b, '\n')
		if i < 0 {
			return bytes.IndexByte(b, '\r') < 0
		}
		if i == 0 || b[i-1] != '\r' || bytes.IndexByte(b[:i-1], '\r') >= 0 {
			return false
		}
		b = b[i+1:]
	}
	return true
}
