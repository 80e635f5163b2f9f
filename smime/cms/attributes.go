package cms

import (
	"bytes"
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"golang.org/x/crypto/cryptobyte"
	cryptobyteasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// Signed attributes (RFC 5652, section 5.3 and 11). They come in DER or not at all.
//
//	SignedAttributes ::= SET SIZE (1..MAX) OF Attribute
//
//	Attribute ::= SEQUENCE {
//	  attrType OBJECT IDENTIFIER,
//	  attrValues SET OF AttributeValue }

var (
	errUnsorted  = errors.New("a SET OF is not in order")
	errAttribute = errors.New("signed attributes: missing, repeated or malformed")
)

// Capability is one entry of SMIMECapabilities (RFC 8551, section 2.5.2), in order of
// preference.
type Capability struct {
	ID         OID
	Parameters []byte // DER, or nil
}

// attributes are the values of a set, by type. A type that stands several times, or
// with several values, has several.
type attributes map[OID][][]byte

// The bounds of one set of attributes.
const (
	maxAttributes     = 64
	maxAttributesSize = 1 << 20 // bytes
)

// parseAttributes reads a SET OF Attribute, which must be strict DER.
func parseAttributes(set []byte) (attributes, error) {
	if len(set) > maxAttributesSize {
		return nil, errTooMany
	}
	if err := checkDER(set, maxDepth); err != nil {
		return nil, err
	}
	r, err := (&reader{&budget{elements: 10000, depth: maxDepth}, set, 0}).enter(tagSet)
	if err != nil {
		return nil, err
	}
	members, err := r.setMembers()
	if err != nil {
		return nil, err
	}
	if len(members) > maxAttributes {
		return nil, errTooMany
	}
	all := make(attributes)
	for _, e := range members {
		if e.tag != tagSequence {
			return nil, errAttribute
		}
		attr, err := r.inside(e)
		if err != nil {
			return nil, err
		}
		id, err := attr.readOID()
		if err != nil {
			return nil, err
		}
		in, err := attr.enter(tagSet)
		if err != nil {
			return nil, err
		}
		values, err := in.setMembers()
		if err != nil || len(values) == 0 {
			return nil, errors.Join(errAttribute, err)
		}
		for _, v := range values {
			all[id] = append(all[id], v.raw)
		}
		if err := attr.end(); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// setMembers reads all of a SET OF, whose members DER wants in order (X.690, section
// 11.6).
func (r *reader) setMembers() (all []element, err error) {
	for r.more() {
		e, err := r.next()
		if err != nil {
			return nil, err
		}
		if n := len(all); n > 0 && bytes.Compare(all[n-1].raw, e.raw) > 0 {
			return nil, errUnsorted
		}
		all = append(all, e)
	}
	return all, nil
}

// one returns the only value of id, or nil if there is none.
func (a attributes) one(id OID) ([]byte, error) {
	switch values := a[id]; len(values) {
	case 0:
		return nil, nil
	case 1:
		return values[0], nil
	}
	return nil, fmt.Errorf("%w: %s", errAttribute, id)
}

// must returns the only value of id, which must be there.
func (a attributes) must(id OID) ([]byte, error) {
	v, err := a.one(id)
	if err == nil && v == nil {
		err = fmt.Errorf("%w: %s", errAttribute, id)
	}
	return v, err
}

// checkContent checks content-type and message-digest against what was signed.
func (a attributes) checkContent(contentType OID, digest []byte) error {
	v, err := a.must(oidAttrContentType)
	if err != nil {
		return err
	}
	if !bytes.Equal(v, contentType.der()) {
		return errors.New("signed attributes: another content type")
	}
	if v, err = a.must(oidAttrMessageDigest); err != nil {
		return err
	}
	if !bytes.Equal(v, tlv(derOctetString, digest)) {
		return errors.New("the content was changed: digests differ")
	}
	return nil
}

// signingTime returns the signing-time, zero if there is none.
//
//	Time ::= CHOICE { utcTime UTCTime, generalizedTime GeneralizedTime }
func (a attributes) signingTime() (t time.Time, err error) {
	v, err := a.one(oidAttrSigningTime)
	if v == nil || err != nil {
		return t, err
	}
	s := cryptobyte.String(v)
	ok := false
	if s.PeekASN1Tag(cryptobyteasn1.UTCTime) {
		ok = s.ReadASN1UTCTime(&t)
	} else {
		ok = s.ReadASN1GeneralizedTime(&t)
	}
	if !ok || !s.Empty() {
		return t, fmt.Errorf("%w: signing-time", errAttribute)
	}
	return t.UTC(), nil
}

// capabilities returns SMIMECapabilities (RFC 8551, section 2.5.2).
//
//	SMIMECapabilities ::= SEQUENCE OF SMIMECapability
//
//	SMIMECapability ::= SEQUENCE {
//	  capabilityID OBJECT IDENTIFIER,
//	  parameters ANY DEFINED BY capabilityID OPTIONAL }
func (a attributes) capabilities() ([]Capability, error) {
	v, err := a.one(oidAttrCapabilities)
	if v == nil || err != nil {
		return nil, err
	}
	list, err := (&reader{&budget{elements: 1000, depth: maxDepth}, v, 0}).enter(tagSequence)
	if err != nil {
		return nil, err
	}
	var all []Capability
	for list.more() {
		alg, err := list.readAlgorithm() // the same syntax
		if err != nil {
			return nil, err
		}
		all = append(all, Capability{alg.id, alg.params})
	}
	return all, nil
}

// namesCertificate checks signingCertificate (RFC 2634, section 5.4) and
// signingCertificateV2 (RFC 5035) and says whether one was there. Only the digest is
// compared; the issuer and serial number beside it say less.
//
//	SigningCertificateV2 ::= SEQUENCE {
//	  certs SEQUENCE OF ESSCertIDv2,
//	  policies SEQUENCE OF PolicyInformation OPTIONAL }
//
//	ESSCertIDv2 ::= SEQUENCE {
//	  hashAlgorithm AlgorithmIdentifier DEFAULT {algorithm id-sha256},
//	  certHash Hash,
//	  issuerSerial IssuerSerial OPTIONAL }
func (a attributes) namesCertificate(c *x509.Certificate) (bool, error) {
	found := false
	for _, id := range []OID{oidAttrSigningCert, oidAttrSigningCertV2} {
		v, err := a.one(id)
		if err != nil {
			return false, err
		}
		if v == nil {
			continue
		}
		h := crypto.SHA1
		if id == oidAttrSigningCertV2 {
			h = crypto.SHA256
		}
		if err := checkCertID(v, h, c); err != nil {
			return false, fmt.Errorf("signed attributes: signingCertificate: %w", err)
		}
		found = true
	}
	return found, nil
}

// checkCertID checks that the first certificate named in v is c. h is the digest if
// none is named.
func checkCertID(v []byte, h crypto.Hash, c *x509.Certificate) error {
	r, err := (&reader{&budget{elements: 1000, depth: maxDepth}, v, 0}).enter(tagSequence)
	if err != nil {
		return err
	}
	certs, err := r.enter(tagSequence)
	if err != nil {
		return err
	}
	id, err := certs.enter(tagSequence)
	if err != nil {
		return err
	}
	if id.peek(tagSequence) {
		alg, err := id.readAlgorithm()
		if err != nil {
			return err
		}
		if h = alg.hash(); h == 0 {
			return errors.New("unknown digest")
		}
	}
	want, err := id.readOctets(tagOctetString)
	if err != nil {
		return err
	}
	if !bytes.Equal(want, sum(h, c.Raw)) {
		return errors.New("it names another certificate")
	}
	return nil
}

func sum(h crypto.Hash, content []byte) []byte {
	d := h.New()
	d.Write(content)
	return d.Sum(nil)
}

// signedAttributes are attributes being written, one after the other.
type signedAttributes struct {
	b    []byte
	ends []int
}

// add adds an attribute with the one value that value appends.
func (a *signedAttributes) add(id OID, value func(b []byte) []byte) {
	a.b = appendElement(a.b, derSequence, func(b []byte) []byte {
		return appendElement(id.appendTo(b), derSet, value)
	})
	a.ends = append(a.ends, len(a.b))
}

// set is the SET OF them.
func (a *signedAttributes) set() []byte {
	members, start := make([][]byte, len(a.ends)), 0
	for i, end := range a.ends {
		members[i], start = a.b[start:end], end
	}
	return setOf(derSet, members)
}

// attribute encodes one attribute with one value.
func attribute(id OID, value []byte) []byte {
	return tlv(derSequence, id.der(), tlv(derSet, value))
}

// appendTime encodes a Time: UTCTime through 2049 (RFC 5652, section 11.3).
func appendTime(b []byte, t time.Time) []byte {
	t = t.UTC()
	id, layout := byte(derGenTime), "20060102150405Z"
	if y := t.Year(); y >= 1950 && y < 2050 {
		id, layout = derUTCTime, "060102150405Z"
	}
	return appendElement(b, id, func(b []byte) []byte { return t.AppendFormat(b, layout) })
}

// appendSigningCertificateV2 names c by its SHA-256 digest and by issuer and serial number.
//
//	IssuerSerial ::= SEQUENCE {
//	  issuer GeneralNames,
//	  serialNumber CertificateSerialNumber }
func appendSigningCertificateV2(b []byte, c *x509.Certificate) []byte {
	in := func(b []byte, inside func([]byte) []byte) []byte { return appendElement(b, derSequence, inside) }
	issuer := func(b []byte) []byte { return appendString(b, derExplicit|4, c.RawIssuer) } // directoryName [4]
	serial := func(b []byte) []byte { return appendSerial(in(b, issuer), c) }
	id := func(b []byte) []byte {
		digest := sha256.Sum256(c.Raw)
		return in(appendString(b, derOctetString, digest[:]), serial)
	}
	return in(b, func(b []byte) []byte { return in(b, func(b []byte) []byte { return in(b, id) }) })
}

func encodeCapabilities(all []Capability) []byte {
	var list [][]byte
	for _, c := range all {
		list = append(list, algorithm{c.ID, c.Parameters}.der())
	}
	return tlv(derSequence, list...)
}
