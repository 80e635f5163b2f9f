package imap

import "cmmpd/imap/wire"

// cmdClose leaves the mailbox and expunges it, unless it was opened with EXAMINE. The
// client is not told what went (RFC 3501, section 6.4.2).
func cmdClose(s *session, p *wire.Parser) (string, error) {
	if err := p.End(); err != nil {
		return "", err
	}
	defer s.unselect()
	if s.view.readOnly {
		return "", nil
	}
	_, err := s.view.mbox.Expunge(s.ctx, nil)
	return "", err
}

// cmdUnselect leaves the mailbox as it is (RFC 3691).
func cmdUnselect(s *session, p *wire.Parser) (string, error) {
	if err := p.End(); err != nil {
		return "", err
	}
	s.unselect()
	return "", nil
}
