package cms

import (
	"bytes"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"math/big"

	"cmmpd/smime/certkey"
)

// RecipientKind says how a recipient gets the content key.
type RecipientKind uint8

// The kinds of RecipientInfo. Other (a shared key, a password, unknown ones) is counted
// and never read.
const (
	KeyTrans RecipientKind = iota
	KeyAgree
	Other
)

// RecipientInfo is one recipient of an encrypted message. A KeyAgreeRecipientInfo with
// several recipients gives one each. Either Issuer and Serial are set, or SKI; of the
// kind Other neither.
type RecipientInfo struct {
	Kind      RecipientKind
	Issuer    []byte   // the DER of the issuer's Name
	Serial    *big.Int // the certificate's serial number
	SKI       []byte   // the subject key identifier
	Algorithm string   // for people: "rsa-oaep-sha256", "rsa-pkcs1v15", "ecdh-sha256kdf-aes256wrap", "ecdh-sha256hkdf-aes256wrap", or an identifier

	transport *RSATransport // KeyTrans, if known
	agreement *agreement    // KeyAgree, if known
	key       []byte        // encrypted or wrapped content key
}

// Matches says whether r names the certificate c.
func (r *RecipientInfo) Matches(c *x509.Certificate) bool {
	return r.Kind != Other && matches(c, r.Issuer, r.Serial, r.SKI)
}

// Fits says whether the key of c could open what r holds, as far as that can be seen
// without the private key: the kind of key, the algorithm and the lengths go together.
func (r *RecipientInfo) Fits(c *x509.Certificate) bool {
	if k, ok := c.PublicKey.(*rsa.PublicKey); ok {
		return r.transport != nil && len(r.key) == k.Size()
	}
	own, err := agreementKey(c)
	if err != nil || r.agreement == nil {
		return false
	}
	_, err = r.agreement.peer(own.Curve())
	return err == nil && len(r.key) >= 24 && len(r.key)%8 == 0 // RFC 3394
}

// WrapSize is the size in bytes of the key that wraps the content key for a KeyAgree recipient,
// 0 if the algorithm is not known or the recipient of another kind.
func (r *RecipientInfo) WrapSize() int {
	if r.agreement == nil {
		return 0
	}
	return wrapKeySize(r.agreement.wrap.id)
}

// agreementKey is the key of c for key agreement.
func agreementKey(c *x509.Certificate) (*ecdh.PublicKey, error) {
	switch k := certkey.Of(c).(type) {
	case *ecdsa.PublicKey:
		return k.ECDH()
	case *ecdh.PublicKey:
		return k, nil
	}
	return nil, errKeyKind
}

var errKeyKind = errors.New("kind of key not supported")

// matches compares names byte by byte, as RFC 5652, section 10.2.4 lets issuers do.
func matches(c *x509.Certificate, issuer []byte, serial *big.Int, ski []byte) bool {
	switch {
	case c == nil:
		return false
	case ski != nil:
		return len(ski) > 0 && bytes.Equal(ski, c.SubjectKeyId)
	case serial != nil && c.SerialNumber != nil:
		return serial.Cmp(c.SerialNumber) == 0 && bytes.Equal(issuer, c.RawIssuer)
	}
	return false
}

// readRecipients reads
//
//	RecipientInfos ::= SET SIZE (1..MAX) OF RecipientInfo
//
//	RecipientInfo ::= CHOICE {
//	  ktri KeyTransRecipientInfo,
//	  kari [1] KeyAgreeRecipientInfo,
//	  kekri [2] KEKRecipientInfo,
//	  pwri [3] PasswordRecipientInfo,
//	  ori [4] OtherRecipientInfo }
func readRecipients(outer *reader, lim Limits) ([]RecipientInfo, error) {
	r, err := outer.enter(tagSet)
	if err != nil {
		return nil, err
	}
	var all []RecipientInfo
	for r.more() {
		e, err := r.next()
		if err != nil {
			return nil, err
		}
		var got []RecipientInfo
		switch e.tag {
		case tagSequence:
			got, err = r.readKeyTrans(e)
		case context(1):
			got, err = r.readKeyAgree(e, lim.Recipients-len(all))
		default:
			got = []RecipientInfo{{Kind: Other, Algorithm: "unknown"}}
		}
		if err != nil {
			return nil, err
		}
		if all = append(all, got...); len(all) > lim.Recipients {
			return nil, errTooMany
		}
	}
	return all, nil
}

