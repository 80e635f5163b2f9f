package imap

import (
	"github.com/emersion/go-imap/v2"

	"cmmpd/imap/wire"
)

// There is one quota root for each account, "", with the resource STORAGE if the configuration sets a quota (RFC 9208).

// cmdGetQuota tells how much of the quota is used.
func cmdGetQuota(s *session, p *wire.Parser) (string, error) {
	root := p.AString()
	if err := p.End(); err != nil {
		return "", err
	}
	if root != "" {
		return "", no(imap.ResponseCodeNonExistent, "No such quota root")
	}
	return "", s.sendQuota()
}

// cmdGetQuotaRoot tells which quota holds for a mailbox: for all the same.
func cmdGetQuotaRoot(s *session, p *wire.Parser) (string, error) {
	name := mailboxName(p)
	if err := p.End(); err != nil {
		return "", err
	}
	if _, err := s.user.acct.Status(s.ctx, name); err != nil {
		return "", err
	}
	s.c.write("* QUOTAROOT ")
	s.c.out = append(s.appendMailbox(s.c.out, name), ` ""`...)
	s.c.end()
	return "", s.sendQuota()
}

// quotaUnit is what STORAGE counts in (RFC 9208, section 5.1).
const quotaUnit = 1024

func (s *session) sendQuota() error {
	u, err := s.user.acct.Usage(s.ctx)
	if err != nil {
		return err
	}
	s.c.write(`* QUOTA "" (`)
	if u.Quota > 0 {
		b := wire.AppendNumber(append(s.c.out, "STORAGE "...), (u.Size+quotaUnit-1)/quotaUnit)
		s.c.out = wire.AppendNumber(append(b, ' '), u.Quota/quotaUnit)
	}
	s.c.write(")")
	s.c.end()
	return nil
}

// deletedSize is how many octets an expunge of a mailbox would free.
func (s *session) deletedSize(name string) (int64, error) {
	m, err := s.user.acct.Open(s.ctx, name)
	if err != nil {
		return 0, err
	}
	defer m.Close()
	return m.DeletedSize(), nil
}
