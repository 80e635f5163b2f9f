package engine

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime/debug"
	"time"

	"go.etcd.io/bbolt"
	"golang.org/x/sys/unix"

	"cmmpd/internal/durable"
	"cmmpd/internal/mail"
)

// Bolt is an Engine on one bbolt file. A value is kept with a checksum of it and its key: bbolt has none, and trusts its
// pages so much that a wrong bit in one can end the program. What is damaged is an error of kind mail.Corrupt here.
type Bolt struct{ db *bbolt.DB }

var (
	_ Engine = (*Bolt)(nil)

	bucketName = []byte("kv2") // in "kv" values had no checksums
	castagnoli = crc32.MakeTable(crc32.Castagnoli)
)

const sumSize = 4

func damaged(cause any) error {
	return mail.E(mail.Corrupt, "the mail store is damaged", fmt.Errorf("index: %v", cause))
}

// guard turns what happens when bbolt follows a wrong pointer, out of its file or out of a slice, into an error.
func guard(f func() error) (err error) {
	old := debug.SetPanicOnFault(true)
	defer func() {
		debug.SetPanicOnFault(old)
		if r := recover(); r != nil {
			err = damaged(r)
		}
	}()
	return f()
}

// initialMmap is address space, not memory: while the file is smaller, growing it never waits for readers.
const initialMmap = 4 << 30

// OpenBolt opens the file, and makes it if it is absent: under a temporary name first, for a bbolt file that was cut
// short while it was made cannot be opened. A file without checksums is made anew, empty. No other process may have it
// open.
func OpenBolt(fsys durable.FS, path string) (*Bolt, error) {
	if err := rewriteMeta(path); errors.Is(err, fs.ErrNotExist) {
		if err := createBolt(fsys, path); err != nil {
			return nil, err
		}
	} else if err != nil {
		return nil, err
	}
	e := &Bolt{}
	err := guard(func() (err error) {
		e.db, err = bbolt.Open(path, 0o600, &bbolt.Options{
			Timeout: time.Second, FreelistType: bbolt.FreelistMapType, InitialMmapSize: initialMmap, NoStatistics: true,
		})
		return err
	})
	if err != nil {
		return nil, err
	}
	old := false
	err = guard(func() error {
		return e.db.View(func(tx *bbolt.Tx) error {
			if b := tx.Bucket(bucketName); b != nil && b.Root() == 0 {
				return nil // it is so small that it has no page of its own
			} else if b != nil {
				if err := checkBranches(tx, uint64(b.Root())); err != nil {
					return damaged(err)
				}
				return nil
			}
			if old = tx.Bucket([]byte("kv")) != nil; !old {
				return damaged("its bucket is missing")
			}
			return nil
		})
	})
	if err == nil && !old {
		return e, nil
	}
	if err = errors.Join(err, e.db.Close()); err != nil {
		return nil, err
	}
	if err := fsys.Remove(path); err != nil {
		return nil, err
	}
	return OpenBolt(fsys, path)
}

// metaSize is at least the two pages at the beginning of the file that say where all else is.
const metaSize = 2 * 64 << 10

