package imap

import (
	"strings"

	"github.com/emersion/go-imap/v2"

	"cmmpd/imap/wire"
	"cmmpd/storage"
)

// writable says whether the selected mailbox may be changed.
func (s *session) writable() error {
	if s.view.readOnly {
		return no(imap.ResponseCodeNoPerm, "The mailbox is open for reading only")
	}
	return nil
}

// cmdStore changes flags (RFC 3501, section 6.4.6), with UNCHANGEDSINCE only of messages that have not
// changed since (RFC 7162, section 3.1.3): the others are in the response code MODIFIED.
func cmdStore(s *session, p *wire.Parser) (string, error) {
	set := p.Set()
	p.SP()
	conditional, since := p.Peek() == '(', uint64(0)
	if conditional {
		since = p.UnchangedSince()
		p.SP()
	}
	op, silent := takeStoreItem(p)
	p.SP()
	var flags []string
	if p.Peek() == '(' {
		flags = p.Flags()
	} else {
		for flags = append(flags, p.Flag()); p.Err() == nil && !p.AtEnd(); flags = append(flags, p.Flag()) {
			p.SP()
		}
	}
	if err := p.End(); err != nil {
		return "", err
	}
	if err := s.writable(); err != nil {
		return "", err
	}
	if conditional {
		s.enable(condstore)
	}
	v := s.view
	rs, uids, err := v.pick(set, s.uid)
	if err != nil || len(uids) == 0 {
		return "", err
	}
	changed, modified, err := v.change(s, uids, op, flags, conditional, since)
	if err != nil {
		return "", err
	}
	var spared []wire.Range // indexes in the view
	for _, r := range wire.RangesOf(modified) {
		part, err := v.ranges(wire.Set{{Start: r.First, Stop: r.Last}}, true)
		if err != nil {
			return "", err
		}
		spared = append(spared, part...)
	}
	if !v.follows(changed) && !silent { // if silent, somebody else's change may be in these flags too
		v.known(changed)
	}
	switch {
	case !silent:
		err = s.answerStore(rs, spared)
	case s.has(condstore):
		err = s.answerSilent(rs, changed)
	default:
		err = s.missing(rs)
	}
	if len(spared) == 0 || err != nil {
		return "", err
	}
	return "MODIFIED " + string(wire.AppendRanges(nil, v.numbers(spared, s.uid))), nil
}

// change is StoreFlags. A mod-sequence of 0 spares every message.
func (v *view) change(s *session, uids imap.UIDSet, op storage.FlagOp, flags []string, conditional bool, since uint64) (changed storage.Stored, modified imap.UIDSet, err error) {
	if conditional && since == 0 {
		return changed, uids, nil
	}
	changed, modified, err = v.mbox.StoreFlags(s.ctx, uids, op, flags, since)
	if err == nil && s.has(condstore) {
		err = v.mbox.Settle()
	}
	return changed, modified, err
}

// numbers turns ranges of indexes into what the client calls them.
func (v *view) numbers(rs []wire.Range, uid bool) []wire.Range {
	var out []wire.Range
	for _, r := range rs {
		for i := r.First; i <= r.Last; i++ {
			n := i + 1
			if uid {
				n = v.uids[i]
			}
			out = wire.AddNum(out, n)
		}
	}
	return out
}

func takeStoreItem(p *wire.Parser) (op storage.FlagOp, silent bool) {
	switch {
	case p.Take('+'):
		op = storage.AddFlags
	case p.Take('-'):
		op = storage.DelFlags
	}
	word, silent := strings.CutSuffix(p.Word(), ".SILENT")
	if word != "FLAGS" {
		p.Fail(&wire.Error{Text: "Unknown data item"})
	}
	return op, silent
}

// answerStore sends the flags of all messages that were addressed and not spared.
func (s *session) answerStore(rs, spared []wire.Range) error {
	v := s.view
	s.tellKeywords()
	var gone error
	var batch *storage.Batch
	for _, r := range rs {
		for first := r.First; first <= r.Last; first += answerBatch {
			last := min(r.Last, first+answerBatch-1)
			var err error
			if batch, err = v.mbox.Batch(batch, v.uids[first:last+1], false); err != nil {
				return err
			}
			if s.has(condstore) {
				if err := v.mbox.Settle(); err != nil {
					return err
				}
			}
			for i := first; i <= last; i++ {
				if len(spared) > 0 && inRanges(spared, i) {
					continue
				}
				m, ok := batch.Msg(int(i - first))
				if !ok {
					gone = s.expunged()
					continue
				}
				b := s.beginFetch(i, m.UID)
				if s.has(condstore) {
					b = append(appendModSeq(b, &m), ' ')
				}
				s.c.out = append(v.appendFlags(b, &m), ')')
				s.c.end()
			}
		}
	}
	return gone
}

// answerBatch is how many messages are looked up at a time.
const answerBatch = 256

// answerSilent sends the new mod-sequences: they are told even when the flags are not (RFC 7162, section 3.1.3).
func (s *session) answerSilent(rs []wire.Range, changed storage.Stored) error {
	m := storage.Msg{ModSeq: changed.ModSeq}
	for _, uid := range changed.UIDs {
		if seq := s.view.seq(uid); seq > 0 {
			s.c.out = append(appendModSeq(s.beginFetch(seq-1, uid), &m), ')')
			s.c.end()
		}
	}
	return s.missing(rs)
}

// beginFetch begins the FETCH response that answers STORE about message i of the view.
func (s *session) beginFetch(i, uid uint32) []byte {
	s.c.buffer()
	b := wire.AppendNumber(append(s.c.out, "* "...), i+1)
	b = append(b, " FETCH ("...)
	if s.uid || s.has(qresync) {
		b = append(wire.AppendNumber(append(b, "UID "...), uid), ' ')
	}
	return b
}

// missing is an error if a message that was addressed is no more.
func (s *session) missing(rs []wire.Range) error {
	for _, uid := range s.view.gone {
		if i := s.view.seq(uid); i > 0 && inRanges(rs, i-1) {
			return s.expunged()
		}
	}
	return nil
}

// expunged is the answer when a message that the client has not been told to be gone
// was asked for; by UID it is no error (RFC 3501, section 6.4.8; RFC 5530).
func (s *session) expunged() error {
	if s.uid {
		return nil
	}
	return no("EXPUNGEISSUED", "Some of the messages are gone")
}
