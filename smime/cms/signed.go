package cms

import (
	"crypto"
	"crypto/x509"
	"io"
	"math/big"
	"time"
)

// Capability is one entry of SMIMECapabilities (RFC 8551, section 2.5.2), in order of
// preference.
type Capability struct {
	ID         OID
	Parameters []byte // DER, or nil
}

// SignerSpec is one signer of a message to be signed.
type SignerSpec struct {
	Cert *x509.Certificate
	Key  crypto.Signer // RSA, or ECDSA on P-256, P-384 or P-521
}

// SignOptions are the signed attributes and the certificates that go along.
type SignOptions struct {
	ContentType  OID                 // default Data
	Time         time.Time           // signing-time; zero: left out
	Certificates []*x509.Certificate // beside the signers' own
	Capabilities []Capability        // SMIMECapabilities; none: left out
}

// Sign signs content and returns the DER of ContentInfo(SignedData), without the
// content if detached. RSA keys sign with PKCS #1 v1.5 and SHA-256; ECDSA keys with
// the digest of their curve's size. Each signature covers content-type,
// message-digest, signing-time and signingCertificateV2.
func Sign(rnd io.Reader, content []byte, detached bool, signers []SignerSpec, o SignOptions) (der []byte, err error) {
	return nil, errNotYet()
}

// Signed is a parsed SignedData. Nothing in it has been verified.
type Signed struct {
	ContentType  OID
	Content      []byte // nil: detached (or certificates only)
	Signers      []SignerInfo
	Certificates []*x509.Certificate // those that could be read, in the order of the message
	Skipped      int                 // certificates of other kinds or that could not be read
}

// SignerInfo is one signer. Either Issuer and Serial are set, or SKI.
type SignerInfo struct {
	Issuer []byte // the DER of the issuer's Name
	Serial *big.Int
	SKI    []byte
	Digest crypto.Hash // 0: unknown
}

// Matches says whether si names the certificate c.
func (si *SignerInfo) Matches(c *x509.Certificate) bool {
	return false
}

// ParseSigned reads a ContentInfo that holds SignedData. A structure without signers
// (certs-only) is no error.
func ParseSigned(ber []byte, lim Limits) (*Signed, error) {
	return nil, errNotYet()
}

// SignerResult is what Verify checked: the signature of Cert's key over the content
// and the attributes below. It did not check whether Cert may be believed, nor dates,
// nor addresses.
type SignerResult struct {
	Cert               *x509.Certificate
	Digest             crypto.Hash
	Algorithm          string // for people: "rsa-sha256", "rsa-pss-sha256", "ecdsa-p256-sha256", …
	SignedAttributes   bool   // false: the signature is over the bare content, and nothing below is set
	SigningTime        time.Time
	Capabilities       []Capability
	SigningCertificate bool   // signingCertificate or signingCertificateV2 was there and names Cert
	SecurityLabel      []byte // the DER of the ESSSecurityLabel (RFC 2634, section 3), or nil
}

// Verify checks the i-th signature. content is the detached content and must be nil
// where the message carries its own. The signer's certificate is looked for in the
// message and then among known. Errors are of kind Invalid, NotFound (no certificate),
// or Unsupported.
func (s *Signed) Verify(i int, content []byte, known ...*x509.Certificate) (SignerResult, error) {
	return SignerResult{}, errNotYet()
}
