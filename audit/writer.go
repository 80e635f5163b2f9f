package audit

import (
	"fmt"
	"time"

	"cmmpd/internal/mail"
)

// run is the writer: the one goroutine that uses l.store. It makes a group of all that
// waits and commits it.
func (l *Log) run() {
	defer close(l.done)
	timer := time.NewTimer(l.opts.Interval)
	timer.Stop()
	due, ticking := false, false
	for {
		g, wait, end := l.nextGroup(due)
		due = false
		l.putCosigned()
		if len(g.records) > 0 {
			if e, back := l.clock.look(l.opts.Now()); back && l.back == nil {
				l.opts.Log.Error("audit: the clock was set back", "from", e.Detail["from"], "to", e.Detail["to"])
				l.back = &Record{Event: e, Time: l.clock.wall}
			}
			if l.back != nil {
				g.records = append([]*Record{l.back}, g.records...)
			}
			err := l.commit(&g)
			if err == nil {
				l.back = nil
			}
			l.finishGroup(g, err)
			continue
		}
		if end {
			return
		}
		if wait && !ticking {
			timer.Reset(l.opts.Interval)
			ticking = true
		}
		select {
		case <-l.wake:
		case <-timer.C:
			due, ticking = true, false
		}
	}
}

// group is what one commit writes.
type group struct {
	records []*Record // the notes, then the acts: a note never follows an act that came after it
	notes   []*noted
	acts    []*waiter
}

// commit numbers the records and appends them.
func (l *Log) commit(g *group) error {
	for i, r := range g.records {
		r.Seq = l.store.tail.size + int64(i)
	}
	ready, err := l.hide(g.records)
	if err != nil {
		return fmt.Errorf("hiding personal data: %w", err)
	}
	raw := make([][]byte, len(ready))
	for i := range ready {
		raw[i] = appendRecord(nil, &ready[i])
	}
	return l.store.commit(raw)
}

// nextGroup takes what is to be written now: notes if they are due, and then everything
// together. wait says that notes wait for the interval to pass, end that the log is closed
// and nothing more can be written.
func (l *Log) nextGroup(due bool) (g group, wait, end bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.failed != nil {
		l.refuseAll(l.failed)
		return g, false, l.closing
	}
	// After a failure, notes are tried again only with the next act or when the interval has passed.
	retry := due || len(l.flushes) > 0 || l.closing && l.trouble == nil
	many := l.notes.waiting() >= maxGroup/2 && l.trouble == nil
	if len(l.acts) == 0 && !retry && !many {
		return g, l.notes.waiting() > 0, l.closing
	}
	g.notes = l.notes.take(maxGroup / 2)
	for _, n := range g.notes {
		g.records = append(g.records, &n.rec)
	}
	g.acts = l.acts[:min(len(l.acts), maxGroup/2-1)] // one more may say that the clock was set back
	l.acts = l.acts[len(g.acts):]
	for _, w := range g.acts {
		g.records = append(g.records, &w.rec)
	}
	if len(g.records) == 0 {
		l.settleFlushes(nil)
	}
	return g, false, l.closing
}

// putCosigned writes what witnesses have cosigned. What fails is tried again with the next.
func (l *Log) putCosigned() {
	l.mu.Lock()
	c := l.cosigned
	l.cosigned = nil
	l.mu.Unlock()
	if c == nil {
		return
	}
	if err := l.store.putCosigned(c); err != nil {
		l.opts.Log.Error("audit: a cosigned checkpoint could not be written", "records", c.tree.N, "error", err)
	}
}

// finishGroup tells everybody what became of the group.
func (l *Log) finishGroup(g group, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err == nil {
		l.trouble = nil
		l.last, l.size, l.tail = l.store.last, l.store.tail.size, l.store.tail
		select {
		case l.grown <- struct{}{}:
		default:
		}
		for _, w := range g.acts {
			w.done <- nil
		}
		l.settleFlushes(nil)
		return
	}
	l.notes.putBack(g.notes)
	if l.trouble == nil {
		l.opts.Log.Error("audit: records could not be written", "records", len(g.records), "error", err)
	}
	refused := notRecorded(err)
	l.trouble = refused
	for _, w := range g.acts {
		w.done <- refused
	}
	l.settleFlushes(refused)
	if unknown(err) {
		l.failed = mail.E(mail.Unavailable, publicRefusal,
			fmt.Errorf("the audit log must be opened anew: %w", err))
		l.opts.Log.Error("audit: nothing will be recorded until the log is opened anew", "error", err)
		l.refuseAll(l.failed)
	}
}

// settleFlushes answers the flushes whose notes are in the log, or all with err.
func (l *Log) settleFlushes(err error) {
	settled := l.notes.settled()
	left := l.flushes[:0]
	for _, f := range l.flushes {
		if err == nil && f.upTo > settled {
			left = append(left, f)
			continue
		}
		f.done <- err
	}
	l.flushes = left
}

// refuseAll answers everybody who waits.
func (l *Log) refuseAll(err error) {
	for _, w := range l.acts {
		w.done <- err
	}
	l.acts = nil
	for _, f := range l.flushes {
		f.done <- err
	}
	l.flushes = nil
}
