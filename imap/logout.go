package imap

import "cmmpd/imap/wire"

func cmdLogout(s *session, p *wire.Parser) (string, error) {
	if err := p.End(); err != nil {
		return "", err
	}
	s.bye("", "Logging out")
	return "", nil
}
