package storage

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"cmmpd/internal/mail"
)

// What is expunged, and what is in a mailbox that is deleted, can be brought back for a time: the act that removes the
// messages puts them into a mailbox of the account's own, which is made when it is first needed. It is an ordinary mailbox for reading, COPY
// and MOVE; nothing is put into it, changed or expunged there by anybody. Its UIDs are in the order of deletion, and the save date
// of a message there is when it was deleted. It counts in no quota. Messages leave it when their time is over, the oldest first also when
// it holds more than it may; that goes on in the background.
//
// What was in Drafts is not kept: confidential drafts lie there unsealed, and a client that saves a draft every minute deletes one
// every minute.

// recoverableName is the mailbox's name. If the owner has a mailbox of that name already, it gets a number.
const recoverableName = "Recoverable"

// recoverBatch is how many messages leave it in one act.
const recoverBatch = 256

var errRecoverable = mail.E(mail.ReadOnly, "this mailbox holds deleted messages; they can be copied and moved out of it, and nothing else", nil)

// recoverable says whether the mailbox is that of deleted messages.
func (a *account) recoverable(mailbox uint32) bool { return mailbox != 0 && a.kept.Load() == mailbox }

// Recoverable says whether the mailbox is that of deleted messages.
func (m *Mailbox) Recoverable() bool { return m.m.account.recoverable(m.m.key.mailbox) }

// keptMaker is what an act needs that keeps the messages that it removes from a mailbox.
type keptMaker struct {
	m     *mailbox
	epoch *epoch // for what must be sealed; nil: nothing but keywords, which are dropped then
	name  string // of the mailbox, if it must be made
	no    uint32 // its number, if it was made
}

// keeping makes ready for keeping what is removed from m. It is nil if nothing is kept. The account is held exclusively.
func (m *mailbox) keeping(ctx context.Context) (*keptMaker, error) {
	a, s := m.account, m.store
	m.mu.RLock()
	words, use := len(m.words), m.use
	m.mu.RUnlock()
	if s.o.Recover <= 0 || specialUses[use] == `\Drafts` {
		return nil, nil
	}
	k := &keptMaker{m: m}
	if a.kept.Load() == 0 {
		all, err := a.list()
		if err != nil {
			return nil, err
		}
		taken := func(m listed) bool { return m.name == k.name || strings.HasPrefix(m.name, k.name+"/") }
		k.name = recoverableName
		for i := 2; slices.ContainsFunc(all, taken); i++ {
			k.name = fmt.Sprintf("%s (%d)", recoverableName, i)
		}
		words++
	}
	if words == 0 {
		return k, nil
	}
	var err error
	k.epoch, err = a.sealing(ctx, words)
	return k, err
}

// end notes that the act is done, or has failed.
func (k *keptMaker) end(err error) {
	if k == nil {
		return
	}
	if err == nil && k.no != 0 {
		k.m.account.kept.Store(k.no)
	}
	k.epoch.done()
}

// box is the mailbox of deleted messages, made if need be.
func (k *keptMaker) box(b *build) (*box, error) {
	a := k.m.account
	if n := a.kept.Load(); n != 0 {
		return b.box(a, mailboxKey{k.m.key.account, n})
	}
	key := keyOfAccount(string(a.id))
	v, err := b.get(key)
	if err != nil {
		return nil, err
	}
	acct, err := decodeAccount(v)
	if err != nil {
		return nil, err
	}
	r, err := a.newMailboxRecord(k.epoch, k.name, 0)
	if err != nil {
		return nil, err
	}
	x := b.newMailbox(a, acct.number, &acct, r)
	x.recoverable = true
	k.no, acct.kept = x.key.mailbox, x.key.mailbox
	b.put(key, acct.encode())
	return x, nil
}

// keep puts messages that are about to be removed (ascending UIDs, all there) into the mailbox of deleted messages. If they are
// more than it may hold, the last of them; it says how many. They have their references to bodies from those that are removed. m.mu is held
// for reading.
func (k *keptMaker) keep(b *build, list []uint32) (moved int, err error) {
	if k == nil || len(list) == 0 {
		return 0, nil
	}
	m, limit := k.m, b.store.o.RecoverBytes
	first, size := len(list), int64(0)
	for ; first > 0; first-- {
		i, ok := m.find(list[first-1])
		if !ok {
			return 0, errGone
		}
		if size += int64(m.msgs[i].size); size > limit {
			break
		}
	}
	if first == len(list) {
		return 0, nil
	}
	target, err := k.box(b)
	if err != nil || target.c.size > 2*limit { // whoever deletes faster than the background removes
		return 0, err
	}
	if err := k.copies(b, target, list[first:]); err != nil {
		return 0, err
	}
	if target.c.size > limit {
		_, err = b.forget(target, max(recoverBatch, 2*len(list)), func(entryRecord) bool { return target.c.size > limit })
	}
	return len(list) - first, err
}

