package smime

import (
	"bytes"
	"mime/quotedprintable"
	"regexp"
	"strings"

	"cmmpd/internal/message"
)

// withoutLegacy is a payload without its legacy display elements: what an author's program puts before the text, so that
// those see the subject whose programs know nothing of protected headers (RFC 9788, sections 2.1.2 and 4.5.3).
func (g *Gateway) withoutLegacy(payload []byte, x *message.Index) ([]byte, *message.Index) {
	var b bytes.Buffer
	at := int64(0)
	var walk func(p *message.Part)
	walk = func(p *message.Part) {
		for _, c := range p.Children {
			walk(c)
		}
		if len(p.Children) > 0 || p.Type != "text" || p.Param("hp-legacy-display") != "1" {
			return
		}
		text, err := message.DecodeTransfer(payload[p.BodyStart:p.BodyEnd], p.Encoding)
		if err != nil {
			return
		}
		if rest, ok := cutLegacy(p.Subtype, text); ok {
			b.Write(payload[at:p.BodyStart])
			g.recode(&b, rest, p.Encoding)
			at = p.BodyEnd
		}
	}
	walk(x.Root)
	if at == 0 {
		return payload, x
	}
	b.Write(payload[at:])
	rest := message.Parse(b.Bytes(), message.Limits{})
	if !sameParts(x.Root, rest.Root) { // what stood around an element became a boundary
		return payload, x
	}
	return b.Bytes(), rest
}

// legacyDiv is the element in HTML.
var legacyDiv = regexp.MustCompile(`(?is)<div\s+class=["']?header-protection-legacy-display["']?\s*>.*?</div>`)

// cutLegacy takes the element out of a text: in HTML a div of its class, elsewhere all up to the first empty line.
func cutLegacy(subtype string, text []byte) ([]byte, bool) {
	if subtype == "html" {
		at := legacyDiv.FindIndex(text)
		if at == nil {
			return nil, false
		}
		return append(bytes.Clone(text[:at[0]]), text[at[1]:]...), true
	}
	for i := 0; i < len(text); {
		end := bytes.IndexByte(text[i:], '\n')
		if end < 0 {
			break
		}
		line := text[i : i+end]
		if i += end + 1; strings.TrimSpace(string(line)) == "" {
			return text[i:], true
		}
	}
	return nil, false
}

// recode writes a text in the encoding in which it was.
func (g *Gateway) recode(b *bytes.Buffer, text []byte, encoding string) {
	switch encoding {
	case "quoted-printable":
		w := quotedprintable.NewWriter(b)
		_, _ = w.Write(text) // into memory
		_ = w.Close()
	case "base64":
		_, _ = base64Text{content(text), g.lines}.WriteTo(b)
	default:
		b.Write(text)
	}
}
