package imap

import (
	"errors"

	"cmmpd/imap/wire"
	"cmmpd/storage"
)

// aheadBatch is how many messages are looked up at a time ahead of their turn.
const aheadBatch = 256

// many says whether it is worth to work ahead.
func many(rs []wire.Range) bool {
	n := uint32(0)
	for _, r := range rs {
		n += r.Last - r.First + 1
	}
	return n > 2*fetchBatch
}

// looked is a batch that was looked up ahead: the messages first to last of the view.
type looked struct {
	batch       *storage.Batch
	first, last uint32
	err         error
}

// ahead is each, with another goroutine at work on the next batch while one is being sent. There are two batches, so it is never further
// ahead than the client reads.
func (f *fetch) ahead(rs []wire.Range) error {
	free, next, done := make(chan *storage.Batch, 2), make(chan looked), make(chan struct{})
	free <- nil
	free <- nil
	uids := f.s.view.uids
	mbox := f.s.view.mbox
	go func() {
		defer close(next)
		defer f.s.srv.recover(f.s.c)
		for _, r := range rs {
			for first := r.First; first <= r.Last; first += aheadBatch {
				l := looked{first: first, last: min(r.Last, first+aheadBatch-1)}
				select {
				case old := <-free:
					if l.batch, l.err = mbox.Batch(old, uids[l.first:l.last+1], true); l.err == nil {
						l.batch.Load()
					}
				case <-done:
					return
				}
				select {
				case next <- l:
				case <-done:
					return
				}
			}
		}
	}()
	defer func() { // the goroutine has ended when this function returns
		close(done)
		for range next {
		}
	}()
	var last uint32
	for l := range next {
		if l.err != nil {
			return l.err
		}
		f.batch = l.batch
		if err := f.send(l.first, l.last); err != nil {
			return err
		}
		free <- l.batch
		last = l.last
	}
	if last != rs[len(rs)-1].Last {
		return errors.New("imap: the messages were not all looked up")
	}
	return nil
}