func (k *keptMaker) copies(b *build, target *box, list []uint32) error {
	m := k.m
	words := make(map[[2]uint64][2]uint64)
	now := b.store.o.Now().Unix()
	for _, uid := range list {
		i, ok := m.find(uid)
		if !ok {
			return errGone
		}
		if _, err := m.copyOne(b, k.epoch, &m.msgs[i], target, words, now); err != nil {
			return err
		}
	}
	return nil
}

// forget removes the oldest messages from the mailbox of deleted messages as long as which says so, no more than n. The
// account is held exclusively. It says whether there may be more to remove.
func (b *build) forget(x *box, n int, which func(entryRecord) bool) (more bool, err error) {
	var gone []uint32
	rest := false // stays
	prefix := keyOf(keyEntry, x.key.account, x.key.mailbox)
	err = b.store.scanSome(prefix, n, func(k, v []byte) error {
		r, err := decodeEntry(v)
		if err != nil {
			return err
		}
		if !which(r) {
			rest = true
			return errEnough
		}
		uid := last32(k)
		gone = append(gone, uid)
		b.delete(keyOf(keyEntry, x.key.account, x.key.mailbox, uid))
		b.delete(keyOf(keySecret, x.key.account, x.key.mailbox, uid))
		x.count(-1, r.flags, r.size, uid >= x.c.firstRecent)
		return b.unref(r.body, 1)
	})
	if errors.Is(err, errEnough) {
		err = nil
	}
	if err != nil || len(gone) == 0 {
		return false, err
	}
	b.put(keyOfExpunge(x.key.account, x.key.mailbox, x.modSeq(b.store.boot)), encodeUIDs(uidRanges(gone)))
	x.event.gone = append(x.event.gone, gone...)
	return len(gone) == n && !rest, nil
}

// expireSome removes the deleted messages whose time is over, or that are too many, of all accounts.
func (s *Store) expireSome(ctx context.Context) error {
	if s.o.Recover == 0 {
		return nil
	}
	var ids []mail.AccountID
	p := pace{rate: s.o.HouseRate}
	err := s.scan(key0(keyAccount), func(k, v []byte) error {
		r, err := decodeAccount(v)
		if err == nil && r.kept != 0 {
			var due bool
			if due, err = s.someExpired(mailboxKey{r.number, r.kept}); due {
				ids = append(ids, mail.AccountID(k[1:]))
			}
		}
		if err != nil {
			return err
		}
		return p.spend(ctx, 256)
	})
	if err != nil {
		return err
	}
	for _, id := range ids {
		for more := true; more; {
			if more, err = s.expireAccount(ctx, id); err != nil {
				return err
			}
			if err := p.spend(ctx, recoverBatch*256); err != nil { // about what a batch reads and writes
				return err
			}
		}
	}
	return nil
}

// expired says of the messages in a mailbox of deleted ones, which holds size octets, whether they must leave.
func (s *Store) expired(r entryRecord, size int64) bool {
	return s.o.Recover < 0 || r.saved <= s.o.Now().Add(-s.o.Recover).Unix() || size > s.o.RecoverBytes
}

// someExpired looks at the oldest message of a mailbox of deleted ones, without asking for the account's keys.
func (s *Store) someExpired(key mailboxKey) (bool, error) {
	v, err := s.kv.Get(keyOf(keyCounters, key.account, key.mailbox))
	if err != nil {
		return false, err
	}
	c, err := decodeCounters(v)
	if err != nil || c.messages == 0 {
		return false, err
	}
	due := false
	err = s.scanSome(keyOf(keyEntry, key.account, key.mailbox), 1, func(_, v []byte) error {
		r, err := decodeEntry(v)
		due = s.expired(r, c.size)
		return err
	})
	return due, err
}

func (s *Store) expireAccount(ctx context.Context, id mail.AccountID) (more bool, err error) {
	a, err := s.acquire(ctx, id)
	if err != nil {
		return false, err
	}
	defer s.release(a)
	a.mu.Lock()
	defer a.mu.Unlock()
	err = s.commit(ctx, &commit{}, func(b *build) error {
		x, err := b.box(a, mailboxKey{a.no(), a.kept.Load()})
		if err != nil {
			return err
		}
		more, err = b.forget(x, recoverBatch, func(r entryRecord) bool { return s.expired(r, x.c.size) })
		return err
	})
	return more, err
}

// notUnderRecoverable refuses a name below the mailbox of deleted messages.
func (a *account) notUnderRecoverable(b *build, name string) error {
	for _, p := range parents(name) {
		v, err := b.get(keyOfHash(keyName, a.no(), a.hash(hashName, p)))
		if err != nil {
			return err
		}
		n, err := decodeNumber(v)
		if err != nil {
			return err
		}
		if a.recoverable(uint32(n)) {
			return mail.E(mail.Denied, "no mailbox can be below that one", nil)
		}
	}
	return nil
}

// defaultRecoverBytes is how much an account may hold in deleted messages.
const defaultRecoverBytes = 1 << 30

// recoverDefaults completes the options.
func (o *Options) recoverDefaults() {
	if o.RecoverBytes <= 0 {
		o.RecoverBytes = defaultRecoverBytes
	}
}
