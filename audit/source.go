package audit

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
)

// source gives the files of a log, whatever holds them. Its errors are Faults.
type source interface {
	// read returns a whole file, of limit bytes at most.
	read(name string, limit int64) ([]byte, error)
	// hasCosigned says whether there is a checkpoint.cosigned, the one file that a log may have or not.
	hasCosigned() bool
	// exactly checks that the files are those of a log of size records, and no others.
	// It is called once, after audit.pub and checkpoint have been read.
	exactly(size int64) error
	// release lets the writer of a running log go on. What was read before is kept; else
	// only full tiles may be read from then on: they never change.
	release()
	close()
	// totals are the number and size of the files.
	totals() (files int, bytes int64)
}

// openSource opens the log at path, which is a directory or a bundle.
func openSource(ctx context.Context, path string) (source, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrCannotOpen, err)
	}
	switch {
	case info.IsDir():
		return openDir(ctx, path)
	case info.Mode().IsRegular():
		return openBundle(path)
	}
	return nil, &Fault{Record: -1, Reason: "neither an audit directory nor a bundle"}
}

// dirSource is a log in its directory.
type dirSource struct {
	root  *os.Root
	lock  *os.File         // the directory itself
	files map[string]int64 // sizes
	dirs  map[string]bool  // below the log's own
	kept  map[string][]byte
	freed bool
}

// openDir opens a directory and holds its writer still until release.
func openDir(ctx context.Context, path string) (*dirSource, error) {
	root, err := os.OpenRoot(path)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrCannotOpen, err)
	}
	lock, err := root.Open(".")
	if err != nil {
		root.Close()
		return nil, fmt.Errorf("%w: %w", ErrCannotOpen, err)
	}
	d := &dirSource{root: root, lock: lock, kept: make(map[string][]byte)}
	if err := lockShared(ctx, lock); err != nil {
		d.close()
		return nil, fmt.Errorf("waiting for the writer: %w", err)
	}
	if err := d.list(); err != nil {
		d.close()
		return nil, err
	}
	return d, nil
}

// list learns which files and folders there are. Anything else is a fault.
func (d *dirSource) list() error {
	d.files, d.dirs = make(map[string]int64), make(map[string]bool)
	return fs.WalkDir(d.root.FS(), ".", func(name string, e fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return faultOf(name, err)
		case name == ".":
		case e.IsDir():
			d.dirs[name] = true
		case e.Type().IsRegular():
			info, err := e.Info()
			if err != nil {
				return faultOf(name, err)
			}
			d.files[name] = info.Size()
		default:
			return faultAt(name, "is no plain file")
		}
		return nil
	})
}

func (d *dirSource) read(name string, limit int64) ([]byte, error) {
	if b, ok := d.kept[name]; ok {
		return b, nil
	}
	size, ok := d.files[name]
	if !ok {
		return nil, faultAt(name, "is missing")
	}
	if size > limit {
		return nil, faultAt(name, "is %d bytes long, more than the %d it can be", size, limit)
	}
	f, err := d.root.Open(filepath.FromSlash(name))
	if err != nil {
		return nil, faultOf(name, err)
	}
	defer f.Close()
	b := make([]byte, size+1)
	n, err := io.ReadFull(f, b)
	if err == nil || errors.Is(err, io.ErrUnexpectedEOF) && int64(n) < size || errors.Is(err, io.EOF) && size > 0 {
		return nil, faultAt(name, "changed while it was read")
	}
	if !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
		return nil, faultOf(name, err)
	}
	if !d.freed {
		d.kept[name] = b[:n]
	}
	return b[:n], nil
}

func (d *dirSource) hasCosigned() bool {
	_, ok := d.files[cosignedFile]
	return ok
}

// exactly compares the listing with what the checkpoint implies.
func (d *dirSource) exactly(size int64) error {
	strange, dirs := maps.Clone(d.files), maps.Clone(d.dirs)
	delete(strange, cosignedFile)
	for name := range filesOf(size) {
		if _, ok := strange[name]; !ok {
			return faultAt(name, "is missing")
		}
		delete(strange, name)
		for dir := range parents(name) {
			delete(dirs, dir)
		}
	}
	for dir := range dirs {
		strange[dir] = 0
	}
	if len(strange) > 0 {
		first := slices.Min(slices.Collect(maps.Keys(strange)))
		return faultAt(first, "is no part of a log of %d records", size)
	}
	return nil
}

func (d *dirSource) release() {
	d.freed = true
	unlock(d.lock)
}

func (d *dirSource) close() {
	d.lock.Close()
	d.root.Close()
}

func (d *dirSource) totals() (files int, bytes int64) {
	for _, size := range d.files {
		bytes += size
	}
	return len(d.files), bytes
}
