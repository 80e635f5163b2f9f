package cms

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"io"
	"slices"
	"time"

	"cmmpd/internal/mail"
)

// SignerSpec is one signer of a message to be signed.
type SignerSpec struct {
	Cert *x509.Certificate
	Key  crypto.Signer // RSA with 2048 to 8192 bits, ECDSA on P-256, P-384 or P-521, or Ed25519
	PSS  bool          // of an RSA key: RSASSA-PSS (RFC 4056), not PKCS #1 v1.5
}

// SignOptions are the signed attributes and the certificates that go along.
type SignOptions struct {
	ContentType  OID                 // default Data
	Time         time.Time           // signing-time; zero: left out
	Certificates []*x509.Certificate // beside the signers' own
	Capabilities []Capability        // SMIMECapabilities; none: left out
	Label        *SecurityLabel      // the ESS security label; nil: left out
}

// Sign is SignContent of what lies in memory, and returns the DER in one piece.
func Sign(rnd io.Reader, detached bool, signers []SignerSpec, o SignOptions, content ...[]byte) ([]byte, error) {
	der, err := SignContent(rnd, detached, signers, o, Pieces(content))
	if err != nil {
		return nil, err
	}
	return bytesOf(der)
}

// SignContent signs content and returns the DER of ContentInfo(SignedData), without the
// content if detached; else the DER reads it from content whenever it is written. RSA keys sign with SHA-256; ECDSA keys with the digest of their
// curve's size; Ed25519 keys with SHA-512 (RFC 8419, section 3). Each signature covers content-type,
// message-digest, signing-time, signingCertificateV2, SMIMECapabilities and the ESS security
// label. rnd is for the keys; nil is crypto/rand.
//
// Errors are of kind Invalid (no signer, a key that may not be used, a label that is
// none), or what the key or the content itself said.
func SignContent(rnd io.Reader, detached bool, signers []SignerSpec, o SignOptions, content Content) (Content, error) {
	if o.ContentType == "" {
		o.ContentType = Data
	}
	if len(signers) == 0 || o.ContentType.der() == nil {
		return nil, mail.E(mail.Invalid, "no signer", nil)
	}
	var digests, infos, certs [][]byte
	made := map[crypto.Hash][]byte{}
	for _, s := range signers {
		h, err := s.hash()
		if err != nil {
			return nil, mail.E(mail.Invalid, "the signing key cannot be used", err)
		}
		if made[h] == nil {
			if made[h], err = digestOf(h, content); err != nil {
				return nil, err
			}
		}
		info, err := s.sign(cryptoRand(rnd), h, made[h], o)
		if err != nil {
			return nil, err
		}
		infos = append(infos, info)
		digests = append(digests, hashAlgorithm(h, nil).der())
		certs = append(certs, s.Cert.Raw)
	}
	for _, c := range o.Certificates {
		certs = append(certs, c.Raw)
	}
	version := byte(1)
	if o.ContentType != Data {
		version = 3
	}
	encap := frame{content: Pieces{}}
	if !detached {
		encap = frame{content: content}.wrap(derOctetString, nil, nil).wrap(derExplicit, nil, nil)
	}
	return encap.wrap(derSequence, pieces{o.ContentType.der()}, nil).
		wrap(derSequence, pieces{small(version), setOf(derSet, unique(digests))}, append(setPieces(derExplicit, unique(certs)), setPieces(derSet, infos)...)).
		inContentInfo(SignedData), nil
}

// digestOf reads content once.
func digestOf(h crypto.Hash, content Content) ([]byte, error) {
	d := h.New()
	if _, err := content.WriteTo(d); err != nil {
		return nil, err
	}
	return d.Sum(nil), nil
}

// unique leaves out what stands there already.
func unique(all [][]byte) [][]byte {
	var out [][]byte
	for _, b := range all {
		if !slices.ContainsFunc(out, func(o []byte) bool { return bytes.Equal(o, b) }) {
			out = append(out, b)
		}
	}
	return out
}

