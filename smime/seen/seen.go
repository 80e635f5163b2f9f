// Package seen remembers the certificates that came with good signatures on mail: whose,
// since when, when last. They are never trusted on their own. A Book is a folder with a
// sealed file for each address, for who writes to us is nobody else's business; the names
// of the files tell nothing either.
package seen

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"cmmpd/internal/durable"
	"cmmpd/internal/mail"
)

// Bounds of a Book: strangers fill it.
const (
	maxCertificates = 8      // of one address; the one not seen for longest goes
	maxAddresses    = 50_000 // beyond these nobody new is remembered
	maxFile         = 256 << 10
	// often is how old the time of the last sight may be before it is written again.
	often = 24 * time.Hour
)

// Certificate is one that was seen.
type Certificate struct {
	DER         []byte    `json:"der"`
	First, Last time.Time // in UTC, whole seconds
}

// Person is whose certificates were seen.
type Person struct {
	Address      string        `json:"address"`
	Certificates []Certificate `json:"certificates"`
}

// Book is the memory. Its methods may be called by several goroutines at once.
type Book struct {
	dir  string
	seal cipher.AEAD
	name []byte // key of the file names
	log  *slog.Logger

	mu    sync.Mutex // one change at a time
	count int        // files, guarded by mu
}

// Open opens the book in a folder, which is made if make says so. key is 32 secret
// octets, always the same for one folder.
func Open(dir string, key []byte, create bool, log *slog.Logger) (*Book, error) {
	if len(key) != 32 {
		return nil, errors.New("seen: the key has not 32 octets")
	}
	if create {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, err
		}
	}
	b := &Book{dir: dir, log: log}
	sealKey, err := hkdf.Key(sha256.New, key, nil, "cmmpd seen 1 seal", 32)
	if err != nil {
		return nil, err
	}
	if b.name, err = hkdf.Key(sha256.New, key, nil, "cmmpd seen 1 name", 32); err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(sealKey)
	if err != nil {
		return nil, err
	}
	if b.seal, err = cipher.NewGCM(block); err != nil {
		return nil, err
	}
	names, err := b.files()
	b.count = len(names)
	return b, err
}

// files lists the files of addresses.
func (b *Book) files() ([]string, error) {
	names, err := durable.OS{}.List(b.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return slices.DeleteFunc(names, func(s string) bool { return strings.HasSuffix(s, durable.TempSuffix) }), err
}

func (b *Book) file(a mail.Address) string {
	h := hmac.New(sha256.New, b.name)
	h.Write([]byte(a.Key()))
	return hex.EncodeToString(h.Sum(nil)[:16])
}

// Note remembers certificates of a, seen at a time. Errors are logged: mail does not
// depend on it.
func (b *Book) Note(a mail.Address, at time.Time, certs ...*x509.Certificate) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.note(a, at.UTC().Truncate(time.Second), certs); err != nil {
		b.log.Error("a certificate that was seen cannot be remembered", "error", err)
	}
}

func (b *Book) note(a mail.Address, at time.Time, certs []*x509.Certificate) error {
	name := b.file(a)
	p, err := b.read(name)
	if err != nil {
		return err
	}
	anew := p == nil
	if anew {
		if b.count >= maxAddresses {
			return nil
		}
		p = &Person{Address: a.String()}
	}
	changed := false
	for _, c := range certs {
		i := slices.IndexFunc(p.Certificates, func(s Certificate) bool { return bytes.Equal(s.DER, c.Raw) })
		switch {
		case i < 0:
			p.Certificates = append(p.Certificates, Certificate{c.Raw, at, at})
			changed = true
		case at.Sub(p.Certificates[i].Last) >= often:
			p.Certificates[i].Last, changed = at, true
		}
	}
	if !changed {
		return nil
	}
	slices.SortStableFunc(p.Certificates, func(x, y Certificate) int { return y.Last.Compare(x.Last) })
	p.Certificates = p.Certificates[:min(len(p.Certificates), maxCertificates)]
	if err := b.write(name, p); err != nil {
		return err
	}
	if anew {
		b.count++
	}
	return nil
}

const header = "cmmpd seen 1\n"

func (b *Book) write(name string, p *Person) error {
	plain, err := json.Marshal(p)
	if err != nil {
		return err
	}
	if len(plain)+len(header)+b.seal.NonceSize()+b.seal.Overhead() > maxFile {
		return errors.New("too much of one address")
	}
	out := append([]byte(header), make([]byte, b.seal.NonceSize())...)
	nonce := out[len(header):]
	if _, err := rand.Read(nonce); err != nil {
		return err
	}
	return durable.WriteFile(durable.OS{}, filepath.Join(b.dir, name), b.seal.Seal(out, nonce, plain, []byte(header+name)), 0o600)
}

// read returns nil, nil if there is no such file.
func (b *Book) read(name string) (*Person, error) {
	data, err := durable.ReadFile(durable.OS{}, filepath.Join(b.dir, name), maxFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return b.open(name, data)
}

// open decodes the content of a file.
func (b *Book) open(name string, data []byte) (*Person, error) {
	sealed, ok := bytes.CutPrefix(data, []byte(header))
	if !ok || len(sealed) < b.seal.NonceSize() {
		return nil, fmt.Errorf("%s: not a file of this folder's kind", name)
	}
	n := b.seal.NonceSize()
	plain, err := b.seal.Open(nil, sealed[:n], sealed[n:], []byte(header+name))
	if err != nil {
		return nil, fmt.Errorf("%s: damaged, or of another key", name)
	}
	p := new(Person)
	if err := json.Unmarshal(plain, p); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return p, nil
}

// Of returns the certificates of a in DER, the one seen last first.
func (b *Book) Of(a mail.Address) ([][]byte, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	p, err := b.read(b.file(a))
	if err != nil || p == nil {
		return nil, err
	}
	var out [][]byte
	for _, c := range p.Certificates {
		out = append(out, c.DER)
	}
	return out, nil
}

// All calls f for every address, in no order that means anything.
func (b *Book) All(f func(Person) error) error {
	names, err := b.files()
	if err != nil {
		return err
	}
	for _, name := range names {
		b.mu.Lock()
		p, err := b.read(name)
		b.mu.Unlock()
		if err == nil && p != nil {
			err = f(*p)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
