package imap

import (
	"fmt"

	"cmmpd/imap/wire"
	"cmmpd/storage"
)

func cmdSelect(s *session, p *wire.Parser) (string, error)  { return s.selectMailbox(p, false) }
func cmdExamine(s *session, p *wire.Parser) (string, error) { return s.selectMailbox(p, true) }

// selectMailbox opens a mailbox. Whatever comes of it, the one selected before is left
// (RFC 3501, section 6.3.1).
func (s *session) selectMailbox(p *wire.Parser, readOnly bool) (string, error) {
	name := mailboxName(p)
	if err := p.End(); err != nil {
		return "", err
	}
	s.unselect()
	mbox, err := s.user.acct.Open(s.ctx, name)
	if err != nil {
		return "", err
	}
	v, msgs, st := s.newView(mbox, readOnly)
	s.view = v
	s.sendFlags(mbox.Keywords())
	s.untagged(fmt.Sprintf("%d EXISTS", len(msgs)))
	s.untagged(fmt.Sprintf("%d RECENT", v.recents()))
	for i := range msgs {
		if !msgs[i].Flags.Has(storage.FlagSeen) {
			s.untagged(fmt.Sprintf("OK [UNSEEN %d] First unseen", i+1))
			break
		}
	}
	s.untagged(fmt.Sprintf("OK [UIDVALIDITY %d] UIDs valid", st.UIDValidity))
	s.untagged(fmt.Sprintf("OK [UIDNEXT %d] Next UID", st.UIDNext))
	if readOnly {
		return "READ-ONLY", nil
	}
	return "READ-WRITE", nil
}
