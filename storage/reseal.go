package storage

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"

	"cmmpd/internal/keys"
	"cmmpd/internal/mail"
)

// What is disposed of must stay unreadable for whoever has an old copy of the mail and today's key vault. So what still lives under a tainted epoch is
// sealed again under fresh epochs, some at a time, in acts like all others; then nothing needs the tainted epoch, and its key is erased. A crash in
// between leaves everything readable, and the next run goes on: what was sealed again is tainted no longer, and a fresh epoch under which nothing came to
// be is erased like any other that nothing uses.
//
// It needs the account's private key. Where nobody has the account open it is unwrapped for this alone, which is on record; while the platform is
// sealed it waits.

const (
	resealEpoch = 256  // secrets under one fresh epoch: so many must be sealed again at most when one of them is disposed of
	resealAct   = 256  // secrets that are sealed again in one act
	resealScan  = 4096 // records that are looked at in one act
	resealOpens = 50   // accounts that are opened in a second
)

// DisposeReport says what Dispose did.
type DisposeReport struct {
	Epochs  int  `json:"epochs"`  // keys that were erased
	Waiting int  `json:"waiting"` // accounts in which something waits, because their keys cannot be had now, or something does not open
	soon    bool // some of them may be had soon
}

// Dispose makes unreadable, for good, what was expunged and cannot be brought back any more: without it that happens once a day. It is done when Dispose
// returns: no key in the vault opens any of it. The error is of kind mail.Busy while a backup is made.
func (s *Store) Dispose(ctx context.Context) (r DisposeReport, err error) {
	err = s.house.alone(ctx, func(ctx context.Context) error {
		s.pinMu.Lock()
		busy := s.pins > 0
		s.pinMu.Unlock()
		if busy {
			return mail.E(mail.Busy, "a backup is being made; try again when it is done", nil)
		}
		if err := s.expireSome(ctx); err != nil {
			return err
		}
		s.retireEpochs()
		r, err = s.eraseUnused(ctx)
		return err
	})
	return r, err
}

// resealing is that of one account.
type resealing struct {
	account *account
	tainted map[uint32]bool
	from    []byte // the first secret that was not looked at
	epoch   *epoch // for what is sealed again
	pace    *pace
}

// reseal seals again what lives under the account's tainted epochs, but for those under which somebody is sealing something.
func (s *Store) reseal(ctx context.Context, id mail.AccountID, number uint32, p *pace) error {
	known, err := s.epochsOf(number)
	if err != nil {
		return err
	}
	some := false
	for _, r := range known {
		some = some || r.tainted
	}
	if !some {
		return nil
	}
	a, err := s.acquire(ctx, id)
	if err != nil {
		return err
	}
	defer s.release(a)
	w := &resealing{account: a, tainted: a.finishTainted(known), pace: p}
	used, err := s.usedEpochs(ctx, number, p)
	if err != nil {
		return err
	}
	for epoch := range w.tainted {
		if !used[epoch] {
			delete(w.tainted, epoch)
		}
	}
	if len(w.tainted) == 0 {
		return nil
	}
	if err := p.spend(ctx, p.rate/resealOpens); err != nil { // those who log in need the keystore, too
		return err
	}
	if err := a.unlock(keys.For(ctx, "disposal of mail")); err != nil {
		return err
	}
	defer a.lock()
	for more := true; more; {
		if more, err = w.some(ctx); err != nil {
			return err
		}
	}
	return w.texts(ctx)
}

// finishTainted is the tainted epochs that nothing more will be sealed under. That of today is given up if it is tainted.
func (a *account) finishTainted(known map[uint32]epochRecord) map[uint32]bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.keyMu.Lock()
	if e := a.epoch; e != nil && known[e.number].tainted {
		a.retire()
	}
	a.keyMu.Unlock()
	tainted := make(map[uint32]bool)
	for _, n := range a.finished() {
		if known[n].tainted {
			tainted[n] = true
		}
	}
	return tainted
}

// ownEpoch makes an epoch for the caller alone; done must follow when what was sealed under it is in the index.
func (a *account) ownEpoch(ctx context.Context) (*epoch, error) {
	a.keyMu.Lock()
	defer a.keyMu.Unlock()
	e, err := a.makeEpoch(ctx, a.store.o.Now())
	if err != nil {
		return nil, err
	}
	if a.earlier == nil {
		a.earlier = make(map[uint32]*epoch)
	}
	e.users, a.earlier[e.number] = 1, e
	return e, nil
}

// fresh is the epoch for n more secrets.
func (w *resealing) fresh(ctx context.Context, n int) (*epoch, error) {
	if w.epoch == nil || w.epoch.used > 0 && w.epoch.used+n > min(resealEpoch, w.account.store.o.EpochMessages) {
		w.end()
		var err error
		if w.epoch, err = w.account.ownEpoch(ctx); err != nil {
			return nil, err
		}
	}
	w.epoch.used += n // nobody else has it
	return w.epoch, nil
}

// end gives the epoch back.
func (w *resealing) end() {
	w.epoch.done()
	w.epoch = nil
}

