package message

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// DecodeWords undoes the encoded words of RFC 2047 in s, which is unfolded or not, and
// returns clean UTF-8: without controls, line breaks and marks that reorder text.
// Adjacent words of one charset are joined as bytes before they are converted, as
// many programs cut characters in two. An encoded word may stand anywhere. What is not
// encoded and not UTF-8 is taken as guess does. Time is linear in len(s).
func DecodeWords(s string) string {
	if !strings.Contains(s, "=?") && isPlain(s) {
		return s
	}
	var out strings.Builder
	out.Grow(len(s))
	var pending []byte // decoded bytes of the words of one charset
	charset := ""
	flush := func() {
		if len(pending) > 0 {
			text, _ := toUTF8(pending, charset)
			out.Write(text)
			pending = pending[:0]
		}
	}
	afterWord := false
	for s != "" {
		i := strings.Index(s, "=?")
		if i < 0 {
			i = len(s)
		}
		literal := s[:i]
		word, rest, ok := cutWord(s[i:])
		if !ok {
			end := min(i+2, len(s))
			literal, rest = s[:end], s[end:]
		}
		if !ok || !afterWord || strings.Trim(literal, " \t\r\n") != "" {
			flush()
			out.Write(guess([]byte(literal)))
		}
		if ok {
			if canonical(word.charset) != charset {
				flush()
				charset = canonical(word.charset)
			}
			pending = word.appendDecoded(pending)
		}
		afterWord, s = ok, rest
	}
	flush()
	return clean(out.String())
}

// isPlain says that s is printable ASCII.
func isPlain(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

// encodedWord is one encoded word, still encoded.
type encodedWord struct {
	charset string
	base64  bool
	text    string
}

// maxCharsetName bounds the name of a charset in an encoded word, language included.
const maxCharsetName = 100

// cutWord reads the encoded word at the beginning of s. Spaces within its text are
// tolerated, other white space is not.
func cutWord(s string) (w encodedWord, rest string, ok bool) {
	if !strings.HasPrefix(s, "=?") {
		return w, s, false
	}
	head := s[2:min(len(s), maxCharsetName+2)]
	q := strings.IndexByte(head, '?')
	if q <= 0 || len(s) < q+6 || s[q+4] != '?' {
		return w, s, false
	}
	switch s[q+3] {
	case 'B', 'b':
		w.base64 = true
	case 'Q', 'q':
	default:
		return w, s, false
	}
	w.charset, _, _ = strings.Cut(head[:q], "*") // RFC 2231, section 5
	if !isToken(w.charset) {
		return w, s, false
	}
	body := s[q+5:]
	end := strings.IndexAny(body, "?\r\n")
	if end < 0 || end+1 >= len(body) || body[end] != '?' || body[end+1] != '=' {
		return w, s, false
	}
	w.text = body[:end]
	return w, body[end+2:], true
}

// appendDecoded undoes the B or Q encoding.
func (w encodedWord) appendDecoded(b []byte) []byte {
	if w.base64 {
		text, _ := decodeBase64([]byte(w.text))
		return append(b, text...)
	}
	for i := 0; i < len(w.text); i++ {
		c := w.text[i]
		switch {
		case c == '_':
			c = ' '
		case c == '=' && i+2 < len(w.text):
			if hi, lo := hexValue(w.text[i+1]), hexValue(w.text[i+2]); hi >= 0 && lo >= 0 {
				c = byte(hi<<4 | lo)
				i += 2
			}
		}
		b = append(b, c)
	}
	return b
}

// clean removes from decoded text what could pass for something else: controls and
// marks that reorder text are gone, line breaks, tabs and line separators are spaces.
func clean(s string) string {
	if isPlain(s) {
		return s
	}
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\t', r == '\r', r == '\n', r == '\u2028', r == '\u2029':
			return ' '
		case unicode.IsControl(r), r >= '\u202a' && r <= '\u202e', r >= '\u2066' && r <= '\u2069':
			return -1
		case r == utf8.RuneError:
			return utf8.RuneError
		}
		return r
	}, s)
}
