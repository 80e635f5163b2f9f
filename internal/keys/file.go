package keys

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"cmmpd/internal/durable"
	"cmmpd/internal/mail"
)

// FileStore is a Keystore of plain files, for development and demonstrations: whoever reads the directory has the
// keys. A key is the file DIR/<slot>/<name>.pem, the name escaped as in a URL path.
type FileStore struct {
	dir string

	mu      sync.Mutex // guards what follows
	closed  bool
	secrets map[string][]byte        // by slot/name: AES-256 keys
	signers map[string]crypto.Signer // by slot/name
}

var _ Manager = (*FileStore)(nil)

const (
	fileMark    = "cmmpd file keystore 1\n"
	fileName    = "keystore"
	pemAES      = "CMMPD AES-256 KEY"
	pemPrivate  = "PRIVATE KEY" // PKCS #8
	maxKeyBytes = 64 << 10
)

// CreateFile makes an empty keystore. The directory may exist if there is nothing in it; its parent must exist.
func CreateFile(dir string) (*FileStore, error) {
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	names, err := durable.OS{}.List(dir)
	if err != nil {
		return nil, err
	}
	if len(names) > 0 {
		return nil, mail.E(mail.Exists, "", fmt.Errorf("%s is not empty", dir))
	}
	for _, slot := range []Slot{Service, Mail} {
		if err := os.Mkdir(filepath.Join(dir, string(slot)), 0o700); err != nil {
			return nil, err
		}
	}
	if err := durable.WriteFile(durable.OS{}, filepath.Join(dir, fileName), []byte(fileMark), 0o600); err != nil {
		return nil, err
	}
	if err := (durable.OS{}).SyncDir(filepath.Dir(dir)); err != nil {
		return nil, err
	}
	return OpenFile(dir)
}

// OpenFile opens a keystore. Keys are read when they are first used; a key file that others than its owner can
// read is refused.
func OpenFile(dir string) (*FileStore, error) {
	b, err := durable.ReadFile(durable.OS{}, filepath.Join(dir, fileName), maxKeyBytes)
	if err != nil {
		return nil, fmt.Errorf("no keystore: %w", err)
	}
	if string(b) != fileMark {
		return nil, mail.E(mail.Corrupt, "", fmt.Errorf("%s is not a keystore that this version knows", dir))
	}
	if err := private(dir); err != nil {
		return nil, err
	}
	return &FileStore{dir: dir, secrets: make(map[string][]byte), signers: make(map[string]crypto.Signer)}, nil
}

// private refuses what others than the owner may read or enter.
func private(path string) error {
	st, err := os.Stat(path)
	if err != nil {
		return err
	}
	if st.Mode().Perm()&0o077 != 0 {
		return mail.E(mail.Denied, "", fmt.Errorf("%s can be read by others (mode %v): chmod go= it", path, st.Mode().Perm()))
	}
	return nil
}

func (f *FileStore) path(slot Slot, name string) string {
	return filepath.Join(f.dir, string(slot), url.PathEscape(name)+".pem")
}

// RetiredName is the name that a key has on from its retirement. A new key cannot have such a name.
func RetiredName(name string, at time.Time) string {
	return retiredPrefix + at.UTC().Format("20060102T150405Z") + " " + name
}

const retiredPrefix = "retired "

// IsRetired says whether a name is that of a retired key.
func IsRetired(name string) bool { return strings.HasPrefix(name, retiredPrefix) }

// FormerName is the name that a retired key had. The error is of kind mail.Invalid if retired is not the name of a retired key.
func FormerName(slot Slot, retired string) (string, error) {
	rest, ok := strings.CutPrefix(retired, retiredPrefix)
	_, name, found := strings.Cut(rest, " ")
	if !ok || !found {
		return "", mail.E(mail.Invalid, "", fmt.Errorf("%q is not a retired key, which keys list shows as \"retired TIME NAME\"", retired))
	}
	return name, CheckName(slot, name)
}

// List satisfies Manager.
func (f *FileStore) List(slot Slot) ([]Info, error) {
	names, err := durable.OS{}.List(filepath.Join(f.dir, string(slot)))
	if err != nil {
		return nil, err
	}
	var list []Info
	for _, file := range names {
		name, err := url.PathUnescape(strings.TrimSuffix(file, ".pem"))
		if err != nil || f.path(slot, name) != filepath.Join(f.dir, string(slot), file) {
			continue // a temporary file, or not ours
		}
		k, err := f.info(slot, name)
		if err != nil {
			return nil, err
		}
		list = append(list, k)
	}
	slices.SortFunc(list, func(a, b Info) int { return strings.Compare(a.Name, b.Name) })
	return list, nil
}

