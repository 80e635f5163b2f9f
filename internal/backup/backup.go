// Package backup is the file format of backups: named entries, one after another, in a stream that is encrypted and
// authenticated in frames, so that it can be written and read without ever being held whole. The key of the stream is
// fresh for each file and stands in its head, wrapped by the keystore. docs/formats.md has the bytes.
package backup

import (
	"bytes"
	"context"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"cmmpd/internal/keys"
	"cmmpd/internal/mail"
)

// Kind says what a backup holds.
type Kind string

// The kinds.
const (
	Mail  Kind = "mail"  // everything but the key vault
	Vault Kind = "vault" // the key vault of the store
)

// Manifest is the first entry: what the rest is.
type Manifest struct {
	Kind    Kind      `json:"kind"`
	Store   string    `json:"store"` // the store's identity: a vault opens the mail of its own store alone
	Time    time.Time `json:"time"`  // when the backup began
	Program string    `json:"program"`
}

const (
	magic       = "CMMPDBAK"
	version     = 1
	headSize    = len(magic) + 4 + 2
	maxWrapped  = 1 << 12
	wrapKey     = "store" // of the service slot
	wrapAAD     = "cmmpd backup 1"
	manifest    = "manifest"
	maxManifest = 1 << 16
	maxName     = 1 << 10
	maxPiece    = 1 << 20
)

// frameKey is the key of the frames: it is bound to the head.
func frameKey(fileKey, head []byte) ([]byte, error) {
	salt := sha256.Sum256(head)
	return hkdf.Key(sha256.New, fileKey, salt[:], "cmmpd backup frames", 32)
}

// Writer writes a backup. It is not safe for concurrent use.
type Writer struct {
	frames *frameWriter
}

// NewWriter writes the head and the manifest.
func NewWriter(ctx context.Context, w io.Writer, ks keys.Keystore, m Manifest) (*Writer, error) {
	fileKey := make([]byte, 32)
	if _, err := rand.Read(fileKey); err != nil {
		return nil, err
	}
	defer clear(fileKey)
	wrapped, err := ks.Wrap(ctx, keys.Service, wrapKey, fileKey, []byte(wrapAAD))
	if err != nil {
		return nil, fmt.Errorf("wrapping the key of the backup: %w", err)
	}
	head := binary.LittleEndian.AppendUint32([]byte(magic), version)
	head = binary.LittleEndian.AppendUint16(head, uint16(len(wrapped)))
	head = append(head, wrapped...)
	key, err := frameKey(fileKey, head)
	if err != nil {
		return nil, err
	}
	frames, err := newFrameWriter(w, key)
	if err != nil {
		return nil, err
	}
	if _, err := w.Write(head); err != nil {
		return nil, err
	}
	b, err := json.Marshal(m)
	if err != nil {
		return nil, err
	}
	out := &Writer{frames}
	return out, out.Put(manifest, func(w io.Writer) error {
		_, err := w.Write(b)
		return err
	})
}

// Put adds the entry whose content fill writes.
func (w *Writer) Put(name string, fill func(io.Writer) error) error {
	if name == "" || len(name) > maxName {
		return mail.E(mail.Invalid, "", fmt.Errorf("the name of an entry has %d octets", len(name)))
	}
	head := binary.LittleEndian.AppendUint16(nil, uint16(len(name)))
	if _, err := w.frames.Write(append(head, name...)); err != nil {
		return err
	}
	if err := fill(pieces{w.frames}); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	_, err := w.frames.Write(make([]byte, 4))
	return err
}

// pieces gives what is written a length in front.
type pieces struct{ w io.Writer }

func (p pieces) Write(b []byte) (n int, err error) {
	for n < len(b) {
		piece := b[n:min(n+maxPiece, len(b))]
		if _, err := p.w.Write(binary.LittleEndian.AppendUint32(nil, uint32(len(piece)))); err != nil {
			return n, err
		}
		m, err := p.w.Write(piece)
		if n += m; err != nil {
			return n, err
		}
	}
	return n, nil
}

// Close writes the end. Without it a backup is not whole.
func (w *Writer) Close() error {
	if _, err := w.frames.Write(make([]byte, 2)); err != nil {
		return err
	}
	return w.frames.close()
}

// Reader reads a backup. It is not safe for concurrent use.
type Reader struct {
	Manifest Manifest
	entries  *entryReader
}

