package storage

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"cmmpd/internal/mail"
)

// searcher is the one goroutine that indexes in the background: mailboxes that somebody has open, when enough of their
// messages are not indexed. It lets everybody else go first, and serves the mailboxes in turns, so that a large one does not hold up the others.
type searcher struct {
	store *Store
	wake  chan struct{}
	quit  chan struct{}
	ended chan struct{}

	most time.Duration // a turn when others wait: searchTurn

	mu    sync.Mutex // guards queue
	queue []searchTask
}

// searchTask is a mailbox to be looked at, not before a time.
type searchTask struct {
	mailbox *mailbox
	account *account
	due     time.Time
}

func (w *searcher) start(s *Store) {
	w.store, w.most = s, searchTurn
	w.wake, w.quit, w.ended = make(chan struct{}, 1), make(chan struct{}), make(chan struct{})
	go w.loop()
}

func (w *searcher) stop() {
	close(w.quit)
	<-w.ended
}

// look has a mailbox looked at that was opened, or has new messages. m.mu is held.
func (w *searcher) look(m *mailbox, a *account) {
	if w.store.o.Search.Off || m.searching {
		return
	}
	least := w.store.o.Search.Least
	if (len(m.msgs) < least || m.c.uidNext-m.searched < uint32(least)) && !a.search.isDue(w.store.o.Now) {
		return
	}
	m.searching = true
	w.put(searchTask{m, a, time.Now().Add(w.store.o.Search.Rest)})
}

func (w *searcher) put(t searchTask) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.queue = append(w.queue, t)
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// next takes the task that has been due for the longest time; wait is how long until there is one, 0 if there is none.
func (w *searcher) next() (t searchTask, wait time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.queue) == 0 {
		return searchTask{}, 0
	}
	first := 0
	for i := range w.queue {
		if w.queue[i].due.Before(w.queue[first].due) {
			first = i
		}
	}
	if wait = time.Until(w.queue[first].due); wait > 0 {
		return searchTask{}, wait
	}
	t = w.queue[first]
	w.queue = slices.Delete(w.queue, first, first+1)
	return t, 0
}

// others says whether a task is due.
func (w *searcher) others() bool {
	now := time.Now()
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.ContainsFunc(w.queue, func(t searchTask) bool { return !t.due.After(now) })
}

func (w *searcher) loop() {
	defer close(w.ended)
	timer := time.NewTimer(time.Hour)
	for {
		select {
		case <-w.quit: // whatever is due
			return
		default:
		}
		t, wait := w.next()
		if t.mailbox != nil {
			w.serve(t)
			continue
		}
		if timer.Stop(); wait > 0 {
			timer.Reset(wait)
		}
		select {
		case <-w.quit:
			return
		case <-w.wake:
		case <-timer.C:
		}
	}
}

// serve brings the index of a mailbox up to date, if somebody has it open still.
func (w *searcher) serve(t searchTask) {
	s, m, a := w.store, t.mailbox, t.account
	m.mu.Lock()
	m.searching = false
	m.mu.Unlock()
	known, err := s.acquire(context.Background(), a.id)
	if err != nil {
		return
	}
	defer s.release(known)
	held := s.cached(known, m.key)
	if held == nil {
		return // nobody needs it
	}
	defer s.drop(held)
	if known != a || held != m {
		return // it has been opened anew, and will be looked at anew
	}
	err = w.bringUp(m, a)
	switch {
	case errors.Is(err, errYield), errors.Is(err, errTurn): // what it made is tidied later
		t.due = time.Now()
		if errors.Is(err, errYield) {
			t.due = t.due.Add(5 * s.o.Search.Rest)
		}
		m.mu.Lock()
		if !m.searching {
			m.searching = true
			w.put(t)
		}
		m.mu.Unlock()
	case err == nil, errors.Is(err, errStopped), errors.Is(err, errRests), mail.KindOf(err) == mail.Denied: // the account was closed
	default:
		s.o.Log.Warn("the search index is not up to date", "error", err)
	}
}

// bringUp adds the messages of a mailbox to the index, and tidies it.
func (w *searcher) bringUp(m *mailbox, a *account) error {
	x := &a.search
	now := time.Now()
	p := &searchPace{searcher: w, begun: now, end: now.Add(w.most)}
	h := &Mailbox{m: m, quiet: true}
	uids, _, st := h.UIDs()
	err := h.index(context.Background(), uids, p)
	if err == nil {
		m.mu.Lock()
		m.searched = st.UIDNext
		m.mu.Unlock()
		err = x.tidy(context.Background(), a, p)
	}
	return err
}

var errStopped = errors.New("the mail store is closing")

// errTurn ends the work at one mailbox where another has waited long enough.
var errTurn = errors.New("it is another mailbox's turn")

// searchTurn is how long the searcher works at one mailbox when others are due.
const searchTurn = 2 * time.Second

// searchPace is the pacer of the background.
type searchPace struct {
	searcher *searcher
	begun    time.Time // when the work at hand began
	end      time.Time // of the turn
	seen     uint64
}

func (p *searchPace) turn() error {
	if time.Now().Before(p.end) || !p.searcher.others() {
		return nil
	}
	return errTurn
}

const (
	paceWork = 5 * time.Millisecond // so long it works without a look at others
	paceBusy = 9                    // while others work it rests so many times as long as it worked
)

func (p *searchPace) pause() error {
	s, worked := p.searcher.store, time.Since(p.begun)
	if worked < paceWork {
		return nil
	}
	rest := worked / 8
	if seen := s.shown.Load() + s.reads.Load(); seen != p.seen {
		p.seen, rest = seen, min(paceBusy*worked, time.Second)
	}
	timer := time.NewTimer(rest)
	defer timer.Stop()
	select {
	case <-p.searcher.quit:
		return errStopped
	case <-timer.C:
	}
	p.begun = time.Now()
	return nil
}
