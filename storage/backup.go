package storage

import (
	"context"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"

	"cmmpd/internal/mail"
	"cmmpd/storage/blob"
)

// ID is the store's identity, in hexadecimal.
func (s *Store) ID() string { return fmt.Sprintf("%x", s.id[:]) }

// Backup hands out the files of the store, without the key vault, as they belong together: the index as it stands at
// the beginning, and the log up to a place that lies after everything acknowledged before. Opening a store made of them
// brings the index up to date from the log. Commits and readers go on. put is called for each file in turn, with its
// path in the store and with what writes its content.
//
// The index is read in one transaction of bbolt as long as it takes to copy it; its file may grow meanwhile.
func (s *Store) Backup(ctx context.Context, put func(name string, copy func(io.Writer) error) error) error {
	write := func(name string, b []byte) error {
		return put(name, func(w io.Writer) error {
			_, err := w.Write(b)
			return err
		})
	}
	if err := write(formatFile, encodeFormat(formatVersion, s.id)); err != nil {
		return err
	}
	index, ok := s.index.(interface{ Backup(w io.Writer) error })
	if !ok {
		return mail.E(mail.Unsupported, "this store cannot be backed up while it runs", nil)
	}
	// The index goes first: it must not be ahead of the log.
	if err := put(indexFile, func(w io.Writer) error { return index.Backup(cancellable{ctx, w}) }); err != nil {
		return err
	}
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
	dir := filepath.Join(s.o.Dir, segmentsDir)
	numbers, err := blob.Segments(s.o.FS, dir)
	if err != nil {
		return err
	}
	for _, n := range numbers {
		if n > end.Segment {
			break
		}
		name := blob.SegmentName(n)
		err := put(path.Join(segmentsDir, name), func(w io.Writer) error {
			f, err := s.o.FS.Open(filepath.Join(dir, name), os.O_RDONLY, 0)
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
			v := blob.NewVerifier(n, s.id, cancellable{ctx, w})
			if _, err := io.CopyBuffer(v, io.NewSectionReader(f, 0, size), make([]byte, 1<<20)); err != nil {
				return err
			}
			return v.Close()
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// BackupVault writes the key vault as it is now. It opens every backup of the store that was made before.
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
