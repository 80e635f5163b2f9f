package cms

import (
	"bytes"
	"fmt"
)

// ParseSecurityLabel reads a label that stands by itself, in BER: an ESSSecurityLabel, or
// the SecurityLabel of X.411, whose policy may be absent. Errors are of kind Invalid.
func ParseSecurityLabel(ber []byte) (l *SecurityLabel, err error) {
	defer guard(&err)
	if l, err = readSecurityLabel(ber); err != nil {
		return nil, malformed(err)
	}
	return l, nil
}

// DER is the label as ParseSecurityLabel reads it. The error says what cannot be encoded.
func (l *SecurityLabel) DER() ([]byte, error) { return l.der() }

// Labels are the ESS security labels in the signed attributes of all signers, whether or
// not their signatures are good. unreadable counts those that are there but cannot be
// read, in attributes that are no strict DER too.
func (s *Signed) Labels() (labels []SecurityLabel, unreadable int) {
	for i := range s.Signers {
		one, bad := s.Signers[i].labels()
		labels, unreadable = append(labels, one...), unreadable+bad
	}
	return labels, unreadable
}

func (si *SignerInfo) labels() (labels []SecurityLabel, unreadable int) {
	var err error
	defer func() {
		if err != nil && MentionsLabel(si.attrs) {
			unreadable++
		}
	}()
	defer guard(&err)
	attrs, err := parseAttributes(si.attrs)
	if si.attrs == nil || err != nil {
		return nil, 0
	}
	for _, v := range attrs[oidAttrSecurityLabel] {
		l, err := readSecurityLabel(v)
		if err != nil {
			unreadable++
			continue
		}
		labels = append(labels, *l)
	}
	return labels, unreadable
}

// MentionsLabel says whether the identifier of the ESS security label stands anywhere in
// b: of a structure that cannot be read, whether it may hold one. There is one encoding
// of an identifier's content.
func MentionsLabel(b []byte) bool {
	return bytes.Contains(b, oidAttrSecurityLabel.der()[2:])
}

func (l SecurityLabel) String() string {
	s := string(l.Policy)
	if l.Classification != NoClassification {
		s += fmt.Sprintf(":%d", l.Classification)
	}
	return s
}
