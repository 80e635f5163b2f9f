package trust

import (
	"crypto/sha1" //nolint:gosec // names issuers in OCSP; nothing rests on it
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"math/big"
	"time"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// Object identifiers of OCSP (RFC 6960) and of the signatures on its responses.
var (
	oidSHA1          = asn1.ObjectIdentifier{1, 3, 14, 3, 2, 26}
	oidSHA256        = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 1}
	oidBasicResponse = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 48, 1, 1}
	oidNonce         = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 48, 1, 2}
	oidNoCheck       = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 48, 1, 5}
)

// signatureOIDs are what responders may sign with: SHA-2 and Ed25519.
var signatureOIDs = []struct {
	oid asn1.ObjectIdentifier
	alg x509.SignatureAlgorithm
}{
	{asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 11}, x509.SHA256WithRSA},
	{asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 12}, x509.SHA384WithRSA},
	{asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 13}, x509.SHA512WithRSA},
	{asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 2}, x509.ECDSAWithSHA256},
	{asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 3}, x509.ECDSAWithSHA384},
	{asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 4}, x509.ECDSAWithSHA512},
	{asn1.ObjectIdentifier{1, 3, 101, 112}, x509.PureEd25519},
}

// certID is a CertID as responders echo it.
type certID struct {
	hash              asn1.ObjectIdentifier
	nameHash, keyHash []byte
	serial            *big.Int
}

// names says whether id is c, issued by issuer.
func (id *certID) names(c, issuer *x509.Certificate) bool {
	if id.serial.Cmp(c.SerialNumber) != 0 {
		return false
	}
	var hash func([]byte) []byte
	switch {
	case id.hash.Equal(oidSHA1):
		hash = sha1Sum
	case id.hash.Equal(oidSHA256):
		hash = func(b []byte) []byte { h := sha256.Sum256(b); return h[:] }
	default:
		return false
	}
	return string(hash(issuer.RawSubject)) == string(id.nameHash) && string(hash(keyBits(issuer))) == string(id.keyHash)
}

func sha1Sum(b []byte) []byte {
	h := sha1.Sum(b) //nolint:gosec // as above
	return h[:]
}

// keyBits is the BIT STRING of the subject's public key, without its octet of unused bits.
func keyBits(c *x509.Certificate) []byte {
	in := cryptobyte.String(c.RawSubjectPublicKeyInfo)
	var seq, alg cryptobyte.String
	var bits []byte
	if !in.ReadASN1(&seq, cbasn1.SEQUENCE) || !seq.ReadASN1(&alg, cbasn1.SEQUENCE) || !seq.ReadASN1BitStringAsBytes(&bits) {
		return nil
	}
	return bits
}

// ocspRequest asks about c (RFC 6960, section 4.1). The CertID is by SHA-1, which
// every responder knows.
func ocspRequest(c, issuer *x509.Certificate, nonce []byte) ([]byte, error) {
	var b cryptobyte.Builder
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) { // OCSPRequest
		b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) { // TBSRequest
			b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) { // requestList
				b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) { // Request
					b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) { // CertID
						b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
							b.AddASN1ObjectIdentifier(oidSHA1)
							b.AddASN1NULL()
						})
						b.AddASN1OctetString(sha1Sum(issuer.RawSubject))
						b.AddASN1OctetString(sha1Sum(keyBits(issuer)))
						b.AddASN1BigInt(c.SerialNumber)
					})
				})
			})
			b.AddASN1(cbasn1.Tag(2).ContextSpecific().Constructed(), func(b *cryptobyte.Builder) { // requestExtensions
				b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
					b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
						b.AddASN1ObjectIdentifier(oidNonce)
						b.AddASN1(cbasn1.OCTET_STRING, func(b *cryptobyte.Builder) { b.AddASN1OctetString(nonce) })
					})
				})
			})
		})
	})
	return b.Bytes()
}

// ocspResponse is a BasicOCSPResponse, not yet believed.
type ocspResponse struct {
	tbs, signature []byte
	algorithm      x509.SignatureAlgorithm
	byName         []byte // responderID: one of these
	byKey          []byte
	singles        []ocspSingle
	nonce          []byte // nil if there is none
	certificates   []*x509.Certificate
}

