package imap

import (
	"fmt"

	"github.com/emersion/go-imap/v2"

	"cmmpd/imap/wire"
	"cmmpd/storage"
)

func cmdSelect(s *session, p *wire.Parser) (string, error)  { return s.selectMailbox(p, false) }
func cmdExamine(s *session, p *wire.Parser) (string, error) { return s.selectMailbox(p, true) }

// selectMailbox opens a mailbox. Whatever comes of it, the one selected before is left
// (RFC 3501, section 6.3.1).
func (s *session) selectMailbox(p *wire.Parser, readOnly bool) (string, error) {
	name := mailboxName(p)
	var params wire.SelectParams
	if p.Err() == nil && !p.AtEnd() {
		p.SP()
		params = p.SelectParams()
	}
	if params.Resync != nil && !s.has(qresync) {
		p.Fail(&wire.Error{Text: "ENABLE QRESYNC first"})
	}
	if err := p.End(); err != nil {
		return "", err
	}
	if s.view != nil {
		s.unselect()
		s.respond("*", "OK", "CLOSED", "The mailbox before is closed") // what follows is of the new one
	}
	if params.Condstore {
		s.enable(condstore)
	}
	mbox, err := s.user.acct.Open(s.ctx, name)
	if err != nil {
		return "", err
	}
	examine := readOnly
	readOnly = readOnly || mbox.Recoverable()
	v, unseen, st := s.newView(mbox, readOnly)
	v.restores = mbox.Recoverable() && !examine
	if err := mbox.Settle(); err != nil {
		v.close()
		return "", err
	}
	s.view = v
	s.sendFlags(mbox.Keywords())
	s.untagged(fmt.Sprintf("%d EXISTS", len(v.uids)))
	s.tellRecent()
	if s.has(rev2) { // RFC 9051, section 6.3.2
		if err := s.tellName(mbox.Name()); err != nil {
			s.unselect()
			return "", err
		}
	} else if unseen >= 0 {
		s.untagged(fmt.Sprintf("OK [UNSEEN %d] First unseen", unseen+1))
	}
	s.untagged(fmt.Sprintf("OK [UIDVALIDITY %d] UIDs valid", st.UIDValidity))
	s.untagged(fmt.Sprintf("OK [UIDNEXT %d] Next UID", st.UIDNext))
	s.untagged("OK [MAILBOXID (" + mbox.ID() + ")] Identity")
	s.untagged(fmt.Sprintf("OK [HIGHESTMODSEQ %d] Highest", st.HighestModSeq))
	if r := params.Resync; r != nil && r.UIDValidity == st.UIDValidity {
		if err := s.resync(r, &st); err != nil {
			s.unselect()
			return "", err
		}
	}
	if readOnly {
		return "READ-ONLY", nil
	}
	return "READ-WRITE", nil
}

// tellName sends the LIST response of the mailbox that is being opened.
func (s *session) tellName(name string) error {
	boxes, err := s.user.acct.List(s.ctx)
	if err != nil {
		return err
	}
	l := listing{extended: true, returnSubscribed: true}
	for i := range boxes {
		if boxes[i].Name == name {
			s.sendList("LIST", name, l.attributes(&boxes[i]), "")
		}
	}
	return nil
}

// resync tells a client that has been here before what it has missed (RFC 7162, section
// 3.2.5.1). One that knows of more than has happened, as after the return of a backup, is told everything.
func (s *session) resync(r *wire.Resync, st *storage.State) error {
	since := r.ModSeq
	all := since > st.HighestModSeq
	if all {
		since = 0
	}
	ch, err := s.view.mbox.Changes(since)
	if err != nil {
		return err
	}
	known := wire.Set{{Start: 1, Stop: st.UIDNext - 1}}
	if st.UIDNext <= 1 {
		known = nil
	}
	if r.Known != nil {
		known = r.Known
	}
	vanished := wire.RangesOf(ch.Vanished)
	asked := known.Resolve(0)
	if all {
		vanished = asked
	}
	s.vanishedEarlier(vanished, asked)
	s.tellKeywords()
	for i := range ch.Changed {
		m := &ch.Changed[i]
		if seq := s.view.seq(m.UID); seq > 0 {
			s.tellFlags(seq, m)
		}
	}
	return s.view.mbox.Settle()
}

// vanishedEarlier sends what of the UIDs asked for is gone from the mailbox. What the client does not know yet to be gone from
// its own view comes later, as news.
func (s *session) vanishedEarlier(vanished, asked []wire.Range) {
	gone := subtract(intersect(vanished, asked), s.view.uids)
	if len(gone) == 0 {
		return
	}
	s.c.write("* VANISHED (EARLIER) ")
	s.c.out = wire.AppendRanges(s.c.out, gone)
	s.c.end()
}

// intersect is what is in both; all are ascending.
func intersect(a, b []wire.Range) []wire.Range {
	var out []wire.Range
	for len(a) > 0 && len(b) > 0 {
		if lo, hi := max(a[0].First, b[0].First), min(a[0].Last, b[0].Last); lo <= hi {
			out = append(out, wire.Range{First: lo, Last: hi})
		}
		if a[0].Last < b[0].Last {
			a = a[1:]
		} else {
			b = b[1:]
		}
	}
	return out
}

// subtract is ranges without the UIDs; all are ascending.
func subtract(ranges []wire.Range, uids []uint32) []wire.Range {
	var out []wire.Range
	for _, r := range ranges {
		for len(uids) > 0 && uids[0] < r.First {
			uids = uids[1:]
		}
		first, whole := r.First, true
		for len(uids) > 0 && uids[0] <= r.Last && whole {
			if first < uids[0] {
				out = append(out, wire.Range{First: first, Last: uids[0] - 1})
			}
			whole = uids[0] < r.Last
			first = uids[0] + 1
			uids = uids[1:]
		}
		if whole {
			out = append(out, wire.Range{First: first, Last: r.Last})
		}
	}
	return out
}

// uidSet is one range.
func uidSet(first, last uint32) imap.UIDSet {
	return imap.UIDSet{{Start: imap.UID(first), Stop: imap.UID(last)}}
}
