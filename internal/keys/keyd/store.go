package keyd

import (
	"context"
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"fmt"
	"io"
	"sync"

	"cmmpd/internal/keys"
	"cmmpd/internal/mail"
)

// Store is a keystore whose keys are in tokens that keyd opens.
//
// What every message needs does not cross the socket: of a secret of the service slot, two keys are derived in the
// token (HMAC-SHA-256) when they are first used, one to wrap and one to derive with, and stay in this process's memory until Close. Keys of the
// mail slot and private keys never leave the token: each use is one request.
type Store struct {
	c *Client

	mu      sync.Mutex // guards what follows
	closed  bool
	secrets map[string][]byte // by name and use
	private map[string]*PrivateKey
}

var _ keys.Manager = (*Store)(nil)

// NewStore is a keystore on the client, which it closes.
func NewStore(c *Client) *Store {
	return &Store{c: c, secrets: make(map[string][]byte), private: make(map[string]*PrivateKey)}
}

// Client is what the store asks with.
func (s *Store) Client() *Client { return s.c }

// Close wipes what was derived.
func (s *Store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	for _, secret := range s.secrets {
		clear(secret)
	}
	clear(s.secrets)
	clear(s.private)
	return s.c.Close()
}

// secret is the key for one use that is derived in the token from a secret of the service slot.
func (s *Store) secret(ctx context.Context, name, use string) ([]byte, error) {
	id := name + " " + use
	s.mu.Lock()
	secret := s.secrets[id]
	s.mu.Unlock()
	if secret != nil {
		return secret, nil
	}
	fresh, err := s.c.call(ctx, request{op: opDerive, slot: keys.Service, name: name, data: []byte("cmmpd keystore 1 " + use)})
	if err != nil {
		return nil, err
	}
	if len(fresh) != sha256.Size {
		return nil, errAnswer
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		s.secrets[id] = fresh
	}
	return fresh, nil
}

// wrapper wraps under a secret of the service slot.
func (s *Store) wrapper(ctx context.Context, name string) (*keys.Wrapper, error) {
	secret, err := s.secret(ctx, name, "wrap")
	if err != nil {
		return nil, err
	}
	return keys.NewWrapper(secret)
}

// Wrap satisfies keys.Keystore.
func (s *Store) Wrap(ctx context.Context, slot keys.Slot, name string, plain, aad []byte) ([]byte, error) {
	if slot != keys.Service {
		return s.c.call(ctx, request{op: opWrap, slot: slot, name: name, data: plain, extra: aad})
	}
	w, err := s.wrapper(ctx, name)
	if err != nil {
		return nil, err
	}
	return w.Wrap(rand.Reader, nil, plain, aad)
}

// Unwrap satisfies keys.Keystore.
func (s *Store) Unwrap(ctx context.Context, slot keys.Slot, name string, sealed, aad []byte) ([]byte, error) {
	if slot != keys.Service {
		return s.c.call(ctx, request{op: opUnwrap, slot: slot, name: name, data: sealed, extra: aad})
	}
	w, err := s.wrapper(ctx, name)
	if err != nil {
		return nil, err
	}
	return w.Unwrap(sealed, aad)
}

// Derive satisfies keys.Keystore, for the service slot.
func (s *Store) Derive(ctx context.Context, slot keys.Slot, name string, info []byte) ([]byte, error) {
	if slot != keys.Service {
		return nil, mail.E(mail.Invalid, "", fmt.Errorf("nothing is derived from keys of the slot %s", slot))
	}
	secret, err := s.secret(ctx, name, "derive")
	if err != nil {
		return nil, err
	}
	return hkdf.Key(sha256.New, secret, nil, string(info), 32)
}

// Signer satisfies keys.Keystore. What it makes is a *PrivateKey.
func (s *Store) Signer(ctx context.Context, slot keys.Slot, name string) (crypto.Signer, error) {
	id := string(slot) + "/" + name
	s.mu.Lock()
	k := s.private[id]
	s.mu.Unlock()
	if k != nil {
		return k, nil
	}
	data, err := s.c.call(ctx, request{op: opPublic, slot: slot, name: name})
	if err != nil {
		return nil, err
	}
	list, err := decodeInfos(slot, data)
	if err != nil {
		return nil, err
	}
	if len(list) != 1 || len(list[0].Public) == 0 {
		return nil, mail.E(mail.Invalid, "", fmt.Errorf("key %s cannot sign", id))
	}
	public, err := x509.ParsePKIXPublicKey(list[0].Public)
	if err != nil {
		return nil, mail.E(mail.Corrupt, "", fmt.Errorf("public key of %s: %w", id, err))
	}
	k = &PrivateKey{c: s.c, slot: slot, name: name, public: public}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		s.private[id] = k
	}
	return k, nil
}

