package storage

import (
	"cmp"
	"context"
	"slices"
	"strings"

	"github.com/emersion/go-imap/v2"

	"cmmpd/internal/mail"
)

// The operations here look at messages and change them: they hold the account exclusively, so that what the mailbox's
// index in memory shows is all there is.

// resolve is a set as ascending ranges that do not overlap. n:* takes all from n on; "*" alone must be resolved by the caller.
func resolve(uids imap.UIDSet) []uidRange {
	ranges := make([]uidRange, 0, len(uids))
	for _, r := range uids {
		if r.Stop == 0 || r.Start > r.Stop && r.Start != 0 {
			r.Stop = 1<<32 - 1
		}
		ranges = append(ranges, uidRange{uint32(r.Start), uint32(r.Stop)})
	}
	return union(ranges)
}

// union sorts ranges and makes one of those that overlap, in their own space.
func union(ranges []uidRange) []uidRange {
	slices.SortFunc(ranges, func(a, b uidRange) int { return cmp.Compare(a.from, b.from) })
	n := 0
	for _, r := range ranges {
		if n > 0 && r.from <= ranges[n-1].to {
			ranges[n-1].to = max(ranges[n-1].to, r.to)
			continue
		}
		ranges[n] = r
		n++
	}
	return ranges[:n]
}

// each calls f for the messages of resolved ranges, by UID. m.mu is held.
func (m *mailbox) each(ranges []uidRange, f func(i int, s *slot)) {
	for _, r := range ranges {
		for i := m.at(r.from); i < len(m.msgs) && m.msgs[i].uid <= r.to; i++ {
			f(i, &m.msgs[i])
		}
	}
}

// selected calls f for the messages of a set, by UID. m.mu is held.
func (m *mailbox) selected(uids imap.UIDSet, f func(i int, s *slot)) { m.each(resolve(uids), f) }

// chunks writes the records of changed flags for the UIDs that f changed: for each chunk that has one of the uids (in
// ascending order) the record is made anew from the index in memory. after is called by UID; it gives a message's flags after the commit and
// whether it is still there.
func (m *mailbox) chunks(b *build, uids []uint32, after func(s *slot) (flagEvent, bool)) {
	for len(uids) > 0 {
		chunk := uids[0] >> chunkBits
		for len(uids) > 0 && uids[0]>>chunkBits == chunk {
			uids = uids[1:]
		}
		w := runWriter{at: chunk << chunkBits}
		for i := m.at(chunk << chunkBits); i < len(m.msgs) && m.msgs[i].uid>>chunkBits == chunk; i++ {
			if f, ok := after(&m.msgs[i]); ok {
				w.add(f)
			}
		}
		b.put(keyOf(keyFlags, m.key.account, m.key.mailbox, chunk), w.end())
	}
}

// Stored is the messages that StoreFlags changed.
type Stored struct {
	UIDs   []uint32 // ascending
	ModSeq uint64   // what they all have now
	Before uint64   // the mailbox's highest mod-sequence before that
}

// flagChange is one StoreFlags: what becomes of which messages. It says the same before it is applied to the index in memory and
// while it is, message by message, however many there are.
type flagChange struct {
	ranges []uidRange
	op     FlagOp
	set    flagSet
	since  uint64 // a message with a greater mod-sequence stays as it is; 0: none
	modSeq uint64
}

// of is a message's flags after the change, and whether they are others than before.
func (c *flagChange) of(m *mailbox, s *slot) (f flagSet, differs bool) {
	old := m.flags(s)
	if c.spares(s) {
		return old, false
	}
	f = old.apply(c.op, c.set)
	return f, f != old
}

func (c *flagChange) spares(s *slot) bool { return c.since > 0 && s.modSeq > c.since }

// apply does it. m.mu is held.
func (c *flagChange) apply(m *mailbox) {
	m.each(c.ranges, func(i int, s *slot) {
		if f, differs := c.of(m, s); differs {
			m.setFlags(i, c.modSeq, f)
		}
	})
}

