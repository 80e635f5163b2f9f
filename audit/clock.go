package audit

import "time"

// BackTolerance is how far times may step back before it is remarkable: notes wait for
// company, and clocks are corrected by little.
const BackTolerance = 5 * time.Second

// clock watches the clock of the day. It is used by the writer alone.
type clock struct {
	wall  time.Time // the latest that was seen
	since time.Time // the reading before, with its monotonic part
}

// look takes a reading. If the clock was set back since the one before, it returns the
// event that says so: it lies before the latest time seen, or has gone on less than the
// monotonic clock.
func (c *clock) look(now time.Time) (Event, bool) {
	wall := stamp(now)
	last, since := c.wall, c.since
	c.since = now
	if wall.After(c.wall) {
		c.wall = wall
	}
	if last.IsZero() {
		return Event{}, false
	}
	from := last
	if !since.IsZero() {
		if due := stamp(since).Add(now.Sub(since)); due.After(from) {
			from = due
		}
	}
	by := from.Sub(wall)
	if by <= BackTolerance {
		return Event{}, false
	}
	c.wall = wall
	return Event{Type: ClockBack, Outcome: okOutcome, Detail: map[string]string{
		"from": from.Format(timeLayout), "to": wall.Format(timeLayout), "by": by.String(),
	}}, true
}
