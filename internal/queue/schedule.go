package queue

import (
	"context"
	"slices"
	"time"

	"cmmpd/internal/mail"
	"cmmpd/storage"
)

// Bounds of what the schedule keeps in memory, however long the queue is.
const (
	maxReady     = 4096 // items that wait for a courier
	maxLaneReady = 128  // of those, in one lane
	scanStep     = 256  // marks read at a time
)

// lane is all that goes one way.
type lane struct {
	ready  []*claim  // due, oldest first
	active int       // couriers under way
	down   time.Time // until then nothing is tried: the server could not be reached
	why    *outcome
}

// claim is one item that somebody sees to; nobody else does meanwhile.
type claim struct {
	id      storage.QueueID
	lane    uint64
	started bool
	ctx     context.Context
	cancel  context.CancelFunc
	heir    *claim        // who has the item next, instead of nobody
	done    chan struct{} // closed when it is given up
}

// schedule is the scheduler: it finds what is due, sends couriers, and waits for something to happen.
func (q *Queue) schedule() {
	for {
		begun := time.Now()
		if q.looks() {
			next, err := q.refill(q.ctx)
			if err != nil {
				q.o.Log.Error("queue: cannot look for what is due", "err", err)
				next = q.o.Now().Add(time.Minute)
			}
			q.expect(next)
		}
		q.dispatch()
		q.rest(time.Since(begun))
		q.mu.Lock()
		stopping, next := q.stopping, q.next
		q.mu.Unlock()
		if stopping {
			return
		}
		var due <-chan time.Time
		if !next.IsZero() {
			due = time.After(next.Sub(q.o.Now()))
		}
		select {
		case <-q.wake:
		case <-due:
		}
	}
}

// looks says whether it is time to look for what is due.
func (q *Queue) looks() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.stopping || !q.look && (q.next.IsZero() || q.next.After(q.o.Now())) {
		return false
	}
	q.look, q.passed, q.next = false, false, time.Time{}
	return true
}

// expect has the scheduler look again at that time; the zero Time says nothing.
func (q *Queue) expect(t time.Time) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !t.IsZero() && (q.next.IsZero() || t.Before(q.next)) {
		q.next = t
		q.poke()
	}
}

// rest pauses after a long search: however long the queue is, searching takes at most half of one processor.
func (q *Queue) rest(took time.Duration) {
	if took < 10*time.Millisecond {
		return
	}
	select {
	case <-time.After(took):
	case <-q.stop:
	}
}

// refill puts what is due into its lanes. It returns when the first item that is not due yet will be; zero if there is
// none.
func (q *Queue) refill(ctx context.Context) (time.Time, error) {
	now := q.o.Now()
	odd, err := q.o.Store.QueueDue(ctx, storage.QueueMark{Due: now.Add(q.horizon()), ID: 1}, scanStep)
	if err != nil {
		return time.Time{}, err
	}
	for _, m := range odd {
		if !q.admit(m) {
			return time.Time{}, nil
		}
	}
	var after storage.QueueMark
	for {
		marks, err := q.o.Store.QueueDue(ctx, after, scanStep)
		if err != nil {
			return time.Time{}, err
		}
		for _, m := range marks {
			if m.Due.After(now) {
				return m.Due, nil
			}
			if !q.admit(m) {
				return time.Time{}, nil
			}
		}
		if len(marks) < scanStep {
			return time.Time{}, nil
		}
		after = marks[len(marks)-1]
	}
}

// horizon is how far ahead an item can be due. What is due after that was queued while the clock was wrong, and is due.
func (q *Queue) horizon() time.Duration { return slices.Max(q.o.Retry)*5/4 + time.Hour }

// early says whether an item that is due at that time is not yet.
func (q *Queue) early(due time.Time) bool {
	now := q.o.Now()
	return due.After(now) && !due.After(now.Add(q.horizon()))
}

// admit puts an item into its lane unless it is there. It says false when nothing more fits.
func (q *Queue) admit(m storage.QueueMark) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.claims[m.ID] != nil {
		return true
	}
	if q.stopping || q.ready >= maxReady {
		q.passed = true
		return false
	}
	l := q.lane(m.Lane)
	if len(l.ready) >= maxLaneReady {
		q.passed = true
		return true
	}
	c := &claim{id: m.ID, lane: m.Lane, done: make(chan struct{})}
	q.claims[m.ID] = c
	l.ready = append(l.ready, c)
	q.ready++
	return true
}

// lane is the lane of that name. q.mu is held.
func (q *Queue) lane(key uint64) *lane {
	l := q.lanes[key]
	if l == nil {
		l = &lane{}
		q.lanes[key] = l
	}
	return l
}

// tidy forgets a lane that has nothing to tell. q.mu is held.
func (q *Queue) tidy(key uint64) {
	if l := q.lanes[key]; l != nil && len(l.ready) == 0 && l.active == 0 && !l.down.After(q.o.Now()) {
		delete(q.lanes, key)
	}
}

