package storage

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"cmmpd/internal/mail"
)

// COPY is all or nothing, however many messages it copies (RFC 9051, section 6.4.7). More of them than one act takes are put into the mailbox
// unseen: the first act notes which UIDs they will have (keyCopying), the next ones; the following acts make the copies, some at a time; the last
// one counts them all and takes the note away, and so makes them visible at once. As long as the note is there nobody sees a message with these
// UIDs; the account is held, so nothing else comes into the mailbox. A copy that fails, or that a crash interrupts, is taken back in acts of the
// same size: at once if that can be done, else by housekeeping; until then what comes into the mailbox gets UIDs beyond (Store.skips).

// copyingRecord is which UIDs of a mailbox are copies that are not complete.
type copyingRecord struct{ from, to uint32 }

func (r copyingRecord) encode() []byte {
	return appendUint(appendUint(nil, uint64(r.from)), uint64(r.to-r.from))
}

func decodeCopying(b []byte) (copyingRecord, error) {
	d := decoder{b: b}
	from, more := d.uint32(), d.uint32()
	if from == 0 || more > 1<<32-1-from {
		d.fail()
	}
	return copyingRecord{from, from + more}, d.end()
}

func (r copyingRecord) has(uid uint32) bool { return r.from <= uid && uid <= r.to }

// copyingInto is the record of a mailbox, nothing if there is none.
func (s *Store) copyingInto(key mailboxKey) (r copyingRecord, err error) {
	v, err := s.kv.Get(keyOf(keyCopying, key.account, key.mailbox))
	if err != nil || v == nil {
		return r, err
	}
	return decodeCopying(v)
}

// manyCopies is a copy of more messages than one act takes.
type manyCopies struct {
	from   *mailbox
	epoch  *epoch
	to     mailboxKey
	hidden *box     // the other mailbox as it will be
	before counters // as it is meanwhile
	last   uint32   // the UID of the last copy
	result CopyResult
}

// copyMany copies messages (ascending UIDs, all there), all or none. The account is held exclusively.
func (m *mailbox) copyMany(ctx context.Context, e *epoch, list []uint32, to mailboxKey) (CopyResult, error) {
	s, a := m.store, m.account
	if err := s.takeBack(ctx, to); err != nil { // what could not be before
		return CopyResult{}, err
	}
	if err := m.roomFor(list); err != nil {
		return CopyResult{}, err
	}
	c := &manyCopies{from: m, epoch: e, to: to}
	err := c.run(ctx, list)
	if err == nil {
		return c.result, nil
	}
	if err := s.takeBack(context.WithoutCancel(ctx), to); err != nil {
		s.skip(to, c.last)
		s.o.Log.Warn("a part of a copy that failed is taken back later; nobody sees it", "account", a.id, "error", err)
	}
	return CopyResult{}, err
}

// roomFor refuses early what the last act would refuse.
func (m *mailbox) roomFor(list []uint32) error {
	own, _, all, err := m.store.usageOf(m.key.account)
	if err != nil {
		return err
	}
	size := uint64(0)
	m.mu.RLock()
	defer m.mu.RUnlock()
	for _, uid := range list {
		if i, ok := m.find(uid); ok {
			size += uint64(m.msgs[i].size)
		}
	}
	for _, u := range []Usage{own, all} {
		if u.Quota.exceeded(uint64(u.Messages)+uint64(len(list)), uint64(u.Size)+size, true, size > 0) {
			return errOverQuota(m.account.id)
		}
	}
	return nil
}

func (c *manyCopies) run(ctx context.Context, list []uint32) error {
	s := c.from.store
	for rest := list; len(rest) > 0; {
		some := rest[:min(len(rest), s.o.act)]
		rest = rest[len(some):]
		fetched, err := c.from.fetchSecrets(some)
		if err == nil {
			err = ctx.Err()
		}
		if err == nil {
			err = s.commit(ctx, &commit{fetched: fetched}, func(b *build) error { return c.some(b, some, len(list)) })
		}
		if err != nil {
			return err
		}
	}
	return s.commit(ctx, &commit{}, c.publish)
}

// some makes some of all copies. The first time it notes their UIDs.
func (c *manyCopies) some(b *build, list []uint32, all int) error {
	m := c.from
	m.mu.RLock()
	defer m.mu.RUnlock()
	x, err := b.box(m.account, c.to)
	if err != nil {
		return err
	}
	if c.hidden == nil {
		if uint64(x.c.uidNext)+uint64(all) > 1<<32-1 {
			return errUIDs
		}
		c.hidden = &box{account: m.account, key: c.to, c: x.c, event: &event{account: m.account, key: c.to}}
		r := copyingRecord{x.c.uidNext, x.c.uidNext + uint32(all) - 1}
		b.put(keyOf(keyCopying, c.to.account, c.to.mailbox), r.encode())
		c.before, c.last = x.c, r.to
	}
	made, err := m.copy(b, c.epoch, uidSet(list), c.hidden)
	if err != nil {
		return err
	}
	if e := c.hidden.event; len(e.words) > 0 { // the mailbox knows these from now on
		x.event.words, x.changed, e.words = e.words, true, nil
	}
	c.result.UIDValidity = made.UIDValidity
	c.result.From, c.result.To = append(c.result.From, made.From...), append(c.result.To, made.To...)
	return nil
}

