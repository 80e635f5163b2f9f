package keys

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdh"
	"crypto/hpke"
	"encoding/binary"
	"fmt"
	"io"
	"strings"

	"cmmpd/internal/mail"
)

// The ladder, from the bottom: a message key wraps a body (package storage); a Wrapper with an account's epoch key
// wraps message keys; the account's key pair wraps epoch keys (HPKE, RFC 9180); the platform key of the keystore wraps
// the account's private key.

// PlatformKey is the name, in the Mail slot, of the first key that wraps the accounts' private keys. Which one does now is for the vault to say.
const PlatformKey = "platform"

// NewGCM is AES-256-GCM with the key of 32 bytes.
func NewGCM(key []byte) (cipher.AEAD, error) {
	if len(key) != 32 {
		return nil, mail.E(mail.Invalid, "", fmt.Errorf("key of %d bytes", len(key)))
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

// Wrapper wraps small secrets under one symmetric key: AES-256-GCM, with a random nonce of 96 bits in front. A key
// must not be used for more than 2^32 wraps. All methods may be called concurrently.
type Wrapper struct{ aead cipher.AEAD }

// NewWrapper is a Wrapper under the key of 32 bytes.
func NewWrapper(key []byte) (*Wrapper, error) {
	aead, err := NewGCM(key)
	if err != nil {
		return nil, err
	}
	return &Wrapper{aead}, nil
}

const (
	wrapNonce = 12
	wrapTag   = 16
)

// Wrap appends to dst the wrapped plain, bound to aad.
func (w *Wrapper) Wrap(rnd io.Reader, dst, plain, aad []byte) ([]byte, error) {
	var nonce [wrapNonce]byte
	if _, err := io.ReadFull(rnd, nonce[:]); err != nil {
		return nil, err
	}
	return w.aead.Seal(append(dst, nonce[:]...), nonce[:], plain, aad), nil
}

// Unwrap undoes Wrap. The error is of kind mail.Corrupt.
func (w *Wrapper) Unwrap(sealed, aad []byte) ([]byte, error) {
	if len(sealed) < wrapNonce+wrapTag {
		return nil, mail.E(mail.Corrupt, "", fmt.Errorf("wrapped secret of %d bytes", len(sealed)))
	}
	plain, err := w.aead.Open(nil, sealed[:wrapNonce], sealed[wrapNonce:], aad)
	if err != nil {
		return nil, mail.E(mail.Corrupt, "", fmt.Errorf("unwrap: %w", err))
	}
	return plain, nil
}

// The HPKE suite of account keys: DHKEM(P-256, HKDF-SHA256), HKDF-SHA256, AES-256-GCM. All are approved by FIPS 140.
const suiteP256 = 1

func kem() hpke.KEM   { return hpke.DHKEM(ecdh.P256()) }
func kdf() hpke.KDF   { return hpke.HKDFSHA256() }
func aead() hpke.AEAD { return hpke.AES256GCM() }

// AccountKey is an account's key pair as the vault keeps it.
type AccountKey struct {
	Suite   uint8
	Public  []byte
	Key     string // the name, in the Mail slot, of the key that wraps the private key
	Wrapped []byte // the private key, wrapped
}

// PrivateKey opens what was sealed to an account.
type PrivateKey struct {
	id  mail.AccountID
	key hpke.PrivateKey
}

const accountPrefix = "cmmpd account key 1 "

func accountAAD(id mail.AccountID) []byte { return []byte(accountPrefix + string(id)) }

// AccountOf is the account whose private key was wrapped with this additional data; empty if it is none's.
func AccountOf(aad []byte) string {
	id, ok := strings.CutPrefix(string(aad), accountPrefix)
	if !ok {
		return ""
	}
	return id
}

// NewAccountKey makes the key pair of an account, wrapped by the named platform key. keep is given the private key for those who are to keep it, too, and
// must not hold on to it.
func NewAccountKey(ctx context.Context, ks Keystore, name string, id mail.AccountID, keep func(secret []byte) error) (AccountKey, error) {
	priv, err := kem().GenerateKey()
	if err != nil {
		return AccountKey{}, err
	}
	defer (&PrivateKey{key: priv}).Wipe()
	raw, err := priv.Bytes()
	if err != nil {
		return AccountKey{}, err
	}
	defer clear(raw)
	wrapped, err := ks.Wrap(ctx, Mail, name, raw, accountAAD(id))
	if err != nil {
		return AccountKey{}, fmt.Errorf("wrap the key of account %s: %w", id, err)
	}
	if err := keep(raw); err != nil {
		return AccountKey{}, err
	}
	return AccountKey{suiteP256, priv.PublicKey().Bytes(), name, wrapped}, nil
}

// Rewrap wraps the private key by another platform key. What comes out has been opened once: the old wrapping may be thrown away.
func (k AccountKey) Rewrap(ctx context.Context, ks Keystore, name string, id mail.AccountID) (AccountKey, error) {
	p, err := k.Open(ctx, ks, id)
	if err != nil {
		return AccountKey{}, err
	}
	defer p.Wipe()
	raw, err := p.key.Bytes()
	if err != nil {
		return AccountKey{}, err
	}
	defer clear(raw)
	fresh := AccountKey{Suite: k.Suite, Public: k.Public, Key: name}
	if fresh.Wrapped, err = ks.Wrap(ctx, Mail, name, raw, accountAAD(id)); err != nil {
		return AccountKey{}, fmt.Errorf("wrap the key of account %s: %w", id, err)
	}
	again, err := fresh.Open(ctx, ks, id)
	if err != nil {
		return AccountKey{}, fmt.Errorf("the key of account %s, wrapped anew: %w", id, err)
	}
	again.Wipe()
	return fresh, nil
}

// Open unwraps the private key: from now on, and for as long as the result is held, the account's mail can be read.
func (k AccountKey) Open(ctx context.Context, ks Keystore, id mail.AccountID) (*PrivateKey, error) {
	if k.Suite != suiteP256 {
		return nil, mail.E(mail.Corrupt, "", fmt.Errorf("account %s has a key of unknown suite %d", id, k.Suite))
	}
	raw, err := ks.Unwrap(ctx, Mail, k.Key, k.Wrapped, accountAAD(id))
	if mail.KindOf(err) == mail.NotFound && err != nil {
		err = fmt.Errorf("%w (if it was retired, as after a restore of an older key vault, cmmpd keys unretire brings it back)", err)
	}
	if err != nil {
		return nil, fmt.Errorf("unwrap the key of account %s, which is under %s/%s: %w", id, Mail, k.Key, err)
	}
	defer clear(raw)
	priv, err := kem().NewPrivateKey(raw)
	if err != nil {
		return nil, mail.E(mail.Corrupt, "", fmt.Errorf("the key of account %s: %w", id, err))
	}
	if !bytes.Equal(priv.PublicKey().Bytes(), k.Public) {
		(&PrivateKey{key: priv}).Wipe()
		return nil, mail.E(mail.Corrupt, "", fmt.Errorf("the key of account %s is not the private half of its public one", id))
	}
	return &PrivateKey{id, priv}, nil
}

func epochInfo(id mail.AccountID, epoch uint32) []byte {
	return append(binary.BigEndian.AppendUint32([]byte("cmmpd epoch key 1 "), epoch), id...)
}

// SealEpoch seals an epoch key of 32 bytes to the account.
func (k AccountKey) SealEpoch(id mail.AccountID, epoch uint32, key []byte) ([]byte, error) {
	if k.Suite != suiteP256 {
		return nil, mail.E(mail.Corrupt, "", fmt.Errorf("account %s has a key of unknown suite %d", id, k.Suite))
	}
	pub, err := kem().NewPublicKey(k.Public)
	if err != nil {
		return nil, mail.E(mail.Corrupt, "", fmt.Errorf("the public key of account %s: %w", id, err))
	}
	return hpke.Seal(pub, kdf(), aead(), epochInfo(id, epoch), key)
}

// OpenEpoch undoes SealEpoch. The error is of kind mail.Corrupt.
func (p *PrivateKey) OpenEpoch(epoch uint32, sealed []byte) ([]byte, error) {
	key, err := hpke.Open(p.key, kdf(), aead(), epochInfo(p.id, epoch), sealed)
	if err != nil || len(key) != 32 {
		return nil, mail.E(mail.Corrupt, "", fmt.Errorf("epoch %d of account %s: %w", epoch, p.id, err))
	}
	return key, nil
}
