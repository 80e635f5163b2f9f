package cms

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
	"strings"
	"time"

	"cmmpd/internal/mail"
	"cmmpd/smime/certkey"
)

// SignerResult is what Verify checked: the signature of Cert's key over the content
// and the attributes below. It did not check whether Cert may be believed, nor its
// dates, purposes and addresses: that is smime/trust's.
type SignerResult struct {
	Cert               *x509.Certificate
	Digest             crypto.Hash
	Algorithm          string // for people: "rsa-sha256", "rsa-pss-sha256", "ecdsa-p256-sha256", "ed25519-sha512", …
	SignedAttributes   bool   // false: the signature is over the bare content, and nothing below is set
	SigningTime        time.Time
	Capabilities       []Capability
	SigningCertificate bool           // signingCertificate or signingCertificateV2 was there and names Cert
	SecurityLabel      *SecurityLabel // or nil
}

// Verify checks the i-th signature (RFC 5652, section 5.4 to 5.6). content is the
// detached content, and must be nil where the message carries its own. The signer's
// certificate is looked for in the message and then among known; where several bear the
// name, the first with which the signature is good counts. Signed attributes must
// be DER, hold content-type and message-digest once, signing-time at most once, and, if
// they name a certificate, name this one.
//
// Errors are of kind Invalid (the signature is not good), NotFound (no certificate for
// it), or Unsupported (an algorithm or key that is not accepted).
func (s *Signed) Verify(i int, content []byte, known ...*x509.Certificate) (res SignerResult, err error) {
	defer guard(&err)
	if i < 0 || i >= len(s.Signers) {
		return SignerResult{}, mail.E(mail.NotFound, "there is no such signature", nil)
	}
	switch {
	case s.Content != nil && content != nil:
		return SignerResult{}, mail.E(mail.Invalid, "the signature carries a content of its own", nil)
	case s.Content != nil:
		content = s.Content
	case content == nil:
		return SignerResult{}, mail.E(mail.Invalid, "the signed content is missing", nil)
	}
	si := &s.Signers[i]
	err = mail.E(mail.NotFound, "the signer's certificate is missing", nil)
	for _, cert := range s.candidates(si, known) {
		if res, err = s.verifyWith(si, cert, content); err == nil {
			return res, nil
		}
	}
	return SignerResult{}, err
}

// candidates are the certificates that si names. Several may bear one name: a renewed
// certificate keeps its key identifier, and a message may carry anything.
func (s *Signed) candidates(si *SignerInfo, known []*x509.Certificate) (all []*x509.Certificate) {
	for _, list := range [][]*x509.Certificate{s.Certificates, known} {
		for _, c := range list {
			if si.Matches(c) && len(all) < maxCandidates {
				all = append(all, c)
			}
		}
	}
	return all
}

// maxCandidates bounds how many certificates are tried for one signature.
const maxCandidates = 8

// verifyWith checks si against the key of cert.
func (s *Signed) verifyWith(si *SignerInfo, cert *x509.Certificate, content []byte) (SignerResult, error) {
	scheme, err := si.scheme(cert)
	if err == nil && scheme.hash == crypto.SHA1 && !s.sha1 {
		err = errors.New("SHA-1 is not accepted")
	}
	if err != nil {
		return SignerResult{}, mail.E(mail.Unsupported, "the signature's algorithm or key is not accepted", err)
	}
	res := SignerResult{Cert: cert, Digest: scheme.hash, Algorithm: scheme.name(cert)}
	digest := sum(scheme.hash, content)
	if si.attrs == nil {
		err = checkBare(s.ContentType, content)
	} else {
		err = res.readAttributes(si.attrs, s.ContentType, digest)
		digest = sum(scheme.hash, si.attrs)
	}
	signed := si.attrs
	if signed == nil {
		signed = content
	}
	if err == nil {
		err = scheme.verify(certkey.Of(cert), signed, digest, si.signature)
	}
	if err != nil {
		return SignerResult{}, mail.E(mail.Invalid, "the signature is not good", err)
	}
	return res, nil
}

// checkBare says whether a content may be signed without signed attributes: only the
// type Data may (RFC 5652, section 5.3), and not if it looks like signed attributes,
// for then somebody may be passing off the attributes of another message, whose
// signature is over just these bytes, as a message.
func checkBare(contentType OID, content []byte) error {
	if contentType != Data {
		return errors.New("signed attributes are missing")
	}
	if attrs, err := parseAttributes(content); err == nil && attrs[oidAttrMessageDigest] != nil {
		return errors.New("the content is a set of signed attributes")
	}
	return nil
}