// List satisfies keys.Manager.
func (s *Store) List(slot keys.Slot) ([]keys.Info, error) {
	data, err := s.c.call(context.Background(), request{op: opList, slot: slot})
	if err != nil {
		return nil, err
	}
	return decodeInfos(slot, data)
}

// Generate satisfies keys.Manager. keyd does it for its operators only.
func (s *Store) Generate(slot keys.Slot, name string, kind keys.Kind) error {
	_, err := s.c.call(context.Background(), request{op: opGenerate, slot: slot, name: name, data: []byte(kind)})
	return err
}

// Retire satisfies keys.Manager. keyd does it for its operators only.
func (s *Store) Retire(slot keys.Slot, name string) error {
	_, err := s.c.call(context.Background(), request{op: opRetire, slot: slot, name: name})
	return err
}

// Unretire satisfies keys.Manager. keyd does it for its operators only.
func (s *Store) Unretire(slot keys.Slot, name string) error {
	_, err := s.c.call(context.Background(), request{op: opUnretire, slot: slot, name: name})
	return err
}

// PrivateKey is a private key in a token: RSA, ECDSA and ECDH, or Ed25519.
type PrivateKey struct {
	c      *Client
	slot   keys.Slot
	name   string
	public crypto.PublicKey
}

var _ crypto.Signer = (*PrivateKey)(nil)

// Public satisfies crypto.Signer.
func (k *PrivateKey) Public() crypto.PublicKey { return k.public }

// Sign satisfies crypto.Signer. The token's random numbers are used.
func (k *PrivateKey) Sign(_ io.Reader, digest []byte, o crypto.SignerOpts) ([]byte, error) {
	r := request{op: opSign, slot: k.slot, name: k.name, hash: uint8(o.HashFunc()), data: digest}
	switch k.public.(type) {
	case *rsa.PublicKey:
		r.scheme = PKCS1
		if pss, ok := o.(*rsa.PSSOptions); ok {
			if pss.SaltLength != rsa.PSSSaltLengthEqualsHash && pss.SaltLength != o.HashFunc().Size() {
				return nil, mail.E(mail.Unsupported, "", fmt.Errorf("RSASSA-PSS with a salt of %d", pss.SaltLength))
			}
			r.scheme = PSS
		}
	case *ecdsa.PublicKey:
	case ed25519.PublicKey:
		if o.HashFunc() != 0 {
			return nil, mail.E(mail.Unsupported, "", fmt.Errorf("Ed25519 over a digest"))
		}
	}
	return k.c.call(context.Background(), r)
}

// DecryptOAEP undoes RSAES-OAEP. The error is of kind mail.Corrupt if it cannot be undone, mail.Unsupported if the token
// does not know these hashes.
func (k *PrivateKey) DecryptOAEP(ctx context.Context, hash, mgf crypto.Hash, label, encrypted []byte) ([]byte, error) {
	return k.c.call(ctx, request{op: opDecrypt, slot: k.slot, name: k.name, scheme: OAEP, hash: uint8(hash), mgf: uint8(mgf), data: encrypted, extra: label})
}

// DecryptPKCS1 undoes RSAES-PKCS1-v1_5 for a key of size octets. What cannot be undone, or has another size, gives random octets.
func (k *PrivateKey) DecryptPKCS1(ctx context.Context, encrypted []byte, size int) ([]byte, error) {
	if size < 1 || size > maxFrame {
		return nil, mail.E(mail.Invalid, "", fmt.Errorf("a key of %d octets", size))
	}
	return k.c.call(ctx, request{op: opDecrypt, slot: k.slot, name: k.name, scheme: PKCS1, size: uint16(size), data: encrypted})
}

// Agree is the secret shared with peer: the x coordinate (SEC 1, section 3.3.1).
func (k *PrivateKey) Agree(ctx context.Context, peer *ecdh.PublicKey) ([]byte, error) {
	return k.c.call(ctx, request{op: opAgree, slot: k.slot, name: k.name, data: peer.Bytes()})
}
