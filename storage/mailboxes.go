package storage

import (
	"context"
	"strings"

	"github.com/emersion/go-imap/v2"

	"cmmpd/internal/mail"
)

// Create makes a mailbox and what is missing of its parents, durably. use may be "" or a special-use attribute that no
// mailbox has yet. The error is of kind mail.Exists if there is such a mailbox, mail.Invalid if the name cannot be,
// mail.TooLarge if there are too many.
func (a *Account) Create(ctx context.Context, name, use string) error {
	name, err := canonicalName(name)
	if err != nil {
		return err
	}
	code, ok := specialUse(use)
	if !ok {
		return mail.E(mail.Invalid, "no such special use", nil)
	}
	x := a.a
	e, err := x.sealing(ctx, maxNameDepth)
	if err != nil {
		return err
	}
	defer e.done()
	x.mu.Lock()
	defer x.mu.Unlock()
	if code != 0 {
		all, err := x.list()
		if err != nil {
			return err
		}
		for _, m := range all {
			if m.record.use == code {
				return mail.E(mail.Exists, "another mailbox has this special use", nil)
			}
		}
	}
	return x.store.commit(ctx, &commit{}, func(b *build) error { return x.create(b, e, name, code) })
}

// create makes a mailbox and the missing ones above it. The account is held exclusively.
func (a *account) create(b *build, e *epoch, name string, use byte) error {
	if err := a.notUnderRecoverable(b, name); err != nil {
		return err
	}
	made, err := a.createMissing(b, e, append(parents(name), name), use)
	if err == nil && !made {
		return mail.E(mail.Exists, "the mailbox exists", nil)
	}
	return err
}

// createMissing makes those of names that are not there, and says whether the last was
// made, which gets the special use. Any of them may be there: a mailbox outlives those
// above it.
func (a *account) createMissing(b *build, e *epoch, names []string, use byte) (last bool, err error) {
	v, err := b.get(keyOfAccount(string(a.id)))
	if err != nil {
		return false, err
	}
	acct, err := decodeAccount(v)
	if err != nil {
		return false, err
	}
	for i, n := range names {
		r, err := a.newMailboxRecord(e, n, 0)
		if err != nil {
			return false, err
		}
		taken, err := b.get(keyOfHash(keyName, acct.number, r.nameHash))
		if err != nil {
			return false, err
		}
		if taken != nil {
			continue
		}
		if acct.mailboxCount >= maxMailboxes {
			return false, mail.E(mail.TooLarge, "too many mailboxes", nil)
		}
		if last = i == len(names)-1; last {
			r.use = use
		}
		b.newMailbox(a, acct.number, &acct, r)
	}
	b.put(keyOfAccount(string(a.id)), acct.encode())
	return last, nil
}

// Delete deletes a mailbox with its messages, durably. Its children stay (RFC 3501, section 6.3.4). The error is of kind
// mail.NotFound if there is none, mail.Denied for INBOX and for what is only a parent.
func (a *Account) Delete(ctx context.Context, name string) error {
	x := a.a
	key, name, err := x.lookup(name)
	if err != nil {
		return x.onlyParent(name, err)
	}
	if name == Inbox {
		return mail.E(mail.Denied, "INBOX cannot be deleted", nil)
	}
	if x.recoverable(key.mailbox) {
		return errRecoverable
	}
	m, err := x.store.hold(ctx, x, key)
	if err != nil {
		return err
	}
	defer x.store.drop(m)
	x.mu.Lock()
	defer x.mu.Unlock()
	if err := x.store.takeBack(ctx, key); err != nil {
		return err
	}
	// The last of many messages go with the mailbox.
	all := m.uidsOf(imap.UIDSet{{Start: 1, Stop: 0}}, func(*slot) bool { return true })
	if _, err := m.removeSome(ctx, all[:max(0, len(all)-x.store.o.act)]); err != nil {
		return err
	}
	kept, err := m.keeping(ctx)
	if err != nil {
		return err
	}
	err = x.store.commit(ctx, &commit{}, func(b *build) error {
		m.mu.RLock()
		defer m.mu.RUnlock()
		return m.destroy(b, kept)
	})
	kept.end(err)
	return err
}

// onlyParent tells a name that is merely above mailboxes from one that is not there at all.
func (a *account) onlyParent(name string, err error) error {
	if mail.KindOf(err) != mail.NotFound || name == "" {
		return err
	}
	all, lerr := a.list()
	if lerr != nil {
		return lerr
	}
	for _, m := range all {
		if strings.HasPrefix(m.name, name+"/") {
			return mail.E(mail.Denied, "the mailbox has children and no messages of its own", nil)
		}
	}
	return err
}

// destroy removes the mailbox with all that belongs to it, and keeps its messages. m.mu is held for reading.
func (m *mailbox) destroy(b *build, kept *keptMaker) error {
	x, err := b.box(m.account, m.key)
	if err != nil {
		return err
	}
	list := make([]uint32, len(m.msgs))
	for i := range m.msgs {
		list[i] = m.msgs[i].uid
	}
	moved, err := kept.keep(b, list)
	if err != nil {
		return err
	}
	if err := m.removeMoved(b, x, list, moved); err != nil {
		return err
	}
	key := keyOf(keyMailbox, m.key.account, m.key.mailbox)
	v, err := b.get(key)
	if err != nil {
		return err
	}
	r, err := decodeMailbox(v)
	if err != nil {
		return err
	}
	v, err = b.get(keyOfAccount(string(m.account.id)))
	if err != nil {
		return err
	}
	acct, err := decodeAccount(v)
	if err != nil {
		return err
	}
	acct.mailboxCount--
	b.put(keyOfAccount(string(m.account.id)), acct.encode())
	b.delete(key)
	b.delete(keyOfHash(keyName, m.key.account, r.nameHash))
	b.delete(keyOf(keyCounters, m.key.account, m.key.mailbox))
	err = m.store.scan(keyOf(keyExpunged, m.key.account, m.key.mailbox), func(k, _ []byte) error {
		b.delete(append([]byte(nil), k...))
		return nil
	})
	b.delete(keyOf(keyForgotten, m.key.account, m.key.mailbox))
	b.delete(keyOfExpunge(m.key.account, m.key.mailbox, x.modSeq(m.store.boot)))
	x.destroyed, x.event.deleted = true, true
	return err
}

