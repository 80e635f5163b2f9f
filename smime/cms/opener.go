package cms

import (
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"errors"

	"cmmpd/internal/mail"
)

// RSATransport says how a content key was encrypted to an RSA key.
type RSATransport struct {
	OAEP    bool        // RSAES-OAEP; otherwise RSAES-PKCS1-v1_5 and nothing below is set
	Hash    crypto.Hash // of the label
	MGFHash crypto.Hash // of MGF1
	Label   []byte
}

// KeyOpener holds one recipient's private key and never shows it: in software, in a
// token, far away. It stands beside crypto.Signer, since crypto.Decrypter cannot
// express key agreement. Its methods may be called from several goroutines.
type KeyOpener interface {
	// Certificate is the certificate of the key.
	Certificate() *x509.Certificate
	// DecryptKey returns the content key of size bytes. For RSAES-PKCS1-v1_5 it must not
	// fail for bad padding or a wrong size but return a random key (implicit rejection).
	// It may refuse with mail.Unavailable or mail.Busy when the key cannot be reached.
	DecryptKey(t RSATransport, encrypted []byte, size int) ([]byte, error)
	// Agree returns the shared secret with peer (the x coordinate, SEC 1, section 3.3.1).
	Agree(peer *ecdh.PublicKey) ([]byte, error)
}

// NewKeyOpener is the software KeyOpener. key is an *rsa.PrivateKey, an
// *ecdsa.PrivateKey or an *ecdh.PrivateKey, belongs to cert, and is of a size and curve
// that Encrypt would use; otherwise the error is of kind Invalid.
func NewKeyOpener(cert *x509.Certificate, key crypto.PrivateKey) (KeyOpener, error) {
	if err := checkCertificate(cert); err != nil {
		return nil, mail.E(mail.Invalid, "the certificate's key cannot be used", err)
	}
	o := &softwareKey{cert: cert}
	switch k := key.(type) {
	case *rsa.PrivateKey:
		if k.PublicKey.Equal(cert.PublicKey) {
			o.rsa = k
		}
	case *ecdsa.PrivateKey:
		if k.PublicKey.Equal(cert.PublicKey) {
			o.ecdh, _ = k.ECDH() // the curve was checked
		}
	case *ecdh.PrivateKey:
		if own, err := agreementKey(cert); err == nil && own.Equal(k.PublicKey()) {
			o.ecdh = k
		}
	}
	if o.rsa == nil && o.ecdh == nil {
		return nil, mail.E(mail.Invalid, "the private key does not belong to the certificate", nil)
	}
	return o, nil
}

// softwareKey is a KeyOpener whose key lies in memory.
type softwareKey struct {
	cert *x509.Certificate
	rsa  *rsa.PrivateKey  // or nil
	ecdh *ecdh.PrivateKey // or nil
}

func (o *softwareKey) Certificate() *x509.Certificate { return o.cert }

var errWrongKind = errors.New("the key is not of this kind")

func (o *softwareKey) DecryptKey(t RSATransport, encrypted []byte, size int) ([]byte, error) {
	if o.rsa == nil {
		return nil, errWrongKind
	}
	if t.OAEP {
		return o.rsa.Decrypt(nil, encrypted, &rsa.OAEPOptions{Hash: t.Hash, MGFHash: t.MGFHash, Label: t.Label})
	}
	key, err := randomBytes(nil, size)
	if err != nil {
		return nil, err
	}
	// On bad padding or a wrong size key stays random. The error tells only what the
	// ciphertext's length and value show to anybody.
	//lint:ignore SA1019 many clients send nothing newer (docs/decisions.md)
	_ = rsa.DecryptPKCS1v15SessionKey(rand.Reader, o.rsa, encrypted, key)
	return key, nil
}

func (o *softwareKey) Agree(peer *ecdh.PublicKey) ([]byte, error) {
	if o.ecdh == nil || peer == nil || peer.Curve() != o.ecdh.Curve() {
		return nil, errWrongKind
	}
	return o.ecdh.ECDH(peer)
}
