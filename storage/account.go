package storage

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"
	"sync"

	"cmmpd/internal/mail"
)

// Account is a handle on an account whose mail may be read: its private key is in memory. All methods may be called
// concurrently, until Close.
type Account struct {
	a    *account
	once sync.Once
}

// OpenAccount unwraps the account's private key, which stays in memory until every handle is closed. The error is of
// kind mail.NotFound if the account does not exist.
func (s *Store) OpenAccount(ctx context.Context, id mail.AccountID) (*Account, error) {
	return s.openAccount(ctx, id, func(a *account) error { return a.unlock(ctx) })
}

func (s *Store) openAccount(ctx context.Context, id mail.AccountID, unlock func(*account) error) (*Account, error) {
	a, err := s.acquire(ctx, id)
	if err != nil {
		return nil, err
	}
	if a.no() == 0 {
		s.release(a)
		return nil, errNoAccount
	}
	if err := unlock(a); err != nil {
		s.release(a)
		return nil, err
	}
	return &Account{a: a}, nil
}

// Close gives the handle back. It may be called more than once. Mailboxes opened through it must be closed before.
func (a *Account) Close() error {
	a.once.Do(func() {
		a.a.lock()
		a.a.store.release(a.a)
	})
	return nil
}

// ID is the account's.
func (a *Account) ID() mail.AccountID { return a.a.id }

func (k mailboxKey) id() string {
	return "F" + strconv.FormatUint(uint64(k.account), 36) + "-" + strconv.FormatUint(uint64(k.mailbox), 36)
}

// lookup finds a mailbox by name.
func (a *account) lookup(name string) (mailboxKey, string, error) {
	name, err := canonicalName(name)
	if err != nil {
		return mailboxKey{}, "", errNoMailbox // a name that cannot be does not exist
	}
	number := a.no()
	v, err := a.store.kv.Get(keyOfHash(keyName, number, a.hash(hashName, name)))
	if err != nil {
		return mailboxKey{}, name, err
	}
	if v == nil {
		return mailboxKey{}, name, errNoMailbox
	}
	n, err := decodeNumber(v)
	return mailboxKey{number, uint32(n)}, name, err
}

// listed is a mailbox with its name in clear.
type listed struct {
	key    mailboxKey
	name   string
	record mailboxRecord
}

// list reads all mailboxes, by name.
func (a *account) list() (all []listed, err error) {
	err = whereverItIs(func() error {
		all, err = a.listOnce()
		return err
	})
	return all, err
}

func (a *account) listOnce() ([]listed, error) {
	var all []listed
	number := a.no()
	err := a.store.scan(keyOf(keyMailbox, number), func(k, v []byte) error {
		r, err := decodeMailbox(v)
		all = append(all, listed{key: mailboxKey{number, last32(k)}, record: r})
		return err
	})
	if err != nil {
		return nil, err
	}
	for i := range all {
		if all[i].name, err = a.openText(all[i].record.name); err != nil {
			return nil, err
		}
	}
	slices.SortFunc(all, func(x, y listed) int { return compareNames(x.name, y.name) })
	return all, nil
}

// compareNames orders names so that INBOX is first and children follow their parents.
func compareNames(a, b string) int {
	for {
		x, restA, moreA := strings.Cut(a, "/")
		y, restB, moreB := strings.Cut(b, "/")
		if x != y {
			if x == Inbox || y == Inbox {
				return map[bool]int{true: -1, false: 1}[x == Inbox]
			}
			return cmp.Compare(x, y)
		}
		if !moreA || !moreB {
			return map[bool]int{true: 1}[moreA] - map[bool]int{true: 1}[moreB]
		}
		a, b = restA, restB
	}
}

func (a *account) subscriptions() (names map[string]bool, err error) {
	err = whereverItIs(func() error {
		names, err = a.subscriptionsOnce()
		return err
	})
	return names, err
}

