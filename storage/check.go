package storage

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"cmmpd/internal/mail"
)

// maxProblems is how many problems a Report names; more are cut off with a last line that says so.
const maxProblems = 1000

// Check verifies every invariant of the store as it is visible now, and says in the report what does not hold. Commits
// wait for it, not reading. With deep it then opens every body, summary and name, for which it unwraps every account's
// private key; commits go on meanwhile. The error is for what kept it from checking.
func (s *Store) Check(ctx context.Context, deep bool) (*Report, error) {
	c := &checker{
		store: s, report: &Report{Problems: []string{}}, accounts: make(map[uint32]*checkedAccount),
		mailboxes: make(map[mailboxKey]*checkedMailbox), refs: make(map[uint64]uint32), bodies: make(map[uint64]bodyRecord),
		queue: make(map[QueueID]queueRecord), pace: pace{rate: 4 * s.o.HouseRate}, gone: make(map[uint32]bool), dead: make(map[uint32]uint64), totals: make(map[string]total),
		kept: make(map[uint64]uint32),
	}
	if err := c.shallow(ctx); err != nil {
		return nil, err
	}
	if deep {
		if err := c.deep(ctx); err != nil {
			return nil, err
		}
	}
	if err := c.searchFiles(ctx, deep); err != nil {
		return nil, err
	}
	return c.report, nil
}

type checker struct {
	store     *Store
	report    *Report
	accounts  map[uint32]*checkedAccount
	mailboxes map[mailboxKey]*checkedMailbox
	bodies    map[uint64]bodyRecord
	queue     map[QueueID]queueRecord
	refs      map[uint64]uint32 // entries and queue items found for each body
	gone      map[uint32]bool   // segments that were reclaimed
	dead      map[uint32]uint64 // octets of dead bodies by segment
	totals    map[string]total  // of departments
	pace      pace              // of reading bodies
	kept      map[uint64]uint32 // of refs, those of entries that are deleted messages
	entries   []checkedEntry
	omitted   int
}

type checkedAccount struct {
	id        mail.AccountID
	record    accountRecord
	usage     *usage
	mailboxes []mailboxKey
}

type checkedMailbox struct {
	record  mailboxRecord
	c       counters
	copying copyingRecord
	unseen  [2]int // entries and keys of copies that are not complete
	secrets int    // message keys found
	hasC    bool
	uids    []uint32 // ascending
	flags   []flagSet
	modSeqs []uint64
	sizes   []int64
	named   bool
}

type checkedEntry struct {
	key  mailboxKey
	uid  uint32
	body uint64
	size int64
}

func (c *checker) problem(format string, args ...any) {
	if len(c.report.Problems) < maxProblems {
		c.report.Problems = append(c.report.Problems, fmt.Sprintf(format, args...))
		return
	}
	if c.omitted++; c.omitted == 1 {
		c.report.Problems = append(c.report.Problems, "and more")
	}
}

// shallow checks the index. No commit runs meanwhile.
func (c *checker) shallow(ctx context.Context) error {
	c.store.gate.Lock()
	defer c.store.gate.Unlock()
	steps := []struct {
		kind byte
		f    func(k, v []byte)
	}{
		{keyAccount, c.account},
		{keyMailbox, c.mailbox},
		{keyCounters, c.counters},
		{keyUsage, c.usage},
		{keyTotal, c.total},
		{keyName, c.name},
		{keySubscribe, c.subscription},
		{keyBody, c.body},
		{keyCopying, c.copying},
		{keyEntry, c.entry},
		{keySecret, c.secret},
		{keyFlags, c.flags},
		{keyExpunged, c.expunged},
		{keyForgotten, c.forgottenTraces},
		{keyMessageID, c.messageID},
		{keyGarbage, c.garbage},
		{keyReclaimed, c.reclaimed},
		{keyScrub, c.scrub},
		{keyEpoch, c.epochs},
		{keyQueue, c.queued},
		{keyQueueDue, c.due},
	}
	known := []byte{keyPosition, keyAccountNo, keyBodyTop, keyBoots, keyFormat}
	for _, step := range steps {
		known = append(known, step.kind)
		err := c.store.scan(key0(step.kind), func(k, v []byte) error {
			step.f(k, v)
			return ctx.Err()
		})
		if err != nil {
			return err
		}
	}
	err := c.store.scan(nil, func(k, v []byte) error {
		if !slices.Contains(known, k[0]) {
			c.problem("the index holds the unknown key %x", k)
		}
		found, err := c.store.kv.Get(k) // the way to it may be damaged, where walking over all does not go
		if k[0] == keyPosition && found != nil {
			found = v // the index may be written meanwhile
		}
		if err == nil && !bytes.Equal(found, v) {
			c.problem("the index holds the key %x but does not find it", k)
		}
		return errors.Join(err, ctx.Err())
	})
	if err != nil {
		return err
	}
	c.sums()
	c.segments()
	c.format()
	c.inMemory()
	c.report.Accounts, c.report.Mailboxes = len(c.accounts), len(c.mailboxes)
	c.report.Entries, c.report.Bodies = len(c.entries), len(c.bodies)
	c.recoverable()
	return nil
}