// readKeyTrans reads (RFC 5652, section 6.2.1)
//
//	KeyTransRecipientInfo ::= SEQUENCE {
//	  version CMSVersion,  -- always set to 0 or 2
//	  rid RecipientIdentifier,
//	  keyEncryptionAlgorithm KeyEncryptionAlgorithmIdentifier,
//	  encryptedKey EncryptedKey }
//
//	RecipientIdentifier ::= CHOICE {
//	  issuerAndSerialNumber IssuerAndSerialNumber,
//	  subjectKeyIdentifier [0] SubjectKeyIdentifier }
func (r *reader) readKeyTrans(e element) ([]RecipientInfo, error) {
	in, err := r.inside(e)
	if err != nil {
		return nil, err
	}
	if _, err := in.readInteger(); err != nil {
		return nil, err
	}
	ri := RecipientInfo{Kind: KeyTrans}
	if in.peek(context(0)) {
		ri.SKI, err = in.readOctets(context(0))
	} else {
		ri.Issuer, ri.Serial, err = in.readIssuerAndSerial()
	}
	if err != nil {
		return nil, err
	}
	alg, err := in.readAlgorithm()
	if err != nil {
		return nil, err
	}
	ri.Algorithm = string(alg.id)
	switch alg.id {
	case oidRSA:
		ri.Algorithm = "rsa-pkcs1v15"
		ri.transport = &RSATransport{}
	case oidOAEP:
		if t, err := alg.oaep(); err == nil {
			ri.Algorithm = "rsa-oaep-" + hashName(t.Hash)
			ri.transport = &t
		}
	}
	if ri.key, err = in.readOctets(tagOctetString); err != nil {
		return nil, err
	}
	return []RecipientInfo{ri}, in.end()
}

// readIssuerAndSerial reads (RFC 5652, section 10.2.4)
//
//	IssuerAndSerialNumber ::= SEQUENCE {
//	  issuer Name,
//	  serialNumber CertificateSerialNumber }
func (r *reader) readIssuerAndSerial() ([]byte, *big.Int, error) {
	in, err := r.enter(tagSequence)
	if err != nil {
		return nil, nil, err
	}
	issuer, err := in.read(tagSequence)
	if err != nil {
		return nil, nil, err
	}
	serial, err := in.readInteger()
	if err != nil {
		return nil, nil, err
	}
	return issuer.raw, serial, in.end()
}

func issuerAndSerial(c *x509.Certificate) []byte {
	return appendIssuerAndSerial(make([]byte, 0, len(c.RawIssuer)+nameRoom), c)
}

// nameRoom is what IssuerAndSerialNumber takes beside the name, mostly.
const nameRoom = 32

func appendIssuerAndSerial(b []byte, c *x509.Certificate) []byte {
	return appendElement(b, derSequence, func(b []byte) []byte {
		return appendSerial(append(b, c.RawIssuer...), c)
	})
}

func appendSerial(b []byte, c *x509.Certificate) []byte {
	if c.SerialNumber.Sign() < 0 {
		return append(b, integer(c.SerialNumber)...)
	}
	return appendNatural(b, c.SerialNumber)
}

// agreement is what the recipients of one KeyAgreeRecipientInfo share.
type agreement struct {
	scheme     OID
	wrap       algorithm
	kind       OID    // of the originator's key: oidECPublicKey, oidX25519
	originator []byte // the ephemeral public key, a point; nil: of another kind
	ukm        []byte // nil: none
}

