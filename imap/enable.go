package imap

import "cmmpd/imap/wire"

// cmdEnable turns on what is asked for and known (RFC 5161): nothing yet needs it.
func cmdEnable(s *session, p *wire.Parser) (string, error) {
	p.Atom()
	for p.Err() == nil && !p.AtEnd() {
		p.SP()
		p.Atom()
	}
	if err := p.End(); err != nil {
		return "", err
	}
	s.untagged("ENABLED")
	return "", nil
}
