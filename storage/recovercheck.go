package storage

import (
	"encoding/binary"
	"slices"
)

// isKept says whether the mailbox is that of an account's deleted messages.
func (c *checker) isKept(key mailboxKey) bool {
	a := c.accounts[key.account]
	return a != nil && a.record.kept == key.mailbox
}

// origin checks the record of where a deleted message was.
func (c *checker) origin(k, v []byte) {
	t, err := decodeSealedText(v)
	if err != nil || len(k) != 9 {
		c.problem("origin %x: %v", k, err)
		return
	}
	number, uid := binary.BigEndian.Uint32(k[1:]), binary.BigEndian.Uint32(k[5:])
	a := c.accounts[number]
	if a == nil {
		c.problem("origin of UID %d: there is no account %d", uid, number)
		return
	}
	if m := c.mailboxes[mailboxKey{number, a.record.kept}]; m == nil {
		c.problem("origin of UID %d of account %s, which has no deleted messages", uid, a.id)
		return
	} else if _, ok := slices.BinarySearch(m.uids, uid); !ok {
		c.problem("there is an origin of UID %d in %v, but no message", uid, mailboxKey{number, a.record.kept})
	}
	c.epoch(number, t.epoch, "the origin of a deleted message")
	a.origins++
}

// recoverable takes the deleted messages out of the report's counts.
func (c *checker) recoverable() {
	for n, a := range c.accounts {
		if a.record.kept == 0 {
			continue
		}
		c.report.Mailboxes--
		m := c.mailboxes[mailboxKey{n, a.record.kept}]
		if m == nil || a.origins != len(m.uids) {
			c.problem("account %s: the mailbox of deleted messages, which exists %v, has %d origins", a.id, m != nil, a.origins)
			continue
		}
		c.report.Recoverable += len(m.uids)
	}
	c.report.Entries -= c.report.Recoverable
	for body, n := range c.kept {
		if n == c.refs[body] {
			c.report.Bodies--
		}
	}
}

// openOrigins opens every record of where a deleted message was.
func (a *account) openOrigins() error {
	return a.store.scan(keyOf(keyOrigin, a.no()), func(_, v []byte) error {
		t, err := decodeSealedText(v)
		if err == nil {
			_, err = a.openText(t)
		}
		return err
	})
}
