package storage

import (
	"context"
	"fmt"

	"cmmpd/internal/mail"
)

// usage is what an account holds, all its mailboxes together. A message that is in several of them counts in each.
type usage struct{ messages, size uint64 }

func (u usage) encode() []byte { return appendUint(appendUint(nil, u.messages), u.size) }

func decodeUsage(b []byte) (usage, error) {
	d := decoder{b: b}
	u := usage{messages: d.uint(), size: d.uint()}
	return u, d.end()
}

func (u *usage) add(c counters) {
	u.messages += uint64(c.messages)
	u.size += uint64(c.size)
}

// FullError is the cause of an error of kind mail.OverQuota: the accounts that have no room for the act.
type FullError struct{ Accounts []mail.AccountID }

func (e *FullError) Error() string { return fmt.Sprintf("over quota: %v", e.Accounts) }

func errOverQuota(accounts ...mail.AccountID) error {
	return mail.E(mail.OverQuota, "the mailbox is full", &FullError{accounts})
}

// usage is what an account held before this commit.
func (b *build) usage(account uint32) (usage, error) {
	v, err := b.get(keyOf(keyUsage, account))
	if err != nil {
		return usage{}, err
	}
	return decodeUsage(v)
}

// addUp adds up the mailboxes of an account, which must not change meanwhile.
func (s *Store) addUp(account uint32) (usage, error) {
	var u usage
	err := s.scan(keyOf(keyCounters, account), func(_, v []byte) error {
		c, err := decodeCounters(v)
		u.add(c)
		return err
	})
	return u, err
}

// keepUsage keeps the usage of the accounts whose mailboxes this commit changes. It refuses what makes an account larger than its quota;
// what makes it smaller, or moves mail within it, is always good.
func (b *build) keepUsage() error {
	var full []mail.AccountID
	for i, x := range b.boxes {
		if first(b.boxes, x.key.account) != i {
			continue
		}
		var before, after usage
		for _, y := range b.boxes[i:] {
			if y.key.account == x.key.account && y.changed {
				before.add(y.before)
				if !y.destroyed {
					after.add(y.c)
				}
			}
		}
		if before == after {
			continue
		}
		u, err := b.usage(x.key.account)
		if err != nil {
			return err
		}
		u.messages += after.messages - before.messages
		u.size += after.size - before.size
		if q := b.store.o.Quota; q > 0 && after.size > before.size && u.size > uint64(q) {
			full = append(full, x.account.id)
		}
		b.put(keyOf(keyUsage, x.key.account), u.encode())
	}
	if len(full) > 0 {
		return errOverQuota(full...)
	}
	return nil
}

// first is the place of the first box of an account.
func first(boxes []*box, account uint32) int {
	for i, x := range boxes {
		if x.key.account == account {
			return i
		}
	}
	return -1
}

// Usage is what an account holds, and its quota in octets; 0 is none.
type Usage struct {
	Messages, Size int64
	Quota          int64
}

// Usage is what the account holds.
func (a *Account) Usage(context.Context) (Usage, error) { return a.a.store.usageOf(a.a.no()) }

func (s *Store) usageOf(account uint32) (Usage, error) {
	v, err := s.kv.Get(keyOf(keyUsage, account))
	if err != nil {
		return Usage{}, err
	}
	u, err := decodeUsage(v)
	return Usage{Messages: int64(u.messages), Size: int64(u.size), Quota: s.o.Quota}, err
}

// Room says whether an account can take n octets more: the error is of kind mail.OverQuota if not. Deliver decides; this is for saying so
// before a message is sent.
func (s *Store) Room(ctx context.Context, id mail.AccountID, n int64) error {
	if s.o.Quota <= 0 {
		return nil
	}
	a, err := s.acquire(ctx, id)
	if err != nil {
		return err
	}
	defer s.release(a)
	if a.no() == 0 {
		return nil
	}
	u, err := s.usageOf(a.no())
	if err == nil && u.Size+max(n, 1) > u.Quota {
		err = errOverQuota(id)
	}
	return err
}

// DeletedSize is how many octets an expunge would free.
func (m *Mailbox) DeletedSize() int64 {
	m.m.mu.RLock()
	defer m.m.mu.RUnlock()
	var n int64
	for i := range m.m.msgs {
		if s := &m.m.msgs[i]; s.sys&sysDeleted != 0 {
			n += int64(s.size)
		}
	}
	return n
}
