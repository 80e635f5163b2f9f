// Package names is the table of values that the records of the audit log have only as digests: personal data that may
// have to be erased, which the log itself never can be. A row is a value and its salt, sealed; erasing rows writes the
// file anew without them.
package names

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"sync"
	"time"

	"cmmpd/audit"
	"cmmpd/internal/boltfile"
	"cmmpd/internal/durable"
	"cmmpd/internal/mail"
)

// Row is a Name with the days, in UTC, on which it was first and last put into a record.
type Row struct {
	audit.Name
	First, Last time.Time
}

// The buckets: digest to row, and blind hash of a value to its digest.
var buckets = [][]byte{[]byte("rows"), []byte("values")}

const (
	rowVersion = 1
	saltSize   = 32
	maxValue   = 64 << 10
	maxCached  = 1 << 16 // rows that are kept in memory, each way
)

// Table is the table. Its methods may be called by several goroutines at once.
type Table struct {
	path string
	seal cipher.AEAD
	name []byte // key of the blind hashes

	mu    sync.Mutex
	db    *boltfile.DB // nil if it was lost when the file was written anew
	known map[string]known
	shown map[audit.Digest]audit.Name
}

// known is what is remembered of a value.
type known struct {
	digest audit.Digest
	last   uint32
}

// Open opens the table, and makes an empty one if there is none. key is 32 secret octets, always the same for one file.
// Kind Busy if another process has it open, Corrupt if it is damaged.
func Open(path string, key []byte) (*Table, error) {
	if len(key) != 32 {
		return nil, errors.New("names: the key has not 32 octets")
	}
	sealKey, err := hkdf.Key(sha256.New, key, nil, "cmmpd audit names 1 seal", 32)
	if err != nil {
		return nil, err
	}
	t := &Table{path: path}
	if t.name, err = hkdf.Key(sha256.New, key, nil, "cmmpd audit names 1 value", 32); err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(sealKey)
	if err != nil {
		return nil, err
	}
	if t.seal, err = cipher.NewGCM(block); err != nil {
		return nil, err
	}
	if err := (durable.OS{}).Remove(path + freshSuffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	t.forgetCached()
	t.db, err = openFile(path)
	return t, err
}

func openFile(path string) (*boltfile.DB, error) {
	return boltfile.Open(durable.OS{}, path, boltfile.Options{Buckets: buckets, Damaged: "the table of names is damaged", Mmap: 64 << 20, Leaves: true})
}

func (t *Table) forgetCached() {
	t.known, t.shown = make(map[string]known), make(map[audit.Digest]audit.Name)
}

// Close closes the table.
func (t *Table) Close() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.db == nil {
		return nil
	}
	err := t.db.Close()
	t.db = nil
	return err
}

var errClosed = errors.New("the table of names is closed")

// day is a time as rows have it.
func day(at time.Time) uint32 { return uint32(max(at.Unix()/(24*60*60), 0)) }

func timeOf(day uint32) time.Time { return time.Unix(int64(day)*24*60*60, 0).UTC() }

// blind is the key of a value in its bucket.
func (t *Table) blind(value string) []byte {
	h := hmac.New(sha256.New, t.name)
	h.Write([]byte(value))
	return h.Sum(nil)
}

