package imap

import (
	"cmmpd/imap/wire"
	"cmmpd/internal/mail"
	"cmmpd/storage"
	"cmmpd/storage/search"
)

// The plan of a search: first the keys that need nothing of the messages; of those that are left the search index says what it
// knows; and only where that leaves a doubt is a message looked into.

// planBatch is how many messages are looked up at a time when nothing of them is opened.
const planBatch = 1024

// run calls hit for the messages of the view that match, and failed for those that cannot be read, in ascending order.
func (q *query) run(hit func(i int, m *storage.Msg), failed func(uid uint32, err error)) error {
	left, err := q.sift()
	if err != nil {
		return err
	}
	found := &storage.Found{}
	if len(q.text) > 0 {
		uids := make([]uint32, len(left))
		for k, i := range left {
			uids[k] = q.v.uids[i]
		}
		if found, err = q.v.mbox.Find(q.ctx, uids, q.text, q.body); err != nil {
			return err
		}
	}
	q.m.found = found
	open := fetchBatch
	if q.root.cost == costIndex {
		open = planBatch
	}
	var batch *storage.Batch
	var uids []uint32
	var places []int
	for k := 0; k < len(left); {
		uids, places = uids[:0], places[:0]
		doubt := false
		for ; k < len(left) && len(uids) < open; k++ {
			q.note(k)
			v := q.peek(&q.root, k, false)
			if v == search.No {
				continue
			}
			doubt = doubt || v == search.Perhaps
			uids, places = append(uids, q.v.uids[left[k]]), append(places, k)
		}
		if batch, err = q.v.mbox.Batch(batch, uids, doubt && q.root.cost > costIndex); err != nil {
			return err
		}
		for n, k := range places {
			ok, err := q.match(batch, n, left[k], k)
			if e := q.ctx.Err(); e != nil {
				return e
			}
			switch {
			case err != nil && mail.KindOf(err) == mail.NotFound:
			case err != nil:
				failed(uids[n], err)
			case ok:
				hit(left[k], &q.m.Msg)
			}
		}
	}
	return nil
}

// sift is the places in the view of the messages that the keys which need nothing of the message let through.
func (q *query) sift() ([]int, error) {
	uids := q.v.uids
	left := make([]int, 0, len(uids))
	if !q.mix || q.root.cost == costIndex {
		for i := range uids {
			left = append(left, i)
		}
		return left, nil
	}
	var batch *storage.Batch
	for first := 0; first < len(uids); first += planBatch {
		some := uids[first:min(len(uids), first+planBatch)]
		var err error
		if batch, err = q.v.mbox.Batch(batch, some, false); err != nil {
			return nil, err
		}
		for n := range some {
			var ok bool
			q.m.index = first + n
			if q.m.Msg, ok = batch.Msg(n); ok && q.peek(&q.root, -1, true) != search.No {
				left = append(left, first+n)
			}
		}
	}
	return left, q.ctx.Err()
}

// match says whether a message of a batch matches, which is at index in the view and at place in what was asked of the search
// index.
func (q *query) match(batch *storage.Batch, n, index, place int) (bool, error) {
	msg, ok := batch.Msg(n)
	if !ok {
		return false, nil
	}
	q.m = candidate{Msg: msg, index: index, found: q.m.found, place: place}
	q.m.src = source{ctx: q.ctx, mbox: q.v.mbox, uid: msg.UID, batch: batch, place: n}
	if v := q.peek(&q.root, place, true); v != search.Perhaps {
		return v == search.Yes, nil
	}
	ok, err := q.eval(&q.root)
	if _, known := q.m.found.Encrypted(place); !known && q.body && q.m.src.sum != nil && search.Encrypted(q.m.src.sum.Index) {
		q.encrypted++
	}
	return ok, err
}

// note counts a message whose text is asked about, if only its header can be searched.
func (q *query) note(place int) {
	if encrypted, _ := q.m.found.Encrypted(place); encrypted && q.body {
		q.encrypted++
	}
}

// known is what the search index knows of the message at hand.
func (q *query) known(n *node) search.Verdict {
	if n.needle == nil {
		return search.Perhaps
	}
	return q.m.found.Verdict(n.text, q.m.place)
}

// peek is what can be said of a message without opening it: by what the index in memory has of it if msg is set, and by the search
// index, where it has that place; -1: that was not asked.
func (q *query) peek(n *node, place int, msg bool) search.Verdict {
	switch n.op {
	case wire.KeyAnd:
		v := search.Yes
		for i := range n.kids {
			switch q.peek(&n.kids[i], place, msg) {
			case search.No:
				return search.No
			case search.Perhaps:
				v = search.Perhaps
			}
		}
		return v
	case wire.KeyOr:
		v := search.No
		for i := range n.kids {
			switch q.peek(&n.kids[i], place, msg) {
			case search.Yes:
				return search.Yes
			case search.Perhaps:
				v = search.Perhaps
			}
		}
		return v
	case wire.KeyNot:
		switch q.peek(&n.kids[0], place, msg) {
		case search.No:
			return search.Yes
		case search.Yes:
			return search.No
		}
		return search.Perhaps
	}
	switch {
	case n.cost == costIndex && msg && !q.evalMsg(n):
		return search.No
	case n.cost == costIndex && msg:
		return search.Yes
	case n.needle != nil && place >= 0:
		return q.m.found.Verdict(n.text, place)
	}
	return search.Perhaps
}
