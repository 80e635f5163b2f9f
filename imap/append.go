package imap

import (
	"fmt"
	"time"

	"cmmpd/imap/wire"
	"cmmpd/storage"
)

// cmdAppend saves a message (RFC 3501, section 6.3.11). It goes through the one door
// like any other: what is confidential is sealed there, or refused.
func cmdAppend(s *session, p *wire.Parser) (string, error) {
	name := mailboxName(p)
	p.SP()
	var flags []string
	if p.Peek() == '(' {
		flags = p.Flags()
		p.SP()
	}
	var when time.Time
	if p.Peek() == '"' {
		when = p.DateTime()
		p.SP()
	}
	data := p.Literal()
	if err := p.End(); err != nil {
		return "", err
	}
	if len(data) == 0 {
		return "", &wire.Error{No: true, Text: "The message is empty"}
	}
	placed, err := s.srv.o.Intake.Append(s.ctx, &s.user.who, s.user.acct, name, []storage.Append{{Data: data, Flags: flags, InternalDate: when}})
	if err != nil {
		return "", tryCreate(err)
	}
	return fmt.Sprintf("APPENDUID %d %d", placed[0].UIDValidity, placed[0].UID), nil
}