func (f *FileStore) info(slot Slot, name string) (k Info, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	id := string(slot) + "/" + name
	if f.secrets[id] == nil && f.signers[id] == nil || f.closed {
		if err := f.load(slot, name); err != nil {
			return k, err
		}
	}
	k = Info{Slot: slot, Name: name, Kind: KindAES256, Retired: IsRetired(name)}
	if s := f.signers[id]; s != nil {
		k.Kind = KindOfPublic(s.Public())
		k.Public, err = x509.MarshalPKIXPublicKey(s.Public())
	}
	return k, err
}

// KindOfPublic is the kind of a private key whose public half is given; of another than the known kinds, what describes it.
func KindOfPublic(public crypto.PublicKey) Kind {
	switch p := public.(type) {
	case ed25519.PublicKey:
		return KindEd25519
	case *ecdsa.PublicKey:
		return Kind("ec-" + strings.ToLower(strings.ReplaceAll(p.Curve.Params().Name, "-", "")))
	case *rsa.PublicKey:
		return Kind(fmt.Sprintf("rsa-%d", p.N.BitLen()))
	}
	return Kind(fmt.Sprintf("%T", public))
}

// Retire satisfies Manager.
func (f *FileStore) Retire(slot Slot, name string) error {
	if err := CheckName(slot, name); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.Has(slot, name) {
		return mail.E(mail.NotFound, "", fmt.Errorf("no key %s/%s", slot, name))
	}
	if err := os.Rename(f.path(slot, name), f.path(slot, RetiredName(name, time.Now()))); err != nil {
		return err
	}
	id := string(slot) + "/" + name
	clear(f.secrets[id])
	delete(f.secrets, id)
	delete(f.signers, id)
	return durable.OS{}.SyncDir(filepath.Join(f.dir, string(slot)))
}

// Unretire satisfies Manager.
func (f *FileStore) Unretire(slot Slot, retired string) error {
	name, err := FormerName(slot, retired)
	if err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case !f.Has(slot, retired):
		return mail.E(mail.NotFound, "", fmt.Errorf("no key %s/%s", slot, retired))
	case f.Has(slot, name):
		return mail.E(mail.Exists, "", fmt.Errorf("key %s/%s exists", slot, name))
	}
	if err := os.Rename(f.path(slot, retired), f.path(slot, name)); err != nil {
		return err
	}
	return durable.OS{}.SyncDir(filepath.Join(f.dir, string(slot)))
}

func validKeyName(slot Slot, name string) error {
	if slot != Service && slot != Mail || name == "" || len(name) > 200 || strings.HasPrefix(name, ".") {
		return mail.E(mail.Invalid, "", fmt.Errorf("bad key name %s/%q", slot, name))
	}
	return nil
}

// Generate makes a new key. The error is of kind mail.Exists if the name is taken.
func (f *FileStore) Generate(slot Slot, name string, kind Kind) error {
	var key crypto.Signer
	var err error
	switch kind {
	case KindAES256, KindHMAC256:
		secret := make([]byte, 32)
		if _, err := rand.Read(secret); err != nil {
			return err
		}
		return f.save(slot, name, &pem.Block{Type: pemAES, Bytes: secret})
	case KindEd25519:
		_, key, err = ed25519.GenerateKey(rand.Reader)
	case KindP256:
		key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case KindP384:
		key, err = ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case KindRSA2048:
		key, err = rsa.GenerateKey(rand.Reader, 2048)
	case KindRSA3072:
		key, err = rsa.GenerateKey(rand.Reader, 3072)
	default:
		return mail.E(mail.Invalid, "", fmt.Errorf("no such kind of key: %q", kind))
	}
	if err != nil {
		return err
	}
	return f.Import(slot, name, key)
}

// Import puts a private key that was made elsewhere (RSA, ECDSA or Ed25519) into the store. The error is of kind
// mail.Exists if the name is taken.
func (f *FileStore) Import(slot Slot, name string, key crypto.Signer) error {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return mail.E(mail.Invalid, "", err)
	}
	return f.save(slot, name, &pem.Block{Type: pemPrivate, Bytes: der})
}

