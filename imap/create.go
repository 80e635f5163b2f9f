package imap

import (
	"strings"

	"cmmpd/imap/wire"
)

// cmdCreate makes a mailbox, with a special use if one is given (RFC 6154, section 3).
func cmdCreate(s *session, p *wire.Parser) (string, error) {
	name := newMailboxName(p)
	use := ""
	if p.Err() == nil && !p.AtEnd() {
		p.SP()
		p.List(func() {
			if p.Word() != "USE" {
				p.Fail(&wire.Error{Text: "Unknown parameter"})
			}
			p.SP()
			p.List(func() {
				more := use != ""
				p.Want('\\')
				if use = specialUse(p.Atom()); use == "" || more {
					p.Fail(no("USEATTR", "That special use is not offered"))
				}
			})
		})
	}
	if err := p.End(); err != nil {
		return "", err
	}
	if err := s.user.acct.Create(s.ctx, name, use); err != nil {
		return "", err
	}
	st, err := s.user.acct.Status(s.ctx, name)
	if err != nil {
		return "", nil // another session has deleted it at once
	}
	return "MAILBOXID (" + st.MailboxID + ")", nil // RFC 8474, section 4.1
}

// specialUse is the attribute in our spelling, "" for one that a mailbox cannot have.
func specialUse(word string) string {
	for _, use := range [...]string{`\Archive`, `\Drafts`, `\Junk`, `\Sent`, `\Trash`} {
		if strings.EqualFold(word, use[1:]) {
			return use
		}
	}
	return ""
}
