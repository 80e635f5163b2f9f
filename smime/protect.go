package smime

import (
	"bytes"
	"regexp"
	"slices"
	"strings"

	"cmmpd/internal/message"
)

// fields is the header of a message, sorted by what sealing does with each field.
type fields struct {
	trace   []byte  // added on the way here; stays outside
	content []field // what describes the body, with at most one Content-Type
	blind   []field // names blind recipients; goes into the author's own copy
	mine    []field // what else the author's client wrote; goes within
}

// field is one header field: its name in lower case, and its bytes with CRLF at the
// end of each line.
type field struct {
	name string
	raw  []byte
}

// value is what stands behind the colon, line end included.
func (f field) value() []byte { return f.raw[bytes.IndexByte(f.raw, ':')+1:] }

// traceFields are added by the servers on the way.
var traceFields = []string{
	"return-path", "received", "received-spf", "delivered-to", "x-original-to", "envelope-to", "x-envelope-to", "authentication-results",
}

// blindFields name blind recipients. They are in nobody's copy but, one by one, in
// their own, and in the author's.
var blindFields = []string{"bcc", "resent-bcc"}

// outerFields stay visible outside, besides Subject, which is replaced: what servers
// and lists of messages need. It is less than hcp_baseline of RFC 9788, section 3.2.1,
// lets through: fields such as Thread-Topic repeat the subject.
var outerFields = []string{
	"from", "sender", "reply-to", "to", "cc", "date", "message-id", "in-reply-to", "references",
	"auto-submitted", "sensitivity", sioField, labelField,
}

// labelField tells the next server the label, now that the subject is hidden.
const labelField = "x-classification"

// hiddenSubject stands for the subject (RFC 9788, section 3.2.1).
const hiddenSubject = "Subject: [...]\r\n"

// split sorts the header of a message. Lines that are no fields are left out, and so
// are fields that claim to be of an earlier header protection.
func split(header []byte) fields {
	var f fields
	h := message.ParseHeader(header, message.Limits{})
	for _, hf := range h.Fields() {
		one := field{name: strings.ToLower(hf.Name), raw: tidy(h.Raw(hf))}
		switch {
		case one.name == "mime-version", one.name == "hp-outer":
		case slices.Contains(blindFields, one.name):
			f.blind = append(f.blind, one)
		case slices.Contains(traceFields, one.name), strings.HasPrefix(one.name, "arc-"):
			f.trace = append(f.trace, one.raw...)
		case one.name == "content-type" && f.hasType(): // of several the first counts
		case strings.HasPrefix(one.name, "content-"):
			f.content = append(f.content, one)
		default:
			f.mine = append(f.mine, one)
		}
	}
	return f
}

func (f fields) hasType() bool {
	return slices.ContainsFunc(f.content, func(c field) bool { return c.name == "content-type" })
}

// tidy is a field with CRLF at the end of each line, and with blanks for what could
// make two lines of one: a CR that ends no line, NUL. What is so already is returned as it is.
func tidy(raw []byte) []byte {
	ends := bytes.Count(raw, []byte("\r\n"))
	if ends > 0 && bytes.HasSuffix(raw, []byte("\r\n")) && bytes.Count(raw, []byte("\r")) == ends && bytes.Count(raw, []byte("\n")) == ends && bytes.IndexByte(raw, 0) < 0 {
		return raw
	}
	raw = slices.Clone(canonical(raw))
	if !bytes.HasSuffix(raw, []byte("\r\n")) {
		raw = append(raw, "\r\n"...)
	}
	for i, c := range raw {
		if c == 0 || c == '\r' && (i+1 == len(raw) || raw[i+1] != '\n') {
			raw[i] = ' '
		}
	}
	return raw
}

// setLabel adds the fields of the label to what is protected, unless the author wrote
// one that says no less.
func (f *fields) setLabel(m *Marking, ours []field) {
	for _, o := range ours {
		stands := false
		f.mine = slices.DeleteFunc(f.mine, func(own field) bool {
			weaker := own.name == o.name && !bytes.Equal(own.value(), o.value()) && m.Weaker != nil && m.Weaker(own.name, unfold(own.value()))
			stands = stands || own.name == o.name && !weaker
			return weaker
		})
		if !stands {
			f.mine = append(f.mine, o)
		}
	}
}

