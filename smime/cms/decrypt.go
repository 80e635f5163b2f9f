package cms

import (
	"crypto/ecdh"
	"crypto/rand"
	"crypto/x509"
	"io"

	"cmmpd/internal/mail"
)

// ErrDecrypt is the one answer to everything that can go wrong while opening a
// message: no key for it, a wrong key, bad padding, a bad tag, a damaged message. To
// tell them apart would be an oracle (RFC 3218).
var ErrDecrypt error = mail.E(mail.Invalid, "the message could not be decrypted", nil)

// maxTries bounds how many RecipientInfos are tried that all name one certificate.
const maxTries = 4

// Decrypt opens e with k's key. With AES-CBC nothing shows whether the message was
// changed on its way: only a signature inside can (EFAIL). Every failure is
// ErrDecrypt; only when k itself cannot answer now (kinds Unavailable and Busy) is its
// error passed on.
func (e *Enveloped) Decrypt(k KeyOpener) (plain []byte, err error) {
	defer func() {
		if recover() != nil {
			plain, err = nil, ErrDecrypt // like any other damaged message
		}
	}()
	return e.decrypt(k)
}

func (e *Enveloped) decrypt(k KeyOpener) ([]byte, error) {
	cert := k.Certificate()
	if !e.mayOpen || checkCertificate(cert) != nil {
		return nil, ErrDecrypt
	}
	tries := 0
	for i := range e.Recipients {
		r := &e.Recipients[i]
		if !r.Matches(cert) {
			continue
		}
		if tries++; tries > maxTries {
			break
		}
		key, known, err := r.contentKey(k, cert, e.Cipher.KeySize())
		if err != nil {
			return nil, err
		}
		plain, ok := e.open(key)
		clear(key)
		if ok && known {
			return plain, nil
		}
		clear(plain)
	}
	return nil, ErrDecrypt
}

// open decrypts the content with key.
func (e *Enveloped) open(key []byte) ([]byte, bool) {
	key, err := e.content.contentKey(key)
	if err != nil {
		return nil, false
	}
	if e.Cipher.Authenticated() {
		return e.content.openGCM(key, e.encrypted, e.mac, e.authAttrs)
	}
	return e.content.openCBC(key, e.encrypted)
}

// contentKey asks k for the content key. When that fails for a reason that lies in the
// message, the key is a random one and known is false, so that the rest takes its time
// as always. With RSAES-PKCS1-v1_5 known says nothing: there k gives a random key itself.
func (r *RecipientInfo) contentKey(k KeyOpener, cert *x509.Certificate, size int) (key []byte, known bool, err error) {
	fallback, err := randomBytes(nil, size)
	if err != nil {
		return nil, false, ErrDecrypt
	}
	switch {
	case r.transport != nil && cert.PublicKeyAlgorithm == x509.RSA:
		key, err = k.DecryptKey(*r.transport, r.key, size)
	case r.agreement != nil && cert.PublicKeyAlgorithm != x509.RSA:
		key, err = r.agreement.contentKey(k, cert, r.key)
	}
	if kind := mail.KindOf(err); err != nil && (kind == mail.Unavailable || kind == mail.Busy) {
		return nil, false, err
	}
	if err != nil || len(key) != size {
		return fallback, false, nil
	}
	return key, true, nil
}

// contentKey agrees on the key-encryption key and unwraps the content key.
func (a *agreement) contentKey(k KeyOpener, cert *x509.Certificate, wrapped []byte) ([]byte, error) {
	own, err := agreementKey(cert)
	if err != nil {
		return nil, err
	}
	peer, err := a.peer(own.Curve())
	if err != nil {
		return nil, err
	}
	z, err := k.Agree(peer)
	if err != nil {
		return nil, err
	}
	defer clear(z)
	kek, err := a.keyEncryptionKey(z)
	if err != nil {
		return nil, err
	}
	defer clear(kek)
	return unwrapKey(kek, wrapped)
}

// peer is the originator's key, checked to be a point on the curve of ours.
func (a *agreement) peer(c ecdh.Curve) (*ecdh.PublicKey, error) {
	if (c == ecdh.X25519()) != (a.kind == oidX25519) {
		return nil, errKeyKind
	}
	return c.NewPublicKey(a.originator)
}

// cryptoRand is r, or crypto/rand if r is nil.
func cryptoRand(r io.Reader) io.Reader {
	if r == nil {
		return rand.Reader
	}
	return r
}

func randomBytes(r io.Reader, n int) ([]byte, error) {
	b := make([]byte, n)
	_, err := io.ReadFull(cryptoRand(r), b)
	return b, err
}
