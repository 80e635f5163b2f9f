package storage

import (
	"context"
	"errors"
	"time"

	"cmmpd/internal/mail"
	"cmmpd/storage/blob"
	"cmmpd/storage/engine"
)

// commit is one act on its way through the log.
type commit struct {
	record  blob.Record
	ops     []engine.Op
	copies  []byte            // instead of ops: encodeCopies
	fetched map[string][]byte // records read before that nobody else changes
	lazy    bool              // need not be flushed before it is acknowledged
	events  []*event
	made    []*account // accounts that exist from now on, with their numbers
	number  []uint32
	warn    []Warning
	done    chan struct{}
	err     error
}

// pendingValue is a value that a commit will put which is not flushed yet. The next commit builds on it.
type pendingValue struct {
	value []byte
	by    *commit
}

// lazyFlush is how late the flush of a lazy commit may be.
const lazyFlush = 50 * time.Millisecond

// commit runs f to make the changes, under the lock that gives commits their order, and returns when they are durable
// (for a lazy commit: written, and everything before it durable) and visible. If f fails, or makes no changes,
// nothing happens. c brings the blob and collects what f decides.
//
// The caller holds mu of every account concerned.
func (s *Store) commit(ctx context.Context, c *commit, f func(*build) error) error {
	if err := s.writer.admit(ctx); err != nil {
		return err
	}
	s.gate.RLock()
	defer s.gate.RUnlock()
	if err := s.enqueue(c, f); err != nil {
		return err
	}
	if c.done == nil {
		return nil
	}
	s.lead(c)
	<-c.done
	return c.err
}

// lead has a commit taken through the log: by the committer, but a lazy one that is alone by the caller itself, who then need not wait
// until two goroutines were woken. One that needs a flush is better off with the committer: while it is woken others come, and share the
// flush.
func (s *Store) lead(c *commit) {
	if !c.lazy {
		s.poke()
		return
	}
	select {
	case s.writing <- struct{}{}:
	default:
		s.poke()
		return
	}
	s.mu.Lock()
	alone := len(s.queue) == 1 && s.queue[0] == c
	if alone {
		s.queue = nil
	}
	s.mu.Unlock()
	if !alone { // or the committer was faster
		<-s.writing
		s.poke()
		return
	}
	batch := []*commit{c}
	ok := s.run(batch)
	late := s.log.Dirty() && !s.armed
	<-s.writing
	if late {
		s.poke() // the committer flushes it
	}
	if ok {
		s.announce(batch)
	}
}

// take takes all commits that wait.
func (s *Store) take() (batch []*commit, closing bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	batch, s.queue = s.queue, nil
	return batch, s.closing
}

func (s *Store) enqueue(c *commit, f func(*build) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.Ready(); err != nil {
		return err
	}
	if s.closing {
		return mail.E(mail.Unavailable, "the mail store is closing", nil)
	}
	b := &build{store: s, commit: c}
	if err := f(b); err != nil {
		return err
	}
	if err := b.keepUsage(); err != nil {
		return err
	}
	if err := b.taint(); err != nil {
		return err
	}
	b.finish()
	switch {
	case c.copies != nil:
		c.record.Ops = c.copies
	case len(b.ops) == 0:
		return nil
	default:
		if !s.counted {
			b.put(key0(keyBoots), encodeNumber(s.boot))
			if s.boot == 1 { // the store is new
				b.put(key0(keyFormat), progress{format: formatVersion}.encode())
			}
		}
		c.ops = b.ops
		c.record.Ops = encodeOps(c.ops)
	}
	if len(c.record.Ops) > s.o.actBytes {
		return mail.E(mail.TooLarge, "that is too much for one act", nil)
	}
	c.done = make(chan struct{})
	for _, op := range c.ops {
		s.pending[string(op.Key)] = pendingValue{op.Value, c}
	}
	s.queue = append(s.queue, c)
	return nil
}

// poke wakes the committer.
func (s *Store) poke() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// commitLoop is the committer: it takes what waits through the log, flushes once, makes it visible and lets its callers
// go, unless a caller does that itself; and it flushes what lazy commits have written. It ends when the store closes and nothing
// is left.
func (s *Store) commitLoop() {
	defer close(s.committed)
	var late <-chan time.Time // a lazy commit's flush is due
	for {
		select {
		case <-late:
			_ = s.syncLog() // stops the store if it fails
			late = nil
		case a := <-s.asks: // it does not wait for a pause
			a.reply <- a.do()
		default:
		}
		s.writing <- struct{}{}
		batch, closing := s.take()
		ok := len(batch) > 0 && s.run(batch)
		if !s.log.Dirty() {
			late = nil
		} else if late == nil {
			late = time.After(lazyFlush)
		}
		s.armed = late != nil
		<-s.writing
		if ok {
			s.announce(batch)
		}
		if len(batch) > 0 {
			continue
		}
		if closing {
			return
		}
		select {
		case <-s.wake:
		case <-late:
			_ = s.syncLog()
			late = nil
		case a := <-s.asks:
			a.reply <- a.do()
		}
	}
}

