package cms

import (
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	_ "crypto/sha1" // for reading: the defaults of OAEP and RFC 5753, and old signatures by policy
	_ "crypto/sha256"
	_ "crypto/sha512"
	"crypto/x509"
	"errors"
	"fmt"

	"cmmpd/smime/certkey"
)

// algorithm is an algorithm and its parameters.
//
//	AlgorithmIdentifier ::= SEQUENCE {
//	  algorithm   OBJECT IDENTIFIER,
//	  parameters  ANY DEFINED BY algorithm OPTIONAL }
type algorithm struct {
	id     OID
	params []byte // the whole element as it came, or nil
}

func (r *reader) readAlgorithm() (algorithm, error) {
	e, err := r.read(tagSequence)
	if err != nil {
		return algorithm{}, err
	}
	return r.algorithmIn(e)
}

// algorithmIn reads the contents of e, a SEQUENCE or what replaces its tag.
func (r *reader) algorithmIn(e element) (a algorithm, err error) {
	in, err := r.inside(e)
	if err != nil {
		return a, err
	}
	if a.id, err = in.readOID(); err != nil {
		return a, err
	}
	if in.more() {
		p, err := in.next()
		if err != nil {
			return a, err
		}
		a.params = p.raw
	}
	return a, in.end()
}

func (a algorithm) der() []byte {
	return a.appendTo(make([]byte, 0, mostHeader+2+len(a.id)+len(a.params)))
}

func (a algorithm) appendTo(b []byte) []byte {
	return appendElement(b, derSequence, func(b []byte) []byte { return append(a.id.appendTo(b), a.params...) })
}

// inParams returns a reader of the parameters.
func (a algorithm) inParams() *reader {
	return &reader{&budget{elements: 100, depth: 10}, a.params, 0}
}

// noParams says whether the parameters are absent or NULL.
func (a algorithm) noParams() bool {
	return len(a.params) == 0 || len(a.params) == 2 && a.params[0] == derNull
}

// hash is the digest algorithm that a names, or 0.
func (a algorithm) hash() crypto.Hash {
	if !a.noParams() {
		return 0
	}
	switch a.id {
	case oidSHA1:
		return crypto.SHA1
	case oidSHA224:
		return crypto.SHA224
	case oidSHA256:
		return crypto.SHA256
	case oidSHA384:
		return crypto.SHA384
	case oidSHA512:
		return crypto.SHA512
	}
	return 0
}

// hashAlgorithm is the identifier of one of the digests that we write.
func hashAlgorithm(h crypto.Hash, params []byte) algorithm {
	switch h {
	case crypto.SHA384:
		return algorithm{oidSHA384, params}
	case crypto.SHA512:
		return algorithm{oidSHA512, params}
	default:
		return algorithm{oidSHA256, params}
	}
}

// hashName names h for people.
func hashName(h crypto.Hash) string {
	switch h {
	case crypto.SHA1:
		return "sha1"
	case crypto.SHA224:
		return "sha224"
	case crypto.SHA256:
		return "sha256"
	case crypto.SHA384:
		return "sha384"
	case crypto.SHA512:
		return "sha512"
	}
	return "unknown"
}

// maskHash is the digest of the mask generation function MGF1 (RFC 8017, appendix
// B.2.1), or 0.
func (a algorithm) maskHash() crypto.Hash {
	if a.id != oidMGF1 {
		return 0
	}
	r := a.inParams()
	h, err := r.readAlgorithm()
	if err != nil || r.end() != nil {
		return 0
	}
	return h.hash()
}

// oaep reads the parameters of RSAES-OAEP (RFC 4055, section 4.1).
//
//	RSAES-OAEP-params ::= SEQUENCE {
//	  hashFunc    [0] AlgorithmIdentifier DEFAULT sha1Identifier,
//	  maskGenFunc [1] AlgorithmIdentifier DEFAULT mgf1SHA1Identifier,
//	  pSourceFunc [2] AlgorithmIdentifier DEFAULT pSpecifiedEmptyIdentifier }
func (a algorithm) oaep() (RSATransport, error) {
	t := RSATransport{OAEP: true, Hash: crypto.SHA1, MGFHash: crypto.SHA1}
	r, err := a.inParams().enter(tagSequence)
	if err != nil {
		return t, err
	}
	if err := r.tagged(0, func(in algorithm) error { t.Hash = in.hash(); return nil }); err != nil {
		return t, err
	}
	if err := r.tagged(1, func(in algorithm) error { t.MGFHash = in.maskHash(); return nil }); err != nil {
		return t, err
	}
	err = r.tagged(2, func(in algorithm) error {
		if in.id != oidPSource {
			return errForm
		}
		p := in.inParams()
		t.Label, err = p.readOctets(tagOctetString)
		return errors.Join(err, p.end())
	})
	if err == nil && (t.Hash == 0 || t.MGFHash == 0) {
		err = errForm
	}
	return t, errors.Join(err, r.end())
}

