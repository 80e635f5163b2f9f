//go:build cgo

package token

import (
	"crypto"
	"crypto/ecdh"
	"crypto/rand"
	"errors"
	"fmt"
	"math/big"

	"github.com/miekg/pkcs11"
	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"

	"cmmpd/internal/keys/keyd"
	"cmmpd/internal/mail"
)

// Of PKCS #11 3.0, which the Go package does not know yet.
const (
	ckmEdwardsKeyPairGen = 0x1055
	ckmEDDSA             = 0x1057
	ckkECEdwards         = 0x40
)

// hashes are a hash's mechanism, its mask generation function, and what DER puts in front of its digest (RFC 8017, section 9.2, note 1).
var hashes = map[crypto.Hash]struct {
	mechanism, mgf uint
	prefix         string
}{
	crypto.SHA1:   {pkcs11.CKM_SHA_1, pkcs11.CKG_MGF1_SHA1, "\x30\x21\x30\x09\x06\x05\x2b\x0e\x03\x02\x1a\x05\x00\x04\x14"},
	crypto.SHA256: {pkcs11.CKM_SHA256, pkcs11.CKG_MGF1_SHA256, "\x30\x31\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x01\x05\x00\x04\x20"},
	crypto.SHA384: {pkcs11.CKM_SHA384, pkcs11.CKG_MGF1_SHA384, "\x30\x41\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x02\x05\x00\x04\x30"},
	crypto.SHA512: {pkcs11.CKM_SHA512, pkcs11.CKG_MGF1_SHA512, "\x30\x51\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x03\x05\x00\x04\x40"},
}

func unsupported(format string, args ...any) error {
	return mail.E(mail.Unsupported, "", fmt.Errorf(format, args...))
}

func wrongKind(name string) error {
	return mail.E(mail.Invalid, "", fmt.Errorf("key %q is of another kind", name))
}

// Sign satisfies keyd.Token.
func (t *token) Sign(name string, m keyd.Mechanism, digest []byte) (sig []byte, err error) {
	err = t.do("sign", func(s *session) error {
		k, err := t.object(s, pkcs11.CKO_PRIVATE_KEY, name)
		if err != nil {
			return err
		}
		mech, input, err := signing(name, k.keyType, m, digest)
		if err != nil {
			return err
		}
		if err := t.ctx.SignInit(s.handle, []*pkcs11.Mechanism{mech}, k.handle); err != nil {
			return err
		}
		if sig, err = t.ctx.Sign(s.handle, input); err != nil {
			return err
		}
		if k.keyType == pkcs11.CKK_EC {
			sig, err = derSignature(sig)
		}
		return err
	})
	return sig, err
}

// signing is the mechanism, and what it is given.
func signing(name string, keyType uint, m keyd.Mechanism, digest []byte) (*pkcs11.Mechanism, []byte, error) {
	h := crypto.Hash(m.Hash)
	if keyType == ckkECEdwards {
		if h != 0 || m.Scheme != keyd.Plain {
			return nil, nil, unsupported("Ed25519 over a digest")
		}
		return pkcs11.NewMechanism(ckmEDDSA, nil), digest, nil
	}
	known, ok := hashes[h]
	if !ok || h == crypto.SHA1 {
		return nil, nil, unsupported("signatures over a digest of kind %d", m.Hash)
	}
	if len(digest) != h.Size() {
		return nil, nil, mail.E(mail.Invalid, "", fmt.Errorf("a digest of %d octets", len(digest)))
	}
	switch {
	case keyType == pkcs11.CKK_EC && m.Scheme == keyd.Plain:
		return pkcs11.NewMechanism(pkcs11.CKM_ECDSA, nil), digest, nil
	case keyType == pkcs11.CKK_RSA && m.Scheme == keyd.PKCS1:
		return pkcs11.NewMechanism(pkcs11.CKM_RSA_PKCS, nil), append([]byte(known.prefix), digest...), nil
	case keyType == pkcs11.CKK_RSA && m.Scheme == keyd.PSS:
		return pkcs11.NewMechanism(pkcs11.CKM_RSA_PKCS_PSS, pkcs11.NewPSSParams(known.mechanism, known.mgf, uint(h.Size()))), digest, nil
	}
	return nil, nil, wrongKind(name)
}

