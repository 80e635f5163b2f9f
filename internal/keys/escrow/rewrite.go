package escrow

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"cmmpd/internal/durable"
	"cmmpd/internal/mail"
)

// Rewrite writes the file anew with the envelopes that count, but for those of accounts that drop says true of: what an earlier group could
// open, and what is to be erased, is gone when it returns, but for free blocks of the disk (docs/security.md). Others wait. If there is no space the
// error is of kind mail.Full, and nothing was done.
func (f *File) Rewrite(drop func(mail.AccountID) bool) error {
	if err := f.wait(); err != nil {
		return err
	}
	f.flush.Lock()
	defer f.flush.Unlock()
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.failed != nil {
		return f.failed
	}
	temp := f.path + durable.TempSuffix
	file, err := f.fsys.Open(temp, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return fullError(err)
	}
	w := &rewriting{file: file, seed: f.seed, buf: fileHeader(f.store), accounts: make(map[accountKey]place)}
	_, _, err = readRecords(f.file, f.seed, f.size, func(payload []byte, at int64) error {
		id, _, _, err := ownerOf(payload)
		if err != nil {
			return nil // it counts for nobody
		}
		p, ok := f.accounts[keyOf(id)]
		if !ok || p.offset != at || drop(id) {
			return nil
		}
		w.accounts[keyOf(id)] = place{w.size + int64(len(w.buf)), p.group}
		w.buf = append(w.buf, encodeRecord(payload, w.seed)...)
		if len(w.buf) >= 1<<20 {
			return w.write()
		}
		return nil
	})
	if err == nil {
		err = w.write()
	}
	if err == nil {
		err = file.Sync()
	}
	if err != nil {
		return errors.Join(fullError(err), file.Close(), f.fsys.Remove(temp))
	}
	err = f.fsys.Rename(temp, f.path)
	if err == nil {
		err = f.fsys.SyncDir(filepath.Dir(f.path))
	}
	if err != nil {
		// The name may stand for either file now, so nothing more may be appended to the one that is open.
		f.failed = mail.E(mail.Unavailable, "", fmt.Errorf("rewrite of the escrowed keys: %w", err))
		return errors.Join(f.failed, file.Close())
	}
	old := f.file
	f.file, f.accounts, f.size, f.synced, f.spoilt = file, w.accounts, w.size, w.size, 0
	return old.Close()
}

// rewriting is a file that is being written.
type rewriting struct {
	file     durable.File
	seed     uint32
	size     int64
	buf      []byte // not written yet
	accounts map[accountKey]place
}

func (w *rewriting) write() error {
	n, err := w.file.WriteAt(w.buf, w.size)
	w.size += int64(n)
	w.buf = w.buf[:0]
	return err
}

// fullError tells a want of space from other errors.
func fullError(err error) error {
	if noSpace(err) {
		return mail.E(mail.Full, "no space left for keys", err)
	}
	return fmt.Errorf("rewrite of the escrowed keys: %w", err)
}
