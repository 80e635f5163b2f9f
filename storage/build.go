package storage

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"

	"cmmpd/internal/mail"
	"cmmpd/storage/engine"
)

// build collects the changes of one commit. It sees its own changes, those of commits that are not flushed yet, and
// below them what is visible. It lives under Store.mu.
type build struct {
	store  *Store
	commit *commit
	ops    []engine.Op
	own    map[string]int // place in ops, once there are many
	boxes  []*box
	joins  []join
	must   bool     // there is always room for it
	tells  *Warning // the commit brings this warning to whom it concerns
}

// fewOps is up to how many ops looking at all of them is faster than a map.
const fewOps = 24

// place finds the op for a key.
func (b *build) place(key []byte) (int, bool) {
	if b.own != nil {
		i, ok := b.own[string(key)]
		return i, ok
	}
	for i := range b.ops {
		if bytes.Equal(b.ops[i].Key, key) {
			return i, true
		}
	}
	return 0, false
}

func (b *build) get(key []byte) ([]byte, error) {
	if i, ok := b.place(key); ok {
		return b.ops[i].Value, nil
	}
	if p, ok := b.store.pending[string(key)]; ok {
		return p.value, nil
	}
	if v, ok := b.commit.fetched[string(key)]; ok {
		return v, nil
	}
	return b.store.kv.Get(key)
}

// put keeps key and value. A nil value deletes.
func (b *build) put(key, value []byte) {
	if i, ok := b.place(key); ok {
		b.ops[i].Value = value
		return
	}
	switch {
	case b.own != nil:
		b.own[string(key)] = len(b.ops)
	case b.ops == nil:
		b.ops = make([]engine.Op, 0, 12)
	case len(b.ops) == fewOps:
		b.own = make(map[string]int, 4*fewOps)
		for i := range b.ops {
			b.own[string(b.ops[i].Key)] = i
		}
		b.own[string(key)] = len(b.ops)
	}
	b.ops = append(b.ops, engine.Op{Key: key, Value: value})
}

func (b *build) delete(key []byte) { b.put(key, nil) }

// number is a counter's value.
func (b *build) number(kind byte) (uint64, error) {
	v, err := b.get(key0(kind))
	if err != nil {
		return 0, err
	}
	return decodeNumber(v)
}

// bodyReserve is how far ahead EMAILIDs are reserved, so that the reservation is not in every record.
const bodyReserve = 1024

// useBody sees to it that the EMAILID is not given again after a crash.
func (b *build) useBody(id uint64) error {
	top, err := b.number(keyBodyTop)
	if err != nil || id <= top {
		return err
	}
	b.put(key0(keyBodyTop), encodeNumber(id+bodyReserve))
	return nil
}

// box is a mailbox that the commit changes.
type box struct {
	account *account
	key     mailboxKey
	c       counters
	before  counters // as this commit found them
	bumped  bool
	changed bool
	event   *event

	recoverable bool // it is that of deleted messages
	destroyed   bool // the mailbox is deleted: there are no counters to write
}

// box returns the mailbox for changing. The error is of kind mail.NotFound if it does not exist.
func (b *build) box(a *account, key mailboxKey) (*box, error) {
	for _, x := range b.boxes {
		if x.key == key {
			return x, nil
		}
	}
	v, err := b.get(keyOf(keyCounters, key.account, key.mailbox))
	if err != nil {
		return nil, err
	}
	if v == nil {
		return nil, errNoMailbox
	}
	c, err := decodeCounters(v)
	if err != nil {
		return nil, err
	}
	return b.newBox(a, key, c), nil
}

func (b *build) newBox(a *account, key mailboxKey, c counters) *box {
	if to := b.store.skips[key]; to >= c.uidNext {
		c.uidNext = to + 1
	}
	x := &box{account: a, key: key, c: c, before: c, event: &event{account: a, key: key}, recoverable: a.recoverable(key.mailbox)}
	b.boxes = append(b.boxes, x)
	return x
}

var errNoMailbox = mail.E(mail.NotFound, "no such mailbox", nil)

// find is the number of the mailbox of that name.
func (b *build) find(account uint32, name hash) (mailboxKey, error) {
	v, err := b.get(keyOfHash(keyName, account, name))
	if err != nil {
		return mailboxKey{}, err
	}
	if v == nil {
		return mailboxKey{}, errNoMailbox
	}
	n, err := decodeNumber(v)
	return mailboxKey{account, uint32(n)}, err
}