// syncLog flushes the log. Only the committer calls it.
func (s *Store) syncLog() error {
	s.writing <- struct{}{}
	defer func() { <-s.writing }()
	err := s.log.Sync()
	if err != nil {
		s.stop(err)
		return err
	}
	s.flushed.Store(s.shown.Load())
	return nil
}

// rollLog begins a new segment, so that all there is so far is in complete ones. Only the committer calls it.
func (s *Store) rollLog() error {
	s.writing <- struct{}{}
	defer func() { <-s.writing }()
	err := s.log.Roll()
	if err == nil {
		s.flushed.Store(s.shown.Load())
		return nil
	}
	return s.refusal(err)
}

// ask is something that only the committer may do. After it the log is flushed, unless it fails.
type ask struct {
	do    func() error
	reply chan error
}

// tell has the committer do something.
func (s *Store) tell(do func() error) error {
	a := ask{do, make(chan error, 1)}
	select {
	case s.asks <- a:
		return <-a.reply
	case <-s.committed:
		return mail.E(mail.Unavailable, unsaved, errors.New("the committer has ended"))
	}
}

// flushLog has the committer flush the log: the index must not be ahead of it.
func (s *Store) flushLog() error { return s.tell(s.syncLog) }

// run takes a batch through the log, and says whether it is to be announced. The token of writing is held.
func (s *Store) run(batch []*commit) bool {
	records, wait := make([]*blob.Record, len(batch)), false
	for i, c := range batch {
		records[i] = &c.record
		wait = wait || !c.lazy
	}
	err := s.Ready()
	if err == nil {
		err = s.log.Append(records)
	}
	if err == nil {
		s.shown.Add(1)
	}
	if err == nil && wait {
		if err = s.log.Sync(); err == nil {
			s.flushed.Store(s.shown.Load())
		}
	}
	if err == nil {
		err = s.show(batch)
	}
	if err != nil {
		s.fail(batch, err)
		return false
	}
	return true
}

// fail answers a batch that could not be written, and all that was built on it meanwhile.
func (s *Store) fail(batch []*commit, err error) {
	err = s.refusal(err)
	s.mu.Lock()
	batch = append(batch, s.queue...)
	s.queue = nil
	clear(s.pending)
	s.mu.Unlock()
	for _, c := range batch {
		c.err = err
		close(c.done)
	}
}

// refusal is what callers are told about an error of the log. Unless the log is as before, the store stops.
func (s *Store) refusal(err error) error {
	switch {
	case errors.Is(err, blob.ErrFull):
		s.o.Log.Warn("no space for mail", "error", err)
		return mail.E(mail.Full, "no space left for mail", err)
	case errors.Is(err, blob.ErrBusy):
		s.o.Log.Warn("mail cannot be saved for the moment", "error", err)
		return mail.E(mail.Unavailable, "no mail can be saved at the moment", err)
	}
	s.stop(err)
	return s.Ready()
}

// apply makes the ops of a log record visible in the index.
func (s *Store) apply(ops []engine.Op, r *blob.Record) error {
	if err := place(ops, r); err != nil {
		return err
	}
	s.kv.Apply(ops, engine.Op{Key: key0(keyPosition), Value: encodePosition(r.End)})
	return nil
}

// show makes a batch visible, in order.
func (s *Store) show(batch []*commit) error {
	for _, c := range batch {
		if err := s.reveal(c); err != nil {
			return err
		}
		for i, a := range c.made {
			a.number.Store(c.number[i])
		}
		for _, e := range c.events {
			s.update(e)
		}
	}
	s.writer.dirty()
	return nil
}

// reveal makes what a commit changed visible, and no longer pending. No other commit is built between the two: it would
// take over a body's record that does not say yet where the body is.
func (s *Store) reveal(c *commit) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.apply(c.ops, &c.record); err != nil {
		return err
	}
	s.counted = s.counted || len(c.ops) > 0
	for _, op := range c.ops {
		if s.pending[string(op.Key)].by == c {
			delete(s.pending, string(op.Key))
		}
	}
	return nil
}

// announce lets the callers go and then tells the watchers. No lock is held.
func (s *Store) announce(batch []*commit) {
	for _, c := range batch {
		close(c.done)
	}
	told := make(map[*mailbox]bool)
	accounts := make(map[mail.AccountID]bool)
	for _, c := range batch {
		for _, e := range c.events {
			if m := e.mailbox; m != nil && !told[m] {
				told[m] = true
				m.tell()
			}
			accounts[e.account.id] = true
		}
	}
	s.feedMu.Lock()
	feed := make([]func(mail.AccountID), 0, len(s.feed))
	for f := range s.feed {
		feed = append(feed, *f)
	}
	s.feedMu.Unlock()
	for _, f := range feed {
		for id := range accounts {
			f(id)
		}
	}
	for _, c := range batch {
		for _, w := range c.warn {
			s.o.Warn(w)
		}
	}
}
