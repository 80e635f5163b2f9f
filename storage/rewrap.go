package storage

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"fmt"
	"sync"
	"time"

	"cmmpd/internal/keys"
	"cmmpd/internal/mail"
)

// rewrapper is the goroutine that brings every account's private key under the platform key of now, while all else goes on. What is to be done the
// vault says, so it goes on where a crash, or a sealed platform, interrupted it. When all is done the vault is written anew, without what the old key opens.
type rewrapper struct {
	store *Store
	asked chan struct{}
	quit  context.CancelFunc
	ended chan struct{}

	mu    sync.Mutex // guards what follows
	waits error
	left  map[mail.AccountID]bool // accounts that it could not do, and goes past until it is asked again
}

const (
	rewrapRetry = 10 * time.Second // after something was not there, such as the keystore
	rewrapLook  = time.Hour        // how often accounts that could not be done are tried again
)

func (w *rewrapper) start(s *Store) {
	w.store, w.asked, w.ended, w.left = s, make(chan struct{}, 1), make(chan struct{}), make(map[mail.AccountID]bool)
	var ctx context.Context
	ctx, w.quit = context.WithCancel(context.Background())
	if s.o.HouseEvery < 0 {
		close(w.ended)
		return
	}
	go w.loop(ctx)
}

// stop ends it, started or not.
func (w *rewrapper) stop() {
	if w.quit != nil {
		w.quit()
		<-w.ended
	}
}

func (w *rewrapper) loop(ctx context.Context) {
	defer close(w.ended)
	for {
		err := w.store.RewrapAll(ctx)
		if ctx.Err() != nil {
			return
		}
		rest := rewrapLook
		if err != nil && mail.KindOf(err).Temporary() {
			rest = rewrapRetry
		}
		timer := time.NewTimer(rest)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-w.asked:
		case <-timer.C:
		}
		timer.Stop()
		w.mu.Lock()
		clear(w.left)
		w.mu.Unlock()
	}
}

func (w *rewrapper) poke() {
	select {
	case w.asked <- struct{}{}:
	default:
	}
}

// note keeps what keeps it from going on, and tells it once.
func (w *rewrapper) note(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case err == nil && w.waits != nil:
		w.store.o.Log.Info("wrapping accounts' keys anew goes on")
	case err != nil && (w.waits == nil || mail.KindOf(w.waits) != mail.KindOf(err)):
		w.store.o.Log.Warn("wrapping accounts' keys anew waits", "error", err)
	}
	w.waits = err
}

// PlatformKeys is which platform keys accounts' private keys are under.
type PlatformKeys struct {
	Current string         // accounts are to be under this one
	Under   map[string]int // how many accounts are under each
	Stale   bool           // the vault's file has keys still that were wrapped anew
	Waits   error          // why wrapping anew does not go on; nil: it does, or there is nothing to do
}

// Waiting is how many accounts are not under the current key.
func (p PlatformKeys) Waiting() (n int) {
	for name, count := range p.Under {
		if name != p.Current {
			n += count
		}
	}
	return n
}

// Needed says whether accounts' keys, or what is left of them in the vault, cannot be opened without a platform key.
func (p PlatformKeys) Needed(name string) bool {
	return name == p.Current || p.Under[name] > 0 || p.Stale
}

// PlatformKeys says how far wrapping anew is.
func (s *Store) PlatformKeys() PlatformKeys {
	s.rewrap.mu.Lock()
	waits := s.rewrap.waits
	s.rewrap.mu.Unlock()
	return PlatformKeys{Current: s.vault.Platform(), Under: s.vault.Wraps(), Stale: s.vault.Stale(), Waits: waits}
}