// StoreFlags changes the flags of those messages of uids that exist. With unchangedSince > 0, messages whose
// mod-sequence is greater are left alone and returned in modified (RFC 7162, section 3.1.3). changed are the messages
// whose flags are different now. The change is visible on return, and flushed a little later.
func (m *Mailbox) StoreFlags(ctx context.Context, uids imap.UIDSet, op FlagOp, flags []string, unchangedSince uint64) (changed Stored, modified imap.UIDSet, err error) {
	p, err := parseFlags(flags)
	if err != nil {
		return Stored{}, nil, err
	}
	x := m.m
	a := x.account
	if m.Recoverable() {
		return Stored{}, nil, errRecoverable
	}
	var e *epoch
	if len(p.words) > 0 {
		if e, err = a.sealing(ctx, len(p.words)); err != nil {
			return Stored{}, nil, err
		}
		defer e.done()
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	err = x.store.commit(ctx, &commit{lazy: true}, func(b *build) error {
		bx, err := b.box(a, x.key)
		if err != nil {
			return err
		}
		c := &flagChange{ranges: resolve(uids), op: op, since: unchangedSince}
		if c.set, err = x.flagSet(b, bx, e, p, op); err != nil {
			return err
		}
		x.mu.RLock()
		defer x.mu.RUnlock()
		changed.UIDs, modified = x.choose(bx, c)
		if len(changed.UIDs) > 0 {
			c.modSeq = bx.modSeq(b.store.boot)
			changed.ModSeq, changed.Before, bx.event.changed = c.modSeq, max(bx.before.modSeq, 1), c
			x.changeChunks(b, c, changed.UIDs)
		}
		return nil
	})
	if err != nil {
		return Stored{}, nil, err
	}
	return changed, modified, nil
}

// changeChunks writes the records of the flags of the messages that a change concerns. m.mu is held for reading.
func (m *mailbox) changeChunks(b *build, c *flagChange, uids []uint32) {
	rest := uids
	m.chunks(b, uids, func(s *slot) (flagEvent, bool) {
		for len(rest) > 0 && rest[0] < s.uid {
			rest = rest[1:]
		}
		if len(rest) > 0 && rest[0] == s.uid {
			f, _ := c.of(m, s)
			return flagEvent{s.uid, c.modSeq, f}, true
		}
		return flagEvent{s.uid, s.modSeq, m.flags(s)}, s.sys&slotChanged != 0
	})
}

// flagSet is the mailbox's bits for parsed flags. What is to be removed need not be learned.
func (m *mailbox) flagSet(b *build, bx *box, e *epoch, p parsedFlags, op FlagOp) (flagSet, error) {
	if op != DelFlags {
		return b.flags(bx, e, p)
	}
	set := flagSet{sys: p.sys}
	m.mu.RLock()
	defer m.mu.RUnlock()
	for _, word := range p.words {
		for i, known := range m.words {
			if strings.EqualFold(known, word) {
				set.add(i)
			}
		}
	}
	return set, nil
}

// choose counts what a change does, and returns the messages that it changes and those that fail the test of their mod-sequence.
func (m *mailbox) choose(bx *box, c *flagChange) (changed []uint32, modified imap.UIDSet) {
	m.each(c.ranges, func(_ int, s *slot) {
		if c.spares(s) {
			modified.AddNum(imap.UID(s.uid))
			return
		}
		f, differs := c.of(m, s)
		if !differs {
			return
		}
		recent := s.uid >= bx.c.firstRecent
		bx.count(-1, m.flags(s), int64(s.size), recent)
		bx.count(1, f, int64(s.size), recent)
		changed = append(changed, s.uid)
	})
	return changed, modified
}

// Expunge removes the messages marked \Deleted, only those of uids if that is not nil, durably. gone is ascending; after an error it is what is gone
// nevertheless.
func (m *Mailbox) Expunge(ctx context.Context, uids *imap.UIDSet) (gone imap.UIDSet, err error) {
	x := m.m
	a := x.account
	if m.Recoverable() {
		return nil, errRecoverable
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	all := imap.UIDSet{{Start: 1, Stop: 0}}
	if uids != nil {
		all = *uids
	}
	list := x.uidsOf(all, func(s *slot) bool { return s.sys&sysDeleted != 0 })
	done, err := x.removeSome(ctx, list)
	return uidSet(list[:done]), err
}

func uidRanges(list []uint32) []uidRange {
	var ranges []uidRange
	for _, uid := range list {
		ranges = appendUID(ranges, uid)
	}
	return ranges
}

// remove takes messages (ascending UIDs, all there) out of the mailbox and leaves their trace. m.mu is held for reading.
func (m *mailbox) remove(b *build, bx *box, list []uint32) error {
	return m.removeMoved(b, bx, list, 0)
}

// removeMoved is remove where the last moved of the messages have an entry elsewhere, which takes over the reference to the body.
func (m *mailbox) removeMoved(b *build, bx *box, list []uint32, moved int) error {
	refs := make(map[uint64]uint32, len(list))
	changed := list[:0:0]
	for n, uid := range list {
		i, ok := m.find(uid)
		if !ok {
			return errGone
		}
		s := &m.msgs[i]
		if n < len(list)-moved {
			refs[s.body]++
		}
		if s.sys&slotChanged != 0 {
			changed = append(changed, uid)
		}
		b.delete(keyOf(keyEntry, m.key.account, m.key.mailbox, uid))
		b.delete(keyOf(keySecret, m.key.account, m.key.mailbox, uid))
		bx.count(-1, m.flags(s), int64(s.size), uid >= bx.c.firstRecent)
	}
	if err := eachRef(refs, b.unref); err != nil {
		return err
	}
	m.chunks(b, changed, func(s *slot) (flagEvent, bool) {
		if _, ok := slices.BinarySearch(list, s.uid); ok {
			return flagEvent{}, false
		}
		return flagEvent{s.uid, s.modSeq, m.flags(s)}, s.sys&slotChanged != 0
	})
	modSeq := bx.modSeq(b.store.boot)
	b.put(keyOfExpunge(m.key.account, m.key.mailbox, modSeq), encodeUIDs(uidRanges(list)))
	bx.event.gone = list
	return nil
}

// Copy copies those messages of uids that exist into another mailbox of the account, durably, all or none. The copies
// share body, key, EMAILID and THREADID, and have the flags and internal date of the originals. The error is of kind
// mail.NotFound if there is no such mailbox.
func (m *Mailbox) Copy(ctx context.Context, uids imap.UIDSet, dest string) (CopyResult, error) {
	return m.copyTo(ctx, uids, dest, false)
}

// Move is Copy and the removal from m in one act for each message (RFC 6851). After an error the result is what was moved nevertheless.
func (m *Mailbox) Move(ctx context.Context, uids imap.UIDSet, dest string) (CopyResult, error) {
	return m.copyTo(ctx, uids, dest, true)
}

func (m *Mailbox) copyTo(ctx context.Context, uids imap.UIDSet, dest string, move bool) (CopyResult, error) {
	x := m.m
	a := x.account
	e, err := a.sealing(ctx, len(m.Keywords())) // for those that the other mailbox does not know yet
	if err != nil {
		return CopyResult{}, err
	}
	defer e.done()
	a.mu.Lock()
	defer a.mu.Unlock()
	to, _, err := a.lookup(dest)
	if err != nil {
		return CopyResult{}, err
	}
	if a.recoverable(to.mailbox) {
		return CopyResult{}, errRecoverable
	}
	list := x.uidsOf(uids, func(*slot) bool { return true })
	if !move && len(list) > x.store.o.act {
		return x.copyMany(ctx, e, list, to)
	}
	return x.copyAll(ctx, e, list, to, move)
}

// copyAll copies or moves messages (ascending UIDs, all there), some in one act. After an error the result is what was done nevertheless. The
// account is held exclusively.
func (m *mailbox) copyAll(ctx context.Context, e *epoch, list []uint32, to mailboxKey, move bool) (result CopyResult, err error) {
	for most, begin := m.store.o.act, 0; begin == 0 || begin < len(list); begin += most {
		r, err := m.copySome(ctx, e, list[begin:min(len(list), begin+most)], to, move)
		if err != nil {
			return result, err
		}
		result.UIDValidity = r.UIDValidity
		result.From, result.To = append(result.From, r.From...), append(result.To, r.To...)
	}
	return result, nil
}

// copySome copies or moves messages in one act. The account is held exclusively.
func (m *mailbox) copySome(ctx context.Context, e *epoch, list []uint32, to mailboxKey, move bool) (CopyResult, error) {
	fetched, err := m.fetchSecrets(list)
	if err != nil {
		return CopyResult{}, err
	}
	var result CopyResult
	err = m.store.commit(ctx, &commit{fetched: fetched}, func(b *build) (err error) {
		result, err = m.transfer(b, e, list, to, move)
		return err
	})
	return result, err
}

// transfer is the act of copySome.
func (m *mailbox) transfer(b *build, e *epoch, list []uint32, to mailboxKey, move bool) (CopyResult, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	from, err := b.box(m.account, m.key)
	if err != nil {
		return CopyResult{}, err
	}
	target, err := b.box(m.account, to)
	if err != nil {
		return CopyResult{}, err
	}
	result, err := m.copy(b, e, uidSet(list), target)
	if err != nil || !move || len(result.From) == 0 {
		return result, err
	}
	return result, m.remove(b, from, result.From)
}

// copy makes the copies in target. m.mu is held for reading.
func (m *mailbox) copy(b *build, e *epoch, uids imap.UIDSet, target *box) (CopyResult, error) {
	result := CopyResult{UIDValidity: target.c.uidValidity}
	refs := make(map[uint64]uint32)
	words := make(map[[2]uint64][2]uint64) // from one mailbox's bits to the other's
	now := b.store.o.Now().Unix()
	var failed error
	m.selected(uids, func(_ int, s *slot) {
		if failed != nil {
			return
		}
		var uid uint32
		if uid, failed = m.copyOne(b, e, s, target, words, now); failed == nil {
			refs[s.body]++
			result.From, result.To = append(result.From, s.uid), append(result.To, uid)
		}
	})
	if failed != nil {
		return CopyResult{}, failed
	}
	return result, eachRef(refs, b.ref)
}

func (m *mailbox) copyOne(b *build, e *epoch, s *slot, target *box, words map[[2]uint64][2]uint64, now int64) (uint32, error) {
	secret, err := b.get(keyOf(keySecret, m.key.account, m.key.mailbox, s.uid))
	if err != nil {
		return 0, err
	}
	if secret == nil {
		return 0, errRecord
	}
	flags := m.flags(s)
	if target.recoverable {
		flags.sys &^= sysDeleted
	}
	if flags.words != [2]uint64{} && m.key != target.key {
		bits, ok := words[flags.words]
		if !ok {
			set, err := b.flags(target, e, parsedFlags{words: Flags{flagSet{words: flags.words}, m.words}.List()})
			if target.recoverable && mail.KindOf(err) == mail.TooLarge && err != nil { // it knows as many keywords as it can
				set, err = flagSet{}, nil
			}
			if err != nil {
				return 0, err
			}
			bits = set.words
			words[flags.words] = bits
		}
		flags.words = bits
	}
	uid, err := target.uid()
	if err != nil {
		return 0, err
	}
	r := entryRecord{
		modSeq: target.modSeq(b.store.boot), body: s.body, thread: s.thread, internal: s.internal, saved: now,
		size: int64(s.size), flags: flags,
	}
	b.put(keyOf(keyEntry, target.key.account, target.key.mailbox, uid), r.encode())
	b.put(keyOf(keySecret, target.key.account, target.key.mailbox, uid), secret)
	target.count(1, flags, r.size, true)
	target.event.added = append(target.event.added, entryEvent{uid, r})
	return uid, nil
}
