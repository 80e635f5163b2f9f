package imap

import "cmmpd/imap/wire"

// cmdRename renames a mailbox with its children. Of INBOX the messages move, and it
// stays (RFC 3501, section 6.3.5): that is the store's affair.
func cmdRename(s *session, p *wire.Parser) (string, error) {
	from := mailboxName(p)
	p.SP()
	to := newMailboxName(p)
	if err := p.End(); err != nil {
		return "", err
	}
	return "", s.user.acct.Rename(s.ctx, from, to)
}
