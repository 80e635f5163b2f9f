// Package faultfs is a file system for tests: it fails where it is told to, and it knows what of all that was written a
// power cut would leave.
package faultfs

import (
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"syscall"

	"cmmpd/internal/durable"
)

// Mode says how an operation fails.
type Mode int

// The ways to fail.
const (
	Lost  Mode = iota // not done, and EIO
	Done              // done, and EIO all the same
	Short             // a write is done in part, and then there is no space; a flush is Lost
)

// FS passes everything on to the operating system. Its methods may be called concurrently.
type FS struct {
	durable.OS

	mu    sync.Mutex // guards what follows
	count int
	at    int // the operation that fails; 0: none
	mode  Mode
	files map[string]*state // by name, as they are
	disk  map[string]*state // by name, as a power cut leaves the directories
}

// state is a file, under whatever name.
type state struct {
	disk    []byte  // flushed
	pending []write // since the last flush
}

type write struct {
	off  int64
	data []byte // nil: cut to off
}

// New is a file system without faults.
func New() *FS {
	return &FS{files: make(map[string]*state), disk: make(map[string]*state)}
}

// Adopt takes the files below root as they are, flushed. Others that were there before are not known to PowerCut.
func (f *FS) Adopt(root string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		s := &state{disk: b}
		f.files[path], f.disk[path] = s, s
		return err
	})
}

// FailAt makes the n-th operation from now on fail (1 is the next): writes, truncations, flushes, flushes of
// directories, openings for creation, renamings, removals.
func (f *FS) FailAt(n int, mode Mode) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.count, f.at, f.mode = 0, n, mode
}

// Count is the number of operations since FailAt or the beginning.
func (f *FS) Count() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.count
}

// step counts an operation and says whether it is to be done and what to return. f.mu is held.
func (f *FS) step() (do bool, err error) {
	f.count++
	if f.at == 0 || f.count != f.at {
		return true, nil
	}
	return f.mode == Done, syscall.EIO
}

// Open satisfies durable.FS.
func (f *FS) Open(name string, flag int, perm fs.FileMode) (durable.File, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var fault error
	if flag&os.O_CREATE != 0 {
		do, err := f.step()
		if !do {
			return nil, err
		}
		fault = err
	}
	file, err := f.OS.Open(name, flag, perm)
	if err != nil {
		return nil, err
	}
	s := f.files[name]
	if s == nil {
		s = &state{}
		f.files[name] = s
	}
	if flag&os.O_TRUNC != 0 {
		s.pending = append(s.pending, write{})
	}
	if fault != nil {
		return nil, errors.Join(fault, file.Close())
	}
	return &handle{File: file, fs: f, state: s}, nil
}

// Rename satisfies durable.FS.
func (f *FS) Rename(from, to string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	do, fault := f.step()
	if !do {
		return fault
	}
	if err := f.OS.Rename(from, to); err != nil {
		return err
	}
	if s := f.files[from]; s != nil {
		f.files[to] = s
		delete(f.files, from)
	}
	return fault
}

// Remove satisfies durable.FS.
func (f *FS) Remove(name string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	do, fault := f.step()
	if !do {
		return fault
	}
	if err := f.OS.Remove(name); err != nil {
		return err
	}
	delete(f.files, name)
	return fault
}

// SyncDir satisfies durable.FS.
func (f *FS) SyncDir(name string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	do, fault := f.step()
	if !do {
		return fault
	}
	if err := f.OS.SyncDir(name); err != nil {
		return err
	}
	for path := range f.disk {
		if filepath.Dir(path) == filepath.Clean(name) {
			delete(f.disk, path)
		}
	}
	for path, s := range f.files {
		if filepath.Dir(path) == filepath.Clean(name) {
			f.disk[path] = s
		}
	}
	return fault
}

type handle struct {
	durable.File
	fs    *FS
	state *state
}

func (h *handle) WriteAt(p []byte, off int64) (int, error) {
	h.fs.mu.Lock()
	defer h.fs.mu.Unlock()
	do, fault := h.fs.step()
	if fault != nil && h.fs.mode == Short {
		p, do, fault = p[:len(p)/2], true, syscall.ENOSPC
	}
	if !do {
		return 0, fault
	}
	n, err := h.File.WriteAt(p, off)
	if err != nil {
		return n, err
	}
	h.state.pending = append(h.state.pending, write{off, append([]byte{}, p...)})
	return n, fault
}

func (h *handle) Truncate(size int64) error {
	h.fs.mu.Lock()
	defer h.fs.mu.Unlock()
	do, fault := h.fs.step()
	if !do {
		return fault
	}
	if err := h.File.Truncate(size); err != nil {
		return err
	}
	h.state.pending = append(h.state.pending, write{off: size})
	return fault
}

// Sync flushes. A flush that fails and is Lost loses what was pending: the pages are clean now, but not on the disk.
func (h *handle) Sync() error {
	h.fs.mu.Lock()
	defer h.fs.mu.Unlock()
	do, fault := h.fs.step()
	if do {
		for _, w := range h.state.pending {
			h.state.disk = w.apply(h.state.disk)
		}
	}
	h.state.pending = nil
	return fault
}

func (w write) apply(b []byte) []byte {
	end := w.off + int64(len(w.data))
	if w.data == nil && int64(len(b)) > w.off {
		return b[:w.off:w.off]
	}
	if int64(len(b)) < end {
		b = append(b[:len(b):len(b)], make([]byte, end-int64(len(b)))...)
	} else {
		b = append([]byte{}, b...)
	}
	copy(b[w.off:], w.data)
	return b
}

// sector is what a disk writes whole or not at all.
const sector = 512

// PowerCut writes into dir what a power cut now would leave of everything below root: what was flushed and, of what was
// not, whatever sectors rnd says. Files that were never opened through f are not among it.
func (f *FS) PowerCut(rnd *rand.Rand, root, dir string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	for path, s := range f.disk {
		rel, err := filepath.Rel(root, path)
		if err != nil || !filepath.IsLocal(rel) {
			continue
		}
		b := append([]byte{}, s.disk...)
		for _, w := range s.pending {
			b = w.tear(rnd, b)
		}
		to := filepath.Join(dir, rel)
		if err := os.MkdirAll(filepath.Dir(to), 0o700); err != nil {
			return err
		}
		if err := os.WriteFile(to, b, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// tear applies those sectors of a write that reached the disk.
func (w write) tear(rnd *rand.Rand, b []byte) []byte {
	if w.data == nil {
		if rnd.IntN(2) == 0 {
			return w.apply(b)
		}
		return b
	}
	for off := w.off; off < w.off+int64(len(w.data)); {
		end := min((off/sector+1)*sector, w.off+int64(len(w.data)))
		if rnd.IntN(2) == 0 {
			b = write{off, w.data[off-w.off : end-w.off]}.apply(b)
		}
		off = end
	}
	return b
}
