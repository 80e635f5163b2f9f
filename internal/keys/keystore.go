// Package keys holds the key ladder: the keystore with the platform's long-lived keys, the key vault with the
// accounts' keys, and the primitives by which one key wraps the next.
package keys

import (
	"context"
	"crypto"
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
	KindAES256  Kind = "aes-256"
	KindEd25519 Kind = "ed25519"
	KindP256    Kind = "ec-p256"
	KindP384    Kind = "ec-p384"
	KindRSA2048 Kind = "rsa-2048"
	KindRSA3072 Kind = "rsa-3072"
)

// Keystore holds the platform's long-lived keys and never gives them away. All methods may be called concurrently.
// An error is of kind mail.NotFound if there is no such key, mail.Invalid if the key is of the wrong kind,
// mail.Unavailable if the keystore cannot answer, mail.Corrupt if sealed was not made by Wrap with the same
// slot, name and aad.
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
