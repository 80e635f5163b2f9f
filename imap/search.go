package imap

import (
	"context"
	"errors"
	"fmt"

	"github.com/emersion/go-imap/v2"

	"cmmpd/imap/wire"
	"cmmpd/storage"
)

// cmdSearch looks for messages (RFC 3501, section 6.4.4). Text is compared decoded, without regard
// to case. A message that is damaged and would have to be read is not found, and a warning says so.
// With RETURN the answer is ESEARCH (RFC 4731), and may be kept for later commands (RFC 5182).
func cmdSearch(s *session, p *wire.Parser) (string, error) {
	wanted, extended := p.SearchReturn()
	key := p.Search()
	if !extended && s.has(rev2) { // RFC 9051, section 6.4.4
		wanted, extended = wire.ReturnAll, true
	}
	err := p.End()
	var r *results
	if err == nil {
		r, err = s.search(&key)
	}
	if err != nil {
		if wanted&wire.ReturnSave != 0 && answerTo(err).No {
			s.view.saved = nil // RFC 5182, section 2.1
		}
		return "", err
	}
	if wanted&wire.ReturnSave != 0 {
		s.view.saved = r.kept(s.view.uids, wanted)
	}
	switch {
	case !extended:
		s.sendSearch(r)
	case wanted != wire.ReturnSave:
		s.sendESearch(r, wanted)
	}
	if r.failed != nil {
		s.respond("*", "NO", answerTo(r.failed).Code, "Some messages could not be searched")
	}
	return "", nil
}

// results is what a search has found.
type results struct {
	hits    []hit // ascending
	modseqs bool  // the search was about mod-sequences: the highest is told, too
	failed  error // why a message could not be searched
}

type hit struct {
	index  uint32 // in the view
	modseq uint64
}

// search goes through the view.
func (s *session) search(key *wire.SearchKey) (*results, error) {
	r := &results{modseqs: key.Uses(wire.KeyModSeq)}
	if r.modseqs {
		s.enable(condstore)
	}
	ctx, cancel := context.WithTimeout(s.ctx, s.srv.o.Limits.Search)
	defer cancel()
	q := newQuery(ctx, s.view, key)
	err := q.run(func(i int, m *storage.Msg) {
		r.hits = append(r.hits, hit{uint32(i), m.ModSeq})
	}, func(uid uint32, err error) {
		r.failed = err
		s.log.Warn("imap: a message cannot be searched", "uid", uid, "err", err)
	})
	if errors.Is(err, context.DeadlineExceeded) {
		return nil, no(imap.ResponseCodeLimit, "The search took too long")
	} else if err != nil {
		return nil, err
	}
	if q.encrypted > 0 {
		s.remark = fmt.Sprintf("; encrypted messages of which only the headers were searched: %d", q.encrypted)
	}
	if r.modseqs {
		if err := s.view.mbox.Settle(); err != nil {
			return nil, err
		}
	}
	return r, nil
}

// number is what the client calls a message found.
func (s *session) number(h hit) uint32 {
	if s.uid {
		return s.view.uids[h.index]
	}
	return h.index + 1
}

func highest(hits []hit) uint64 {
	var n uint64
	for _, h := range hits {
		n = max(n, h.modseq)
	}
	return n
}

func (s *session) sendSearch(r *results) {
	s.c.write("* SEARCH")
	for _, h := range r.hits {
		s.c.out = wire.AppendNumber(append(s.c.out, ' '), s.number(h))
	}
	if r.modseqs && len(r.hits) > 0 { // RFC 7162, section 3.1.5
		s.c.write(" (MODSEQ ")
		s.c.out = append(wire.AppendNumber(s.c.out, highest(r.hits)), ')')
	}
	s.c.end()
}

// sendESearch sends the results that are wanted.
func (s *session) sendESearch(r *results, wanted wire.SearchReturn) {
	s.c.buffer()
	b := wire.AppendString(append(s.c.out, "* ESEARCH (TAG "...), s.cmd.Tag)
	b = append(b, ')')
	if s.uid {
		b = append(b, " UID"...)
	}
	n := len(r.hits)
	if wanted&wire.ReturnMin != 0 && n > 0 {
		b = wire.AppendNumber(append(b, " MIN "...), s.number(r.hits[0]))
	}
	if wanted&wire.ReturnMax != 0 && n > 0 {
		b = wire.AppendNumber(append(b, " MAX "...), s.number(r.hits[n-1]))
	}
	if wanted&wire.ReturnCount != 0 {
		b = wire.AppendNumber(append(b, " COUNT "...), n)
	}
	if wanted&wire.ReturnAll != 0 && n > 0 {
		var all []wire.Range
		for _, h := range r.hits {
			all = wire.AddNum(all, s.number(h))
		}
		b = wire.AppendRanges(append(b, " ALL "...), all)
	}
	if r.modseqs && n > 0 {
		b = wire.AppendNumber(append(b, " MODSEQ "...), highest(r.chosen(wanted)))
	}
	s.c.out = b
	s.c.end()
}

// chosen is the hits that an answer is about: with only MIN or MAX the first or last (RFC 4731, section 3.2; RFC 5182,
// section 2.4), else all.
func (r *results) chosen(wanted wire.SearchReturn) []hit {
	if len(r.hits) == 0 || wanted&(wire.ReturnAll|wire.ReturnCount) != 0 || wanted&(wire.ReturnMin|wire.ReturnMax) == 0 {
		return r.hits
	}
	var some []hit
	if wanted&wire.ReturnMin != 0 {
		some = append(some, r.hits[0])
	}
	if last := r.hits[len(r.hits)-1]; wanted&wire.ReturnMax != 0 && (len(some) == 0 || last.index != some[0].index) {
		some = append(some, last)
	}
	return some
}

// kept is the UIDs that "$" stands for from now on.
func (r *results) kept(uids []uint32, wanted wire.SearchReturn) []wire.Range {
	var kept []wire.Range
	for _, h := range r.chosen(wanted) {
		kept = wire.AddNum(kept, uids[h.index])
	}
	return kept
}

// savedAs is what "$" stands for: of the messages that were found those that are still in the view.
func (v *view) savedAs(uid bool) wire.Set {
	var nums []wire.Range
	for _, r := range v.saved {
		part, _ := v.ranges(wire.Set{{Start: r.First, Stop: r.Last}}, true)
		for _, n := range v.numbers(part, uid) {
			if k := len(nums); k > 0 && nums[k-1].Last+1 == n.First {
				nums[k-1].Last = n.Last
				continue
			}
			nums = append(nums, n)
		}
	}
	set := make(wire.Set, len(nums))
	for i, n := range nums {
		set[i].Start, set[i].Stop = n.First, n.Last
	}
	return set
}