// number is a counter of the whole store.
func (c *checker) number(kind byte) uint64 {
	v, err := c.store.kv.Get(key0(kind))
	if err == nil {
		var n uint64
		if n, err = decodeNumber(v); err == nil {
			return n
		}
	}
	c.problem("counter %c: %v", kind, err)
	return 0
}

// ids splits a key into the numbers it is made of; it must have n of them.
func (c *checker) ids(k []byte, n int) ([]uint32, bool) {
	if len(k) != 1+4*n {
		c.problem("key %x has a wrong length", k)
		return nil, false
	}
	list := make([]uint32, n)
	for i := range list {
		list[i] = binary.BigEndian.Uint32(k[1+4*i:])
	}
	return list, true
}

func (c *checker) account(k, v []byte) {
	r, err := decodeAccount(v)
	id := mail.AccountID(k[1:])
	if err != nil {
		c.problem("account %s: %v", id, err)
		return
	}
	if other := c.accounts[r.number]; other != nil {
		c.problem("accounts %s and %s have the same number", id, other.id)
	}
	if uint64(r.number) > c.number(keyAccountNo) || r.number == 0 {
		c.problem("account %s has number %d, which was not given out", id, r.number)
	}
	if _, ok, err := c.store.vault.Account(id); err != nil || !ok {
		c.problem("account %s has no key pair in the key vault (%v)", id, err)
	}
	c.accounts[r.number] = &checkedAccount{id: id, record: r}
}

// epoch checks that the key vault has what opens something.
func (c *checker) epoch(account, epoch uint32, what string) {
	if a := c.accounts[account]; a != nil && !c.store.vault.HasEpoch(a.id, epoch) {
		c.problem("%s: the key vault has no epoch %d of account %s", what, epoch, a.id)
	}
}

func (k mailboxKey) String() string {
	return fmt.Sprintf("mailbox %d of account %d", k.mailbox, k.account)
}

func (c *checker) mailbox(k, v []byte) {
	ids, ok := c.ids(k, 2)
	if !ok {
		return
	}
	key := mailboxKey{ids[0], ids[1]}
	r, err := decodeMailbox(v)
	if err != nil {
		c.problem("%v: %v", key, err)
		return
	}
	a := c.accounts[key.account]
	if a == nil {
		c.problem("%v: no such account", key)
		return
	}
	if key.mailbox > a.record.mailboxes || key.mailbox == 0 {
		c.problem("%v: the number was not given out", key)
	}
	c.epoch(key.account, r.name.epoch, key.String())
	hashes := make(map[hash]bool)
	for _, w := range r.keywords {
		c.epoch(key.account, w.name.epoch, key.String())
		if hashes[w.hash] {
			c.problem("%v: a keyword is there twice", key)
		}
		hashes[w.hash] = true
	}
	a.mailboxes = append(a.mailboxes, key)
	c.mailboxes[key] = &checkedMailbox{record: r}
}