// rewriteMeta writes the beginning of the file over itself and flushes it. If its last flush failed it may be in the page
// cache only, looking written; then the next commit would use pages again that the disk's older beginning still refers to.
func rewriteMeta(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	b := make([]byte, metaSize)
	n, err := f.ReadAt(b, 0)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	if err == nil {
		_, err = f.WriteAt(b[:n], 0)
	}
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

func createBolt(fsys durable.FS, path string) error {
	temp := path + durable.TempSuffix
	if err := fsys.Remove(temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	db, err := bbolt.Open(temp, 0o600, nil)
	if err != nil {
		return err
	}
	err = db.Update(func(tx *bbolt.Tx) error {
		_, err := tx.CreateBucketIfNotExists(bucketName)
		return err
	})
	if err = errors.Join(err, db.Sync(), db.Close()); err != nil {
		return err
	}
	if err := fsys.Rename(temp, path); err != nil {
		return err
	}
	return fsys.SyncDir(filepath.Dir(path))
}

// boltTx is a transaction. After damage it reads as empty, and err says so.
type boltTx struct {
	b    *bbolt.Bucket
	err  error
	room []byte // for values with their sums, which bbolt needs until the end of the transaction
}

// opened takes the sum off a value, which is nil if there is none.
func opened(key, value []byte) ([]byte, error) {
	if value == nil {
		return nil, nil
	}
	n := len(value) - sumSize
	if n < 0 || sumOf(key, value[:n]) != binary.LittleEndian.Uint32(value[n:]) {
		return nil, damaged("a checksum is wrong")
	}
	return value[:n:n], nil
}

func sumOf(key, value []byte) uint32 {
	return crc32.Update(crc32.Checksum(key, castagnoli), castagnoli, value)
}

func (t *boltTx) Get(key []byte) (value []byte) {
	if t.err == nil {
		t.err = guard(func() (err error) {
			value, err = opened(key, t.b.Get(key))
			return err
		})
	}
	return value
}

func (t *boltTx) Scan(prefix, from []byte, f func(key, value []byte) bool) {
	if t.err != nil {
		return
	}
	var c *bbolt.Cursor
	var k, v []byte
	step := func() (err error) {
		if c == nil {
			c = t.b.Cursor()
			k, v = c.Seek(start(prefix, from))
		} else {
			last := k
			if k, v = c.Next(); k != nil && bytes.Compare(k, last) <= 0 {
				return damaged("keys are out of order")
			}
		}
		if k == nil {
			return nil
		}
		v, err = opened(k, v)
		return err
	}
	for t.err == nil {
		if t.err = guard(step); t.err != nil || k == nil || !bytes.HasPrefix(k, prefix) || !f(k, v) {
			return
		}
	}
}

func (t *boltTx) Put(key, value []byte) error {
	n := len(value) + sumSize
	if len(t.room) < n {
		t.room = make([]byte, max(n, 64<<10))
	}
	b := append(t.room[:0:n], value...)
	b = binary.LittleEndian.AppendUint32(b, sumOf(key, value))
	t.room = t.room[n:]
	return t.b.Put(key, b)
}

func (t *boltTx) Delete(key []byte) error { return t.b.Delete(key) }

// View satisfies Engine.
func (e *Bolt) View(f func(Reader) error) error {
	return e.db.View(func(tx *bbolt.Tx) error {
		t := &boltTx{}
		t.err = guard(func() error {
			t.b = tx.Bucket(bucketName)
			return nil
		})
		err := f(t)
		if t.err != nil {
			return t.err
		}
		return err
	})
}

// Update satisfies Engine.
func (e *Bolt) Update(f func(Writer) error) error {
	return guard(func() error {
		return e.db.Update(func(tx *bbolt.Tx) error {
			t := &boltTx{b: tx.Bucket(bucketName)}
			if t.b != nil {
				t.b.FillPercent = fillPercent
			}
			err := f(t)
			if t.err != nil {
				return t.err
			}
			return err
		})
	})
}

// fillPercent is how full pages are made that are split. Most keys come in ascending order, of each mailbox at least, and never go
// between others: bbolt's half would leave the half of the file empty.
const fillPercent = 0.8

// Release satisfies Engine. Pages of the file that were read stay mapped until somebody else needs the memory, and count as
// the program's until then. In the page cache they stay, so reading them again is quick.
func (e *Bolt) Release() error {
	return e.db.View(func(*bbolt.Tx) error { // while it runs the file is not mapped anew
		st, err := os.Stat(e.db.Path())
		if err != nil {
			return err
		}
		size := uintptr(max(st.Size(), 0))
		if _, _, errno := unix.Syscall(unix.SYS_MADVISE, e.db.Info().Data, size, unix.MADV_DONTNEED); errno != 0 {
			return errno
		}
		return nil
	})
}

// Close satisfies Engine.
func (e *Bolt) Close() error { return e.db.Close() }