// derSignature is an ECDSA signature of two numbers in a row as Go and X.509 have it (RFC 3279, section 2.2.3).
func derSignature(raw []byte) ([]byte, error) {
	if len(raw) == 0 || len(raw)%2 != 0 {
		return nil, mail.E(mail.Internal, "", fmt.Errorf("an ECDSA signature of %d octets", len(raw)))
	}
	var b cryptobyte.Builder
	b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1BigInt(new(big.Int).SetBytes(raw[:len(raw)/2]))
		b.AddASN1BigInt(new(big.Int).SetBytes(raw[len(raw)/2:]))
	})
	return b.Bytes()
}

// Decrypt satisfies keyd.Token. Whatever is wrong with the ciphertext gives kind mail.Corrupt.
func (t *token) Decrypt(name string, m keyd.Mechanism, encrypted []byte) (plain []byte, err error) {
	mech := pkcs11.NewMechanism(pkcs11.CKM_RSA_PKCS, nil)
	switch m.Scheme {
	case keyd.PKCS1:
	case keyd.OAEP:
		h, ok := hashes[crypto.Hash(m.Hash)]
		mgf, known := hashes[crypto.Hash(m.MGF)]
		if !ok || !known {
			return nil, unsupported("RSAES-OAEP with hashes %d and %d", m.Hash, m.MGF)
		}
		mech = pkcs11.NewMechanism(pkcs11.CKM_RSA_PKCS_OAEP, pkcs11.NewOAEPParams(h.mechanism, mgf.mgf, pkcs11.CKZ_DATA_SPECIFIED, m.Label))
	default:
		return nil, unsupported("decryption with scheme %d", m.Scheme)
	}
	err = t.do("decrypt", func(s *session) error {
		k, err := t.object(s, pkcs11.CKO_PRIVATE_KEY, name)
		if err != nil {
			return err
		}
		if k.keyType != pkcs11.CKK_RSA {
			return wrongKind(name)
		}
		if err := t.ctx.DecryptInit(s.handle, []*pkcs11.Mechanism{mech}, k.handle); err != nil {
			return err
		}
		plain, err = t.ctx.Decrypt(s.handle, encrypted)
		return undecipherable(err)
	})
	return plain, err
}

// undecipherable makes of a failure that the ciphertext explains the kind mail.Corrupt. Libraries say it in several ways.
func undecipherable(err error) error {
	if is(err, pkcs11.CKR_GENERAL_ERROR, pkcs11.CKR_ENCRYPTED_DATA_INVALID, pkcs11.CKR_ENCRYPTED_DATA_LEN_RANGE, pkcs11.CKR_DATA_INVALID,
		pkcs11.CKR_DATA_LEN_RANGE, pkcs11.CKR_FUNCTION_FAILED) {
		return mail.E(mail.Corrupt, "", fmt.Errorf("the token cannot decrypt this: %w", err))
	}
	return err
}

// Agree satisfies keyd.Token.
func (t *token) Agree(name string, peer []byte) (secret []byte, err error) {
	curve := ecdh.P256()
	if len(peer) == 97 {
		curve = ecdh.P384()
	}
	if _, err := curve.NewPublicKey(peer); err != nil { // a token need not look
		return nil, mail.E(mail.Invalid, "", fmt.Errorf("the peer's point: %w", err))
	}
	template := []*pkcs11.Attribute{
		pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_SECRET_KEY), pkcs11.NewAttribute(pkcs11.CKA_KEY_TYPE, pkcs11.CKK_GENERIC_SECRET),
		pkcs11.NewAttribute(pkcs11.CKA_TOKEN, false), pkcs11.NewAttribute(pkcs11.CKA_SENSITIVE, false), pkcs11.NewAttribute(pkcs11.CKA_EXTRACTABLE, true),
		pkcs11.NewAttribute(pkcs11.CKA_VALUE_LEN, (len(peer)-1)/2),
	}
	err = t.do("agree", func(s *session) error {
		k, err := t.object(s, pkcs11.CKO_PRIVATE_KEY, name)
		if err != nil {
			return err
		}
		if k.keyType != pkcs11.CKK_EC {
			return wrongKind(name)
		}
		// The key derivation functions of S/MIME are ours to do: tokens differ in those they know.
		mech := pkcs11.NewMechanism(pkcs11.CKM_ECDH1_DERIVE, pkcs11.NewECDH1DeriveParams(pkcs11.CKD_NULL, nil, peer))
		h, err := t.ctx.DeriveKey(s.handle, []*pkcs11.Mechanism{mech}, k.handle, template)
		if is(err, pkcs11.CKR_GENERAL_ERROR, pkcs11.CKR_MECHANISM_PARAM_INVALID) {
			return mail.E(mail.Invalid, "", fmt.Errorf("the peer's point does not fit the key: %w", err))
		}
		if err != nil {
			return err
		}
		a, err := t.ctx.GetAttributeValue(s.handle, h, []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_VALUE, nil)})
		if err := errors.Join(err, t.ctx.DestroyObject(s.handle, h)); err != nil {
			return err
		}
		secret = a[0].Value
		return nil
	})
	return secret, err
}

