// Package certkey reads the public keys of certificates, those that crypto/x509 leaves alone
// included: of X25519 (RFC 8410), and RSA keys for RSASSA-PSS alone (RFC 4055).
package certkey

import (
	"crypto"
	"crypto/rsa"
	_ "crypto/sha256"
	_ "crypto/sha512"
	"crypto/x509"
	"encoding/asn1"
	"errors"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// PSS is an RSA key that is certified for RSASSA-PSS and nothing else (RFC 4055, section 1.2),
// and what its certificate restricts it to (section 3.3).
type PSS struct {
	*rsa.PublicKey
	Hash crypto.Hash // for the message and for MGF1; 0: any
	Salt int         // the least length, in bytes
}

// Of is the key of c: what crypto/x509 gives, an *ecdh.PublicKey of X25519, or a *PSS; nil where
// it cannot be read.
func Of(c *x509.Certificate) any {
	if c.PublicKey != nil {
		return c.PublicKey
	}
	if k, err := x509.ParsePKIXPublicKey(c.RawSubjectPublicKeyInfo); err == nil {
		return k
	}
	if k := parsePSS(c.RawSubjectPublicKeyInfo); k != nil {
		return k
	}
	return nil
}

// CheckSignature is c.CheckSignature, with a key of kind *PSS, too.
func CheckSignature(c *x509.Certificate, how x509.SignatureAlgorithm, signed, signature []byte) error {
	k, ok := Of(c).(*PSS)
	if !ok {
		return c.CheckSignature(how, signed, signature)
	}
	h := pssHashes[how] // the salt is as long as that, or crypto/x509 knows no such algorithm
	if h == 0 || k.Hash != 0 && k.Hash != h || k.Salt > h.Size() {
		return errors.New("the issuer's key is for another form of RSASSA-PSS")
	}
	plain := &x509.Certificate{PublicKeyAlgorithm: x509.RSA, PublicKey: k.PublicKey}
	return plain.CheckSignature(how, signed, signature)
}

var pssHashes = map[x509.SignatureAlgorithm]crypto.Hash{
	x509.SHA256WithRSAPSS: crypto.SHA256, x509.SHA384WithRSAPSS: crypto.SHA384, x509.SHA512WithRSAPSS: crypto.SHA512,
}

var (
	oidPSS  = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 10}
	oidMGF1 = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 8}
)

// hashOf is one of the digests that a key may be restricted to here, or 0.
func hashOf(id asn1.ObjectIdentifier) crypto.Hash {
	switch id.String() {
	case "2.16.840.1.101.3.4.2.1":
		return crypto.SHA256
	case "2.16.840.1.101.3.4.2.2":
		return crypto.SHA384
	case "2.16.840.1.101.3.4.2.3":
		return crypto.SHA512
	}
	return 0
}

// parsePSS reads a SubjectPublicKeyInfo whose algorithm is id-RSASSA-PSS, or returns nil. Without
// parameters the key may be used with any; a restriction to SHA-1, or to different digests for
// message and mask, leaves nothing that we accept.
func parsePSS(der cryptobyte.String) *PSS {
	var info, algorithm, params cryptobyte.String
	var id asn1.ObjectIdentifier
	var bits []byte
	if !der.ReadASN1(&info, cbasn1.SEQUENCE) || !der.Empty() || !info.ReadASN1(&algorithm, cbasn1.SEQUENCE) ||
		!algorithm.ReadASN1ObjectIdentifier(&id) || !id.Equal(oidPSS) || !info.ReadASN1BitStringAsBytes(&bits) || !info.Empty() {
		return nil
	}
	key, err := x509.ParsePKCS1PublicKey(bits)
	if err != nil {
		return nil
	}
	k := &PSS{PublicKey: key}
	if algorithm.Empty() {
		return k
	}
	if !algorithm.ReadASN1(&params, cbasn1.SEQUENCE) || !algorithm.Empty() || !k.restrict(params) {
		return nil
	}
	return k
}

// restrict reads
//
//	RSASSA-PSS-params ::= SEQUENCE {
//	  hashAlgorithm    [0] HashAlgorithm DEFAULT sha1Identifier,
//	  maskGenAlgorithm [1] MaskGenAlgorithm DEFAULT mgf1SHA1Identifier,
//	  saltLength       [2] INTEGER DEFAULT 20,
//	  trailerField     [3] INTEGER DEFAULT 1 }
func (k *PSS) restrict(params cryptobyte.String) bool {
	var hash, mask cryptobyte.String
	trailer := 1
	k.Salt = 20
	if !params.ReadASN1(&hash, explicit(0)) || !params.ReadASN1(&mask, explicit(1)) ||
		!number(&params, explicit(2), &k.Salt) || !number(&params, explicit(3), &trailer) || !params.Empty() {
		return false
	}
	id, rest, ok := identifier(&hash)
	k.Hash = hashOf(id)
	if !ok || !hash.Empty() || !noParameters(rest) {
		return false
	}
	generator, of, ok := identifier(&mask)
	if !ok || !mask.Empty() || !generator.Equal(oidMGF1) {
		return false
	}
	id, rest, ok = identifier(&of)
	return ok && of.Empty() && noParameters(rest) && k.Hash != 0 && hashOf(id) == k.Hash && k.Salt >= 0 && trailer == 1
}

func explicit(n uint8) cbasn1.Tag { return cbasn1.Tag(n).ContextSpecific().Constructed() }

// identifier reads an AlgorithmIdentifier and returns what follows the identifier in it.
func identifier(s *cryptobyte.String) (id asn1.ObjectIdentifier, rest cryptobyte.String, ok bool) {
	ok = s.ReadASN1(&rest, cbasn1.SEQUENCE) && rest.ReadASN1ObjectIdentifier(&id)
	return id, rest, ok
}

func noParameters(s cryptobyte.String) bool { return s.Empty() || string(s) == "\x05\x00" }

// number reads an optional INTEGER under an explicit tag; without one, n stays.
func number(s *cryptobyte.String, tag cbasn1.Tag, n *int) bool {
	if !s.PeekASN1Tag(tag) {
		return true
	}
	var in cryptobyte.String
	return s.ReadASN1(&in, tag) && in.ReadASN1Integer(n) && in.Empty()
}