func (c *checker) counters(k, v []byte) {
	ids, ok := c.ids(k, 2)
	if !ok {
		return
	}
	key := mailboxKey{ids[0], ids[1]}
	r, err := decodeCounters(v)
	m := c.mailboxes[key]
	if err != nil || m == nil {
		c.problem("counters of %v, which exists %v: %v", key, m != nil, err)
		return
	}
	m.c, m.hasC = r, true
	if a := c.accounts[key.account]; r.uidValidity == 0 || r.uidValidity > a.record.uidValidity {
		c.problem("%v: UIDVALIDITY %d was not given out", key, r.uidValidity)
	}
	if r.uidNext == 0 || r.firstRecent == 0 || r.firstRecent > r.uidNext || r.modSeq > r.ceiling || r.boot > c.number(keyBoots) {
		c.problem("%v: counters cannot be: %+v", key, r)
	}
}

func (c *checker) name(k, v []byte) {
	if len(k) != 1+4+len(hash{}) {
		c.problem("key %x has a wrong length", k)
		return
	}
	n, err := decodeNumber(v)
	key := mailboxKey{binary.BigEndian.Uint32(k[1:]), uint32(n)}
	m := c.mailboxes[key]
	if err != nil || m == nil || m.record.nameHash != hash(k[5:]) {
		c.problem("a name leads to %v, which is not so named (%v)", key, err)
		return
	}
	m.named = true
}

func (c *checker) subscription(k, v []byte) {
	t, err := decodeSealedText(v)
	if len(k) != 1+4+len(hash{}) || err != nil || c.accounts[binary.BigEndian.Uint32(k[1:])] == nil {
		c.problem("subscription %x: %v", k, err)
		return
	}
	c.epoch(binary.BigEndian.Uint32(k[1:]), t.epoch, "a subscription")
}

func (c *checker) body(k, v []byte) {
	r, err := decodeBody(v)
	if err != nil || len(k) != 9 {
		c.problem("body %x: %v", k, err)
		return
	}
	id := binary.BigEndian.Uint64(k[1:])
	if id == 0 || id > c.number(keyBodyTop) {
		c.problem("body %d: the number was not given out", id)
	}
	c.bodies[id] = r
}

func (c *checker) entry(k, v []byte) {
	ids, ok := c.ids(k, 3)
	if !ok {
		return
	}
	key, uid := mailboxKey{ids[0], ids[1]}, ids[2]
	m := c.mailboxes[key]
	r, err := decodeEntry(v)
	if err != nil || m == nil {
		c.problem("UID %d in %v, which exists %v: %v", uid, key, m != nil, err)
		return
	}
	b, ok := c.bodies[r.body]
	if !ok {
		c.problem("UID %d in %v: its body %d is missing", uid, key, r.body)
	} else if r.size < b.plain {
		c.problem("UID %d in %v: its size is less than its body's", uid, key)
	}
	if r.thread == 0 || r.modSeq == 0 || uid == 0 {
		c.problem("UID %d in %v: no thread or no mod-sequence", uid, key)
	}
	c.refs[r.body]++
	if m.copying.has(uid) {
		m.unseen[0]++
		return
	}
	if c.isKept(key) {
		c.kept[r.body]++
	}
	c.entries = append(c.entries, checkedEntry{key, uid, r.body, r.size})
	m.uids, m.flags = append(m.uids, uid), append(m.flags, r.flags)
	m.modSeqs, m.sizes = append(m.modSeqs, r.modSeq), append(m.sizes, r.size)
}

func (c *checker) secret(k, v []byte) {
	ids, ok := c.ids(k, 3)
	if !ok {
		return
	}
	key := mailboxKey{ids[0], ids[1]}
	r, err := decodeSecret(v)
	m := c.mailboxes[key]
	if err != nil || m == nil {
		c.problem("key of UID %d in %v, which exists %v: %v", ids[2], key, m != nil, err)
		return
	}
	c.epoch(key.account, r.epoch, fmt.Sprintf("UID %d in %v", ids[2], key))
	if m.copying.has(ids[2]) {
		m.unseen[1]++
		return
	}
	if _, ok := slices.BinarySearch(m.uids, ids[2]); !ok {
		c.problem("there is a key of UID %d in %v, but no message", ids[2], key)
	}
	m.secrets++
}

