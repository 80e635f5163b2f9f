package trust

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// Extensions that we read ourselves (RFC 5280, sections 4.2 and 5.2).
var (
	oidSAN             = asn1.ObjectIdentifier{2, 5, 29, 17}
	oidCRLNumber       = asn1.ObjectIdentifier{2, 5, 29, 20}
	oidDelta           = asn1.ObjectIdentifier{2, 5, 29, 27}
	oidIDP             = asn1.ObjectIdentifier{2, 5, 29, 28}
	oidNameConstraints = asn1.ObjectIdentifier{2, 5, 29, 30}
	oidCRLDP           = asn1.ObjectIdentifier{2, 5, 29, 31}
	oidAuthorityKeyID  = asn1.ObjectIdentifier{2, 5, 29, 35}
)

// extension finds one by its identifier.
func extension(list []pkix.Extension, oid asn1.ObjectIdentifier) ([]byte, bool) {
	for _, e := range list {
		if e.Id.Equal(oid) {
			return e.Value, true
		}
	}
	return nil, false
}

// Forms of a GeneralName (RFC 5280, section 4.2.1.6).
const (
	formOther     = 0
	formEmail     = 1
	formDNS       = 2
	formDirectory = 4
	formURI       = 6
	formIP        = 7
)

// generalName is one name. value is what is within its tag.
type generalName struct {
	form  int
	value []byte
	dir   name // of formDirectory
}

// same compares by RFC 5280, section 7, as far as distribution points need it.
func (g generalName) same(h generalName) bool {
	if g.form != h.form {
		return false
	}
	if g.form == formDirectory {
		return g.dir.key() == h.dir.key()
	}
	return string(g.value) == string(h.value)
}

var errNames = errors.New("malformed names")

// maxGeneralNames bounds one list of names.
const maxGeneralNames = 1000

// readGeneralName reads the next one.
func readGeneralName(in *cryptobyte.String) (generalName, error) {
	var v cryptobyte.String
	var tag cbasn1.Tag
	if !in.ReadAnyASN1(&v, &tag) || tag&0xc0 != 0x80 {
		return generalName{}, errNames
	}
	g := generalName{form: int(tag & 0x1f), value: v}
	if g.form == formDirectory {
		n, ok := readName(v)
		if !ok {
			return generalName{}, errNames
		}
		g.dir = n
	}
	return g, nil
}

// readGeneralNames reads what is within a GeneralNames.
func readGeneralNames(in cryptobyte.String) ([]generalName, error) {
	var out []generalName
	for !in.Empty() {
		g, err := readGeneralName(&in)
		if err != nil {
			return nil, err
		}
		if out = append(out, g); len(out) > maxGeneralNames {
			return nil, errors.New("too many names")
		}
	}
	return out, nil
}

// alternativeNames are the subject alternative names of c.
func alternativeNames(c *x509.Certificate) ([]generalName, error) {
	der, ok := extension(c.Extensions, oidSAN)
	if !ok {
		return nil, nil
	}
	in := cryptobyte.String(der)
	var seq cryptobyte.String
	if !in.ReadASN1(&seq, cbasn1.SEQUENCE) || !in.Empty() {
		return nil, errNames
	}
	return readGeneralNames(seq)
}

// reasons is a set of ReasonFlags (RFC 5280, section 4.2.1.13); bit n is flag n.
type reasons uint16

// allReasons are the flags 1 (keyCompromise) to 8 (aACompromise).
const allReasons reasons = 0x1fe

// point is a DistributionPoint, or the distribution point of a list's
// issuingDistributionPoint.
type point struct {
	full     []generalName
	relative string        // one relative name, instead of full
	reasons  reasons       // allReasons where none are stated
	issuers  []generalName // cRLIssuer
}

// names are the full names of p, relative ones completed by base.
func (p *point) names(base name) []generalName {
	if p.relative == "" {
		return p.full
	}
	return []generalName{{form: formDirectory, dir: append(base[:len(base):len(base)], p.relative)}}
}

// urls are those from which the list can be fetched over HTTP.
func (p *point) urls() []string {
	var out []string
	for _, g := range p.full {
		if g.form == formURI && isASCII(string(g.value)) {
			out = append(out, string(g.value))
		}
	}
	return out
}

var errPoint = errors.New("malformed distribution point")

