package storage

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"cmmpd/internal/keys"
	"cmmpd/internal/keys/escrow"
	"cmmpd/internal/mail"
)

// The private key of each account is kept a second time, parted among security officers, when the store has a group of them: what is kept is
// durable before the key is used for the first time. Accounts that were made without are covered later, by CoverAccount.

// EscrowFile is the path in the store of what the officers keep.
const EscrowFile = escrowFile

// openEscrow opens the file of the escrowed keys, if there is a group of officers, or was one.
func (s *Store) openEscrow() (err error) {
	path := filepath.Join(s.o.Dir, escrowFile)
	if s.o.Escrow == nil {
		f, err := s.o.FS.Open(path, os.O_RDONLY, 0)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		} else if err != nil {
			return err
		} else if err := f.Close(); err != nil {
			return err
		}
	}
	s.escrow, err = escrow.Open(s.o.FS, path, s.id)
	return err
}

// keep has the officers keep an account's private key.
func (s *Store) keep(id mail.AccountID, secret []byte) error {
	if s.o.Escrow == nil {
		return nil
	}
	e, err := s.o.Escrow.Wrap(id, secret)
	if err == nil {
		err = s.escrow.Put(e)
	}
	if err == nil {
		return nil
	}
	if failed := s.escrow.Failed(); failed != nil {
		s.stop(failed)
	}
	return fmt.Errorf("escrow of the key of account %s: %w", id, err)
}

// EscrowReport says whose keys are kept, and for whom.
type EscrowReport struct {
	Group    *escrow.Group // those for whom keys are kept now; nil: for nobody
	Accounts int           // that have keys
	Covered  int           // of them, kept for the present group
	Former   int           // of them, kept for another group only
	Spoilt   int           // places in the file that were damaged when it was opened
}

// EscrowReport counts.
func (s *Store) EscrowReport(ctx context.Context) (r EscrowReport, err error) {
	r.Group = s.o.Escrow
	ids := s.vault.Accounts()
	if r.Accounts = len(ids); s.escrow == nil {
		return r, nil
	}
	st, err := s.escrow.Stats()
	if err != nil {
		return r, err
	}
	r.Spoilt = st.Spoilt
	for _, id := range ids {
		g, err := s.escrow.Covered(id)
		switch {
		case err != nil:
			return r, err
		case g == nil:
		case r.Group != nil && g.ID == r.Group.ID:
			r.Covered++
		default:
			r.Former++
		}
	}
	return r, ctx.Err()
}

// Escrow is what is kept of an account's key. The error is of kind mail.NotFound if nothing is.
func (s *Store) Escrow(id mail.AccountID) (*escrow.Envelope, error) {
	if s.escrow == nil {
		return nil, mail.E(mail.NotFound, "no keys are in escrow", nil)
	}
	return s.escrow.Get(id)
}

// Accounts is the accounts that have keys, in no order.
func (s *Store) Accounts() []mail.AccountID { return s.vault.Accounts() }

// Uncovered is the accounts, in no order, whose keys the present officers do not keep.
func (s *Store) Uncovered() (list []mail.AccountID, err error) {
	if s.o.Escrow == nil {
		return nil, mail.E(mail.Unsupported, "no escrow is configured", nil)
	}
	for _, id := range s.vault.Accounts() {
		g, err := s.escrow.Covered(id)
		if err != nil {
			return nil, err
		}
		if g == nil || g.ID != s.o.Escrow.ID {
			list = append(list, id)
		}
	}
	return list, nil
}

// CoverAccount has the present officers keep an account's key, for which it is unwrapped.
func (s *Store) CoverAccount(ctx context.Context, id mail.AccountID) error {
	if s.o.Escrow == nil {
		return mail.E(mail.Unsupported, "no escrow is configured", nil)
	}
	k, err := s.accountKey(id)
	if err != nil {
		return err
	}
	secret, err := k.Secret(keys.For(ctx, "escrow"), s.o.Keys, id)
	if err != nil {
		return err
	}
	defer clear(secret)
	s.escrowing.RLock()
	defer s.escrowing.RUnlock()
	now, err := s.accountKey(id)
	if err == nil && !bytes.Equal(now.Public, k.Public) {
		err = mail.E(mail.Busy, "the account has got other keys meanwhile", nil)
	}
	if err != nil {
		return err
	}
	return s.keep(id, secret)
}

// TidyEscrow removes from the file what former officers keep of accounts that the present ones keep, too, and what is kept of accounts that have
// no keys any more.
func (s *Store) TidyEscrow() error {
	if s.escrow == nil {
		return nil
	}
	s.escrowing.Lock()
	defer s.escrowing.Unlock()
	have := make(map[mail.AccountID]bool)
	for _, id := range s.vault.Accounts() {
		have[id] = true
	}
	return s.rewriteEscrow(func(id mail.AccountID) bool { return !have[id] })
}

// eraseEscrow erases what officers keep of an account, now or before.
func (s *Store) eraseEscrow(id mail.AccountID) error {
	if s.escrow == nil {
		return nil
	}
	return s.rewriteEscrow(func(other mail.AccountID) bool { return other == id })
}

func (s *Store) rewriteEscrow(drop func(mail.AccountID) bool) error {
	err := s.escrow.Rewrite(drop)
	if failed := s.escrow.Failed(); failed != nil {
		s.stop(failed)
	}
	return err
}

// accountKey is the account's key pair. The error is of kind mail.NotFound if it has none.
func (s *Store) accountKey(id mail.AccountID) (keys.AccountKey, error) {
	k, ok, err := s.vault.Account(id)
	if err == nil && !ok {
		err = mail.E(mail.NotFound, "this account has no keys", nil)
	}
	return k, err
}

// OpenAccountSecret is OpenAccount with the private key that the officers have brought: the keystore is not asked.
func (s *Store) OpenAccountSecret(ctx context.Context, id mail.AccountID, secret []byte) (*Account, error) {
	k, err := s.accountKey(id)
	if err != nil {
		return nil, err
	}
	p, err := k.OpenSecret(id, secret)
	if err != nil {
		return nil, err
	}
	used := false
	a, err := s.openAccount(ctx, id, func(a *account) error {
		return a.unlockBy(func(keys.AccountKey) (*keys.PrivateKey, error) {
			used = true
			return p, nil
		})
	})
	if !used { // its owner has it open
		p.Wipe()
	}
	return a, err
}

// RecoverAccount wraps the private key that the officers have brought under the platform key of now: the account opens with that again.
func (s *Store) RecoverAccount(ctx context.Context, id mail.AccountID, secret []byte) error {
	old, err := s.accountKey(id)
	if err != nil {
		return err
	}
	fresh, err := old.Recover(ctx, s.o.Keys, s.vault.Platform(), id, secret)
	if err != nil {
		return err
	}
	err = s.vault.Rewrap(id, old, fresh)
	if failed := s.vault.Failed(); failed != nil {
		s.stop(failed)
	}
	return err
}

// BackupEscrow writes the file of the escrowed keys as it is now.
func (s *Store) BackupEscrow(ctx context.Context, w io.Writer) error {
	return s.escrow.Backup(cancellable{ctx, w})
}

// HasEscrow says whether there is a file of escrowed keys.
func (s *Store) HasEscrow() bool { return s.escrow != nil }
