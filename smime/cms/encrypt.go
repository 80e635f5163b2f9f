package cms

import (
	"crypto/aes"
	"crypto/ecdh"
	"crypto/hkdf"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"io"

	"cmmpd/internal/mail"
)

// KeyTransport is how a content key goes to an RSA recipient.
type KeyTransport uint8

// PKCS1v15 is for recipients whose client knows nothing newer.
const (
	OAEPSHA256 KeyTransport = iota // RSAES-OAEP with SHA-256 and MGF1-SHA-256 (RFC 3560, RFC 8551)
	PKCS1v15                       // RSAES-PKCS1-v1_5
)

// RecipientSpec is one recipient of a message to be encrypted. The key of Cert must be
// RSA with 2048 to 8192 bits, on P-256, P-384 or P-521, or of X25519; nothing else of
// Cert is looked at.
type RecipientSpec struct {
	Cert      *x509.Certificate
	Transport KeyTransport // only for RSA
}

// Encrypt is EncryptTo of what lies in memory, and returns the DER.
func Encrypt(rnd io.Reader, c Cipher, contentType OID, to []RecipientSpec, plain ...[]byte) (der []byte, err error) {
	err = EncryptTo(func(size int) []byte { der = make([]byte, size); return der }, rnd, c, contentType, to, Pieces(plain))
	if err != nil {
		return nil, err
	}
	return der, nil
}

// EncryptTo encrypts plain with a fresh key to all recipients, each named by issuer and
// serial number. It asks place once for a buffer of the size that the DER will have, copies plain into it,
// encrypts it there, and so leaves the DER of a ContentInfo: EnvelopedData for an AES-CBC
// cipher, AuthEnvelopedData for AES-GCM. Elliptic-curve keys get the content key by
// ephemeral ECDH, the KDF's digest as strong as the curve, and AES-256 key wrap. rnd
// gives the content key and IV; nil is crypto/rand. Ephemeral keys and the padding of
// RSA come from the system in any case.
//
// Errors are of kind Invalid (no recipient, a key that may not be used) or Internal. After one
// the buffer holds nothing of plain.
func EncryptTo(place func(size int) []byte, rnd io.Reader, c Cipher, contentType OID, to []RecipientSpec, plain Content) error {
	if c.KeySize() == 0 || c == TripleDES {
		return mail.E(mail.Unsupported, "the cipher is not supported", nil)
	}
	if len(to) == 0 || contentType.der() == nil {
		return mail.E(mail.Invalid, "no recipient to encrypt to", nil)
	}
	key, err := randomBytes(rnd, c.KeySize())
	if err != nil {
		return mail.E(mail.Internal, "", err)
	}
	defer clear(key)
	recipients, version := make([][]byte, len(to)), byte(0)
	for i, spec := range to {
		if err := checkCertificate(spec.Cert); err != nil {
			return mail.E(mail.Invalid, "a recipient's key cannot be used", err)
		}
		var agree bool
		recipients[i], agree, err = spec.encryptKey(key)
		switch {
		case errors.Is(err, errKeyKind):
			return mail.E(mail.Invalid, "a recipient's key cannot be used", err)
		case err != nil:
			return mail.E(mail.Internal, "", fmt.Errorf("encrypt content key: %w", err))
		}
		if agree {
			version = 2 // RFC 5652, section 6.1
		}
	}
	if c.Authenticated() {
		err = encryptGCM(place, rnd, c, key, contentType, plain, setPieces(derSet, recipients))
	} else {
		err = encryptCBC(place, rnd, c, key, contentType, plain, append(pieces{small(version)}, setPieces(derSet, recipients)...))
	}
	if err != nil {
		return mail.E(mail.Internal, "", fmt.Errorf("encrypt content: %w", err))
	}
	return nil
}

// encryptCBC makes an EnvelopedData that begins with head.
func encryptCBC(place func(int) []byte, rnd io.Reader, c Cipher, key []byte, contentType OID, plain Content, head pieces) error {
	iv, err := randomBytes(rnd, aes.BlockSize)
	if err != nil {
		return err
	}
	cc := contentCipher{Cipher: c, iv: iv}
	padded := frame{content: plain, tail: pieces{padding(plain.Size())}}
	der := frame{content: padded}.wrap(derContext, nil, nil).wrap(derSequence, pieces{contentType.der(), cc.algorithm().der()}, nil).
		wrap(derSequence, head, nil).inContentInfo(EnvelopedData)
	return der.encrypt(place, func(content, _ []byte) error { return cc.sealCBC(key, content) })
}

// encryptGCM makes an AuthEnvelopedData.
func encryptGCM(place func(int) []byte, rnd io.Reader, c Cipher, key []byte, contentType OID, plain Content, recipients pieces) error {
	nonce, err := randomBytes(rnd, gcmNonce)
	if err != nil {
		return err
	}
	cc := contentCipher{Cipher: c, iv: nonce, tagSize: gcmTag}
	var behind pieces
	var aad []byte
	if contentType != Data { // RFC 5083, section 2.1
		contentTypeAttr := attribute(oidAttrContentType, contentType.der())
		aad = setOf(derSet, [][]byte{contentTypeAttr})
		behind = pieces{setOf(derExplicit|1, [][]byte{contentTypeAttr})}
	}
	behind = append(behind, tlv(derOctetString, make([]byte, gcmTag)))
	der := frame{content: plain}.wrap(derContext, nil, nil).wrap(derSequence, pieces{contentType.der(), cc.algorithm().der()}, nil).
		wrap(derSequence, append(pieces{small(0)}, recipients...), behind).inContentInfo(AuthEnvelopedData)
	return der.encrypt(place, func(content, tail []byte) error {
		return cc.sealGCM(key, content, tail[len(tail)-gcmTag:], aad)
	})
}