// modSeq is the mod-sequence of what this commit changes in the mailbox. What an earlier opening of the store gave out
// without it surviving is passed over.
func (x *box) modSeq(boot uint64) uint64 {
	if !x.bumped {
		if x.c.boot != boot {
			x.c.modSeq = max(x.c.modSeq, x.c.ceiling)
			x.c.boot = boot
		}
		x.c.modSeq++
		x.bumped, x.changed = true, true
	}
	return x.c.modSeq
}

var errUIDs = mail.E(mail.TooLarge, "the mailbox has no more UIDs", nil)

// uid gives out the next UID.
func (x *box) uid() (uint32, error) {
	if x.c.uidNext == 1<<32-1 {
		return 0, errUIDs
	}
	x.c.uidNext++
	x.changed = true
	return x.c.uidNext - 1, nil
}

// Mod-sequences are reserved ahead in steps.
const modSeqReserve = 1024

// finish writes the counters of the mailboxes that were changed. A lazy commit that needs a new reservation of
// mod-sequences is lazy no longer, since no mod-sequence above a durable ceiling may be seen.
func (b *build) finish() {
	for _, x := range b.boxes {
		if x.c.modSeq > x.c.ceiling {
			b.commit.lazy = false
		}
	}
	for _, x := range b.boxes {
		if !x.changed {
			continue
		}
		if !b.commit.lazy && x.bumped && x.c.ceiling < x.c.modSeq+modSeqReserve/2 {
			x.c.ceiling = x.c.modSeq + modSeqReserve
		}
		if !x.destroyed {
			b.put(keyOf(keyCounters, x.key.account, x.key.mailbox), x.c.encode())
		}
		x.event.c, x.event.bumped = x.c, x.bumped
		b.commit.events = append(b.commit.events, x.event)
	}
}

// count adds or takes away a message in the counters.
func (x *box) count(sign int, flags flagSet, size int64, recent bool) {
	add := func(n *uint32) { *n = uint32(int64(*n) + int64(sign)) }
	add(&x.c.messages)
	if recent {
		add(&x.c.recent)
	}
	if flags.sys&sysSeen == 0 {
		add(&x.c.unseen)
	}
	if flags.sys&sysDeleted != 0 {
		add(&x.c.deleted)
	}
	x.c.size += int64(sign) * size
	x.changed = true
}

// flags turns parsed flags into those of the mailbox, which learns the keywords that it does not know.
func (b *build) flags(x *box, e *epoch, p parsedFlags) (flagSet, error) {
	set := flagSet{sys: p.sys}
	if len(p.words) == 0 {
		return set, nil
	}
	key := keyOf(keyMailbox, x.key.account, x.key.mailbox)
	v, err := b.get(key)
	if err != nil {
		return set, err
	}
	r, err := decodeMailbox(v)
	if err != nil {
		return set, err
	}
	known := len(r.keywords)
	for _, word := range p.words {
		i, err := r.keyword(x.account, e, word)
		if err != nil {
			return set, err
		}
		if i >= known {
			x.event.learn(i, word)
		}
		set.add(i)
	}
	if len(r.keywords) > known {
		b.put(key, r.encode())
		x.changed = true
	}
	return set, nil
}

// keyword is the bit of a keyword, which is added if it is not there.
func (r *mailboxRecord) keyword(a *account, e *epoch, word string) (int, error) {
	h := a.keywordHash(word)
	for i, k := range r.keywords {
		if k.hash == h {
			return i, nil
		}
	}
	if len(r.keywords) >= maxKeywords {
		return 0, errKeywords
	}
	name, err := a.sealText(e, word)
	if err != nil {
		return 0, err
	}
	r.keywords = append(r.keywords, keyword{h, name})
	return len(r.keywords) - 1, nil
}

// unref takes away references to a body, and the body's record with the last.
func (b *build) unref(body uint64, n uint32) error {
	key := keyOf64(keyBody, body)
	v, err := b.get(key)
	if err != nil {
		return err
	}
	r, err := decodeBody(v)
	if err != nil || r.refs < n {
		return errors.Join(errRecord, fmt.Errorf("body %d", body))
	}
	if r.refs -= n; r.refs > 0 {
		b.put(key, r.encode())
		return nil
	}
	b.delete(key)
	return b.addGarbage(r.segment, uint64(r.total()))
}

// ref adds references to a body.
func (b *build) ref(body uint64, n uint32) error {
	key := keyOf64(keyBody, body)
	v, err := b.get(key)
	if err != nil {
		return err
	}
	r, err := decodeBody(v)
	if err != nil {
		return errors.Join(errRecord, fmt.Errorf("body %d", body))
	}
	r.refs += n
	b.put(key, r.encode())
	return nil
}

