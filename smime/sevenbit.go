package smime

import (
	"bytes"
	"mime/quotedprintable"
	"strings"

	"cmmpd/internal/message"
)

// encoder7 writes an entity anew so that it has 7 bits only: text by quoted-printable, all
// else by base64 (RFC 8551, section 3.1.3). Parts that have 7 bits already keep their bytes.
type encoder7 struct {
	g   *Gateway
	raw []byte
	b   bytes.Buffer
}

// part writes a part whose header, with the empty line, is head; its line ends are CRLF.
func (e *encoder7) part(p *message.Part, head []byte) error {
	body := e.raw[p.BodyStart:p.BodyEnd]
	switch {
	case sevenBit(body) && p.Encoding != "binary" && !hasBinary(p):
		e.header(head, "")
		e.b.Write(canonical(body))
		return nil
	case p.Type == "multipart" && (p.Subtype == "signed" || p.Subtype == "encrypted"), p.Opaque:
		return errAsItIs
	case len(p.Children) > 0:
		e.header(head, "7bit")
		return e.children(p)
	case p.Encoding == "base64" || p.Encoding == "quoted-printable" || p.Type == "message" || p.Type == "multipart":
		return errAsItIs
	case p.Type == "text" && bytes.IndexByte(body, 0) < 0:
		e.header(head, "quoted-printable")
		w := quotedprintable.NewWriter(&e.b)
		if _, err := w.Write(canonical(body)); err != nil {
			return err
		}
		return w.Close()
	}
	e.header(head, "base64")
	_, err := base64Text{content(body), e.g.lines}.WriteTo(&e.b)
	return err
}

// children writes the parts within p, and the lines between them as they are.
func (e *encoder7) children(p *message.Part) error {
	at := p.BodyStart
	for _, c := range p.Children {
		e.b.Write(canonical(e.raw[at:c.HeaderStart]))
		if err := e.part(c, canonical(e.raw[c.HeaderStart:c.BodyStart])); err != nil {
			return err
		}
		at = c.BodyEnd
	}
	e.b.Write(canonical(e.raw[at:p.BodyEnd]))
	return nil
}

// header writes head, which ends in an empty line, with the encoding, if one is given, in
// place of the one that stands there.
func (e *encoder7) header(head []byte, encoding string) {
	if encoding == "" {
		e.b.Write(head)
		return
	}
	h := message.ParseHeader(head, message.Limits{})
	for _, f := range h.Fields() {
		if !strings.EqualFold(f.Name, "Content-Transfer-Encoding") {
			e.b.Write(tidy(h.Raw(f)))
		}
	}
	e.b.WriteString("Content-Transfer-Encoding: " + encoding + "\r\n\r\n")
}
