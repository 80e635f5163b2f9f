package storage

import (
	"context"
	"math"
	"sync"

	"github.com/emersion/go-imap/v2"
)

// Mailbox is a handle on an open mailbox, whose index in memory all handles share. All methods may be called
// concurrently, until Close.
type Mailbox struct {
	m     *mailbox
	once  sync.Once
	quiet bool // what is read through it is not for anybody who waits
}

// noteRead tells the searcher that somebody reads.
func (m *Mailbox) noteRead() {
	if !m.quiet {
		m.m.store.reads.Add(1)
	}
}

// Close gives the handle back. It may be called more than once.
func (m *Mailbox) Close() {
	m.once.Do(func() {
		a := m.m.account
		m.m.store.drop(m.m)
		m.m.store.release(a)
	})
}

// Name is the mailbox's name now: it follows a rename.
func (m *Mailbox) Name() string {
	m.m.mu.RLock()
	defer m.m.mu.RUnlock()
	return m.m.name
}

// UIDValidity of RFC 3501, section 2.3.1.1: no two mailboxes of an account ever have the same.
func (m *Mailbox) UIDValidity() uint32 { return m.State().UIDValidity }

// ID is the MAILBOXID (RFC 8474).
func (m *Mailbox) ID() string { return m.m.key.id() }

// SpecialUse is the special-use attribute (RFC 6154), or "".
func (m *Mailbox) SpecialUse() string {
	m.m.mu.RLock()
	defer m.m.mu.RUnlock()
	return specialUses[m.m.use]
}

// Deleted says whether the mailbox was deleted after it was opened. Then it is empty.
func (m *Mailbox) Deleted() bool {
	m.m.mu.RLock()
	defer m.m.mu.RUnlock()
	return m.m.deleted
}

// Keywords is every keyword the mailbox knows.
func (m *Mailbox) Keywords() []string {
	m.m.mu.RLock()
	defer m.m.mu.RUnlock()
	return append([]string(nil), m.m.words...)
}

// State is the state now.
func (m *Mailbox) State() State {
	m.m.mu.RLock()
	defer m.m.mu.RUnlock()
	return m.m.state()
}

func (m *mailbox) state() State {
	return State{
		Messages: uint32(len(m.msgs)), UIDNext: m.c.uidNext, UIDValidity: m.c.uidValidity,
		HighestModSeq: max(m.c.modSeq, 1), FirstRecent: m.c.firstRecent,
	}
}

// ClaimRecent makes the caller's session the one that sees as \Recent what no session has claimed before: UIDs from
// first to last (RFC 3501, section 2.3.2); none if first is greater. The claim is flushed late. If it cannot be written,
// nothing is recent.
func (m *Mailbox) ClaimRecent() (first, last uint32) {
	a := m.m.account
	a.mu.RLock()
	defer a.mu.RUnlock()
	err := m.m.store.commit(context.Background(), &commit{lazy: true}, func(b *build) error {
		x, err := b.box(a, m.m.key)
		if err != nil {
			return err
		}
		first, last = x.c.firstRecent, x.c.uidNext-1
		if x.c.firstRecent != x.c.uidNext || x.c.recent != 0 {
			x.c.firstRecent, x.c.recent, x.changed = x.c.uidNext, 0, true
		}
		return nil
	})
	if err != nil {
		return 1, 0
	}
	return first, last
}

// Snapshot is all messages, ascending by UID, and the state at the same moment.
func (m *Mailbox) Snapshot() ([]Msg, State) {
	m.m.mu.RLock()
	defer m.m.mu.RUnlock()
	list := make([]Msg, len(m.m.msgs))
	for i := range m.m.msgs {
		list[i] = m.m.msg(&m.m.msgs[i])
	}
	return list, m.m.state()
}

// UIDs is the UIDs of all messages, ascending, the place among them of the first that is not \Seen (-1: there is none),
// and the state at the same moment. Others have the same list: it may be appended to, and must not be changed in place.
func (m *Mailbox) UIDs() (uids []uint32, unseen int, st State) {
	m.m.mu.RLock()
	defer m.m.mu.RUnlock()
	uids, unseen = m.m.uids.of(m.m)
	return uids, unseen, m.m.state()
}

// Get is one message.
func (m *Mailbox) Get(uid uint32) (Msg, bool) {
	m.m.mu.RLock()
	defer m.m.mu.RUnlock()
	i, ok := m.m.find(uid)
	if !ok {
		return Msg{}, false
	}
	return m.m.msg(&m.m.msgs[i]), true
}

// Changes is what happened after the mod-sequence since. If that is longer ago than expunges are remembered, Vanished is all UIDs that were given out
// and are not there (RFC 7162, section 3.2.6, allows it).
func (m *Mailbox) Changes(since uint64) (Changes, error) {
	x := m.m
	x.account.mu.RLock() // no expunge meanwhile: the trace and the messages are of one moment
	defer x.account.mu.RUnlock()
	c := Changes{}
	since = min(since, math.MaxInt64)
	x.mu.RLock()
	c.HighestModSeq = max(x.c.modSeq, 1)
	x.changedSince(since, func(s *slot) { c.Changed = append(c.Changed, x.msg(s)) })
	x.mu.RUnlock()
	err := x.store.scanFrom(keyOf(keyExpunged, x.key.account, x.key.mailbox), keyOfExpunge(x.key.account, x.key.mailbox, since+1),
		func(_, v []byte) error {
			ranges, err := decodeUIDs(v)
			for _, r := range ranges {
				c.Vanished.AddRange(imap.UID(r.from), imap.UID(r.to))
			}
			return err
		})
	if err != nil {
		return c, err
	}
	// Last, for what is forgotten while the traces are read is not among them.
	forgotten, err := x.store.forgotten(x.key)
	if err == nil && since < forgotten {
		c.Vanished = x.missing()
	}
	return c, err
}

// Watch calls f after every commit that touched the mailbox, for several commits perhaps once. f must not block nor
// call the store. stop, or the end of ctx, ends it.
func (m *Mailbox) Watch(ctx context.Context, f func()) (stop func()) {
	x := m.m
	key := &f
	x.mu.Lock()
	x.watchers[key] = struct{}{}
	x.mu.Unlock()
	remove := func() {
		x.mu.Lock()
		defer x.mu.Unlock()
		delete(x.watchers, key)
	}
	after := context.AfterFunc(ctx, remove)
	return func() {
		after()
		remove()
	}
}
