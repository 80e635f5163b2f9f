package storage

import (
	"cmp"
	"context"
	"crypto/cipher"
	"errors"
	"io"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"cmmpd/internal/mail"
	"cmmpd/storage/search"
)

// pacer lets others go first: pause is called after a little work, and may wait. turn is called where the work can be broken off without much of
// it being lost, and is an error when somebody else is to have a turn. nil does not wait.
type pacer interface {
	pause() error
	turn() error
}

// addBatch is how many messages are read and added at a time.
const addBatch = 16

// index adds to the index those of the messages that are not in it, if they are enough, and returns when they can be found. Messages
// that cannot be read are passed over. The error says why it ended early; what had been read till then is in the index.
// Without p somebody waits for it: then all processors work, and the background leaves the account alone.
func (m *Mailbox) index(ctx context.Context, uids []uint32, p pacer) error {
	x := &m.m.account.search
	if a := m.m.store.o.Now().Unix() - x.failed.Load(); a >= 0 && a < int64(retryAfter/time.Second) {
		return errRests
	}
	if p == nil {
		if err := x.adding.Acquire(ctx, 1); err != nil {
			return err
		}
		defer x.adding.Release(1)
	}
	wanted, err := m.unindexed(uids)
	if err != nil || len(wanted) < m.m.store.o.Search.Least {
		return err
	}
	if p != nil {
		return (&adder{m: m, p: p}).addAll(ctx, wanted)
	}
	// Each file holds messages that follow each other: those who look for a message then need to look into one file.
	share := min(m.m.store.o.Search.Batch, max(addShare, len(wanted)/runtime.GOMAXPROCS(0)+1))
	var next atomic.Int64
	errs := make([]error, min(runtime.GOMAXPROCS(0), maxWorkers, (len(wanted)+share-1)/share))
	var wg sync.WaitGroup
	for i := range errs {
		wg.Go(func() {
			for errs[i] == nil {
				from := int(next.Add(1)-1) * share
				if from >= len(wanted) {
					return
				}
				errs[i] = (&adder{m: m}).addAll(ctx, wanted[from:min(from+share, len(wanted))])
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// How many processors work for one search at most, and how many messages are worth one.
const (
	maxWorkers = 4
	addShare   = 512
)

// unindexed is those of the messages that are not in the index, by body.
func (m *Mailbox) unindexed(uids []uint32) ([]uint32, error) {
	bodies := m.m.bodies(uids)
	list, where, err := m.m.account.lookUp(bodies)
	closeSearch(list)
	if err != nil {
		return nil, err
	}
	var order []int
	for i, p := range where {
		if p.file < 0 && bodies[i] != 0 {
			order = append(order, i)
		}
	}
	slices.SortStableFunc(order, func(i, j int) int { return cmp.Compare(bodies[i], bodies[j]) })
	wanted := make([]uint32, len(order))
	for k, i := range order {
		wanted[k] = uids[i]
	}
	return wanted, nil
}

// adder reads messages and makes files of the index of them. It belongs to one goroutine.
type adder struct {
	m       *Mailbox
	p       pacer
	builder *search.Builder
	batch   *Batch
	buf     []byte // for a message; used again and again
}

// addAll adds messages of the mailbox, of any number.
func (d *adder) addAll(ctx context.Context, uids []uint32) (err error) {
	d.builder = search.NewBuilder()
	defer func() { err = errors.Join(err, d.flush(context.WithoutCancel(ctx))) }()
	o := &d.m.m.store.o.Search
	for len(uids) > 0 {
		n := min(addBatch, len(uids), o.Batch-d.builder.Len())
		if err := d.add(ctx, uids[:n]); err != nil {
			return err
		}
		uids = uids[n:]
		if d.builder.Len() >= o.Batch || d.builder.Size() >= o.Memory {
			if err := d.flush(ctx); err != nil {
				return err
			}
		}
		if d.p != nil {
			if err := d.p.pause(); err != nil {
				return err
			}
			if err := d.p.turn(); err != nil && len(uids) > 0 {
				return err
			}
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	return nil
}

// retryAfter is how long indexing rests when a file could not be written.
const retryAfter = time.Minute

var errRests = errors.New("the search index could not be written a moment ago")

// errYield ends the work of the background where a search does it.
var errYield = errors.New("a search has taken over")

// add adds a few messages.
func (d *adder) add(ctx context.Context, uids []uint32) (err error) {
	if d.p != nil {
		x := &d.m.m.account.search
		if !x.adding.TryAcquire(1) {
			return errYield
		}
		defer x.adding.Release(1)
	}
	if d.batch, err = d.m.Batch(d.batch, uids, true); err != nil {
		return err
	}
	for i := range uids {
		msg, ok := d.batch.Msg(i)
		if !ok || d.builder.Has(uint64(msg.EmailID)) {
			continue
		}
		err := d.read(ctx, i, uint64(msg.EmailID))
		if err != nil && (mail.KindOf(err) == mail.Denied || mail.KindOf(err) == mail.Unavailable) {
			return err // the account was closed, or nothing can be read just now
		}
	}
	return nil
}

// read adds a message of the batch.
func (d *adder) read(ctx context.Context, i int, body uint64) error {
	sum, data, buf, err := d.batch.Whole(ctx, i, d.buf)
	if d.buf = buf; cap(buf) > 16<<20 {
		d.buf = nil
	}
	if err != nil {
		return err
	}
	return d.builder.Add(body, &search.Source{Header: sum.Header, Index: sum.Index, Read: func() ([]byte, error) { return data, nil }})
}

// flush writes what was added to a file.
func (d *adder) flush(ctx context.Context) error {
	b := d.builder
	if b.Len() == 0 {
		return nil
	}
	d.builder = search.NewBuilder()
	a := d.m.m.account
	return a.search.write(ctx, a, nil, func(w io.Writer, begin int64, aead cipher.AEAD, bound []byte) (int, error) {
		_, err := b.Write(w, begin, aead, bound)
		return b.Len(), err
	})
}

// write makes a file and puts it in the place of others.
func (x *searchIndex) write(ctx context.Context, a *account, replaces []uint32, fill func(io.Writer, int64, cipher.AEAD, []byte) (int, error)) error {
	number, err := x.nextNumber(a)
	if err != nil {
		return err
	}
	f, err := a.writeSearchFile(ctx, searchHeader{number: number, replaces: replaces}, fill)
	x.put(a, number, f)
	if err != nil && ctx.Err() == nil && !errors.Is(err, errStopped) {
		x.failed.Store(a.store.o.Now().Unix())
	}
	return err
}

// How files are merged: mergeWidth files of a size become one, until it holds so many messages that it is left alone. So an account
// has at most 3 files for each of five sizes, and one for each 32,768 messages or more.
const (
	mergeWidth = 4
	mergeLeast = 256
	mergeEnd   = search.MaxDocs / 2
)

// Files are written anew without the messages that were expunged when they are one in goneShare, or when the file is
// older than goneAge; that is found out once in goneEvery.
const (
	goneShare = 8
	goneAge   = 7 * 24 * time.Hour
	goneEvery = 24 * time.Hour
)

// tier is the size of a file, for merging.
func (f *searchFile) tier() int {
	t := 0
	for n := f.docs / mergeLeast; n >= mergeWidth; n /= mergeWidth {
		t++
	}
	return t
}

// mergeable is files that should become one, or nil.
func mergeable(files []*searchFile) []*searchFile {
	tiers := make(map[int][]*searchFile)
	for _, f := range files {
		if f.docs >= mergeEnd {
			continue
		}
		t := f.tier()
		tiers[t] = append(tiers[t], f)
		if len(tiers[t]) < mergeWidth {
			continue
		}
		docs := 0
		for _, f := range tiers[t] {
			docs += int(f.docs)
		}
		if docs <= search.MaxDocs {
			return tiers[t]
		}
	}
	return nil
}

// tidy merges files until they are few, and drops what was expunged.
func (x *searchIndex) tidy(ctx context.Context, a *account, p pacer) (err error) {
	now := a.store.o.Now()
	gone := x.gone.Swap(0)
	look := gone >= mergeLeast || now.Unix() >= x.due.Load()
	x.due.Store(now.Add(goneEvery).Unix())
	x.untidy.Store(false) // what a search adds from now on may come too late
	defer func() {
		if err != nil { // it is done another time
			x.gone.Add(gone)
			x.due.Store(0)
			x.untidy.Store(true)
		}
	}()
	var live []uint64
	for {
		all, err := x.list(a)
		if err != nil {
			return err
		}
		files := mergeable(all)
		if files == nil && !look || len(all) == 0 {
			return nil
		}
		if live == nil {
			if live, err = a.liveBodies(p); err != nil {
				return err
			}
		}
		if files == nil {
			look = false
			if err := x.dropGone(ctx, a, live, now, p); err != nil {
				return err
			}
			continue
		}
		if err := x.merge(ctx, a, files, live, p); err != nil {
			return err
		}
		if p != nil {
			if err := p.turn(); err != nil {
				return err
			}
		}
	}
}

// list is the files that there are.
func (x *searchIndex) list(a *account) ([]*searchFile, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	err := x.load(a)
	return slices.Clone(x.files), err
}

// liveBodies is the bodies of all messages of the account, ascending.
func (a *account) liveBodies(p pacer) ([]uint64, error) {
	live := []uint64{}
	err := a.store.scan(keyOf(keyEntry, a.no()), func(_, v []byte) error {
		d := decoder{b: v}
		d.uint()
		live = append(live, d.uint())
		if d.bad {
			return errRecord
		}
		if p != nil && len(live)%scanBatch == 0 {
			return p.pause()
		}
		return nil
	})
	slices.Sort(live)
	return slices.Compact(live), err
}

// dropGone writes files anew of which much was expunged, or something long ago.
func (x *searchIndex) dropGone(ctx context.Context, a *account, live []uint64, now time.Time, p pacer) error {
	all, err := x.list(a)
	if err != nil {
		return err
	}
	for _, f := range all {
		o, err := x.openOne(a, f)
		if err != nil {
			return err
		}
		if o == nil {
			continue
		}
		gone := 0
		for _, d := range o.Docs() {
			if _, ok := slices.BinarySearch(live, d.ID); !ok {
				gone++
			}
		}
		closeSearch([]*openedSearch{o})
		switch {
		case gone == int(f.docs):
			x.drop(a, f, nil)
		case gone > 0 && (gone*goneShare >= int(f.docs) || f.age(now) >= goneAge):
			if err := x.merge(ctx, a, []*searchFile{f}, live, p); err != nil {
				return err
			}
		}
	}
	return nil
}

// openOne opens a file; nil if it is damaged, and then it leaves the index.
func (x *searchIndex) openOne(a *account, f *searchFile) (*openedSearch, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	o, err := a.openSearchFile(f)
	if err != nil && mail.KindOf(err) != mail.Denied && mail.KindOf(damaged(err)) != mail.Unavailable {
		x.remove(a, f.number, err)
		return nil, nil
	}
	return o, err
}

// merge writes one file in place of others, without the messages that are not live.
func (x *searchIndex) merge(ctx context.Context, a *account, files []*searchFile, live []uint64, p pacer) error {
	var list []*openedSearch
	defer func() { closeSearch(list) }()
	var segments []*search.Segment
	var replaces []uint32
	for _, f := range files {
		o, err := x.openOne(a, f)
		if err != nil {
			return err
		}
		if o == nil {
			return nil // the choice is made again without it
		}
		list, segments, replaces = append(list, o), append(segments, o.Segment), append(replaces, f.number)
	}
	keep := func(id uint64) bool {
		_, ok := slices.BinarySearch(live, id)
		return ok || id > live[len(live)-1] // newer than the look
	}
	if len(live) == 0 {
		keep = func(uint64) bool { return false }
	}
	pause := func() error {
		if p == nil {
			return ctx.Err()
		}
		return errors.Join(p.pause(), ctx.Err())
	}
	err := x.write(ctx, a, replaces, func(w io.Writer, begin int64, aead cipher.AEAD, bound []byte) (int, error) {
		_, n, err := search.Merge(w, begin, aead, bound, segments, keep, pause)
		return n, err
	})
	if err != nil && search.Damaged(err) {
		for _, o := range list {
			if o.Verify() != nil {
				x.drop(a, o.file, err)
			}
		}
		return nil
	}
	return err
}
