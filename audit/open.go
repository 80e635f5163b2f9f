package audit

import (
	"bytes"
	"context"
	"crypto"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"syscall"

	"golang.org/x/mod/sumdb/tlog"

	"cmmpd/internal/mail"
)

// Create makes a new, empty log in dir, which must not exist or be empty. The log is
// there whole or not at all. Kind Exists if dir holds something.
func Create(dir string, key crypto.Signer, o Options) error {
	k, err := newNoteKey(o.Origin, key)
	if err != nil {
		return mail.E(mail.Invalid, "", fmt.Errorf("audit key: %w", err))
	}
	signed, err := k.sign(tlog.Tree{Hash: emptyRoot()})
	if err != nil {
		return mail.E(mail.Unavailable, "", fmt.Errorf("signing the first checkpoint: %w", err))
	}
	if left, err := os.ReadDir(dir); err == nil && len(left) > 0 {
		return mail.E(mail.Exists, "", fmt.Errorf("%s is not empty", dir))
	} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return mail.E(mail.Unavailable, "", err)
	}
	return createFiles(dir, []file{{keyFile, k.pub}, {checkpointFile, signed}}, o.disk)
}

// createFiles makes the folder dir with files in it, whole or not at all.
func createFiles(dir string, files []file, wrap func(disk) disk) error {
	tmp := filepath.Clean(dir) + ".new"
	if err := createIn(tmp, files, wrap); err != nil {
		return storageError("creating the audit log", err)
	}
	if err := os.Rename(tmp, dir); err != nil {
		return storageError("creating the audit log", err)
	}
	parent, err := os.OpenRoot(filepath.Dir(filepath.Clean(dir)))
	if err != nil {
		return storageError("creating the audit log", err)
	}
	defer parent.Close()
	if err := wrapped(rootDisk{parent}, wrap).syncDir("."); err != nil {
		return storageError("creating the audit log", err)
	}
	return nil
}

// createIn writes files into a new folder, over what an earlier attempt left there.
func createIn(dir string, files []file, wrap func(disk) disk) error {
	if err := os.Mkdir(dir, 0o750); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	return writeFiles(wrapped(rootDisk{root}, wrap), files, []string{"."})
}

func wrapped(d disk, wrap func(disk) disk) disk {
	if wrap == nil {
		return d
	}
	return wrap(d)
}

func emptyRoot() tlog.Hash {
	h, _ := tlog.TreeHash(0, nil) // reads nothing, cannot fail
	return h
}

// openStore opens a log for writing and repairs what a crash left.
func openStore(dir string, key crypto.Signer, origin string, wrap func(disk) disk) (*store, error) {
	k, err := newNoteKey(origin, key)
	if err != nil {
		return nil, mail.E(mail.Invalid, "", fmt.Errorf("audit key: %w", err))
	}
	src, err := openDir(context.Background(), dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, mail.E(mail.NotFound, "", fmt.Errorf("no audit log: %w", err))
	case errors.Is(err, ErrCannotOpen):
		return nil, mail.E(mail.Unavailable, "", err)
	case err != nil:
		return nil, corrupt(err)
	}
	return startStore(src, k, maxGroup, wrap)
}

