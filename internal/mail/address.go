package mail

import (
	"errors"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Address is a mailbox address (RFC 5321, section 4.1.2 Mailbox; with
// internationalised local parts and domains, RFC 6531). The zero Address is the null
// reverse-path. Domain is in lower case.
type Address struct {
	Local  string // as written, unquoted
	Domain string
}

// Limits of RFC 5321, section 4.5.3.1, in octets.
const (
	maxLocal  = 64
	maxDomain = 255
)

var errAddress = errors.New("not a mail address")

// ParseAddress reads local@domain, without angle brackets, comments or a display
// name. A quoted local part is unquoted. The error is of kind Invalid.
func ParseAddress(s string) (Address, error) {
	bad := func() (Address, error) {
		return Address{}, &Error{Kind: Invalid, Public: "not a valid mail address", Err: errAddress}
	}
	if len(s) > maxLocal*2+maxDomain+3 || !utf8.ValidString(s) || strings.ContainsFunc(s, unicode.IsControl) {
		return bad()
	}
	local, rest, ok := cutLocal(s)
	if !ok || local == "" || len(local) > maxLocal {
		return bad()
	}
	domain := strings.ToLower(rest)
	if !validDomain(domain) {
		return bad()
	}
	return Address{Local: local, Domain: domain}, nil
}

// MustParseAddress is ParseAddress for constants of tests and the demonstration.
func MustParseAddress(s string) Address {
	a, err := ParseAddress(s)
	if err != nil {
		panic(err)
	}
	return a
}

// cutLocal splits s at the @ that ends the local part.
func cutLocal(s string) (local, domain string, ok bool) {
	if !strings.HasPrefix(s, `"`) {
		i := strings.LastIndexByte(s, '@')
		if i <= 0 {
			return "", "", false
		}
		return s[:i], s[i+1:], dotAtom(s[:i])
	}
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch c := s[i]; {
		case c == '\\' && i+1 < len(s) && s[i+1] >= 0x20 && s[i+1] < 0x7f:
			i++
			b.WriteByte(s[i])
		case c == '"':
			if i+1 >= len(s) || s[i+1] != '@' {
				return "", "", false
			}
			return b.String(), s[i+2:], true
		case c < 0x20 || c == 0x7f || c == '\\':
			return "", "", false
		default:
			b.WriteByte(c)
		}
	}
	return "", "", false
}

// dotAtom is Dot-string of RFC 5321 with the UTF-8 of RFC 6531.
func dotAtom(s string) bool {
	if s == "" || s[0] == '.' || s[len(s)-1] == '.' || strings.Contains(s, "..") {
		return false
	}
	for i := 0; i < len(s); i++ {
		if c := s[i]; c < 0x80 && c != '.' && !isAtext(c) {
			return false
		}
	}
	return true
}

func isAtext(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' ||
		strings.IndexByte("!#$%&'*+-/=?^_`{|}~", c) >= 0
}

// validDomain accepts a domain of letters, digits, hyphens and UTF-8, or an address
// literal in brackets.
func validDomain(d string) bool {
	if d == "" || len(d) > maxDomain {
		return false
	}
	if d[0] == '[' {
		return len(d) > 2 && d[len(d)-1] == ']' && strings.Trim(d[1:len(d)-1], "0123456789abcdef.:ipv") == ""
	}
	for label := range strings.SplitSeq(d, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		for i := 0; i < len(label); i++ {
			c := label[i]
			if c < 0x80 && c != '-' && c != '_' && (c < 'a' || c > 'z') && (c < '0' || c > '9') {
				return false
			}
		}
	}
	return true
}

// IsZero says whether a is the null reverse-path.
func (a Address) IsZero() bool { return a == Address{} }

// String is the address as it stands in an envelope: the local part is quoted where
// it must be. The zero Address is the empty string.
func (a Address) String() string {
	if a.IsZero() {
		return ""
	}
	if dotAtom(a.Local) {
		return a.Local + "@" + a.Domain
	}
	var b strings.Builder
	b.WriteByte('"')
	for i := 0; i < len(a.Local); i++ {
		if c := a.Local[i]; c == '"' || c == '\\' {
			b.WriteByte('\\')
		}
		b.WriteByte(a.Local[i])
	}
	return b.String() + `"@` + a.Domain
}

// Key is the form to compare and index by: local parts are compared without regard
// to case, as every directory we serve does (RFC 5321, section 2.4, leaves it to the
// receiving system).
func (a Address) Key() string {
	return strings.ToLower(Address{Local: a.Local, Domain: a.Domain}.String())
}

// Equal compares by Key.
func (a Address) Equal(b Address) bool { return a.Key() == b.Key() }

// ASCII says whether the address can travel without SMTPUTF8 (RFC 6531).
func (a Address) ASCII() bool {
	for _, s := range [...]string{a.Local, a.Domain} {
		for i := 0; i < len(s); i++ {
			if s[i] >= 0x80 {
				return false
			}
		}
	}
	return true
}
