package imap

import (
	"github.com/emersion/go-imap/v2"

	"cmmpd/imap/wire"
)

// cmdRename renames a mailbox with its children. Of INBOX the messages move, and it
// stays (RFC 3501, section 6.3.5): that is the store's affair. The mailbox of drafts
// keeps its name: what may lie there as it was written must not come to lie elsewhere.
func cmdRename(s *session, p *wire.Parser) (string, error) {
	from := mailboxName(p)
	p.SP()
	to := newMailboxName(p)
	if err := p.End(); err != nil {
		return "", err
	}
	all, err := s.user.acct.List(s.ctx)
	if err != nil {
		return "", err
	}
	for _, m := range all {
		if m.Name == from && m.SpecialUse == string(imap.MailboxAttrDrafts) {
			return "", no(imap.ResponseCodeCannot, "The mailbox of drafts cannot be renamed")
		}
	}
	return "", s.user.acct.Rename(s.ctx, from, to)
}
