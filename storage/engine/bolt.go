package engine

import (
	"errors"

	"cmmpd/internal/boltfile"
	"cmmpd/internal/durable"
)

// Bolt is an Engine on one bbolt file, in which a wrong bit is noticed: what is damaged is an error of kind mail.Corrupt.
type Bolt struct{ file *boltfile.DB }

var (
	_ Engine = (*Bolt)(nil)

	bucketName = []byte("kv2")
	oldBucket  = []byte("kv") // in which values had no checksums
)

// initialMmap is address space, not memory: while the file is smaller, growing it never waits for readers.
const initialMmap = 4 << 30

// fillPercent is how full pages are made that are split. Most keys come in ascending order, of each mailbox at least, and never go
// between others: bbolt's half would leave the half of the file empty.
const fillPercent = 0.8

// OpenBolt opens the file, and makes it if it is absent. A file without checksums is made anew, empty. No other process may have it
// open.
func OpenBolt(fsys durable.FS, path string) (*Bolt, error) {
	o := boltfile.Options{Buckets: [][]byte{bucketName}, Damaged: "the mail store is damaged", Mmap: initialMmap, FillPercent: fillPercent}
	file, err := boltfile.Open(fsys, path, o)
	if err != nil {
		return nil, err
	}
	e, old := &Bolt{file}, false
	err = file.View(func(tx *boltfile.Tx) error {
		if old = !tx.Has(bucketName) && tx.Has(oldBucket); !old {
			tx.Bucket(bucketName) // it is there, or that is damage
		}
		return nil
	})
	if err == nil && !old {
		return e, nil
	}
	if err = errors.Join(err, file.Close()); err != nil {
		return nil, err
	}
	if err := fsys.Remove(path); err != nil {
		return nil, err
	}
	return OpenBolt(fsys, path)
}

// View satisfies Engine.
func (e *Bolt) View(f func(Reader) error) error {
	return e.file.View(func(tx *boltfile.Tx) error { return f(tx.Bucket(bucketName)) })
}

// Update satisfies Engine.
func (e *Bolt) Update(f func(Writer) error) error {
	return e.file.Update(func(tx *boltfile.Tx) error { return f(tx.Bucket(bucketName)) })
}

// Release satisfies Engine.
func (e *Bolt) Release() error { return e.file.Release() }

// Close satisfies Engine.
func (e *Bolt) Close() error { return e.file.Close() }
