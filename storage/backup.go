package storage

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"

	"cmmpd/storage/blob"
)

// ID is the store's identity, in hexadecimal.
func (s *Store) ID() string { return fmt.Sprintf("%x", s.id[:]) }

// Backup hands out the files of the store as they belong together, without the key vault and without the index, which opening a store made of them
// makes again from the segments: the log up to a place that lies after everything acknowledged before. Commits and readers go
// on, and compaction but for the removal of files. put is called for each file in turn, with its path in the store and with
// what writes its content.
func (s *Store) Backup(ctx context.Context, put func(name string, copy func(io.Writer) error) error) error {
	if err := put(formatFile, func(w io.Writer) error {
		_, err := w.Write(encodeFormat(formatVersion, s.id))
		return err
	}); err != nil {
		return err
	}
	s.pin()
	defer s.unpin()
	end, err := s.settled()
	if err != nil {
		return err
	}
	return s.backupLog(ctx, end, put)
}

// settled is a place in the log up to which it is flushed and everything acknowledged is.
func (s *Store) settled() (blob.Position, error) {
	s.gate.Lock() // no commit is under way now, so the committer does not append
	defer s.gate.Unlock()
	if err := s.Ready(); err != nil {
		return blob.Position{}, err
	}
	if err := s.flushLog(); err != nil {
		return blob.Position{}, err
	}
	return s.log.End(), nil
}

func (s *Store) backupLog(ctx context.Context, end blob.Position, put func(string, func(io.Writer) error) error) error {
	dir := s.segmentsDir()
	numbers, err := blob.Segments(s.o.FS, dir)
	if err != nil {
		return err
	}
	for _, n := range numbers {
		if n > end.Segment {
			break
		}
		err := put(path.Join(segmentsDir, blob.SegmentName(n)), func(w io.Writer) error { return s.copySegment(n, end, cancellable{ctx, w}) })
		if err != nil {
			return err
		}
	}
	return nil
}

// copySegment writes a segment up to the end of the log to w, and checks every record on the way.
func (s *Store) copySegment(n uint32, end blob.Position, w io.Writer) error {
	f, err := s.o.FS.Open(filepath.Join(s.o.Dir, segmentsDir, blob.SegmentName(n)), os.O_RDONLY, 0)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }() // it was only read
	size := end.Offset
	if n < end.Segment { // it is complete
		if size, err = f.Size(); err != nil {
			return err
		}
	}
	v := blob.NewVerifier(n, s.id, w)
	_, err = io.CopyBuffer(v, io.NewSectionReader(f, 0, size), make([]byte, 1<<20))
	if err == nil {
		err = v.Close()
	}
	if errors.Is(err, blob.ErrDamaged) {
		s.house.found.add(n)
	}
	return err
}

// BackupVault writes the key vault as it is now. With what BackupCarried has written before it opens every backup of the store that was made before.
func (s *Store) BackupVault(ctx context.Context, w io.Writer) error {
	return s.vault.Backup(cancellable{ctx, w})
}

// VaultFile is the key vault's path in the store.
const VaultFile = vaultFile

// cancellable is a writer that fails when ctx is done.
type cancellable struct {
	ctx context.Context
	w   io.Writer
}

func (c cancellable) Write(b []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.w.Write(b)
}
