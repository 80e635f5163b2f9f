package imap

import (
	"github.com/emersion/go-imap/v2"

	"cmmpd/imap/wire"
)

// cmdDelete deletes a mailbox. If it is the one selected, the session is left without.
func cmdDelete(s *session, p *wire.Parser) (string, error) {
	name := mailboxName(p)
	if err := p.End(); err != nil {
		return "", err
	}
	if name == "INBOX" {
		return "", no(imap.ResponseCodeCannot, "INBOX cannot be deleted")
	}
	if err := s.user.acct.Delete(s.ctx, name); err != nil {
		return "", err
	}
	if s.view != nil && s.view.mbox.Deleted() {
		s.unselect()
	}
	return "", nil
}
