package imap

import (
	"github.com/emersion/go-imap/v2"

	"cmmpd/imap/wire"
)

// cmdExpunge removes what is marked \Deleted; UID EXPUNGE (RFC 4315) only among the
// UIDs given. The EXPUNGE responses come with the news of the mailbox.
func cmdExpunge(s *session, p *wire.Parser) (string, error) {
	var set wire.Set
	if s.uid {
		set = p.Set()
	}
	if err := p.End(); err != nil {
		return "", err
	}
	if err := s.writable(); err != nil {
		return "", err
	}
	var among *imap.UIDSet
	if s.uid {
		_, uids, err := s.view.pick(set, true)
		if err != nil || len(uids) == 0 {
			return "", err
		}
		among = &uids
	}
	gone, err := s.view.mbox.Expunge(s.ctx, among)
	s.highest = len(gone) > 0 && s.has(condstore) // RFC 7162, section 3.2.7
	return "", err
}