// readAttributes checks the signed attributes and takes what they say into res.
func (res *SignerResult) readAttributes(set []byte, contentType OID, digest []byte) error {
	attrs, err := parseAttributes(set)
	if err != nil {
		return err
	}
	res.SignedAttributes = true
	if err := attrs.checkContent(contentType, digest); err != nil {
		return err
	}
	if res.SigningTime, err = attrs.signingTime(); err != nil {
		return err
	}
	if res.SigningCertificate, err = attrs.namesCertificate(res.Cert); err != nil {
		return err
	}
	if res.Capabilities, err = attrs.capabilities(); err != nil {
		return err
	}
	label, err := attrs.one(oidAttrSecurityLabel)
	if label == nil || err != nil {
		return err
	}
	res.SecurityLabel, err = parseSecurityLabel(label)
	return err
}

// scheme is how a signature was made.
type scheme struct {
	hash    crypto.Hash
	pss     bool
	salt    int
	ecdsa   bool
	ed25519 bool
}

// scheme takes the signature scheme from the algorithm identifiers, which must agree
// with each other and with the certificate's key (RFC 3370, 4056, 5753, 5754, 8017).
func (si *SignerInfo) scheme(cert *x509.Certificate) (scheme, error) {
	if err := checkCertificate(cert); err != nil {
		return scheme{}, err
	}
	s := scheme{hash: si.Digest}
	fixed := crypto.Hash(0) // what the signature algorithm says, if anything
	switch si.algorithm.id {
	case oidRSA:
	case oidSHA1RSA, oidECDSASHA1:
		fixed = crypto.SHA1
	case oidSHA224RSA, oidECDSASHA224:
		fixed = crypto.SHA224
	case oidSHA256RSA, oidECDSASHA256:
		fixed = crypto.SHA256
	case oidSHA384RSA, oidECDSASHA384:
		fixed = crypto.SHA384
	case oidSHA512RSA, oidECDSASHA512:
		fixed = crypto.SHA512
	case oidPSS:
		var err error
		if fixed, s.salt, err = si.algorithm.pss(); err != nil {
			return s, fmt.Errorf("RSASSA-PSS parameters: %w", err)
		}
		s.pss = true
	case oidECPublicKey: // some signers name the key instead
		s.ecdsa = true
	case oidEd25519: // RFC 8419, section 3
		s.ed25519, fixed = true, crypto.SHA512
	default:
		return s, fmt.Errorf("signature algorithm %s", si.algorithm.id)
	}
	s.ecdsa = s.ecdsa || strings.HasPrefix(string(si.algorithm.id), "1.2.840.10045.4.")
	if s.hash == 0 || fixed != 0 && fixed != s.hash {
		return s, errors.New("digest algorithm unknown, or not the signature's")
	}
	key := certkey.Of(cert)
	if k, ok := key.(*certkey.PSS); ok {
		if !s.pss || k.Hash != 0 && k.Hash != s.hash || s.salt < k.Salt { // RFC 4055, section 3.3
			return s, errors.New("the certificate's key is for another form of RSASSA-PSS")
		}
		return s, nil
	}
	_, isEC := key.(*ecdsa.PublicKey)
	_, isEd := key.(ed25519.PublicKey)
	_, isRSA := key.(*rsa.PublicKey)
	if isEC != s.ecdsa || isEd != s.ed25519 || isRSA == (s.ecdsa || s.ed25519) {
		return s, errors.New("the signature is not of the certificate's kind of key")
	}
	return s, nil
}

func (s scheme) name(cert *x509.Certificate) string {
	kind := "rsa"
	if pub, ok := cert.PublicKey.(*ecdsa.PublicKey); ok {
		kind = "ecdsa-p" + strings.TrimPrefix(pub.Curve.Params().Name, "P-")
	}
	if s.pss {
		kind += "-pss"
	}
	if s.ed25519 {
		kind = "ed25519"
	}
	return kind + "-" + hashName(s.hash)
}

// verify checks a signature over what was signed, whose digest is given too.
func (s scheme) verify(key any, signed, digest, signature []byte) error {
	switch pub := key.(type) {
	case *certkey.PSS:
		return s.verify(pub.PublicKey, signed, digest, signature)
	case ed25519.PublicKey:
		if ed25519.Verify(pub, signed, signature) {
			return nil
		}
	case *rsa.PublicKey:
		if s.pss {
			return rsa.VerifyPSS(pub, s.hash, digest, signature, &rsa.PSSOptions{SaltLength: s.saltLength(), Hash: s.hash})
		}
		return rsa.VerifyPKCS1v15(pub, s.hash, digest, signature)
	case *ecdsa.PublicKey:
		if ecdsa.VerifyASN1(pub, digest, signature) {
			return nil
		}
	}
	return errors.New("verification failed")
}

// saltLength is the salt's length as crypto/rsa wants it: there, 0 means any.
func (s scheme) saltLength() int {
	if s.salt == 0 {
		return rsa.PSSSaltLengthAuto
	}
	return s.salt
}