// hash is the digest that s signs with, if its key may be used.
func (s SignerSpec) hash() (crypto.Hash, error) {
	if err := checkCertificate(s.Cert); err != nil {
		return 0, err
	}
	if s.Key == nil {
		return 0, errors.New("no key")
	}
	switch own := s.Cert.PublicKey.(type) {
	case ed25519.PublicKey:
		if own.Equal(s.Key.Public()) {
			return crypto.SHA512, nil
		}
	case *rsa.PublicKey:
		if own.Equal(s.Key.Public()) {
			return crypto.SHA256, nil
		}
	case *ecdsa.PublicKey:
		if !own.Equal(s.Key.Public()) {
			break
		}
		switch own.Curve.Params().BitSize {
		case 256:
			return crypto.SHA256, nil
		case 384:
			return crypto.SHA384, nil
		default:
			return crypto.SHA512, nil
		}
	}
	return 0, errors.New("the key does not belong to the certificate")
}

// sign makes the SignerInfo of s, whose version is 1 since it names issuer and serial
// number (RFC 5652, section 5.3).
func (s SignerSpec) sign(rnd io.Reader, h crypto.Hash, digest []byte, o SignOptions) ([]byte, error) {
	attrs := signedAttributes{make([]byte, 0, len(s.Cert.RawIssuer)+512), make([]int, 0, 6)}
	attrs.add(oidAttrContentType, o.ContentType.appendTo)
	attrs.add(oidAttrMessageDigest, func(b []byte) []byte { return appendString(b, derOctetString, digest) })
	attrs.add(oidAttrSigningCertV2, func(b []byte) []byte { return appendSigningCertificateV2(b, s.Cert) })
	if !o.Time.IsZero() {
		attrs.add(oidAttrSigningTime, func(b []byte) []byte { return appendTime(b, o.Time) })
	}
	if len(o.Capabilities) > 0 {
		attrs.add(oidAttrCapabilities, func(b []byte) []byte { return append(b, encodeCapabilities(o.Capabilities)...) })
	}
	if o.Label != nil {
		label, err := o.Label.der()
		if err != nil {
			return nil, mail.E(mail.Invalid, "the security label cannot be written", err)
		}
		attrs.add(oidAttrSecurityLabel, func(b []byte) []byte { return append(b, label...) })
	}
	set := attrs.set()
	alg, message, opts := s.algorithm(h, set)
	signature, err := s.Key.Sign(rnd, message, opts)
	if err != nil {
		return nil, err
	}
	set[0] = derExplicit // IMPLICIT [0]
	room := make([]byte, 0, len(s.Cert.RawIssuer)+len(set)+len(signature)+128)
	return appendElement(room, derSequence, func(b []byte) []byte {
		b = appendIssuerAndSerial(append(b, derInteger, 1, 1), s.Cert)
		b = append(hashAlgorithm(h, nil).appendTo(b), set...)
		return appendString(alg.appendTo(b), derOctetString, signature)
	}), nil
}

// algorithm is how s signs the attributes: the name of it, what the key is given, and how.
func (s SignerSpec) algorithm(h crypto.Hash, attrs []byte) (algorithm, []byte, crypto.SignerOpts) {
	switch s.Cert.PublicKeyAlgorithm {
	case x509.Ed25519: // signs the attributes themselves
		return algorithm{oidEd25519, nil}, attrs, crypto.Hash(0)
	case x509.RSA:
		if s.PSS {
			return pssOf(h), sum(h, attrs), &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: h}
		}
	}
	return signatureAlgorithm(s.Cert, h), sum(h, attrs), h
}

// signatureAlgorithm is how we name the signature of c's key (RFC 3370, section 3.2:
// rsaEncryption with NULL; RFC 5754, section 3.3: ecdsa-with-SHA2 without parameters).
func signatureAlgorithm(c *x509.Certificate, h crypto.Hash) algorithm {
	if c.PublicKeyAlgorithm == x509.RSA {
		return algorithm{oidRSA, null()}
	}
	switch h {
	case crypto.SHA384:
		return algorithm{oidECDSASHA384, nil}
	case crypto.SHA512:
		return algorithm{oidECDSASHA512, nil}
	default:
		return algorithm{oidECDSASHA256, nil}
	}
}
