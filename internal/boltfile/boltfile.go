// Package boltfile is bbolt files in which a wrong bit is noticed. bbolt has no checksums but those of its two first pages, and follows
// what its pages say without looking, so that a wrong bit can end the program, or hide keys. Here the pages are looked at when a file is opened
// (check.go), each value has a checksum of it and its key, and what happens all the same when bbolt follows a wrong pointer is an error.
package boltfile

import (
	"errors"
	"fmt"
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

// Options say how a file is used.
type Options struct {
	Buckets     [][]byte // what a new file has
	Damaged     string   // the sentence for strangers when something is damaged
	Mmap        int      // address space, not memory: while the file is smaller, growing it never waits for readers
	FillPercent float64  // how full pages are made that are split, 0 to 1
	Leaves      bool     // the leaves are looked at too when the file is opened, which reads all of it
}

// DB is an open file. Its methods may be called concurrently; one Update runs at a time. What is damaged is an error of kind mail.Corrupt.
type DB struct {
	bolt *bbolt.DB
	o    Options
}

func (o *Options) damaged(path string, cause any) error {
	return mail.E(mail.Corrupt, o.Damaged, fmt.Errorf("%s: %v", filepath.Base(path), cause))
}

// guard turns what happens when bbolt follows a wrong pointer, out of its file or out of a slice, into an error.
func (d *DB) guard(f func() error) error { return d.o.guard(d.bolt.Path(), f) }

func (o *Options) guard(path string, f func() error) (err error) {
	old := debug.SetPanicOnFault(true)
	defer func() {
		debug.SetPanicOnFault(old)
		if r := recover(); r != nil {
			err = o.damaged(path, r)
		}
	}()
	return f()
}

// Open opens the file, and makes it if it is absent: under a temporary name first, for a bbolt file that was cut short while it was made cannot
// be opened. The error is of kind mail.Busy if another process has it open.
func Open(fsys durable.FS, path string, o Options) (*DB, error) {
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		if err := create(fsys, path, o.Buckets); err != nil {
			return nil, err
		}
	} else if err != nil {
		return nil, err
	}
	d := &DB{o: o}
	var file *os.File
	err := o.guard(path, func() (err error) {
		d.bolt, err = bbolt.Open(path, 0o600, &bbolt.Options{
			FreelistType: bbolt.FreelistMapType, InitialMmapSize: o.Mmap, NoStatistics: true,
			OpenFile: func(name string, _ int, _ os.FileMode) (*os.File, error) {
				f, err := d.openSound(name)
				file = f
				return f, err
			},
		})
		return err
	})
	if err != nil && file != nil {
		_ = file.Close() // bbolt has closed it, unless the guard was needed
	}
	if err != nil {
		return nil, err
	}
	return d, nil
}

// openSound opens the file itself, locked, when its pages are found to be good.
func (d *DB) openSound(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	if err = lock(f); err == nil {
		err = rewriteMeta(f)
	}
	if err == nil {
		err = d.sound(f)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

func (d *DB) sound(f *os.File) error {
	st, err := f.Stat()
	if err != nil {
		return err
	}
	if err := inspect(f, st.Size(), d.o.Leaves); errors.Is(err, errUnsound) {
		return d.o.damaged(f.Name(), err)
	} else if err != nil {
		return err
	}
	return nil
}

// lock takes the lock that bbolt takes, and waits for a second at most, as for a process that is about to end.
func lock(f *os.File) error {
	for range 20 {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return err
		}
		time.Sleep(50 * time.Millisecond)
	}
	return mail.E(mail.Busy, "", fmt.Errorf("another process has %s open", f.Name()))
}

// metaSize is at least the two pages at the beginning of the file that say where all else is.
const metaSize = 2 * 64 << 10

// rewriteMeta writes the beginning of the file over itself and flushes it. If its last flush failed it may be in the page
// cache only, looking written; then the next commit would use pages again that the disk's older beginning still refers to.
func rewriteMeta(f *os.File) error {
	b := make([]byte, metaSize)
	n, err := f.ReadAt(b, 0)
	if n == 0 && !errors.Is(err, io.EOF) {
		return err
	}
	if _, err := f.WriteAt(b[:n], 0); err != nil {
		return err
	}
	return f.Sync()
}

func create(fsys durable.FS, path string, buckets [][]byte) error {
	temp := path + durable.TempSuffix
	if err := fsys.Remove(temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	db, err := bbolt.Open(temp, 0o600, nil)
	if err != nil {
		return err
	}
	err = db.Update(func(tx *bbolt.Tx) error {
		for _, name := range buckets {
			if _, err := tx.CreateBucketIfNotExists(name); err != nil {
				return err
			}
		}
		return nil
	})
	if err = errors.Join(err, db.Sync(), db.Close()); err != nil {
		return err
	}
	if err := fsys.Rename(temp, path); err != nil {
		return err
	}
	return fsys.SyncDir(filepath.Dir(path))
}

// View runs f on one state of the file. If it came upon damage, what it has found is not to be believed, and the error says so.
func (d *DB) View(f func(*Tx) error) error {
	return d.bolt.View(func(tx *bbolt.Tx) error {
		t := &Tx{db: d, tx: tx}
		err := f(t)
		if t.bad != nil {
			return t.bad
		}
		return err
	})
}

// Update runs f and makes its changes durable, all or none. If f returns an error, or came upon damage, nothing is changed.
func (d *DB) Update(f func(*Tx) error) error {
	return d.guard(func() error {
		return d.bolt.Update(func(tx *bbolt.Tx) error {
			t := &Tx{db: d, tx: tx}
			err := f(t)
			if t.bad != nil {
				return t.bad
			}
			return err
		})
	})
}

// Release gives memory back. Pages of the file that were read stay mapped until somebody else needs the memory, and count as
// the program's until then. In the page cache they stay, so reading them again is quick.
func (d *DB) Release() error {
	return d.bolt.View(func(*bbolt.Tx) error { // while it runs the file is not mapped anew
		st, err := os.Stat(d.bolt.Path())
		if err != nil {
			return err
		}
		size := uintptr(max(st.Size(), 0))
		if _, _, errno := unix.Syscall(unix.SYS_MADVISE, d.bolt.Info().Data, size, unix.MADV_DONTNEED); errno != 0 {
			return errno
		}
		return nil
	})
}

// Close closes the file.
func (d *DB) Close() error { return d.bolt.Close() }
