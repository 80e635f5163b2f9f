package imap

import (
	"cmmpd/imap/wire"
	"cmmpd/internal/message"
)

// appendStructure appends a BODY, or with extended a BODYSTRUCTURE (RFC 3501, section
// 7.4.2). The index bounds the depth.
func appendStructure(b []byte, p *message.Part, extended bool) []byte {
	b = append(b, '(')
	if p.Type == "multipart" && len(p.Children) > 0 {
		for _, c := range p.Children {
			b = appendStructure(b, c, extended)
		}
		b = wire.AppendString(append(b, ' '), p.Subtype)
		if extended {
			b = appendParams(append(b, ' '), p.Params)
			b = appendExtension(b, p)
		}
		return append(b, ')')
	}
	b = wire.AppendString(b, p.Type)
	b = wire.AppendString(append(b, ' '), p.Subtype)
	b = appendParams(append(b, ' '), p.Params)
	b = wire.AppendNString(append(b, ' '), p.ID)
	b = wire.AppendNString(append(b, ' '), p.Description)
	b = wire.AppendString(append(b, ' '), p.Encoding)
	b = wire.AppendNumber(append(b, ' '), p.BodyEnd-p.BodyStart)
	switch {
	case p.Type == "message" && p.Subtype == "rfc822" && len(p.Children) == 1:
		b = appendEnvelope(append(b, ' '), p.Children[0].Envelope)
		b = appendStructure(append(b, ' '), p.Children[0], extended)
		b = wire.AppendNumber(append(b, ' '), p.Lines)
	case p.Type == "text":
		b = wire.AppendNumber(append(b, ' '), p.Lines)
	}
	if extended {
		b = wire.AppendNString(append(b, ' '), p.MD5)
		b = appendExtension(b, p)
	}
	return append(b, ')')
}

// appendExtension appends disposition, language and location.
func appendExtension(b []byte, p *message.Part) []byte {
	if p.Disposition == "" {
		b = append(b, " NIL"...)
	} else {
		b = wire.AppendString(append(b, " ("...), p.Disposition)
		b = appendParams(append(b, ' '), p.DispositionParams)
		b = append(b, ')')
	}
	switch len(p.Language) {
	case 0:
		b = append(b, " NIL"...)
	case 1:
		b = wire.AppendString(append(b, ' '), p.Language[0])
	default:
		for i, l := range p.Language {
			b = append(b, [2]string{" (", " "}[min(i, 1)]...)
			b = wire.AppendString(b, l)
		}
		b = append(b, ')')
	}
	return wire.AppendNString(append(b, ' '), p.Location)
}

func appendParams(b []byte, params []message.Param) []byte {
	if len(params) == 0 {
		return append(b, "NIL"...)
	}
	for i, p := range params {
		b = append(b, [2]string{"(", " "}[min(i, 1)]...)
		b = wire.AppendString(b, p.Name)
		b = wire.AppendString(append(b, ' '), p.Value)
	}
	return append(b, ')')
}
