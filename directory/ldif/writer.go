package ldif

import (
	"bufio"
	"encoding/base64"
	"io"
)

// width is the length at which lines are folded.
const width = 76

// Writer writes content records. It is not safe for concurrent use.
type Writer struct {
	w *bufio.Writer
}

// NewWriter writes to w. There is no version line: it says nothing, and OpenLDAP's slapadd
// takes it for an attribute.
func NewWriter(w io.Writer) *Writer { return &Writer{w: bufio.NewWriter(w)} }

// Entry writes one content record.
func (w *Writer) Entry(dn string, values []Value) {
	w.line("dn", []byte(dn))
	for _, v := range values {
		w.line(v.Desc, v.Data)
	}
	w.w.WriteByte('\n')
}

// Flush writes what is buffered and returns the first error of all writes.
func (w *Writer) Flush() error { return w.w.Flush() }

func (w *Writer) line(desc string, data []byte) {
	text := desc + ": " + string(data)
	if !safe(data) {
		text = desc + ":: " + base64.StdEncoding.EncodeToString(data)
	}
	for room := width; len(text) > room; room = width - 1 {
		w.w.WriteString(text[:room])
		w.w.WriteString("\n ")
		text = text[room:]
	}
	w.w.WriteString(text)
	w.w.WriteByte('\n')
}

// safe is SAFE-STRING of RFC 2849; a trailing space is not, so that editors cannot
// lose it.
func safe(b []byte) bool {
	if len(b) == 0 {
		return true
	}
	if b[0] == ' ' || b[0] == ':' || b[0] == '<' || b[len(b)-1] == ' ' {
		return false
	}
	for _, c := range b {
		if c == 0 || c == '\n' || c == '\r' || c >= 0x80 {
			return false
		}
	}
	return true
}
