package storage

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"sort"
	"sync"
	"sync/atomic"
	"time"

	"cmmpd/internal/mail"
	"cmmpd/storage/engine"
)

type mailboxKey struct{ account, mailbox uint32 }

// mailbox is the in-memory index of a mailbox, shared by all that have it open. It shows what is visible.
type mailbox struct {
	store   *Store
	account *account // stays the same while somebody has the mailbox open
	key     mailboxKey

	bumped atomic.Uint64 // Store.shown of the last commit that gave out a mod-sequence here

	refs   int    // guarded by Store.mailboxesMu
	closed uint64 // likewise: when nobody had it open any more, by Store.clock
	idle   int    // likewise: its part of Store.idle, while nobody has it open

	mu       sync.RWMutex // guards what follows; brief
	c        counters
	use      byte
	name     string
	words    []string // keywords; replaced or appended to, never changed in place
	msgs     []slot   // ascending by UID
	sets     [][2]uint64
	setOf    map[[2]uint64]uint32 // place in sets
	deleted  bool
	watchers map[*func()]struct{}

	uids uidList

	searched  uint32 // the search index has been seen to hold messages below this UID
	searching bool   // the searcher has it in its queue

	recent      []recentChange // the last changes of messages, in order, while anybody has the mailbox open
	recentAfter uint64         // recent has all with a greater mod-sequence than this
}

// slot is one message. It has no pointers and takes 56 octets.
type slot struct {
	modSeq   uint64
	body     uint64
	thread   uint64
	internal int64
	saved    int64
	size     uint32
	uid      uint32
	set      uint32 // its keywords: place in sets
	sys      uint8  // system flags and slotChanged
}

// slotChanged marks messages whose flags changed after delivery: they stand in a keyFlags record.
const slotChanged = 0x80

// event is what a commit did to a mailbox.
type event struct {
	account *account
	key     mailboxKey
	c       counters
	added   []entryEvent
	changed *flagChange
	gone    []uint32 // ascending
	words   map[int]string
	name    string // the new name, or ""
	deleted bool
	bumped  bool // a mod-sequence was given out

	mailbox *mailbox // set when it is applied, if the mailbox is in memory
}

type entryEvent struct {
	uid uint32
	entryRecord
}

type flagEvent struct {
	uid    uint32
	modSeq uint64
	flags  flagSet
}

// learn notes a new keyword of the mailbox.
func (e *event) learn(i int, word string) {
	if e.words == nil {
		e.words = make(map[int]string)
	}
	e.words[i] = word
}

// setFor is the place of a set of keywords.
func (m *mailbox) setFor(words [2]uint64) uint32 {
	if n := len(m.sets); n > 0 && m.sets[n-1] == words {
		return uint32(n - 1)
	}
	if i, ok := m.setOf[words]; ok {
		return i
	}
	if m.setOf == nil {
		m.setOf = make(map[[2]uint64]uint32)
	}
	i := uint32(len(m.sets))
	m.sets = append(m.sets, words)
	m.setOf[words] = i
	return i
}

func (m *mailbox) add(uid uint32, r *entryRecord) {
	m.msgs = append(m.msgs, slot{
		modSeq: r.modSeq, body: r.body, thread: r.thread, internal: r.internal, saved: r.saved,
		size: uint32(r.size), uid: uid, set: m.setFor(r.flags.words), sys: r.flags.sys,
	})
}

// at is the place of the first message whose UID is not less than uid.
func (m *mailbox) at(uid uint32) int {
	return sort.Search(len(m.msgs), func(i int) bool { return m.msgs[i].uid >= uid })
}

func (m *mailbox) find(uid uint32) (int, bool) {
	i := m.at(uid)
	return i, i < len(m.msgs) && m.msgs[i].uid == uid
}

func (m *mailbox) setFlags(i int, modSeq uint64, f flagSet) {
	s := &m.msgs[i]
	s.modSeq, s.sys, s.set = modSeq, f.sys|slotChanged, m.setFor(f.words)
}

func (m *mailbox) flags(s *slot) flagSet { return flagSet{s.sys & sysMask, m.sets[s.set]} }

func (m *mailbox) msg(s *slot) Msg {
	return Msg{
		UID: s.uid, ModSeq: s.modSeq, Flags: Flags{m.flags(s), m.words},
		InternalDate: time.Unix(s.internal, 0).UTC(), SaveDate: time.Unix(s.saved, 0).UTC(),
		Size: int64(s.size), EmailID: ObjectID(s.body), ThreadID: ObjectID(s.thread),
	}
}

