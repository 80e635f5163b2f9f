package engine

import (
	"bytes"
	"sync"
)

// Behind is an engine with an ordered table in memory before it: Apply makes changes visible at once, Flush writes
// them to the engine. What keeps them until then is the caller's log. All methods may be called concurrently; one
// Flush at a time is the caller's care.
type Behind struct {
	engine Engine

	mu     sync.RWMutex
	active *table
	frozen *table // being written; nil if nothing is
	mark   []Op   // set by the last Apply: written in the same transaction as the changes up to it
}

// NewBehind puts a table before e.
func NewBehind(e Engine) *Behind { return &Behind{engine: e, active: newTable()} }

// Apply makes ops visible, all at once. mark are ops of which only the latest are written by a Flush, with the
// changes that came with them: the caller's position in its log. Keys and values are kept and must not be changed.
func (b *Behind) Apply(ops []Op, mark ...Op) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, op := range ops {
		b.active.set(op.Key, op.Value)
	}
	b.mark = mark
}

// Pending is about how many bytes of memory the changes take that are not yet in the engine.
func (b *Behind) Pending() int {
	b.mu.RLock()
	defer b.mu.RUnlock()
	n := b.active.size
	if b.frozen != nil {
		n += b.frozen.size
	}
	return n
}

// Flush writes what is visible now to the engine. ready is called after the changes to be written are fixed and
// before they are written; if it fails, so does Flush. After an error the changes are still visible and the next
// Flush tries again.
func (b *Behind) Flush(ready func() error) error {
	b.mu.Lock()
	if b.frozen == nil {
		if b.active.count == 0 {
			b.mu.Unlock()
			return nil
		}
		b.frozen, b.active = b.active, newTable()
	} else if b.active.count > 0 { // an earlier Flush failed: this one takes both
		for n := b.active.head.next[0]; n != nil; n = n.next[0] {
			b.frozen.set(n.key, n.value)
		}
		b.active = newTable()
	}
	frozen, mark := b.frozen, b.mark
	b.mu.Unlock()

	if err := ready(); err != nil {
		return err
	}
	err := b.engine.Update(func(w Writer) error {
		for n := frozen.head.next[0]; n != nil; n = n.next[0] {
			if err := write(w, n.key, n.value); err != nil {
				return err
			}
		}
		for _, op := range mark {
			if err := write(w, op.Key, op.Value); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	b.mu.Lock()
	b.frozen = nil
	b.mu.Unlock()
	return nil
}

func write(w Writer, key, value []byte) error {
	if value == nil {
		return w.Delete(key)
	}
	return w.Put(key, value)
}

// View runs f on what is visible. Apply waits meanwhile, so f must be brief, and it must not call the Behind: behind a
// waiting Apply it would wait for itself. What f reads is valid until it returns.
func (b *Behind) View(f func(Reader) error) error {
	b.mu.RLock()
	defer b.mu.RUnlock()
	return b.engine.View(func(r Reader) error {
		return f(&layered{tables: [2]*table{b.active, b.frozen}, below: r})
	})
}

// Get is a copy of the value of key, nil if there is none.
func (b *Behind) Get(key []byte) ([]byte, error) {
	b.mu.RLock()
	defer b.mu.RUnlock()
	for _, t := range [2]*table{b.active, b.frozen} {
		if t == nil {
			continue
		}
		if v, ok := t.get(key); ok {
			return v, nil // tables never change a value in place
		}
	}
	var value []byte
	err := b.engine.View(func(r Reader) error {
		value = bytes.Clone(r.Get(key))
		return nil
	})
	return value, err
}

// layered reads tables, the newest first, and the engine below them.
type layered struct {
	tables [2]*table // may be nil
	below  Reader
}

func (l *layered) Get(key []byte) []byte {
	for _, t := range l.tables {
		if t == nil {
			continue
		}
		if v, ok := t.get(key); ok {
			return v
		}
	}
	return l.below.Get(key)
}

func (l *layered) Scan(prefix, from []byte, f func(key, value []byte) bool) {
	var at [2]*node
	for i, t := range l.tables {
		if t != nil {
			at[i] = t.seek(start(prefix, from), nil)
		}
	}
	// upTo passes what the tables hold before limit (nil: to the end) and says whether to go on, and whether the
	// tables hold limit itself.
	upTo := func(limit []byte) (more, shadowed bool) {
		for {
			first := -1
			for i, n := range at {
				if n == nil || !bytes.HasPrefix(n.key, prefix) || limit != nil && bytes.Compare(n.key, limit) > 0 {
					continue
				}
				if first < 0 || bytes.Compare(n.key, at[first].key) < 0 {
					first = i
				}
			}
			if first < 0 {
				return true, shadowed
			}
			n := at[first]
			for i, other := range at {
				if other != nil && bytes.Equal(other.key, n.key) {
					at[i] = other.next[0]
				}
			}
			if limit != nil && bytes.Equal(n.key, limit) {
				shadowed = true
			}
			if n.value != nil && !f(n.key, n.value) {
				return false, shadowed
			}
		}
	}
	stopped := false
	l.below.Scan(prefix, from, func(k, v []byte) bool {
		more, shadowed := upTo(k)
		if more && !shadowed {
			more = f(k, v)
		}
		stopped = !more
		return more
	})
	if !stopped {
		upTo(nil)
	}
}
