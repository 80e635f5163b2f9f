package storage

// A flag change is visible before it is flushed, and a crash may undo it. Whoever remembers a mailbox by a mod-sequence
// must not remember one that can be undone: what was undone would never be told to them. So a mod-sequence is settled
// before a client sees it.

// Settle returns when every mod-sequence that the mailbox has shown so far is durable, with the changes that have it. It
// costs nothing when no flag was changed just now.
func (m *Mailbox) Settle() error {
	x := m.m
	if x.bumped.Load() <= x.store.flushed.Load() {
		return nil
	}
	return x.store.flushLog()
}

// Settle is Mailbox.Settle for all mailboxes.
func (a *Account) Settle() error {
	s := a.a.store
	if s.shown.Load() <= s.flushed.Load() {
		return nil
	}
	return s.flushLog()
}
