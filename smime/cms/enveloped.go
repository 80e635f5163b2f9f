package cms

import (
	"crypto"
	"crypto/ecdh"
	"crypto/x509"
	"errors"
	"io"
	"math/big"
)

// ErrDecrypt is the one answer to everything that can go wrong while opening a
// message: no key for it, a wrong key, bad padding, a bad tag, a damaged message. To
// tell them apart would be an oracle (RFC 3218; THREATS C4).
var ErrDecrypt = errors.New("the message could not be decrypted")

// Cipher is a content-encryption algorithm.
type Cipher uint8

// The content ciphers. Only AES256CBC is written for mail.
const (
	UnknownCipher Cipher = iota
	AES128CBC
	AES192CBC
	AES256CBC
	TripleDES // read only, and only when Limits.TripleDES says so
	AES128GCM
	AES192GCM
	AES256GCM
)

// KeyTransport is how a content key goes to an RSA recipient.
type KeyTransport uint8

// PKCS1v15 is for recipients whose client knows nothing newer.
const (
	OAEPSHA256 KeyTransport = iota // RSAES-OAEP with SHA-256 and MGF1-SHA-256 (RFC 3560, RFC 8551)
	PKCS1v15                       // RSAES-PKCS1-v1_5
)

// RecipientSpec is one recipient of a message to be encrypted. The key of Cert must be
// RSA with 2048 to 8192 bits, or on P-256, P-384 or P-521.
type RecipientSpec struct {
	Cert      *x509.Certificate
	Transport KeyTransport // only for RSA
}

// Encrypt encrypts plain with a fresh key to all recipients and returns the DER of
// ContentInfo(EnvelopedData).
func Encrypt(rnd io.Reader, c Cipher, contentType OID, plain []byte, to []RecipientSpec) (der []byte, err error) {
	return nil, errNotYet()
}

// RecipientKind says how a recipient gets the content key.
type RecipientKind uint8

// The kinds of RecipientInfo. Other is counted, never read.
const (
	KeyTrans RecipientKind = iota
	KeyAgree
	Other
)

// RecipientInfo is one recipient of an encrypted message. A KeyAgreeRecipientInfo with
// several recipients gives one each. Either Issuer and Serial are set, or SKI.
type RecipientInfo struct {
	Kind      RecipientKind
	Issuer    []byte   // the DER of the issuer's Name
	Serial    *big.Int // the certificate's serial number
	SKI       []byte   // the subject key identifier
	Algorithm string   // for people: "rsa-oaep-sha256", "ecdh-sha256kdf-aes256wrap", …
}

// Matches says whether r names the certificate c.
func (r *RecipientInfo) Matches(c *x509.Certificate) bool {
	return false
}

// Enveloped is a parsed EnvelopedData or AuthEnvelopedData, still encrypted.
type Enveloped struct {
	Cipher      Cipher
	ContentType OID // of what is inside
	Recipients  []RecipientInfo
}

// ParseEnveloped reads a ContentInfo that holds EnvelopedData or AuthEnvelopedData.
func ParseEnveloped(ber []byte, lim Limits) (*Enveloped, error) {
	return nil, errNotYet()
}

// Decrypt opens e with k's key. Every failure is ErrDecrypt.
func (e *Enveloped) Decrypt(k KeyOpener) (plain []byte, err error) {
	return nil, ErrDecrypt
}

// RSATransport says how a content key was encrypted to an RSA key.
type RSATransport struct {
	OAEP    bool        // RSAES-OAEP; otherwise RSAES-PKCS1-v1_5 and nothing below is set
	Hash    crypto.Hash // of the label
	MGFHash crypto.Hash // of MGF1
	Label   []byte
}

// KeyOpener holds one recipient's private key and never shows it: in software, in a
// token, far away. It stands beside crypto.Signer, which can express neither key
// agreement nor implicit rejection.
type KeyOpener interface {
	// Certificate is the certificate of the key.
	Certificate() *x509.Certificate
	// DecryptKey returns the content key of size bytes. For RSAES-PKCS1-v1_5 it must not
	// fail for bad padding or a wrong size but return a random key (implicit rejection).
	DecryptKey(t RSATransport, encrypted []byte, size int) ([]byte, error)
	// Agree returns the shared secret (the x coordinate, SEC 1 section 3.3.1) with peer.
	Agree(peer *ecdh.PublicKey) ([]byte, error)
}

// NewKeyOpener is the software KeyOpener. key is an *rsa.PrivateKey, an
// *ecdsa.PrivateKey or an *ecdh.PrivateKey, and must belong to cert.
func NewKeyOpener(cert *x509.Certificate, key crypto.PrivateKey) (KeyOpener, error) {
	return nil, errNotYet()
}
