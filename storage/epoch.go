package storage

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"fmt"
	stdhash "hash"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/semaphore"

	"cmmpd/internal/keys"
	"cmmpd/internal/mail"
)

// account is what the store knows of an account while it is in use, and for a while after.
type account struct {
	store *Store
	id    mail.AccountID
	blind []byte    // the blind-index key
	macs  sync.Pool // HMACs under it, with what the key makes of them

	// mu keeps operations that look at the state of mailboxes and change it (held exclusively) apart from those that
	// only add to it (held shared), until what they do is visible. Taken before any other lock; of several accounts
	// in the order of their IDs.
	mu sync.RWMutex

	number atomic.Uint32 // 0: not known to exist

	keyMu   sync.Mutex // guards what follows; may be held during a flush of the vault, and while the keystore opens the account: no act waits for it
	key     *keys.AccountKey
	epoch   *epoch            // for new secrets
	earlier map[uint32]*epoch // those before it under which somebody has sealed something that is not in the index yet
	handles int
	private *keys.PrivateKey         // while there are handles
	epochs  map[uint32]*keys.Wrapper // opened ones, while there are handles

	search searchIndex

	kept atomic.Uint32 // the mailbox of deleted messages; 0: there is none yet. Changed while mu is held

	users int // guarded by Store.accountsMu: who holds on to this value
}

// epoch is an epoch key in use for new messages.
type epoch struct {
	account *account
	number  uint32
	wrapper *keys.Wrapper
	made    time.Time
	used    int // guarded by account.keyMu, as what follows
	users   int // who has got it and is not done
}

// serves says whether n more secrets may be sealed under it.
func (e *epoch) serves(n int, now time.Time) bool {
	o := &e.account.store.o
	return e.used+n <= o.EpochMessages && now.Sub(e.made) < o.EpochAge && !now.Before(e.made)
}

// done gives an epoch back that sealing returned, nil too: what was sealed under it is in the index by now, or never will be.
func (e *epoch) done() {
	if e == nil {
		return
	}
	a := e.account
	a.keyMu.Lock()
	defer a.keyMu.Unlock()
	if e.users--; e.users == 0 {
		delete(a.earlier, e.number)
	}
}

// retire lets go of an epoch key that is not used any more. keyMu is held.
func (a *account) retire() {
	if e := a.epoch; e != nil && e.users > 0 {
		if a.earlier == nil {
			a.earlier = make(map[uint32]*epoch)
		}
		a.earlier[e.number] = e
	}
	a.epoch = nil
}

// finished is the epochs, ascending, that nothing will be sealed under any more: what was is in the index, or never will be. The account is held
// exclusively.
func (a *account) finished() []uint32 {
	a.keyMu.Lock()
	defer a.keyMu.Unlock()
	if a.epoch != nil && !a.epoch.serves(1, a.store.o.Now()) {
		a.retire()
	}
	return slices.DeleteFunc(a.store.vault.Epochs(a.id), func(n uint32) bool {
		return a.earlier[n] != nil || a.epoch != nil && a.epoch.number == n
	})
}

// retireEpochs lets go of epoch keys that are too old, in accounts that nobody has needed one in since.
func (s *Store) retireEpochs() {
	for _, a := range s.inMemory() {
		a.keyMu.Lock()
		if a.epoch != nil && !a.epoch.serves(1, s.o.Now()) {
			a.retire()
		}
		a.keyMu.Unlock()
	}
}

// forgetEpochs drops keys that were opened of epochs that are no more.
func (s *Store) forgetEpochs(gone map[mail.AccountID][]uint32) {
	for _, a := range s.inMemory() {
		a.keyMu.Lock()
		for _, n := range gone[a.id] {
			delete(a.epochs, n)
		}
		a.keyMu.Unlock()
	}
}

// inMemory is the accounts that are in memory.
func (s *Store) inMemory() []*account {
	s.accountsMu.Lock()
	defer s.accountsMu.Unlock()
	return slices.Collect(maps.Values(s.accounts))
}

// maxIdleAccounts is how many accounts nobody uses are remembered.
const maxIdleAccounts = 16 << 10

