package wire

import (
	"encoding/base64"
	"errors"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// Modified UTF-7 (RFC 3501, section 5.1.3).

var (
	mutf7    = base64.NewEncoding("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+,").WithPadding(base64.NoPadding).Strict()
	errMutf7 = errors.New("not canonical modified UTF-7")
)

// EncodeMailbox writes a UTF-8 name in modified UTF-7. Octets that are not UTF-8 become U+FFFD.
func EncodeMailbox(name string) string {
	if strings.IndexFunc(name, func(r rune) bool { return !direct(r) || r == '&' }) < 0 {
		return name
	}
	var b strings.Builder
	var run []byte
	flush := func() {
		if len(run) > 0 {
			b.WriteByte('&')
			b.WriteString(mutf7.EncodeToString(run))
			b.WriteByte('-')
			run = run[:0]
		}
	}
	for _, r := range name {
		if !direct(r) {
			for _, u := range utf16.AppendRune(nil, r) {
				run = append(run, byte(u>>8), byte(u))
			}
			continue
		}
		flush()
		b.WriteRune(r)
		if r == '&' {
			b.WriteByte('-')
		}
	}
	flush()
	return b.String()
}

// direct says whether r stands for itself ("&" does, doubled by a "-").
func direct(r rune) bool { return r >= 0x20 && r <= 0x7e }

// DecodeMailbox reads modified UTF-7. It accepts one encoding for each name, the one
// that EncodeMailbox writes. INBOX in any spelling is "INBOX", also as the first level of a
// longer name.
func DecodeMailbox(s string) (string, error) {
	name, err := decodeUTF7(s)
	if err != nil {
		return "", err
	}
	return CanonicalInbox(name), nil
}

// CanonicalInbox writes the first level of a name as "INBOX" if it is that in any spelling.
func CanonicalInbox(name string) string {
	const inbox = "INBOX"
	if len(name) >= len(inbox) && strings.EqualFold(name[:len(inbox)], inbox) && (len(name) == len(inbox) || name[len(inbox)] == '/') {
		return inbox + name[len(inbox):]
	}
	return name
}

func decodeUTF7(s string) (string, error) {
	if !strings.Contains(s, "&") {
		if strings.IndexFunc(s, func(r rune) bool { return !direct(r) }) >= 0 {
			return "", errMutf7
		}
		return s, nil
	}
	whole := s
	var b strings.Builder
	for s != "" {
		plain, rest, shifted := strings.Cut(s, "&")
		b.WriteString(plain)
		if !shifted {
			break
		}
		run, after, closed := strings.Cut(rest, "-")
		if !closed {
			return "", errMutf7
		}
		if err := decodeRun(&b, run); err != nil {
			return "", err
		}
		s = after
	}
	name := b.String()
	if EncodeMailbox(name) != whole {
		return "", errMutf7
	}
	return name, nil
}

// decodeRun decodes what stands between & and -.
func decodeRun(b *strings.Builder, run string) error {
	if run == "" {
		b.WriteByte('&')
		return nil
	}
	raw, err := mutf7.DecodeString(run)
	if err != nil || len(raw)%2 != 0 {
		return errMutf7
	}
	for i := 0; i < len(raw); i += 2 {
		r := rune(raw[i])<<8 | rune(raw[i+1])
		if utf16.IsSurrogate(r) {
			if i+3 >= len(raw) {
				return errMutf7
			}
			r = utf16.DecodeRune(r, rune(raw[i+2])<<8|rune(raw[i+3]))
			if r == utf8.RuneError {
				return errMutf7
			}
			i += 2
		}
		if direct(r) {
			return errMutf7
		}
		b.WriteRune(r)
	}
	return nil
}
