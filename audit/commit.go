package audit

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"os"
	"path"
	"slices"
	"syscall"
	"time"

	"golang.org/x/mod/sumdb/tlog"
)

// store is a log's directory as its one writer sees it. It is not safe for concurrent
// use.
//
// One commit is, in this order: the new tiles and bundles under names that no published
// checkpoint covers, flushed with their folders; then the new checkpoint, signed only
// now, under a name of its own, flushed; then the rename over the old one, and the
// folder flushed. Only then is anything acknowledged, and the partial tiles that are
// superseded are removed. So a crash leaves the old log with some files beyond its end,
// or, once the new checkpoint can be read, everything that it covers. All of this is
// done under the exclusive lock of the directory, so that readers see only states
// between commits.
type store struct {
	disk  disk
	root  *os.Root
	dir   *os.File // the directory itself, for the lock that holds readers off
	owner *os.File // audit.pub, locked as long as the log is open: there is one writer
	key   *noteKey
	sign  func(tlog.Tree) ([]byte, error) // makes the checkpoint
	group int64                           // how many records one commit adds at most

	tail  *tail
	last  []byte          // the published checkpoint
	dirs  map[string]bool // the folders that exist
	stale map[string]bool // superseded files and folders that could not be removed yet

	lastTime time.Time // of the last record when the log was opened; zero: there was none
	cosigned *cosigned // what checkpoint.cosigned holds; nil: there is none
}

// errForeign says that somebody else wrote to the log.
var errForeign = errors.New("the checkpoint on disk is not the one that was written last")

// commit appends records. If the error is unknown(), what is on disk is not known and
// the log must be opened anew; else nothing has changed.
func (s *store) commit(records [][]byte) error {
	next, files := s.tail.grow(records)
	root, err := next.root()
	if err != nil {
		return err
	}
	if err := flock(s.dir, syscall.LOCK_EX); err != nil {
		return fmt.Errorf("locking: %w", err)
	}
	defer unlock(s.dir)
	if on, err := s.root.ReadFile(checkpointFile); err != nil || !bytes.Equal(on, s.last) {
		return &unknownError{errors.Join(errForeign, err)}
	}
	made, err := s.prepare(files)
	if err != nil {
		return s.takeBack(files, made, err)
	}
	signed, err := s.sign(tlog.Tree{N: next.size, Hash: root})
	if err != nil {
		return s.takeBack(files, made, fmt.Errorf("signing: %w", err))
	}
	if err := writeFiles(s.disk, []file{{newCheckpoint, signed}}, nil); err != nil {
		return s.takeBack(append(files, file{name: newCheckpoint}), made, err)
	}
	if err := s.publish(); err != nil {
		return &unknownError{err}
	}
	old := s.tail
	s.tail, s.last = next, signed
	s.supersede(old)
	return nil
}

// prepare writes the files that the new checkpoint will cover, and the folders they
// need, which it returns.
func (s *store) prepare(files []file) (made []string, err error) {
	sync := make(map[string]bool)
	for _, f := range files {
		var missing []string
		for dir := range parents(f.name) {
			if s.dirs[dir] {
				break
			}
			missing = append(missing, dir)
		}
		for _, dir := range slices.Backward(missing) {
			made = append(made, dir) // a failed mkdir may have made it all the same
			if err := s.disk.mkdir(dir); err != nil && !errors.Is(err, os.ErrExist) {
				return made, err
			}
			s.dirs[dir] = true
			sync[path.Dir(dir)] = true
		}
		sync[path.Dir(f.name)] = true
	}
	return made, writeFiles(s.disk, files, slices.Sorted(maps.Keys(sync)))
}

// takeBack removes what an unfinished commit wrote. If even that cannot be done, what is
// on disk is not known.
func (s *store) takeBack(files []file, made []string, cause error) error {
	if unknown(cause) {
		return cause
	}
	sync := map[string]bool{}
	for _, f := range files {
		err := s.disk.remove(f.name)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return &unknownError{errors.Join(cause, err)}
		}
		sync[path.Dir(f.name)] = true
	}
	for _, dir := range slices.Backward(made) {
		if err := s.disk.remove(dir); err != nil && !errors.Is(err, os.ErrNotExist) {
			return &unknownError{errors.Join(cause, err)}
		}
		delete(s.dirs, dir)
		delete(sync, dir)
		sync[path.Dir(dir)] = true
	}
	for _, dir := range slices.Sorted(maps.Keys(sync)) {
		if dir != "." && !s.dirs[dir] {
			continue
		}
		if err := s.disk.syncDir(dir); err != nil {
			return &unknownError{errors.Join(cause, err)}
		}
	}
	return cause
}

// publish makes the new checkpoint the checkpoint.
func (s *store) publish() error {
	if err := s.disk.rename(newCheckpoint, checkpointFile); err != nil {
		return err
	}
	return s.disk.syncDir(".")
}

// supersede removes the partial tiles of old that the log has outgrown. That need not be
// durable, and what fails is tried again at the next commit.
func (s *store) supersede(old *tail) {
	for level := entries; level < len(old.edge); level++ {
		t := edgeTile(level, old.size)
		if t.W == 0 || inLog(t, s.tail.size) {
			continue
		}
		s.stale[tileName(t)] = true
		if edgeTile(level, s.tail.size).N != t.N {
			s.stale[path.Dir(tileName(t))] = true
		}
	}
	// A folder's name is a prefix of its files' names: backwards, files come first.
	for _, name := range slices.Backward(slices.Sorted(maps.Keys(s.stale))) {
		if err := s.disk.remove(name); err == nil || errors.Is(err, os.ErrNotExist) {
			delete(s.stale, name)
			delete(s.dirs, name)
		}
	}
}

// close gives the locks back.
func (s *store) close() {
	s.owner.Close()
	s.dir.Close()
	s.root.Close()
}
