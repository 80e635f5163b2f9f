package storage

import (
	"context"
	"errors"
	"io/fs"
	"path/filepath"

	"cmmpd/internal/mail"
)

// EraseAccount makes everything that an account holds unreadable, for good and for everybody, in every copy of the mail: its keys are erased from the key
// vault first, then it is emptied. Copies of the vault from before open it for as long as they are kept. The account stays, empty, with new keys, for
// whoever has its ID; names of mailboxes are replaced. The error is of kind mail.Busy while somebody has the account open, or a backup is made; if it is
// interrupted after the keys were erased, it must be asked for once more to be emptied.
func (s *Store) EraseAccount(ctx context.Context, id mail.AccountID) error {
	return s.house.alone(ctx, func(ctx context.Context) error {
		a, err := s.acquire(ctx, id)
		if err != nil {
			return err
		}
		defer s.release(a)
		if a.no() == 0 {
			return errNoAccount
		}
		if err := s.eraseAccountKeys(a); err != nil {
			return err
		}
		if _, err := s.DropDisposed(ctx, id); err != nil {
			return err
		}
		return s.dropEpochRecords(ctx, map[uint32]mail.AccountID{a.no(): id})
	})
}

func (s *Store) eraseAccountKeys(a *account) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.keyMu.Lock()
	defer a.keyMu.Unlock()
	s.pinMu.Lock()
	busy := s.pins > 0
	s.pinMu.Unlock()
	if a.handles > 0 || len(a.earlier) > 0 || a.epoch != nil && a.epoch.users > 0 || busy {
		return mail.E(mail.Busy, "the account is in use, or a backup is being made; try again", nil)
	}
	names, err := s.o.FS.List(s.searchPath(a.no()))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, name := range names {
		if err := s.o.FS.Remove(filepath.Join(s.searchPath(a.no()), name)); err != nil {
			return err
		}
	}
	s.escrowing.Lock()
	defer s.escrowing.Unlock()
	if err := s.eraseEscrow(a.id); err != nil { // first: what is left to officers would open the old mail
		return err
	}
	if err := s.vault.EraseAccount(a.id); err != nil {
		if failed := s.vault.Failed(); failed != nil {
			s.stop(failed)
		}
		return err
	}
	a.key, a.epoch = nil, nil
	return nil
}