// Rename renames a mailbox and its children, durably, and makes what is missing above the new name. Renaming INBOX
// moves its messages into a new mailbox and leaves INBOX empty, with its children (RFC 3501, section 6.3.5); after an error some of many messages may
// have moved, each of which is in one of the two.
// Subscriptions stay as they are.
func (a *Account) Rename(ctx context.Context, from, to string) error {
	x := a.a
	to, err := canonicalName(to)
	if err != nil {
		return err
	}
	from, err = canonicalName(from)
	if err != nil {
		return errNoMailbox
	}
	if from == Inbox {
		return x.renameInbox(ctx, to)
	}
	if to == from {
		return mail.E(mail.Exists, "the mailbox exists", nil)
	}
	if strings.HasPrefix(to, from+"/") || to == Inbox {
		return mail.E(mail.Denied, "the mailbox cannot be renamed to that", nil)
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	all, err := x.list()
	if err != nil {
		return err
	}
	e, err := x.sealing(ctx, maxNameDepth+len(all)) // it may have that many children
	if err != nil {
		return err
	}
	defer e.done()
	return x.store.commit(ctx, &commit{}, func(b *build) error {
		found := false
		for _, m := range all {
			rest, under := strings.CutPrefix(m.name, from)
			if !under || rest != "" && rest[0] != '/' {
				continue
			}
			if _, err := canonicalName(to + rest); err != nil {
				return err
			}
			if x.recoverable(m.key.mailbox) {
				return errRecoverable
			}
			found = true
			if err := x.rename(b, e, m, to+rest); err != nil {
				return err
			}
		}
		if !found {
			return errNoMailbox
		}
		if err := x.notUnderRecoverable(b, to); err != nil {
			return err
		}
		_, err := x.createMissing(b, e, parents(to), 0)
		return err
	})
}

// rename gives one mailbox another name, which must be free.
func (a *account) rename(b *build, e *epoch, m listed, name string) error {
	r := m.record
	b.delete(keyOfHash(keyName, m.key.account, r.nameHash))
	fresh, err := a.newMailboxRecord(e, name, r.use)
	if err != nil {
		return err
	}
	fresh.keywords = r.keywords
	key := keyOfHash(keyName, m.key.account, fresh.nameHash)
	if v, err := b.get(key); err != nil {
		return err
	} else if v != nil {
		return mail.E(mail.Exists, "the mailbox exists", nil)
	}
	b.put(key, encodeNumber(uint64(m.key.mailbox)))
	b.put(keyOf(keyMailbox, m.key.account, m.key.mailbox), fresh.encode())
	x, err := b.box(a, m.key)
	if err != nil {
		return err
	}
	x.changed = true
	x.event.name = name
	return nil
}

// renameInbox moves all messages of INBOX into a new mailbox.
func (a *account) renameInbox(ctx context.Context, to string) error {
	key, _, err := a.lookup(Inbox)
	if err != nil {
		return err
	}
	e, err := a.sealing(ctx, maxNameDepth+maxKeywords)
	if err != nil {
		return err
	}
	defer e.done()
	m, err := a.store.hold(ctx, a, key)
	if err != nil {
		return err
	}
	defer a.store.drop(m)
	a.mu.Lock()
	defer a.mu.Unlock()
	list := m.uidsOf(imap.UIDSet{{Start: 1, Stop: 0}}, func(*slot) bool { return true })
	first := list[:min(len(list), a.store.o.act)]
	fetched, err := m.fetchSecrets(first)
	if err != nil {
		return err
	}
	var made mailboxKey
	err = a.store.commit(ctx, &commit{fetched: fetched}, func(b *build) (err error) {
		if err := a.create(b, e, to, 0); err != nil {
			return err
		}
		if made, err = b.find(key.account, a.hash(hashName, to)); err != nil {
			return err
		}
		_, err = m.transfer(b, e, first, made, true)
		return err
	})
	if err == nil && len(first) < len(list) {
		_, err = m.copyAll(ctx, e, list[len(first):], made, true)
	}
	return err
}

// Subscribe adds or removes a subscription, durably. The mailbox need not exist.
func (a *Account) Subscribe(ctx context.Context, name string, on bool) error {
	name, err := canonicalName(name)
	if err != nil {
		return err
	}
	x := a.a
	e, err := x.sealing(ctx, 1)
	if err != nil {
		return err
	}
	defer e.done()
	text, err := x.sealText(e, name)
	if err != nil {
		return err
	}
	x.mu.RLock()
	defer x.mu.RUnlock()
	return x.store.commit(ctx, &commit{}, func(b *build) error {
		key := keyOfHash(keySubscribe, x.no(), x.hash(hashName, name))
		v, err := b.get(key)
		if err != nil || (v != nil) == on {
			return err
		}
		if !on {
			b.delete(key)
			return nil
		}
		b.put(key, text.append(nil))
		return nil
	})
}
