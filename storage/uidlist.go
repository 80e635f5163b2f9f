package storage

import (
	"slices"
	"sync"
)

// uidList is what the sessions of a mailbox share: the UIDs of all messages, so that opening the mailbox once more costs
// the same however many there are, and where to look for the first that is not \Seen.
type uidList struct {
	mu   sync.Mutex // taken after mailbox.mu
	uids []uint32   // ascending; nil: to be made. Appended to, never changed in place
	seen uint32     // all messages below this UID are \Seen
}

// of is the list, and the place in it of the first message that is not \Seen, -1 if there is none. m.mu is held.
func (l *uidList) of(m *mailbox) (uids []uint32, unseen int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.uids == nil {
		l.uids = make([]uint32, len(m.msgs), len(m.msgs)+len(m.msgs)/16+16)
		for i := range m.msgs {
			l.uids[i] = m.msgs[i].uid
		}
	}
	unseen = -1
	i := m.at(l.seen)
	for l.seen = m.c.uidNext; i < len(m.msgs); i++ {
		if m.msgs[i].sys&sysSeen == 0 {
			l.seen, unseen = m.msgs[i].uid, i
			break
		}
	}
	return slices.Clip(l.uids), unseen
}

// update follows an event. m.mu is held exclusively.
func (l *uidList) update(e *event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(e.gone) > 0 {
		l.uids = nil
	}
	if l.uids != nil {
		for i := range e.added {
			l.uids = append(l.uids, e.added[i].uid)
		}
	}
	if c := e.changed; c != nil && len(c.ranges) > 0 && (c.op == SetFlags || c.op == DelFlags) {
		l.seen = min(l.seen, c.ranges[0].from)
	}
}

// forget gives the memory back.
func (l *uidList) forget() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.uids = nil
}