// encrypt writes f to where place says and has its content encrypted there by seal, which is also
// given what stands behind it.
func (f frame) encrypt(place func(int) []byte, seal func(content, tail []byte) error) error {
	out := place(f.Size())
	content, err := f.place(out)
	if err == nil {
		err = seal(content, out[len(out)-f.tail.size():])
	}
	if err != nil {
		clear(out) // it holds the plain text
	}
	return err
}

// encryptKey makes the RecipientInfo for one recipient and says whether it is a
// KeyAgreeRecipientInfo.
func (spec RecipientSpec) encryptKey(key []byte) (der []byte, agree bool, err error) {
	if pub, ok := spec.Cert.PublicKey.(*rsa.PublicKey); ok {
		der, err = spec.transportKey(pub, key)
		return der, false, err
	}
	peer, err := agreementKey(spec.Cert)
	if err != nil {
		return nil, false, err
	}
	der, err = spec.agreeKey(peer, key)
	return der, true, err
}

// The algorithms of RSA, encoded.
const (
	derPKCS1v15 = "\x30\x0d\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01\x05\x00"
	derOAEP     = "\x30\x3c\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x07\x30\x2f" +
		"\xa0\x0f\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x01\x05\x00" +
		"\xa1\x1c\x30\x1a\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x08\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x01\x05\x00"
)

func (spec RecipientSpec) transportKey(pub *rsa.PublicKey, key []byte) ([]byte, error) {
	alg := derPKCS1v15
	var encrypted []byte
	var err error
	if spec.Transport == PKCS1v15 {
		//lint:ignore SA1019 many clients open nothing newer (docs/decisions.md); what we read is rejected implicitly
		encrypted, err = rsa.EncryptPKCS1v15(cryptoRand(nil), pub, key)
	} else {
		alg = derOAEP
		encrypted, err = rsa.EncryptOAEP(sha256.New(), cryptoRand(nil), pub, key, nil)
	}
	if err != nil {
		return nil, err
	}
	room := make([]byte, 0, len(spec.Cert.RawIssuer)+len(alg)+len(encrypted)+2*nameRoom)
	return appendElement(room, derSequence, func(b []byte) []byte {
		b = appendIssuerAndSerial(append(b, derInteger, 1, 0), spec.Cert)
		return appendString(append(b, alg...), derOctetString, encrypted)
	}), nil
}

func (spec RecipientSpec) agreeKey(peer *ecdh.PublicKey, key []byte) ([]byte, error) {
	ephemeral, err := peer.Curve().GenerateKey(cryptoRand(nil))
	if err != nil {
		return nil, err
	}
	z, err := ephemeral.ECDH(peer)
	if err != nil {
		return nil, err
	}
	a := agreement{scheme: schemeFor(peer.Curve()), wrap: algorithm{oidAES256Wrap, nil}, kind: oidECPublicKey}
	if peer.Curve() == ecdh.X25519() {
		a.kind = oidX25519
	}
	kek, err := a.keyEncryptionKey(z)
	if err != nil {
		return nil, err
	}
	wrapped, err := wrapKey(kek, key)
	if err != nil {
		return nil, err
	}
	point := append([]byte{0}, ephemeral.PublicKey().Bytes()...) // no unused bits
	// RFC 5753, section 3.1.1, RFC 8418, section 2.1: the originator's parameters are absent
	originator := tlv(derExplicit|1, algorithm{a.kind, nil}.der(), tlv(derBitString, point))
	encryptedKey := tlv(derSequence, issuerAndSerial(spec.Cert), tlv(derOctetString, wrapped))
	return tlv(derExplicit|1, small(3), tlv(derExplicit, originator),
		algorithm{a.scheme, a.wrap.der()}.der(), tlv(derSequence, encryptedKey)), nil
}

// schemeFor is the key agreement scheme that we write for a curve: the digest as strong
// as the curve (RFC 5753, section 8; RFC 8551, section 2.3, for X25519).
func schemeFor(c ecdh.Curve) OID {
	switch c {
	case ecdh.P384():
		return oidStdDHSHA384
	case ecdh.P521():
		return oidStdDHSHA512
	case ecdh.X25519():
		return oidHKDFSHA256
	default:
		return oidStdDHSHA256
	}
}

// keyEncryptionKey derives the key of the key wrap from the shared secret z.
func (a *agreement) keyEncryptionKey(z []byte) ([]byte, error) {
	size := wrapKeySize(a.wrap.id)
	info := eccSharedInfo(a.wrap, a.ukm, size)
	h, expand := agreementHash(a.scheme)
	if expand {
		return hkdf.Key(h.New, z, a.ukm, string(info), size) // RFC 8418, section 2.2: ukm is the salt, too
	}
	return x963KDF(h, z, info, size), nil
}
