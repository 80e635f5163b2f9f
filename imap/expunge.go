package imap

import (
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
	if !s.uid {
		_, err := s.view.mbox.Expunge(s.ctx, nil)
		return "", err
	}
	_, uids, err := s.view.pick(set, true)
	if err != nil || len(uids) == 0 {
		return "", err
	}
	_, err = s.view.mbox.Expunge(s.ctx, &uids)
	return "", err
}
