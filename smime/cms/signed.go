package cms

import (
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"math/big"
)

// Signed is a parsed SignedData. Nothing in it has been verified.
type Signed struct {
	ContentType  OID
	Content      []byte // nil: detached, or certificates only
	Signers      []SignerInfo
	Certificates []*x509.Certificate // those that could be read, in the order of the message
	Skipped      int                 // certificates of other kinds, or that could not be read

	sha1 bool // the policy accepts signatures made with SHA-1
}

// SignerInfo is one signer. Either Issuer and Serial are set, or SKI.
type SignerInfo struct {
	Issuer []byte // the DER of the issuer's Name
	Serial *big.Int
	SKI    []byte
	Digest crypto.Hash // 0: unknown

	attrs     []byte // the signed attributes as they came, but tagged SET OF; nil: none
	algorithm algorithm
	signature []byte
}

// Matches says whether si names the certificate c.
func (si *SignerInfo) Matches(c *x509.Certificate) bool {
	return matches(c, si.Issuer, si.Serial, si.SKI)
}

// ParseSigned reads a ContentInfo that holds SignedData. A structure without signers
// (certs-only) is no error. Errors are of kind Invalid, TooLarge, or Unsupported for
// other content types.
func ParseSigned(ber []byte, lim Limits) (s *Signed, err error) {
	defer guard(&err)
	lim = lim.withDefaults()
	id, r, err := openContentInfo(ber, lim)
	if err != nil {
		return nil, malformed(err)
	}
	if id != SignedData {
		return nil, notA("SignedData", id)
	}
	s, err = readSigned(r, lim)
	if err != nil {
		return nil, malformed(err)
	}
	s.sha1 = lim.SHA1
	return s, nil
}

// readSigned reads (RFC 5652, section 5.1)
//
//	SignedData ::= SEQUENCE {
//	  version CMSVersion,
//	  digestAlgorithms DigestAlgorithmIdentifiers,
//	  encapContentInfo EncapsulatedContentInfo,
//	  certificates [0] IMPLICIT CertificateSet OPTIONAL,
//	  crls [1] IMPLICIT RevocationInfoChoices OPTIONAL,
//	  signerInfos SignerInfos }
func readSigned(outer *reader, lim Limits) (*Signed, error) {
	r, err := outer.enter(tagSequence)
	if err != nil {
		return nil, err
	}
	if err := outer.end(); err != nil {
		return nil, err
	}
	s := new(Signed)
	if _, err := r.readInteger(); err != nil {
		return nil, err
	}
	if _, err := r.read(tagSet); err != nil {
		return nil, err
	}
	if err := s.readContent(r); err != nil {
		return nil, fmt.Errorf("encapContentInfo: %w", err)
	}
	if r.peek(context(0)) {
		certs, err := r.enter(context(0))
		if err != nil {
			return nil, err
		}
		if err := s.readCertificates(certs, lim.Certificates); err != nil {
			return nil, fmt.Errorf("certificates: %w", err)
		}
	}
	if _, _, err := r.optional(context(1)); err != nil {
		return nil, err
	}
	signers, err := r.enter(tagSet)
	if err != nil {
		return nil, err
	}
	for signers.more() {
		if len(s.Signers) == lim.Signers {
			return nil, errTooMany
		}
		si, err := signers.readSigner()
		if err != nil {
			return nil, fmt.Errorf("signerInfos: %w", err)
		}
		s.Signers = append(s.Signers, si)
	}
	return s, r.end()
}

// readContent reads (RFC 5652, section 5.2)
//
//	EncapsulatedContentInfo ::= SEQUENCE {
//	  eContentType ContentType,
//	  eContent [0] EXPLICIT OCTET STRING OPTIONAL }
func (s *Signed) readContent(outer *reader) error {
	r, err := outer.enter(tagSequence)
	if err != nil {
		return err
	}
	if s.ContentType, err = r.readOID(); err != nil {
		return err
	}
	if r.more() {
		explicit, err := r.enter(context(0))
		if err != nil {
			return err
		}
		content, err := explicit.readOctets(tagOctetString)
		if err != nil {
			return err
		}
		if err := explicit.end(); err != nil {
			return err
		}
		if s.Content = content; content == nil {
			s.Content = []byte{}
		}
	}
	return r.end()
}

// readCertificates reads (RFC 5652, section 10.2.2 and 10.2.3)
//
//	CertificateSet ::= SET OF CertificateChoices
//
//	CertificateChoices ::= CHOICE {
//	  certificate Certificate,
//	  extendedCertificate [0] IMPLICIT ExtendedCertificate,  -- obsolete
//	  v1AttrCert [1] IMPLICIT AttributeCertificateV1,        -- obsolete
//	  v2AttrCert [2] IMPLICIT AttributeCertificateV2,
//	  other [3] IMPLICIT OtherCertificateFormat }
func (s *Signed) readCertificates(r *reader, limit int) error {
	for n := 0; r.more(); n++ {
		if n == limit {
			return errTooMany
		}
		e, err := r.next()
		if err != nil {
			return err
		}
		if e.tag == tagSequence {
			if c, err := x509.ParseCertificate(e.raw); err == nil {
				s.Certificates = append(s.Certificates, c)
				continue
			}
		}
		s.Skipped++
	}
	return nil
}

// readSigner reads (RFC 5652, section 5.3)
//
//	SignerInfo ::= SEQUENCE {
//	  version CMSVersion,
//	  sid SignerIdentifier,
//	  digestAlgorithm DigestAlgorithmIdentifier,
//	  signedAttrs [0] IMPLICIT SignedAttributes OPTIONAL,
//	  signatureAlgorithm SignatureAlgorithmIdentifier,
//	  signature SignatureValue,
//	  unsignedAttrs [1] IMPLICIT UnsignedAttributes OPTIONAL }
//
//	SignerIdentifier ::= CHOICE {
//	  issuerAndSerialNumber IssuerAndSerialNumber,
//	  subjectKeyIdentifier [0] SubjectKeyIdentifier }
func (r *reader) readSigner() (si SignerInfo, err error) {
	in, err := r.enter(tagSequence)
	if err != nil {
		return si, err
	}
	if _, err := in.readInteger(); err != nil {
		return si, err
	}
	if in.peek(context(0)) {
		si.SKI, err = in.readOctets(context(0))
	} else {
		si.Issuer, si.Serial, err = in.readIssuerAndSerial()
	}
	if err != nil {
		return si, err
	}
	digest, err := in.readAlgorithm()
	if err != nil {
		return si, err
	}
	si.Digest = digest.hash()
	attrs, ok, err := in.optional(context(0))
	if err != nil {
		return si, err
	}
	if ok {
		if si.attrs, err = retag(attrs); err != nil {
			return si, err
		}
	}
	if si.algorithm, err = in.readAlgorithm(); err != nil {
		return si, err
	}
	if si.signature, err = in.readOctets(tagOctetString); err != nil {
		return si, err
	}
	_, _, err = in.optional(context(1))
	return si, errors.Join(err, in.end())
}

// retag returns the IMPLICIT set e as it came, but tagged SET OF, which is what digests
// and tags are computed over (RFC 5652, section 5.4; RFC 5083, section 2.2). Whether it
// is DER remains to be checked.
func retag(e element) ([]byte, error) {
	if !e.constructed {
		return nil, errForm
	}
	set := append([]byte(nil), e.raw...)
	set[0] = derSet
	return set, nil
}
