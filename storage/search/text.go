package search

import (
	"bytes"
	"strings"
	"unicode/utf8"

	"golang.org/x/text/cases"
	"golang.org/x/text/unicode/norm"

	"cmmpd/internal/message"
)

// Field says where in a message a text stands.
type Field uint8

// The fields of the index.
const (
	Subject Field = iota
	From
	To
	Cc
	Bcc
	Other  // the values of all other fields of the header
	Around // what only TEXT finds: names of the header's fields, headers and parameters of parts
	Body   // text parts, and headers of messages within the message
	fields
)

// Fields is a set of them.
type Fields uint8

// Sets that questions are about.
const (
	AllFields Fields = 1<<fields - 1 // TEXT
	BodyOnly  Fields = 1 << Body     // BODY
	InHeader  Fields = 1<<Around - 1 // HEADER
)

// Set is the set of f alone.
func (f Field) Set() Fields { return 1 << f }

// Has says whether f is in the set.
func (s Fields) Has(f Field) bool { return s>>f&1 != 0 }

var namedFields = [...]string{Subject: "Subject", From: "From", To: "To", Cc: "Cc", Bcc: "Bcc"}

// FieldOf is where the index has the value of a header field.
func FieldOf(name string) Field {
	for f, known := range namedFields {
		if strings.EqualFold(name, known) {
			return Field(f)
		}
	}
	return Other
}

// Folder brings texts into the form that is compared: compatibility forms are one (NFKC), and case is folded. It belongs to
// one goroutine.
type Folder struct {
	caser cases.Caser
	norm  []byte
	out   []byte
}

// NewFolder makes a Folder.
func NewFolder() *Folder { return &Folder{caser: cases.Fold()} }

// Fold is the folded text. It is good until the next call.
func (f *Folder) Fold(b []byte) []byte {
	if isASCII(b) {
		f.out = appendLower(f.out[:0], b)
		return f.out
	}
	f.norm = norm.NFKC.Append(f.norm[:0], b...)
	return f.caser.Bytes(f.norm)
}

// FoldString is Fold, and the result stays.
func (f *Folder) FoldString(s string) []byte { return bytes.Clone(f.Fold([]byte(s))) }