func (a *account) subscriptionsOnce() (map[string]bool, error) {
	var sealed []sealedText
	err := a.store.scan(keyOf(keySubscribe, a.no()), func(_, v []byte) error {
		t, err := decodeSealedText(v)
		sealed = append(sealed, t)
		return err
	})
	names := make(map[string]bool, len(sealed))
	for _, t := range sealed {
		name, err := a.openText(t)
		if err != nil {
			return nil, err
		}
		names[name] = true
	}
	return names, err
}

// List is all mailboxes, subscriptions and parents, by name, INBOX first and children after their parents.
func (a *Account) List(context.Context) ([]MailboxInfo, error) {
	a.a.mu.RLock()
	defer a.a.mu.RUnlock()
	all, err := a.a.list()
	if err != nil {
		return nil, err
	}
	subscribed, err := a.a.subscriptions()
	if err != nil {
		return nil, err
	}
	infos := make(map[string]*MailboxInfo, len(all)+len(subscribed))
	for _, m := range all {
		infos[m.name] = &MailboxInfo{
			Name: m.name, SpecialUse: specialUses[m.record.use], Exists: true, ID: m.key.id(), Subscribed: subscribed[m.name],
			Recoverable: a.a.recoverable(m.key.mailbox),
		}
	}
	for name := range subscribed {
		if infos[name] == nil {
			infos[name] = &MailboxInfo{Name: name, Subscribed: true}
		}
	}
	for _, m := range all {
		for _, parent := range parents(m.name) {
			if infos[parent] == nil {
				infos[parent] = &MailboxInfo{Name: parent}
			}
			infos[parent].HasChildren = true
		}
	}
	list := make([]MailboxInfo, 0, len(infos))
	for _, info := range infos {
		list = append(list, *info)
	}
	slices.SortFunc(list, func(x, y MailboxInfo) int { return compareNames(x.Name, y.Name) })
	return list, nil
}

// Status is the mailbox's counters.
func (a *Account) Status(_ context.Context, name string) (Status, error) {
	key, _, err := a.a.lookup(name)
	if err != nil {
		return Status{}, err
	}
	v, err := a.a.store.kv.Get(keyOf(keyCounters, key.account, key.mailbox))
	if err != nil {
		return Status{}, err
	}
	if v == nil {
		return Status{}, errNoMailbox
	}
	c, err := decodeCounters(v)
	return Status{
		Messages: c.messages, Recent: c.recent, Unseen: c.unseen, Deleted: c.deleted, UIDNext: c.uidNext,
		UIDValidity: c.uidValidity, HighestModSeq: max(c.modSeq, 1), Size: c.size, MailboxID: key.id(),
		Recoverable: a.a.recoverable(key.mailbox),
	}, err
}

// Open opens a mailbox. The error is of kind mail.NotFound if it does not exist.
func (a *Account) Open(ctx context.Context, name string) (*Mailbox, error) {
	key, _, err := a.a.lookup(name)
	if err != nil {
		return nil, err
	}
	m, err := a.a.store.hold(ctx, a.a, key)
	if err != nil {
		return nil, err
	}
	a.a.store.accountsMu.Lock()
	a.a.users++
	a.a.store.accountsMu.Unlock()
	m.mu.Lock()
	a.a.store.searcher.look(m, a.a)
	m.mu.Unlock()
	return &Mailbox{m: m}, nil
}

// Append adds messages to a mailbox, all or none. It is Deliver for the owner.
func (a *Account) Append(ctx context.Context, mailbox string, msgs []Append) ([]Placed, error) {
	if mailbox == "" {
		return nil, errNoMailbox
	}
	if len(msgs) == 0 {
		return nil, mail.E(mail.Invalid, "", errors.New("nothing to append"))
	}
	d := Delivery{Bodies: make([]Body, len(msgs))}
	for i, m := range msgs {
		d.Bodies[i] = Body{Data: m.Data, Index: m.Index, Label: m.Label, Entries: []NewEntry{
			{Account: a.a.id, Mailbox: mailbox, Flags: m.Flags, InternalDate: m.InternalDate},
		}}
	}
	return a.a.store.Deliver(ctx, d)
}
