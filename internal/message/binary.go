package message

import (
	"slices"

	"cmmpd/internal/mail"
)

// The binary encoding of an Index is described in docs/formats.md, "Message index".
// It has one encoding for each value.

// indexVersion is the first byte of the encoding.
const indexVersion = 1

// Which of the rarer values of a part follow.
const (
	hasParams = 1 << iota
	hasEncoding
	hasDisposition
	hasID
	hasDescription
	hasLanguage
	isOpaque
	hasMD5
	hasLocation
	allPartBits = 1<<iota - 1
)

// Which values of an envelope follow.
const (
	hasDate = 1 << iota
	hasSubject
	hasFrom
	hasTo
	hasMessageID
	hasCc
	hasInReplyTo
	hasSender  // it differs from From
	hasReplyTo // it differs from From
	hasBcc
	allEnvelopeBits = 1<<iota - 1
)

// dictionary are the words that take one byte. Version 1 has these; they are sorted.
var dictionary = [...]string{
	"", "7bit", "8bit", "alternative", "application", "attachment", "base64", "big5", "binary", "boundary", "calendar",
	"charset", "csv", "delivery-status", "delsp", "enveloped-data", "file", "filename", "flowed", "format", "gb2312", "gif",
	"html", "image", "inline", "iso-8859-1", "jpeg", "jpg", "message", "micalg", "mixed", "multipart", "name", "no",
	"octet-stream", "pdf", "pkcs7-mime", "pkcs7-signature", "plain", "png", "protocol", "quoted-printable", "related",
	"report", "report-type", "rfc822", "sha-256", "signed", "signed-data", "size", "smime-type", "smime.p7m", "smime.p7s", "text",
	"type", "us-ascii", "utf-8", "x-pkcs7-signature", "yes", "zip",
}

// AppendBinary appends the encoding of x to b. It fails, with kind Internal, only for an
// Index that neither Parse nor DecodeIndex made.
func (x *Index) AppendBinary(b []byte) ([]byte, error) {
	e := encoder{b: append(b, indexVersion)}
	if x.Root == nil || x.Root.HeaderStart != 0 || x.Root.BodyEnd != x.Size || x.Defects&^allDefects != 0 {
		return b, errNotIndex()
	}
	e.uint(uint64(x.Size))
	e.uint(uint64(x.Defects))
	if !e.part(x.Root, nil, 0, 0) {
		return b, errNotIndex()
	}
	return e.b, nil
}

func errNotIndex() error { return mail.E(mail.Internal, "", errInconsistent) }

// encoder is the state of one run of AppendBinary.
type encoder struct {
	b     []byte
	host  string // of the address before
	parts int
}

func (e *encoder) uint(v uint64) {
	for v >= 0x80 {
		e.b = append(e.b, byte(v)|0x80)
		v >>= 7
	}
	e.b = append(e.b, byte(v))
}

// word writes a string, its number shifted by skip, which says how many smaller
// numbers mean something else.
func (e *encoder) word(s string, skip uint64) {
	if i, ok := slices.BinarySearch(dictionary[:], s); ok {
		e.uint(uint64(i) + skip)
		return
	}
	e.uint(uint64(len(dictionary)+len(s)) + skip)
	e.b = append(e.b, s...)
}

// part writes a part, whose header cannot begin before from. It is false if the part
// is not as Parse makes them.
func (e *encoder) part(p, parent *Part, from int64, depth int) bool {
	e.parts++
	if !p.consistent(parent, from) || depth > maxDepth || e.parts > maxParts {
		return false
	}
	bits := p.bits()
	e.uint(bits)
	if parent != nil {
		e.uint(uint64(p.HeaderStart - from))
	}
	e.uint(uint64(p.BodyStart - p.HeaderStart))
	if parent != nil {
		e.uint(uint64(p.BodyEnd - p.BodyStart))
	}
	e.uint(uint64(p.Lines))
	e.word(p.Type, 0)
	e.word(p.Subtype, 0)
	if bits&hasParams != 0 {
		e.params(p.Params)
	}
	if bits&hasEncoding != 0 {
		e.word(p.Encoding, 0)
	}
	if bits&hasDisposition != 0 {
		e.word(p.Disposition, 0)
		e.params(p.DispositionParams)
	}
	if bits&hasID != 0 {
		e.word(p.ID, 0)
	}
	if bits&hasDescription != 0 {
		e.word(p.Description, 0)
	}
	if bits&hasLanguage != 0 {
		e.uint(uint64(len(p.Language)))
		for _, tag := range p.Language {
			e.word(tag, 0)
		}
	}
	if bits&hasMD5 != 0 {
		e.word(p.MD5, 0)
	}
	if bits&hasLocation != 0 {
		e.word(p.Location, 0)
	}
	if p.Envelope != nil {
		e.envelope(p.Envelope)
	}
	if p.Type == "multipart" {
		e.uint(uint64(len(p.Children)))
	}
	from = p.BodyStart
	for _, child := range p.Children {
		if !e.part(child, p, from, depth+1) {
			return false
		}
		from = child.BodyEnd
	}
	return true
}