// readKeyAgree reads (RFC 5652, section 6.2.2)
//
//	KeyAgreeRecipientInfo ::= SEQUENCE {
//	  version CMSVersion,  -- always set to 3
//	  originator [0] EXPLICIT OriginatorIdentifierOrKey,
//	  ukm [1] EXPLICIT UserKeyingMaterial OPTIONAL,
//	  keyEncryptionAlgorithm KeyEncryptionAlgorithmIdentifier,
//	  recipientEncryptedKeys RecipientEncryptedKeys }
//
// at most limit recipients of it.
func (r *reader) readKeyAgree(e element, limit int) ([]RecipientInfo, error) {
	in, err := r.inside(e)
	if err != nil {
		return nil, err
	}
	if _, err := in.readInteger(); err != nil {
		return nil, err
	}
	var a agreement
	if a.kind, a.originator, err = in.readOriginator(); err != nil {
		return nil, err
	}
	if in.peek(context(1)) {
		explicit, err := in.enter(context(1))
		if err != nil {
			return nil, err
		}
		if a.ukm, err = explicit.readOctets(tagOctetString); err != nil {
			return nil, err
		}
		if err := explicit.end(); err != nil {
			return nil, err
		}
	}
	alg, err := in.readAlgorithm()
	if err != nil {
		return nil, err
	}
	name := a.parse(alg)
	list, err := in.enter(tagSequence)
	if err != nil {
		return nil, err
	}
	var all []RecipientInfo
	for list.more() {
		ri, err := list.readEncryptedKey()
		if err != nil {
			return nil, err
		}
		if ri.Algorithm = name; a.scheme != "" {
			ri.agreement = &a
		}
		if all = append(all, ri); len(all) > limit {
			return nil, errTooMany
		}
	}
	return all, in.end()
}

// parse takes scheme and key wrap from alg if both are known, and names them for
// people.
func (a *agreement) parse(alg algorithm) string {
	h, hkdf := agreementHash(alg.id)
	params := alg.inParams()
	wrap, err := params.readAlgorithm()
	size := wrapKeySize(wrap.id)
	if h == 0 || err != nil || params.end() != nil || size == 0 || !wrap.noParams() || a.originator == nil {
		return string(alg.id)
	}
	a.scheme, a.wrap = alg.id, wrap
	kdf := "kdf"
	if hkdf {
		kdf = "hkdf"
	}
	return "ecdh-" + hashName(h) + kdf + "-aes" + map[int]string{16: "128", 24: "192", 32: "256"}[size] + "wrap"
}

// readOriginator returns the kind of the originator's ephemeral key, and the key, or nil
// if it is of a kind that is not supported (static keys among them).
//
//	OriginatorIdentifierOrKey ::= CHOICE {
//	  issuerAndSerialNumber IssuerAndSerialNumber,
//	  subjectKeyIdentifier [0] SubjectKeyIdentifier,
//	  originatorKey [1] OriginatorPublicKey }
//
//	OriginatorPublicKey ::= SEQUENCE {
//	  algorithm AlgorithmIdentifier,
//	  publicKey BIT STRING }
func (r *reader) readOriginator() (OID, []byte, error) {
	choice, err := r.enter(context(0))
	if err != nil {
		return "", nil, err
	}
	e, err := choice.next()
	if err != nil {
		return "", nil, err
	}
	if err := choice.end(); err != nil || e.tag != context(1) {
		return "", nil, err
	}
	key, err := choice.inside(e)
	if err != nil {
		return "", nil, err
	}
	alg, err := key.readAlgorithm()
	if err != nil {
		return "", nil, err
	}
	point, err := key.readBits()
	if err != nil {
		return "", nil, err
	}
	if alg.id != oidECPublicKey && alg.id != oidX25519 {
		point = nil
	}
	return alg.id, point, key.end()
}

// readEncryptedKey reads
//
//	RecipientEncryptedKey ::= SEQUENCE {
//	  rid KeyAgreeRecipientIdentifier,
//	  encryptedKey EncryptedKey }
//
//	KeyAgreeRecipientIdentifier ::= CHOICE {
//	  issuerAndSerialNumber IssuerAndSerialNumber,
//	  rKeyId [0] IMPLICIT RecipientKeyIdentifier }
//
//	RecipientKeyIdentifier ::= SEQUENCE {
//	  subjectKeyIdentifier SubjectKeyIdentifier,
//	  date GeneralizedTime OPTIONAL,
//	  other OtherKeyAttribute OPTIONAL }
func (r *reader) readEncryptedKey() (RecipientInfo, error) {
	ri := RecipientInfo{Kind: KeyAgree}
	in, err := r.enter(tagSequence)
	if err != nil {
		return ri, err
	}
	if in.peek(context(0)) {
		id, err := in.enter(context(0))
		if err != nil {
			return ri, err
		}
		if ri.SKI, err = id.readOctets(tagOctetString); err != nil {
			return ri, err
		}
	} else if ri.Issuer, ri.Serial, err = in.readIssuerAndSerial(); err != nil {
		return ri, err
	}
	ri.key, err = in.readOctets(tagOctetString)
	return ri, errors.Join(err, in.end())
}