// update applies an event to the mailbox if it is in memory.
func (s *Store) update(e *event) {
	s.mailboxesMu.Lock()
	m := s.mailboxes[e.key]
	open := m != nil && m.refs > 0
	if m != nil && !open {
		m.idle += len(e.added)
		s.idle += len(e.added)
	}
	s.mailboxesMu.Unlock()
	if m == nil {
		return
	}
	e.mailbox = m
	m.mu.Lock()
	defer m.mu.Unlock()
	m.c = e.c
	if e.bumped {
		m.bumped.Store(s.shown.Load())
	}
	for i, w := range e.words {
		if m.name == "" {
			break // nobody has it open: names are read when somebody does
		}
		words := slices.Clone(m.words)
		for len(words) <= i {
			words = append(words, "")
		}
		words[i] = w
		m.words = words
	}
	for i := range e.added {
		m.add(e.added[i].uid, &e.added[i].entryRecord)
	}
	if e.changed != nil {
		e.changed.apply(m)
	}
	m.uids.update(e)
	m.remember(e, open)
	if len(e.gone) > 0 {
		gone := e.gone
		m.msgs = slices.DeleteFunc(m.msgs, func(x slot) bool {
			for len(gone) > 0 && gone[0] < x.uid {
				gone = gone[1:]
			}
			return len(gone) > 0 && gone[0] == x.uid
		})
	}
	if e.name != "" && m.name != "" {
		m.name = e.name
	}
	m.deleted = m.deleted || e.deleted
	e.account.search.gone.Add(int64(len(e.gone)))
	if m.name != "" && len(e.added)+len(e.gone) > 0 { // somebody has it open
		s.searcher.look(m, e.account)
	}
}

// tell calls the watchers. No lock is held meanwhile.
func (m *mailbox) tell() {
	m.mu.RLock()
	watchers := make([]func(), 0, len(m.watchers))
	for f := range m.watchers {
		watchers = append(watchers, *f)
	}
	m.mu.RUnlock()
	for _, f := range watchers {
		f()
	}
}

// maxIdleMessages is how many messages are kept in memory of mailboxes that nobody has open.
const maxIdleMessages = 400_000

// hold returns the mailbox's index, loaded if it is not in memory; drop must follow. a.mu must not be held.
func (s *Store) hold(ctx context.Context, a *account, key mailboxKey) (*mailbox, error) {
	if m := s.cached(a, key); m != nil {
		return m, m.openNames()
	}
	a.mu.Lock() // nothing changes in the account while it is read
	defer a.mu.Unlock()
	if m := s.cached(a, key); m != nil {
		return m, m.openNames()
	}
	return s.load(ctx, a, key)
}

// cached takes a reference to a mailbox that is in memory.
func (s *Store) cached(a *account, key mailboxKey) *mailbox {
	s.mailboxesMu.Lock()
	defer s.mailboxesMu.Unlock()
	m := s.mailboxes[key]
	if m == nil {
		return nil
	}
	if m.refs == 0 {
		m.account = a // the account may have been forgotten and come back meanwhile
		s.idle -= m.idle
	}
	m.refs++
	return m
}

func (m *mailbox) closedSize() int {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return len(m.msgs) + 16
}

// drop gives a reference back.
func (s *Store) drop(m *mailbox) {
	s.mailboxesMu.Lock()
	defer s.mailboxesMu.Unlock()
	if m.refs--; m.refs > 0 {
		return
	}
	m.mu.Lock()
	m.name, m.words = "", nil // they are for those who have the account open
	m.recent, m.recentAfter = nil, m.c.modSeq
	m.uids.forget()
	deleted := m.deleted
	m.mu.Unlock()
	if deleted {
		delete(s.mailboxes, m.key)
		return
	}
	s.clock++
	m.closed = s.clock
	m.idle = m.closedSize()
	if s.idle += m.idle; s.idle > maxIdleMessages {
		s.trimIdle()
	}
}

// trimIdle forgets the mailboxes that nobody has had open for the longest time, until those that are left take nine
// tenths of what they may: not every closing then looks at them all. mailboxesMu is held.
func (s *Store) trimIdle() {
	var idle []*mailbox
	for _, m := range s.mailboxes {
		if m.refs == 0 {
			idle = append(idle, m)
		}
	}
	slices.SortFunc(idle, func(a, b *mailbox) int { return cmp.Compare(a.closed, b.closed) })
	for _, m := range idle {
		if s.idle <= maxIdleMessages/10*9 {
			return
		}
		s.idle -= m.idle
		delete(s.mailboxes, m.key)
	}
}

// How many records, and octets of them, are read in one view of the index.
const (
	scanBatch = 4096
	scanBytes = 1 << 20
)

// scan calls f for all keys with the prefix, in batches that are copied first: commits need not wait for f, and f may
// read the index itself. k and v are f's until it returns. What is scanned must not change meanwhile.
func (s *Store) scan(prefix []byte, f func(k, v []byte) error) error {
	return s.scanFrom(prefix, nil, f)
}

// scanFrom is scan from a key on.
func (s *Store) scanFrom(prefix, from []byte, f func(k, v []byte) error) error {
	return s.scanBatches(prefix, from, math.MaxInt, f)
}

// scanSome is scan for the first n keys; no more are read.
func (s *Store) scanSome(prefix []byte, n int, f func(k, v []byte) error) error {
	return s.scanBatches(prefix, nil, n, f)
}