// startStore opens a log of which one commit adds group records at most.
func startStore(src *dirSource, k *noteKey, group int64, wrap func(disk) disk) (*store, error) {
	s := &store{root: src.root, dir: src.lock, key: k, sign: k.sign, group: group, dirs: src.dirs, stale: make(map[string]bool)}
	s.disk = wrapped(rootDisk{src.root}, wrap)
	if err := s.start(src); err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

// start takes the writer's place and brings the directory into a state between commits.
func (s *store) start(src *dirSource) error {
	owner, err := s.root.Open(keyFile)
	if err != nil {
		return corrupt(faultOf(keyFile, err))
	}
	s.owner = owner
	if err := lockNow(owner); err != nil {
		return mail.E(mail.Busy, "", fmt.Errorf("the audit log's %s: %w", keyFile, err))
	}
	// Nobody but a reader can hold this one now.
	if err := flock(s.dir, syscall.LOCK_EX); err != nil {
		return mail.E(mail.Unavailable, "", fmt.Errorf("locking the audit log: %w", err))
	}
	defer unlock(s.dir)
	if err := src.list(); err != nil { // a writer may have gone on until the lock was ours
		return corrupt(err)
	}
	s.dirs = src.dirs
	v, err := s.openTail(src, checkpointFile)
	if err != nil {
		return corrupt(err)
	}
	left, err := leftovers(src, v)
	if err != nil {
		return corrupt(err)
	}
	if ahead := s.completeGroup(src, v); ahead != nil {
		if err := s.finish(src); err != nil {
			return storageError("completing the last group of the audit log", err)
		}
		v = ahead
		delete(src.files, newCheckpoint)
		if left, err = leftovers(src, v); err != nil {
			return corrupt(err)
		}
	}
	if err := s.clear(left); err != nil {
		return storageError("removing an unfinished group of the audit log", err)
	}
	if s.cosigned, err = openCosigned(v); err != nil {
		return corrupt(err)
	}
	s.tail, s.lastTime = &v.tail, v.last
	if s.last, err = s.root.ReadFile(checkpointFile); err != nil {
		return corrupt(faultOf(checkpointFile, err))
	}
	// The rename may have been seen without having been flushed.
	return storageErrorOrNil("flushing the audit log", s.disk.syncDir("."))
}

// openTail reads and checks the end of the log under the checkpoint in file name.
func (s *store) openTail(src *dirSource, name string) (*verifier, error) {
	v := &verifier{src: src, key: s.key, group: s.group}
	if err := v.checkKey(s.key.pub); err != nil {
		return nil, err
	}
	b, err := src.read(name, 4096)
	if err != nil {
		return nil, err
	}
	c, err := parseCheckpoint(b, s.key)
	if err != nil {
		return nil, faultAt(name, "%v", err)
	}
	v.tree = c.tree
	if err := v.loadTail(); err != nil {
		return nil, err
	}
	v.each = func(r *Record, _ []byte) error {
		v.last = r.Time
		return nil
	}
	return v, v.check(context.Background(), v.tree.N-1)
}

// completeGroup returns the log under the new checkpoint that a crash left unpublished,
// if it can be read and all that it covers is there. It is signed only when that is so;
// where it is not, the checkpoint itself is what the crash cut short.
func (s *store) completeGroup(src *dirSource, v *verifier) *verifier {
	if _, ok := src.files[newCheckpoint]; !ok {
		return nil
	}
	ahead, err := s.openTail(src, newCheckpoint)
	if err != nil || ahead.tree.N <= v.tree.N || ahead.tree.N > v.tree.N+s.group {
		return nil
	}
	for name := range filesOf(ahead.tree.N) {
		if _, ok := src.files[name]; !ok {
			return nil
		}
	}
	if ahead.check(context.Background(), v.tree.N) != nil || ahead.continues(v.tree) != nil {
		return nil
	}
	return ahead
}

// finish publishes the new checkpoint that a crash left. It is written anew: a flush
// that failed before the crash may have left it in memory only.
func (s *store) finish(src *dirSource) error {
	b, err := src.read(newCheckpoint, 4096)
	if err != nil {
		return err
	}
	dirs := []string{"."}
	for dir := range src.dirs {
		dirs = append(dirs, dir)
	}
	if err := s.disk.remove(newCheckpoint); err != nil {
		return err
	}
	if err := writeFiles(s.disk, []file{{newCheckpoint, b}}, dirs); err != nil {
		return err
	}
	return s.publish()
}

// leftovers names the files and folders that are not in the log, if a crash during one
// commit explains them all, files first. Missing files are faults, and so is what no
// crash leaves behind.
func leftovers(src *dirSource, v *verifier) ([]string, error) {
	size := v.tree.N
	strange, dirs := maps.Clone(src.files), maps.Clone(src.dirs)
	delete(strange, cosignedFile)
	for name := range filesOf(size) {
		got, ok := strange[name]
		if !ok {
			return nil, faultAt(name, "is missing")
		}
		if t, ok := parseTileName(name); ok && t.L != entries && got != int64(t.W)*tlog.HashSize {
			return nil, faultAt(name, "is %d bytes long, not %d", got, t.W*tlog.HashSize)
		}
		delete(strange, name)
		for dir := range parents(name) {
			delete(dirs, dir)
		}
	}
	var left []string
	for _, name := range slices.Sorted(maps.Keys(strange)) {
		if err := explain(v, name); err != nil {
			return nil, err
		}
		left = append(left, name)
	}
	for _, dir := range slices.Backward(slices.Sorted(maps.Keys(dirs))) {
		if !explainDir(dir, size, v.group) {
			return nil, faultAt(dir, "is no part of a log of %d records, and no crash leaves it", size)
		}
		left = append(left, dir)
	}
	return left, nil
}

// explain says whether a crash can have left the file name.
func explain(v *verifier, name string) error {
	size := v.tree.N
	if name == newCheckpoint || name == newCosigned {
		return nil
	}
	t, ok := parseTileName(name)
	if !ok {
		return faultAt(name, "is no file of an audit log")
	}
	if t.L >= levels(size+v.group) {
		return faultAt(name, "is no part of a log of %d records, and no crash leaves it", size)
	}
	if n := reach(t); n > size {
		if n > size+v.group {
			return faultAt(checkpointFile, "covers %d records, but %s reaches to %d: it is older than the log", size, name, n)
		}
		return nil // an unfinished group
	}
	// Superseded, by the last commit before the crash: it must be the beginning of what
	// stands in its place.
	if reach(t)+1<<levelShift(t.L) <= size-v.group {
		return faultAt(name, "was superseded long ago")
	}
	old, err := v.readTile(t)
	if err != nil {
		return err
	}
	now, err := v.readTile(fileOf(t.L, t.N, size))
	if err != nil {
		return err
	}
	if !bytes.HasPrefix(now, old) {
		return faultAt(name, "is not the beginning of %s", tileName(fileOf(t.L, t.N, size)))
	}
	return nil
}

// explainDir says whether a commit can have made the folder, or be about to remove it: it
// is above a partial tile of a log that has a group less or more.
func explainDir(dir string, size, group int64) bool {
	least, most := max(size-group, 0), size+group
	for level := entries; level < levels(most); level++ {
		for n := edgeTile(level, least).N; n <= edgeTile(level, most).N; n++ {
			for parent := range parents(tileName(tlog.Tile{H: tileHeight, L: level, N: n, W: 1})) {
				if parent == dir {
					return true
				}
			}
		}
	}
	return false
}

// clear removes leftovers and flushes the folders that held them.
func (s *store) clear(left []string) error {
	sync := make(map[string]bool)
	for _, name := range left {
		if err := s.disk.remove(name); err != nil {
			return err
		}
		delete(s.dirs, name)
		delete(sync, name)
		sync[path.Dir(name)] = true
	}
	for _, dir := range slices.Sorted(maps.Keys(sync)) {
		if err := s.disk.syncDir(dir); err != nil {
			return err
		}
	}
	return nil
}

// corrupt is the kind of an error that a log's content gives.
func corrupt(err error) error {
	var f *Fault
	if errors.As(err, &f) {
		return mail.E(mail.Corrupt, "", fmt.Errorf("audit log: %w", err))
	}
	return mail.E(mail.Unavailable, "", fmt.Errorf("audit log: %w", err))
}

// storageError is the kind of an error that the disk gives.
func storageError(what string, err error) error {
	kind := mail.Unavailable
	if noSpace(err) {
		kind = mail.Full
	}
	return mail.E(kind, "", fmt.Errorf("%s: %w", what, err))
}

func storageErrorOrNil(what string, err error) error {
	if err == nil {
		return nil
	}
	return storageError(what, err)
}
