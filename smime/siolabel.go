package smime

import (
	"encoding/base64"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"cmmpd/internal/mail"
	"cmmpd/internal/message"
	"cmmpd/smime/cms"
)

// Marking is how a label is written on a message of ours.
type Marking struct {
	Label mail.Label // in X-Classification; empty: no label is written
	Text  string     // the display marking; empty: no SIO-Label is written
	Color string     // the marking's background, as RFC 7444 names colours; empty: none
	ESS   *cms.SecurityLabel
	// Weaker says whether a label field that the author wrote says less than Label: then ours
	// takes its place. nil: none does.
	Weaker func(name, value string) bool
}

// sioField is the name of the field of RFC 7444.
const sioField = "sio-label"

// dark are the colours on which white is read better than black.
var dark = []string{"black", "blue", "gray", "green", "maroon", "navy", "olive", "purple", "red", "teal"}

// SIOLabel is the SIO-Label field (RFC 7444) with its line ends; empty if there is nothing
// to say. Lines stay below 78 characters but for a security label with a long mark.
func (m *Marking) SIOLabel() []byte {
	if m.Text == "" {
		return nil
	}
	b := append(make([]byte, 0, 256), "SIO-Label: "+parameter("marking", m.Text)...)
	if m.Color != "" {
		front := "black"
		if slices.Contains(dark, m.Color) {
			front = "white"
		}
		b = strconv.AppendQuote(append(b, ";\r\n fgcolor="+front+"; bgcolor="...), m.Color)
	}
	if m.ESS != nil {
		if der, err := m.ESS.DER(); err == nil {
			b = append(base64.StdEncoding.AppendEncode(append(b, ";\r\n type=\":ess\"; label=\""...), der), '"')
		}
	}
	return append(b, "\r\n"...)
}

// parameter writes a MIME parameter: quoted, or as RFC 2231 has it.
func parameter(name, value string) string {
	plain := true
	for i := 0; i < len(value); i++ {
		plain = plain && value[i] >= ' ' && value[i] < 0x7f
	}
	if plain {
		return name + `="` + strings.ReplaceAll(strings.ReplaceAll(value, `\`, `\\`), `"`, `\"`) + `"`
	}
	var b strings.Builder
	b.WriteString(name + "*=utf-8''")
	for i := 0; i < len(value); i++ {
		if c := value[i]; c >= '0' && c <= '9' || c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z' {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}

// labelFields are those by which labels travel in headers.
func (m *Marking) labelFields() []field {
	var out []field
	if m.Label != "" {
		out = append(out, field{labelField, []byte("X-Classification: " + string(m.Label) + "\r\n")})
	}
	if sio := m.SIOLabel(); sio != nil {
		out = append(out, field{sioField, sio})
	}
	return out
}

// Mark puts the SIO-Label on a message that is not sealed, behind its first field, unless
// it bears one that says no less. Nothing else of the message changes; raw itself stays.
func (m *Marking) Mark(raw []byte, limits message.Limits) []byte {
	sio := m.SIOLabel()
	if sio == nil {
		return raw
	}
	h := message.ParseHeader(raw, limits)
	out := make([]byte, 0, len(raw)+len(sio))
	at, written := 0, false
	for i, f := range h.Fields() {
		if strings.EqualFold(f.Name, sioField) {
			if m.Weaker == nil || !m.Weaker(sioField, h.Value(f)) {
				return raw
			}
			out = append(out, raw[at:f.Start]...)
			at = f.End
		}
		if i == 0 {
			out, at, written = append(append(out, raw[at:f.End]...), sio...), f.End, true
		}
	}
	if !written {
		out = append(out, sio...)
	}
	return append(out, raw[at:]...)
}
