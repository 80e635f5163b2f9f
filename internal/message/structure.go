package message

import "strconv"

// AppendStructure appends a BODY, or with extended a BODYSTRUCTURE (RFC 3501, section
// 7.4.2). The index bounds the depth.
func AppendStructure(b []byte, p *Part, extended bool) []byte {
	b = append(b, '(')
	if p.Type == "multipart" && len(p.Children) > 0 {
		for _, c := range p.Children {
			b = AppendStructure(b, c, extended)
		}
		b = AppendString(append(b, ' '), p.Subtype)
		if extended {
			b = appendParams(append(b, ' '), p.Params)
			b = appendExtension(b, p)
		}
		return append(b, ')')
	}
	b = AppendString(b, p.Type)
	b = AppendString(append(b, ' '), p.Subtype)
	b = appendParams(append(b, ' '), p.Params)
	b = appendNString(append(b, ' '), p.ID)
	b = appendNString(append(b, ' '), p.Description)
	b = AppendString(append(b, ' '), p.Encoding)
	b = strconv.AppendInt(append(b, ' '), p.BodyEnd-p.BodyStart, 10)
	switch {
	case p.Type == "message" && p.Subtype == "rfc822" && len(p.Children) == 1:
		b = AppendEnvelope(append(b, ' '), p.Children[0].Envelope)
		b = AppendStructure(append(b, ' '), p.Children[0], extended)
		b = strconv.AppendInt(append(b, ' '), p.Lines, 10)
	case p.Type == "text":
		b = strconv.AppendInt(append(b, ' '), p.Lines, 10)
	}
	if extended {
		b = appendNString(append(b, ' '), p.MD5)
		b = appendExtension(b, p)
	}
	return append(b, ')')
}

// appendExtension appends disposition, language and location.
func appendExtension(b []byte, p *Part) []byte {
	if p.Disposition == "" {
		b = append(b, " NIL"...)
	} else {
		b = AppendString(append(b, " ("...), p.Disposition)
		b = appendParams(append(b, ' '), p.DispositionParams)
		b = append(b, ')')
	}
	switch len(p.Language) {
	case 0:
		b = append(b, " NIL"...)
	case 1:
		b = AppendString(append(b, ' '), p.Language[0])
	default:
		for i, l := range p.Language {
			b = append(b, [2]string{" (", " "}[min(i, 1)]...)
			b = AppendString(b, l)
		}
		b = append(b, ')')
	}
	return appendNString(append(b, ' '), p.Location)
}

func appendParams(b []byte, params []Param) []byte {
	if len(params) == 0 {
		return append(b, "NIL"...)
	}
	for i, p := range params {
		b = append(b, [2]string{"(", " "}[min(i, 1)]...)
		b = AppendString(b, p.Name)
		b = AppendString(append(b, ' '), p.Value)
	}
	return append(b, ')')
}
