package storage

import (
	"bytes"
	"context"
	"time"

	"github.com/emersion/go-imap/v2"
)

// What is remembered of the past is not remembered for ever: expunges, of which each mailbox keeps the latest, and Message-IDs, which are kept for so
// many days after they were last of use. Trimming goes through the index, at housekeeping's rate, and deletes a bounded number of records in one act.

// trimEvery is how often the index is gone through.
const trimEvery = 24 * time.Hour

// trimBatch is how many records one act deletes.
const trimBatch = 512

// trim forgets what is old, if that was not done for a day.
func (s *Store) trim(ctx context.Context) error {
	h := &s.house
	if now := time.Now(); !h.trimmed.IsZero() && now.Sub(h.trimmed) < trimEvery {
		return nil
	}
	h.trimmed = time.Now()
	if err := s.trimExpunged(ctx); err != nil {
		return err
	}
	return s.trimMessageIDs(ctx)
}

// forgotten is the mod-sequence up to which a mailbox's expunges are not remembered.
func (s *Store) forgotten(key mailboxKey) (uint64, error) {
	v, err := s.kv.Get(keyOf(keyForgotten, key.account, key.mailbox))
	if err != nil {
		return 0, err
	}
	return decodeNumber(v)
}

// missing is the UIDs that were given out and are not there.
func (m *mailbox) missing() (set imap.UIDSet) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	next := uint32(1)
	gap := func(to uint32) {
		if next <= to {
			set.AddRange(imap.UID(next), imap.UID(to))
		}
	}
	for i := range m.msgs {
		gap(m.msgs[i].uid - 1)
		next = m.msgs[i].uid + 1
	}
	gap(m.c.uidNext - 1)
	return set
}

// trimExpunged leaves each mailbox the latest of its expunge traces. A fifth more than that is let be, so that there is something to do when it is
// done.
func (s *Store) trimExpunged(ctx context.Context) error {
	p := pace{rate: s.o.HouseRate}
	keep := s.o.KeepExpunges
	many := make(map[mailboxKey]int) // how many must go
	var at mailboxKey
	n := 0
	end := func() {
		if n > keep+keep/5 {
			many[at] = n - keep
		}
	}
	err := s.scan(key0(keyExpunged), func(k, v []byte) error {
		if key := mailboxOfKey(k); key != at {
			end()
			at, n = key, 0
		}
		n++
		return p.spend(ctx, int64(len(k)+len(v)))
	})
	if err != nil {
		return err
	}
	end()
	for key, n := range many {
		if err := s.forgetExpunged(ctx, key, n); err != nil {
			return err
		}
	}
	return nil
}

// forgetExpunged forgets the oldest n expunge traces of a mailbox.
func (s *Store) forgetExpunged(ctx context.Context, key mailboxKey, n int) error {
	var batch [][]byte
	flush := func() error {
		list := batch
		batch = nil
		if len(list) == 0 {
			return ctx.Err()
		}
		return s.commit(ctx, &commit{lazy: true}, func(b *build) error {
			if v, err := b.get(keyOf(keyCounters, key.account, key.mailbox)); err != nil || v == nil {
				return err // the mailbox is gone
			}
			for _, k := range list {
				b.delete(k)
			}
			b.put(keyOf(keyForgotten, key.account, key.mailbox), encodeNumber(last64(list[len(list)-1])))
			return nil
		})
	}
	err := s.scan(keyOf(keyExpunged, key.account, key.mailbox), func(k, _ []byte) error {
		if n == 0 {
			return nil
		}
		n--
		if batch = append(batch, bytes.Clone(k)); len(batch) == trimBatch {
			return flush()
		}
		return ctx.Err()
	})
	if err != nil {
		return err
	}
	return flush()
}

// trimMessageIDs forgets Message-IDs that were not of use for long. Those of an older format get a day. How late it is the records themselves
// say with: a clock that runs far ahead of them is not believed.
func (s *Store) trimMessageIDs(ctx context.Context) error {
	newest := uint64(0)
	p := pace{rate: s.o.HouseRate}
	each := func(f func(k, v []byte, r messageIDRecord) error) error {
		return s.scan(key0(keyMessageID), func(k, v []byte) error {
			r, err := decodeMessageID(v)
			if err == nil {
				err = f(k, v, r)
			}
			if err != nil {
				return err
			}
			return p.spend(ctx, int64(len(k)+len(v)))
		})
	}
	if err := each(func(_, _ []byte, r messageIDRecord) error {
		newest = max(newest, r.day)
		return nil
	}); err != nil {
		return err
	}
	today := s.today()
	if newest > 0 {
		today = min(today, newest+freshDays)
	}
	keep := uint64(s.o.KeepMessageIDs / (24 * time.Hour))
	batch := make(map[string][]byte)
	flush := func() error {
		list := batch
		batch = make(map[string][]byte)
		return s.commit(ctx, &commit{lazy: true}, func(b *build) error { return b.trimMessageIDs(list) })
	}
	if err := each(func(k, v []byte, r messageIDRecord) error {
		if r.day == 0 || r.day+keep < today {
			batch[string(k)] = bytes.Clone(v)
		}
		if len(batch) == trimBatch {
			return flush()
		}
		return nil
	}); err != nil {
		return err
	}
	return flush()
}

// trimMessageIDs forgets the records that are what they were, and gives those without a day one.
func (b *build) trimMessageIDs(list map[string][]byte) error {
	for k, was := range list {
		v, err := b.get([]byte(k))
		if err != nil {
			return err
		}
		if !bytes.Equal(v, was) {
			continue // it was of use meanwhile
		}
		r, err := decodeMessageID(v)
		if err != nil {
			return err
		}
		if r.day == 0 {
			r.day = b.store.today()
			b.put([]byte(k), r.encode())
		} else {
			b.delete([]byte(k))
		}
	}
	return nil
}

// forgottenTraces checks the mark below which expunge traces are forgotten.
func (c *checker) forgottenTraces(k, v []byte) {
	ids, ok := c.ids(k, 2)
	if !ok {
		return
	}
	key := mailboxKey{ids[0], ids[1]}
	n, err := decodeNumber(v)
	m := c.mailboxes[key]
	if err != nil || m == nil || n > m.c.modSeq {
		c.problem("expunges of %v, which exists %v, are forgotten up to %d (%v)", key, m != nil, n, err)
	}
}