func (c *checker) flags(k, v []byte) {
	ids, ok := c.ids(k, 3)
	if !ok {
		return
	}
	key := mailboxKey{ids[0], ids[1]}
	m := c.mailboxes[key]
	runs, err := decodeFlagRuns(ids[2], v)
	if err != nil || m == nil || len(runs) == 0 || !bytes.Equal(encodeFlagRuns(ids[2], runs), v) {
		c.problem("flags %d in %v, which exists %v: %v", ids[2], key, m != nil, err)
		return
	}
	for _, r := range runs {
		for n := range r.count {
			i, ok := slices.BinarySearch(m.uids, r.uid+n)
			if !ok {
				c.problem("there are flags of UID %d in %v, but no message", r.uid+n, key)
				continue
			}
			m.flags[i], m.modSeqs[i] = r.flags, r.modSeq
		}
	}
}

func (c *checker) expunged(k, v []byte) {
	if len(k) != 17 {
		c.problem("key %x has a wrong length", k)
		return
	}
	key := mailboxKey{binary.BigEndian.Uint32(k[1:]), binary.BigEndian.Uint32(k[5:])}
	modSeq := binary.BigEndian.Uint64(k[9:])
	m := c.mailboxes[key]
	ranges, err := decodeUIDs(v)
	if err != nil || m == nil || len(ranges) == 0 {
		c.problem("expunge trace of %v, which exists %v: %v", key, m != nil, err)
		return
	}
	if modSeq > m.c.modSeq || ranges[len(ranges)-1].to >= m.c.uidNext {
		c.problem("%v: the expunge trace is ahead of the counters", key)
	}
	for _, r := range ranges {
		if i, _ := slices.BinarySearch(m.uids, r.from); i < len(m.uids) && m.uids[i] <= r.to {
			c.problem("%v: UID %d is expunged and there", key, m.uids[i])
		}
	}
}

func (c *checker) messageID(k, v []byte) {
	if _, err := decodeMessageID(v); err != nil || len(k) != 1+4+len(hash{}) || c.accounts[binary.BigEndian.Uint32(k[1:])] == nil {
		c.problem("Message-ID %x: %v", k, err)
	}
}

func (c *checker) garbage(k, v []byte) {
	n, err := decodeNumber(v)
	if err != nil || len(k) != 5 {
		c.problem("garbage %x: %v", k, err)
		return
	}
	c.dead[last32(k)] = n
}

// format sees that the index is of our format, as it is after every opening.
func (c *checker) format() {
	if c.number(keyBoots) == 0 { // nothing was ever committed
		return
	}
	v, err := c.store.kv.Get(key0(keyFormat))
	if p, bad := decodeProgress(v); err != nil || bad != nil || p.format != formatVersion {
		c.problem("the index has format %d: %v", p.format, errors.Join(err, bad))
	}
}

// usage reads what an account is said to hold.
func (c *checker) usage(k, v []byte) {
	ids, ok := c.ids(k, 1)
	if !ok {
		return
	}
	u, err := decodeUsage(v)
	a := c.accounts[ids[0]]
	if err != nil || a == nil {
		c.problem("usage of account %d, which exists %v: %v", ids[0], a != nil, err)
		return
	}
	a.usage = &u
}

// counted compares what an account is said to hold with what was counted, and takes it off the total of its department.
func (c *checker) counted(a *checkedAccount, u usage) {
	if a.usage == nil || a.usage.messages != u.messages || a.usage.size != u.size {
		c.problem("account %s holds %+v, counted %+v", a.id, a.usage, u)
		return
	}
	if d := a.usage.department; d != "" {
		t := c.totals[d]
		t.messages, t.size = t.messages-u.messages, t.size-u.size
		c.totals[d] = t
	}
}

// total reads what a department is said to hold.
func (c *checker) total(k, v []byte) {
	t, err := decodeTotal(v)
	if err != nil || len(k) < 2 {
		c.problem("total of department %q: %v", k[1:], err)
		return
	}
	c.totals[string(k[1:])] = t
}

