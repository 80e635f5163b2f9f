package imap

import (
	"strings"

	"github.com/emersion/go-imap/v2"

	"cmmpd/imap/wire"
)

// cmdLsub lists subscriptions (RFC 3501, section 6.3.9), of mailboxes that are gone too. With "%" a name
// above a subscribed one is listed as \Noselect.
func cmdLsub(s *session, p *wire.Parser) (string, error) {
	var l listing
	l.takeNames(p)
	l.extended = false
	if err := p.End(); err != nil {
		return "", err
	}
	boxes, err := s.user.acct.List(s.ctx)
	if err != nil {
		return "", err
	}
	match := matcher(&l)
	percent := len(l.patterns) > 0 && strings.HasSuffix(l.patterns[0], "%")
	shown := map[string]bool{}
	for i := range boxes {
		b := &boxes[i]
		if !b.Subscribed {
			continue
		}
		if match(b.Name) {
			shown[b.Name] = true
			s.sendList("LSUB", b.Name, l.attributes(b), "")
		}
	}
	if !percent {
		return "", nil
	}
	for i := range boxes {
		b := &boxes[i]
		if !b.Subscribed {
			continue
		}
		for at := strings.LastIndexByte(b.Name, '/'); at > 0; at = strings.LastIndexByte(b.Name[:at], '/') {
			if parent := b.Name[:at]; !shown[parent] && match(parent) {
				shown[parent] = true
				s.sendList("LSUB", parent, []string{string(imap.MailboxAttrNoSelect)}, "")
			}
		}
	}
	return "", nil
}
