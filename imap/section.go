package imap

import (
	"context"
	"io"
	"strings"

	"github.com/emersion/go-imap/v2"

	"cmmpd/imap/wire"
	"cmmpd/internal/mail"
	"cmmpd/internal/message"
	"cmmpd/storage"
)

// source is one message opened as far as it was needed.
type source struct {
	ctx     context.Context
	mbox    *storage.Mailbox
	uid     uint32
	batch   *storage.Batch // nil: the message is read alone
	place   int            // in the batch
	sum     *storage.Summary
	content *storage.Content
}

// open gets the summary; the body stays closed.
func (s *source) open() (err error) {
	switch {
	case s.sum != nil:
	case s.batch != nil:
		s.sum, err = s.batch.Summary(s.ctx, s.place)
	default:
		s.sum, err = s.mbox.Summary(s.ctx, s.uid)
	}
	return err
}

// body opens the message as served.
func (s *source) body() (c *storage.Content, err error) {
	switch {
	case s.content != nil:
	case s.batch != nil:
		s.content, err = s.batch.Body(s.ctx, s.place)
	default:
		s.content, err = s.mbox.Body(s.ctx, s.uid)
	}
	return s.content, err
}

func (s *source) close() {
	if s.content != nil {
		_ = s.content.Close()
	}
}

// span is what a section means: octets at hand, or a stretch of the message as served.
type span struct {
	none   bool // there is no such part
	data   []byte
	inBody bool
	off, n int64
}

// isWhole says whether a section is the whole message, for which the summary is not needed.
func isWhole(sec *imap.FetchItemBodySection) bool {
	return sec.Specifier == imap.PartSpecifierNone && len(sec.Part) == 0
}

// span finds a section. Offsets of the index are those of the body; the entry's own prefix
// stands before it.
func (s *source) span(sec *imap.FetchItemBodySection) (span, error) {
	if isWhole(sec) {
		c, err := s.body()
		if err != nil {
			return span{}, err
		}
		return span{inBody: true, n: c.Size()}, nil
	}
	x := s.sum.Index
	shift := int64(len(s.sum.Prefix))
	part := x.Root
	if len(sec.Part) > 0 {
		if part = x.Part(sec.Part); part == nil {
			return span{none: true}, nil
		}
	}
	switch sec.Specifier {
	case imap.PartSpecifierNone:
		return span{inBody: true, off: shift + part.BodyStart, n: part.BodyEnd - part.BodyStart}, nil
	case imap.PartSpecifierMIME:
		return s.header(part, sec)
	}
	if len(sec.Part) > 0 { // HEADER and TEXT of a part are those of the message in it
		if len(part.Children) != 1 || part.Children[0].Envelope == nil {
			return span{none: true}, nil
		}
		part = part.Children[0]
	}
	if sec.Specifier == imap.PartSpecifierText {
		return span{inBody: true, off: shift + part.BodyStart, n: part.BodyEnd - part.BodyStart}, nil
	}
	return s.header(part, sec)
}

// header is a part's header, or the fields of it that are asked for. That of the root is
// in the summary.
func (s *source) header(part *message.Part, sec *imap.FetchItemBodySection) (span, error) {
	var b []byte
	if part == s.sum.Index.Root {
		b = s.sum.Header
	} else {
		sp := span{inBody: true, off: int64(len(s.sum.Prefix)) + part.HeaderStart, n: part.BodyStart - part.HeaderStart}
		if sec.HeaderFields == nil && sec.HeaderFieldsNot == nil {
			return sp, nil
		}
		if sp.n > maxHeader {
			return span{}, mail.E(mail.TooLarge, "A header is too large to look for fields in it", nil)
		}
		c, err := s.body()
		if err != nil {
			return span{}, err
		}
		b = make([]byte, sp.n)
		if err := readAt(c, b, sp.off); err != nil {
			return span{}, err
		}
	}
	if sec.HeaderFields == nil && sec.HeaderFieldsNot == nil {
		return span{data: b}, nil
	}
	return span{data: selectFields(b, sec)}, nil
}