// dispatch sends couriers, to each lane in turn one more, as long as there are any.
func (q *Queue) dispatch() {
	q.mu.Lock()
	defer q.mu.Unlock()
	for progress := true; progress; {
		progress = false
		for key, l := range q.lanes {
			if q.active >= q.o.Couriers || l.active >= q.o.PerLane {
				continue
			}
			c := q.take(l)
			if c == nil {
				continue
			}
			l.active++
			q.active++
			progress = true
			q.running.Add(1)
			go q.courier(key, c)
		}
	}
	for key := range q.lanes {
		q.tidy(key)
	}
}

// take is the next item of the lane, begun. q.mu is held.
func (q *Queue) take(l *lane) *claim {
	if len(l.ready) == 0 || q.stopping {
		return nil
	}
	c := l.ready[0]
	l.ready = l.ready[1:]
	q.ready--
	c.started = true
	c.ctx, c.cancel = context.WithTimeout(q.ctx, q.o.Timeouts.Attempt)
	return c
}

// courier carries items of a lane, one after the other, over one connection where that can be.
func (q *Queue) courier(key uint64, c *claim) {
	defer q.running.Done()
	t := &trip{q: q}
	defer t.end()
	for c != nil {
		saved := q.work(c, t)
		q.mu.Lock()
		if saved {
			q.drop(c)
		}
		l := q.lane(key)
		if q.passed && len(l.ready) < maxLaneReady/2 {
			q.look = true
		}
		next := q.take(l)
		if next == nil {
			l.active--
			q.active--
		}
		q.poke()
		q.mu.Unlock()
		c = next
	}
}

// drop gives a claim up, to its heir if it has one. q.mu is held.
func (q *Queue) drop(c *claim) {
	if c.cancel != nil {
		c.cancel()
	}
	delete(q.claims, c.id)
	if c.heir != nil {
		q.claims[c.id] = c.heir
	}
	close(c.done)
}

// seizeWait is how long an operator waits for a courier to break off.
const seizeWait = 30 * time.Second

// seize takes an item out of the schedule, breaking off an attempt that is under way. give gives it back. The error is of
// kind Busy.
func (q *Queue) seize(ctx context.Context, id storage.QueueID) (give func(), err error) {
	own := &claim{id: id, started: true, done: make(chan struct{})}
	give = func() {
		q.mu.Lock()
		q.drop(own)
		q.mu.Unlock()
		q.Wake()
	}
	ctx, cancel := context.WithTimeout(ctx, seizeWait)
	defer cancel()
	q.mu.Lock()
	c := q.claims[id]
	switch {
	case c == nil:
		q.claims[id] = own
	case !c.started:
		l := q.lane(c.lane)
		l.ready = slices.DeleteFunc(l.ready, func(x *claim) bool { return x == c })
		q.ready--
		c.heir = own
		q.drop(c)
	case c.heir != nil || c.cancel == nil:
		q.mu.Unlock()
		return nil, mail.E(mail.Busy, "somebody else works on the item", nil)
	default:
		c.heir = own
		c.cancel()
		q.mu.Unlock()
		return give, q.inherit(ctx, c)
	}
	q.mu.Unlock()
	return give, nil
}

// inherit waits until the claim is given up to its heir.
func (q *Queue) inherit(ctx context.Context, c *claim) error {
	select {
	case <-c.done:
		return nil
	case <-ctx.Done():
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	select {
	case <-c.done:
		return nil
	default:
		c.heir = nil
		return mail.E(mail.Busy, "the item is being worked on", ctx.Err())
	}
}

// isDown is why the lane is not to be tried now; nil if it is.
func (q *Queue) isDown(key uint64) *outcome {
	q.mu.Lock()
	defer q.mu.Unlock()
	if l := q.lanes[key]; l != nil && l.down.After(q.o.Now()) {
		return l.why
	}
	return nil
}

// setDown keeps everybody off a lane for a while: thousands of items need not each find out that nobody answers.
func (q *Queue) setDown(key uint64, why *outcome) {
	q.mu.Lock()
	defer q.mu.Unlock()
	l := q.lane(key)
	l.down, l.why = q.o.Now().Add(q.o.Retry[0]/2), why
}

// setUp lets the lane be tried again.
func (q *Queue) setUp(key uint64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if l := q.lanes[key]; l != nil {
		l.down, l.why = time.Time{}, nil
	}
}

// pause is how long to wait after the attempt of that number, from 1: drawn out by up to a quarter, so that what failed
// together does not come back together.
func (q *Queue) pause(attempt int) time.Duration {
	d := q.o.Retry[min(max(attempt, 1), len(q.o.Retry))-1]
	return d + time.Duration(float64(d)/4*q.o.Jitter())
}
