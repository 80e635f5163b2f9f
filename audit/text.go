package audit

import "unicode/utf8"

// appendVisible appends s so that it stays on its line and looks like what it is: control characters become their
// pictures (U+2400 and on), and what ends lines or turns the direction of writing becomes U+FFFD. escape may write a
// character in another way; it returns false to leave it.
func appendVisible(b []byte, s string, escape func(b []byte, c rune) ([]byte, bool)) []byte {
	for i := 0; i < len(s); {
		c, n := rune(s[i]), 1
		if c >= utf8.RuneSelf {
			c, n = utf8.DecodeRuneInString(s[i:])
		}
		out, done := escape(b, c)
		switch {
		case done:
			b = out
		case c < 0x20:
			b = utf8.AppendRune(b, 0x2400+c)
		case c == 0x7f:
			b = append(b, "\u2421"...)
		case c >= 0x80 && hidden(c):
			b = append(b, "\ufffd"...)
		default:
			b = append(b, s[i:i+n]...)
		}
		i += n
	}
	return b
}

// hidden says whether c ends a line somewhere, steers a terminal (C1), or changes the direction of writing.
func hidden(c rune) bool {
	return c < 0xa0 || c == '\u2028' || c == '\u2029' || c == '\u061c' || c == '\u200e' || c == '\u200f' ||
		c >= '\u202a' && c <= '\u202e' || c >= '\u2066' && c <= '\u2069' || c == utf8.RuneError
}
