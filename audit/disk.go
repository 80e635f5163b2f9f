package audit

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"syscall"
)

// disk is the little that the writer does to its directory. Tests make each step fail.
type disk interface {
	// create makes a file, or empties the one that is there.
	create(name string) (diskFile, error)
	mkdir(name string) error
	rename(from, to string) error
	// remove removes a file or an empty folder.
	remove(name string) error
	syncDir(name string) error
}

type diskFile interface {
	io.WriteCloser
	Sync() error
}

// rootDisk is the real one.
type rootDisk struct{ root *os.Root }

func (d rootDisk) create(name string) (diskFile, error) {
	return d.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o640)
}
func (d rootDisk) mkdir(name string) error      { return d.root.Mkdir(name, 0o750) }
func (d rootDisk) rename(from, to string) error { return d.root.Rename(from, to) }
func (d rootDisk) remove(name string) error     { return d.root.Remove(name) }

func (d rootDisk) syncDir(name string) error {
	f, err := d.root.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}

// unknownError is a failure after which it is not known what is on disk.
type unknownError struct{ err error }

func (e *unknownError) Error() string { return e.err.Error() }
func (e *unknownError) Unwrap() error { return e.err }

// syncError marks the error of a flush: what was to be flushed may be there or not, and a
// second flush would not tell. Only a lack of space is plain.
func syncError(err error) error {
	if err == nil || noSpace(err) {
		return err
	}
	return &unknownError{fmt.Errorf("flushing: %w", err)}
}

// noSpace says whether err may heal by somebody making room.
func noSpace(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}

// unknown says whether after err it is not known what is on disk.
func unknown(err error) bool {
	var u *unknownError
	return errors.As(err, &u)
}

// writeFiles writes files, then flushes them and the folders dirs side by side: the
// system then needs few journal commits for all of them.
func writeFiles(d disk, files []file, dirs []string) error {
	open := make([]diskFile, 0, len(files))
	var failed error
	for _, f := range files {
		out, err := d.create(f.name)
		if err != nil {
			failed = err
			break
		}
		open = append(open, out)
		if _, err := out.Write(f.data); err != nil {
			failed = err
			break
		}
	}
	var wait sync.WaitGroup
	errs := make([]error, len(open)+len(dirs))
	for i, f := range open {
		wait.Go(func() {
			if failed == nil {
				errs[i] = syncError(f.Sync())
			}
			errs[i] = errors.Join(errs[i], f.Close())
		})
	}
	if failed == nil {
		for i, dir := range dirs {
			wait.Go(func() { errs[len(open)+i] = syncError(d.syncDir(dir)) })
		}
	}
	wait.Wait()
	return errors.Join(append(errs, failed)...)
}
