package storage

import (
	"bytes"
	"context"
	"fmt"
	"slices"

	"cmmpd/internal/keys"
	"cmmpd/internal/mail"
)

// A backup of the mail may be older than the key vault that is restored with it. What was sealed under keys that were erased since was
// expunged since, and cannot be opened by anybody: it does not come back. Names that were sealed so are replaced. What was sealed anew
// since comes with the vault (carried.go).

// DropDisposed takes out of an account what no key opens any more, and says how many messages that were. It is
// for a store that was restored from a backup, before anybody uses it.
func (s *Store) DropDisposed(ctx context.Context, id mail.AccountID) (dropped int, err error) {
	if err := s.takeCarried(ctx); err != nil {
		return 0, err
	}
	a, err := s.acquire(ctx, id)
	if err != nil {
		return 0, err
	}
	defer s.release(a)
	if err := s.replaceNames(ctx, a); err != nil {
		return 0, err
	}
	lost := make(map[mailboxKey][]uint32)
	err = s.scan(keyOf(keySecret, a.no()), func(k, v []byte) error {
		r, err := decodeSecret(v)
		if err == nil && !s.vault.HasEpoch(id, r.epoch) {
			key := mailboxOfKey(k)
			lost[key] = append(lost[key], last32(k))
		}
		return err
	})
	if err != nil || len(lost) == 0 {
		return 0, err
	}
	if err := a.unlock(keys.For(ctx, "restore of the store")); err != nil {
		return 0, err
	}
	defer a.lock()
	for key, uids := range lost {
		if err := s.dropMessages(ctx, a, key, uids); err != nil {
			return dropped, err
		}
		dropped += len(uids)
	}
	return dropped, nil
}

func (s *Store) dropMessages(ctx context.Context, a *account, key mailboxKey, uids []uint32) error {
	m, err := s.hold(ctx, a, key)
	if err != nil {
		return err
	}
	defer s.forgetMailbox(m) // what follows changes its counters in the index only
	a.mu.Lock()
	defer a.mu.Unlock()
	for some := range slices.Chunk(uids, s.o.act) {
		if err := s.commit(ctx, &commit{}, func(b *build) error {
			bx, err := b.box(a, key)
			if err != nil {
				return err
			}
			m.mu.RLock()
			defer m.mu.RUnlock()
			return m.remove(b, bx, some)
		}); err != nil {
			return err
		}
	}
	return nil
}

// forgetMailbox gives a mailbox back and drops what is in memory of it, if nobody else has it open.
func (s *Store) forgetMailbox(m *mailbox) {
	s.drop(m)
	s.mailboxesMu.Lock()
	defer s.mailboxesMu.Unlock()
	if m.refs == 0 && s.mailboxes[m.key] == m {
		s.idle -= m.idle
		delete(s.mailboxes, m.key)
	}
}

// replaceNames gives mailboxes and keywords whose names no key opens others, and drops such subscriptions.
func (s *Store) replaceNames(ctx context.Context, a *account) error {
	lost := func(t sealedText) bool { return !s.vault.HasEpoch(a.id, t.epoch) }
	puts := make(map[string][]byte)
	if err := s.scan(keyOf(keySubscribe, a.no()), func(k, v []byte) error {
		t, err := decodeSealedText(v)
		if err == nil && lost(t) {
			puts[string(k)] = nil
		}
		return err
	}); err != nil {
		return err
	}
	var e *epoch
	defer func() { e.done() }()
	rename := func(text string) (t sealedText, err error) {
		if e == nil {
			if e, err = a.sealing(ctx, 1); err != nil {
				return t, err
			}
		}
		return a.sealText(e, text)
	}
	if err := s.scan(keyOf(keyMailbox, a.no()), func(k, v []byte) error {
		r, err := decodeMailbox(v)
		if err != nil {
			return err
		}
		key := bytes.Clone(k)
		if lost(r.name) {
			puts[string(keyOfHash(keyName, a.no(), r.nameHash))] = nil
			name := fmt.Sprintf("Restored %d", last32(k))
			if r.nameHash == a.hash(hashName, Inbox) {
				name = Inbox
			}
			if r.name, err = rename(name); err != nil {
				return err
			}
			r.nameHash = a.hash(hashName, name)
			puts[string(keyOfHash(keyName, a.no(), r.nameHash))] = encodeNumber(uint64(last32(k)))
			puts[string(key)] = r.encode()
		}
		for i := range r.keywords {
			if !lost(r.keywords[i].name) {
				continue
			}
			word := fmt.Sprintf("restored-%d", i)
			if r.keywords[i].name, err = rename(word); err != nil {
				return err
			}
			r.keywords[i].hash = a.keywordHash(word)
			puts[string(key)] = r.encode()
		}
		return nil
	}); err != nil || len(puts) == 0 {
		return err
	}
	return s.commit(ctx, &commit{}, func(b *build) error {
		for k, v := range puts {
			b.put([]byte(k), v)
		}
		return nil
	})
}