const (
	gcmNonce = 12
	gcmTag   = 16
)

// Wrap satisfies keyd.Token: AES-256-GCM, with the nonce in front.
func (t *token) Wrap(name string, plain, aad []byte) (wrapped []byte, err error) {
	err = t.do("wrap", func(s *session) error {
		k, err := t.object(s, pkcs11.CKO_SECRET_KEY, name)
		if err != nil {
			return err
		}
		if k.keyType != pkcs11.CKK_AES {
			return wrongKind(name)
		}
		nonce := make([]byte, gcmNonce)
		if _, err := rand.Read(nonce); err != nil {
			return err
		}
		params := pkcs11.NewGCMParams(nonce, aad, 8*gcmTag)
		defer params.Free()
		if err := t.ctx.EncryptInit(s.handle, []*pkcs11.Mechanism{pkcs11.NewMechanism(pkcs11.CKM_AES_GCM, params)}, k.handle); err != nil {
			return err
		}
		sealed, err := t.ctx.Encrypt(s.handle, plain)
		if err != nil {
			return err
		}
		used := params.IV() // some tokens insist on a nonce of their own
		if len(used) != gcmNonce || len(sealed) != len(plain)+gcmTag {
			return mail.E(mail.Unsupported, "", fmt.Errorf("the token made a nonce of %d octets and %d of %d", len(used), len(sealed), len(plain)))
		}
		wrapped = append(used, sealed...)
		return nil
	})
	return wrapped, err
}

// Unwrap satisfies keyd.Token.
func (t *token) Unwrap(name string, wrapped, aad []byte) (plain []byte, err error) {
	if len(wrapped) < gcmNonce+gcmTag {
		return nil, mail.E(mail.Corrupt, "", fmt.Errorf("wrapped secret of %d octets", len(wrapped)))
	}
	err = t.do("unwrap", func(s *session) error {
		k, err := t.object(s, pkcs11.CKO_SECRET_KEY, name)
		if err != nil {
			return err
		}
		if k.keyType != pkcs11.CKK_AES {
			return wrongKind(name)
		}
		params := pkcs11.NewGCMParams(wrapped[:gcmNonce], aad, 8*gcmTag)
		defer params.Free()
		if err := t.ctx.DecryptInit(s.handle, []*pkcs11.Mechanism{pkcs11.NewMechanism(pkcs11.CKM_AES_GCM, params)}, k.handle); err != nil {
			return err
		}
		plain, err = t.ctx.Decrypt(s.handle, wrapped[gcmNonce:])
		return undecipherable(err)
	})
	return plain, err
}

// HMAC satisfies keyd.Token.
func (t *token) HMAC(name string, data []byte) (sum []byte, err error) {
	err = t.do("derive", func(s *session) error {
		k, err := t.object(s, pkcs11.CKO_SECRET_KEY, name)
		if err != nil {
			return err
		}
		if k.keyType == pkcs11.CKK_AES {
			return wrongKind(name)
		}
		if err := t.ctx.SignInit(s.handle, []*pkcs11.Mechanism{pkcs11.NewMechanism(pkcs11.CKM_SHA256_HMAC, nil)}, k.handle); err != nil {
			return err
		}
		sum, err = t.ctx.Sign(s.handle, data)
		return err
	})
	return sum, err
}
