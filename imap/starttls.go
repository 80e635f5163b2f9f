package imap

import (
	"cmmpd/imap/wire"
)

// cmdStartTLS begins TLS when its OK has been sent (RFC 3501, section 6.2.1).
func cmdStartTLS(s *session, p *wire.Parser) (string, error) {
	if err := p.End(); err != nil {
		return "", err
	}
	s.upgrade = true
	return "", nil
}

// startTLS shakes hands. Whatever came in clear after the command was put there by
// somebody else: then, and when the handshake fails, the connection is closed.
func (s *session) startTLS() {
	s.upgrade = false
	if s.rd.Buffered() > 0 {
		s.over = true
		s.log.Warn("imap: octets in clear after STARTTLS, connection closed")
		return
	}
	if s.c.flush() != nil {
		s.over = true
		return
	}
	if err := s.c.handshake(s.ctx); err != nil {
		s.over = true
		s.log.Debug("imap: TLS handshake failed", "err", err)
		return
	}
	s.secured()
	s.newReader()
	s.cmd = wire.Command{}
}