// readPointName reads what is within a [0] DistributionPointName.
func (p *point) readPointName(in cryptobyte.String) (err error) {
	var v cryptobyte.String
	var tag cbasn1.Tag
	if !in.ReadASN1(&in, cbasn1.Tag(0).ContextSpecific().Constructed()) || !in.ReadAnyASN1(&v, &tag) || !in.Empty() {
		return errPoint
	}
	switch tag {
	case cbasn1.Tag(0).ContextSpecific().Constructed():
		if p.full, err = readGeneralNames(v); err == nil && len(p.full) == 0 {
			err = errPoint
		}
		return err
	case cbasn1.Tag(1).ContextSpecific().Constructed():
		rdn, ok := readRDN(v)
		if !ok || rdn == "" {
			return errPoint
		}
		p.relative = rdn
		return nil
	}
	return errPoint
}

// readReasons reads what is within a ReasonFlags.
func readReasons(v []byte) (reasons, error) {
	if len(v) < 1 || len(v) > 3 || v[0] > 7 {
		return 0, errPoint
	}
	var r reasons
	for i, b := range v[1:] {
		for bit := range 8 {
			if b&(0x80>>bit) != 0 {
				r |= 1 << (8*i + bit)
			}
		}
	}
	return r & allReasons, nil
}

// maxPoints bounds the distribution points of a certificate.
const maxPoints = 32

// distributionPoints reads the extension of c; none is no error.
func distributionPoints(c *x509.Certificate) ([]point, error) {
	der, ok := extension(c.Extensions, oidCRLDP)
	if !ok {
		return nil, nil
	}
	in := cryptobyte.String(der)
	var seq cryptobyte.String
	if !in.ReadASN1(&seq, cbasn1.SEQUENCE) || !in.Empty() {
		return nil, errPoint
	}
	var out []point
	for !seq.Empty() {
		p, err := readPoint(&seq)
		if err != nil {
			return nil, err
		}
		if out = append(out, p); len(out) > maxPoints {
			return nil, errors.New("too many distribution points")
		}
	}
	return out, nil
}

func readPoint(in *cryptobyte.String) (p point, err error) {
	p.reasons = allReasons
	var seq, v cryptobyte.String
	if !in.ReadASN1(&seq, cbasn1.SEQUENCE) {
		return p, errPoint
	}
	if seq.PeekASN1Tag(cbasn1.Tag(0).ContextSpecific().Constructed()) {
		if !seq.ReadASN1Element(&v, cbasn1.Tag(0).ContextSpecific().Constructed()) {
			return p, errPoint
		}
		if err := p.readPointName(v); err != nil {
			return p, err
		}
	}
	var there bool
	if !seq.ReadOptionalASN1(&v, &there, cbasn1.Tag(1).ContextSpecific()) {
		return p, errPoint
	}
	if there {
		if p.reasons, err = readReasons(v); err != nil {
			return p, err
		}
	}
	if !seq.ReadOptionalASN1(&v, &there, cbasn1.Tag(2).ContextSpecific().Constructed()) || !seq.Empty() {
		return p, errPoint
	}
	if there {
		p.issuers, err = readGeneralNames(v)
	}
	return p, err
}

// scope is the issuingDistributionPoint of a list (RFC 5280, section 5.2.5): for which
// certificates and reasons it speaks.
type scope struct {
	point
	named     bool // full or relative is there
	users     bool // onlyContainsUserCerts
	cas       bool // onlyContainsCACerts
	attribute bool // onlyContainsAttributeCerts
	indirect  bool // names the issuer of each certificate
}

// readScope reads the extension's value.
func readScope(der []byte) (s scope, err error) {
	s.reasons = allReasons
	in := cryptobyte.String(der)
	var seq, v cryptobyte.String
	if !in.ReadASN1(&seq, cbasn1.SEQUENCE) || !in.Empty() {
		return s, errPoint
	}
	if seq.PeekASN1Tag(cbasn1.Tag(0).ContextSpecific().Constructed()) {
		if !seq.ReadASN1Element(&v, cbasn1.Tag(0).ContextSpecific().Constructed()) {
			return s, errPoint
		}
		if err := s.readPointName(v); err != nil {
			return s, err
		}
		s.named = true
	}
	for _, f := range []struct {
		tag cbasn1.Tag
		to  *bool
	}{{1, &s.users}, {2, &s.cas}, {3, nil}, {4, &s.indirect}, {5, &s.attribute}} {
		var there bool
		if !seq.ReadOptionalASN1(&v, &there, f.tag.ContextSpecific()) {
			return s, errPoint
		}
		switch {
		case there && f.to == nil:
			if s.reasons, err = readReasons(v); err != nil {
				return s, err
			}
		case there:
			if len(v) != 1 {
				return s, errPoint
			}
			*f.to = v[0] != 0
		}
	}
	if !seq.Empty() {
		return s, errPoint
	}
	return s, nil
}