// tagged reads an optional AlgorithmIdentifier under the explicit tag [n].
func (r *reader) tagged(n tag, use func(algorithm) error) error {
	e, ok, err := r.optional(context(n))
	if !ok {
		return err
	}
	in, err := r.inside(e)
	if err != nil {
		return err
	}
	a, err := in.readAlgorithm()
	if err != nil {
		return err
	}
	return errors.Join(use(a), in.end())
}

// oaepSHA256 is RSAES-OAEP with SHA-256 and MGF1-SHA-256, as we write it.
func oaepSHA256() algorithm {
	sha256 := algorithm{oidSHA256, null()}
	mgf := algorithm{oidMGF1, sha256.der()}
	return algorithm{oidOAEP, tlv(derSequence, tlv(derExplicit, sha256.der()), tlv(derExplicit|1, mgf.der()))}
}

// pss reads the parameters of RSASSA-PSS (RFC 4055, section 3.1). Only one digest for
// both purposes is supported.
//
//	RSASSA-PSS-params ::= SEQUENCE {
//	  hashAlgorithm    [0] HashAlgorithm DEFAULT sha1Identifier,
//	  maskGenAlgorithm [1] MaskGenAlgorithm DEFAULT mgf1SHA1Identifier,
//	  saltLength       [2] INTEGER DEFAULT 20,
//	  trailerField     [3] INTEGER DEFAULT 1 }
func (a algorithm) pss() (h crypto.Hash, salt int, err error) {
	h, mask, salt := crypto.SHA1, crypto.SHA1, 20
	r, err := a.inParams().enter(tagSequence)
	if err != nil {
		return 0, 0, err
	}
	if err := r.tagged(0, func(in algorithm) error { h = in.hash(); return nil }); err != nil {
		return 0, 0, err
	}
	if err := r.tagged(1, func(in algorithm) error { mask = in.maskHash(); return nil }); err != nil {
		return 0, 0, err
	}
	if salt, err = r.taggedNumber(2, salt); err != nil {
		return 0, 0, err
	}
	trailer, err := r.taggedNumber(3, 1)
	if err != nil {
		return 0, 0, err
	}
	if h == 0 || mask != h || trailer != 1 || r.more() {
		return 0, 0, errForm
	}
	return h, salt, nil
}

// pssOf is RSASSA-PSS with h, MGF1 with h, and a salt as long as a digest (RFC 4056,
// section 3), as we write it.
func pssOf(h crypto.Hash) algorithm {
	digest := hashAlgorithm(h, null())
	mgf := algorithm{oidMGF1, digest.der()}
	return algorithm{oidPSS, tlv(derSequence, tlv(derExplicit, digest.der()), tlv(derExplicit|1, mgf.der()), tlv(derExplicit|2, small(byte(h.Size()))))}
}

// taggedNumber reads an optional small INTEGER under the explicit tag [n].
func (r *reader) taggedNumber(n tag, missing int) (int, error) {
	e, ok, err := r.optional(context(n))
	if !ok {
		return missing, err
	}
	in, err := r.inside(e)
	if err != nil {
		return 0, err
	}
	v, err := in.readInteger()
	if err != nil {
		return 0, err
	}
	if !v.IsInt64() || v.Int64() < 0 || v.Int64() > 1024 {
		return 0, errForm
	}
	return int(v.Int64()), in.end()
}

// The strength of keys that may be used.
const (
	minRSABits = 2048
	maxRSABits = 8192
)

// checkKey refuses public keys that are too weak or costly to use.
func checkKey(key any) error {
	switch k := key.(type) {
	case ed25519.PublicKey:
		return nil
	case *ecdh.PublicKey:
		if k.Curve() == ecdh.X25519() {
			return nil
		}
	case *certkey.PSS:
		return checkKey(k.PublicKey)
	case *rsa.PublicKey:
		if n := k.N.BitLen(); n < minRSABits || n > maxRSABits {
			return fmt.Errorf("RSA key of %d bits", n)
		}
		return nil
	case *ecdsa.PublicKey:
		switch k.Curve {
		case elliptic.P256(), elliptic.P384(), elliptic.P521():
			return nil
		}
		return errors.New("elliptic curve not allowed")
	}
	return errors.New("kind of key not supported")
}

// checkCertificate refuses certificates that are absent or whose key checkKey refuses.
func checkCertificate(c *x509.Certificate) error {
	if c == nil {
		return errors.New("no certificate")
	}
	return checkKey(certkey.Of(c))
}
