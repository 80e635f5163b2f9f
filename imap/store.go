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

// cmdStore changes flags (RFC 3501, section 6.4.6).
func cmdStore(s *session, p *wire.Parser) (string, error) {
	set := p.Set()
	p.SP()
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
	v := s.view
	rs, uids, err := v.pick(set, s.uid)
	if err != nil || len(uids) == 0 {
		return "", err
	}
	seen := v.mbox.State().HighestModSeq == v.modseq
	changed, _, err := v.mbox.StoreFlags(s.ctx, uids, op, flags, 0)
	if err != nil {
		return "", err
	}
	if silent {
		if seen { // else somebody else's change may be in these flags too
			v.known(changed)
		}
		return "", s.missing(rs)
	}
	v.known(changed)
	return "", s.answerStore(rs)
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

// answerStore sends the flags of all messages that were addressed.
func (s *session) answerStore(rs []wire.Range) error {
	v := s.view
	s.tellKeywords()
	var err error
	for _, r := range rs {
		for i := r.First; i <= r.Last; i++ {
			m, ok := v.mbox.Get(v.uids[i])
			if !ok {
				err = s.expunged()
				continue
			}
			s.c.buffer()
			b := wire.AppendNumber(append(s.c.out, "* "...), i+1)
			b = append(b, " FETCH ("...)
			if s.uid {
				b = append(wire.AppendNumber(append(b, "UID "...), m.UID), ' ')
			}
			s.c.out = append(v.appendFlags(b, &m), ')')
			s.c.end()
		}
	}
	return err
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
