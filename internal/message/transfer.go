package message

import (
	"bytes"
	"encoding/base64"
	"iter"
	"unicode/utf8"

	"cmmpd/internal/mail"
)

// DecodeTransfer undoes a content transfer encoding (RFC 2045, section 6). What is no
// part of the encoding is passed over, as RFC 2045 asks. If base64 ends too early, the
// good part comes with an error of kind Invalid; if the encoding is not known, body
// itself with one of kind Unsupported. The result may share body's memory.
func DecodeTransfer(body []byte, encoding string) ([]byte, error) {
	switch firstToken(encoding) {
	case "", "7bit", "8bit", "binary":
		return body, nil
	case "base64":
		return decodeBase64(body)
	case "quoted-printable":
		return decodeQuotedPrintable(body), nil
	}
	return body, mail.E(mail.Unsupported, "the transfer encoding is not known", nil)
}

// DecodeText is DecodeTransfer and then conversion to UTF-8. What cannot be converted
// becomes U+FFFD. With an error comes the part that is good, or a guess if the charset is
// not known (kind Unsupported). The result may share body's memory.
func DecodeText(body []byte, encoding, charset string) ([]byte, error) {
	raw, err := DecodeTransfer(body, encoding)
	text, err2 := toUTF8(raw, charset)
	if err == nil {
		err = err2
	}
	return text, err
}

// decodeBase64 accepts line ends and foreign characters anywhere, several padded texts
// in a row, and missing padding.
func decodeBase64(b []byte) ([]byte, error) {
	out := make([]byte, base64.StdEncoding.DecodedLen(len(b)))
	if n, err := base64.StdEncoding.Decode(out, b); err == nil {
		return out[:n], nil
	}
	out = out[:0]
	var quantum uint32
	digits := 0
	end := func() {
		switch digits {
		case 2:
			out = append(out, byte(quantum>>4))
		case 3:
			out = append(out, byte(quantum>>10), byte(quantum>>2))
		}
	}
	for _, c := range b {
		v := base64Value(c)
		switch {
		case v >= 0:
			quantum = quantum<<6 | uint32(v)
			if digits++; digits == 4 {
				out = append(out, byte(quantum>>16), byte(quantum>>8), byte(quantum))
				quantum, digits = 0, 0
			}
		case c == '=':
			end()
			quantum, digits = 0, 0
		}
	}
	end()
	if digits == 1 {
		return out, mail.E(mail.Invalid, "base64 ends too early", nil)
	}
	return out, nil
}

func base64Value(c byte) int {
	switch {
	case c >= 'A' && c <= 'Z':
		return int(c - 'A')
	case c >= 'a' && c <= 'z':
		return int(c-'a') + 26
	case c >= '0' && c <= '9':
		return int(c-'0') + 52
	case c == '+':
		return 62
	case c == '/':
		return 63
	}
	return -1
}

// decodeQuotedPrintable keeps what is no valid escape as it stands.
func decodeQuotedPrintable(b []byte) []byte {
	out := make([]byte, 0, len(b))
	for len(b) > 0 {
		next := lineEnd(b, 0)
		line := b[:next]
		b = b[next:]
		text := bytes.TrimRight(line, "\r\n")
		eol := line[len(text):]
		text = bytes.TrimRight(text, " \t") // RFC 2045, section 6.7, rule 3
		if soft, ok := bytes.CutSuffix(text, []byte("=")); ok {
			text, eol = soft, nil
		}
		for {
			i := bytes.IndexByte(text, '=')
			if i < 0 {
				break
			}
			out = append(out, text[:i]...)
			text = text[i:]
			if len(text) >= 3 {
				if hi, lo := hexValue(text[1]), hexValue(text[2]); hi >= 0 && lo >= 0 {
					out = append(out, byte(hi<<4|lo))
					text = text[3:]
					continue
				}
			}
			out = append(out, '=')
			text = text[1:]
		}
		out = append(out, text...)
		out = append(out, eol...)
	}
	return out
}

// Texts yields the text leaves (text/plain, text/html, ...) of the message b, which x is
// the index of, decoded to UTF-8, for search and content rules. It stops after limit
// bytes of text; the last one is cut there. What cannot be decoded is left out or U+FFFD.
// A text may share b's memory.
func (x *Index) Texts(b []byte, limit int) iter.Seq2[*Part, []byte] {
	return func(yield func(*Part, []byte) bool) {
		left := limit
		for part := range x.Parts() {
			if left <= 0 {
				return
			}
			if part.Type != "text" || part.BodyEnd > int64(len(b)) {
				continue
			}
			body := b[part.BodyStart:part.BodyEnd]
			if len(body) > 4*left+4 { // no encoding takes four bytes for one
				body = body[:4*left+4]
			}
			text, _ := DecodeText(body, part.Encoding, part.Param("charset"))
			if len(text) > left {
				cut := left
				for cut > 0 && !utf8.RuneStart(text[cut]) {
					cut--
				}
				text, left = text[:cut], cut
			}
			left -= len(text)
			if !yield(part, text) {
				return
			}
		}
	}
}
