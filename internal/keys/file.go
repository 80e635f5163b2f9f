package keys

import (
	"context"
	"crypto"

	"cmmpd/internal/mail"
)

// FileStore is a Keystore of plain files, for development and demonstrations: whoever reads the directory has the
// keys. It satisfies Keystore.
type FileStore struct {
	dir string
}

var _ Keystore = (*FileStore)(nil)

// CreateFile makes an empty keystore. The directory may exist if it is empty.
func CreateFile(dir string) (*FileStore, error) {
	return nil, mail.E(mail.Unsupported, "", nil)
}

// OpenFile opens a keystore. It refuses key files that others than their owner can read.
func OpenFile(dir string) (*FileStore, error) {
	return nil, mail.E(mail.Unsupported, "", nil)
}

// Generate makes a new key. The error is of kind mail.Exists if the name is taken.
func (f *FileStore) Generate(slot Slot, name string, kind Kind) error {
	return mail.E(mail.Unsupported, "", nil)
}

// Import puts a private key that was made elsewhere (RSA, ECDSA or Ed25519) into the store.
func (f *FileStore) Import(slot Slot, name string, key crypto.Signer) error {
	return mail.E(mail.Unsupported, "", nil)
}

// Has says whether there is a key of that name.
func (f *FileStore) Has(slot Slot, name string) bool { return false }

// Wrap satisfies Keystore.
func (f *FileStore) Wrap(ctx context.Context, slot Slot, name string, plain, aad []byte) ([]byte, error) {
	return nil, mail.E(mail.Unsupported, "", nil)
}

// Unwrap satisfies Keystore.
func (f *FileStore) Unwrap(ctx context.Context, slot Slot, name string, sealed, aad []byte) ([]byte, error) {
	return nil, mail.E(mail.Unsupported, "", nil)
}

// Derive satisfies Keystore.
func (f *FileStore) Derive(ctx context.Context, slot Slot, name string, info []byte) ([]byte, error) {
	return nil, mail.E(mail.Unsupported, "", nil)
}

// Signer satisfies Keystore.
func (f *FileStore) Signer(ctx context.Context, slot Slot, name string) (crypto.Signer, error) {
	return nil, mail.E(mail.Unsupported, "", nil)
}

// Close forgets the keys.
func (f *FileStore) Close() error { return nil }
