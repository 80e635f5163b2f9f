package storage

import (
	"context"
	"slices"
	"strings"

	"github.com/emersion/go-imap/v2"
)

// The operations here look at messages and change them: they hold the account exclusively, so that what the mailbox's
// index in memory shows is all there is.

// selected calls f for the messages of a set, by UID. A set with "*" must be resolved by the caller, except that n:* takes
// all from n on. m.mu is held.
func (m *mailbox) selected(uids imap.UIDSet, f func(i int, s *slot)) {
	ranges := slices.Clone(uids)
	for i, r := range ranges {
		if r.Stop == 0 || r.Start > r.Stop && r.Start != 0 {
			ranges[i] = imap.UIDRange{Start: r.Start, Stop: 1<<32 - 1}
		}
	}
	slices.SortFunc(ranges, func(a, b imap.UIDRange) int { return int(int64(a.Start) - int64(b.Start)) })
	next := 0 // so that no message is taken twice
	for _, r := range ranges {
		for i := max(next, m.at(uint32(r.Start))); i < len(m.msgs) && m.msgs[i].uid <= uint32(r.Stop); i++ {
			f(i, &m.msgs[i])
			next = i + 1
		}
	}
}

// chunks writes the records of changed flags for the UIDs that f changed: for each chunk that has one of the uids (in
// ascending order) the record is made anew from the index in memory. after gives a message's flags after the commit and
// whether it is still there.
func (m *mailbox) chunks(b *build, uids []uint32, after func(s *slot) (flagEvent, bool)) {
	for len(uids) > 0 {
		chunk := uids[0] >> chunkBits
		for len(uids) > 0 && uids[0]>>chunkBits == chunk {
			uids = uids[1:]
		}
		var runs []flagRun
		for i := m.at(chunk << chunkBits); i < len(m.msgs) && m.msgs[i].uid>>chunkBits == chunk; i++ {
			s := &m.msgs[i]
			f, ok := after(s)
			if !ok {
				continue
			}
			if n := len(runs) - 1; n >= 0 && runs[n].uid+runs[n].count == f.uid && runs[n].modSeq == f.modSeq && runs[n].flags == f.flags {
				runs[n].count++
				continue
			}
			runs = append(runs, flagRun{f.uid, 1, f.modSeq, f.flags})
		}
		key := keyOf(keyFlags, m.key.account, m.key.mailbox, chunk)
		if len(runs) == 0 {
			b.delete(key)
		} else {
			b.put(key, encodeFlagRuns(chunk, runs))
		}
	}
}