// bits says which of its rarer values p has.
func (p *Part) bits() (bits uint64) {
	for _, has := range [...]struct {
		is  bool
		bit uint64
	}{
		{len(p.Params) > 0, hasParams},
		{p.Encoding != "7bit", hasEncoding},
		{p.Disposition != "", hasDisposition},
		{p.ID != "", hasID},
		{p.Description != "", hasDescription},
		{len(p.Language) > 0, hasLanguage},
		{p.Opaque, isOpaque},
		{p.MD5 != "", hasMD5},
		{p.Location != "", hasLocation},
	} {
		if has.is {
			bits |= has.bit
		}
	}
	return bits
}

// consistent says whether p is as Parse makes the parts of parent (nil: the root) whose header
// begins at from or later.
func (p *Part) consistent(parent *Part, from int64) bool {
	ordered := from <= p.HeaderStart && p.HeaderStart <= p.BodyStart && p.BodyStart <= p.BodyEnd &&
		(parent == nil || p.BodyEnd <= parent.BodyEnd) && p.Lines >= 0 && p.Lines <= p.BodyEnd-p.BodyStart
	isMessage := parent == nil || parent.isMessage()
	var children bool
	switch {
	case p.Type == "multipart":
		children = len(p.Children) > 0 && !p.Opaque
	case p.isMessage():
		children = len(p.Children) == 1 && !p.Opaque
	default:
		children = len(p.Children) == 0
	}
	return ordered && children && isMessage == (p.Envelope != nil) && (p.Disposition != "" || len(p.DispositionParams) == 0)
}

func (e *encoder) params(params []Param) {
	e.uint(uint64(len(params)))
	for _, p := range params {
		e.word(p.Name, 0)
		e.word(p.Value, 0)
	}
}

func (e *encoder) envelope(v *Envelope) {
	var bits uint64
	for _, has := range [...]struct {
		is  bool
		bit uint64
	}{
		{v.Date != "", hasDate},
		{v.Subject != "", hasSubject},
		{len(v.From) > 0, hasFrom},
		{len(v.To) > 0, hasTo},
		{v.MessageID != "", hasMessageID},
		{len(v.Cc) > 0, hasCc},
		{v.InReplyTo != "", hasInReplyTo},
		{!slices.Equal(v.Sender, v.From), hasSender},
		{!slices.Equal(v.ReplyTo, v.From), hasReplyTo},
		{len(v.Bcc) > 0, hasBcc},
	} {
		if has.is {
			bits |= has.bit
		}
	}
	e.uint(bits)
	for _, s := range [...]string{v.Date, v.Subject, v.MessageID, v.InReplyTo} {
		if s != "" {
			e.word(s, 0)
		}
	}
	for _, list := range [...]struct {
		bit   uint64
		items []Address
	}{{hasFrom, v.From}, {hasTo, v.To}, {hasCc, v.Cc}, {hasSender, v.Sender}, {hasReplyTo, v.ReplyTo}, {hasBcc, v.Bcc}} {
		if bits&list.bit == 0 {
			continue
		}
		e.uint(uint64(len(list.items)))
		for _, a := range list.items {
			e.address(a)
		}
	}
}

func (e *encoder) address(a Address) {
	e.word(a.Name, 0)
	e.word(a.Mailbox, 0)
	if a.Host == e.host {
		e.uint(0)
		return
	}
	e.word(a.Host, 1)
	e.host = a.Host
}