// NewReader reads the head and the manifest. The error is of kind mail.Corrupt if r is no backup, is damaged or was
// made with another keystore, mail.Unsupported if it is of a newer version.
func NewReader(ctx context.Context, r io.Reader, ks keys.Keystore) (*Reader, error) {
	head := make([]byte, headSize)
	if _, err := io.ReadFull(r, head); err != nil || string(head[:len(magic)]) != magic {
		return nil, corrupt(errors.New("not a backup of ours"))
	}
	if v := binary.LittleEndian.Uint32(head[len(magic):]); v > version {
		return nil, mail.E(mail.Unsupported, "", fmt.Errorf("a backup of version %d; this program knows versions up to %d", v, version))
	} else if v != version {
		return nil, corrupt(fmt.Errorf("version %d is unknown", v))
	}
	n := int(binary.LittleEndian.Uint16(head[len(magic)+4:]))
	if n > maxWrapped {
		return nil, corrupt(errors.New("the head is too long"))
	}
	head = append(head, make([]byte, n)...)
	if _, err := io.ReadFull(r, head[headSize:]); err != nil {
		return nil, corrupt(err)
	}
	fileKey, err := ks.Unwrap(ctx, keys.Service, wrapKey, head[headSize:], []byte(wrapAAD))
	if err != nil {
		return nil, fmt.Errorf("the backup is damaged, or was made with another keystore: %w", err)
	}
	defer clear(fileKey)
	key, err := frameKey(fileKey, head)
	if err != nil {
		return nil, err
	}
	frames, err := newFrameReader(r, key)
	if err != nil {
		return nil, err
	}
	out := &Reader{entries: &entryReader{r: frames}}
	name, body, err := out.Next()
	if err != nil || name != manifest {
		return nil, errors.Join(corrupt(errors.New("the manifest is missing")), err)
	}
	b, err := io.ReadAll(io.LimitReader(body, maxManifest))
	if err != nil {
		return nil, err
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&out.Manifest); err != nil {
		return nil, corrupt(fmt.Errorf("manifest: %w", err))
	}
	return out, nil
}

// Next is the next entry; what was not read of the one before is passed over. io.EOF comes only when the whole backup
// was found to be good up to its end.
func (r *Reader) Next() (name string, body io.Reader, err error) { return r.entries.next() }

func corrupt(err error) error {
	return mail.E(mail.Corrupt, "", fmt.Errorf("the backup is damaged: %w", err))
}

// entryReader takes the entries out of the decrypted stream.
type entryReader struct {
	r    io.Reader
	open *entry
	over bool
}

// entry is the content of one entry.
type entry struct {
	r     io.Reader
	piece int // what is left of the current piece
	done  bool
}

func (e *entry) Read(p []byte) (int, error) {
	if e.done {
		return 0, io.EOF
	}
	if len(p) == 0 {
		return 0, nil
	}
	if e.piece == 0 {
		var b [4]byte
		if _, err := io.ReadFull(e.r, b[:]); err != nil {
			return 0, truncated(err)
		}
		n := binary.LittleEndian.Uint32(b[:])
		if n > maxPiece {
			return 0, corrupt(fmt.Errorf("a piece of %d octets", n))
		}
		if n == 0 {
			e.done = true
			return 0, io.EOF
		}
		e.piece = int(n)
	}
	n, err := e.r.Read(p[:min(len(p), e.piece)])
	e.piece -= n
	return n, truncated(err)
}

func (r *entryReader) next() (string, io.Reader, error) {
	if r.over {
		return "", nil, io.EOF
	}
	if r.open != nil {
		if _, err := io.Copy(io.Discard, r.open); err != nil {
			return "", nil, err
		}
	}
	var b [2]byte
	if _, err := io.ReadFull(r.r, b[:]); err != nil {
		return "", nil, truncated(err)
	}
	n := int(binary.LittleEndian.Uint16(b[:]))
	switch {
	case n > maxName:
		return "", nil, corrupt(fmt.Errorf("a name of %d octets", n))
	case n == 0:
		if n, err := r.r.Read(b[:1]); n > 0 || !errors.Is(err, io.EOF) {
			return "", nil, errors.Join(corrupt(errors.New("something follows the end")), err)
		}
		r.over = true
		return "", nil, io.EOF
	}
	name := make([]byte, n)
	if _, err := io.ReadFull(r.r, name); err != nil {
		return "", nil, truncated(err)
	}
	r.open = &entry{r: r.r}
	return string(name), r.open, nil
}

// truncated makes an end where none may be an error.
func truncated(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return corrupt(errors.New("it ends too early"))
	}
	return err
}
