package imap

import (
	"bytes"
	"cmp"
	"context"
	netmail "net/mail"
	"slices"
	"strings"
	"unicode/utf8"

	"golang.org/x/text/cases"
	"golang.org/x/text/unicode/norm"

	"cmmpd/imap/wire"
	"cmmpd/internal/message"
	"cmmpd/storage"
)

// query is a search key made ready for one view. What a key needs of a message is
// fetched when the first key asks for it; of several keys the cheap ones go first.
type query struct {
	ctx  context.Context
	v    *view
	root node
	fold cases.Caser
	m    candidate
}

// node is a wire.SearchKey made ready.
type node struct {
	op     wire.SearchOp
	value  string
	ranges []wire.Range // of SeqSet and UIDSet
	name   string
	flag   string
	needle []byte // folded
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
	q := &query{ctx: ctx, v: v, fold: cases.Fold()}
	q.root = q.compile(k)
	return q
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
		n.needle = q.folded([]byte(k.Value))
	case wire.KeyBody, wire.KeyText:
		n.cost = costBody
		n.needle = q.folded([]byte(k.Value))
	}
	for i := range k.Keys {
		kid := q.compile(&k.Keys[i])
		n.cost = max(n.cost, kid.cost)
		n.kids = append(n.kids, kid)
	}
	slices.SortStableFunc(n.kids, func(a, b node) int { return cmp.Compare(a.cost, b.cost) })
	return n
}

// folded is text in the form that is compared: compatibility forms are one (NFKC), and case is folded.
func (q *query) folded(b []byte) []byte {
	ascii := true
	for _, c := range b {
		if c >= utf8.RuneSelf {
			ascii = false
			break
		}
	}
	if ascii {
		return bytes.ToLower(b)
	}
	return q.fold.Bytes(norm.NFKC.Bytes(b))
}

func (q *query) contains(text, needle []byte) bool {
	return bytes.Contains(q.folded(text), needle)
}

// candidate is the message at hand, opened as far as was needed.
type candidate struct {
	storage.Msg
	index int // in the view
	src   source
	head  message.Header
	raw   []byte // the body, without prefix
}

// match says whether message index of the view, with that uid, matches.
func (q *query) match(index int, uid uint32) (bool, error) {
	msg, ok := q.v.mbox.Get(uid)
	if !ok {
		return false, nil
	}
	q.m = candidate{Msg: msg, index: index, src: source{ctx: q.ctx, mbox: q.v.mbox, uid: uid}}
	defer q.m.src.close()
	return q.eval(&q.root)
}

func (q *query) eval(n *node) (bool, error) {
	m := &q.m
	switch n.op {
	case wire.KeyAll:
		return true, nil
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
	case wire.KeySeqSet:
		return inRanges(n.ranges, uint32(m.index+1)), nil
	case wire.KeyUIDSet:
		return inRanges(n.ranges, m.UID), nil
	case wire.KeyHasFlag:
		if n.flag == `\Recent` {
			return q.v.isRecent(m.UID), nil
		}
		return m.Flags.Has(n.flag), nil
	case wire.KeyBefore:
		return wire.DayOf(m.InternalDate) < n.day, nil
	case wire.KeyOn:
		return wire.DayOf(m.InternalDate) == n.day, nil
	case wire.KeySince:
		return wire.DayOf(m.InternalDate) >= n.day, nil
	case wire.KeyEmailID:
		return m.EmailID.String() == n.value, nil
	case wire.KeyThreadID:
		return m.ThreadID.Thread() == n.value, nil
	case wire.KeySavedBefore:
		return wire.DayOf(m.SaveDate) < n.day, nil
	case wire.KeySavedOn:
		return wire.DayOf(m.SaveDate) == n.day, nil
	case wire.KeySavedSince:
		return wire.DayOf(m.SaveDate) >= n.day, nil
	case wire.KeyModSeq:
		return m.ModSeq >= uint64(n.n), nil
	case wire.KeyLarger:
		return m.Size > n.n, nil
	case wire.KeySmaller:
		return m.Size < n.n, nil
	}
	return q.evalText(n)
}

// evalText evaluates the keys that need the summary or the message.
func (q *query) evalText(n *node) (bool, error) {
	m := &q.m
	if m.src.sum == nil {
		if err := m.src.open(); err != nil {
			return false, err
		}
		m.head = message.ParseHeader(m.src.sum.Header, message.Limits{})
	}
	switch n.op {
	case wire.KeySentBefore, wire.KeySentOn, wire.KeySentSince:
		return q.sent(n), nil
	case wire.KeyHeader:
		for _, f := range m.head.Fields() {
			if strings.EqualFold(f.Name, n.name) && q.contains([]byte(message.DecodeWords(m.head.Value(f))), n.needle) {
				return true, nil
			}
		}
		return false, nil
	}
	if n.op == wire.KeyText && q.inFields(m.head, n.needle) {
		return true, nil
	}
	return q.bodyContains(n)
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

// maxSearchText is how much decoded text of one message is looked at.
const maxSearchText = 64 << 20

func (q *query) bodyContains(n *node) (bool, error) {
	m := &q.m
	x := m.src.sum.Index
	if m.raw == nil {
		c, err := m.src.body()
		if err != nil {
			return false, err
		}
		m.raw = make([]byte, x.Size)
		if err := readAt(c, m.raw, int64(len(m.src.sum.Prefix))); err != nil {
			return false, err
		}
	}
	if len(n.needle) == 0 || q.headersContain(n) {
		return true, nil
	}
	for _, text := range x.Texts(m.raw, maxSearchText) {
		if q.contains(text, n.needle) {
			return true, nil
		}
	}
	return false, nil
}