// acquire returns the account's state; release must follow. It asks neither whether the account exists nor for its keys.
func (s *Store) acquire(ctx context.Context, id mail.AccountID) (*account, error) {
	if len(id) == 0 || len(id) > 100 {
		return nil, mail.E(mail.Invalid, "", fmt.Errorf("account id %q", id))
	}
	s.accountsMu.Lock()
	a := s.accounts[id]
	if a != nil {
		a.users++
	}
	s.accountsMu.Unlock()
	if a != nil {
		return a, nil
	}
	blind, err := s.o.Keys.Derive(ctx, keys.Service, blindKey, append([]byte("cmmpd blind index 1 "), id...))
	if err != nil {
		return nil, fmt.Errorf("blind-index key: %w", err)
	}
	fresh := &account{store: s, id: id, blind: blind, search: searchIndex{adding: semaphore.NewWeighted(1)}}
	if err := fresh.loadNumber(); err != nil {
		return nil, err
	}
	s.accountsMu.Lock()
	defer s.accountsMu.Unlock()
	if a = s.accounts[id]; a == nil {
		a = fresh
		if len(s.accounts) >= maxIdleAccounts {
			s.forgetIdle()
		}
		s.accounts[id] = a
	}
	a.users++
	return a, nil
}

// blindKey is the name, in the Service slot, of the key that blind-index keys are derived from.
const blindKey = "blind"

// forgetIdle drops accounts that nobody uses, about a quarter of them. accountsMu is held.
func (s *Store) forgetIdle() {
	n := len(s.accounts) / 4
	for id, a := range s.accounts {
		if n == 0 {
			return
		}
		if a.users == 0 {
			delete(s.accounts, id)
			n--
		}
	}
}

func (s *Store) release(a *account) {
	s.accountsMu.Lock()
	a.users--
	s.accountsMu.Unlock()
}

// loadNumber finds out whether the account exists.
func (a *account) loadNumber() error {
	b, err := a.store.kv.Get(keyOfAccount(string(a.id)))
	if err != nil || b == nil {
		return err
	}
	r, err := decodeAccount(b)
	if err != nil {
		return err
	}
	a.kept.Store(r.kept)
	a.number.Store(r.number)
	return nil
}

// no is the account's number, 0 if it does not exist.
func (a *account) no() uint32 { return a.number.Load() }

// sealing returns the epoch key for n new secrets; done must follow when they are in the index, or are not going to be. Where they are kept must
// be known to unusedEpochs. If the key must be made, it is durable in the vault on return, and so is the account's key pair.
func (a *account) sealing(ctx context.Context, n int) (*epoch, error) {
	a.keyMu.Lock()
	defer a.keyMu.Unlock()
	now := a.store.o.Now()
	if e := a.epoch; e != nil && e.serves(n, now) {
		e.used += n
		e.users++
		return e, nil
	}
	fresh, err := a.makeEpoch(ctx, now)
	if err != nil {
		return nil, err
	}
	a.retire()
	fresh.used, fresh.users = n, 1
	a.epoch = fresh
	return fresh, nil
}

// makeEpoch makes an epoch that nobody uses yet; it is durable in the vault. keyMu is held.
func (a *account) makeEpoch(ctx context.Context, now time.Time) (*epoch, error) {
	s := a.store
	if err := a.ensureKey(ctx); err != nil {
		return nil, err
	}
	raw := make([]byte, keySize)
	defer clear(raw)
	if _, err := io.ReadFull(s.o.Rand, raw); err != nil {
		return nil, err
	}
	number := s.vault.LastEpoch(a.id) + 1
	sealed, err := a.key.SealEpoch(a.id, number, raw)
	if err != nil {
		return nil, err
	}
	w, err := keys.NewWrapper(raw)
	if err != nil {
		return nil, err
	}
	if err := s.vault.PutEpoch(a.id, number, sealed); err != nil {
		return nil, s.vaultFailed(err)
	}
	return &epoch{account: a, number: number, wrapper: w, made: now}, nil
}

// ensureKey makes the account's key pair if it has none. keyMu is held.
func (a *account) ensureKey(ctx context.Context) error {
	if a.key != nil {
		return nil
	}
	s := a.store
	k, ok, err := s.vault.Account(a.id)
	if err != nil {
		return err
	}
	for !ok {
		if k, err = s.makeKey(ctx, a.id); err != nil && !errors.Is(err, keys.ErrPlatformChanged) {
			return err
		}
		ok = err == nil
	}
	a.key = &k
	return nil
}

