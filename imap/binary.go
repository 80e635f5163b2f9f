package imap

import (
	"bytes"
	"context"
	"strings"

	"github.com/emersion/go-imap/v2"

	"cmmpd/imap/wire"
	"cmmpd/internal/mail"
	"cmmpd/internal/message"
)

// binary sends one BINARY[…] or BINARY.SIZE[…] item: a part with its content transfer encoding undone (RFC 3516). An encoding that
// ends too early gives what there is of it.
func (f *fetch) binary(it *wire.FetchItem, src *source) error {
	encoding := ""
	if len(it.Section.Part) > 0 {
		if part := src.sum.Index.Part(it.Section.Part); part != nil && len(part.Children) == 0 {
			encoding = part.Encoding
		}
	}
	decoded := false
	switch strings.ToLower(encoding) {
	case "", "7bit", "8bit", "binary":
	case "base64", "quoted-printable":
		decoded = true
	default:
		return no(unknownCTE, "The encoding of a part is not known")
	}
	if !decoded && it.Kind == wire.FetchBinary {
		return f.section(it, src)
	}
	plain := wire.FetchItem{Section: imap.FetchItemBodySection{Part: it.Section.Part}}
	sp, err := src.span(&plain.Section)
	if err != nil {
		return err
	}
	c := f.s.c
	switch {
	case sp.none && it.Kind == wire.FetchBinarySize:
		c.out = append(it.AppendSection(c.out), " 0"...)
		return nil
	case sp.none:
		return f.section(it, src)
	case !decoded:
		c.out = wire.AppendNumber(append(it.AppendSection(c.out), ' '), sp.n)
		return nil
	}
	data, release, err := f.decode(src, sp, encoding)
	if err != nil {
		return err
	}
	defer release()
	if it.Kind == wire.FetchBinarySize {
		c.out = wire.AppendNumber(append(it.AppendSection(c.out), ' '), len(data))
		return nil
	}
	if p := it.Section.Partial; p != nil {
		data = data[min(p.Offset, int64(len(data))):]
		data = data[:min(p.Size, int64(len(data)))]
	}
	c.out = append(it.AppendSection(c.out), ' ')
	if len(data) == 0 {
		c.out = append(c.out, `""`...)
		return nil
	}
	if bytes.IndexByte(data, 0) >= 0 {
		c.out = append(c.out, '~')
	}
	c.out = append(wire.AppendLiteralSize(c.out, int64(len(data))), data...)
	if len(c.out) > 2*whole {
		c.send()
	}
	return nil
}

// decode reads a part and undoes its encoding. The memory for it is the intake's to give, until release.
func (f *fetch) decode(src *source, sp span, encoding string) (data []byte, release func(), err error) {
	n := 2 * sp.n
	ctx, cancel := context.WithTimeout(src.ctx, f.s.srv.o.Limits.Progress)
	defer cancel()
	if err := f.s.srv.o.Intake.Reserve(ctx, n); err != nil {
		return nil, nil, err
	}
	release = func() { f.s.srv.o.Intake.Release(n) }
	content, err := src.body()
	if err == nil {
		raw := make([]byte, sp.n)
		if err = readAt(content, raw, sp.off); err == nil {
			if data, err = message.DecodeTransfer(raw, encoding); mail.KindOf(err) == mail.Invalid {
				err = nil
			}
		}
	}
	if err != nil {
		release()
		return nil, nil, err
	}
	return data, release, nil
}
