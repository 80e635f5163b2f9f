package storage

import (
	"context"

	"github.com/emersion/go-imap/v2"
)

// What removes or moves many messages is done some of them at a time, so that others need not wait for all. The account is held all the while:
// nothing comes between, and each of the acts is durable by itself. A crash or a full disk may leave part of it undone, never a message lost
// or in two places. COPY does all or nothing: copying.go.

// boundedAct is how many messages one act removes, moves or copies.
const boundedAct = 500

// removeSome removes messages (ascending UIDs, all there) and keeps them where that is wanted. done of them are gone, also when it fails. The
// account is held exclusively.
func (m *mailbox) removeSome(ctx context.Context, list []uint32) (done int, err error) {
	for done < len(list) {
		some := list[done:min(len(list), done+m.store.o.act)]
		kept, err := m.keeping(ctx)
		if err != nil {
			return done, err
		}
		err = m.store.commit(ctx, &commit{}, func(b *build) error {
			m.mu.RLock()
			defer m.mu.RUnlock()
			bx, err := b.box(m.account, m.key)
			if err != nil {
				return err
			}
			moved, err := kept.keep(b, some)
			if err != nil {
				return err
			}
			return m.removeMoved(b, bx, some, moved)
		})
		kept.end(err)
		if err != nil {
			return done, err
		}
		done += len(some)
	}
	return done, nil
}

// uidsOf is the UIDs of those messages of a set that exist and that want says yes to.
func (m *mailbox) uidsOf(set imap.UIDSet, want func(s *slot) bool) []uint32 {
	m.mu.RLock()
	defer m.mu.RUnlock()
	var list []uint32
	m.selected(set, func(_ int, s *slot) {
		if want(s) {
			list = append(list, s.uid)
		}
	})
	return list
}

func uidSet(list []uint32) (set imap.UIDSet) {
	for _, r := range uidRanges(list) {
		set.AddRange(imap.UID(r.from), imap.UID(r.to))
	}
	return set
}

// fetchSecrets reads the sealed keys of messages, which do not change while the account is held, before the store's lock is taken.
func (m *mailbox) fetchSecrets(list []uint32) (map[string][]byte, error) {
	fetched := make(map[string][]byte, len(list))
	for _, uid := range list {
		key := keyOf(keySecret, m.key.account, m.key.mailbox, uid)
		v, err := m.store.kv.Get(key)
		if err != nil {
			return nil, err
		}
		fetched[string(key)] = v
	}
	return fetched, nil
}
