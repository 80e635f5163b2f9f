package engine

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"go.etcd.io/bbolt"

	"cmmpd/internal/durable"
)

// Bolt is an Engine on one bbolt file.
type Bolt struct{ db *bbolt.DB }

var (
	_ Engine = (*Bolt)(nil)

	bucketName = []byte("kv")
)

// initialMmap is address space, not memory: while the file is smaller, growing it never waits for readers.
const initialMmap = 4 << 30

// OpenBolt opens the file, and makes it if it is absent: under a temporary name first, for a bbolt file that was cut
// short while it was made cannot be opened.
func OpenBolt(fsys durable.FS, path string) (*Bolt, error) {
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		if err := createBolt(fsys, path); err != nil {
			return nil, err
		}
	} else if err != nil {
		return nil, err
	}
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{
		Timeout: time.Second, FreelistType: bbolt.FreelistMapType, InitialMmapSize: initialMmap, NoStatistics: true,
	})
	if err != nil {
		return nil, err
	}
	return &Bolt{db}, nil
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

type boltTx struct{ b *bbolt.Bucket }

func (t boltTx) Get(key []byte) []byte { return t.b.Get(key) }

func (t boltTx) Scan(prefix, from []byte, f func(key, value []byte) bool) {
	c := t.b.Cursor()
	for k, v := c.Seek(start(prefix, from)); k != nil && bytes.HasPrefix(k, prefix); k, v = c.Next() {
		if !f(k, v) {
			return
		}
	}
}

func (t boltTx) Put(key, value []byte) error { return t.b.Put(key, value) }
func (t boltTx) Delete(key []byte) error     { return t.b.Delete(key) }

// View satisfies Engine.
func (e *Bolt) View(f func(Reader) error) error {
	return e.db.View(func(tx *bbolt.Tx) error { return f(boltTx{tx.Bucket(bucketName)}) })
}

// Update satisfies Engine.
func (e *Bolt) Update(f func(Writer) error) error {
	return e.db.Update(func(tx *bbolt.Tx) error { return f(boltTx{tx.Bucket(bucketName)}) })
}

// Close satisfies Engine.
func (e *Bolt) Close() error { return e.db.Close() }