func (f *FileStore) save(slot Slot, name string, block *pem.Block) error {
	if err := CheckName(slot, name); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.Has(slot, name) {
		return mail.E(mail.Exists, "", fmt.Errorf("key %s/%s exists", slot, name))
	}
	return durable.WriteFile(durable.OS{}, f.path(slot, name), pem.EncodeToMemory(block), 0o600)
}

// Has says whether there is a key of that name.
func (f *FileStore) Has(slot Slot, name string) bool {
	_, err := os.Stat(f.path(slot, name))
	return err == nil
}

// load reads the key into secrets or signers. f.mu is held.
func (f *FileStore) load(slot Slot, name string) error {
	if err := validKeyName(slot, name); err != nil {
		return err
	}
	if f.closed {
		return mail.E(mail.Unavailable, "", errors.New("the keystore is closed"))
	}
	path := f.path(slot, name)
	if err := private(path); errors.Is(err, fs.ErrNotExist) {
		return mail.E(mail.NotFound, "", fmt.Errorf("no key %s/%s", slot, name))
	} else if err != nil {
		return err
	}
	b, err := durable.ReadFile(durable.OS{}, path, maxKeyBytes)
	if err != nil {
		return err
	}
	block, rest := pem.Decode(b)
	if block == nil || len(rest) > 0 {
		return mail.E(mail.Corrupt, "", fmt.Errorf("%s is not a key file", path))
	}
	id := string(slot) + "/" + name
	switch block.Type {
	case pemAES:
		if len(block.Bytes) != 32 {
			return mail.E(mail.Corrupt, "", fmt.Errorf("%s: wrong length", path))
		}
		f.secrets[id] = block.Bytes
	case pemPrivate:
		key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
		if err != nil {
			return mail.E(mail.Corrupt, "", fmt.Errorf("%s: %w", path, err))
		}
		signer, ok := key.(crypto.Signer)
		if !ok {
			return mail.E(mail.Corrupt, "", fmt.Errorf("%s: cannot sign", path))
		}
		f.signers[id] = signer
	default:
		return mail.E(mail.Corrupt, "", fmt.Errorf("%s: unknown kind %q", path, block.Type))
	}
	return nil
}

// secret derives the key for one use from a named AES-256 key, so that no key has two uses.
func (f *FileStore) secret(slot Slot, name, use string) ([]byte, error) {
	id := string(slot) + "/" + name
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.secrets[id] == nil && f.signers[id] == nil || f.closed {
		if err := f.load(slot, name); err != nil {
			return nil, err
		}
	}
	master := f.secrets[id]
	if master == nil {
		return nil, mail.E(mail.Invalid, "", fmt.Errorf("key %s is not an AES key", id))
	}
	return hkdf.Key(sha256.New, master, nil, "cmmpd keystore 1 "+use, 32)
}

// Wrap satisfies Keystore.
func (f *FileStore) Wrap(_ context.Context, slot Slot, name string, plain, aad []byte) ([]byte, error) {
	key, err := f.secret(slot, name, "wrap")
	if err != nil {
		return nil, err
	}
	w, err := NewWrapper(key)
	if err != nil {
		return nil, err
	}
	return w.Wrap(rand.Reader, nil, plain, aad)
}

// Unwrap satisfies Keystore.
func (f *FileStore) Unwrap(_ context.Context, slot Slot, name string, sealed, aad []byte) ([]byte, error) {
	key, err := f.secret(slot, name, "wrap")
	if err != nil {
		return nil, err
	}
	w, err := NewWrapper(key)
	if err != nil {
		return nil, err
	}
	return w.Unwrap(sealed, aad)
}

// Derive satisfies Keystore.
func (f *FileStore) Derive(_ context.Context, slot Slot, name string, info []byte) ([]byte, error) {
	key, err := f.secret(slot, name, "derive")
	if err != nil {
		return nil, err
	}
	return hkdf.Key(sha256.New, key, nil, string(info), 32)
}

// Signer satisfies Keystore.
func (f *FileStore) Signer(_ context.Context, slot Slot, name string) (crypto.Signer, error) {
	id := string(slot) + "/" + name
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.secrets[id] == nil && f.signers[id] == nil || f.closed {
		if err := f.load(slot, name); err != nil {
			return nil, err
		}
	}
	if s := f.signers[id]; s != nil {
		return s, nil
	}
	return nil, mail.E(mail.Invalid, "", fmt.Errorf("key %s cannot sign", id))
}

// Close wipes the symmetric keys and forgets the others.
func (f *FileStore) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closed = true
	for _, s := range f.secrets {
		clear(s)
	}
	clear(f.secrets)
	clear(f.signers)
	return nil
}