func (s *Store) scanBatches(prefix, from []byte, n int, f func(k, v []byte) error) error {
	var batch []byte
	var ends []int // in batch, of each key and each value
	for more := true; more && n > 0; n -= len(ends) / 2 {
		more, batch, ends = false, batch[:0], ends[:0]
		err := s.kv.View(func(r engine.Reader) error {
			r.Scan(prefix, from, func(k, v []byte) bool {
				if len(ends) >= 2*min(n, scanBatch) || len(batch) >= scanBytes {
					from, more = bytes.Clone(k), true
					return false
				}
				batch = append(batch, k...)
				batch = append(batch, v...)
				ends = append(ends, len(batch)-len(v), len(batch))
				return true
			})
			return nil
		})
		if err != nil {
			return err
		}
		at := 0
		for i := 0; i < len(ends); i += 2 {
			if err := f(batch[at:ends[i]:ends[i]], batch[ends[i]:ends[i+1]:ends[i+1]]); err != nil {
				return err
			}
			at = ends[i+1]
		}
	}
	return nil
}

// load reads a mailbox into memory and takes a reference. a.mu is held exclusively.
func (s *Store) load(_ context.Context, a *account, key mailboxKey) (*mailbox, error) {
	m := &mailbox{store: s, account: a, key: key, refs: 1, watchers: make(map[*func()]struct{})}
	v, err := s.kv.Get(keyOf(keyCounters, key.account, key.mailbox))
	if err != nil {
		return nil, err
	}
	if v == nil {
		return nil, errNoMailbox
	}
	if m.c, err = decodeCounters(v); err != nil {
		return nil, err
	}
	copying, err := s.copyingInto(key)
	if err != nil {
		return nil, err
	}
	m.msgs = make([]slot, 0, m.c.messages+m.c.messages/16+16)
	err = s.scan(keyOf(keyEntry, key.account, key.mailbox), func(k, v []byte) error {
		r, err := decodeEntry(v)
		if err != nil {
			return err
		}
		if uid := last32(k); !copying.has(uid) {
			m.add(uid, &r)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	err = s.scan(keyOf(keyFlags, key.account, key.mailbox), func(k, v []byte) error {
		runs, err := decodeFlagRuns(last32(k), v)
		if err != nil {
			return err
		}
		for _, r := range runs {
			for i := m.at(r.uid); i < len(m.msgs) && m.msgs[i].uid-r.uid < r.count; i++ {
				m.setFlags(i, r.modSeq, r.flags)
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if err := m.count(); err != nil {
		return nil, err
	}
	if err := m.openNames(); err != nil {
		return nil, err
	}
	m.bumped.Store(s.shown.Load())
	m.recentAfter = m.c.modSeq
	s.mailboxesMu.Lock()
	defer s.mailboxesMu.Unlock()
	s.mailboxes[key] = m
	return m, nil
}

// count compares what was loaded with the counters. A mailbox from which something is missing must not be served: what a
// client does not find any more it forgets.
func (m *mailbox) count() error {
	var messages, unseen, deleted uint32
	for i := range m.msgs {
		flags := m.flags(&m.msgs[i])
		messages++
		if flags.sys&sysSeen == 0 {
			unseen++
		}
		if flags.sys&sysDeleted != 0 {
			deleted++
		}
	}
	if messages != m.c.messages || unseen != m.c.unseen || deleted != m.c.deleted {
		return errors.Join(errRecord, fmt.Errorf("mailbox %v has %d messages, %d unseen, %d deleted, but %d, %d, %d are found",
			m.key, m.c.messages, m.c.unseen, m.c.deleted, messages, unseen, deleted))
	}
	return nil
}

// openNames opens the mailbox's name and keywords if they are not in memory. The reference taken is given back on error.
func (m *mailbox) openNames() error {
	m.mu.RLock()
	have := m.name != "" || m.deleted
	m.mu.RUnlock()
	if have {
		return nil
	}
	err := m.readNames()
	if err != nil && m.store.cachedAlready(m) {
		m.store.drop(m)
	}
	return err
}

func (s *Store) cachedAlready(m *mailbox) bool {
	s.mailboxesMu.Lock()
	defer s.mailboxesMu.Unlock()
	return s.mailboxes[m.key] == m
}

func (m *mailbox) readNames() error { return whereverItIs(m.readNamesOnce) }

func (m *mailbox) readNamesOnce() error {
	for {
		v, err := m.store.kv.Get(keyOf(keyMailbox, m.key.account, m.key.mailbox))
		if err != nil {
			return err
		}
		if v == nil {
			return errNoMailbox
		}
		r, err := decodeMailbox(v)
		if err != nil {
			return err
		}
		name, err := m.account.openText(r.name)
		if err != nil {
			return err
		}
		words := make([]string, len(r.keywords))
		for i, k := range r.keywords {
			if words[i], err = m.account.openText(k.name); err != nil {
				return err
			}
		}
		m.mu.Lock()
		// A delivery may have taught the mailbox a keyword meanwhile; then it is read again.
		again, err := m.store.kv.Get(keyOf(keyMailbox, m.key.account, m.key.mailbox))
		if err == nil && string(again) == string(v) {
			m.name, m.words, m.use = name, words, r.use
			m.mu.Unlock()
			return nil
		}
		m.mu.Unlock()
		if err != nil {
			return errors.Join(mail.E(mail.Internal, "", nil), err)
		}
	}
}
