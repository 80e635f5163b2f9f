package storage

// recentChange is which messages a commit added or changed.
type recentChange struct {
	modSeq uint64
	uids   []uidRange
}

// How much is kept of recent changes. Who has been away for longer looks at all messages.
const (
	maxRecent       = 64
	maxRecentRanges = 16
)

// remember keeps what an event did to messages. m.mu is held.
func (m *mailbox) remember(e *event, open bool) {
	if !e.bumped {
		return
	}
	var uids []uidRange
	for i := range e.added {
		uids = appendUID(uids, e.added[i].uid)
	}
	if e.changed != nil {
		uids = append(uids, e.changed.ranges...)
	}
	if !open || len(uids) > maxRecentRanges {
		m.recent, m.recentAfter = nil, e.c.modSeq
		return
	}
	if len(uids) == 0 {
		return
	}
	if len(m.recent) == maxRecent {
		m.recentAfter = m.recent[maxRecent/2-1].modSeq
		m.recent = append(m.recent[:0], m.recent[maxRecent/2:]...)
	}
	m.recent = append(m.recent, recentChange{e.c.modSeq, uids})
}

// changedSince calls f for the messages with a greater mod-sequence, by UID. m.mu is held.
func (m *mailbox) changedSince(since uint64, f func(s *slot)) {
	ranges := []uidRange{{0, 1<<32 - 1}}
	if since >= m.recentAfter {
		ranges = ranges[:0]
		for i := len(m.recent) - 1; i >= 0 && m.recent[i].modSeq > since; i-- {
			ranges = append(ranges, m.recent[i].uids...)
		}
		ranges = union(ranges)
	}
	m.each(ranges, func(_ int, s *slot) {
		if s.modSeq > since {
			f(s)
		}
	})
}
