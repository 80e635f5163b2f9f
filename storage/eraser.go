package storage

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"

	"cmmpd/internal/durable"
	"cmmpd/internal/mail"
)

// Epoch keys that open nothing any more are erased from the key vault: that is what makes expunged mail unreadable in free blocks and in old copies of the
// mail, and it keeps the vault from growing for ever.
//
// Which secrets there are the index says (message keys, names, keywords, subscriptions) and the headers of search files. An epoch may have secrets that
// are not in the index yet: so one that is used for new secrets stays, and one that somebody has got and not given back. And a secret can be on its
// way from one record to another (a move). So before an epoch is given up its account is held still, and looked through once more.

const (
	eraseEvery = 24 * time.Hour // how often the vault is written anew at most
	eraseAfter = time.Hour      // not sooner after the store was opened, or a backup ended: its vault is copied after the mail
)

// eraseEpochs erases what can be erased, if it is time.
func (s *Store) eraseEpochs(ctx context.Context) error {
	s.retireEpochs()
	h := &s.house
	now := time.Now()
	s.pinMu.Lock()
	quiet := s.pins == 0 && now.Sub(s.pinned) >= eraseAfter
	s.pinMu.Unlock()
	if !quiet || now.Sub(h.opened) < eraseAfter || !h.erased.IsZero() && now.Sub(h.erased) < eraseEvery {
		return nil
	}
	h.erased = now
	n, err := s.eraseUnused(ctx)
	if n > 0 {
		s.o.Log.Info("epoch keys that open nothing any more were erased from the key vault", "epochs", n)
	}
	return err
}

// weighed are the kinds of records of which unusedEpochs knows whether something in them is sealed under an epoch.
var weighed = [...]byte{
	keyPosition, keyAccountNo, keyBodyTop, keyBoots, keyFormat, keyAccount, keyName, keyMailbox, keyCounters, keyUsage, keyTotal, keySubscribe,
	keyEntry, keySecret, keyFlags, keyExpunged, keyCopying, keyForgotten, keyMessageID, keyBody, keyGarbage, keyReclaimed, keyScrub, keyQueue, keyQueueDue,
}

// strange is an error if the index has records of another kind: nothing is erased then.
func (s *Store) strange() error {
	for kind := range 256 {
		if slices.Contains(weighed[:], byte(kind)) {
			continue
		}
		err := s.scanSome(key0(byte(kind)), 1, func(k, _ []byte) error {
			return mail.E(mail.Internal, "", fmt.Errorf("no keys are erased: the index has records of kind %q, which may need them", k[0]))
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// eraseUnused erases the epoch keys that nothing needs, and says how many.
func (s *Store) eraseUnused(ctx context.Context) (n int, err error) {
	if err := s.strange(); err != nil {
		return 0, err
	}
	gone := make(map[mail.AccountID][]uint32)
	p := pace{rate: s.o.HouseRate}
	err = s.scan(key0(keyAccount), func(k, v []byte) error {
		id := mail.AccountID(k[1:])
		r, err := decodeAccount(v)
		if err != nil {
			return err
		}
		list, err := s.unusedEpochs(ctx, s.vault.Epochs(id), r.number, &p)
		if err == nil && len(list) > 0 {
			list, err = s.surelyUnused(ctx, id, r.number)
		}
		if len(list) > 0 {
			gone[id] = list
			n += len(list)
		}
		return err
	})
	if err != nil || n == 0 {
		return 0, err
	}
	if err := s.vault.Erase(gone); err != nil {
		if failed := s.vault.Failed(); failed != nil {
			s.stop(failed)
		}
		return 0, err
	}
	s.forgetEpochs(gone)
	return n, nil
}

// surelyUnused is unusedEpochs while nothing moves within the account.
func (s *Store) surelyUnused(ctx context.Context, id mail.AccountID, number uint32) ([]uint32, error) {
	a, err := s.acquire(ctx, id)
	if err != nil {
		return nil, err
	}
	defer s.release(a)
	a.mu.Lock()
	defer a.mu.Unlock()
	return s.unusedEpochs(ctx, a.finished(), number, &pace{rate: -1})
}

// unusedEpochs is those of an account's epochs that nothing is sealed under.
func (s *Store) unusedEpochs(ctx context.Context, epochs []uint32, number uint32, p *pace) ([]uint32, error) {
	if len(epochs) == 0 {
		return nil, nil
	}
	used := make(map[uint32]bool)
	text := func(v []byte) error {
		t, err := decodeSealedText(v)
		used[t.epoch] = true
		return err
	}
	for _, of := range []struct {
		kind byte
		see  func(v []byte) error
	}{
		{keySecret, func(v []byte) error {
			r, err := decodeSecret(v)
			used[r.epoch] = true
			return err
		}},
		{keyMailbox, func(v []byte) error {
			r, err := decodeMailbox(v)
			used[r.name.epoch] = true
			for _, w := range r.keywords {
				used[w.name.epoch] = true
			}
			return err
		}},
		{keySubscribe, text},
	} {
		err := s.scan(keyOf(of.kind, number), func(k, v []byte) error {
			if err := of.see(v); err != nil {
				return err
			}
			return p.spend(ctx, int64(len(k)+len(v)))
		})
		if err != nil {
			return nil, err
		}
	}
	if err := s.searchEpochs(number, used); err != nil {
		return nil, err
	}
	var unused []uint32
	for _, e := range epochs {
		if !used[e] {
			unused = append(unused, e)
		}
	}
	return unused, nil
}

// searchEpochs notes the epochs under which the keys of an account's search files are sealed. A file that cannot be read is made again anyway.
func (s *Store) searchEpochs(number uint32, used map[uint32]bool) error {
	names, err := s.o.FS.List(s.searchPath(number))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	for _, name := range names {
		if strings.HasSuffix(name, durable.TempSuffix) {
			continue // of this opening
		}
		f, err := s.readSearchFile(number, name)
		if err == nil {
			used[f.epoch] = true
		} else if mail.KindOf(damaged(err)) == mail.Unavailable {
			return err
		}
	}
	return nil
}
