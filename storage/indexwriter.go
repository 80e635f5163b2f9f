package storage

import (
	"context"
	"errors"
	"sync"
	"syscall"
	"time"

	"cmmpd/internal/mail"
)

// Limits on what is visible but not yet in the index file. With less it is written after a while, with more at once,
// and with still more commits wait.
const (
	flushAfter = 2 * time.Second
	flushBytes = 16 << 20
	maxPending = 96 << 20

	releaseEvery = time.Minute // memory that the file's pages take
)

// indexWriter writes the index behind the commits.
type indexWriter struct {
	store *Store
	work  chan struct{}   // something is to be written
	full  chan struct{}   // it should be written at once
	now   chan chan error // likewise, and somebody waits for it
	quit  chan struct{}
	ended chan struct{}

	mu      sync.Mutex // guards what follows
	err     error      // of the last try
	drained chan struct{}
}

func (w *indexWriter) start(s *Store) {
	w.store = s
	w.work, w.full = make(chan struct{}, 1), make(chan struct{}, 1)
	w.now = make(chan chan error)
	w.quit, w.ended = make(chan struct{}), make(chan struct{})
	w.drained = make(chan struct{})
	go w.loop()
}

func (w *indexWriter) stop() {
	close(w.quit)
	<-w.ended
}

// dirty says that something is to be written.
func (w *indexWriter) dirty() {
	signal := w.work
	if w.store.kv.Pending() > flushBytes {
		signal = w.full
	}
	select {
	case signal <- struct{}{}:
	default:
	}
}

// Release gives back memory that the pages of the index take. It happens by itself, too, every minute.
func (s *Store) Release() {
	if err := s.index.Release(); err != nil {
		s.o.Log.Debug("memory of the index is not given back", "error", err)
	}
}

func (w *indexWriter) loop() {
	defer close(w.ended)
	timer := time.NewTimer(flushAfter)
	timer.Stop()
	release := time.NewTicker(releaseEvery)
	defer release.Stop()
	for {
		var reply chan error
		select {
		case <-w.quit:
			return
		case <-release.C:
			w.store.Release()
			continue
		case <-w.full:
		case reply = <-w.now:
		case <-w.work:
			timer.Reset(flushAfter)
			select {
			case <-w.quit:
				return
			case <-w.full:
			case reply = <-w.now:
			case <-timer.C:
			}
			timer.Stop()
		}
		err := w.store.Ready() // after a failure what is in the file is not known: it is not written again
		if err == nil {
			err = w.store.kv.Flush(w.store.flushLog)
		}
		if reply != nil && noSpace(err) {
			reply <- mail.E(mail.Full, "no space left for mail", err)
		} else if reply != nil {
			reply <- err
		}
		if err != nil && !noSpace(err) {
			w.store.stop(err)
			err = nil
		} else if err != nil {
			w.store.o.Log.Warn("no space for the index; it stays in memory", "error", err)
			w.dirty()
		}
		w.mu.Lock()
		w.err = err
		close(w.drained)
		w.drained = make(chan struct{})
		w.mu.Unlock()
		if err != nil { // wait before the next try
			timer.Reset(flushAfter)
			select {
			case <-w.quit:
				return
			case <-timer.C:
			}
		}
	}
}

// flush returns when all that is visible now is durable in the index.
func (w *indexWriter) flush(ctx context.Context) error {
	reply := make(chan error, 1)
	select {
	case w.now <- reply:
		return <-reply
	case <-w.ended:
		return mail.E(mail.Unavailable, "the mail store is closing", nil)
	case <-ctx.Done():
		return ctx.Err()
	}
}

// noSpace says whether the error is for want of space only.
func noSpace(err error) bool { return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) }

// admit waits while too much is in memory only.
func (w *indexWriter) admit(ctx context.Context) error {
	for w.store.kv.Pending() > maxPending {
		w.mu.Lock()
		drained, err := w.drained, w.err
		w.mu.Unlock()
		if err != nil {
			return mail.E(mail.Full, "no space left for mail", err)
		}
		if err := w.store.Ready(); err != nil {
			return err
		}
		w.dirty() // nobody may have said so since the store was opened
		select {
		case <-drained:
		case <-w.ended:
			return mail.E(mail.Unavailable, "the mail store is closing", nil)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}
