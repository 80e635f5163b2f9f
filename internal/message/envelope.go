package message

import (
	"encoding/binary"
	"slices"
	"strconv"
	"strings"

	"cmmpd/internal/mail"
)

// AppendEnvelope appends an ENVELOPE (RFC 3501, section 7.4.2). nil is one without anything.
func AppendEnvelope(b []byte, e *Envelope) []byte {
	if e == nil {
		e = &Envelope{}
	}
	b = appendAddresses(append(appendEnvelopeHead(b, e), ' '), e.From)
	b = appendAddresses(append(b, ' '), e.Sender)
	b = appendAddresses(append(b, ' '), e.ReplyTo)
	return appendEnvelopeTail(append(b, ' '), e)
}

func appendEnvelopeHead(b []byte, e *Envelope) []byte {
	b = appendNString(append(b, '('), e.Date)
	return appendNString(append(b, ' '), e.Subject)
}

func appendEnvelopeTail(b []byte, e *Envelope) []byte {
	b = appendAddresses(b, e.To)
	b = appendAddresses(append(b, ' '), e.Cc)
	b = appendAddresses(append(b, ' '), e.Bcc)
	b = appendNString(append(b, ' '), e.InReplyTo)
	b = appendNString(append(b, ' '), e.MessageID)
	return append(b, ')')
}

// PackEnvelope appends an ENVELOPE in the form in which it is kept: as it goes out, but for the lists that mostly say the same again,
// which stand once. docs/formats.md has it.
func PackEnvelope(b []byte, e *Envelope) []byte {
	var again byte
	lists := [][]Address{e.From}
	for i, list := range [...][]Address{e.Sender, e.ReplyTo} {
		if slices.Equal(list, e.From) {
			again |= 1 << i
		} else {
			lists = append(lists, list)
		}
	}
	b = append(b, again)
	var buf [512]byte
	put := func(part []byte) {
		b = binary.AppendUvarint(b, uint64(len(part)))
		b = append(b, part...)
	}
	put(appendEnvelopeHead(buf[:0], e))
	for _, list := range lists {
		put(appendAddresses(buf[:0], list))
	}
	return append(b, appendEnvelopeTail(buf[:0], e)...)
}

// unpack takes a packed envelope apart: what stands before the lists, From, Sender, Reply-To, and what stands after.
func unpack(packed []byte) (parts [5][]byte, ok bool) {
	if len(packed) == 0 || packed[0] > 3 {
		return parts, false
	}
	again, rest := packed[0], packed[1:]
	for i := range 4 {
		if i >= 2 && again>>(i-2)&1 != 0 {
			parts[i] = parts[1]
			continue
		}
		n, used := binary.Uvarint(rest)
		if used <= 0 || n > uint64(len(rest)-used) {
			return parts, false
		}
		parts[i], rest = rest[used:used+int(n)], rest[used+int(n):]
	}
	parts[4] = rest
	return parts, true
}

// UnpackEnvelope appends what PackEnvelope was given, as AppendEnvelope writes it. It is false if packed is not of that form.
func UnpackEnvelope(b, packed []byte) ([]byte, bool) {
	parts, ok := unpack(packed)
	if !ok {
		return b, false
	}
	for _, part := range parts[:4] {
		b = append(append(b, part...), ' ')
	}
	return append(b, parts[4]...), true
}

// DecodeEnvelope reads what PackEnvelope wrote. The error is of kind Corrupt.
func DecodeEnvelope(packed []byte) (*Envelope, error) {
	parts, ok := unpack(packed)
	e := &Envelope{}
	var lists [3][]Address
	head := reader{s: string(parts[0]), bad: !ok}
	head.expect("(")
	e.Date = head.text()
	head.expect(" ")
	e.Subject = head.text()
	head.end()
	bad := head.bad
	for i := range lists {
		if i > 0 && ok && packed[0]>>(i-1)&1 != 0 {
			lists[i] = lists[0]
			continue
		}
		r := reader{s: string(parts[1+i])}
		lists[i] = r.addresses()
		r.end()
		bad = bad || r.bad
	}
	e.From, e.Sender, e.ReplyTo = lists[0], lists[1], lists[2]
	tail := reader{s: string(parts[4])}
	for _, list := range []*[]Address{&e.To, &e.Cc, &e.Bcc} {
		*list = tail.addresses()
		tail.expect(" ")
	}
	e.InReplyTo = tail.text()
	tail.expect(" ")
	e.MessageID = tail.text()
	tail.expect(")")
	tail.end()
	if bad || tail.bad {
		return nil, mail.E(mail.Corrupt, "", errEncoding)
	}
	return e, nil
}

// reader reads what the functions here write. After the first fault it reads nothing.
type reader struct {
	s   string
	bad bool
}

func (r *reader) take(prefix string) bool {
	rest, ok := strings.CutPrefix(r.s, prefix)
	if ok {
		r.s = rest
	}
	return ok
}

func (r *reader) expect(prefix string) {
	if !r.take(prefix) {
		r.fail()
	}
}

func (r *reader) fail() { r.s, r.bad = "", true }

func (r *reader) end() {
	if r.s != "" {
		r.fail()
	}
}

// text reads a string or NIL.
func (r *reader) text() string {
	switch {
	case r.take("NIL"):
		return ""
	case r.take("{"):
		size, rest, ok := strings.Cut(r.s, "}\r\n")
		n, err := strconv.Atoi(size)
		if !ok || err != nil || n < 0 || n > len(rest) {
			r.fail()
			return ""
		}
		r.s = rest[n:]
		return rest[:n]
	}
	r.expect(`"`)
	end := strings.IndexAny(r.s, `"\`)
	if end >= 0 && r.s[end] == '"' {
		text := r.s[:end]
		r.s = r.s[end+1:]
		return text
	}
	var text []byte
	for i := 0; i < len(r.s); i++ {
		switch c := r.s[i]; {
		case c == '"':
			r.s = r.s[i+1:]
			return string(text)
		case c == '\\' && i+1 < len(r.s):
			i++
			text = append(text, r.s[i])
		default:
			text = append(text, c)
		}
	}
	r.fail()
	return ""
}

func (r *reader) addresses() []Address {
	if r.take("NIL") {
		return nil
	}
	r.expect("(")
	var list []Address
	for r.take("(") {
		var a Address
		a.Name = r.text()
		r.expect(" NIL ")
		a.Mailbox = r.text()
		r.expect(" ")
		a.Host = r.text()
		r.expect(")")
		list = append(list, a)
	}
	r.expect(")")
	return list
}

func appendAddresses(b []byte, list []Address) []byte {
	if len(list) == 0 {
		return append(b, "NIL"...)
	}
	b = append(b, '(')
	for _, a := range list {
		b = appendNString(append(b, '('), a.Name)
		b = append(b, " NIL "...) // the source route, which nobody uses
		b = appendNString(b, a.Mailbox)
		b = appendNString(append(b, ' '), a.Host)
		b = append(b, ')')
	}
	return append(b, ')')
}
