package audit

import (
	"slices"
	"time"
)

// noted is a note that waits in memory.
type noted struct {
	rec  Record
	key  string // of what may be folded into it; empty: nothing
	nth  int64  // how many notes had been taken in with the first of those that it stands for
	lost bool   // it is a gap
}

// notes is the queue of notes. It is guarded by Log.mu.
type notes struct {
	limit int
	queue []*noted
	byKey map[string]*noted // those in queue that fold
	gap   *noted            // the gap in queue that still counts
	in    int64             // how many notes have been taken in, ever
}

// add takes one note in: as a record, folded into one, or counted as lost. It returns how
// many wait.
func (n *notes) add(rec Record) int {
	n.in++
	key := foldKey(&rec)
	if old := n.byKey[key]; key != "" && old != nil {
		old.more(rec.Time)
		return len(n.queue)
	}
	if key != "" {
		rec.Client = host(rec.Client)
	}
	if len(n.queue) < n.limit {
		e := &noted{rec: rec, key: key, nth: n.in}
		n.queue = append(n.queue, e)
		if key != "" {
			n.byKey[key] = e
		}
		return len(n.queue)
	}
	if n.gap == nil {
		n.gap = &noted{rec: Record{Event: Event{Type: AuditGap}, Time: rec.Time, Count: 1, Last: rec.Time}, nth: n.in, lost: true}
		n.queue = append(n.queue, n.gap)
		return len(n.queue)
	}
	n.gap.more(rec.Time)
	return len(n.queue)
}

// more counts one more event into e.
func (e *noted) more(t time.Time) {
	if e.rec.Count == 0 {
		e.rec.Count = 1
	}
	e.rec.Count++
	e.rec.Last = t
}

// foldKey is equal for events that fold into one record, and empty for those that do not.
func foldKey(r *Record) string {
	if !folded(r.Type) {
		return ""
	}
	same := Record{Event: r.Event}
	same.Client = host(r.Client)
	return string(appendRecord(nil, &same))
}

// take removes up to n notes from the front. From then on nothing folds into them.
func (n *notes) take(max int) []*noted {
	if max > len(n.queue) {
		max = len(n.queue)
	}
	out := n.queue[:max:max]
	n.queue = n.queue[max:]
	for _, e := range out {
		if n.byKey[e.key] == e {
			delete(n.byKey, e.key)
		}
		if n.gap == e {
			n.gap = nil
		}
	}
	return out
}

// putBack undoes take after a commit that failed.
func (n *notes) putBack(taken []*noted) {
	n.queue = slices.Concat(taken, n.queue)
	for _, e := range taken {
		if e.key != "" && n.byKey[e.key] == nil {
			n.byKey[e.key] = e
		}
		if e.lost && n.gap == nil {
			n.gap = e
		}
	}
}

// settled is how many of all notes taken in are in the log now.
func (n *notes) settled() int64 {
	if len(n.queue) == 0 {
		return n.in
	}
	return n.queue[0].nth - 1
}

func (n *notes) waiting() int { return len(n.queue) }