const maxHeader = 8 << 20

// selectFields is the header with only the fields named, or without them, in their order, and an empty line.
func selectFields(b []byte, sec *imap.FetchItemBodySection) []byte {
	h := message.ParseHeader(b, message.Limits{HeaderBytes: maxHeader})
	names, want := sec.HeaderFields, true
	if names == nil {
		names, want = sec.HeaderFieldsNot, false
	}
	var out []byte
	for _, f := range h.Fields() {
		named := false
		for _, name := range names {
			if named = strings.EqualFold(name, f.Name); named {
				break
			}
		}
		if named == want {
			out = append(out, h.Raw(f)...)
		}
	}
	return append(out, "\r\n"...)
}

// readAt reads exactly len(p) octets.
func readAt(r io.ReaderAt, p []byte, off int64) error {
	n, err := r.ReadAt(p, off)
	if n == len(p) {
		return nil
	}
	if err == nil || err == io.EOF {
		err = mail.E(mail.Corrupt, "", io.ErrUnexpectedEOF)
	}
	return err
}

// whole is up to which size a section is read before its first octet is sent. A larger
// one is read twice, first to see that it is sound: once a literal is announced nothing can be taken back.
const whole = 1 << 20

// section sends one BODY[…] or RFC822 item.
func (f *fetch) section(it *wire.FetchItem, src *source) error {
	sp, err := src.span(&it.Section)
	if err != nil {
		return err
	}
	c := f.s.c
	name := it.AppendSection(nil)
	if sp.none {
		c.out = append(append(c.out, name...), " NIL"...)
		return nil
	}
	if !sp.inBody {
		sp.n = int64(len(sp.data))
	}
	skip := int64(0)
	if p := it.Section.Partial; p != nil {
		skip = min(p.Offset, sp.n)
		sp.n = min(p.Size, sp.n-skip)
	}
	var content *storage.Content
	if sp.inBody && sp.n > 0 {
		if content, err = src.body(); err != nil {
			return err
		}
		if sp.n > whole {
			if err := verify(content, sp.off+skip, sp.n); err != nil {
				return err
			}
		}
	}
	c.out = append(append(c.out, name...), ' ')
	if sp.n == 0 {
		c.out = append(c.out, `""`...)
		return nil
	}
	c.out = wire.AppendLiteralSize(c.out, sp.n)
	if !sp.inBody {
		c.out = append(c.out, sp.data[skip:skip+sp.n]...)
		return nil
	}
	if sp.n <= whole {
		start := len(c.out)
		c.out = grow(c.out, int(sp.n))
		if err := readAt(content, c.out[start:], sp.off+skip); err != nil {
			return err
		}
		if len(c.out) > 2*whole {
			c.send() // many sections of one message
		}
		return nil
	}
	return f.stream(content, sp.off+skip, sp.n)
}

// grow lengthens b by n octets.
func grow(b []byte, n int) []byte {
	if cap(b)-len(b) < n {
		b = append(make([]byte, 0, len(b)+n+spare), b...)
	}
	return b[:len(b)+n]
}

const frame = 64 << 10 // how much of a large section is read at a time: a frame of the store

// verify reads octets and forgets them.
func verify(r io.ReaderAt, off, n int64) error {
	buf := make([]byte, frame)
	for n > 0 {
		k := min(n, frame-off%frame)
		if err := readAt(r, buf[:k], off); err != nil {
			return err
		}
		off, n = off+k, n-k
	}
	return nil
}

// stream sends octets that have been announced.
func (f *fetch) stream(r io.ReaderAt, off, n int64) error {
	c := f.s.c
	for n > 0 && c.err == nil {
		k := min(n, frame-off%frame)
		start := len(c.out)
		c.out = grow(c.out, int(k))
		if err := readAt(r, c.out[start:], off); err != nil {
			return err
		}
		c.spill()
		off, n = off+k, n-k
	}
	return nil
}