// ocspSingle is what it says about one certificate.
type ocspSingle struct {
	id         certID
	state      state // good, revoked, or unheard: the responder does not know it
	entry      entry
	made, next time.Time
}

// Bounds of a response.
const (
	maxResponseBytes = 64 << 10
	maxSingles       = 100
	maxResponders    = 8
)

var errOCSP = errors.New("malformed OCSP response")

// parseResponse reads an OCSPResponse (RFC 6960, section 4.2). Extensions that are
// critical and unknown make it unreadable.
func parseResponse(der []byte) (*ocspResponse, error) {
	in := cryptobyte.String(der)
	var outer, bytes, seq, oid, basic cryptobyte.String
	var status int
	if len(der) > maxResponseBytes || !in.ReadASN1(&outer, cbasn1.SEQUENCE) || !in.Empty() || !outer.ReadASN1Enum(&status) {
		return nil, errOCSP
	}
	if status != 0 {
		return nil, errors.New("the responder answers with the error " + big.NewInt(int64(status)).String())
	}
	explicit := cbasn1.Tag(0).ContextSpecific().Constructed()
	if !outer.ReadASN1(&bytes, explicit) || !bytes.ReadASN1(&seq, cbasn1.SEQUENCE) || !seq.ReadASN1Element(&oid, cbasn1.OBJECT_IDENTIFIER) ||
		!seq.ReadASN1(&basic, cbasn1.OCTET_STRING) || !isOID(oid, oidBasicResponse) || !basic.ReadASN1(&basic, cbasn1.SEQUENCE) {
		return nil, errOCSP
	}
	r := &ocspResponse{}
	var tbs, alg, certs cryptobyte.String
	if !basic.ReadASN1Element(&tbs, cbasn1.SEQUENCE) || !basic.ReadASN1(&alg, cbasn1.SEQUENCE) ||
		!alg.ReadASN1Element(&oid, cbasn1.OBJECT_IDENTIFIER) || !basic.ReadASN1BitStringAsBytes(&r.signature) {
		return nil, errOCSP
	}
	r.tbs = tbs
	for _, a := range signatureOIDs {
		if isOID(oid, a.oid) {
			r.algorithm = a.alg
		}
	}
	var there bool
	if !basic.ReadOptionalASN1(&certs, &there, explicit) || !basic.Empty() {
		return nil, errOCSP
	}
	if there {
		r.readCertificates(certs)
	}
	return r, r.readData(tbs)
}

// isOID compares an element with an identifier.
func isOID(element cryptobyte.String, oid asn1.ObjectIdentifier) bool {
	var got asn1.ObjectIdentifier
	return element.ReadASN1ObjectIdentifier(&got) && got.Equal(oid)
}

// readCertificates takes up those that it can read.
func (r *ocspResponse) readCertificates(in cryptobyte.String) {
	if !in.ReadASN1(&in, cbasn1.SEQUENCE) {
		return
	}
	for range maxResponders {
		var der cryptobyte.String
		if !in.ReadASN1Element(&der, cbasn1.SEQUENCE) {
			return
		}
		if c, err := ParseCertificate(der); err == nil {
			r.certificates = append(r.certificates, c)
		}
	}
}

// readData reads the ResponseData.
func (r *ocspResponse) readData(tbs cryptobyte.String) error {
	var in, id, v, list cryptobyte.String
	var tag cbasn1.Tag
	var produced time.Time
	if !tbs.ReadASN1(&in, cbasn1.SEQUENCE) || !in.SkipOptionalASN1(cbasn1.Tag(0).ContextSpecific().Constructed()) ||
		!in.ReadAnyASN1(&id, &tag) || !in.ReadASN1GeneralizedTime(&produced) || !in.ReadASN1(&list, cbasn1.SEQUENCE) {
		return errOCSP
	}
	switch tag {
	case cbasn1.Tag(1).ContextSpecific().Constructed():
		r.byName = id
	case cbasn1.Tag(2).ContextSpecific().Constructed():
		if !id.ReadASN1(&v, cbasn1.OCTET_STRING) {
			return errOCSP
		}
		r.byKey = v
	default:
		return errOCSP
	}
	for !list.Empty() {
		s, err := readSingle(&list)
		if err != nil {
			return err
		}
		if r.singles = append(r.singles, s); len(r.singles) > maxSingles {
			return errors.New("an OCSP response about too many certificates")
		}
	}
	var there bool
	if !in.ReadOptionalASN1(&v, &there, cbasn1.Tag(1).ContextSpecific().Constructed()) || !in.Empty() {
		return errOCSP
	}
	if !there {
		return nil
	}
	return readOCSPExtensions(v, func(oid asn1.ObjectIdentifier, value cryptobyte.String) bool {
		if !oid.Equal(oidNonce) {
			return false
		}
		var nonce cryptobyte.String
		if !value.ReadASN1(&nonce, cbasn1.OCTET_STRING) {
			nonce = cryptobyte.String("unreadable")
		}
		r.nonce = append([]byte{}, nonce...)
		return true
	})
}

