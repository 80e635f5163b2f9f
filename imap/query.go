package imap

import (
	"cmp"
	"context"
	netmail "net/mail"
	"slices"

	"cmmpd/imap/wire"
	"cmmpd/storage"
	"cmmpd/storage/search"
)

// query is a search key made ready for one view. What a key needs of a message is fetched when the first key asks for it;
// of several keys the cheap ones go first, and what the search index knows is not looked for in the message.
type query struct {
	ctx  context.Context
	v    *view
	root node
	fold *search.Folder
	text []storage.TextKey // of the keys that the search index may answer
	body bool              // one of the keys needs the whole message
	mix  bool              // one of the keys needs nothing of the message
	m    candidate
	buf  []byte // of messages that are read whole

	encrypted int // messages of which only the header could be searched
}

// node is a wire.SearchKey made ready.
type node struct {
	op     wire.SearchOp
	value  string
	ranges []wire.Range // of SeqSet and UIDSet
	name   string
	flag   string
	needle []byte // folded
	fields search.Fields
	text   int // its place in query.text
	day    wire.Day
	n      int64
	kids   []node
	cost   int
}

// What a key costs: in memory, the summary, the whole message.
const (
	costIndex = iota
	costSummary
	costBody
)

func newQuery(ctx context.Context, v *view, k *wire.SearchKey) *query {
	q := &query{ctx: ctx, v: v, fold: search.NewFolder()}
	q.root = q.compile(k)
	return q
}

// ask notes a question for the search index.
func (q *query) ask(fields search.Fields, needle []byte) int {
	q.text = append(q.text, storage.TextKey{Fields: fields, Needle: needle, Loose: fields == search.Other.Set()})
	return len(q.text) - 1
}

func (q *query) compile(k *wire.SearchKey) node {
	n := node{op: k.Op, name: k.Name, day: k.Day, n: k.N}
	switch k.Op {
	case wire.KeySeqSet:
		n.ranges = k.Set.Resolve(uint32(len(q.v.uids)))
	case wire.KeyUIDSet:
		if u := q.v.uids; len(u) > 0 {
			n.ranges = k.Set.Resolve(u[len(u)-1])
		}
	case wire.KeyHasFlag:
		n.flag = k.Value
	case wire.KeyEmailID, wire.KeyThreadID:
		n.value = k.Value
	case wire.KeySentBefore, wire.KeySentOn, wire.KeySentSince:
		n.cost = costSummary
	case wire.KeyHeader:
		n.cost = costSummary
		n.needle = q.fold.FoldString(k.Value)
		n.text = q.ask(search.FieldOf(k.Name).Set(), n.needle)
	case wire.KeyBody, wire.KeyText:
		n.cost = costBody
		n.needle = q.fold.FoldString(k.Value)
		n.fields = search.AllFields
		if k.Op == wire.KeyBody {
			n.fields = search.BodyOnly
		}
		n.text = q.ask(n.fields, n.needle)
		q.body = true
	}
	q.mix = q.mix || n.cost == costIndex && len(k.Keys) == 0 && k.Op != wire.KeyAll
	for i := range k.Keys {
		kid := q.compile(&k.Keys[i])
		n.cost = max(n.cost, kid.cost)
		n.kids = append(n.kids, kid)
	}
	slices.SortStableFunc(n.kids, func(a, b node) int { return cmp.Compare(a.cost, b.cost) })
	return n
}

// candidate is the message at hand, opened as far as was needed.
type candidate struct {
	storage.Msg
	index int // in the view
	src   source
	text  search.Source
	found *storage.Found // what the search index knows
	place int            // there
}

func (q *query) eval(n *node) (bool, error) {
	switch n.op {
	case wire.KeyAnd:
		for i := range n.kids {
			if ok, err := q.eval(&n.kids[i]); !ok || err != nil {
				return false, err
			}
		}
		return true, nil
	case wire.KeyOr:
		for i := range n.kids {
			if ok, err := q.eval(&n.kids[i]); ok || err != nil {
				return ok, err
			}
		}
		return false, nil
	case wire.KeyNot:
		ok, err := q.eval(&n.kids[0])
		return !ok && err == nil, err
	}
	if n.cost == costIndex {
		return q.evalMsg(n), nil
	}
	return q.evalText(n)
}

// evalMsg evaluates the keys that need nothing of the message.
func (q *query) evalMsg(n *node) bool {
	m := &q.m
	switch n.op {
	case wire.KeySeqSet:
		return inRanges(n.ranges, uint32(m.index+1))
	case wire.KeyUIDSet:
		return inRanges(n.ranges, m.UID)
	case wire.KeyHasFlag:
		if n.flag == `\Recent` {
			return q.v.isRecent(m.UID)
		}
		return m.Flags.Has(n.flag)
	case wire.KeyBefore:
		return wire.DayOf(m.InternalDate) < n.day
	case wire.KeyOn:
		return wire.DayOf(m.InternalDate) == n.day
	case wire.KeySince:
		return wire.DayOf(m.InternalDate) >= n.day
	case wire.KeyEmailID:
		return m.EmailID.String() == n.value
	case wire.KeyThreadID:
		return m.ThreadID.Thread() == n.value
	case wire.KeySavedBefore:
		return wire.DayOf(m.SaveDate) < n.day
	case wire.KeySavedOn:
		return wire.DayOf(m.SaveDate) == n.day
	case wire.KeySavedSince:
		return wire.DayOf(m.SaveDate) >= n.day
	case wire.KeyModSeq:
		return m.ModSeq >= uint64(n.n)
	case wire.KeyLarger:
		return m.Size > n.n
	case wire.KeySmaller:
		return m.Size < n.n
	}
	return true // ALL
}

// evalText evaluates the keys that need the summary or the message.
func (q *query) evalText(n *node) (bool, error) {
	m := &q.m
	if v := q.known(n); v != search.Perhaps {
		return v == search.Yes, nil
	}
	if m.src.sum == nil {
		if err := q.open(n); err != nil {
			return false, err
		}
	}
	switch n.op {
	case wire.KeySentBefore, wire.KeySentOn, wire.KeySentSince:
		return q.sent(n), nil
	case wire.KeyHeader:
		return m.text.InField(q.fold, n.name, n.needle), nil
	}
	return m.text.InText(q.fold, n.fields, n.needle)
}

// open opens the message at hand, the whole of it if the key needs that.
func (q *query) open(n *node) (err error) {
	m := &q.m
	m.text.Read = func() (data []byte, err error) {
		_, data, q.buf, err = m.src.batch.Whole(q.ctx, m.src.place, q.buf)
		return data, err
	}
	if n.cost == costBody {
		var data []byte
		m.src.sum, data, q.buf, err = m.src.batch.Whole(q.ctx, m.src.place, q.buf)
		m.text.Read = func() ([]byte, error) { return data, nil }
	} else {
		err = m.src.open()
	}
	if err != nil {
		return err
	}
	m.text.Header, m.text.Index = m.src.sum.Header, m.src.sum.Index
	return nil
}

// sent compares the day in the Date field, in the sender's zone. Without a date that
// can be read nothing matches.
func (q *query) sent(n *node) bool {
	env := q.m.src.sum.Index.Root.Envelope
	if env == nil {
		return false
	}
	t, err := netmail.ParseDate(env.Date)
	if err != nil {
		return false
	}
	day := wire.DayOf(t)
	switch n.op {
	case wire.KeySentBefore:
		return day < n.day
	case wire.KeySentOn:
		return day == n.day
	}
	return day >= n.day
}
