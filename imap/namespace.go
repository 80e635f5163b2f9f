package imap

import "cmmpd/imap/wire"

// cmdNamespace: one personal namespace without a prefix (RFC 2342).
func cmdNamespace(s *session, p *wire.Parser) (string, error) {
	if err := p.End(); err != nil {
		return "", err
	}
	s.untagged(`NAMESPACE (("" "/")) NIL NIL`)
	return "", nil
}
