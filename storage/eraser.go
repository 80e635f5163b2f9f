package storage

import (
	"bytes"
	"context"
	"encoding/binary"
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
// mail, and it keeps the vault from growing for ever. Where something that was expunged shares its epoch with something that lives, the latter is sealed under
// a fresh epoch first (reseal.go).
//
// Which secrets there are the index says (message keys, names, keywords, subscriptions) and the headers of search files. An epoch may have secrets that
// are not in the index yet: so one that is used for new secrets stays, and one that somebody has got and not given back. And a secret can be on its
// way from one record to another (a move). So before an epoch is given up its account is held still, and looked through once more.

const (
	eraseEvery = 24 * time.Hour // how often the vault is written anew at most
	eraseAgain = time.Hour      // but after this once more, if not all accounts could be opened
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
	r, err := s.eraseUnused(ctx)
	if r.Epochs > 0 {
		s.o.Log.Info("epoch keys that open nothing any more were erased from the key vault", "epochs", r.Epochs)
	}
	if r.soon {
		h.erased = now.Add(eraseAgain - eraseEvery)
	}
	return err
}

// weighed are the kinds of records of which unusedEpochs knows whether something in them is sealed under an epoch.
var weighed = [...]byte{
	keyPosition, keyAccountNo, keyBodyTop, keyBoots, keyFormat, keyAccount, keyName, keyMailbox, keyCounters, keyUsage, keyTotal, keySubscribe,
	keyEntry, keySecret, keyFlags, keyExpunged, keyCopying, keyForgotten, keyMessageID, keyBody, keyGarbage, keyReclaimed, keyScrub, keyQueue, keyQueueDue,
	keyEpoch,
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

// eraseUnused erases the epoch keys that nothing needs, after what lives under tainted ones was sealed again. An account that cannot be opened now does not
// keep the others waiting.
func (s *Store) eraseUnused(ctx context.Context) (r DisposeReport, err error) {
	if err := s.strange(); err != nil {
		return r, err
	}
	defer func() { s.house.waiting.Store(int64(r.Waiting)) }()
	gone := make(map[mail.AccountID][]uint32)
	ids := make(map[uint32]mail.AccountID)
	p := pace{rate: s.o.HouseRate}
	err = s.scan(key0(keyAccount), func(k, v []byte) error {
		id := mail.AccountID(k[1:])
		record, err := decodeAccount(v)
		if err != nil {
			return err
		}
		ids[record.number] = id
		if err := s.reseal(ctx, id, record.number, &p); err != nil {
			if !s.concernsOne(ctx, err) {
				return err
			}
			soon := mail.KindOf(err).Temporary()
			if r.Waiting++; !soon || !r.soon {
				s.o.Log.Warn("mail that was disposed of waits for its keys to be erased", "account", string(id), "error", err)
			}
			r.soon = r.soon || soon
		}
		list, err := s.unusedEpochs(ctx, s.vault.Epochs(id), record.number, &p)
		if err == nil && len(list) > 0 {
			list, err = s.surelyUnused(ctx, id, record.number)
		}
		if len(list) > 0 {
			gone[id] = list
			r.Epochs += len(list)
		}
		return err
	})
	if err != nil {
		return DisposeReport{Waiting: r.Waiting, soon: r.soon}, err
	}
	if r.Epochs > 0 {
		if err := s.flushLog(); err != nil { // what says that nothing needs them must not be lost
			return DisposeReport{Waiting: r.Waiting, soon: r.soon}, err
		}
		if err := s.vault.Erase(gone); err != nil {
			if failed := s.vault.Failed(); failed != nil {
				s.stop(failed)
			}
			return DisposeReport{Waiting: r.Waiting, soon: r.soon}, err
		}
		s.forgetEpochs(gone)
	}
	return r, s.dropEpochRecords(ctx, ids)
}

// concernsOne says whether an error is of one account's keys or records, so that others can be gone on with.
func (s *Store) concernsOne(ctx context.Context, err error) bool {
	return ctx.Err() == nil && s.Ready() == nil && mail.KindOf(err) != mail.Full
}

// dropEpochRecords forgets what is known of epochs that are no more.
func (s *Store) dropEpochRecords(ctx context.Context, ids map[uint32]mail.AccountID) error {
	var list [][]byte
	err := s.scan(key0(keyEpoch), func(k, _ []byte) error {
		if id, ok := ids[binary.BigEndian.Uint32(k[1:])]; ok && !s.vault.HasEpoch(id, last32(k)) {
			list = append(list, bytes.Clone(k))
		}
		return nil
	})
	if err != nil {
		return err
	}
	for some := range slices.Chunk(list, trimBatch) {
		if err := s.commit(ctx, &commit{lazy: true}, func(b *build) error {
			for _, k := range some {
				b.delete(k)
			}
			return nil
		}); err != nil {
			return err
		}
	}
	return nil
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
	used, err := s.usedEpochs(ctx, number, p)
	if err == nil {
		err = s.searchEpochs(number, used)
	}
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(epochs, func(e uint32) bool { return used[e] }), nil
}

// usedEpochs is the epochs under which something in the index is sealed.
func (s *Store) usedEpochs(ctx context.Context, number uint32, p *pace) (map[uint32]bool, error) {
	used := make(map[uint32]bool)
	for _, kind := range []byte{keySecret, keyMailbox, keySubscribe} {
		err := s.scan(keyOf(kind, number), func(k, v []byte) error {
			if err := eachSealed(kind, v, func(epoch uint32, _ []byte) { used[epoch] = true }); err != nil {
				return err
			}
			return p.spend(ctx, int64(len(k)+len(v)))
		})
		if err != nil {
			return nil, err
		}
	}
	return used, nil
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
