package message

import (
	"strconv"
	"strings"
)

// What IMAP says of a message is written here, so that the store can keep it ready. What came from outside is never
// written raw: a string that is not plain goes out as a literal, or stored data could inject responses. No string depends on what a
// client has enabled: a literal may hold what a quoted string may not.

// maxQuoted is the length from which a string goes out as a literal.
const maxQuoted = 1000

// AppendString appends s as a quoted string, or as a literal when it holds anything but printable ASCII. NUL, which
// no string of IMAP can hold, is left out.
func AppendString(dst []byte, s string) []byte {
	escapes := 0
	for i := range len(s) {
		switch c := s[i]; {
		case c < 0x20 || c >= 0x7f:
			return appendLiteral(dst, s)
		case c == '"' || c == '\\':
			escapes++
		}
	}
	if len(s) > maxQuoted {
		return appendLiteral(dst, s)
	}
	dst = append(dst, '"')
	if escapes == 0 {
		dst = append(dst, s...)
	} else {
		for i := range len(s) {
			if s[i] == '"' || s[i] == '\\' {
				dst = append(dst, '\\')
			}
			dst = append(dst, s[i])
		}
	}
	return append(dst, '"')
}

func appendLiteral(dst []byte, s string) []byte {
	if strings.IndexByte(s, 0) >= 0 {
		s = strings.ReplaceAll(s, "\x00", "")
	}
	return append(AppendLiteralSize(dst, int64(len(s))), s...)
}

// AppendLiteralSize appends the announcement of a literal of n octets, which must follow.
func AppendLiteralSize(dst []byte, n int64) []byte {
	dst = strconv.AppendInt(append(dst, '{'), n, 10)
	return append(dst, "}\r\n"...)
}

// appendNString appends s, or NIL when it is empty.
func appendNString(dst []byte, s string) []byte {
	if s == "" {
		return append(dst, "NIL"...)
	}
	return AppendString(dst, s)
}
