package server

import (
	"context"
	"errors"
	"time"

	"cmmpd/internal/boltfile"
	"cmmpd/internal/mail"
)

// Sizes of the portions in which a search works: candidates per read transaction, and
// bytes per write. No transaction is open during a write.
const (
	batchCandidates = 500
	batchBytes      = 64 << 10
)

// search is one running search. It belongs to the goroutine that runs it.
type search struct {
	c        *conn
	who      identity
	id       int // of the message
	req      searchRequest
	base     name
	sel      selection
	page     *page // nil: not paged
	limit    int   // entries that may be returned; 0: no limit
	limitHit resultCode

	ids   []uint64 // candidates still to be looked at
	last  uint64   // the last entry returned
	count int      // entries returned
	total int      // with those of the pages before
}

// run does the search. Replies that fill a batch are written on the way; what is
// returned is the rest, with the final result. nil: abandoned.
func (q *search) run(ctx context.Context) []byte {
	limit := q.c.srv.o.Limits.Operation
	if t := time.Duration(q.req.timeLimit) * time.Second; t > 0 && t < limit {
		limit = t
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	res, out := q.entries(ctx)
	if errors.Is(ctx.Err(), context.Canceled) {
		return nil
	}
	var controls func(*encoder)
	if q.page != nil {
		controls = func(e *encoder) { q.page.appendResponse(e, q) }
	}
	return appendResult(out, q.id, opSearchDone, res, nil, controls)
}

func (q *search) entries(ctx context.Context) (result, []byte) {
	s, sch := q.c.srv, q.c.srv.st.schema
	var builtin *entry
	switch {
	case q.base.key == "" && q.req.scope == scopeBase:
		builtin = s.rootDSE(q.c.offersTLS())
	case q.base.key == s.subschemaKey && q.who.known():
		builtin = s.subschema()
	case !q.who.known():
		return result{code: insufficientAccessRights, text: "log in first"}, nil
	}
	if builtin != nil {
		if sch.matches(q.req.filter, builtin) != isTrue || !inScope(builtin.key, q.base.key, q.req.scope) {
			return result{}, nil
		}
		return result{}, sch.appendEntry(nil, q.id, builtin, &q.sel)
	}
	if res, ok := q.prepare(); !ok {
		return res, nil
	}
	var out []byte
	for len(q.ids) > 0 {
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			return result{code: timeLimitExceeded}, out
		}
		if ctx.Err() != nil {
			return result{}, nil
		}
		res, done, err := q.batch(&out)
		if err != nil {
			q.c.log.Error("search failed", "err", err)
			return result{code: other, text: "internal error"}, out
		}
		if done {
			return res, out
		}
		if len(out) >= batchBytes {
			if q.c.write(out) != nil {
				return result{}, nil
			}
			out = nil
		}
	}
	if q.page != nil {
		q.page.more = false
	}
	return result{}, out
}

// prepare finds the candidates.
func (q *search) prepare() (res result, ok bool) {
	st := q.c.srv.st
	err := st.db.View(func(tx *boltfile.Tx) error {
		base := st.find(tx, q.base.key)
		if base == 0 {
			res = result{code: noSuchObject, matched: st.nearest(tx, q.base.key)}
			return nil
		}
		ok = true
		if q.req.scope == scopeBase {
			q.ids = []uint64{base}
		} else {
			p := plan{st: st, tx: tx}
			var narrowed bool
			if q.ids, narrowed = p.candidates(q.req.filter); !narrowed {
				q.ids = p.below(q.base.key)
			}
		}
		if q.page != nil {
			q.ids = after(q.ids, q.page.last)
			q.last, q.total = q.page.last, q.page.total
		}
		return nil
	})
	if err != nil {
		q.c.log.Error("search failed", "err", err)
		return result{code: other, text: "internal error"}, false
	}
	return res, ok
}

// nearest is the name of the closest ancestor of key that exists.
func (st *store) nearest(tx *boltfile.Tx, key string) string {
	for parent, ok := parentKey(key); ok; parent, ok = parentKey(parent) {
		if id := st.find(tx, parent); id != 0 {
			if e, err := st.get(tx, id); err == nil && e != nil {
				return e.dn
			}
		}
	}
	return ""
}

// batch looks at the next candidates in one transaction. done: the search ends with res.
func (q *search) batch(out *[]byte) (res result, done bool, err error) {
	st := q.c.srv.st
	err = st.db.View(func(tx *boltfile.Tx) error {
		for n := 0; n < batchCandidates && len(q.ids) > 0 && len(*out) < batchBytes; n++ {
			id := q.ids[0]
			e, err := st.get(tx, id)
			if err != nil {
				return mail.E(mail.Corrupt, "the directory is damaged", err)
			}
			if e != nil && inScope(e.key, q.base.key, q.req.scope) && st.schema.matches(q.req.filter, e) == isTrue {
				if res, done = q.full(); done {
					return nil
				}
				*out = st.schema.appendEntry(*out, q.id, e, &q.sel)
				q.last = id
				q.count++
				q.total++
			}
			q.ids = q.ids[1:]
		}
		return nil
	})
	return res, done, err
}

// full says, when one more entry is found, whether it may still be returned.
func (q *search) full() (result, bool) {
	switch {
	case q.limit > 0 && q.total >= q.limit:
		if q.page != nil {
			q.page.more = false
		}
		return result{code: q.limitHit}, true
	case q.page != nil && q.count >= q.page.size:
		q.page.more = true
		return result{}, true
	}
	return result{}, false
}
