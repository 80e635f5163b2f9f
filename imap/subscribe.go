package imap

import "cmmpd/imap/wire"

// cmdSubscribe subscribes to a name, whether there is such a mailbox or not (RFC 3501,
// section 6.3.6).
func cmdSubscribe(s *session, p *wire.Parser) (string, error) {
	name := newMailboxName(p)
	if err := p.End(); err != nil {
		return "", err
	}
	return "", s.user.acct.Subscribe(s.ctx, name, true)
}

func cmdUnsubscribe(s *session, p *wire.Parser) (string, error) {
	name := mailboxName(p)
	if err := p.End(); err != nil {
		return "", err
	}
	return "", s.user.acct.Subscribe(s.ctx, name, false)
}