// newMailbox makes a mailbox that has no name yet taken.
func (b *build) newMailbox(a *account, account uint32, acct *accountRecord, r mailboxRecord) *box {
	acct.mailboxes++
	acct.mailboxCount++
	acct.uidValidity = max(acct.uidValidity+1, uint32(b.store.o.Now().Unix()), 1)
	key := mailboxKey{account, acct.mailboxes}
	b.put(keyOf(keyMailbox, key.account, key.mailbox), r.encode())
	b.put(keyOfHash(keyName, account, r.nameHash), encodeNumber(uint64(key.mailbox)))
	x := b.newBox(a, key, counters{uidValidity: acct.uidValidity, uidNext: 1, firstRecent: 1})
	x.modSeq(b.store.boot)
	return x
}

// account is the account's number. If it does not exist it is made, with its first mailboxes: firsts are their records.
func (b *build) account(a *account, firsts []mailboxRecord, subscribed []sealedText) (uint32, error) {
	if number := a.no(); number != 0 { // it is durable, and an account is never removed
		return number, nil
	}
	key := keyOfAccount(string(a.id))
	v, err := b.get(key)
	if err != nil {
		return 0, err
	}
	if v != nil {
		r, err := decodeAccount(v)
		return r.number, err
	}
	if len(firsts) == 0 {
		return 0, errNoAccount
	}
	top, err := b.number(keyAccountNo)
	if err != nil {
		return 0, err
	}
	r := accountRecord{number: uint32(top) + 1}
	b.put(key0(keyAccountNo), encodeNumber(uint64(r.number)))
	for i, m := range firsts {
		b.newMailbox(a, r.number, &r, m)
		b.put(keyOfHash(keySubscribe, r.number, m.nameHash), subscribed[i].append(nil))
	}
	b.put(key, r.encode())
	b.put(keyOf(keyUsage, r.number), usage{}.encode())
	b.commit.made = append(b.commit.made, a)
	b.commit.number = append(b.commit.number, r.number)
	return r.number, nil
}

var errNoAccount = mail.E(mail.NotFound, "no such account", nil)

// thread finds the thread of a message by the Message-IDs in it: hashes are those it answers and refers to, nearest
// first, then its own. What is not known yet is put into the thread.
func (b *build) thread(account uint32, hashes []hash, own hash, hasOwn bool, fresh uint64) (uint64, error) {
	if hasOwn {
		hashes = append(hashes[:len(hashes):len(hashes)], own)
	}
	type without struct {
		hash   hash
		record messageIDRecord
	}
	var unknown []without
	thread := uint64(0)
	for i, h := range hashes {
		if slices.Contains(hashes[:i], h) {
			continue
		}
		r, ok, err := b.messageID(account, h)
		if err != nil {
			return 0, err
		}
		if !ok || r.thread == 0 {
			unknown = append(unknown, without{h, r})
			continue
		}
		if thread == 0 {
			thread = r.thread
		}
		if b.store.today() >= r.day+freshDays {
			b.putMessageID(account, h, r)
		}
	}
	if thread == 0 {
		thread = fresh
	}
	for _, u := range unknown {
		u.record.thread = thread
		b.putMessageID(account, u.hash, u.record)
	}
	return thread, nil
}

// freshDays is how old the day of a Message-ID may be before it is noted that it was of use again.
const freshDays = 30

// today is the day since 1970.
func (s *Store) today() uint64 { return uint64(max(s.o.Now().Unix()/(24*60*60), 1)) }

// putMessageID keeps what is remembered under a Message-ID, as of use today.
func (b *build) putMessageID(account uint32, h hash, r messageIDRecord) {
	r.day = b.store.today()
	b.put(keyOfHash(keyMessageID, account, h), r.encode())
}

func (b *build) messageID(account uint32, h hash) (messageIDRecord, bool, error) {
	v, err := b.get(keyOfHash(keyMessageID, account, h))
	if err != nil || v == nil {
		return messageIDRecord{}, false, err
	}
	r, err := decodeMessageID(v)
	return r, true, err
}

// label remembers a message's label. What a submission said stands; anything else only if nothing was said before.
func (b *build) label(account uint32, h hash, label mail.Label, submitted bool) error {
	if label == "" {
		return nil
	}
	r, _, err := b.messageID(account, h)
	if err != nil || r.label != "" && !submitted {
		return err
	}
	r.label = strings.Clone(string(label))
	b.putMessageID(account, h, r)
	return nil
}