// SetPlatformKey has all accounts be wrapped under the named key of the slot mail: new ones from now on, the others one by one in the background. The
// key must be there and work. It is durable on return.
func (s *Store) SetPlatformKey(ctx context.Context, name string) error {
	probe := make([]byte, keySize)
	if _, err := rand.Read(probe); err != nil {
		return err
	}
	aad := []byte("cmmpd platform key probe")
	sealed, err := s.o.Keys.Wrap(ctx, keys.Mail, name, probe, aad)
	if err != nil {
		return fmt.Errorf("the key %s/%s: %w", keys.Mail, name, err)
	}
	plain, err := s.o.Keys.Unwrap(ctx, keys.Mail, name, sealed, aad)
	if err == nil && subtle.ConstantTimeCompare(plain, probe) == 0 {
		err = mail.E(mail.Corrupt, "", errors.New("what it wraps does not come out again"))
	}
	if err != nil {
		return fmt.Errorf("the key %s/%s: %w", keys.Mail, name, err)
	}
	if err := s.vaultFailed(s.vault.SetPlatform(name)); err != nil {
		return err
	}
	s.rewrap.poke()
	return nil
}

// vaultFailed stops the store if the error is of a vault that takes nothing more.
func (s *Store) vaultFailed(err error) error {
	if err == nil {
		return nil
	}
	if failed := s.vault.Failed(); failed != nil {
		s.stop(failed)
	}
	return fmt.Errorf("key vault: %w", err)
}

// RewrapAll wraps all accounts' private keys under the current platform key, as many in a second as Options.RewrapRate says, and has the vault written
// anew when that is done. It goes past accounts whose keys cannot be opened, and ends when the keystore cannot answer: it can be called again.
func (s *Store) RewrapAll(ctx context.Context) error {
	w := &s.rewrap
	err := s.rewrapSome(ctx)
	if err == nil && len(s.vault.NotUnder(s.vault.Platform())) == 0 && s.vault.Stale() {
		if err = s.vaultFailed(s.vault.Erase(nil)); err == nil {
			s.o.Log.Info("all accounts' keys are wrapped by one platform key", "key", s.vault.Platform())
		}
	}
	if err == nil {
		w.mu.Lock()
		n := len(w.left)
		w.mu.Unlock()
		if n > 0 {
			err = mail.E(mail.Corrupt, "", fmt.Errorf("the keys of %d accounts cannot be opened; the log names them", n))
		}
	}
	if ctx.Err() == nil {
		w.note(err)
	}
	return err
}

// rewrapSome does those that can be done.
func (s *Store) rewrapSome(ctx context.Context) error {
	w := &s.rewrap
	for {
		done := 0
		current := s.vault.Platform()
		for _, id := range s.vault.NotUnder(current) {
			w.mu.Lock()
			past := w.left[id]
			w.mu.Unlock()
			if past {
				continue
			}
			err := s.rewrapAccount(ctx, id)
			switch {
			case err == nil || mail.KindOf(err) == mail.Exists: // somebody else did
				done++
				w.note(nil)
			case mail.KindOf(err) == mail.Corrupt || mail.KindOf(err) == mail.NotFound:
				s.o.Log.Error("an account's key cannot be wrapped anew", "account", string(id), "error", err)
				w.mu.Lock()
				w.left[id] = true
				w.mu.Unlock()
			default:
				return err
			}
			if err := s.rewrapRest(ctx); err != nil {
				return err
			}
			if s.vault.Platform() != current {
				break
			}
		}
		if done == 0 && s.vault.Platform() == current {
			return ctx.Err()
		}
	}
}

// rewrapRest keeps to the rate.
func (s *Store) rewrapRest(ctx context.Context) error {
	if s.o.RewrapRate < 0 {
		return ctx.Err()
	}
	timer := time.NewTimer(time.Second / time.Duration(s.o.RewrapRate))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// rewrapAccount wraps one account's private key under the current platform key.
func (s *Store) rewrapAccount(ctx context.Context, id mail.AccountID) error {
	old, ok, err := s.vault.Account(id)
	if err != nil || !ok {
		return err
	}
	fresh, err := old.Rewrap(keys.For(ctx, "rotation of the platform key"), s.o.Keys, s.vault.Platform(), id)
	if err != nil {
		return err
	}
	if err := s.vault.Rewrap(id, old, fresh); mail.KindOf(err) == mail.Exists {
		return err
	} else if err != nil {
		return s.vaultFailed(err)
	}
	return nil
}
