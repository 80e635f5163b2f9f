package smtp

import (
	"bytes"
	"strconv"
)

// settle takes the reply that go-smtp has written to the last command: it notes what
// the reply means for the state, replaces texts that repeat the client's words, and
// queues it.
func (f *front) settle() {
	if len(f.written) == 0 {
		return
	}
	raw := f.written
	f.written = f.written[:0]
	if f.mute {
		f.mute = false
		return
	}
	code := 0
	if len(raw) > 3 {
		code, _ = strconv.Atoi(string(raw[:3]))
	}
	f.answer = code
	f.note(code)
	f.out = f.appendReply(f.out, raw, code)
	if f.verb == "QUIT" || code == 421 {
		f.closing = true
	}
	f.limitErrors()
}

// note keeps the state of the transaction.
func (f *front) note(code int) {
	if code >= 500 && (f.verb != "RCPT" || !f.known) { // users may have many dead addresses in a list
		f.errors++
	}
	switch {
	case f.verb == "DATA" && code != 354:
		f.transaction = transaction{}
		if code == 250 {
			f.commands = 0
		}
	case code != 250:
	case f.verb == "MAIL":
		f.transaction = transaction{sender: true}
	case f.verb == "RCPT":
		f.recipients++
	case f.verb == "RSET", f.verb == "EHLO", f.verb == "HELO":
		f.transaction = transaction{}
	}
}

// appendReply adds go-smtp's reply raw as the client shall see it.
func (f *front) appendReply(out, raw []byte, code int) []byte {
	switch {
	case code == 250 && f.verb == "MAIL":
		return append(out, "250 2.1.0 sender ok\r\n"...)
	case code == 250 && f.verb == "RCPT":
		return append(out, "250 2.1.5 recipient ok\r\n"...)
	case code == 235:
		return append(out, "235 2.7.0 authentication succeeded\r\n"...)
	case code == 250 && f.verb == "HELO":
		return append(append(append(out, "250 "...), f.server.o.Hostname...), '\r', '\n')
	case code == 250 && f.verb == "EHLO": // RFC 5321, section 4.1.1.1: our name comes first
		_, caps, _ := bytes.Cut(raw, []byte("\r\n"))
		return append(append(append(append(out, "250-"...), f.server.o.Hostname...), '\r', '\n'), caps...)
	case code == 334 || code == 220 || code == 354:
		return append(out, raw...)
	case code == 502 && (f.verb == "MAIL" || f.verb == "RCPT" || f.verb == "DATA"):
		code = 503 // bad sequence of commands
	case code == 502 && f.verb == "AUTH" && f.link.mode != MX:
		code = 503
	case code == 500 && (f.verb == "MAIL" || f.verb == "RCPT"):
		code = 555 // RFC 5321, section 4.1.1.11: a parameter that is not known
	}
	return appendLines(out, raw, code)
}

// appendLines adds a reply with the enhanced code, which go-smtp writes on the last
// line only, on each of its lines (RFC 2034, section 4).
func appendLines(out, raw []byte, code int) []byte {
	lines := bytes.Split(bytes.TrimSuffix(raw, []byte("\r\n")), []byte("\r\n"))
	last := lines[len(lines)-1]
	enhanced, _, _ := bytes.Cut(last[min(4, len(last)):], []byte(" "))
	for i, l := range lines {
		if i < len(lines)-1 && len(l) > 4 {
			out = strconv.AppendInt(out, int64(code), 10)
			out = append(append(append(append(out, '-'), enhanced...), ' '), l[4:]...)
		} else {
			out = strconv.AppendInt(out, int64(code), 10)
			out = append(out, l[min(3, len(l)):]...)
		}
		out = append(out, '\r', '\n')
	}
	return out
}