// sums compares what was counted with the counters.
func (c *checker) sums() {
	for id, b := range c.bodies {
		if b.refs != c.refs[id] || b.refs == 0 {
			c.problem("body %d has %d references, counted %d", id, b.refs, c.refs[id])
		}
	}
	validities := make(map[[2]uint32]bool)
	for key, m := range c.mailboxes {
		if !m.named || !m.hasC {
			c.problem("%v has no name or no counters", key)
		}
		validity := [2]uint32{key.account, m.c.uidValidity}
		if validities[validity] {
			c.problem("%v: another mailbox has the same UIDVALIDITY", key)
		}
		validities[validity] = true
		c.sum(key, m)
	}
	for n, a := range c.accounts {
		var u usage
		for _, key := range a.mailboxes {
			if !c.isKept(key) {
				u.add(c.mailboxes[key].c)
			}
		}
		c.counted(a, u)
		if len(a.mailboxes) != int(a.record.mailboxCount) {
			c.problem("account %s has %d mailboxes, counted %d", a.id, a.record.mailboxCount, len(a.mailboxes))
		}
		inbox := keyOfHash(keyName, n, c.hashOf(a.id, Inbox))
		if v, err := c.store.kv.Get(inbox); err != nil || v == nil {
			c.problem("account %s has no INBOX (%v)", a.id, err)
		}
	}
	for d, t := range c.totals {
		if t.messages != 0 || t.size != 0 {
			c.problem("the total of department %q is wrong by %d messages, %d octets", d, int64(t.messages), int64(t.size))
		}
	}
}

func (c *checker) hashOf(id mail.AccountID, name string) hash {
	a, err := c.store.acquire(context.Background(), id)
	if err != nil {
		c.problem("account %s: %v", id, err)
		return hash{}
	}
	defer c.store.release(a)
	return a.hash(hashName, name)
}

func (c *checker) sum(key mailboxKey, m *checkedMailbox) {
	got := counters{
		uidValidity: m.c.uidValidity, uidNext: m.c.uidNext, modSeq: m.c.modSeq, ceiling: m.c.ceiling, boot: m.c.boot,
		firstRecent: m.c.firstRecent, messages: uint32(len(m.uids)),
	}
	for i, uid := range m.uids {
		f := m.flags[i]
		got.size += m.sizes[i]
		if uid >= m.c.firstRecent {
			got.recent++
		}
		if f.sys&sysSeen == 0 {
			got.unseen++
		}
		if f.sys&sysDeleted != 0 {
			got.deleted++
		}
		if uid >= m.c.uidNext || m.modSeqs[i] > m.c.modSeq {
			c.problem("UID %d in %v: UID or mod-sequence was not given out", uid, key)
		}
		for w := len(m.record.keywords); w < maxKeywords; w++ {
			if f.has(w) {
				c.problem("UID %d in %v has a keyword that the mailbox does not know", uid, key)
				break
			}
		}
	}
	if m.unseen[0] != m.unseen[1] {
		c.problem("%v has %d copies that are not complete and %d keys of such", key, m.unseen[0], m.unseen[1])
	}
	if m.secrets != len(m.uids) {
		c.problem("%v has %d messages and %d message keys", key, len(m.uids), m.secrets)
	}
	if got != m.c {
		c.problem("%v: the counters say %+v, counted %+v", key, m.c, got)
	}
}

// inMemory compares the mailboxes in memory with what the index says.
func (c *checker) inMemory() {
	c.store.mailboxesMu.Lock()
	list := make([]*mailbox, 0, len(c.store.mailboxes))
	for _, m := range c.store.mailboxes {
		list = append(list, m)
	}
	c.store.mailboxesMu.Unlock()
	for _, m := range list {
		want := c.mailboxes[m.key]
		m.mu.RLock()
		switch {
		case want == nil && m.deleted:
		case want == nil || m.deleted:
			c.problem("%v is in memory, deleted %v, in the index %v", m.key, m.deleted, want != nil)
		case len(m.msgs) != len(want.uids) || m.c != want.c:
			c.problem("%v has %d messages in memory, %d in the index", m.key, len(m.msgs), len(want.uids))
		default:
			for i := range m.msgs {
				s := &m.msgs[i]
				if s.uid != want.uids[i] || s.modSeq != want.modSeqs[i] || m.flags(s) != want.flags[i] || int64(s.size) != want.sizes[i] {
					c.problem("UID %d in %v differs in memory", want.uids[i], m.key)
				}
			}
		}
		m.mu.RUnlock()
	}
}