// StoreFlags changes the flags of those messages of uids that exist. With unchangedSince > 0, messages whose
// mod-sequence is greater are left alone and returned in modified (RFC 7162, section 3.1.3). changed holds the messages
// whose flags are different now, by UID. The change is visible on return, and flushed a little later.
func (m *Mailbox) StoreFlags(ctx context.Context, uids imap.UIDSet, op FlagOp, flags []string, unchangedSince uint64) (changed []Msg, modified imap.UIDSet, err error) {
	p, err := parseFlags(flags)
	if err != nil {
		return nil, nil, err
	}
	x := m.m
	a := x.account
	var e *epoch
	if len(p.words) > 0 {
		if e, err = a.sealing(ctx, len(p.words)); err != nil {
			return nil, nil, err
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	var done []uint32
	err = x.store.commit(ctx, &commit{lazy: true}, func(b *build) error {
		bx, err := b.box(a, x.key)
		if err != nil {
			return err
		}
		set, err := x.flagSet(b, bx, e, p, op)
		if err != nil {
			return err
		}
		x.mu.RLock()
		defer x.mu.RUnlock()
		modified = x.choose(bx, uids, op, set, unchangedSince)
		list := bx.event.changed
		if len(list) == 0 {
			return nil
		}
		modSeq := bx.modSeq(b.store.boot)
		for i := range list {
			list[i].modSeq = modSeq
			done = append(done, list[i].uid)
		}
		x.chunks(b, done, func(s *slot) (flagEvent, bool) {
			if i, ok := slices.BinarySearchFunc(list, s.uid, func(f flagEvent, uid uint32) int { return int(int64(f.uid) - int64(uid)) }); ok {
				return list[i], true
			}
			return flagEvent{s.uid, s.modSeq, x.flags(s)}, s.sys&slotChanged != 0
		})
		return nil
	})
	if err != nil {
		return nil, nil, err
	}
	x.mu.RLock()
	defer x.mu.RUnlock()
	for _, uid := range done {
		if i, ok := x.find(uid); ok {
			changed = append(changed, x.msg(&x.msgs[i]))
		}
	}
	return changed, modified, nil
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

// choose notes in the box's event which messages get which flags, and counts. It returns those that fail the
// unchangedSince test.
func (m *mailbox) choose(bx *box, uids imap.UIDSet, op FlagOp, set flagSet, unchangedSince uint64) (modified imap.UIDSet) {
	m.selected(uids, func(_ int, s *slot) {
		if unchangedSince > 0 && s.modSeq > unchangedSince {
			modified.AddNum(imap.UID(s.uid))
			return
		}
		old := m.flags(s)
		f := old.apply(op, set)
		if f == old {
			return
		}
		recent := s.uid >= bx.c.firstRecent
		bx.count(-1, old, int64(s.size), recent)
		bx.count(1, f, int64(s.size), recent)
		bx.event.changed = append(bx.event.changed, flagEvent{uid: s.uid, flags: f})
	})
	return modified
}

// Expunge removes the messages marked \Deleted, only those of uids if that is not nil, durably. gone is ascending.
func (m *Mailbox) Expunge(ctx context.Context, uids *imap.UIDSet) (gone imap.UIDSet, err error) {
	x := m.m
	a := x.account
	a.mu.Lock()
	defer a.mu.Unlock()
	all := imap.UIDSet{{Start: 1, Stop: 0}}
	if uids != nil {
		all = *uids
	}
	err = x.store.commit(ctx, &commit{}, func(b *build) error {
		var list []uint32
		x.mu.RLock()
		defer x.mu.RUnlock()
		x.selected(all, func(_ int, s *slot) {
			if s.sys&sysDeleted != 0 {
				list = append(list, s.uid)
			}
		})
		bx, err := b.box(a, x.key)
		if err != nil || len(list) == 0 {
			return err
		}
		for _, r := range uidRanges(list) {
			gone.AddRange(imap.UID(r.from), imap.UID(r.to))
		}
		return x.remove(b, bx, list)
	})
	if err != nil {
		return nil, err
	}
	return gone, nil
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
	refs := make(map[uint64]uint32, len(list))
	changed := list[:0:0]
	for _, uid := range list {
		i, ok := m.find(uid)
		if !ok {
			return errGone
		}
		s := &m.msgs[i]
		refs[s.body]++
		if s.sys&slotChanged != 0 {
			changed = append(changed, uid)
		}
		b.delete(keyOf(keyEntry, m.key.account, m.key.mailbox, uid))
		b.delete(keyOf(keySecret, m.key.account, m.key.mailbox, uid))
		bx.count(-1, m.flags(s), int64(s.size), uid >= bx.c.firstRecent)
	}
	bodies := make([]uint64, 0, len(refs))
	for body := range refs {
		bodies = append(bodies, body)
	}
	slices.Sort(bodies)
	for _, body := range bodies {
		if err := b.unref(body, refs[body]); err != nil {
			return err
		}
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

// Move is Copy and the removal from m in one act (RFC 6851).
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
	a.mu.Lock()
	defer a.mu.Unlock()
	to, _, err := a.lookup(dest)
	if err != nil {
		return CopyResult{}, err
	}
	var result CopyResult
	err = x.store.commit(ctx, &commit{}, func(b *build) error {
		x.mu.RLock()
		defer x.mu.RUnlock()
		from, err := b.box(a, x.key)
		if err != nil {
			return err
		}
		target, err := b.box(a, to)
		if err != nil {
			return err
		}
		if result, err = x.copy(b, e, uids, target); err != nil || !move || len(result.From) == 0 {
			return err
		}
		return x.remove(b, from, result.From)
	})
	return result, err
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
	bodies := make([]uint64, 0, len(refs))
	for body := range refs {
		bodies = append(bodies, body)
	}
	slices.Sort(bodies)
	for _, body := range bodies {
		if err := b.ref(body, refs[body]); err != nil {
			return CopyResult{}, err
		}
	}
	return result, nil
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
	if flags.words != [2]uint64{} && m.key != target.key {
		bits, ok := words[flags.words]
		if !ok {
			set, err := b.flags(target, e, parsedFlags{words: Flags{flagSet{words: flags.words}, m.words}.List()})
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
