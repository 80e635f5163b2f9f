// Package keys holds the key ladder: the keystore with the platform's long-lived keys, the key vault with the
// accounts' keys, and the primitives by which one key wraps the next.
package keys

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"regexp"

	"cmmpd/internal/mail"
)

// Slot separates the keys of a keystore by who may use them. An HSM has one token, with its own log-in, for each.
type Slot string

// The slots.
const (
	Service Slot = "service" // what the running service needs: blind index, audit, gateway signature, its own secrets
	Mail    Slot = "mail"    // what opens mail: the platform key that wraps the accounts' private keys
)

// Kind says what sort of key a name stands for.
type Kind string

// The kinds of keys.
const (
	KindAES256  Kind = "aes-256"  // to wrap with; in files to derive from, too
	KindHMAC256 Kind = "hmac-256" // to derive from
	KindEd25519 Kind = "ed25519"
	KindP256    Kind = "ec-p256"
	KindP384    Kind = "ec-p384"
	KindRSA2048 Kind = "rsa-2048"
	KindRSA3072 Kind = "rsa-3072"
)

// Keystore holds the platform's long-lived keys and never gives them away. All methods may be called concurrently.
// An error is of kind mail.NotFound if there is no such key, mail.Invalid if the key is of the wrong kind,
// mail.Unavailable if the keystore cannot answer (in its chain ErrSealed, if its officers must open it first), mail.Corrupt
// if sealed was not made by Wrap with the same slot, name and aad.
type Keystore interface {
	// Wrap encrypts plain with AES-256-GCM under the named key. aad is bound to the result and must be given to Unwrap.
	Wrap(ctx context.Context, slot Slot, name string, plain, aad []byte) ([]byte, error)
	// Unwrap undoes Wrap.
	Unwrap(ctx context.Context, slot Slot, name string, sealed, aad []byte) ([]byte, error)
	// Derive makes a key of 32 bytes for the purpose that info names, always the same for the same named key.
	Derive(ctx context.Context, slot Slot, name string, info []byte) ([]byte, error)
	// Signer is the named private key. It may be used until Close.
	Signer(ctx context.Context, slot Slot, name string) (crypto.Signer, error)
	Close() error
}

// Manager is a Keystore whose keys can be looked after.
type Manager interface {
	Keystore
	// List is the keys of a slot, by name.
	List(slot Slot) ([]Info, error)
	// Generate makes a new key. The error is of kind mail.Exists if the name is taken.
	Generate(slot Slot, name string, kind Kind) error
	// Retire takes a key out of use; its name is free then. It stays where it is, under another name.
	Retire(slot Slot, name string) error
	// Unretire undoes Retire: name is that of the retired key, which gets its old name again. The error is of kind mail.Exists if that is taken.
	Unretire(slot Slot, name string) error
}

// Info is what everybody may know of a key.
type Info struct {
	Slot    Slot
	Name    string
	Kind    Kind
	Retired bool
	Public  []byte // of a private key: SubjectPublicKeyInfo, DER
}

// ErrSealed is in the chain of an error when the mail slot's token has not been opened by its officers. Its kind is mail.Unavailable.
var ErrSealed = mail.E(mail.Unavailable, "mail cannot be read until the security officers have unsealed the platform", errors.New("the slot is sealed"))

var keyName = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.@/-]{0,159}$`)

// CheckName refuses, with kind mail.Invalid, what is not a slot or cannot name a new key.
func CheckName(slot Slot, name string) error {
	if slot != Service && slot != Mail || !keyName.MatchString(name) {
		return mail.E(mail.Invalid, "", fmt.Errorf("bad key name %s/%q", slot, name))
	}
	return nil
}

// Slots is a Keystore of two: one for each slot.
type Slots struct {
	Service, Mail Manager
	// Previous is where keys of the slot mail are that Mail does not have, while accounts move from one keystore to another; nil: nowhere. It is used,
	// not looked after.
	Previous Keystore
}

var _ Manager = Slots{}

// Of is the keystore of a slot.
func (s Slots) Of(slot Slot) Manager {
	if slot == Mail {
		return s.Mail
	}
	return s.Service
}

// Wrap satisfies Keystore.
func (s Slots) Wrap(ctx context.Context, slot Slot, name string, plain, aad []byte) ([]byte, error) {
	b, err := s.Of(slot).Wrap(ctx, slot, name, plain, aad)
	if s.Previous != nil && slot == Mail && mail.KindOf(err) == mail.NotFound && err != nil {
		return s.Previous.Wrap(ctx, slot, name, plain, aad)
	}
	return b, err
}

// Unwrap satisfies Keystore.
func (s Slots) Unwrap(ctx context.Context, slot Slot, name string, sealed, aad []byte) ([]byte, error) {
	b, err := s.Of(slot).Unwrap(ctx, slot, name, sealed, aad)
	if s.Previous != nil && slot == Mail && err != nil && (mail.KindOf(err) == mail.NotFound || mail.KindOf(err) == mail.Corrupt) { // a key of that name may be in both
		if b, perr := s.Previous.Unwrap(ctx, slot, name, sealed, aad); perr == nil || mail.KindOf(perr).Temporary() {
			return b, perr
		}
	}
	return b, err
}

// Derive satisfies Keystore.
func (s Slots) Derive(ctx context.Context, slot Slot, name string, info []byte) ([]byte, error) {
	return s.Of(slot).Derive(ctx, slot, name, info)
}

// Signer satisfies Keystore.
func (s Slots) Signer(ctx context.Context, slot Slot, name string) (crypto.Signer, error) {
	return s.Of(slot).Signer(ctx, slot, name)
}

// List satisfies Manager.
func (s Slots) List(slot Slot) ([]Info, error) { return s.Of(slot).List(slot) }

// Generate satisfies Manager.
func (s Slots) Generate(slot Slot, name string, kind Kind) error {
	return s.Of(slot).Generate(slot, name, kind)
}

// Retire satisfies Manager.
func (s Slots) Retire(slot Slot, name string) error {
	return s.Of(slot).Retire(slot, name)
}

// Unretire satisfies Manager.
func (s Slots) Unretire(slot Slot, name string) error {
	return s.Of(slot).Unretire(slot, name)
}

// Close closes both, once if they are the same.
func (s Slots) Close() error {
	err := s.Service.Close()
	if s.Mail != s.Service {
		err = errors.Join(err, s.Mail.Close())
	}
	if s.Previous != nil {
		err = errors.Join(err, s.Previous.Close())
	}
	return err
}
