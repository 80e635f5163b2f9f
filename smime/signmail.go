package smime

import (
	"bytes"
	"errors"

	"cmmpd/internal/mail"
	"cmmpd/internal/message"
	"cmmpd/smime/cms"
)

// SignOptions say who signs a message that is not sealed.
type SignOptions struct {
	Author mail.Address // the one author, who has proved to be it
	Own    bool         // their own key signs; else the signing authority of their domain
	Label  *cms.SecurityLabel
}

// HasAuthority says whether there is a key of the signing authority of that domain.
func (g *Gateway) HasAuthority(domain string) bool {
	_, ok := g.o.Signers(domain)
	return ok
}

// HasOwn says whether there is a key with which the author of that address could sign.
func (g *Gateway) HasOwn(a mail.Address) bool {
	_, ok := g.o.Own(a)
	return ok
}

// Signable says whether Sign signs the message: neither what its author's client has signed or encrypted, nor a report.
func Signable(x *message.Index) bool {
	return !cryptographic(x.Root) && (x.Root.Type != "multipart" || x.Root.Subtype != "report")
}

// Sign returns the message as multipart/signed (RFC 8551, section 3.5.3), its header copied
// into what is signed (RFC 9788, hp="clear"), every line ended by CRLF and all of it in 7 bits, so
// that no relay has a reason to touch it: parts in 8 bits are encoded. What cannot be encoded without being
// changed (raw 8-bit characters in headers, a signature of somebody's around 8-bit text) is signed as one opaque
// structure. What its author's client has signed or encrypted, and a report, is returned as it is.
//
// The error is of kind Internal: the key cannot be used, among others.
func (g *Gateway) Sign(raw []byte, x *message.Index, o SignOptions) ([]byte, error) {
	if !Signable(x) {
		return raw, nil
	}
	f := split(raw[x.Root.HeaderStart:x.Root.BodyStart])
	payload, opaque, err := g.clearPayload(raw, x, f)
	if err != nil {
		return nil, mail.E(mail.Internal, "", err)
	}
	entity, err := g.signBy(payload, o.Author, o.Own, o.Label, opaque)
	if err != nil {
		return nil, mail.E(mail.Internal, "", err)
	}
	var b bytes.Buffer
	b.Grow(entity.Size() + 2*len(f.trace) + 4096)
	b.Write(f.trace)
	for _, m := range append(f.mine, f.blind...) {
		b.Write(m.raw)
	}
	b.WriteString("MIME-Version: 1.0\r\n")
	if _, err := entity.WriteTo(&b); err != nil {
		return nil, mail.E(mail.Internal, "", err)
	}
	return b.Bytes(), nil
}

// clearPayload is what is signed, in 7 bits, or to be signed as an opaque structure.
func (g *Gateway) clearPayload(raw []byte, x *message.Index, f fields) (payload cms.Content, opaque bool, err error) {
	head := g.clearHeader(f, x.Root)
	body := raw[x.Root.BodyStart:x.Root.BodyEnd]
	if sevenBit(body) && !hasBinary(x.Root) && sevenBit(head) {
		return parts{content(head), canonicalContent(body)}, false, nil
	}
	e := encoder7{g: g, raw: raw}
	if err := e.part(x.Root, head); err == nil && sevenBit(e.b.Bytes()) && sameParts(x.Root, message.Parse(e.b.Bytes(), message.Limits{}).Root) {
		return content(e.b.Bytes()), false, nil
	} else if err != nil && !errors.Is(err, errAsItIs) {
		return nil, false, err
	}
	text := content(body)
	if !hasBinary(x.Root) {
		text = canonicalContent(body)
	}
	return parts{content(head), text}, true, nil
}

// clearHeader are the author's fields, if they are in ASCII, those that describe the body, and
// the empty line.
func (g *Gateway) clearHeader(f fields, root *message.Part) []byte {
	var b bytes.Buffer
	for _, m := range f.mine {
		b.Write(m.raw)
	}
	hp := sevenBit(b.Bytes())
	if !hp {
		b.Reset()
	}
	if !f.hasType() {
		f.content = append(f.content, field{"content-type", []byte("Content-Type: text/plain\r\n")})
	}
	for _, c := range f.content {
		if c.name != "content-type" || !hp {
			b.Write(c.raw)
			continue
		}
		value := c.value()
		if root.Opaque && root.Type == "text" { // a multipart without parts
			value = []byte(" text/plain")
		}
		b.WriteString("Content-Type:")
		b.Write(withHP(value, root, "clear"))
	}
	b.WriteString("\r\n")
	return b.Bytes()
}

// sameParts says whether two entities are made of the same parts.
func sameParts(a, b *message.Part) bool {
	if a.Type != b.Type || a.Subtype != b.Subtype || len(a.Children) != len(b.Children) {
		return false
	}
	for i := range a.Children {
		if !sameParts(a.Children[i], b.Children[i]) {
			return false
		}
	}
	return true
}

// maxLine is the longest line that mail may have, without its end (RFC 5322, section 2.1.1).
const maxLine = 998

// sevenBit says whether b travels unchanged everywhere: ASCII without NUL and without a CR
// that ends no line, in lines of a good length.
func sevenBit(b []byte) bool {
	start := 0
	for i, c := range b {
		switch {
		case c == 0, c >= 0x80, c == '\r' && (i+1 == len(b) || b[i+1] != '\n'):
			return false
		case c == '\n':
			start = i + 1
		case i-start > maxLine:
			return false
		}
	}
	return true
}

var errAsItIs = errors.New("it cannot be encoded")