// readSingle reads the next SingleResponse.
func readSingle(in *cryptobyte.String) (s ocspSingle, err error) {
	var seq, id, alg, nameHash, keyHash, v cryptobyte.String
	var tag cbasn1.Tag
	s.id.serial = new(big.Int)
	if !in.ReadASN1(&seq, cbasn1.SEQUENCE) || !seq.ReadASN1(&id, cbasn1.SEQUENCE) || !id.ReadASN1(&alg, cbasn1.SEQUENCE) ||
		!alg.ReadASN1ObjectIdentifier(&s.id.hash) || !id.ReadASN1(&nameHash, cbasn1.OCTET_STRING) ||
		!id.ReadASN1(&keyHash, cbasn1.OCTET_STRING) || !id.ReadASN1Integer(s.id.serial) || !id.Empty() ||
		!seq.ReadAnyASN1(&v, &tag) || !seq.ReadASN1GeneralizedTime(&s.made) {
		return s, errOCSP
	}
	s.id.nameHash, s.id.keyHash = nameHash, keyHash
	switch tag {
	case cbasn1.Tag(0).ContextSpecific():
		s.state = good
	case cbasn1.Tag(1).ContextSpecific().Constructed():
		s.state = revoked
		var at time.Time
		if !v.ReadASN1GeneralizedTime(&at) {
			return s, errOCSP
		}
		s.entry.at = at.Unix()
		var reason cryptobyte.String
		var there bool
		if !v.ReadOptionalASN1(&reason, &there, cbasn1.Tag(0).ContextSpecific().Constructed()) {
			return s, errOCSP
		}
		var code int
		if there && reason.ReadASN1Enum(&code) && code > 0 && code < 256 {
			s.entry.reason = uint8(code)
		}
	case cbasn1.Tag(2).ContextSpecific():
		s.state = unheard
	default:
		return s, errOCSP
	}
	var there bool
	if !seq.ReadOptionalASN1(&v, &there, cbasn1.Tag(0).ContextSpecific().Constructed()) || there && !v.ReadASN1GeneralizedTime(&s.next) {
		return s, errOCSP
	}
	if !seq.ReadOptionalASN1(&v, &there, cbasn1.Tag(1).ContextSpecific().Constructed()) || !seq.Empty() {
		return s, errOCSP
	}
	if !there {
		return s, nil
	}
	return s, readOCSPExtensions(v, func(asn1.ObjectIdentifier, cryptobyte.String) bool { return false })
}

// readOCSPExtensions shows each extension; those that are not known may not be critical.
func readOCSPExtensions(in cryptobyte.String, known func(asn1.ObjectIdentifier, cryptobyte.String) bool) error {
	if !in.ReadASN1(&in, cbasn1.SEQUENCE) {
		return errOCSP
	}
	for !in.Empty() {
		var e, value cryptobyte.String
		var oid asn1.ObjectIdentifier
		var critical bool
		if !in.ReadASN1(&e, cbasn1.SEQUENCE) || !e.ReadASN1ObjectIdentifier(&oid) ||
			e.PeekASN1Tag(cbasn1.BOOLEAN) && !e.ReadASN1Boolean(&critical) ||
			!e.ReadASN1(&value, cbasn1.OCTET_STRING) || !e.Empty() {
			return errOCSP
		}
		if !known(oid, value) && critical {
			return errors.New("an OCSP response with an unknown critical extension")
		}
	}
	return nil
}