// makeKey makes an account's key pair.
func (s *Store) makeKey(ctx context.Context, id mail.AccountID) (keys.AccountKey, error) {
	kept := false
	k, err := keys.NewAccountKey(ctx, s.o.Keys, s.vault.Platform(), id, func(secret []byte) error {
		s.escrowing.RLock()
		kept = true
		return s.keep(id, secret)
	})
	if kept {
		defer s.escrowing.RUnlock()
	}
	if err == nil {
		err = s.vaultFailed(s.vault.PutAccount(id, k))
	}
	return k, err
}

// unlock takes a handle: the private key stays in memory until the last lock.
func (a *account) unlock(ctx context.Context) error {
	return a.unlockBy(func(k keys.AccountKey) (*keys.PrivateKey, error) { return k.Open(ctx, a.store.o.Keys, a.id) })
}

// unlockBy is unlock by what opens the key.
func (a *account) unlockBy(open func(keys.AccountKey) (*keys.PrivateKey, error)) error {
	a.keyMu.Lock()
	defer a.keyMu.Unlock()
	if a.handles == 0 {
		k, ok, err := a.store.vault.Account(a.id)
		if err != nil {
			return err
		}
		if !ok {
			return mail.E(mail.Corrupt, "the mail store is damaged", fmt.Errorf("account %s has no keys in the key vault", a.id))
		}
		if a.private, err = open(k); err != nil {
			return err
		}
		a.epochs = make(map[uint32]*keys.Wrapper)
	}
	a.handles++
	return nil
}

// lock gives a handle back.
func (a *account) lock() {
	a.keyMu.Lock()
	a.handles--
	last := a.handles == 0
	if last {
		a.private.Wipe()
		a.private, a.epochs = nil, nil
	}
	a.keyMu.Unlock()
	if last {
		a.search.forget()
	}
}

// opened is the Wrapper of an epoch. A handle must be held.
func (a *account) opened(number uint32) (*keys.Wrapper, error) {
	a.keyMu.Lock()
	defer a.keyMu.Unlock()
	if w := a.epochs[number]; w != nil {
		return w, nil
	}
	if a.private == nil {
		return nil, mail.E(mail.Denied, "", fmt.Errorf("account %s is not open", a.id))
	}
	sealed, err := a.store.vault.Epoch(a.id, number)
	if mail.KindOf(err) == mail.NotFound && err != nil {
		return nil, errors.Join(errNoEpoch, err)
	} else if err != nil {
		return nil, err
	}
	raw, err := a.private.OpenEpoch(number, sealed)
	if err != nil {
		return nil, err
	}
	defer clear(raw)
	w, err := keys.NewWrapper(raw)
	if err != nil {
		return nil, err
	}
	a.epochs[number] = w
	return w, nil
}

// errNoEpoch is in the chain when the key of an epoch was erased. Who has just read that something is sealed under it reads again: it may have been sealed
// anew.
var errNoEpoch = mail.E(mail.NotFound, "the message is no longer there", errors.New("the key of the epoch was erased"))

// openText opens a sealed name. A handle must be held.
func (a *account) openText(t sealedText) (string, error) {
	w, err := a.opened(t.epoch)
	if err != nil {
		return "", err
	}
	b, err := w.Unwrap(t.blob, textAAD(a.store.id, a.id))
	return string(b), err
}

// sealText seals a name under an epoch key.
func (a *account) sealText(e *epoch, text string) (sealedText, error) {
	b, err := e.wrapper.Wrap(a.store.o.Rand, nil, []byte(text), textAAD(a.store.id, a.id))
	return sealedText{e.number, b}, err
}

// The kinds of things that blind hashes stand for.
const (
	hashName      = "name "
	hashKeyword   = "keyword "
	hashMessageID = "message-id "
)

// hash is the blind hash of text.
func (a *account) hash(kind, text string) (h hash) {
	m, _ := a.macs.Get().(stdhash.Hash)
	if m == nil {
		m = hmac.New(sha256.New, a.blind)
	}
	defer a.macs.Put(m)
	m.Reset()
	_, _ = io.WriteString(m, kind) // a hash never fails
	_, _ = io.WriteString(m, text)
	var sum [sha256.Size]byte
	copy(h[:], m.Sum(sum[:0]))
	return h
}

func (a *account) keywordHash(word string) hash { return a.hash(hashKeyword, strings.ToLower(word)) }
