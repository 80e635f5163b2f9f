package message

import (
	"strings"
)

// fieldID is a field that the index reads.
type fieldID uint8

const (
	otherField fieldID = iota
	// of any part
	contentType
	contentEncoding
	contentDisposition
	contentID
	contentDescription
	contentLanguage
	contentLocation
	contentMD5
	// of a message
	firstEnvelope
	from = iota - 1
	sender
	replyTo
	to
	cc
	bcc
	date
	subject
	messageID
	inReplyTo
)

// maxFieldName is the length of the longest name in idOf.
const maxFieldName = len("content-transfer-encoding")

func idOf(name []byte) fieldID {
	if len(name) > maxFieldName {
		return otherField
	}
	var lower [maxFieldName]byte
	for i, c := range name {
		if c >= 'A' && c <= 'Z' {
			c += 'a' - 'A'
		}
		lower[i] = c
	}
	switch string(lower[:len(name)]) {
	case "content-type":
		return contentType
	case "content-transfer-encoding":
		return contentEncoding
	case "content-disposition":
		return contentDisposition
	case "content-id":
		return contentID
	case "content-description":
		return contentDescription
	case "content-language":
		return contentLanguage
	case "content-location":
		return contentLocation
	case "content-md5":
		return contentMD5
	case "from":
		return from
	case "sender":
		return sender
	case "reply-to":
		return replyTo
	case "to":
		return to
	case "cc":
		return cc
	case "bcc":
		return bcc
	case "date":
		return date
	case "subject":
		return subject
	case "message-id":
		return messageID
	case "in-reply-to":
		return inReplyTo
	}
	return otherField
}

// readHeader fills part, and its envelope if it is a message, from the header block b.
func (p *parser) readHeader(part *Part, b []byte, isMessage, inDigest bool) {
	part.Type, part.Subtype, part.Encoding = "text", "plain", "7bit"
	if inDigest {
		part.Type, part.Subtype = "message", "rfc822"
	}
	if isMessage {
		part.Envelope = &Envelope{}
	}
	defects := byteDefects(b)
	s := fieldScanner{b: b[:min(len(b), p.lim.HeaderBytes)]}
	if len(s.b) < len(b) {
		defects |= LongHeader
	}
	var seen uint32
	for n := 0; ; n++ {
		f, ok := s.next()
		if !ok || f.end == len(s.b) && len(s.b) < len(b) {
			break
		}
		if n == p.lim.Fields {
			defects |= ManyFields
			break
		}
		id := idOf(b[f.start:f.nameEnd])
		if id == otherField || id >= firstEnvelope && !isMessage {
			continue
		}
		again := seen&(1<<id) != 0
		seen |= 1 << id
		if again {
			defects |= DuplicateField
			if id == from && len(p.open) == 0 {
				defects |= SeveralFrom
			}
			if id < to || id > bcc {
				continue
			}
		}
		value, ok := p.keep(b[f.value:f.end])
		switch {
		case !ok:
		case id >= firstEnvelope:
			p.envelopeField(part.Envelope, id, value)
		default:
			p.contentField(part, id, value)
		}
	}
	p.x.Defects |= defects | s.defects
	if isMessage {
		p.completeEnvelope(part.Envelope)
	}
}

// keep copies and unfolds a value, if the index may still grow by it.
func (p *parser) keep(raw []byte) (string, bool) {
	if len(raw) > p.budget {
		p.x.Defects |= Truncated
		return "", false
	}
	p.budget -= len(raw)
	return unfold(raw), true
}

func (p *parser) contentField(part *Part, id fieldID, value string) {
	switch id {
	case contentType:
		media, params, cut := parseParameterised(value)
		if cut {
			p.x.Defects |= Truncated
		}
		major, minor, ok := strings.Cut(media, "/")
		if !ok || !isToken(major) || !isToken(minor) {
			p.x.Defects |= BadContentType
			return
		}
		part.Type, part.Subtype, part.Params = major, minor, params
	case contentEncoding:
		if e := firstToken(value); e != "" {
			part.Encoding = e
		}
	case contentDisposition:
		disposition, params, cut := parseParameterised(value)
		if cut {
			p.x.Defects |= Truncated
		}
		if isToken(disposition) {
			part.Disposition, part.DispositionParams = disposition, params
		}
	case contentID:
		part.ID = value
	case contentDescription:
		part.Description = value
	case contentLanguage:
		for tag := range strings.SplitSeq(value, ",") {
			if tag = strings.TrimSpace(tag); isToken(tag) && len(part.Language) < maxLanguages {
				part.Language = append(part.Language, tag)
			}
		}
	case contentLocation:
		part.Location = value
	case contentMD5:
		part.MD5 = value
	}
}

// maxLanguages bounds Part.Language.
const maxLanguages = 100

func (p *parser) envelopeField(e *Envelope, id fieldID, value string) {
	switch id {
	case date:
		e.Date = value
	case subject:
		e.Subject = value
	case messageID:
		e.MessageID = value
	case inReplyTo:
		e.InReplyTo = value
	default:
		list := e.list(id)
		*list = append(*list, ParseAddressList(value)...)
		if len(*list) > maxAddresses {
			*list = (*list)[:maxAddresses:maxAddresses]
			p.x.Defects |= Truncated
		}
	}
}

// list is the address list of a field.
func (e *Envelope) list(id fieldID) *[]Address {
	switch id {
	case from:
		return &e.From
	case sender:
		return &e.Sender
	case replyTo:
		return &e.ReplyTo
	case to:
		return &e.To
	case cc:
		return &e.Cc
	default:
		return &e.Bcc
	}
}

// completeEnvelope does what RFC 3501, section 7.4.2, asks for absent fields, and
// looks at the authors of the root.
func (p *parser) completeEnvelope(e *Envelope) {
	if len(e.Sender) == 0 {
		e.Sender = e.From
	}
	if len(e.ReplyTo) == 0 {
		e.ReplyTo = e.From
	}
	if len(p.open) > 0 {
		return
	}
	authors, known := 0, 0
	for _, a := range e.From {
		if a.Host != "" {
			authors++
		}
		if a.Host != "" && a.Host != MissingHost && a.Mailbox != MissingMailbox {
			known++
		}
	}
	if known == 0 {
		p.x.Defects |= NoFrom
	}
	if authors > 1 {
		p.x.Defects |= SeveralFrom
	}
}