// Hide is that of audit.Names. It writes only what is new, and each row once a day at most.
func (t *Table) Hide(values []string, at time.Time) ([]audit.Digest, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.db == nil {
		return nil, errClosed
	}
	today := day(at)
	out := make([]audit.Digest, len(values))
	var missing []int
	for i, v := range values {
		if k, ok := t.known[v]; ok && k.last >= today {
			out[i] = k.digest
		} else {
			missing = append(missing, i)
		}
	}
	if len(missing) == 0 {
		return out, nil
	}
	fresh := make([]known, len(missing))
	err := t.db.Update(func(tx *boltfile.Tx) error {
		for n, i := range missing {
			var err error
			if fresh[n], err = t.row(tx, values[i], today); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("the table of names: %w", err)
	}
	if len(t.known)+len(missing) > maxCached {
		t.forgetCached()
	}
	for n, i := range missing {
		out[i] = fresh[n].digest
		t.known[values[i]] = fresh[n]
	}
	return out, nil
}

// row finds the row of a value, or makes it, and has it know of today.
func (t *Table) row(tx *boltfile.Tx, value string, today uint32) (known, error) {
	if len(value) > maxValue {
		return known{}, errors.New("a value is too long")
	}
	rows, values := tx.Bucket(buckets[0]), tx.Bucket(buckets[1])
	blind := t.blind(value)
	if b := values.Get(blind); len(b) == sha256.Size {
		d := audit.Digest(b)
		n, first, last, err := t.open(d, rows.Get(d[:]))
		if err != nil || n.Value != value {
			return known{}, errors.Join(damaged, err)
		}
		if last >= today {
			return known{d, last}, nil
		}
		return known{d, today}, rows.Put(d[:], t.sealed(d, n, first, today))
	}
	n := audit.Name{Salt: make([]byte, saltSize), Value: value}
	if _, err := rand.Read(n.Salt); err != nil {
		return known{}, err
	}
	d := n.Digest()
	if err := rows.Put(d[:], t.sealed(d, n, today, today)); err != nil {
		return known{}, err
	}
	return known{d, today}, values.Put(blind, d[:])
}

var damaged = mail.E(mail.Corrupt, "", errors.New("a row of the table of names is damaged, or of another key"))

// sealed encodes a row: version, days, length of the salt, salt, value; under AES-256-GCM with a random nonce before it.
func (t *Table) sealed(d audit.Digest, n audit.Name, first, last uint32) []byte {
	plain := binary.BigEndian.AppendUint32([]byte{rowVersion}, first)
	plain = binary.BigEndian.AppendUint32(plain, last)
	plain = append(plain, byte(len(n.Salt)))
	plain = append(append(plain, n.Salt...), n.Value...)
	nonce := make([]byte, t.seal.NonceSize(), t.seal.NonceSize()+len(plain)+t.seal.Overhead())
	_, _ = rand.Read(nonce) // never fails
	return t.seal.Seal(nonce, nonce, plain, d[:])
}

func (t *Table) open(d audit.Digest, b []byte) (n audit.Name, first, last uint32, err error) {
	if len(b) < t.seal.NonceSize() {
		return n, 0, 0, damaged
	}
	plain, err := t.seal.Open(nil, b[:t.seal.NonceSize()], b[t.seal.NonceSize():], d[:])
	if err != nil || len(plain) < 10 || plain[0] != rowVersion {
		return n, 0, 0, damaged
	}
	first, last = binary.BigEndian.Uint32(plain[1:]), binary.BigEndian.Uint32(plain[5:])
	salt := int(plain[9])
	if plain = plain[10:]; salt < audit.MinSalt || len(plain) < salt {
		return n, 0, 0, damaged
	}
	n = audit.Name{Salt: plain[:salt:salt], Value: string(plain[salt:])}
	if n.Digest() != d {
		return n, 0, 0, damaged
	}
	return n, first, last, nil
}

// Reveal is that of audit.Names.
func (t *Table) Reveal(d audit.Digest) (n audit.Name, ok bool, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if n, ok := t.shown[d]; ok {
		return n, true, nil
	}
	if t.db == nil {
		return n, false, errClosed
	}
	err = t.db.View(func(tx *boltfile.Tx) error {
		b := tx.Bucket(buckets[0]).Get(d[:])
		if b == nil {
			return nil
		}
		ok = true
		n, _, _, err = t.open(d, b)
		return err
	})
	if err != nil || !ok {
		return audit.Name{}, false, err
	}
	if len(t.shown) >= maxCached {
		clear(t.shown)
	}
	t.shown[d] = n
	return n, true, nil
}

// All is that of audit.Names.
func (t *Table) All(f func(audit.Name) error) error {
	return t.Rows(func(r Row) error { return f(r.Name) })
}

// Rows calls f for every row, by ascending digest. Rows that come or go meanwhile may be missed; nobody waits for f.
func (t *Table) Rows(f func(Row) error) error {
	const some = 512
	for from := []byte(nil); ; {
		rows := make([]Row, 0, some)
		t.mu.Lock()
		err := t.all(from, func(r Row) error {
			if rows = append(rows, r); len(rows) == some {
				return errEnough
			}
			return nil
		})
		t.mu.Unlock()
		if err != nil && !errors.Is(err, errEnough) {
			return err
		}
		for _, r := range rows {
			if err := f(r); err != nil {
				return err
			}
		}
		if len(rows) < some {
			return nil
		}
		d := rows[some-1].Digest()
		from = append(d[:], 0)
	}
}

var errEnough = errors.New("enough")

// Add puts rows into the table, as of a backup.
func (t *Table) Add(rows ...Row) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.db == nil {
		return errClosed
	}
	return t.put(t.db, rows)
}

// all calls f for every row from a key on; t.mu is held.
func (t *Table) all(from []byte, f func(Row) error) error {
	if t.db == nil {
		return errClosed
	}
	return t.db.View(func(tx *boltfile.Tx) (err error) {
		tx.Bucket(buckets[0]).Scan(nil, from, func(k, v []byte) bool {
			if len(k) != sha256.Size {
				err = damaged
				return false
			}
			var n audit.Name
			var first, last uint32
			if n, first, last, err = t.open(audit.Digest(k), v); err == nil {
				err = f(Row{n, timeOf(first), timeOf(last)})
			}
			return err == nil
		})
		return err
	})
}

const freshSuffix = ".fresh"

// Forget erases the rows of which gone says so, and returns how many. The file is written anew without them: what was
// erased is in no file of ours when it returns. Records wait meanwhile.
func (t *Table) Forget(gone func(Row) bool) (erased int, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	var kept []Row
	fresh := t.path + freshSuffix
	if err := (durable.OS{}).Remove(fresh); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return 0, err
	}
	db, err := openFile(fresh)
	if err != nil {
		return 0, err
	}
	err = t.all(nil, func(r Row) error {
		if gone(r) {
			erased++
			return nil
		}
		kept = append(kept, r)
		if len(kept) == cap(kept) && len(kept) >= 1024 {
			err := t.put(db, kept)
			kept = kept[:0]
			return err
		}
		return nil
	})
	if err == nil {
		err = t.put(db, kept)
	}
	if err = errors.Join(err, db.Close()); err != nil || erased == 0 {
		return 0, errors.Join(err, (durable.OS{}).Remove(fresh))
	}
	return erased, t.replace(fresh)
}

// replace puts the file written anew in the place of the old one.
func (t *Table) replace(fresh string) error {
	fsys := durable.OS{}
	if err := fsys.Rename(fresh, t.path); err != nil {
		return err
	}
	t.forgetCached()
	err := errors.Join(fsys.SyncDir(filepath.Dir(t.path)), t.db.Close())
	if t.db = nil; err != nil {
		return err
	}
	t.db, err = openFile(t.path)
	return err
}

// put writes rows in one act.
func (t *Table) put(db *boltfile.DB, rows []Row) error {
	return db.Update(func(tx *boltfile.Tx) error {
		for _, r := range rows {
			d := r.Digest()
			if err := tx.Bucket(buckets[0]).Put(d[:], t.sealed(d, r.Name, day(r.First), day(r.Last))); err != nil {
				return err
			}
			if err := tx.Bucket(buckets[1]).Put(t.blind(r.Value), d[:]); err != nil {
				return err
			}
		}
		return nil
	})
}
