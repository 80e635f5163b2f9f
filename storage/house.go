package storage

import (
	"context"
	"sync/atomic"
	"time"

	"cmmpd/internal/mail"
)

// housekeeper does in the background what nobody waits for: one thing at a time, in small acts like all others, each followed by a
// pause that keeps its reading and writing under a rate. Whatever it does can be stopped at any point.
type housekeeper struct {
	store *Store
	turn  chan struct{} // holds a token: who has it does the one thing
	quit  context.CancelFunc
	ctx   context.Context // ends when the store closes
	ended chan struct{}
	asked chan struct{} // a round is wanted before its time

	compactor compactor // belongs to who has the turn, as what follows
	trimmed   time.Time // when the index was trimmed last
	opened    time.Time // when the store was opened
	erased    time.Time // when the key vault was looked through last

	found spoilt

	freed, segments atomic.Int64
	damaged         atomic.Int64
	scrubbed        atomic.Int64
	spoilt          atomic.Int64
	waiting         atomic.Int64
}

// HouseStats is what housekeeping has done since the store was opened.
type HouseStats struct {
	Freed    int64 // octets of files that compaction removed
	Segments int64 // how many those were
	Damaged  int64 // segments that compaction leaves alone, because something in them is damaged
	Scrubbed int64 // when the store was last read through, in Unix seconds; 0: never
	Spoilt   int64 // messages that were found damaged then, or since
	Waiting  int64 // accounts in which what was disposed of waits for its keys to be erased, because theirs cannot be had
	Low      bool  // mail is refused for want of space
}

// Housekeeping is what was done so far.
func (s *Store) Housekeeping() HouseStats {
	h := &s.house
	return HouseStats{Freed: h.freed.Load(), Segments: h.segments.Load(), Damaged: h.damaged.Load(), Scrubbed: h.scrubbed.Load(), Spoilt: h.spoilt.Load(), Waiting: h.waiting.Load(), Low: s.isLow()}
}

func (h *housekeeper) start(s *Store) {
	h.store, h.turn, h.ended, h.asked = s, make(chan struct{}, 1), make(chan struct{}), make(chan struct{}, 1)
	h.ctx, h.quit = context.WithCancel(context.Background())
	h.turn <- struct{}{}
	h.opened = time.Now()
	if s.o.HouseEvery < 0 {
		close(h.ended)
		return
	}
	go h.loop()
}

// stop ends housekeeping, started or not.
func (h *housekeeper) stop() {
	if h.quit != nil {
		h.quit()
		<-h.ended
		<-h.turn // it is not given back
	}
}

func (h *housekeeper) loop() {
	defer close(h.ended)
	timer := time.NewTimer(min(h.store.o.HouseEvery, time.Minute))
	defer timer.Stop()
	var last time.Time
	for {
		select {
		case <-h.ctx.Done():
			return
		case <-h.asked:
			if time.Since(last) < time.Minute {
				continue
			}
		case <-timer.C:
		}
		h.round()
		last = time.Now()
		timer.Reset(h.store.o.HouseEvery)
	}
}

// poke asks for a round soon. It does not wait.
func (h *housekeeper) poke() {
	select {
	case h.asked <- struct{}{}:
	default:
	}
}

// round does what there is to do.
func (h *housekeeper) round() {
	for _, chore := range []struct {
		name string
		do   func(context.Context) error
	}{
		{"taking back of copies that were interrupted", h.store.takeBackAll},
		{"removal of deleted messages", h.store.expireSome},
		{"compaction", h.store.compactSome},
		{"trimming", h.store.trim},
		{"erasing of keys", h.store.eraseEpochs},
	} {
		if h.report(chore.name, h.alone(h.ctx, chore.do)) {
			return
		}
	}
	for begin := time.Now(); time.Since(begin) < h.store.o.HouseEvery; { // then it is time for the other chores
		more := false
		err := h.alone(h.ctx, func(ctx context.Context) (err error) {
			more, err = h.store.scrubSome(ctx)
			return err
		})
		if h.report("scrub", err) || err != nil || !more {
			return
		}
	}
}

// report notes what kept a chore from being done, and says whether the store is closing.
func (h *housekeeper) report(chore string, err error) (closing bool) {
	switch {
	case h.ctx.Err() != nil:
		return true
	case mail.KindOf(err) == mail.Full:
		h.store.o.Log.Info("housekeeping waits for space", "for", chore, "error", err)
	case err != nil:
		h.store.o.Log.Warn("housekeeping failed and will be tried again", "what", chore, "error", err)
	}
	return false
}

// alone runs f when nothing else of housekeeping runs. f's context ends with ctx, and when the store closes.
func (h *housekeeper) alone(ctx context.Context, f func(context.Context) error) error {
	select {
	case <-h.turn:
	case <-ctx.Done():
		return ctx.Err()
	case <-h.ctx.Done():
		return mail.E(mail.Unavailable, "the mail store is closing", nil)
	}
	defer func() { h.turn <- struct{}{} }()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(h.ctx, cancel)()
	return f(ctx)
}

// pace keeps what is read and written under a rate.
type pace struct {
	rate int64 // octets a second; negative: no limit
	debt int64
}

// spend pauses for as long as n octets may take, together with what was spent without a pause.
func (p *pace) spend(ctx context.Context, n int64) error {
	if p.rate <= 0 {
		return ctx.Err()
	}
	p.debt += n
	d := time.Duration(float64(p.debt) / float64(p.rate) * float64(time.Second))
	if d < 10*time.Millisecond {
		return ctx.Err()
	}
	p.debt = 0
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
