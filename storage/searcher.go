package storage

import (
	"context"
	"errors"
	"sync"
	"time"

	"cmmpd/internal/mail"
)

// searcher is the one goroutine that indexes in the background: mailboxes that somebody has open, when enough of their
// messages are not indexed. It lets everybody else go first.
type searcher struct {
	store *Store
	wake  chan struct{}
	quit  chan struct{}
	ended chan struct{}

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
	w.store = s
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

// next takes the task that is due; wait is how long until there is one, 0 if there is none.
func (w *searcher) next() (t searchTask, wait time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.queue) == 0 {
		return searchTask{}, 0
	}
	if wait = time.Until(w.queue[0].due); wait > 0 {
		return searchTask{}, wait
	}
	t = w.queue[0]
	w.queue = w.queue[1:]
	return t, 0
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
	case errors.Is(err, errYield): // what it made is tidied later
		t.due = time.Now().Add(5 * s.o.Search.Rest)
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
	p := &searchPace{store: w.store, quit: w.quit, begun: time.Now()}
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

// searchPace is the pacer of the background.
type searchPace struct {
	store *Store
	quit  chan struct{}
	begun time.Time // when the work at hand began
	seen  uint64
}

const (
	paceWork = 5 * time.Millisecond // so long it works without a look at others
	paceBusy = 9                    // while others work it rests so many times as long as it worked
)

func (p *searchPace) pause() error {
	worked := time.Since(p.begun)
	if worked < paceWork {
		return nil
	}
	rest := worked / 8
	if seen := p.store.shown.Load() + p.store.reads.Load(); seen != p.seen {
		p.seen, rest = seen, min(paceBusy*worked, time.Second)
	}
	timer := time.NewTimer(rest)
	defer timer.Stop()
	select {
	case <-p.quit:
		return errStopped
	case <-timer.C:
	}
	p.begun = time.Now()
	return nil
}
