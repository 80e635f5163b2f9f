package wire

import (
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"cmmpd/internal/message"
)

// The Append functions write the parts of a response. What came from outside is never
// written raw: a string that is not plain goes out as a literal, or
// stored data could inject responses.

// maxQuoted is the length from which a mailbox name goes out as a literal.
const maxQuoted = 1000

// AppendString is message.AppendString.
func AppendString(dst []byte, s string) []byte { return message.AppendString(dst, s) }

// AppendLiteralSize is message.AppendLiteralSize.
func AppendLiteralSize(dst []byte, n int64) []byte { return message.AppendLiteralSize(dst, n) }

// AppendMailbox appends a UTF-8 mailbox name in modified UTF-7.
func AppendMailbox(dst []byte, name string) []byte {
	return appendAString(dst, EncodeMailbox(name))
}

// AppendMailboxUTF8 appends a mailbox name in UTF-8.
func AppendMailboxUTF8(dst []byte, name string) []byte {
	if strings.IndexFunc(name, func(r rune) bool { return r >= 0x80 }) < 0 || len(name) > maxQuoted ||
		!utf8.ValidString(name) || strings.ContainsFunc(name, unicode.IsControl) {
		return appendAString(dst, name)
	}
	dst = append(dst, '"')
	for i := range len(name) {
		if name[i] == '"' || name[i] == '\\' {
			dst = append(dst, '\\')
		}
		dst = append(dst, name[i])
	}
	return append(dst, '"')
}

// appendAString appends s as an atom where it can be one.
func appendAString(dst []byte, s string) []byte {
	for i := range len(s) {
		if !isAString(s[i]) {
			return AppendString(dst, s)
		}
	}
	if s == "" || strings.EqualFold(s, "NIL") {
		return AppendString(dst, s)
	}
	return append(dst, s...)
}

// AppendNumber appends n.
func AppendNumber[N uint32 | uint64 | int64 | int](dst []byte, n N) []byte {
	return strconv.AppendUint(dst, uint64(n), 10)
}

// AppendFlags appends a parenthesised list of flags. A name that is not a flag is left out.
func AppendFlags(dst []byte, flags []string) []byte {
	dst = append(dst, '(')
	start := len(dst)
	for _, f := range flags {
		if !ValidFlag(f) {
			continue
		}
		if len(dst) > start {
			dst = append(dst, ' ')
		}
		dst = append(dst, f...)
	}
	return append(dst, ')')
}

// ValidFlag says whether f can stand in a list of flags.
func ValidFlag(f string) bool {
	name := strings.TrimPrefix(f, `\`)
	for i := range len(name) {
		if !isAtom(name[i]) {
			return false
		}
	}
	return name != ""
}

// Text makes a sentence fit for a response line: one line of printable ASCII, not
// empty, and not beginning like a response code.
func Text(s string) string {
	var b strings.Builder
	for _, r := range s {
		switch {
		case r == utf8.RuneError || r >= 0x7f:
			b.WriteByte('?')
		case r < 0x20:
			b.WriteByte(' ')
		default:
			b.WriteRune(r)
		}
	}
	t := strings.TrimLeft(b.String(), " [")
	if t == "" {
		return "Done"
	}
	const longest = 900
	return t[:min(len(t), longest)]
}