func isASCII(b []byte) bool {
	for len(b) >= 8 {
		if (b[0]|b[1]|b[2]|b[3]|b[4]|b[5]|b[6]|b[7])&0x80 != 0 {
			return false
		}
		b = b[8:]
	}
	for _, c := range b {
		if c >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

func appendLower(dst, b []byte) []byte {
	n := len(dst)
	dst = append(dst, b...)
	for i, c := range dst[n:] {
		if 'A' <= c && c <= 'Z' {
			dst[n+i] = c + 'a' - 'A'
		}
	}
	return dst
}

// maxText is how much decoded text of one message is looked at.
const maxText = 64 << 20

// Source is a message that is looked into. It belongs to one goroutine.
type Source struct {
	Header []byte         // of the message as served, the empty line included
	Index  *message.Index // of the message as stored
	// Read returns the message as stored. It is called when something is asked that the header does not answer, once.
	Read func() ([]byte, error)

	head   message.Header
	parsed bool
	raw    []byte
}

func (s *Source) fields() []message.Field {
	if !s.parsed {
		s.head, s.parsed = message.ParseHeader(s.Header, message.Limits{}), true
	}
	return s.head.Fields()
}

func (s *Source) body() ([]byte, error) {
	if s.raw == nil {
		b, err := s.Read()
		if err != nil {
			return nil, err
		}
		s.raw = b
	}
	return s.raw, nil
}

// InField says whether a field of that name has the folded needle in its value.
func (s *Source) InField(f *Folder, name string, needle []byte) bool {
	for _, field := range s.fields() {
		if !strings.EqualFold(field.Name, name) {
			continue
		}
		value := s.value(field)
		if bytes.Contains(f.Fold(value), needle) || bytes.Contains(f.Fold(s.addresses(field, value)), needle) {
			return true
		}
	}
	return false
}

// InText says whether the folded needle is in the message: in the texts that fields names, either AllFields or BodyOnly.
func (s *Source) InText(f *Folder, fields Fields, needle []byte) (bool, error) {
	if len(needle) == 0 {
		return true, nil
	}
	found := false
	look := func(_ Field, text []byte) bool {
		found = bytes.Contains(f.Fold(text), needle)
		return !found
	}
	if fields.Has(Other) {
		if s.headerLines(look); found {
			return true, nil
		}
	}
	err := s.below(fields, look)
	return found, err
}

// headerLines yields the fields of the header as "Name: value", and their addresses.
func (s *Source) headerLines(yield func(Field, []byte) bool) {
	for _, field := range s.fields() {
		if in := FieldOf(field.Name); !yield(in, line(s.head, field)) || !yield(in, s.addresses(field, s.value(field))) {
			return
		}
	}
}

func line(h message.Header, f message.Field) []byte {
	return []byte(f.Name + ": " + message.DecodeWords(h.Value(f)))
}

// below yields the texts below the header: fields of messages within the message, as "Name: value", are text
// for BODY too, and so are text parts. Fields of other parts, and the parameters of all, such as the names of
// attached files, say how text is written, and are only for TEXT.
func (s *Source) below(want Fields, yield func(Field, []byte) bool) error {
	raw, err := s.body()
	if err != nil {
		return err
	}
	for p := range s.Index.Parts() {
		if !s.partHeader(raw, p, want, yield) {
			return nil
		}
	}
	if want.Has(Body) {
		for _, text := range s.Index.Texts(raw, maxText) {
			if !yield(Body, text) {
				return nil
			}
		}
	}
	return nil
}

func (s *Source) partHeader(raw []byte, p *message.Part, want Fields, yield func(Field, []byte) bool) bool {
	in := Around
	if p.Envelope != nil {
		in = Body
	}
	if p != s.Index.Root && want.Has(in) {
		h := message.ParseHeader(raw[p.HeaderStart:p.BodyStart], message.Limits{})
		for _, f := range h.Fields() {
			if !yield(in, line(h, f)) {
				return false
			}
		}
	}
	if !want.Has(Around) {
		return true
	}
	for _, params := range [...][]message.Param{p.Params, p.DispositionParams} {
		for _, param := range params { // a file's name may be written in a way (RFC 2231) that the field does not show
			if !yield(Around, []byte(message.DecodeWords(param.Value))) {
				return false
			}
		}
	}
	return true
}

// Encrypted says whether a message is encrypted from end to end, so that only its outer header can be searched.
func Encrypted(x *message.Index) bool {
	for p := range x.Parts() {
		switch {
		case p.Type == "multipart" && p.Subtype == "encrypted": // RFC 1847
			return true
		case p.Type == "application" && (p.Subtype == "pkcs7-mime" || p.Subtype == "x-pkcs7-mime"): // RFC 8551, section 3.2.2
			switch strings.ToLower(p.Param("smime-type")) {
			case "signed-data", "certs-only", "compressed-data":
			default:
				return true
			}
		}
	}
	return false
}

// value is the value of a field of the header, for people.
func (s *Source) value(f message.Field) []byte { return []byte(message.DecodeWords(s.head.Value(f))) }

// addresses is a field of addresses as ENVELOPE shows it, which FROM and its like are about (RFC 3501, section 6.4.4): names without
// quotes, addresses without comments and spaces. It is empty if the value, for people, says just the same.
func (s *Source) addresses(f message.Field, value []byte) []byte {
	if in := FieldOf(f.Name); in < From || in > Bcc {
		return nil
	}
	var b []byte
	for _, a := range message.ParseAddressList(s.head.Value(f)) {
		if a.Mailbox == "" { // the end of a group
			continue
		}
		if len(b) > 0 {
			b = append(b, ", "...)
		}
		b = appendAddress(b, a)
	}
	if text := []byte(message.DecodeWords(string(b))); !bytes.Equal(text, value) {
		return text
	}
	return nil
}

func appendAddress(b []byte, a message.Address) []byte {
	addr := a.Mailbox + "@" + a.Host
	switch {
	case a.Host == "" || a.Host == message.MissingHost: // the name of a group, or not much of an address
		addr = a.Mailbox
	case a.Mailbox == message.MissingMailbox:
		addr = a.Host
	}
	if a.Name == "" {
		return append(b, addr...)
	}
	return append(append(append(append(b, a.Name...), " <"...), addr...), '>')
}
