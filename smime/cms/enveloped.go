package cms

import (
	"errors"
	"fmt"
)

// Enveloped is a parsed EnvelopedData or AuthEnvelopedData, still encrypted.
type Enveloped struct {
	Cipher      Cipher
	ContentType OID // of what is inside
	Recipients  []RecipientInfo

	content   contentCipher
	encrypted []byte
	authAttrs []byte // AuthEnvelopedData: the DER of AuthAttributes as a SET OF, or nil
	mac       []byte // AuthEnvelopedData
	mayOpen   bool   // the policy lets us read this cipher
}

// ParseEnveloped reads a ContentInfo that holds EnvelopedData or AuthEnvelopedData.
// Recipients of unknown kinds are listed as Other. Errors are of kind Invalid,
// TooLarge, or Unsupported for other content types.
func ParseEnveloped(ber []byte, lim Limits) (e *Enveloped, err error) {
	defer guard(&err)
	lim = lim.withDefaults()
	id, r, err := openContentInfo(ber, lim)
	if err != nil {
		return nil, malformed(err)
	}
	if id != EnvelopedData && id != AuthEnvelopedData {
		return nil, notA("EnvelopedData", id)
	}
	e, err = readEnveloped(r, lim, id == AuthEnvelopedData)
	if err != nil {
		return nil, malformed(err)
	}
	e.mayOpen = e.Cipher != UnknownCipher && (e.Cipher != TripleDES || lim.TripleDES)
	return e, nil
}

// readEnveloped reads (RFC 5652, section 6.1; RFC 5083, section 2.1)
//
//	EnvelopedData ::= SEQUENCE {
//	  version CMSVersion,
//	  originatorInfo [0] IMPLICIT OriginatorInfo OPTIONAL,
//	  recipientInfos RecipientInfos,
//	  encryptedContentInfo EncryptedContentInfo,
//	  unprotectedAttrs [1] IMPLICIT UnprotectedAttributes OPTIONAL }
//
//	AuthEnvelopedData ::= SEQUENCE {
//	  version CMSVersion,
//	  originatorInfo [0] IMPLICIT OriginatorInfo OPTIONAL,
//	  recipientInfos RecipientInfos,
//	  authEncryptedContentInfo EncryptedContentInfo,
//	  authAttrs [1] IMPLICIT AuthAttributes OPTIONAL,
//	  mac MessageAuthenticationCode,
//	  unauthAttrs [2] IMPLICIT UnauthAttributes OPTIONAL }
func readEnveloped(outer *reader, lim Limits, authenticated bool) (*Enveloped, error) {
	r, err := outer.enter(tagSequence)
	if err != nil {
		return nil, err
	}
	if err := outer.end(); err != nil {
		return nil, err
	}
	e := new(Enveloped)
	if _, err := r.readInteger(); err != nil {
		return nil, err
	}
	if _, _, err := r.optional(context(0)); err != nil {
		return nil, err
	}
	if e.Recipients, err = readRecipients(r, lim); err != nil {
		return nil, fmt.Errorf("recipientInfos: %w", err)
	}
	if err := e.readContent(r, authenticated); err != nil {
		return nil, fmt.Errorf("encryptedContentInfo: %w", err)
	}
	attrs, ok, err := r.optional(context(1))
	if err != nil {
		return nil, err
	}
	if !authenticated {
		return e, r.end()
	}
	if ok {
		if e.authAttrs, err = retag(attrs); err != nil {
			return nil, fmt.Errorf("authAttrs: %w", err)
		}
		if _, err := parseAttributes(e.authAttrs); err != nil {
			return nil, fmt.Errorf("authAttrs: %w", err)
		}
	}
	if e.mac, err = r.readOctets(tagOctetString); err != nil {
		return nil, err
	}
	_, _, err = r.optional(context(2))
	return e, errors.Join(err, r.end())
}

// readContent reads
//
//	EncryptedContentInfo ::= SEQUENCE {
//	  contentType ContentType,
//	  contentEncryptionAlgorithm ContentEncryptionAlgorithmIdentifier,
//	  encryptedContent [0] IMPLICIT OCTET STRING OPTIONAL }
func (e *Enveloped) readContent(outer *reader, authenticated bool) error {
	r, err := outer.enter(tagSequence)
	if err != nil {
		return err
	}
	if e.ContentType, err = r.readOID(); err != nil {
		return err
	}
	alg, err := r.readAlgorithm()
	if err != nil {
		return err
	}
	e.content = parseCipher(alg, authenticated)
	e.Cipher = e.content.Cipher
	if r.peek(context(0)) {
		if e.encrypted, err = r.readOctets(context(0)); err != nil {
			return err
		}
	}
	return r.end()
}
