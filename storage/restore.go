package storage

import (
	"context"
	"encoding/binary"
	"errors"

	"cmmpd/internal/mail"
)

// How many EMAILIDs and mailbox numbers are passed over after a restore: what was given out between the backup and the
// loss must not be given out again for something else.
const (
	restoreGapBodies    = 1 << 32
	restoreGapMailboxes = 1 << 16
)

// Renew prepares a store that was restored from a backup. Clients may have seen messages that the backup does not
// hold, under UIDs and IDs that will be given out again; so every mailbox gets a new UIDVALIDITY, whereupon clients
// forget what they have kept (RFC 3501, section 2.3.1.1), and new EMAILIDs and mailboxes begin beyond a gap. What waited in
// the queue may have been sent since the backup, so all of it is held. What the key vault has no keys of any more is dropped. Renew must be called before anybody uses the
// store.
func (s *Store) Renew(ctx context.Context) error {
	if err := s.commit(ctx, &commit{}, func(b *build) error {
		top, err := b.number(keyBodyTop)
		if err != nil {
			return err
		}
		s.bodyNext.Store(top + restoreGapBodies)
		b.put(key0(keyBodyTop), encodeNumber(top+restoreGapBodies))
		return nil
	}); err != nil {
		return err
	}
	if err := s.takeBackAll(ctx); err != nil {
		return err
	}
	var ids []string
	if err := s.scan(key0(keyAccount), func(k, _ []byte) error {
		ids = append(ids, string(k[1:]))
		return ctx.Err()
	}); err != nil {
		return err
	}
	disposed := 0
	for _, id := range ids {
		n, err := s.DropDisposed(ctx, mail.AccountID(id))
		if err == nil {
			err = s.renewAccount(ctx, id)
		}
		if err != nil {
			return err
		}
		disposed += n
	}
	if disposed > 0 {
		s.o.Log.Warn("messages whose keys were erased after the backup do not come back", "messages", disposed)
	}
	return s.commit(ctx, &commit{}, func(b *build) error {
		return s.scan(key0(keyQueue), func(k, v []byte) error {
			r, err := decodeQueue(v)
			if err != nil || r.held || len(k) != 9 {
				return err
			}
			b.delete(r.dueKey(QueueID(binary.BigEndian.Uint64(k[1:]))))
			r.held = true
			b.put(append([]byte(nil), k...), r.encode())
			return ctx.Err()
		})
	})
}

func (s *Store) renewAccount(ctx context.Context, id string) error {
	return s.commit(ctx, &commit{}, func(b *build) error {
		v, err := b.get(keyOfAccount(id))
		if err != nil {
			return err
		}
		r, err := decodeAccount(v)
		if err != nil {
			return err
		}
		if r.mailboxes >= 1<<31 {
			return mail.E(mail.Corrupt, "", errors.New("the mailbox numbers of an account are used up"))
		}
		err = s.scan(keyOf(keyCounters, r.number), func(k, v []byte) error {
			c, err := decodeCounters(v)
			if err != nil {
				return err
			}
			r.uidValidity = max(r.uidValidity+1, uint32(s.o.Now().Unix()))
			c.uidValidity = r.uidValidity
			b.put(append([]byte(nil), k...), c.encode())
			return nil
		})
		r.mailboxes += restoreGapMailboxes
		b.put(keyOfAccount(id), r.encode())
		return err
	})
}
