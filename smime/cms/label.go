package cms

import (
	"fmt"
	"math/big"
	"slices"
	"strings"
	"unicode/utf8"
)

// SecurityLabel is an ESSSecurityLabel (RFC 2634, section 3.2).
type SecurityLabel struct {
	Policy         OID    // says what the rest means
	Classification int    // 0 to 256, ascending; RFC 2634 gives names to 0 (unmarked) to 5 (top secret); NoClassification: absent
	PrivacyMark    string // for people; empty: absent
	Categories     []SecurityCategory
}

// NoClassification stands for a security-classification that is absent.
const NoClassification = -1

// SecurityCategory is one further marking.
type SecurityCategory struct {
	Type  OID
	Value []byte // the DER of one element
}

// The bounds of a label (RFC 2634, section 3.2: ub-integer-options, ub-security-categories;
// a UTF-8 privacy mark has none there).
const (
	maxClassification = 256
	maxPrivacyMark    = 512 // bytes
	maxCategories     = 64
)

const (
	derPrintableString = 0x13
	derUTF8String      = 0x0c
	tagUTF8String      = tag(12)
	tagPrintableString = tag(19)
)

// parseSecurityLabel reads a label, in DER, from a signed attribute.
//
//	ESSSecurityLabel ::= SET {
//	  security-policy-identifier SecurityPolicyIdentifier,
//	  security-classification SecurityClassification OPTIONAL,
//	  privacy-mark ESSPrivacyMark OPTIONAL,
//	  security-categories SecurityCategories OPTIONAL }
func parseSecurityLabel(der []byte) (*SecurityLabel, error) {
	l, err := readSecurityLabel(der)
	if err == nil && l.Policy == "" {
		return nil, fmt.Errorf("%w: security label without a policy", errAttribute)
	}
	return l, err
}

// readSecurityLabel is parseSecurityLabel for a label that may leave out its policy, as
// X.411 and X.841 allow.
func readSecurityLabel(ber []byte) (*SecurityLabel, error) {
	outer := &reader{&budget{elements: 1000, depth: maxDepth}, ber, 0}
	r, err := outer.enter(tagSet)
	if err != nil {
		return nil, err
	}
	if err := outer.end(); err != nil {
		return nil, err
	}
	l := &SecurityLabel{Classification: NoClassification}
	seen := map[tag]bool{}
	for r.more() {
		e, err := r.next()
		if err != nil {
			return nil, err
		}
		kind := e.tag
		if kind == tagPrintableString {
			kind = tagUTF8String // the two forms of one mark
		}
		if seen[kind] {
			return nil, fmt.Errorf("%w: security label", errAttribute)
		}
		seen[kind] = true
		switch e.tag {
		case tagOID:
			l.Policy, err = decodeOID(e)
		case tagInteger:
			l.Classification, err = classification(e)
		case tagUTF8String, tagPrintableString:
			l.PrivacyMark, err = privacyMark(e)
		case tagSet:
			l.Categories, err = r.securityCategories(e)
		default:
			err = errForm
		}
		if err != nil {
			return nil, fmt.Errorf("security label: %w", err)
		}
	}
	return l, nil
}

func classification(e element) (int, error) {
	n := new(big.Int).SetBytes(e.content)
	if e.constructed || len(e.content) == 0 || len(e.content) > 2 || e.content[0]&0x80 != 0 || n.Int64() > maxClassification {
		return 0, errForm
	}
	return int(n.Int64()), nil
}

func privacyMark(e element) (string, error) {
	if e.constructed || len(e.content) == 0 || len(e.content) > maxPrivacyMark || !utf8.Valid(e.content) {
		return "", errForm
	}
	return string(e.content), nil
}

// securityCategories reads
//
//	SecurityCategories ::= SET SIZE (1..ub-security-categories) OF SecurityCategory
//
//	SecurityCategory ::= SEQUENCE {
//	  type  [0] OBJECT IDENTIFIER,
//	  value [1] ANY DEFINED BY type }
func (r *reader) securityCategories(set element) ([]SecurityCategory, error) {
	in, err := r.inside(set)
	if err != nil {
		return nil, err
	}
	var all []SecurityCategory
	for in.more() {
		if len(all) == maxCategories {
			return nil, errTooMany
		}
		one, err := in.enter(tagSequence)
		if err != nil {
			return nil, err
		}
		id, err := one.read(context(0))
		if err != nil {
			return nil, err
		}
		var c SecurityCategory
		if c.Type, err = decodeOID(id); err != nil {
			return nil, err
		}
		value, err := one.enter(context(1))
		if err != nil {
			return nil, err
		}
		v, err := value.next()
		if err != nil {
			return nil, err
		}
		if value.more() || one.more() {
			return nil, errTrailing
		}
		c.Value = v.raw
		all = append(all, c)
	}
	if len(all) == 0 {
		return nil, errMissing
	}
	return all, nil
}

// der encodes l. The members of a SET stand in the order of their tags.
func (l *SecurityLabel) der() ([]byte, error) {
	policy := l.Policy.der()
	if policy == nil || l.Classification > maxClassification || l.Classification < NoClassification ||
		len(l.PrivacyMark) > maxPrivacyMark || !utf8.ValidString(l.PrivacyMark) || len(l.Categories) > maxCategories {
		return nil, fmt.Errorf("security label: %w", errForm)
	}
	var class, utf8Mark, mark, categories []byte
	if l.Classification != NoClassification {
		class = integer(big.NewInt(int64(l.Classification)))
	}
	switch {
	case l.PrivacyMark == "":
	case printable(l.PrivacyMark):
		mark = tlv(derPrintableString, []byte(l.PrivacyMark))
	default:
		utf8Mark = tlv(derUTF8String, []byte(l.PrivacyMark))
	}
	if len(l.Categories) > 0 {
		var all [][]byte
		for _, c := range l.Categories {
			id := slices.Clone(c.Type.der())
			if id == nil || checkDER(c.Value, maxDepth) != nil {
				return nil, fmt.Errorf("security category: %w", errForm)
			}
			id[0] = derContext
			all = append(all, tlv(derSequence, id, tlv(derExplicit|1, c.Value)))
		}
		categories = setOf(derSet, all)
	}
	return tlv(derSet, class, policy, utf8Mark, categories, mark), nil
}

// printable says whether s can be a PrintableString (X.680, section 41.4) of a mark.
func printable(s string) bool {
	return len(s) <= 128 && strings.Trim(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789 '()+,-./:=?") == ""
}
