package audit

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"cmmpd/internal/mail"
)

// Witnessing says how a Log is witnessed.
type Witnessing struct {
	Peers   []WitnessPeer
	Require int           // so many of them must have cosigned a checkpoint for it to count
	Within  time.Duration // so soon after it was made
	Stop    bool          // otherwise acts that must be recorded are refused until they have
	Pause   time.Duration // between two rounds at least; 0: 200 ms
	Retry   time.Duration // after a round in which somebody failed; 0: 5 s
	// Fatal is called once, if a witness has proof that the log was cut or that there are two. Nothing
	// is recorded any more then.
	Fatal func(error)
}

// WitnessState says how far a log is witnessed.
type WitnessState struct {
	Name     string    // of the witness; empty: of all, by the rule
	Cosigned int64     // records of the last checkpoint that was cosigned; -1: none since the start
	Since    time.Time // since when later records wait; zero: there are none
	Late     bool      // they wait longer than they may
	Err      error     // why it did not cosign when it was asked last
}

// Witnesses asks the witnesses of a Log for their cosignatures, as long as it is not closed.
type Witnesses struct {
	log   *Log
	o     Witnessing
	peers []*peer
	end   context.CancelFunc
	done  chan struct{}

	mu     sync.Mutex // guards the rest
	states []WitnessState
	all    WitnessState
	fatal  error
}

// Witness begins to have the log witnessed. The keys of the witnesses go on record first,
// so that whoever checks the log later can check every line of theirs.
func (l *Log) Witness(o Witnessing) *Witnesses {
	if o.Pause <= 0 {
		o.Pause = 200 * time.Millisecond
	}
	if o.Retry <= 0 {
		o.Retry = 5 * time.Second
	}
	ctx, end := context.WithCancel(context.Background())
	w := &Witnesses{log: l, o: o, end: end, done: make(chan struct{})}
	w.all = WitnessState{Cosigned: -1, Since: l.opts.Now()}
	for _, p := range o.Peers {
		w.peers = append(w.peers, &peer{WitnessPeer: p, log: l, has: -1})
		w.states = append(w.states, WitnessState{Name: p.Key.Name(), Cosigned: -1, Since: w.all.Since})
	}
	l.mu.Lock()
	l.grown, l.refuse = make(chan struct{}, 1), w.refusal
	l.mu.Unlock()
	go w.run(ctx)
	return w
}

// Close ends the asking. It must be called before the log is closed.
func (w *Witnesses) Close() {
	w.end()
	<-w.done
}

// run makes one round after the other.
func (w *Witnesses) run(ctx context.Context) {
	defer close(w.done)
	var asking sync.WaitGroup
	defer asking.Wait()
	for !w.record(ctx) {
		if !pause(ctx, w.o.Retry, nil) {
			return
		}
	}
	for {
		asked, good := w.round(ctx, &asking)
		if !pause(ctx, w.o.Pause, nil) {
			return
		}
		wait := time.Hour
		if !good {
			wait = w.o.Retry
		}
		if d := w.untilLate(); d > 0 {
			wait = min(wait, d)
		}
		if w.log.Size() == asked && !pause(ctx, wait, w.log.grown) {
			return
		}
		w.warn()
	}
}

// pause waits for d or for wake; it is false if ctx ended.
func pause(ctx context.Context, d time.Duration, wake <-chan struct{}) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-wake:
	case <-ctx.Done():
	}
	return ctx.Err() == nil
}

// record puts the keys on record.
func (w *Witnesses) record(ctx context.Context) bool {
	for _, p := range w.peers {
		e := Event{Type: AuditWitness, Subject: p.Key.Name(), Outcome: okOutcome, Detail: map[string]string{detailKey: p.Key.String(), "url": p.URL.String()}}
		if _, err := w.log.write(ctx, Record{Event: e}); err != nil {
			w.log.opts.Log.Error("audit: a witness could not be put on record, so none is asked", "witness", p.Key.Name(), "error", err)
			return false
		}
	}
	return true
}

// gathering is one checkpoint and the cosignatures that came for it.
type gathering struct {
	snapshot
	cosigned *cosigned
	began    time.Time
}

// enough is how long a round waits for the others once those required have cosigned.
const enough = time.Second

// round asks every witness that is not busy for its cosignature of the checkpoint that is
// the newest now, all at once. It ends when all have answered, or soon after enough have.
// good says that all did cosign.
func (w *Witnesses) round(ctx context.Context, asking *sync.WaitGroup) (size int64, good bool) {
	l := w.log
	l.mu.Lock()
	g := &gathering{snapshot: snapshot{l.last, l.tail}, began: l.opts.Now()}
	l.mu.Unlock()
	size = g.tail.size
	c, err := parseCheckpoint(g.signed, l.store.key)
	if err != nil {
		return size, false // cannot be: we have written it
	}
	g.cosigned = &cosigned{checkpoint: c, signed: g.signed}
	w.begin(g)
	answers := make(chan bool, len(w.peers))
	for i, p := range w.peers {
		if !p.busy.CompareAndSwap(false, true) {
			answers <- false
			continue
		}
		asking.Go(func() {
			defer p.busy.Store(false)
			c, err := p.ask(ctx, g.snapshot)
			if ctx.Err() == nil {
				w.take(i, g, c, err)
			}
			answers <- err == nil
		})
	}
	good = true
	var late <-chan time.Time
	for n := range w.peers {
		select {
		case ok := <-answers:
			good = good && ok
		case <-late:
			return size, false
		}
		if late == nil && n+1 >= w.o.Require && w.State().Cosigned >= size {
			t := time.NewTimer(enough)
			defer t.Stop()
			late = t.C
		}
	}
	return size, good
}

