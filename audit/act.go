package audit

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"

	"cmmpd/internal/mail"
)

// okOutcome is the Outcome of what went well.
const okOutcome = "ok"

// Act is an act whose beginning is on record.
type Act struct {
	log   *Log
	event Event
	seq   int64

	mu    sync.Mutex // guards the rest
	more  map[string]string
	ended bool
}

// Begin records that an act is about to be done. Only when it returns without error may
// the act start. Kind Full or Unavailable if it cannot be recorded now (if ctx ended, it
// may have been recorded all the same), Invalid if the type is not one of this package.
func (l *Log) Begin(ctx context.Context, e Event) (*Act, error) {
	e.Outcome = ""
	if err := l.mayAct(); err != nil {
		return nil, err
	}
	seq, err := l.write(ctx, Record{Event: e, Phase: phaseBegin})
	if err != nil {
		return nil, err
	}
	e.Detail = nil
	return &Act{log: l, event: e, seq: seq}, nil
}

// Detail adds to what End will record, for instance counts.
func (a *Act) Detail(name, value string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.more == nil {
		a.more = make(map[string]string)
	}
	a.more[name] = value
}

// Seq is the number of the record of the act's beginning.
func (a *Act) Seq() int64 { return a.seq }

// End records the outcome; nil means that the act is done. Only when it returns without
// error may the outcome be reported. Of an outcome its kind and its public sentence are
// recorded. End may be tried again when it failed.
func (a *Act) End(ctx context.Context, outcome error) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.ended {
		return mail.E(mail.Internal, "", fmt.Errorf("act %d has ended already", a.seq))
	}
	e := a.event
	e.Outcome, e.Detail = Outcome(outcome), maps.Clone(a.more)
	if _, err := a.log.write(ctx, Record{Event: e, Phase: phaseEnd, Act: a.seq}); err != nil {
		return err
	}
	a.ended = true
	return nil
}

// Record records one complete event durably, for instance that something was viewed: it
// is Begin and End in one. The errors are those of Begin.
func (l *Log) Record(ctx context.Context, e Event) error {
	if err := l.mayAct(); err != nil {
		return err
	}
	_, err := l.write(ctx, Record{Event: e})
	return err
}

// Outcome is how an error stands in a record: "ok" for nil, else its kind and its public
// sentence. Causes stay in the operator's log.
func Outcome(err error) string {
	if err == nil {
		return okOutcome
	}
	s := mail.KindOf(err).String()
	if public := mail.PublicOf(err); public != "" {
		s += ": " + public
	}
	return s
}

// mayAct is nil unless acts are refused for want of witnesses.
func (l *Log) mayAct() error {
	l.mu.Lock()
	refuse := l.refuse
	l.mu.Unlock()
	if refuse == nil {
		return nil
	}
	return refuse()
}

// write hands a record to the writer and waits until it is durable.
func (l *Log) write(ctx context.Context, rec Record) (int64, error) {
	if ClassOf(rec.Type) == Unknown {
		return 0, mail.E(mail.Invalid, "", fmt.Errorf("unknown audit event type %q", rec.Type))
	}
	if err := ctx.Err(); err != nil {
		return 0, notRecorded(err)
	}
	rec.Event, rec.Time = rec.Event.bounded(), stamp(l.opts.Now())
	w := &waiter{rec: rec, done: make(chan error, 1)}
	l.mu.Lock()
	if err := l.refusal(); err != nil {
		l.mu.Unlock()
		return 0, err
	}
	l.acts = append(l.acts, w)
	l.signal()
	l.mu.Unlock()
	select {
	case err := <-w.done:
		return w.rec.Seq, err
	case <-ctx.Done():
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.acts = slices.DeleteFunc(l.acts, func(other *waiter) bool { return other == w })
	return 0, notRecorded(ctx.Err())
}
