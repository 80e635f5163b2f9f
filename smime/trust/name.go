package trust

import (
	"bytes"
	"encoding/binary"
	"slices"
	"strings"
	"sync"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
	"golang.org/x/text/cases"
	"golang.org/x/text/unicode/norm"
)

// name is a distinguished name in the form to compare by (RFC 5280, section 7.1): one
// string for each relative name, from the root down. Two names are the same if these
// are, whatever the string types, letter case and white space of their encodings.
type name []string

// maxNameParts bounds the attributes of one name.
const maxNameParts = 200

// parseName reads a Name in DER. What cannot be read is equal only to itself.
func parseName(der []byte) name {
	if n, ok := readName(der); ok {
		return n
	}
	return name{"?" + string(der)}
}

func readName(der []byte) (name, bool) {
	in := cryptobyte.String(der)
	var seq cryptobyte.String
	if !in.ReadASN1(&seq, asn1.SEQUENCE) || !in.Empty() {
		return nil, false
	}
	n := name{}
	for !seq.Empty() {
		var set cryptobyte.String
		if !seq.ReadASN1(&set, asn1.SET) || len(n) == maxNameParts {
			return nil, false
		}
		rdn, ok := readRDN(set)
		if !ok {
			return nil, false
		}
		n = append(n, rdn)
	}
	return n, true
}

// readRDN reads what is within the SET of a RelativeDistinguishedName.
func readRDN(set cryptobyte.String) (string, bool) {
	var parts []string
	for !set.Empty() {
		var attr, oid, value cryptobyte.String
		var tag asn1.Tag
		if !set.ReadASN1(&attr, asn1.SEQUENCE) || !attr.ReadASN1(&oid, asn1.OBJECT_IDENTIFIER) ||
			!attr.ReadAnyASN1(&value, &tag) || !attr.Empty() || len(parts) == maxNameParts {
			return "", false
		}
		parts = append(parts, measured(string(oid))+attributeValue(tag, value))
	}
	slices.Sort(parts)
	var b strings.Builder
	for _, p := range parts {
		b.WriteString(measured(p))
	}
	return b.String(), true
}

// measured puts its length before s, so that joined strings stay apart.
func measured(s string) string {
	return string(binary.AppendUvarint(nil, uint64(len(s)))) + s
}

// key is n as one string.
func (n name) key() string {
	var b strings.Builder
	for _, rdn := range n {
		b.WriteString(measured(rdn))
	}
	return b.String()
}

// within says whether n is base or below it.
func (n name) within(base name) bool {
	return len(n) >= len(base) && slices.Equal(n[:len(base)], base)
}

const (
	tagT61       = asn1.Tag(20)
	tagUniversal = asn1.Tag(28)
	tagBMP       = asn1.Tag(30)
)

// attributeValue is a value in the form to compare by; strings of all types alike.
func attributeValue(tag asn1.Tag, v []byte) string {
	var s string
	switch tag {
	case asn1.UTF8String, asn1.PrintableString, asn1.IA5String:
		s = string(v)
	case tagT61:
		r := make([]rune, len(v)) // taken for ISO 8859-1, as is custom
		for i, c := range v {
			r[i] = rune(c)
		}
		s = string(r)
	case tagBMP:
		if len(v)%2 != 0 {
			return rawValue(tag, v)
		}
		u := make([]uint16, len(v)/2)
		for i := range u {
			u[i] = binary.BigEndian.Uint16(v[2*i:])
		}
		s = string(utf16.Decode(u))
	case tagUniversal:
		if len(v)%4 != 0 {
			return rawValue(tag, v)
		}
		r := make([]rune, len(v)/4)
		for i := range r {
			r[i] = rune(binary.BigEndian.Uint32(v[4*i:]))
		}
		s = string(r)
	default:
		return rawValue(tag, v)
	}
	if !utf8.ValidString(s) {
		return rawValue(tag, v)
	}
	return "s" + prepare(s)
}

func rawValue(tag asn1.Tag, v []byte) string { return "r" + string([]byte{byte(tag)}) + string(v) }

// prepare is the string preparation of RFC 4518 for case-insensitive matching: folded,
// compatibility forms made one, invisible characters gone, white space single and not
// at the ends.
func prepare(s string) string {
	if !isASCII(s) {
		s = norm.NFKC.String(cases.Fold().String(norm.NFKC.String(s)))
	}
	var b strings.Builder
	space := false
	for _, r := range s {
		switch {
		case unicode.IsSpace(r):
			space = b.Len() > 0
			continue
		case unicode.Is(unicode.Cc, r) || unicode.Is(unicode.Cf, r) || unicode.Is(unicode.Variation_Selector, r):
			continue
		}
		if space {
			b.WriteByte(' ')
			space = false
		}
		b.WriteRune(unicode.ToLower(r))
	}
	return b.String()
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}

// names remembers names that were read: of a few authorities, again and again, when their lists are looked through. A
// name never changes.
type names struct {
	mu    sync.RWMutex
	known map[string]knownName // by the DER, guarded by mu
}

type knownName struct {
	name name
	key  string
}

// Bounds of names. Strangers choose some of them; beyond that everything is forgotten.
const (
	maxNames    = 1000
	maxNameSize = 1 << 10 // of one that is remembered
)

// of is parseName, and the key of what it says.
func (n *names) of(der []byte) (name, string) {
	n.mu.RLock()
	k, ok := n.known[string(der)]
	n.mu.RUnlock()
	if ok {
		return k.name, k.key
	}
	k.name = parseName(der)
	k.key = k.name.key()
	if len(der) <= maxNameSize {
		n.mu.Lock()
		if n.known == nil || len(n.known) >= maxNames {
			n.known = map[string]knownName{}
		}
		n.known[string(der)] = k
		n.mu.Unlock()
	}
	return k.name, k.key
}

// sameName compares two names in DER.
func sameName(a, b []byte) bool {
	return bytes.Equal(a, b) || slices.Equal(parseName(a), parseName(b))
}