// begin notes that the records of g wait.
func (w *Witnesses) begin(g *gathering) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, s := range append([]*WitnessState{&w.all}, pointers(w.states)...) {
		if s.Since.IsZero() && s.Cosigned < g.tail.size {
			s.Since = g.began
		}
	}
}

func pointers(list []WitnessState) []*WitnessState {
	out := make([]*WitnessState, len(list))
	for i := range list {
		out[i] = &list[i]
	}
	return out
}

// take takes the answer of witness i.
func (w *Witnesses) take(i int, g *gathering, c *cosignature, err error) {
	size := w.log.Size()
	w.mu.Lock()
	defer w.mu.Unlock()
	s := &w.states[i]
	if err != nil {
		if s.Err == nil || s.Err.Error() != err.Error() {
			w.log.opts.Log.Warn("audit: a witness does not cosign", "witness", s.Name, "records", g.tail.size, "error", err)
		}
		s.Err = err
		if errors.Is(err, errTwoLogs) {
			w.stop(fmt.Errorf("the witness %s: %w", s.Name, err))
		}
		return
	}
	s.reached(g, size)
	g.cosigned.lines = append(g.cosigned.lines, c)
	slices.SortFunc(g.cosigned.lines, (*cosignature).compare)
	if len(g.cosigned.lines) < w.o.Require || g.tail.size < w.all.Cosigned {
		return
	}
	if w.all.Late {
		w.log.opts.Log.Info("audit: the log is witnessed again", "records", g.tail.size)
	}
	w.all.reached(g, size)
	whole := *g.cosigned
	whole.lines = slices.Clone(whole.lines)
	w.log.mu.Lock()
	w.log.cosigned = &whole
	w.log.signal()
	w.log.mu.Unlock()
}

// reached notes that g was cosigned while the log had size records.
func (s *WitnessState) reached(g *gathering, size int64) {
	s.Cosigned, s.Since, s.Late, s.Err = g.tail.size, time.Time{}, false, nil
	if size > g.tail.size {
		s.Since = g.began // what came since is no older
	}
}

// stop ends the recording. w.mu is held.
func (w *Witnesses) stop(err error) {
	if w.fatal != nil {
		return
	}
	w.fatal = err
	l := w.log
	l.opts.Log.Error("audit: NOTHING IS RECORDED ANY MORE", "error", err)
	l.mu.Lock()
	l.failed = mail.E(mail.Unavailable, publicRefusal, err)
	l.signal()
	l.mu.Unlock()
	if w.o.Fatal != nil {
		go w.o.Fatal(fmt.Errorf("audit log: %w", err))
	}
}

// ErrUnwitnessed is in the chain of the error of an act that is refused for want of witnesses.
var ErrUnwitnessed = errors.New("the log is not witnessed")

// refusal is the error of an act as long as too few witnesses have cosigned for too long.
func (w *Witnesses) refusal() error {
	s := w.State()
	if !w.o.Stop || !s.Late {
		return nil
	}
	return mail.E(mail.Unavailable, "the witnesses of the audit log do not answer; administrative acts wait for them",
		fmt.Errorf("%w: %d of %d must cosign within %v; what came since %s is not cosigned", ErrUnwitnessed, w.o.Require, len(w.peers), w.o.Within, s.Since.Format(time.RFC3339)))
}

// State says how far the log is witnessed by the rule.
func (w *Witnesses) State() WitnessState {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.judged(w.all)
}

// States says how far each witness has come.
func (w *Witnesses) States() []WitnessState {
	w.mu.Lock()
	defer w.mu.Unlock()
	out := slices.Clone(w.states)
	for i := range out {
		out[i] = w.judged(out[i])
	}
	return out
}

// judged says of s whether it is late.
func (w *Witnesses) judged(s WitnessState) WitnessState {
	s.Late = !s.Since.IsZero() && w.log.opts.Now().Sub(s.Since) > w.o.Within
	return s
}

// untilLate is how long it takes until the log is late if nothing comes; 0: it is, or nothing waits.
func (w *Witnesses) untilLate() time.Duration {
	s := w.State()
	if s.Since.IsZero() || s.Late {
		return 0
	}
	return w.o.Within - w.log.opts.Now().Sub(s.Since) + time.Millisecond
}

// warn says once that the log is late.
func (w *Witnesses) warn() {
	s := w.State()
	w.mu.Lock()
	defer w.mu.Unlock()
	if s.Late && !w.all.Late {
		w.all.Late = true
		w.log.opts.Log.Warn("audit: too few witnesses have cosigned in time", "required", w.o.Require, "within", w.o.Within, "since", s.Since, "refusing", w.o.Stop)
	}
}