// resealed is a record and what it becomes.
type resealed struct {
	key, was []byte
	secret   secretRecord
	body     uint64
}

// some seals some of the account's message keys again, in one act, and says whether there may be more. Nothing moves in the account meanwhile.
func (w *resealing) some(ctx context.Context) (more bool, err error) {
	a := w.account
	a.mu.Lock()
	defer a.mu.Unlock()
	defer w.end()
	list, more, err := w.collect()
	if err != nil {
		return false, err
	}
	for some := range slices.Chunk(list, min(resealAct, a.store.o.EpochMessages)) {
		e, err := w.fresh(ctx, len(some))
		if err != nil {
			return false, err
		}
		if err := w.seal(ctx, e, some); err != nil {
			return false, err
		}
	}
	return more, nil
}

// collect finds the next message keys under tainted epochs.
func (w *resealing) collect() (list []resealed, more bool, err error) {
	s := w.account.store
	seen := 0
	err = s.scanBatches(keyOf(keySecret, w.account.no()), w.from, resealScan, func(k, v []byte) error {
		if len(list) == resealAct {
			w.from = bytes.Clone(k)
			return errEnough
		}
		seen++
		w.from = append(bytes.Clone(k), 0)
		secret, err := decodeSecret(v)
		if err != nil || !w.tainted[secret.epoch] {
			return err
		}
		of := bytes.Clone(k)
		of[0] = keyEntry
		e, err := s.kv.Get(of)
		if err != nil || e == nil { // of a copy that is taken back
			return err
		}
		entry, err := decodeEntry(e)
		secret.blob = bytes.Clone(secret.blob)
		list = append(list, resealed{bytes.Clone(k), bytes.Clone(v), secret, entry.body})
		return err
	})
	if errors.Is(err, errEnough) {
		return list, true, nil
	}
	return list, seen == resealScan, err
}

// seal seals message keys under e and has the index say so. One that does not open is left as it is: then its epoch stays, too.
func (w *resealing) seal(ctx context.Context, e *epoch, list []resealed) error {
	a := w.account
	s := a.store
	puts, size := make([][]byte, len(list)), int64(0)
	for i, r := range list {
		from, err := a.opened(r.secret.epoch)
		if err != nil {
			return err
		}
		aad := entryAAD(s.id, a.id, r.body)
		plain, err := from.Unwrap(r.secret.blob, aad)
		if err != nil {
			s.o.Log.Error("the key of a message does not open; what else was sealed with it cannot be disposed of", "account", a.id, "error", err)
			continue
		}
		blob, err := e.wrapper.Wrap(s.o.Rand, nil, plain, aad)
		clear(plain)
		if err != nil {
			return err
		}
		puts[i] = secretRecord{e.number, blob}.encode()
		size += int64(len(r.key) + len(puts[i]))
	}
	err := s.commit(ctx, &commit{}, func(b *build) error {
		put := false
		for i, r := range list {
			now, err := b.get(r.key)
			if err != nil {
				return err
			}
			if puts[i] != nil && bytes.Equal(now, r.was) {
				b.put(r.key, puts[i])
				put = true
			}
		}
		if !put {
			return nil
		}
		return b.markEpoch(a.no(), e.number, epochRecord{carried: true})
	})
	if err != nil {
		return err
	}
	return w.pace.spend(ctx, 2*size)
}

// texts seals names and keywords again.
func (w *resealing) texts(ctx context.Context) error {
	a := w.account
	a.mu.Lock()
	defer a.mu.Unlock()
	defer w.end()
	var all [][]byte
	for _, kind := range []byte{keyMailbox, keySubscribe} {
		err := a.store.scan(keyOf(kind, a.no()), func(k, v []byte) error {
			concerned := false
			err := eachSealed(kind, v, func(epoch uint32, _ []byte) { concerned = concerned || w.tainted[epoch] })
			if concerned {
				all = append(all, bytes.Clone(k))
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	for _, key := range all {
		e, err := w.fresh(ctx, 1)
		if err != nil {
			return err
		}
		err = a.store.commit(ctx, &commit{}, func(b *build) error {
			v, err := b.get(key)
			if err != nil {
				return err
			}
			if v, err = w.text(e, key[0], v); err != nil {
				return err
			}
			b.put(key, v)
			return b.markEpoch(a.no(), e.number, epochRecord{carried: true})
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// text is a record with its texts sealed again under e.
func (w *resealing) text(e *epoch, kind byte, v []byte) ([]byte, error) {
	again := func(t *sealedText) error {
		if !w.tainted[t.epoch] {
			return nil
		}
		text, err := w.account.openText(*t)
		if err != nil {
			return fmt.Errorf("a name: %w", err)
		}
		w.epoch.used++
		*t, err = w.account.sealText(e, text)
		return err
	}
	if kind == keySubscribe {
		t, err := decodeSealedText(v)
		if err == nil {
			err = again(&t)
		}
		return t.append(nil), err
	}
	r, err := decodeMailbox(v)
	if err != nil {
		return nil, err
	}
	err = again(&r.name)
	for i := range r.keywords {
		if err == nil {
			err = again(&r.keywords[i].name)
		}
	}
	return r.encode(), err
}