// outer are the fields that stay visible, made by our confidentiality policy from
// what the author wrote. Of a label only what the policy says of it is visible, and not
// what the author's own field may add.
func (f fields) outer(ours []field) []field {
	var out []field
	has := func(name string) bool {
		return slices.ContainsFunc(out, func(o field) bool { return o.name == name })
	}
	for _, m := range f.mine {
		switch {
		case m.name == "subject":
			if !has("subject") {
				out = append(out, field{"subject", []byte(hiddenSubject)})
			}
		case len(ours) > 0 && (m.name == labelField || m.name == sioField):
		case slices.Contains(outerFields, m.name):
			out = append(out, m)
		}
	}
	return append(out, ours...)
}

// protected is the header of the cryptographic payload but its Content fields: the
// author's fields, who of the blind recipients this copy is for, and what was left
// outside (RFC 9788, section 2.2).
func (f fields) protected(o SealOptions, outer []field) []byte {
	var b bytes.Buffer
	for _, m := range f.mine {
		b.Write(m.raw)
	}
	switch {
	case o.BccOf != nil:
		b.WriteString("Bcc: " + o.BccOf.String() + "\r\n")
	case o.KeepBcc:
		for _, m := range f.blind {
			b.Write(m.raw)
		}
	}
	for _, o := range outer {
		b.WriteString("HP-Outer:")
		if i := bytes.IndexByte(o.raw, '\n'); i > maxFirstLine {
			b.WriteString("\r\n")
		}
		b.WriteByte(' ')
		b.Write(o.raw)
	}
	return b.Bytes()
}

// maxFirstLine is the length that leaves room for "HP-Outer: " on a line of 998 bytes.
const maxFirstLine = 980

// mediaType is the beginning of a Content-Type that readers agree on.
var mediaType = regexp.MustCompile("^[ \t\r\n]*[A-Za-z0-9!#$&^_.+-]+/[A-Za-z0-9!#$&^_.+-]+[ \t\r\n]*$")

// withHP is the Content-Type value with the parameter hp (RFC 9788, section
// 2.1) and without another one. The rest keeps its bytes. What readers could not agree on is
// replaced by what the index took it for.
func withHP(value []byte, p *message.Part, hp string) []byte {
	segments := segments(value)
	if len(segments) == 0 || !mediaType.Match(segments[0]) {
		segments = [][]byte{[]byte(" " + p.Type + "/" + p.Subtype)}
		if p.Type != "text" && p.Type != "application" { // parameters would be needed
			segments[0] = []byte(" application/octet-stream")
		}
	}
	var out []byte
	for i, s := range segments {
		name, _, _ := bytes.Cut(s, []byte("="))
		name = bytes.ToLower(bytes.TrimSpace(name))
		if i > 0 && (len(name) == 0 || bytes.Equal(name, []byte("hp")) || bytes.HasPrefix(name, []byte("hp*"))) {
			continue
		}
		if i > 0 {
			out = append(out, ';')
		}
		out = append(out, bytes.TrimRight(s, " \t\r\n")...)
	}
	return append(out, ";\r\n hp=\""+hp+"\"\r\n"...)
}

// segments cuts a field value at the semicolons that are neither in a quoted string
// nor in a comment. A string or comment that does not end takes all the rest, which is
// then left out, as is what stands in comments.
func segments(v []byte) [][]byte {
	var out [][]byte
	var cur []byte
	depth, quotes := 0, false
	for i := 0; i < len(v); i++ {
		c := v[i]
		switch {
		case c == '\\' && (quotes || depth > 0) && i+1 < len(v):
			if depth == 0 {
				cur = append(cur, c, v[i+1])
			}
			i++
		case quotes:
			quotes = c != '"'
			cur = append(cur, c)
		case c == '(':
			depth++
		case c == ')' && depth > 0:
			depth--
		case depth > 0:
		case c == ';':
			out = append(out, cur)
			cur = nil
		default:
			quotes = c == '"'
			cur = append(cur, c)
		}
	}
	if quotes || depth > 0 {
		return out
	}
	return append(out, cur)
}
