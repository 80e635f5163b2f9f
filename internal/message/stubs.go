package message

import (
	"iter"
	"time"

	"cmmpd/internal/mail"
)

// Parse makes the index of the message b. It never fails.
func Parse(b []byte, lim Limits) *Index {
	return &Index{Root: &Part{BodyEnd: int64(len(b)), Type: "text", Subtype: "plain", Encoding: "7bit", Envelope: &Envelope{}}, Size: int64(len(b))}
}

// Part is the part of that IMAP part number (RFC 3501, section 6.4.5), nil if there is none. The empty path is the root.
func (x *Index) Part(path []int) *Part { return nil }

// AppendBinary appends the encoding of x.
func (x *Index) AppendBinary(b []byte) ([]byte, error) { return nil, errTodo() }

// DecodeIndex reads what AppendBinary wrote.
func DecodeIndex(b []byte) (*Index, error) { return nil, errTodo() }

// Texts yields decoded text leaves.
func (x *Index) Texts(b []byte, max int) iter.Seq2[*Part, []byte] {
	return func(func(*Part, []byte) bool) {}
}

// Param is the value of the first parameter of that name of Content-Type, "" if there is none.
func (p *Part) Param(name string) string { return "" }

// Filename is the decoded name of an attachment.
func (p *Part) Filename() string { return "" }

// Field is one field of a Header.
type Field struct {
	Name       string
	Start, End int
	value      int
}

// Header is a header block.
type Header struct {
	b      []byte
	fields []Field
	n      int
}

// ParseHeader reads the header at the beginning of b.
func ParseHeader(b []byte, lim Limits) Header { return Header{} }

// Len is the length of the block in bytes, empty line included.
func (h Header) Len() int { return h.n }

// Fields are the fields in order.
func (h Header) Fields() []Field { return h.fields }

// Raw are the bytes of f, line end included.
func (h Header) Raw(f Field) []byte { return h.b[f.Start:f.End] }

// Get is the first value of that name, unfolded and trimmed.
func (h Header) Get(name string) string { return "" }

// All are all values of that name.
func (h Header) All(name string) []string { return nil }

// Value is the value of f, unfolded and trimmed.
func (h Header) Value(f Field) string { return "" }

// DecodeWords undoes RFC 2047.
func DecodeWords(s string) string { return s }

// ParseAddressList reads an address list.
func ParseAddressList(s string) []Address { return nil }

// DecodeText is the text of a body in UTF-8.
func DecodeText(body []byte, encoding, charset string) ([]byte, error) { return nil, errTodo() }

// DecodeTransfer undoes a transfer encoding.
func DecodeTransfer(body []byte, encoding string) ([]byte, error) { return nil, errTodo() }

// MessageIDs are the ids in s, without angle brackets.
func MessageIDs(s string) []string { return nil }

// BaseSubject is that of RFC 5256, section 2.1.
func BaseSubject(s string) string { return s }

// FormatDate is t as RFC 5322 writes it.
func FormatDate(t time.Time) string { return "" }

// EncodeWord is s as a header may carry it.
func EncodeWord(s string) string { return s }

func errTodo() error { return mail.E(mail.Unsupported, "not offered yet", nil) }