// publish makes the copies visible.
func (c *manyCopies) publish(b *build) error {
	x, err := b.box(c.from.account, c.to)
	if err != nil {
		return err
	}
	if x.c != c.before {
		return mail.E(mail.Internal, "", fmt.Errorf("the mailbox has changed while messages were copied into it: %+v, %+v", x.c, c.before)) // never seen
	}
	x.c, x.bumped, x.changed = c.hidden.c, true, true
	x.event.added = c.hidden.event.added
	b.delete(keyOf(keyCopying, c.to.account, c.to.mailbox))
	return nil
}

// takeBack removes the copies that are not complete from a mailbox, if there are any. The account is held exclusively.
func (s *Store) takeBack(ctx context.Context, key mailboxKey) (err error) {
	r, err := s.copyingInto(key)
	if err != nil || r.from == 0 {
		return err
	}
	defer func() {
		if err == nil {
			s.mu.Lock()
			delete(s.skips, key)
			s.mu.Unlock()
		}
	}()
	for more := true; more; {
		var uids []uint32
		refs := make(map[uint64]uint32)
		err := s.scanBatches(keyOf(keyEntry, key.account, key.mailbox), keyOf(keyEntry, key.account, key.mailbox, r.from), s.o.act, func(k, v []byte) error {
			if !r.has(last32(k)) {
				return errEnough
			}
			e, err := decodeEntry(v)
			uids = append(uids, last32(k))
			refs[e.body]++
			return err
		})
		if err != nil && !errors.Is(err, errEnough) {
			return err
		}
		more = len(uids) == s.o.act
		err = s.commit(ctx, &commit{}, func(b *build) error {
			for _, uid := range uids {
				b.delete(keyOf(keyEntry, key.account, key.mailbox, uid))
				b.delete(keyOf(keySecret, key.account, key.mailbox, uid))
			}
			if !more {
				b.delete(keyOf(keyCopying, key.account, key.mailbox))
			}
			return eachRef(refs, b.unref)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// findSkips finds copies that a crash interrupted. It is for the opening of the store, before anybody copies.
func (s *Store) findSkips() error {
	return s.scan(key0(keyCopying), func(k, v []byte) error {
		r, err := decodeCopying(v)
		s.skip(mailboxOfKey(k), r.to)
		return err
	})
}

// skip has nobody get a UID of a mailbox up to this one.
func (s *Store) skip(key mailboxKey, to uint32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.skips[key] = to
}

// takeBackAll takes back what copies have left that were interrupted.
func (s *Store) takeBackAll(ctx context.Context) error {
	left := make(map[uint32][]mailboxKey) // by account
	if err := s.scan(key0(keyCopying), func(k, _ []byte) error {
		key := mailboxOfKey(k)
		left[key.account] = append(left[key.account], key)
		return nil
	}); err != nil || len(left) == 0 {
		return err
	}
	return s.scan(key0(keyAccount), func(k, v []byte) error {
		r, err := decodeAccount(v)
		if err != nil || left[r.number] == nil {
			return errors.Join(err, ctx.Err())
		}
		a, err := s.acquire(ctx, mail.AccountID(k[1:]))
		if err != nil {
			return err
		}
		defer s.release(a)
		a.mu.Lock() // a copy that is under way is complete then
		defer a.mu.Unlock()
		for _, key := range left[r.number] {
			if err := s.takeBack(ctx, key); err != nil {
				return err
			}
		}
		return nil
	})
}

// eachRef calls f, in order, for the bodies to which references were counted.
func eachRef(refs map[uint64]uint32, f func(body uint64, n uint32) error) error {
	bodies := make([]uint64, 0, len(refs))
	for body := range refs {
		bodies = append(bodies, body)
	}
	slices.Sort(bodies)
	for _, body := range bodies {
		if err := f(body, refs[body]); err != nil {
			return err
		}
	}
	return nil
}

// copying checks the record of copies that are not complete.
func (c *checker) copying(k, v []byte) {
	ids, ok := c.ids(k, 2)
	if !ok {
		return
	}
	key := mailboxKey{ids[0], ids[1]}
	r, err := decodeCopying(v)
	m := c.mailboxes[key]
	if err != nil || m == nil || r.to >= m.c.uidNext && r.from != m.c.uidNext {
		c.problem("copies %d:%d into %v, which exists %v, are not complete: %v", r.from, r.to, key, m != nil, err)
		return
	}
	m.copying = r
}
