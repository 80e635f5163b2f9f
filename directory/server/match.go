package server

import (
	"bytes"
	"encoding/hex"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/cases"
	"golang.org/x/text/unicode/norm"
)

// rule says how the values of an attribute are compared (RFC 4517, section 4).
type rule uint8

const (
	noRule rule = iota // values are not compared
	caseIgnore
	caseExact
	telephone
	octets
	dnRule
	integer
	oidRule
	uuidRule
)

func ruleNamed(name string) rule {
	switch name {
	case "caseIgnoreMatch", "caseIgnoreIA5Match", "caseIgnoreListMatch", "numericStringMatch", "2.5.13.2", "1.3.6.1.4.1.1466.109.114.2":
		return caseIgnore
	case "caseExactMatch", "caseExactIA5Match", "generalizedTimeMatch", "booleanMatch", "2.5.13.5", "1.3.6.1.4.1.1466.109.114.1":
		return caseExact
	case "telephoneNumberMatch", "2.5.13.20":
		return telephone
	case "octetStringMatch", "certificateExactMatch", "2.5.13.17":
		return octets
	case "distinguishedNameMatch", "2.5.13.1":
		return dnRule
	case "integerMatch", "2.5.13.14":
		return integer
	case "objectIdentifierMatch", "2.5.13.0":
		return oidRule
	case "UUIDMatch", "1.3.6.1.1.16.2":
		return uuidRule
	}
	return noRule
}

// prepare brings a value to the form in which equal values have equal bytes. ok is
// false if the value is not of the rule's syntax: then it matches nothing.
func (s *schema) prepare(r rule, v []byte) (out []byte, ok bool) {
	switch r {
	case caseIgnore:
		return bytes.Trim(prepareText(v, true), " "), utf8.Valid(v)
	case caseExact:
		return bytes.Trim(prepareText(v, false), " "), utf8.Valid(v)
	case telephone:
		return prepareTelephone(v), utf8.Valid(v)
	case octets:
		return v, true
	case dnRule:
		n, err := s.parseDN(string(v))
		return []byte(n.key), err == nil
	case integer:
		return bytes.TrimSpace(v), true
	case oidRule:
		return s.prepareOID(v), true
	case uuidRule:
		u := bytes.ToLower(v)
		return u, validUUID(string(u))
	}
	return nil, false
}

// prepareOID gives an object identifier its canonical name, where we know one.
func (s *schema) prepareOID(v []byte) []byte {
	name := strings.ToLower(strings.TrimSpace(string(v)))
	if c := s.classes[name]; c != nil {
		name = strings.ToLower(c.name)
	} else if t := s.attrs[name]; t != nil {
		name = strings.ToLower(t.name)
	}
	return []byte(name)
}

// prepareText is the string preparation of RFC 4518 in short: compatibility
// composition, case folding if asked, invisible characters removed, each run of
// spaces one space. Spaces at the ends stay: fragments of substrings need them.
func prepareText(v []byte, fold bool) []byte {
	out := make([]byte, 0, len(v))
	ascii := true
	for _, c := range v {
		switch {
		case c >= 0x80:
			ascii = false
		case c == ' ' || c >= '\t' && c <= '\r':
			if n := len(out); n == 0 || out[n-1] != ' ' {
				out = append(out, ' ')
			}
			continue
		case c < 0x20 || c == 0x7f:
			continue
		case fold && c >= 'A' && c <= 'Z':
			c += 'a' - 'A'
		}
		out = append(out, c)
	}
	if ascii {
		return out
	}
	text := norm.NFKC.Bytes(v)
	if fold {
		text = norm.NFKC.Bytes(cases.Fold().Bytes(text))
	}
	out = out[:0]
	for len(text) > 0 {
		c, n := utf8.DecodeRune(text)
		switch {
		case unicode.IsSpace(c):
			if k := len(out); k == 0 || out[k-1] != ' ' {
				out = append(out, ' ')
			}
		case unicode.Is(unicode.Cc, c), unicode.Is(unicode.Cf, c), unicode.Is(unicode.Variation_Selector, c):
		default:
			out = append(out, text[:n]...)
		}
		text = text[n:]
	}
	return out
}

func prepareTelephone(v []byte) []byte {
	return slices.DeleteFunc(prepareText(v, true), func(c byte) bool { return c == ' ' || c == '-' })
}

// prepareFragment prepares one fragment of a substring assertion. ok is false where the
// rule has no substrings.
func prepareFragment(r rule, v []byte) ([]byte, bool) {
	switch r {
	case caseIgnore, caseExact:
		return prepareText(v, r == caseIgnore), utf8.Valid(v)
	case telephone:
		return prepareTelephone(v), utf8.Valid(v)
	}
	return nil, false
}

// compareOrdered is the ordering of two prepared values.
func compareOrdered(r rule, a, b []byte) int {
	if r != integer {
		return bytes.Compare(a, b)
	}
	na, nb := bytes.HasPrefix(a, []byte("-")), bytes.HasPrefix(b, []byte("-"))
	switch {
	case na && nb:
		return compareOrdered(r, b[1:], a[1:])
	case na:
		return -1
	case nb:
		return 1
	case len(a) != len(b):
		return len(a) - len(b)
	}
	return bytes.Compare(a, b)
}

// validUUID accepts the string form of RFC 9562 in lower case.
func validUUID(s string) bool {
	if len(s) != 36 || s[8] != '-' || s[13] != '-' || s[18] != '-' || s[23] != '-' || s != strings.ToLower(s) {
		return false
	}
	b, err := hex.DecodeString(strings.ReplaceAll(s, "-", ""))
	return err == nil && len(b) == 16
}
